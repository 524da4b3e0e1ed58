"""The admin port: its address, the tokens of the admin API, and the admin pages."""

from __future__ import annotations

import re
from ipaddress import ip_address
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, model_validator

from .oidc import OidcConfig
from .part import ConfigSection, IpAddress, Label, Text, one_of
from .quantities import Port
from .secrets import Secret
from .wrong import wrong

# A generated key has 48 characters. A short one could be guessed.
MIN_KEY_LENGTH = 16


def strong_key(secret: Secret) -> Secret:
    if not re.fullmatch(rf"[\x21-\x7e]{{{MIN_KEY_LENGTH},512}}", secret.reveal()):
        raise wrong(
            "this is not a strong key", f"give {MIN_KEY_LENGTH} to 512 printable ASCII characters without spaces"
        )
    return secret


def stored_hash(value: str) -> str:
    if not re.fullmatch(r"hmac-sha256:[0-9a-f]{64}", value):
        raise wrong("this is not a stored key", 'write "hmac-sha256:" and 64 digits of 0-9a-f', show=False)
    return value


StrongKey = Annotated[Secret, AfterValidator(strong_key)]
StoredHash = Annotated[Text, AfterValidator(stored_hash)]


class AdminTokenConfig(ConfigSection):
    """A token of the admin API: either the token itself, which is hashed at load, or its hash."""

    id: Label
    """The admin's name in the audit log."""
    role: Annotated[Literal["viewer", "tenant_admin", "admin"], one_of("viewer", "tenant_admin", "admin")]
    """viewer: reads. tenant_admin: also manages the keys and budgets below its tenant. admin: everything."""
    tenant: Label | None = None
    """The only tenant that this admin sees. Required for a tenant_admin."""
    token: StrongKey | None = None
    """The token itself: 16 to 512 printable characters."""
    hash: StoredHash | None = None
    """The output of `edge-extproc key`."""

    @model_validator(mode="after")
    def _check_scope(self) -> AdminTokenConfig:
        if (self.token is None) == (self.hash is None):
            raise wrong("exactly one of token and hash is needed", "give token: {env: NAME} or hash: hmac-sha256:…")
        if self.role == "tenant_admin" and self.tenant is None:
            raise wrong("a tenant_admin needs a tenant", "give tenant, or set role: admin", key="role")
        if self.role == "admin" and self.tenant is not None:
            raise wrong("an admin manages all tenants", "leave tenant out, or set role: tenant_admin", key="tenant")
        return self

    @property
    def digest(self) -> str | None:
        """The hash without the name of its algorithm."""
        return self.hash.partition(":")[2] if self.hash is not None else None


class AdditionsConfig(ConfigSection):
    """Providers and models that admins add while the gateway runs, by the admin API. Those of the file take
    precedence."""

    hosts: tuple[Text, ...] = ()
    """The hosts to which added providers may send, as globs, such as api.openai.com or *.llm.example. Without one, only
    models can be added."""
    keys: tuple[Text, ...] = ()
    """The environment variables that may be keys of added providers, as globs. Whoever adds a provider can send their
    values to its host."""


def _http_url(value: str) -> str:
    url = urlsplit(value)
    if url.scheme not in ("http", "https") or not url.hostname or url.query or url.fragment or url.username:
        raise wrong("this is not the address of a gateway", "write https://HOST or http://HOST:PORT")
    return value


class AdminConfig(ConfigSection):
    """Health and metrics, the admin API and the admin pages."""

    address: IpAddress = "127.0.0.1"
    """The IP address to listen at."""
    port: Port = 10001
    """The port to listen at."""
    tokens: tuple[AdminTokenConfig, ...] = ()
    """Without one there is no admin API, unless there are admin pages."""
    pages: bool | None = None
    """Whether to serve the admin pages at /ui. Default: if there is a token or oidc, and the address is a
    loopback address."""
    oidc: OidcConfig | None = None
    """Signing in to the admin pages with an OpenID Connect provider. Absent: with tokens and keys alone."""
    additions: AdditionsConfig | None = None
    """Absent: no providers and models can be added while the gateway runs."""
    hosts: tuple[Text, ...] = ()
    """The allowed names in a request's Host header, besides addresses and localhost. A request with another name is
    refused. Default: no other name on a loopback address, every name on another address."""
    gateway_url: Annotated[Text, AfterValidator(_http_url)] | None = None
    """Where the playground of the admin pages calls the gateway, such as https://llm.example. Default: the listener of
    `up`; with `serve` there is no playground."""

    @property
    def is_local(self) -> bool:
        """Whether only this machine reaches the port."""
        return ip_address(self.address).is_loopback

    @property
    def has_pages(self) -> bool:
        return self.pages if self.pages is not None else bool(self.tokens or self.oidc) and self.is_local
