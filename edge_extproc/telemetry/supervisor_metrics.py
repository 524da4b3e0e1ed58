"""What the supervisor counts itself: its workers."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector


class SupervisorMetrics(Collector):
    def __init__(self, workers: int, restarts: Callable[[], int]) -> None:
        self._workers = workers
        self._restarts = restarts

    def collect(self) -> Iterator[Metric]:
        yield GaugeMetricFamily("edge_workers_wanted", "Worker processes that there should be.", self._workers)
        yield CounterMetricFamily("edge_worker_restarts", "Workers that died and were started again.", self._restarts())
