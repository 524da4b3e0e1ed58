"""What ext_authz decided, as metrics of a worker."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter


class AuthzMetrics:
    def __init__(self, registry: CollectorRegistry) -> None:
        checks = Counter("edge_authz_checks", "Requests that ext_authz asked about.", ("result",), registry=registry)
        self._allowed, self._denied, self._failed = (checks.labels(r) for r in ("allowed", "denied", "unavailable"))

    def checked(self, status: int | None) -> None:
        """`status` of a refusal; None where it was none."""
        if status is None:
            self._allowed.inc()
        else:
            (self._failed if status >= 500 else self._denied).inc()
