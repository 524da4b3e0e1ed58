"""Metrics and log lines for the renewal of upstream credentials."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge

from ..model.plan import AccountProblem

_LOG_EVERY = 60.0
"""Seconds between two log lines about the same problem of a provider."""


class CredentialMetrics:
    """Counts and logs each renewal, and each refusal of a provider."""

    def __init__(self, registry: CollectorRegistry, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._logged: dict[tuple[str, AccountProblem], float] = {}
        self._refused = Counter(
            "edge_provider_account_refusals",
            "Attempts in which a provider refused the gateway's own credential (credential) or its unpaid account "
            "(payment).",
            ("provider", "problem"),
            registry=registry,
        )
        self._renewals = Counter(
            "edge_credential_renewals",
            "Renewals of upstream credentials, by outcome.",
            ("provider", "outcome"),
            registry=registry,
        )

        self._renewed = Gauge(
            "edge_credential_renewed_timestamp_seconds",
            "Unix time at which a credential of this provider was last renewed.",
            ("provider",),
            registry=registry,
        )

    def renewed(self, provider: str, error: str | None, expires_at: float | None) -> None:
        """Records one renewal. `provider`: its configured name. `error`: the class name of the error, or None after
        success. `expires_at`: Unix time at which the current credential expires."""
        self._renewals.labels(provider, "ok" if error is None else "failed").inc()
        ends = None if expires_at is None else datetime.fromtimestamp(expires_at, UTC).isoformat(timespec="seconds")
        log = structlog.get_logger()
        if error is None:
            self._renewed.labels(provider).set(time.time())
            log.info("credential_renewed", provider=provider, ends=ends)
        else:
            log.warning("credential_not_renewed", provider=provider, error=error, held_until=ends)

    def refused(self, provider: str, problem: AccountProblem, status: int | None) -> None:
        """Records one attempt in which this provider refused the gateway's own account. The log has one line a minute
        for each problem."""
        self._refused.labels(provider, problem).inc()
        now = self._clock()
        last = self._logged.get((provider, problem))
        if last is not None and now - last < _LOG_EVERY:
            return
        self._logged[provider, problem] = now
        structlog.get_logger().error("provider_refused_account", provider=provider, problem=problem, status=status)
