"""Authentication besides API keys: tokens of OpenID Connect issuers, and client certificates."""

from __future__ import annotations

import ipaddress
from datetime import timedelta
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, model_validator

from .part import ConfigSection, Label, Text, one_of
from .quantities import Duration, PositiveDuration
from .wrong import wrong

# Only asymmetric ones: a public key must never be used as a shared secret.
ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA", "Ed25519")
Algorithm = Annotated[Literal[ALGORITHMS], one_of(*ALGORITHMS)]  # type: ignore[valid-type]  # a list in one place


def unforgeable_url(value: str) -> str:
    """The URL of a server, whose answers nobody on the way can change."""
    return _safe_url(value, "the URL of a server", "what is fetched")


def _keys_url(value: str) -> str:
    return _safe_url(value, "a URL of a set of keys", "keys that are fetched")


def _safe_url(value: str, kind: str, content: str) -> str:
    right = "write https://host/path; http:// is allowed for this machine only"
    try:
        url = urlsplit(value)
        host, _ = url.hostname or "", url.port  # raises ValueError for an invalid port
    except ValueError:
        raise wrong("this is not a URL", right) from None
    if not host or url.username is not None or url.fragment:
        raise wrong(f"this is not {kind}", right)
    if url.scheme != "https" and not (url.scheme == "http" and _is_loopback(host)):
        raise wrong(f"{content} unencrypted from another machine could be forged", right)
    return value


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def some(value: tuple[str, ...]) -> tuple[str, ...]:
    if not value:
        raise wrong("this list is empty", "name one or more")
    return value


class ClaimsConfig(ConfigSection):
    """The names of the claims. A path with dots selects a member of an object."""

    tenant: Text = "tenant"
    """The claim with the tenant."""
    team: Text | None = None
    """The claim with the team. Absent: callers have no team."""
    user: Text = "sub"
    """The claim with the user."""
    roles: Text | None = None
    """A list, or text separated by spaces. A token without roles may do nothing."""
    run: Text | None = None
    """The run of an agent: all calls with this token are a part of it."""
    run_parent: Text | None = None
    """The run that this run is a part of."""


class IssuerConfig(ConfigSection):
    issuer: Text
    """The exact value of `iss`."""
    jwks_url: Annotated[Text, AfterValidator(_keys_url)]
    """The https:// URL of the issuer's public keys."""
    audiences: Annotated[tuple[Text, ...], AfterValidator(some)]
    """The token's `aud` must contain one of them."""
    algorithms: Annotated[tuple[Algorithm, ...], AfterValidator(some)] = ("RS256", "ES256")
    """The accepted signature algorithms."""
    leeway: Duration = timedelta(seconds=30)
    """The tolerated difference between the clocks."""
    tenant: Label | None = None
    """The tenant of all tokens of this issuer. Default: the claim."""
    claims: ClaimsConfig = ClaimsConfig()
    """The claims that identify the caller."""
    default_roles: tuple[Text, ...] | None = None
    """The roles of tokens without a roles claim."""
    refresh: PositiveDuration = timedelta(minutes=10)
    """How often the keys are fetched. A token with an unknown key triggers a fetch at once."""
    refresh_at_most: PositiveDuration = timedelta(seconds=30)
    """The shortest time between two fetches."""


class CertificateConfig(ConfigSection):
    """The caller of client certificates with this `uri` or `subject`."""

    tenant: Label
    """The caller's tenant."""
    uri: Text | None = None
    """A glob for a URI of the certificate, such as spiffe://cluster.local/ns/chat/sa/*."""
    subject: Text | None = None
    """A glob for its subject, such as CN=batch,O=acme."""
    team: Label | None = None
    """The caller's team."""
    user: Text | None = None
    """Default: the URI or subject itself."""
    roles: tuple[Text, ...] | None = None
    """Names of `roles`. Absent: no role restricts this caller."""

    @model_validator(mode="after")
    def _either(self) -> CertificateConfig:
        if (self.uri is None) == (self.subject is None):
            raise wrong("exactly one of uri and subject is needed", "give uri: spiffe://… or subject: CN=…")
        return self
