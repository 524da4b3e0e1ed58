"""Every metric there is, from the code that makes it: what docs/metrics.md is written from.

python -m edge_extproc.telemetry.catalog > docs/metrics.md
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass

from prometheus_client.core import Metric
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.registry import Collector

from .authz_metrics import AuthzMetrics
from .background import Background, BackgroundMetrics
from .limit_metrics import LimitMetrics
from .merge import LARGEST, NEWEST
from .metrics import LabelNames, Metrics
from .provider_health import ProviderHealth
from .supervisor_metrics import Reloads, SupervisorMetrics

_HEAD = """\
# Metrics

The admin port shows them at `/metrics`, all workers as one: counters and histograms are sums over every worker there
ever was, gauges are sums over those that answer (or the largest or the newest, where this table says so). What a worker
that is killed has counted since the last scrape is lost; its access lines and the ledger have it. A scraper that takes
OpenMetrics gets exemplars: the trace from which a duration came.

Every label has few values: what a caller sends never makes a new series. `none` stands where there is nothing to
name, `other` for a name that the configuration does not know.

This file is written by `python -m edge_extproc.telemetry.catalog`.

| Metric | Type | Labels | What it says |
| --- | --- | --- | --- |
"""


@dataclass(frozen=True, slots=True)
class MetricEntry:
    name: str
    """As it is scraped; of a histogram without _bucket, _sum and _count."""
    kind: str
    labels: tuple[str, ...]
    text: str


def entries() -> list[MetricEntry]:
    """Sorted by name."""
    metrics = Metrics(LabelNames(), version="0", started_at=0.0)
    LimitMetrics(metrics.registry)
    AuthzMetrics(metrics.registry)
    return sorted(
        (
            entry
            for each in (
                *metrics.registry.collectors,
                SupervisorMetrics(1, lambda: 0, Reloads(0.0)),
                ProviderHealth(),
                BackgroundMetrics(Background()),
            )
            for entry in _entries(each)
        ),
        key=lambda entry: entry.name,
    )


def _entries(collector: Collector) -> Iterator[MetricEntry]:
    # A metric that has no child yet collects nothing that would tell its labels; the library keeps them here.
    own = collector._labelnames if isinstance(collector, MetricWrapperBase) else ()
    for metric in collector.collect():
        yield MetricEntry(
            _scraped(metric), metric.type, tuple(own or getattr(metric, "_labelnames", ())), _text(metric)
        )


def _scraped(metric: Metric) -> str:
    return f"{metric.name}_total" if metric.type == "counter" else metric.name


def _text(metric: Metric) -> str:
    if metric.name in NEWEST:
        return f"{metric.documentation} What a worker heard last."
    return metric.documentation + (" The largest of all workers." if metric.name in LARGEST else "")


def markdown() -> str:
    rows = (
        f"| `{e.name}` | {e.kind} | {', '.join(f'`{label}`' for label in e.labels)} | {e.text} |\n" for e in entries()
    )
    return _HEAD + "".join(rows)


if __name__ == "__main__":
    sys.stdout.write(markdown())
