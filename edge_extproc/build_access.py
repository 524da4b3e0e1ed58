"""From what config says of callers to who they are and what they may do: a part of the composition root."""

from __future__ import annotations

import time

from . import registry
from .auth.base import Access, Authenticator, AuthSettings, KeySettings
from .auth.policy import Policies
from .auth.policy import Policy as Compiled
from .config.access import Policy, Role
from .config.schema import Config


def build_authenticator(config: Config) -> Authenticator:
    keys = tuple(
        KeySettings(
            key.id,
            caller.tenant,
            key.key.reveal if key.key is not None else None,
            key.digest,
            caller.models,
            key.expires.timestamp() if key.expires is not None else None,
            key.disabled,
            key.team,
            key.user,
            key.roles,
        )
        for caller in config.callers
        for key in caller.keys
    )
    settings = AuthSettings(keys, config.auth.pepper.reveal().encode())
    authenticator: Authenticator = registry.load("auth", "api_key").build(settings, time.time)
    return authenticator


def build_access(config: Config) -> Access | None:
    """None where no role or policy could forbid anything."""
    levels = [(tenant, level, name, compiled(policy)) for tenant, level, name, policy in config.policies()]
    if not config.roles and all(policy.is_open for _, _, _, policy in levels):
        return None
    roles = {name: compiled(role) for name, role in config.roles.items()}
    regions = {name: provider.location or provider.region for name, provider in config.providers.items()}
    return Policies(levels, roles, regions)


def compiled(policy: Policy) -> Compiled:
    return Compiled(
        models=policy.models,
        operations=_set(policy.operations),
        features=_set(policy.features),
        max_tokens=policy.max_tokens,
        providers=policy.providers,
        regions=policy.regions,
        admin=frozenset(policy.admin) if isinstance(policy, Role) else frozenset(),
    )


def _set(names: tuple[str, ...] | None) -> frozenset[str] | None:
    return None if names is None else frozenset(names)
