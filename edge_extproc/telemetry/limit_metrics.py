"""The metrics of limits, for one worker: refusals, warnings, and the use of each limit.

Labels contain configured names only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Gauge
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector


@dataclass(frozen=True, slots=True)
class LimitLevel:
    """The use of one limit. Amounts are requests, tokens, concurrent calls or US dollars."""

    labels: tuple[str, str, str, str, str]
    """The values of the labels `_LABELS`."""
    maximum: float
    used: float
    reserved: float
    at: float | None
    """Unix time at which the values were read from the store; None if it is not known, so that another worker's values
    with a time have precedence."""


_LABELS = ("tenant", "level", "name", "measure", "window")


class _Levels(Collector):
    """Reads the levels at each scrape. Updating gauges would add a cost to each request."""

    def __init__(self) -> None:
        self.read: Callable[[], Sequence[LimitLevel]] = tuple

    def collect(self) -> Iterator[GaugeMetricFamily]:
        maximum = GaugeMetricFamily("edge_limit_maximum", "The maximum of a limit or budget.", labels=_LABELS)
        used = GaugeMetricFamily(
            "edge_limit_used",
            "Used in the current window, with reservations of calls in progress. For `*`: the highest of the holders.",
            labels=_LABELS,
        )
        left = GaugeMetricFamily(
            "edge_limit_left", "Left in the current window. For `*`: the lowest of the holders.", labels=_LABELS
        )
        reserved = GaugeMetricFamily(
            "edge_limit_reserved",
            "Reserved by calls in progress until they settle. For `*`: the sum of all holders.",
            labels=_LABELS,
        )
        for level in self.read():
            maximum.add_metric(level.labels, level.maximum, level.at)
            used.add_metric(level.labels, level.used, level.at)
            left.add_metric(level.labels, max(0.0, level.maximum - level.used), level.at)
            reserved.add_metric(level.labels, level.reserved)
        yield from (maximum, used, left, reserved)


class LimitMetrics:
    """The limit metrics of one worker."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._refused = Counter(
            "edge_limit_refusals", "Requests refused by a limit.", ("level", "measure"), registry=registry
        )
        self._warned = Counter(
            "edge_limit_warnings",
            "Limits that reached their warn_at percentage, counted once for each window.",
            ("level", "measure"),
            registry=registry,
        )
        self._local = Counter(
            "edge_limit_local_admissions",
            "Requests admitted from a worker's own share while the store was down.",
            registry=registry,
        )
        self._outages = Counter(
            "edge_limit_store_outages", "Times that the store of limits became unreachable.", registry=registry
        )
        self._down = Gauge("edge_limit_store_down", "Workers that cannot reach the store of limits.", registry=registry)

        self._workers = Gauge(
            "edge_limit_workers", "Workers of all gateways that share the store of limits.", registry=registry
        )
        self._shares = Gauge(
            "edge_limit_shares",
            "The number by which limits with `fail: local` are divided while the store is down. 0: not yet known.",
            registry=registry,
        )
        self._levels = _Levels()
        registry.register(self._levels)

    def watch(self, read: Callable[[], Sequence[LimitLevel]]) -> None:
        """`read` is called at each scrape."""
        self._levels.read = read

    def watch_workers(self, counted: Callable[[], int], shares: Callable[[], int]) -> None:
        """Both are called at each scrape."""
        self._workers.set_function(counted)
        self._shares.set_function(shares)

    def refused(self, level: str, measure: str) -> None:
        self._refused.labels(level, measure).inc()

    def warned(self, level: str, measure: str) -> None:
        self._warned.labels(level, measure).inc()

    def local(self) -> None:
        self._local.inc()

    def store(self, up: bool) -> None:
        self._down.set(0 if up else 1)
        if not up:
            self._outages.inc()
