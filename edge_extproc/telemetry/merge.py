"""The metrics of all workers as one: what the supervisor shows at /metrics.

Counters and histograms are sums over every worker there ever was; gauges are sums over those that answer, or the
largest or the newest where a sum would mean nothing. A worker that died leaves its totals behind, so that a restart
neither counts twice nor makes a counter go down. It knows no metric of ours but those that LARGEST and NEWEST name.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TypeAlias

from prometheus_client import generate_latest
from prometheus_client.core import Metric
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.registry import Collector

from . import snapshot
from .snapshot import MetricFamily, Sample, SampleExemplar

# Gauges of which the largest is shown.
LARGEST = frozenset(
    {
        "edge_build_info",
        "edge_circuits_open",
        "edge_credential_renewed_timestamp_seconds",
        "edge_price_table_info",
        "edge_price_table_timestamp_seconds",
        "edge_config_loaded_timestamp_seconds",
        "edge_worker_start_time_seconds",
        "process_start_time_seconds",
        "process_max_fds",
    }
)
# Gauges of what workers share, of which each knows what it heard last: the newest is shown, and of values without a
# time the largest (1) or the smallest (-1). Every other gauge is summed.
NEWEST: Mapping[str, int] = MappingProxyType({"edge_limit_maximum": 1, "edge_limit_used": 1, "edge_limit_left": -1})
# Late answers come within seconds; nobody restarts this many workers meanwhile.
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
    """Metric families by name, to which snapshots are added."""

    def __init__(self) -> None:
        self._sums: dict[str, _Sum] = {}

    def add(self, families: Iterable[MetricFamily]) -> None:
        for family in families:
            total = self._sums.setdefault(family.name, _Sum(family.documentation, family.type))
            sign = NEWEST.get(family.name)
            largest = family.name in LARGEST
            for sample in family.samples:
                if sign is None:
                    _add(total, sample, largest=largest)
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
        """The labels and the value of each of these samples."""
        found = self._sums.get(family)
        for (name, labels), value in found.values.items() if found is not None else ():
            if name == sample:
                yield dict(labels), value

    def collect(self) -> Iterator[Metric]:
        for family in self.families():
            metric = Metric(family.name, family.documentation, family.type)
            for s in family.samples:
                metric.add_sample(s.name, dict(s.labels), s.value, exemplar=snapshot.exemplar_of(s.exemplar))
            yield metric

    def exposition(self, *, openmetrics: bool = False) -> bytes:
        """In Prometheus' text format, or in that of OpenMetrics, which has exemplars."""
        if not openmetrics:
            return generate_latest(self)
        written: bytes = generate_openmetrics(self)
        return written


def _add(total: _Sum, sample: Sample, *, largest: bool) -> None:
    key = (sample.name, sample.labels)
    before = total.values.get(key)
    if before is None:
        total.values[key] = sample.value
    else:
        total.values[key] = max(before, sample.value) if largest else before + sample.value
    shown = total.exemplars.get(key)
    if sample.exemplar is not None and (shown is None or shown.timestamp < sample.exemplar.timestamp):
        total.exemplars[key] = sample.exemplar


def _prefer(total: _Sum, sample: Sample, sign: int) -> None:
    key, at = (sample.name, sample.labels), sample.at or 0.0
    before = total.values.get(key)
    if before is None or (at, sign * sample.value) > (total.times[key], sign * before):
        total.values[key], total.times[key] = sample.value, at


def _growing(said: bytes) -> Iterator[MetricFamily]:
    """Raises ValueError."""
    return (family for family in snapshot.read(said) if family.type in _GROWING)


class RetiredWorkers:
    """The totals of workers that are no more."""

    def __init__(self) -> None:
        self._totals = Totals()

    def add(self, last: bytes) -> None:
        """The last snapshot of a worker. Its gauges died with it. Raises ValueError."""
        self._totals.add(_growing(last))

    def families(self) -> list[MetricFamily]:
        return self._totals.families()


def merge(snapshots: Iterable[bytes], retired: RetiredWorkers | None = None) -> Totals:
    """The sum of all. Raises ValueError where one of them is no snapshot."""
    totals = Totals()
    for each in snapshots:
        totals.add(snapshot.read(each))
    if retired is not None:
        totals.add(retired.families())
    return totals


class WorkerTotals:
    """Remembers what each worker said last, so that one that does not answer in time, or died, is not uncounted.

    `worker` names a process and not a slot: a restarted worker is another one.
    """

    def __init__(self) -> None:
        self._last: dict[Hashable, bytes] = {}
        self._retired = RetiredWorkers()
        self._gone: deque[Hashable] = deque(maxlen=REMEMBERED_DEAD)
        self._silent: set[Hashable] = set()

    def heard(self, worker: Hashable, said: bytes) -> None:
        """An answer that was under way when its worker died comes too late: it would be counted twice."""
        if worker not in self._gone:
            self._last[worker] = said
            self._silent.discard(worker)

    def silent(self, worker: Hashable) -> None:
        """It lives and does not answer. What it has counted still counts; its gauges tell of a moment that is over, and
        one that hangs is no worker that one could count on."""
        self._silent.add(worker)

    def gone(self, worker: Hashable) -> None:
        """Once or more: only the first counts. What it counted after it was last heard is lost."""
        self._gone.append(worker)
        self._silent.discard(worker)
        last = self._last.pop(worker, None)
        if last is not None:
            self._retired.add(last)

    def totals(self) -> Totals:
        totals = merge((said for worker, said in self._last.items() if worker not in self._silent), self._retired)
        for worker in self._silent & self._last.keys():
            totals.add(_growing(self._last[worker]))
        return totals
