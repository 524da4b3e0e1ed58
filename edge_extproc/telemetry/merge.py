"""The metrics of all workers as one: what the supervisor shows at /metrics.

Counters and histograms are sums over every worker there ever was; gauges are sums over those that live, or the largest
where a sum would mean nothing. A worker that died leaves its totals behind, so that a restart neither counts twice nor
makes a counter go down. It reads and writes Prometheus' text format, and knows no metric of ours but those that LARGEST
names.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import TypeAlias

from prometheus_client import generate_latest
from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

# Gauges of which the largest is shown. Every other gauge is summed.
LARGEST = frozenset(
    {"edge_build_info", "edge_worker_start_time_seconds", "process_start_time_seconds", "process_max_fds"}
)
# Late answers come within seconds; nobody restarts this many workers meanwhile.
REMEMBERED_DEAD = 256
_GROWING = frozenset({"counter", "histogram", "summary"})

_Key: TypeAlias = tuple[str, tuple[tuple[str, str], ...]]


@dataclass(slots=True)
class _Family:
    documentation: str
    type: str
    values: dict[_Key, float] = field(default_factory=dict)


class _Totals(Collector):
    """Metric families by name, to which expositions are added."""

    def __init__(self) -> None:
        self._families: dict[str, _Family] = {}

    def add(self, exposition: bytes, *, growing_only: bool = False) -> None:
        """Raises ValueError where the text is not an exposition; then nothing of it has been added."""
        for read in list(text_string_to_metric_families(exposition.decode())):
            if not growing_only or read.type in _GROWING:
                self._add(read)

    def _add(self, read: Metric) -> None:
        family = self._families.setdefault(read.name, _Family(read.documentation, read.type))
        largest = read.name in LARGEST
        for sample in read.samples:
            key = (sample.name, tuple(sample.labels.items()))
            before = family.values.get(key)
            if before is None:
                family.values[key] = sample.value
            else:
                family.values[key] = max(before, sample.value) if largest else before + sample.value

    def collect(self) -> Iterator[Metric]:
        for name, family in self._families.items():
            metric = Metric(name, family.documentation, family.type)
            for (sample, labels), value in family.values.items():
                metric.add_sample(sample, dict(labels), value)
            yield metric

    def exposition(self) -> bytes:
        return generate_latest(self)


class Retired:
    """The totals of workers that are no more."""

    def __init__(self) -> None:
        self._totals = _Totals()

    def add(self, exposition: bytes) -> None:
        """The last that was heard of a worker. Its gauges died with it. Raises ValueError."""
        self._totals.add(exposition, growing_only=True)

    def exposition(self) -> bytes:
        return self._totals.exposition()


def merge(expositions: Iterable[bytes], retired: Retired | None = None) -> bytes:
    """One exposition of all. Raises ValueError where one of them is none."""
    totals = _Totals()
    for exposition in expositions:
        totals.add(exposition)
    if retired is not None:
        totals.add(retired.exposition())
    return totals.exposition()


class Workers:
    """Remembers what each worker said last, so that one that does not answer in time, or died, is not uncounted.

    `worker` names a process and not a slot: a restarted worker is another one.
    """

    def __init__(self) -> None:
        self._last: dict[Hashable, bytes] = {}
        self._retired = Retired()
        self._gone: deque[Hashable] = deque(maxlen=REMEMBERED_DEAD)

    def heard(self, worker: Hashable, exposition: bytes) -> None:
        """An answer that was under way when its worker died comes too late: it would be counted twice."""
        if worker not in self._gone:
            self._last[worker] = exposition

    def gone(self, worker: Hashable) -> None:
        """Once or more: only the first counts. What it counted after it was last heard is lost."""
        self._gone.append(worker)
        last = self._last.pop(worker, None)
        if last is not None:
            self._retired.add(last)

    def exposition(self) -> bytes:
        return merge(self._last.values(), self._retired)
