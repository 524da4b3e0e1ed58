"""Builds the providers and their credentials from the configuration."""

from __future__ import annotations

import time
from collections.abc import Callable

from ... import registry
from ...config.provider import ProviderConfig
from ...config.schema import Config
from ...config.secrets import Secret
from ...model.host import HostProfile
from ...providers.base import Provider, ProviderKind, ProviderSettings
from ...providers.credentials.base import Credential, CredentialSettings, FetchedCredential
from ...providers.credentials.files import SecretFile
from ...providers.credentials.refresh import CredentialRefreshers


def build_providers(config: Config, refreshers: CredentialRefreshers | None = None) -> dict[str, Provider]:
    """`refreshers` renew credentials from the moment they are started. Raises ConfigError if a library is missing."""
    refreshers = refreshers or CredentialRefreshers(time.time, _ignore)
    providers: dict[str, Provider] = {}
    for name, provider in config.providers.items():
        kind: ProviderKind = registry.load("providers", provider.kind)
        key = current_secret(name, provider.api_key, refreshers) if provider.api_key is not None else None
        credential = _build_credential(name, provider, kind, refreshers)
        base, overrides = _base_profile(provider), provider.profile.overrides()
        options = provider.all_options()
        providers[name] = kind.build(ProviderSettings(name, provider.url, key, options, credential, base, overrides))
    return providers


def _base_profile(provider: ProviderConfig) -> HostProfile | None:
    """The profile that `like` names; None for the kind's own."""
    like = provider.profile.like
    if like is None:
        return None
    kinds: list[ProviderKind] = [registry.load("providers", name) for name in registry.names("providers")]
    return next(kind.profiles[like] for kind in kinds if like in kind.profiles)


def _build_credential(
    name: str, provider: ProviderConfig, kind: ProviderKind, refreshers: CredentialRefreshers
) -> Credential | None:
    credential_config = provider.credential
    if credential_config is None:
        return None
    settings = CredentialSettings(
        name,
        kind.credentials[credential_config.kind],
        provider.region,
        credential_config.plain(),
        {field: current_secret(name, secret, refreshers) for field, secret in credential_config.secrets().items()},
    )
    credential: Credential = registry.load("providers.credentials", credential_config.kind).build(
        settings, refreshers.of(name), time.time
    )
    return credential


def current_secret(name: str, secret: Secret, refreshers: CredentialRefreshers) -> Callable[[], str]:
    """Gives the present value of a secret: one from a file is read again when the file changes."""
    if secret.path is None:
        return secret.reveal
    return refreshers.add(name, SecretFile(secret.path, time.time), FetchedCredential(secret.reveal()))


def _ignore(provider: str, error: str | None, expires_at: float | None) -> None:
    """Refreshers that are never started report nothing."""
