"""What becomes of upstream credentials: a count of their renewals, and a line for each that failed or came back."""

from __future__ import annotations

from datetime import UTC, datetime

import structlog
from prometheus_client import CollectorRegistry, Counter


class CredentialMetrics:
    def __init__(self, registry: CollectorRegistry) -> None:
        self._renewals = Counter(
            "edge_credential_renewals",
            "Credentials of providers that were fetched anew, or could not be.",
            ("provider", "outcome"),
            registry=registry,
        )

    def renewed(self, provider: str, error: str | None, expires_at: float | None) -> None:
        """`provider` is a name of config's, `error` a class, `expires_at` (Unix time) the end of what is held now."""
        self._renewals.labels(provider, "ok" if error is None else "failed").inc()
        ends = None if expires_at is None else datetime.fromtimestamp(expires_at, UTC).isoformat(timespec="seconds")
        log = structlog.get_logger()
        if error is None:
            log.info("credential_renewed", provider=provider, ends=ends)
        else:
            log.warning("credential_not_renewed", provider=provider, error=error, held_until=ends)
