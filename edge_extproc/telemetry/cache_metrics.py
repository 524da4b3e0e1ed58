"""The metrics of the response cache: results, lookup times, entries, and savings."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Protocol

from prometheus_client import CollectorRegistry, Gauge
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from ..model.settlement import Settlement
from .plain import PlainCounter, PlainHistogram

# Seconds. Memory answers in microseconds, Redis within its budget of a few milliseconds. Waiting for an equal call in
# progress takes as long as its provider.
LOOKUP_BUCKETS = (0.000_005, 0.000_01, 0.000_05, 0.000_25, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.5, 5.0, 30.0)


class CacheCounts(Protocol):
    """The state of a worker's memory tier."""

    @property
    def entries(self) -> int: ...
    @property
    def bytes(self) -> int: ...
    @property
    def evictions(self) -> int: ...


class _MemoryAndSavings(Collector):
    """The content of the memory tier, read at each scrape, and the saved cost, summed as Decimal because a float would
    lose small amounts."""

    def __init__(self) -> None:
        self.counts: Callable[[], CacheCounts] | None = None
        self.saved_cost: dict[str, Decimal] = {}

    def collect(self) -> Iterator[Metric]:
        saved = CounterMetricFamily(
            "edge_cache_saved_cost_usd",
            "US dollars that hits have saved: the original cost of the replies.",
            labels=("model",),
        )
        for model, cost in list(self.saved_cost.items()):
            saved.add_metric((model,), float(cost))
        yield saved
        if self.counts is None:
            return
        memory = self.counts()
        yield GaugeMetricFamily("edge_cache_entries", "Replies in workers' memory.", memory.entries)
        yield GaugeMetricFamily("edge_cache_bytes", "Bytes of replies in workers' memory.", memory.bytes)
        yield CounterMetricFamily("edge_cache_evictions", "Replies evicted from workers' memory.", memory.evictions)


class CacheMetrics:
    """The cache metrics of one worker."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def counter(name: str, text: str, *labels: str) -> PlainCounter:
            return PlainCounter(name, text, labels, registry)

        self._requests = counter("edge_cache_requests", "Calls by cache result, and hits by tier.", "result", "tier")
        self._lookups = counter(
            "edge_cache_lookups", "Lookups in a cache tier, by whether an entry was found.", "tier", "found"
        )
        self._seconds = PlainHistogram(
            "edge_cache_lookup_seconds",
            "Duration of a lookup in a cache tier.",
            ("tier",),
            LOOKUP_BUCKETS,
            registry,
        )
        self._writes = counter("edge_cache_writes", "Replies written to a cache tier.", "tier")
        self._failures = counter(
            "edge_cache_errors", "Errors of a cache tier; calls continue without it.", "tier", "reason"
        )
        self._saved_tokens = counter(
            "edge_cache_saved_tokens", "Tokens that hits have saved: the original usage of the replies.", "model"
        )
        self._down = Gauge(
            "edge_cache_down", "Workers that do not use a cache tier because it failed.", ("tier",), registry=registry
        )
        self._memory = _MemoryAndSavings()
        registry.register(self._memory)

    def watch(self, counts: Callable[[], CacheCounts]) -> None:
        """`counts` is called at each scrape."""
        self._memory.counts = counts

    def settle(self, s: Settlement, model: str) -> None:
        """`model`: the label value, already limited to configured names."""
        self._requests.add(s.cache or "none", s.cache_tier or "none")
        if s.saved is not None and (total := s.saved.total) > 0:
            self._saved_tokens.add(model, by=total)
        if s.saved_cost is not None:
            self._memory.saved_cost[model] = self._memory.saved_cost.get(model, Decimal(0)) + s.saved_cost

    def looked_up(self, tier: str, seconds: float, *, found: bool) -> None:
        self._lookups.add(tier, "true" if found else "false")
        self._seconds.by_labels[(tier,)].observe(seconds)

    def wrote(self, tier: str) -> None:
        self._writes.add(tier)

    def failed(self, tier: str, why: str) -> None:
        self._failures.add(tier, why)

    def is_down(self, tier: str, *, down: bool) -> None:
        self._down.labels(tier).set(int(down))
