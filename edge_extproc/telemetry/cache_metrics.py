"""The metrics of the cache of replies: what it answered, how fast, what lies in it, and what it saved."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Protocol

from prometheus_client import CollectorRegistry, Gauge
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from ..model.settlement import Settlement
from .plain import PlainCounter, PlainHistogram

# Seconds. Memory answers in microseconds, Redis within its budget of some milliseconds; an equal call under way takes
# as long as its provider.
LOOKUP_BUCKETS = (0.000_005, 0.000_01, 0.000_05, 0.000_25, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.5, 5.0, 30.0)


class CacheCounts(Protocol):
    @property
    def entries(self) -> int: ...
    @property
    def bytes(self) -> int: ...
    @property
    def evictions(self) -> int: ...


class _Held(Collector):
    """What lies in memory, asked for at a scrape, and money, which a float would not add up."""

    def __init__(self) -> None:
        self.counts: Callable[[], CacheCounts] | None = None
        self.saved_cost: dict[str, Decimal] = {}

    def collect(self) -> Iterator[Metric]:
        saved = CounterMetricFamily(
            "edge_cache_saved_cost_usd", "US dollars that replies had cost which were given again.", labels=("model",)
        )
        for model, cost in list(self.saved_cost.items()):
            saved.add_metric((model,), float(cost))
        yield saved
        if self.counts is None:
            return
        found = self.counts()
        yield GaugeMetricFamily("edge_cache_entries", "Replies in the memory of workers.", found.entries)
        yield GaugeMetricFamily("edge_cache_bytes", "Bytes of replies in the memory of workers.", found.bytes)
        yield CounterMetricFamily(
            "edge_cache_evictions", "Replies that left memory before they were replaced.", found.evictions
        )


class CacheMetrics:
    def __init__(self, registry: CollectorRegistry) -> None:
        def counter(name: str, text: str, *labels: str) -> PlainCounter:
            return PlainCounter(name, text, labels, registry)

        self._requests = counter(
            "edge_cache_requests", "Calls by what the cache did for them, and hits by their tier.", "result", "tier"
        )
        self._lookups = counter("edge_cache_lookups", "Look-ups in one tier.", "tier", "found")
        self._seconds = PlainHistogram(
            "edge_cache_lookup_seconds",
            "Of a look-up in one tier.",
            ("tier",),
            LOOKUP_BUCKETS,
            registry,
        )
        self._writes = counter("edge_cache_writes", "Replies that were kept.", "tier")
        self._failures = counter("edge_cache_errors", "What went wrong in a tier; calls went on.", "tier", "reason")
        self._saved_tokens = counter("edge_cache_saved_tokens", "Tokens of replies that were given again.", "model")
        self._down = Gauge(
            "edge_cache_down", "Workers that leave a tier alone: it failed.", ("tier",), registry=registry
        )
        self._held = _Held()
        registry.register(self._held)

    def watch(self, counts: Callable[[], CacheCounts]) -> None:
        self._held.counts = counts

    def settle(self, s: Settlement, model: str) -> None:
        """`model`: a label that is already one of few."""
        self._requests.add(s.cache or "none", s.cache_tier or "none")
        if s.saved is not None and s.saved.total > 0:
            self._saved_tokens.add(model, by=s.saved.total)
        if s.saved_cost is not None:
            self._held.saved_cost[model] = self._held.saved_cost.get(model, Decimal(0)) + s.saved_cost

    def looked_up(self, tier: str, seconds: float, *, found: bool) -> None:
        self._lookups.add(tier, "true" if found else "false")
        self._seconds.of(tier).observe(seconds)

    def wrote(self, tier: str) -> None:
        self._writes.add(tier)

    def failed(self, tier: str, why: str) -> None:
        self._failures.add(tier, why)

    def is_down(self, tier: str, *, down: bool) -> None:
        self._down.labels(tier).set(int(down))
