"""From what config says of callers to who they are and what they may do: a part of the composition root."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, TypeAlias

from ... import registry
from ...auth.base import AccessControl, Authenticator, AuthSettings, KeySettings
from ...auth.policy import ANY, AccessPolicies
from ...auth.policy import AccessPolicy as Compiled
from ...auth.vouching import IdentitySeal
from ...config.access import PolicyConfig, RoleConfig
from ...config.schema import Config
from ...routing.base import allows, is_glob
from ...store.snapshot import EMPTY, ManagedState

if TYPE_CHECKING:
    from ...auth.api_key import ApiKeys
    from ...auth.jwks import IssuerKeys
    from ...auth.jwt import JwtVerifier
    from ...auth.mtls import Certificates


class IdentitySources:
    """All ways of proving who one is that config has switched on. `start` and `close` are for a running event loop,
    where there are issuers whose keys must be fetched."""

    def __init__(
        self, config: Config, report: Callable[[BaseException], None], before: IdentitySources | None = None
    ) -> None:
        """`before`: that of the configuration before this one, whose issuers' keys need not be fetched again."""
        self._config = config
        self._sources: dict[_Source, IssuerKeys] = {}
        self._inherited = before._sources if before is not None else {}
        tenants = {caller.tenant: caller.models for caller in config.callers}
        self._verifier = self._tokens(config, tenants, report)
        self._certificates = self._rows(config, tenants)

    def authenticator(self, managed: ManagedState = EMPTY) -> Authenticator:
        """`managed`: what the admin API says. Raises ConfigError."""
        auth = self._config.auth
        keys = build_keys(self._config, managed) if auth.api_keys else None
        if keys is not None and self._verifier is None and self._certificates is None:
            return keys
        from ...auth.composite import CompositeAuthenticator

        return CompositeAuthenticator(keys, self._verifier, self._certificates)

    @staticmethod
    def _rows(config: Config, tenants: Mapping[str, tuple[str, ...]]) -> Certificates | None:
        if not config.auth.certificates:
            return None
        from ...auth.mtls import CertificateIdentity as Row
        from ...auth.mtls import Certificates

        rows = [Row(c.tenant, c.uri, c.subject, c.team, c.user, c.roles) for c in config.auth.certificates]
        return Certificates(rows, tenants)

    def _tokens(
        self, config: Config, tenants: Mapping[str, tuple[str, ...]], report: Callable[[BaseException], None]
    ) -> JwtVerifier | None:
        if not config.auth.jwt:
            return None
        from ...auth.jwks import IssuerKeys, fetch
        from ...auth.jwt import IssuerSettings, JwtVerifier

        issuers = []
        for each in config.auth.jwt:
            named = (each.jwks_url, each.refresh.total_seconds(), each.refresh_at_most.total_seconds())
            source = self._inherited.get(named) or IssuerKeys(
                each.jwks_url, fetch, refresh=named[1], least_between=named[2], on_error=report
            )
            self._sources[named] = source
            settings = IssuerSettings(
                each.issuer,
                each.audiences,
                each.algorithms,
                each.leeway.total_seconds(),
                each.tenant,
                each.claims.tenant,
                each.claims.team,
                each.claims.user,
                each.claims.roles,
                each.default_roles,
            )
            issuers.append((settings, source))
        return JwtVerifier(issuers, tenants)

    def start(self) -> None:
        for named, source in self._sources.items():
            if named not in self._inherited:
                source.start()

    async def close(self, after: IdentitySources | None = None) -> None:
        """All but what `after` has inherited."""
        for named, source in self._sources.items():
            if after is None or named not in after._sources:
                await source.close()


_Source: TypeAlias = tuple[str, float, float]
"""Where an issuer's keys are, and how often they are fetched."""


def reasons(config: Config) -> tuple[str, ...]:
    """The codes of refused credentials."""
    from ...auth.api_key import REASONS
    from ...auth.vouching import REASON

    own = (*REASONS, REASON)
    if not config.auth.jwt and not config.auth.certificates:
        return own
    from ...auth import composite

    return (*composite.REASONS, REASON)


def build_keys(config: Config, managed: ManagedState = EMPTY) -> ApiKeys:
    """`managed`: what the admin API says. Raises ConfigError."""
    revoked = frozenset(managed.revoked)
    keys = tuple(
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
    settings = AuthSettings((*keys, *_managed_keys(config, managed)), config.auth.pepper.reveal().encode())
    found: ApiKeys = registry.load("auth", "api_key").build(settings, time.time)
    return found


def _managed_keys(config: Config, managed: ManagedState) -> Iterator[KeySettings]:
    """Those whose tenant the configuration still has. What config says of an id holds, if both have it."""
    callers = {caller.tenant: caller for caller in config.callers}
    configured = {key.id for caller in config.callers for key in caller.keys}
    for key in managed.keys:
        caller = callers.get(key.tenant)
        if caller is None or key.id in configured:
            continue
        expires = key.expires_ms / 1000 if key.expires_ms is not None else None
        roles = key.roles or None
        yield KeySettings(
            key.id, key.tenant, None, key.digest, caller.models, expires, team=key.team, user=key.user, roles=roles
        )


def build_access(config: Config, managed: ManagedState = EMPTY) -> AccessControl | None:
    """None where no role or policy could forbid anything."""
    levels = [(tenant, level, name, compiled(policy)) for tenant, level, name, policy in config.policies()]
    configured = {key.id for caller in config.callers for key in caller.keys}
    # A key without a policy of its own has that of `*`; to be given one must not set it free.
    anyone = {tenant: policy for tenant, level, name, policy in levels if (level, name) == ("key", ANY)}
    for key in managed.keys:
        if key.id not in configured and ANY not in key.models:
            base = anyone.get(key.tenant, Compiled())
            levels.append((key.tenant, "key", key.id, replace(base, models=_both(base.models, key.models))))
    if not config.roles and all(policy.is_open for _, _, _, policy in levels):
        return None
    roles = {name: compiled(role) for name, role in config.roles.items()}
    regions = {name: provider.location or provider.region for name, provider in config.providers.items()}
    return AccessPolicies(levels, roles, regions)


def _both(some: tuple[str, ...] | None, others: tuple[str, ...]) -> tuple[str, ...]:
    """Names and globs that fit only what one of `some` and one of `others` fits; it may be less than all of that."""
    if some is None or ANY in some:
        return others
    pairs = ((some, others), (others, some))
    return tuple({p for mine, theirs in pairs for p in mine if p in theirs or (not is_glob(p) and allows(theirs, p))})


def build_voucher(config: Config) -> IdentitySeal:
    return IdentitySeal(config.auth.pepper.reveal().encode())


def compiled(policy: PolicyConfig) -> Compiled:
    return Compiled(
        models=policy.models,
        operations=_set(policy.operations),
        features=_set(policy.features),
        max_tokens=policy.max_tokens,
        providers=policy.providers,
        regions=policy.regions,
        admin=frozenset(policy.admin) if isinstance(policy, RoleConfig) else frozenset(),
    )


def _set(names: tuple[str, ...] | None) -> frozenset[str] | None:
    return None if names is None else frozenset(names)
