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

# Only asymmetric ones: a public key is no shared secret.
ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA", "Ed25519")
Algorithm = Annotated[Literal[ALGORITHMS], one_of(*ALGORITHMS)]  # type: ignore[valid-type]  # the one list of them


def _keys_url(value: str) -> str:
    right = "write https://host/path; http:// only of this machine"
    try:
        url = urlsplit(value)
        host, _ = url.hostname or "", url.port  # raises where it is none
    except ValueError:
        raise wrong("this is no URL", right) from None
    if not host or url.username is not None or url.fragment:
        raise wrong("this is no URL of a set of keys", right)
    if url.scheme != "https" and not (url.scheme == "http" and _is_loopback(host)):
        raise wrong("keys that come unencrypted from another machine could be anybody's", right)
    return value


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _some(value: tuple[str, ...]) -> tuple[str, ...]:
    if not value:
        raise wrong("this list is empty", "name one or more")
    return value


class ClaimsConfig(ConfigSection):
    """Which claim of a token says what; a path with dots goes into objects."""

    tenant: Text = "tenant"
    team: Text | None = None
    user: Text = "sub"
    roles: Text | None = None
    """A list, or one text with spaces. A token that names none has none, and may do nothing."""


class IssuerConfig(ConfigSection):
    issuer: Text
    """`iss`, letter by letter."""
    jwks_url: Annotated[Text, AfterValidator(_keys_url)]
    audiences: Annotated[tuple[Text, ...], AfterValidator(_some)]
    """A token must name one of them as `aud`."""
    algorithms: Annotated[tuple[Algorithm, ...], AfterValidator(_some)] = ("RS256", "ES256")
    leeway: Duration = timedelta(seconds=30)
    """By how much clocks may differ."""
    tenant: Label | None = None
    """Of all tokens of this issuer, whatever they say."""
    claims: ClaimsConfig = ClaimsConfig()
    default_roles: tuple[Text, ...] | None = None
    """Of tokens that name none."""
    refresh: PositiveDuration = timedelta(minutes=10)
    """How often the keys are fetched; a token with an unknown one has them fetched at once."""
    refresh_at_most: PositiveDuration = timedelta(seconds=30)
    """Never more often than this."""


class CertificateConfig(ConfigSection):
    """Client certificates, by `uri` or `subject`, to the caller that they stand for."""

    tenant: Label
    uri: Text | None = None
    """A glob of a URI in it, such as spiffe://cluster.local/ns/chat/sa/*."""
    subject: Text | None = None
    """A glob of its subject, such as CN=batch,O=acme."""
    team: Label | None = None
    user: Text | None = None
    """The URI or subject itself where not given."""
    roles: tuple[Text, ...] | None = None

    @model_validator(mode="after")
    def _either(self) -> CertificateConfig:
        if (self.uri is None) == (self.subject is None):
            raise wrong("exactly one of uri and subject is needed", "give uri: spiffe://… or subject: CN=…")
        return self
