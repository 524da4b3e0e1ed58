"""Counters, gauges and histograms as plain numbers. They are ten times faster than the library's, which take a lock for
each update.

Only the event loop may update them. A scrape may read them in any thread: it copies the numbers, and may miss updates
that happen at the same time.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import accumulate

from prometheus_client.core import CounterMetricFamily, Exemplar, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector, CollectorRegistry
from prometheus_client.utils import floatToGoString


class PlainCounter(Collector):
    """A counter metric, with or without labels."""

    def __init__(self, name: str, text: str, labels: Sequence[str], registry: CollectorRegistry) -> None:
        self._name, self._text, self._labels = name, text, tuple(labels)
        self._counts: dict[tuple[str, ...], float] = {} if labels else {(): 0}
        registry.register(self)

    def add(self, *values: str, by: float = 1) -> None:
        """`values`: the label values, in the order of the label names."""
        counts = self._counts
        counts[values] = counts.get(values, 0) + by

    def collect(self) -> Iterator[CounterMetricFamily]:
        family = CounterMetricFamily(self._name, self._text, labels=self._labels)
        for values, count in list(self._counts.items()):
            family.add_metric(values, count)
        yield family


class PlainGauge(Collector):
    """A gauge metric without labels."""

    def __init__(self, name: str, text: str, registry: CollectorRegistry) -> None:
        self._name, self._text = name, text
        self.value = 0.0
        registry.register(self)

    def collect(self) -> Iterator[GaugeMetricFamily]:
        yield GaugeMetricFamily(self._name, self._text, self.value)


class Buckets:
    """The observations for one combination of label values."""

    __slots__ = ("_bounds", "_counts", "_exemplars", "_sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._exemplars: dict[int, tuple[str, float, float]] = {}
        """By bucket: a trace id, the value, and its Unix time. A scrape makes the library's exemplars of them."""
        self._sum = 0.0

    def observe(self, value: float, trace_id: str | None = None) -> None:
        """`trace_id`: the trace of this observation, for an exemplar."""
        at = bisect_left(self._bounds, value)
        self._counts[at] += 1
        self._sum += value
        if trace_id is not None:
            self._exemplars[at] = (trace_id, value, time.time())

    def add_to(self, family: HistogramMetricFamily, labels: Sequence[str]) -> None:
        counts, traces, total = list(self._counts), dict(self._exemplars), self._sum
        exemplars = {
            at: Exemplar({"trace_id": trace}, value, timestamp) for at, (trace, value, timestamp) in traces.items()
        }
        names = [floatToGoString(bound) for bound in (*self._bounds, float("inf"))]
        sums = accumulate(counts)
        family.add_metric(
            labels,
            [
                (name, count, exemplars[at]) if at in exemplars else (name, count)
                for at, (name, count) in enumerate(zip(names, sums, strict=True))
            ],
            total,
        )


class _ByLabels(dict[tuple[str, ...], Buckets]):
    """The buckets of each combination of label values. A combination is made when it is first looked up."""

    __slots__ = ("_bounds",)

    def __init__(self, bounds: Sequence[float]) -> None:
        super().__init__()
        self._bounds = bounds

    def __missing__(self, values: tuple[str, ...]) -> Buckets:
        buckets = self[values] = Buckets(self._bounds)
        return buckets


class PlainHistogram(Collector):
    """A histogram metric, with or without labels."""

    def __init__(
        self, name: str, text: str, labels: Sequence[str], buckets: Sequence[float], registry: CollectorRegistry
    ) -> None:
        self._name, self._text, self._labels = name, text, tuple(labels)
        self.by_labels = _ByLabels(tuple(buckets))
        """The buckets by their label values, which are in the order of the label names."""
        if not labels:
            self.by_labels[()]
        registry.register(self)

    def collect(self) -> Iterator[HistogramMetricFamily]:
        family = HistogramMetricFamily(self._name, self._text, labels=self._labels)
        for values, buckets in list(self.by_labels.items()):
            buckets.add_to(family, values)
        yield family
