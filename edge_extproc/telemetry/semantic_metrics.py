"""The metrics of the semantic cache: lookups, refusals, hits, and the measured share of false hits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from .plain import PlainCounter, PlainHistogram

# Seconds. An embedder within the gateway takes a fraction of a millisecond, an endpoint some ten milliseconds.
_BUCKETS = (0.000_1, 0.000_25, 0.000_5, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 2.5)
OTHER = "other"


class SemanticCounts(Protocol):
    """The state of the records in this process."""

    @property
    def entries(self) -> int: ...
    @property
    def bytes(self) -> int: ...
    @property
    def evictions(self) -> int: ...


class _Records(Collector):
    """The records in memory, read at each scrape, and the estimates of false hits."""

    def __init__(self) -> None:
        self.counts: Callable[[], SemanticCounts] | None = None
        self.estimates: dict[tuple[str, str], tuple[float, float, float, bool]] = {}

    def collect(self) -> Iterator[Metric]:
        labels = ("model", "tenant")
        families = (
            GaugeMetricFamily(
                "edge_semantic_false_hit_rate",
                "Estimated share of false hits among would-be hits, by the comparisons of shadow mode; the worker with "
                "the most.",
                labels=labels,
            ),
            GaugeMetricFamily(
                "edge_semantic_false_hit_rate_low",
                "The lower end of the interval of edge_semantic_false_hit_rate (Wilson, 95 %).",
                labels=labels,
            ),
            GaugeMetricFamily(
                "edge_semantic_false_hit_rate_high",
                "The upper end of the interval of edge_semantic_false_hit_rate (Wilson, 95 %).",
                labels=labels,
            ),
            GaugeMetricFamily(
                "edge_semantic_off",
                "Workers whose estimate of false hits turned the semantic cache off.",
                labels=labels,
            ),
        )
        for names, values in list(self.estimates.items()):
            for family, value in zip(families, values, strict=True):
                family.add_metric(names, float(value))
        yield from families
        if self.counts is None:
            return
        memory = self.counts()
        yield GaugeMetricFamily("edge_semantic_entries", "Questions in workers' memory.", memory.entries)
        yield GaugeMetricFamily(
            "edge_semantic_bytes", "Bytes of questions and replies in workers' memory.", memory.bytes
        )
        yield CounterMetricFamily(
            "edge_semantic_evictions", "Questions evicted from workers' memory.", memory.evictions
        )


class SemanticMetrics:
    """The `SemanticListener` of one worker."""

    def __init__(
        self,
        registry: CollectorRegistry,
        models: Callable[[], frozenset[str]],
        tenants: Callable[[], frozenset[str]],
    ) -> None:
        """`models` and `tenants`: the names that may be label values; any other is `other`."""
        self._models, self._tenants = models, tenants
        self._lookups = PlainCounter(
            "edge_semantic_lookups",
            "Lookups of the semantic cache by result: hit, miss (no question is near), refused (by a verifier), "
            "shadowed (the provider was called to compare), off (too many false hits), slow (beyond the budget), "
            "failed.",
            ("result",),
            registry,
        )
        self._seconds = PlainHistogram(
            "edge_semantic_lookup_seconds", "Duration of a lookup of the semantic cache.", (), _BUCKETS, registry
        )
        self._hits = PlainCounter(
            "edge_semantic_hits", "Calls that got the reply to a similar call.", ("model", "tenant"), registry
        )
        self._refusals = PlainCounter(
            "edge_semantic_refusals",
            "Questions that were near enough and that a verifier refused.",
            ("verifier",),
            registry,
        )
        self._errors = PlainCounter(
            "edge_semantic_errors",
            "Errors of the embedder or the store of the semantic cache; calls continue without it.",
            ("part", "reason"),
            registry,
        )
        self._compared = PlainCounter(
            "edge_semantic_shadow_compared",
            "Comparisons of shadow mode, by whether both replies agreed, and how it was seen (exact, embedding).",
            ("model", "tenant", "agreed", "how"),
            registry,
        )
        self._records = _Records()
        registry.register(self._records)

    def watch(self, counts: Callable[[], SemanticCounts]) -> None:
        """`counts` is called at each scrape."""
        self._records.counts = counts

    def semantic_looked_up(self, result: str, seconds: float) -> None:
        self._lookups.add(result)
        self._seconds.by_labels[()].observe(seconds)

    def semantic_refused(self, verifier: str) -> None:
        self._refusals.add(verifier)

    def semantic_hit(self, model: str, tenant: str) -> None:
        self._hits.add(*self._names(model, tenant))

    def semantic_failed(self, part: str, why: str) -> None:
        self._errors.add(part, why)

    def semantic_compared(self, model: str, tenant: str, *, agreed: bool, how: str) -> None:
        self._compared.add(*self._names(model, tenant), "true" if agreed else "false", how)

    def semantic_estimate(self, model: str, tenant: str, rate: float, low: float, high: float, *, is_off: bool) -> None:
        self._records.estimates[self._names(model, tenant)] = (rate, low, high, is_off)

    def _names(self, model: str, tenant: str) -> tuple[str, str]:
        return (
            model if model in self._models() else OTHER,
            tenant if tenant in self._tenants() else OTHER,
        )
