"""Callers: tenants, keys and rights, and the accepted ways of authentication."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field, model_validator

from .access import McpServers, PolicyConfig
from .admin import StoredHash, StrongKey
from .guardrails import GuardrailRuleConfig
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
    """The secret that is hashed together with every key. Default: <state_dir>/pepper."""
    api_keys: Boolean = True
    """Accept API keys."""
    jwt: tuple[IssuerConfig, ...] = ()
    """The issuers whose tokens are accepted."""
    certificates: tuple[CertificateConfig, ...] = ()
    """The client certificates that are accepted, instead of a key or in addition to one. The first matching row
    counts."""
    trust_forwarded_certificates: Boolean = False
    """An Envoy with a configuration of your own writes x-forwarded-client-cert, and removes the callers' header of this
    name."""
    trust_ext_authz: Boolean = False
    """An ext_authz filter with this agent as its service runs first. Its result is read from metadata, so that each
    request is authenticated once."""


class KeyConfig(ConfigSection):
    """Either the key itself, which is hashed at load, or the hash of it."""

    id: Label
    """The key's name in logs and metrics."""
    key: StrongKey | None = None
    """The key itself: 16 to 512 printable characters."""
    hash: StoredHash | None = None
    """hmac-sha256: and the HMAC-SHA256 of the key under the pepper, in hexadecimal."""
    expires: Instant | None = None
    """The date or time at which the key stops to work, such as 2027-01-31."""
    disabled: Boolean = False
    """true: the key is refused."""
    team: Label | None = None
    """The team of the key's holder."""
    user: Label | None = None
    """The user who holds the key."""
    limits: AllowanceConfig = AllowanceConfig()
    """The limits of this key."""
    policy: PolicyConfig = PolicyConfig()
    """What this key may use."""
    guardrails: tuple[GuardrailRuleConfig, ...] = ()
    """Rules for the calls with this key, in addition to those of its tenant, team and user."""
    roles: tuple[Text, ...] | None = None
    """Names of `roles`. One of them must allow the whole call. Absent: no role restricts this key."""

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
    """The tenant's name."""
    models: tuple[Text, ...] = ("*",)
    """Names or globs of the models that this tenant may use."""
    mcp: McpServers = Field(default_factory=dict, validate_default=True)
    """The MCP servers that this tenant may use, by name or glob, and what of each. Default: none."""
    keys: tuple[KeyConfig, ...] = ()
    """The keys of this tenant."""
    limits: AllowanceConfig = AllowanceConfig()
    """The limits of the whole tenant."""
    policy: PolicyConfig = PolicyConfig()
    """The policy for all callers of the tenant."""
    guardrails: tuple[GuardrailRuleConfig, ...] = ()
    """Rules for all callers of the tenant, in addition to the section `guardrails`."""
    teams: tuple[HolderConfig, ...] = ()
    """The teams with limits or a policy of their own."""
    users: tuple[HolderConfig, ...] = ()
    """The users with limits or a policy of their own."""
