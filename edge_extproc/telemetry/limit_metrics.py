"""What limits did and how far they are used, as metrics of a worker. The only names in labels are those of config."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Gauge
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector


@dataclass(frozen=True, slots=True)
class LimitLevel:
    """How far one limit is used. Amounts are requests, tokens, calls or US dollars."""

    labels: tuple[str, str, str, str, str]
    """As `_WHOSE` names them."""
    maximum: float
    used: float
    reserved: float
    at: float | None
    """When it was heard, in Unix seconds; None where others may know it as well."""


_WHOSE = ("tenant", "level", "name", "measure", "window")


class _Levels(Collector):
    """Asks for them at a scrape: keeping gauges up to date would cost something at each request."""

    def __init__(self) -> None:
        self.read: Callable[[], Sequence[LimitLevel]] = tuple

    def collect(self) -> Iterator[GaugeMetricFamily]:
        maximum = GaugeMetricFamily("edge_limit_maximum", "What a limit or budget allows.", labels=_WHOSE)
        used = GaugeMetricFamily(
            "edge_limit_used",
            "Used in the current window, with what calls under way reserve. Of `*`, whoever has used the most of it.",
            labels=_WHOSE,
        )
        left = GaugeMetricFamily("edge_limit_left", "Left in the current window, likewise.", labels=_WHOSE)
        reserved = GaugeMetricFamily(
            "edge_limit_reserved",
            "Reserved by calls under way until they settle. Of `*`, by all together.",
            labels=_WHOSE,
        )
        for level in self.read():
            maximum.add_metric(level.labels, level.maximum, level.at)
            used.add_metric(level.labels, level.used, level.at)
            left.add_metric(level.labels, max(0.0, level.maximum - level.used), level.at)
            reserved.add_metric(level.labels, level.reserved)
        yield from (maximum, used, left, reserved)


class LimitMetrics:
    def __init__(self, registry: CollectorRegistry) -> None:
        self._refused = Counter(
            "edge_limit_refusals", "Requests refused by a limit.", ("level", "measure"), registry=registry
        )
        self._warned = Counter(
            "edge_limit_warnings",
            "Limits of which more was used than warn_at, once in a window.",
            ("level", "measure"),
            registry=registry,
        )
        self._local = Counter(
            "edge_limit_local_admissions",
            "Requests admitted by a worker's own share while the store was down.",
            registry=registry,
        )
        self._outages = Counter(
            "edge_limit_store_outages", "Times at which the store of limits went away.", registry=registry
        )
        self._down = Gauge(
            "edge_limit_store_down", "Workers that cannot reach the store of limits now.", registry=registry
        )

        self._levels = _Levels()
        registry.register(self._levels)

    def watch(self, read: Callable[[], Sequence[LimitLevel]]) -> None:
        self._levels.read = read

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
