"""What becomes of upstream credentials: a count of their renewals, and a line for each that failed or came back."""

from __future__ import annotations

import time
from datetime import UTC, datetime

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge


class CredentialMetrics:
    def __init__(self, registry: CollectorRegistry) -> None:
        self._renewals = Counter(
            "edge_credential_renewals",
            "Credentials of providers that were fetched anew, or could not be.",
            ("provider", "outcome"),
            registry=registry,
        )

        self._renewed = Gauge(
            "edge_credential_renewed_timestamp_seconds",
            "When a credential of this provider was last fetched anew.",
            ("provider",),
            registry=registry,
        )

    def renewed(self, provider: str, error: str | None, expires_at: float | None) -> None:
        """`provider` is a name of config's, `error` a class, `expires_at` (Unix time) the end of what is held now."""
        self._renewals.labels(provider, "ok" if error is None else "failed").inc()
        ends = None if expires_at is None else datetime.fromtimestamp(expires_at, UTC).isoformat(timespec="seconds")
        log = structlog.get_logger()
        if error is None:
            self._renewed.labels(provider).set(time.time())
            log.info("credential_renewed", provider=provider, ends=ends)
        else:
            log.warning("credential_not_renewed", provider=provider, error=error, held_until=ends)
