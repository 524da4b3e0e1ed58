"""Combines the metrics of all workers: what the supervisor serves at /metrics.

Counters and histograms are sums over all workers since the start, including dead ones. Gauges are sums over the workers
that answer, or the largest, smallest or newest value if a sum has no meaning. The totals of a dead worker are kept, so
that a restart neither counts twice nor decreases a counter. The module knows no metric names except LARGEST, SMALLEST
and NEWEST.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from operator import add
from types import MappingProxyType
from typing import TypeAlias

from prometheus_client import generate_latest
from prometheus_client.core import Metric
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.registry import Collector

from . import snapshot
from .snapshot import MetricFamily, Sample, SampleExemplar

# Gauges that show the largest value of all workers.
LARGEST = frozenset(
    {
        "edge_build_info",
        "edge_circuits_open",
        "edge_credential_renewed_timestamp_seconds",
        "edge_limit_workers",
        "edge_semantic_false_hit_rate",
        "edge_semantic_false_hit_rate_high",
        "edge_semantic_false_hit_rate_low",
        "edge_price_table_info",
        "edge_price_table_timestamp_seconds",
        "edge_config_loaded_timestamp_seconds",
        "edge_worker_start_time_seconds",
        "process_start_time_seconds",
        "process_max_fds",
    }
)
# Gauges that show the smallest value of all workers.
SMALLEST = frozenset({"edge_limit_shares"})
# Gauges of shared state, of which each worker has the value that it read last. The newest value is shown. Among values
# without a time, it is the largest (1) or the smallest (-1). Every other gauge is summed.
NEWEST: Mapping[str, int] = MappingProxyType({"edge_limit_maximum": 1, "edge_limit_used": 1, "edge_limit_left": -1})
# Dead workers whose late answers are ignored. Late answers arrive within seconds, and fewer workers die in that time.
REMEMBERED_DEAD = 256
_GROWING = frozenset({"counter", "histogram", "summary"})

_Key: TypeAlias = tuple[str, tuple[tuple[str, str], ...]]


@dataclass(slots=True)
class _Sum:
    documentation: str
    type: str
    values: dict[_Key, float] = field(default_factory=dict)
    exemplars: dict[_Key, SampleExemplar] = field(default_factory=dict)
    times: dict[_Key, float] = field(default_factory=dict)


class Totals(Collector):
    """The sums of snapshots, by metric family."""

    def __init__(self) -> None:
        self._sums: dict[str, _Sum] = {}

    def add(self, families: Iterable[MetricFamily]) -> None:
        for family in families:
            total = self._sums.setdefault(family.name, _Sum(family.documentation, family.type))
            sign = NEWEST.get(family.name)
            choose = max if family.name in LARGEST else min if family.name in SMALLEST else add
            for sample in family.samples:
                if sign is None:
                    _add(total, sample, choose)
                else:
                    _prefer(total, sample, sign)

    def families(self) -> list[MetricFamily]:
        return [
            MetricFamily(
                name,
                total.documentation,
                total.type,
                [Sample(*key, value, total.exemplars.get(key)) for key, value in total.values.items()],
            )
            for name, total in self._sums.items()
        ]

    def values(self, family: str, sample: str) -> Iterator[tuple[Mapping[str, str], float]]:
        """The labels and value of each sample with the name `sample` in `family`."""
        total = self._sums.get(family)
        for (name, labels), value in total.values.items() if total is not None else ():
            if name == sample:
                yield dict(labels), value

    def collect(self) -> Iterator[Metric]:
        for family in self.families():
            metric = Metric(family.name, family.documentation, family.type)
            for s in family.samples:
                metric.add_sample(s.name, dict(s.labels), s.value, exemplar=snapshot.exemplar_of(s.exemplar))
            yield metric

    def exposition(self, *, openmetrics: bool = False) -> bytes:
        """Prometheus' text format, or OpenMetrics, which has exemplars."""
        if not openmetrics:
            return generate_latest(self)
        text: bytes = generate_openmetrics(self)
        return text


def _add(total: _Sum, sample: Sample, choose: Callable[[float, float], float]) -> None:
    key = (sample.name, sample.labels)
    before = total.values.get(key)
    total.values[key] = sample.value if before is None else choose(before, sample.value)
    exemplar = total.exemplars.get(key)
    if sample.exemplar is not None and (exemplar is None or exemplar.timestamp < sample.exemplar.timestamp):
        total.exemplars[key] = sample.exemplar


def _prefer(total: _Sum, sample: Sample, sign: int) -> None:
    key, at = (sample.name, sample.labels), sample.at or 0.0
    before = total.values.get(key)
    if before is None or (at, sign * sample.value) > (total.times[key], sign * before):
        total.values[key], total.times[key] = sample.value, at


def _growing(encoded: bytes) -> Iterator[MetricFamily]:
    """The families of a snapshot that only grow. Raises ValueError."""
    return (family for family in snapshot.read(encoded) if family.type in _GROWING)


class RetiredWorkers:
    """The totals of dead workers."""

    def __init__(self) -> None:
        self._totals = Totals()

    def add(self, last: bytes) -> None:
        """Adds the counters and histograms of a dead worker's last snapshot. Raises ValueError."""
        self._totals.add(_growing(last))

    def families(self) -> list[MetricFamily]:
        return self._totals.families()


def merge(snapshots: Iterable[bytes], retired: RetiredWorkers | None = None) -> Totals:
    """The sum of all snapshots. Raises ValueError if one of them is not a snapshot."""
    totals = Totals()
    for each in snapshots:
        totals.add(snapshot.read(each))
    if retired is not None:
        totals.add(retired.families())
    return totals


class WorkerTotals:
    """Keeps the last snapshot of each worker, so that a worker that is late or dead is still counted.

    `worker` identifies a process, not a slot: a restarted worker is another one.
    """

    def __init__(self) -> None:
        self._last: dict[Hashable, bytes] = {}
        self._retired = RetiredWorkers()
        self._dead: deque[Hashable] = deque(maxlen=REMEMBERED_DEAD)
        self._silent: set[Hashable] = set()
        self._readings = 0
        self._newest: dict[Hashable, int] = {}

    def begin(self) -> int:
        """The number of a new reading. Several readings can be in progress."""
        self._readings += 1
        return self._readings

    def record(self, worker: Hashable, encoded: bytes, reading: int = 0) -> None:
        """Stores a worker's snapshot. A snapshot that arrives after the worker died is ignored: it would be counted
        twice. So is one of an earlier reading than the stored one: counters must not decrease."""
        if worker not in self._dead and reading >= self._newest.get(worker, 0):
            self._newest[worker] = reading
            self._last[worker] = encoded
            self._silent.discard(worker)

    def mark_silent(self, worker: Hashable) -> None:
        """Marks a running worker that does not answer. Its counters stay in the totals. Its gauges are outdated and are
        left out."""
        self._silent.add(worker)

    def retire(self, worker: Hashable) -> None:
        """Moves a dead worker's totals to the retired ones. Repeated calls have no effect. Later counts than those of
        the last snapshot are lost."""
        self._dead.append(worker)
        self._silent.discard(worker)
        self._newest.pop(worker, None)
        last = self._last.pop(worker, None)
        if last is not None:
            self._retired.add(last)

    def totals(self) -> Totals:
        totals = merge((encoded for worker, encoded in self._last.items() if worker not in self._silent), self._retired)
        for worker in self._silent & self._last.keys():
            totals.add(_growing(self._last[worker]))
        return totals
