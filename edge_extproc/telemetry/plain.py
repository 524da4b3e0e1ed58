"""Counters and histograms as plain numbers: a tenth of the time of the library's own, which take a lock for each.

Counted by the event loop alone, read by a scrape in whichever thread: that copies, and may miss what comes just then.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import accumulate

from prometheus_client.core import CounterMetricFamily, Exemplar, HistogramMetricFamily
from prometheus_client.registry import Collector, CollectorRegistry
from prometheus_client.utils import floatToGoString


class PlainCounter(Collector):
    """One metric, with labels or without."""

    def __init__(self, name: str, text: str, labels: Sequence[str], registry: CollectorRegistry) -> None:
        self._name, self._text, self._labels = name, text, tuple(labels)
        self._counts: dict[tuple[str, ...], float] = {} if labels else {(): 0}
        registry.register(self)

    def add(self, *values: str, by: float = 1) -> None:
        """`values`: of the labels, in their order."""
        counts = self._counts
        counts[values] = counts.get(values, 0) + by

    def collect(self) -> Iterator[CounterMetricFamily]:
        family = CounterMetricFamily(self._name, self._text, labels=self._labels)
        for values, count in list(self._counts.items()):
            family.add_metric(values, count)
        yield family


class Buckets:
    """What was observed for one set of label values."""

    __slots__ = ("_bounds", "_counts", "_exemplars", "_sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._exemplars: dict[int, tuple[str, float, float]] = {}
        """By bucket: a trace, the value and when it was, of which a scrape makes the library's own."""
        self._sum = 0.0

    def observe(self, value: float, trace_id: str | None = None) -> None:
        """`trace_id`: where the value can be looked at."""
        at = bisect_left(self._bounds, value)
        self._counts[at] += 1
        self._sum += value
        if trace_id is not None:
            self._exemplars[at] = (trace_id, value, time.time())

    def add_to(self, family: HistogramMetricFamily, labels: Sequence[str]) -> None:
        counts, seen, total = list(self._counts), dict(self._exemplars), self._sum
        exemplars = {at: Exemplar({"trace_id": trace}, value, when) for at, (trace, value, when) in seen.items()}
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


class PlainHistogram(Collector):
    """One metric, with labels or without."""

    def __init__(
        self, name: str, text: str, labels: Sequence[str], buckets: Sequence[float], registry: CollectorRegistry
    ) -> None:
        self._name, self._text, self._labels, self._bounds = name, text, tuple(labels), tuple(buckets)
        self._of: dict[tuple[str, ...], Buckets] = {}
        if not labels:
            self.of()
        registry.register(self)

    def of(self, *values: str) -> Buckets:
        found = self._of.get(values)
        if found is None:
            found = self._of[values] = Buckets(self._bounds)
        return found

    def collect(self) -> Iterator[HistogramMetricFamily]:
        family = HistogramMetricFamily(self._name, self._text, labels=self._labels)
        for values, buckets in list(self._of.items()):
            buckets.add_to(family, values)
        yield family
