"""What limits did, as metrics of a worker: labels are levels and measures, never names."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge


class LimitMetrics:
    def __init__(self, registry: CollectorRegistry) -> None:
        self._refused = Counter(
            "edge_limit_refusals", "Requests refused by a limit.", ("level", "measure"), registry=registry
        )
        self._warned = Counter(
            "edge_limit_warnings",
            "Limits of which more was used than warn_at, once in a window.",
            ("level", "measure"),
            registry=registry,
        )
        self._local = Counter(
            "edge_limit_local_admissions",
            "Requests admitted by a worker's own share while the store was down.",
            registry=registry,
        )
        self._outages = Counter(
            "edge_limit_store_outages", "Times at which the store of limits went away.", registry=registry
        )
        self._down = Gauge(
            "edge_limit_store_down", "Workers that cannot reach the store of limits now.", registry=registry
        )

    def refused(self, level: str, measure: str) -> None:
        self._refused.labels(level, measure).inc()

    def warned(self, level: str, measure: str) -> None:
        self._warned.labels(level, measure).inc()

    def local(self) -> None:
        self._local.inc()

    def store(self, up: bool) -> None:
        self._down.set(0 if up else 1)
        if not up:
            self._outages.inc()
