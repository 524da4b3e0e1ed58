"""The composition of providers: what config says of hosts and of what they take becomes providers with credentials."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from ... import registry
from ...config.provider import ProviderConfig as ProviderPart
from ...config.schema import Config
from ...config.secrets import Secret
from ...model.host import HostProfile
from ...providers.base import Provider, ProviderSettings
from ...providers.credentials.base import Credential, CredentialSettings, HeldCredential
from ...providers.credentials.files import SecretFile
from ...providers.credentials.refresh import CredentialRefreshers
from ...providers.openai import OPENAI_HOST
from ...providers.openai_compatible import row


def build_providers(config: Config, keepers: CredentialRefreshers | None = None) -> dict[str, Provider]:
    """`keepers` renew what must be renewed, once they are started. Raises ConfigError where a library is missing."""
    keepers = keepers or CredentialRefreshers(time.time, _not_told)
    found: dict[str, Provider] = {}
    for name, part in config.providers.items():
        kind = registry.load("providers", part.kind)
        named = {
            "host": part.host,
            "region": part.region,
            "api_version": part.api_version,
            "project": part.project,
        }
        options = {key: value for key, value in named.items() if value is not None}
        key = _current(name, part.api_key, keepers) if part.api_key is not None else None
        credential = _credential(name, part, kind, keepers)
        settings = ProviderSettings(name, part.url, key, options, credential, _like(part), part.profile.facts())
        found[name] = kind.build(settings)
    return found


def _like(part: ProviderPart) -> HostProfile | None:
    like = part.profile.like
    if like is None:
        return None
    return OPENAI_HOST if like == "openai" else row(like).profile


def _credential(name: str, part: ProviderPart, kind: Any, keepers: CredentialRefreshers) -> Credential | None:
    said = part.credential
    if said is None:
        return None
    settings = CredentialSettings(
        name,
        kind.credentials[said.kind],
        part.region,
        said.options(),
        {which: _current(name, secret, keepers) for which, secret in said.secrets().items()},
    )
    credential: Credential = registry.load("providers.credentials", said.kind).build(
        settings, keepers.of(name), time.time
    )
    return credential


def _current(name: str, secret: Secret, keepers: CredentialRefreshers) -> Callable[[], str]:
    """What a provider's secret is now: one that came from a file follows the file."""
    if secret.path is None:
        return secret.reveal
    return keepers.keep(name, SecretFile(secret.path, time.time), HeldCredential(secret.reveal()))


def _not_told(provider: str, error: str | None, expires_at: float | None) -> None:
    """Nothing is renewed by keepers that are never started."""
