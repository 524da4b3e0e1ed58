"""Metrics and log lines for the renewal of upstream credentials."""

from __future__ import annotations

import time
from datetime import UTC, datetime

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge


class CredentialMetrics:
    """Counts and logs each renewal."""

    def __init__(self, registry: CollectorRegistry) -> None:
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
