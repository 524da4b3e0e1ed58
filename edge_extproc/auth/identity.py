"""The sources of identity that the configuration enables: API keys, JWTs and client certificates."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, TypeAlias

from ..config.schema import Config
from ..model.managed import EMPTY, ManagedState
from .base import Authenticator
from .identity_seal import IdentitySeal
from .merge import build_keys

if TYPE_CHECKING:
    from .jwks import IssuerKeys
    from .jwt import JwtVerifier
    from .mtls import Certificates


class IdentitySources:
    """Makes the authenticator, and owns the tasks that fetch issuers' keys. `start` and `close` need a running event
    loop."""

    def __init__(
        self, config: Config, report: Callable[[BaseException], None], before: IdentitySources | None = None
    ) -> None:
        """`before`: the sources of the previous configuration. Issuers that both have keep their fetched keys."""
        self._config = config
        self._issuers: dict[_Issuer, IssuerKeys] = {}
        self._inherited = before._issuers if before is not None else {}
        tenants = {caller.tenant: caller.models for caller in config.callers}
        self._verifier = self._build_verifier(config, tenants, report)
        self._certificates = self._build_certificates(config, tenants)

    def authenticator(self, managed: ManagedState = EMPTY) -> Authenticator:
        """`managed`: the keys of the admin API. Raises ConfigError."""
        auth = self._config.auth
        keys = build_keys(self._config, managed) if auth.api_keys else None
        if keys is not None and self._verifier is None and self._certificates is None:
            return keys
        from .composite import CompositeAuthenticator

        return CompositeAuthenticator(keys, self._verifier, self._certificates)

    @staticmethod
    def _build_certificates(config: Config, tenants: Mapping[str, tuple[str, ...]]) -> Certificates | None:
        if not config.auth.certificates:
            return None
        from .mtls import CertificateIdentity, Certificates

        identities = [
            CertificateIdentity(c.tenant, c.uri, c.subject, c.team, c.user, c.roles) for c in config.auth.certificates
        ]
        return Certificates(identities, tenants)

    def _build_verifier(
        self, config: Config, tenants: Mapping[str, tuple[str, ...]], report: Callable[[BaseException], None]
    ) -> JwtVerifier | None:
        if not config.auth.jwt:
            return None
        from .jwks import IssuerKeys, fetch
        from .jwt import IssuerSettings, JwtVerifier

        issuers = []
        for each in config.auth.jwt:
            issuer = (each.jwks_url, each.refresh.total_seconds(), each.refresh_at_most.total_seconds())
            keys = self._inherited.get(issuer) or IssuerKeys(
                each.jwks_url, fetch, refresh=issuer[1], least_between=issuer[2], on_error=report
            )
            self._issuers[issuer] = keys
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
                each.claims.run,
                each.claims.run_parent,
            )
            issuers.append((settings, keys))
        return JwtVerifier(issuers, tenants)

    async def start(self, patience: float) -> None:
        """Returns when the keys of each issuer have been fetched or have failed once, and after `patience` seconds at
        the latest. Without its keys, the first tokens of an issuer are refused as 503."""
        new = [keys for issuer, keys in self._issuers.items() if issuer not in self._inherited]
        if not new:
            return
        for keys in new:
            keys.start()
        attempted = asyncio.gather(*(keys.attempted.wait() for keys in new))
        await asyncio.wait([attempted], timeout=patience)
        attempted.cancel()

    async def close(self, after: IdentitySources | None = None) -> None:
        """Stops all issuers but those that `after` has inherited."""
        for issuer, keys in self._issuers.items():
            if after is None or issuer not in after._issuers:
                await keys.close()


_Issuer: TypeAlias = tuple[str, float, float]
"""The URL of an issuer's keys, and the seconds between two fetches: usually, and at least."""


def refusal_codes(config: Config) -> tuple[str, ...]:
    """The error codes of refused credentials."""
    from .api_key import REASONS
    from .identity_seal import REASON

    own = (*REASONS, REASON)
    if not config.auth.jwt and not config.auth.certificates:
        return own
    from . import composite

    return (*composite.REASONS, REASON)


def build_seal(config: Config) -> IdentitySeal:
    return IdentitySeal(config.auth.pepper.reveal().encode())
