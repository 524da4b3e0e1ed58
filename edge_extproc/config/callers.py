"""Callers: tenants, keys and rights, and the accepted ways of authentication."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, model_validator

from .access import PolicyConfig
from .admin import StoredHash, StrongKey
from .identity import CertificateConfig, IssuerConfig
from .limits import AllowanceConfig, HolderConfig
from .part import ConfigSection, Label, Text
from .quantities import Boolean, Instant
from .secrets import Secret
from .wrong import wrong

MIN_PEPPER_LENGTH = 16


def _strong_pepper(secret: Secret) -> Secret:
    if len(secret.reveal().encode()) < MIN_PEPPER_LENGTH:
        raise wrong("this pepper is too short", f"give {MIN_PEPPER_LENGTH} or more random characters")
    return secret


class AuthConfig(ConfigSection):
    pepper: Annotated[Secret, AfterValidator(_strong_pepper)]
    """Hashed together with every key; <state_dir>/pepper where not given."""
    api_keys: Boolean = True
    """Accept API keys."""
    jwt: tuple[IssuerConfig, ...] = ()
    """The issuers whose tokens are accepted."""
    certificates: tuple[CertificateConfig, ...] = ()
    """The client certificates that are accepted, instead of or beside a key; the first row that matches counts."""
    trust_forwarded_certificates: Boolean = False
    """An Envoy that is not ours writes x-forwarded-client-cert, and removes what callers send under that name."""
    trust_ext_authz: Boolean = False
    """ext_authz runs before, with this agent as its service. Its result is read from metadata, so that a request is
    authenticated once."""


class KeyConfig(ConfigSection):
    """Either the key itself, which is hashed at load, or the hash of it."""

    id: Label
    """Stands for the key in logs and metrics."""
    key: StrongKey | None = None
    hash: StoredHash | None = None
    """hmac-sha256: and the HMAC-SHA256 of the key under the pepper, in hexadecimal."""
    expires: Instant | None = None
    disabled: Boolean = False
    team: Label | None = None
    user: Label | None = None
    limits: AllowanceConfig = AllowanceConfig()
    policy: PolicyConfig = PolicyConfig()
    roles: tuple[Text, ...] | None = None
    """Names of `roles`, of which one must allow all of a call; not given: no role bounds this key."""

    @model_validator(mode="after")
    def _either(self) -> KeyConfig:
        if (self.key is None) == (self.hash is None):
            raise wrong("exactly one of key and hash is needed", "give key: {env: NAME} or hash: hmac-sha256:…")
        return self

    @property
    def digest(self) -> str | None:
        """The hash without the name of its algorithm."""
        return self.hash.partition(":")[2] if self.hash is not None else None


class CallerConfig(ConfigSection):
    tenant: Label
    models: tuple[Text, ...] = ("*",)
    """Names or globs of the models that this tenant may ask for."""
    keys: tuple[KeyConfig, ...] = ()
    limits: AllowanceConfig = AllowanceConfig()
    """Of the whole tenant."""
    policy: PolicyConfig = PolicyConfig()
    """Holds for all of the tenant's callers."""
    teams: tuple[HolderConfig, ...] = ()
    users: tuple[HolderConfig, ...] = ()
