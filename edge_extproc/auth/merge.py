"""Combines the keys and policies of the configuration with those of the admin API.

The configuration is stronger: a managed key can narrow what its tenant's policies allow, and never widen it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from .. import registry
from ..config.access import McpServers, PolicyConfig, RoleConfig
from ..config.schema import Config
from ..model.globs import ANY, intersection
from ..model.managed import EMPTY, ManagedState
from ..model.wire_names import WireNames
from .base import AuthSettings, KeySettings
from .mcp_access import McpAccess
from .policy import AccessPolicies, AccessPolicy

if TYPE_CHECKING:
    from .api_key import ApiKeys


def merge_keys(config: Config, managed: ManagedState = EMPTY) -> tuple[KeySettings, ...]:
    """The keys that callers may use. If both sides have a key of the same id, the configured one counts; a managed key
    counts only if the configuration has its tenant."""
    revoked = frozenset(managed.revoked)
    configured = tuple(
        KeySettings(
            key.id,
            caller.tenant,
            key.key.reveal if key.key is not None else None,
            key.digest,
            caller.models,
            key.expires.timestamp() if key.expires is not None else None,
            key.disabled or key.id in revoked,
            key.team,
            key.user,
            key.roles,
        )
        for caller in config.callers
        for key in caller.keys
    )
    return (*configured, *_managed_keys(config, managed))


def build_keys(config: Config, managed: ManagedState = EMPTY) -> ApiKeys:
    """The authenticator of API keys. Raises ConfigError."""
    settings = AuthSettings(merge_keys(config, managed), config.auth.pepper.reveal().encode())
    keys: ApiKeys = registry.load("auth", "api_key").build(settings, time.time)
    return keys


def _managed_keys(config: Config, managed: ManagedState) -> Iterator[KeySettings]:
    callers = {caller.tenant: caller for caller in config.callers}
    configured = _configured_ids(config)
    for key in managed.keys:
        caller = callers.get(key.tenant)
        if caller is None or key.id in configured:
            continue
        expires = key.expires_ms / 1000 if key.expires_ms is not None else None
        roles = key.roles or None
        yield KeySettings(
            key.id, key.tenant, None, key.digest, caller.models, expires, team=key.team, user=key.user, roles=roles
        )


def merge_policies(
    config: Config, managed: ManagedState = EMPTY, names: WireNames | None = None
) -> AccessPolicies | None:
    """The policies of all levels and roles. None if no role or policy forbids anything. `names`: those of all dialects;
    they are needed where calls are checked."""
    levels = [(tenant, level, name, access_policy(policy)) for tenant, level, name, policy in config.policies()]
    configured = _configured_ids(config)
    # A key without a policy of its own has that of `*`. A managed key's models must not replace it.
    defaults = {tenant: policy for tenant, level, name, policy in levels if (level, name) == ("key", ANY)}
    for key in managed.keys:
        if key.id not in configured and ANY not in key.models:
            base = defaults.get(key.tenant, AccessPolicy())
            narrowed = replace(base, models=intersection(base.models, key.models))
            levels.append((key.tenant, "key", key.id, narrowed))
    if not config.roles and all(policy.is_open for _, _, _, policy in levels):
        return None
    roles = {name: access_policy(role) for name, role in config.roles.items()}
    regions = {name: provider.location or provider.region for name, provider in config.providers.items()}
    return AccessPolicies(levels, roles, regions, names)


def access_policy(policy: PolicyConfig) -> AccessPolicy:
    return AccessPolicy(
        models=policy.models,
        operations=_set(policy.operations),
        features=_set(policy.features),
        max_tokens=policy.max_tokens,
        providers=policy.providers,
        regions=policy.regions,
        mcp=mcp_entries(policy.mcp) if policy.mcp is not None else None,
        admin=frozenset(policy.admin) if isinstance(policy, RoleConfig) else frozenset(),
    )


def mcp_entries(servers: McpServers) -> dict[str, McpAccess]:
    return {name: McpAccess(each.tools, each.prompts, each.resources) for name, each in servers.items()}


def _configured_ids(config: Config) -> frozenset[str]:
    return frozenset(key.id for caller in config.callers for key in caller.keys)


def _set(names: tuple[str, ...] | None) -> frozenset[str] | None:
    return None if names is None else frozenset(names)
