"""What waits in a worker to be written or sent: read at a scrape, so that it costs nothing else.

Whoever has a queue tells here how to look at it; a queue that config did not ask for is not shown.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector


@dataclass(frozen=True, slots=True)
class SpanCounts:
    """What became of spans so far."""

    sent: int
    failed: int
    """The collector did not take them, also not after tries."""
    dropped: int
    """There were too many of them."""


class QueueMetrics(Collector):
    def __init__(self, registry: CollectorRegistry) -> None:
        self._lengths: dict[str, Callable[[], int]] = {}
        self._spans: Callable[[], SpanCounts] | None = None
        registry.register(self)

    def watch(self, queue: str, length: Callable[[], int]) -> None:
        self._lengths[queue] = length

    def watch_spans(self, read: Callable[[], SpanCounts]) -> None:
        self._spans = read

    def collect(self) -> Iterator[Metric]:
        waiting = GaugeMetricFamily(
            "edge_queue_length",
            "What waits: for a sink, a store, a collector, or (calls) for an equal call.",
            labels=("queue",),
        )
        spans = CounterMetricFamily("edge_spans", "Spans, by what became of them.", labels=("outcome",))
        for queue, length in self._lengths.items():
            waiting.add_metric((queue,), length())
        if self._spans is not None:
            found = self._spans()
            for outcome, number in (("sent", found.sent), ("failed", found.failed), ("dropped", found.dropped)):
                spans.add_metric((outcome,), number)
        yield from (waiting, spans)
