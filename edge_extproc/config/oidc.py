"""Signing in to the admin pages with an OpenID Connect provider."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, model_validator

from .identity import Algorithm, some, unforgeable_url
from .part import ConfigSection, Label, Text, one_of
from .quantities import Duration
from .secrets import Secret
from .wrong import wrong


def _issuer(value: str) -> str:
    if urlsplit(unforgeable_url(value)).query:
        raise wrong("the address of an issuer has no query", "write https://host/path")
    return value


def _pages_url(value: str) -> str:
    url = urlsplit(unforgeable_url(value))
    if url.query or url.path not in ("", "/"):
        raise wrong("this is not the address of the admin port", "write https://host, without a path")
    return value.rstrip("/")


class OidcRoleConfig(ConfigSection):
    """The users whose claim has this value."""

    value: Text
    """A value of the roles claim, such as the name of a group."""
    role: Annotated[Literal["viewer", "tenant_admin", "admin"], one_of("viewer", "tenant_admin", "admin")]
    """As of a token of the admin API."""
    tenant: Label | None = None
    """The only tenant that these users see. A tenant_admin needs one, here or by claims.tenant."""


class OidcClaimsConfig(ConfigSection):
    """The names of the claims. A path with dots selects a member of an object."""

    user: Text = "sub"
    """The name of the user in the audit log, such as email. It must be one that users cannot change."""
    roles: Text = "groups"
    """A list, or text separated by spaces."""
    tenant: Text | None = None
    """The tenant of users whose role has none. A user without this claim is refused, but not an admin."""


class OidcConfig(ConfigSection):
    """The provider, and who may sign in."""

    issuer: Annotated[Text, AfterValidator(_issuer)]
    """The exact value of `iss`. The provider describes itself below it, at /.well-known/openid-configuration."""
    client_id: Text
    """The id of this gateway at the provider."""
    client_secret: Secret | None = None
    """Absent: a public client, which PKCE protects."""
    url: Annotated[Text, AfterValidator(_pages_url)]
    """The address of the admin port in browsers. The provider sends users to URL/ui/oidc/callback."""
    scopes: Annotated[tuple[Text, ...], AfterValidator(some)] = ("openid", "email", "groups")
    """What is requested; openid must be among them."""
    algorithms: Annotated[tuple[Algorithm, ...], AfterValidator(some)] = ("RS256", "ES256")
    """The accepted signature algorithms of ID tokens."""
    leeway: Duration = timedelta(seconds=30)
    """The tolerated difference between the clocks."""
    claims: OidcClaimsConfig = OidcClaimsConfig()
    """The claims that identify the user."""
    roles: Annotated[tuple[OidcRoleConfig, ...], AfterValidator(some)]
    """The first row that matches counts. A user that none matches is refused."""

    @model_validator(mode="after")
    def _consistent(self) -> OidcConfig:
        if "openid" not in self.scopes:
            raise wrong("without the scope openid there is no ID token", "add openid", key="scopes")
        for row in self.roles:
            if row.role == "tenant_admin" and row.tenant is None and self.claims.tenant is None:
                raise wrong("a tenant_admin needs a tenant", "give tenant, or claims.tenant", key="roles")
            if row.role == "admin" and row.tenant is not None:
                raise wrong("an admin manages all tenants", "leave tenant out, or set role: tenant_admin", key="roles")
        return self
