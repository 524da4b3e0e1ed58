"""The lengths of a worker's queues, and the outcomes of spans. They are read at a scrape and cost nothing otherwise.

Each owner of a queue registers a function that returns its length. A queue that is not configured is not shown.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector


@dataclass(frozen=True, slots=True)
class SpanCounts:
    """Spans since the start, by outcome."""

    sent: int
    failed: int
    """The collector did not accept them, even after retries."""
    dropped: int
    """The queue was full."""


class QueueMetrics(Collector):
    """Exposes queue lengths and span outcomes."""

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
            "Items in a queue: lines, writes, spans, or calls that wait for an equal call.",
            labels=("queue",),
        )
        spans = CounterMetricFamily("edge_spans", "Spans, by outcome.", labels=("outcome",))
        for queue, length in self._lengths.items():
            waiting.add_metric((queue,), length())
        if self._spans is not None:
            counts = self._spans()
            for outcome, number in (("sent", counts.sent), ("failed", counts.failed), ("dropped", counts.dropped)):
                spans.add_metric((outcome,), number)
        yield from (waiting, spans)
