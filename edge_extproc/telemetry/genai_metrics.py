"""The metrics of OpenTelemetry's GenAI conventions: counted here, and exported by OTLP once a minute.

The instruments of the OpenTelemetry library are not used: they take 25 microseconds for each value, and four of them
would cost more than the rest of a settlement.
"""

from __future__ import annotations

import threading
import time
from bisect import bisect_left
from collections.abc import Mapping
from typing import NamedTuple, TypeAlias

from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Histogram,
    HistogramDataPoint,
    Metric,
    MetricExporter,
    MetricsData,
    ResourceMetrics,
    ScopeMetrics,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from ..model.settlement import SOCKET, Settlement
from .logs import report

EVERY = 60.0
"""Seconds between two exports; the OpenTelemetry library has the same default."""

# Boundaries that the conventions recommend (semantic-conventions, gen-ai-metrics).
_TOKENS = (1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576, 4194304, 16777216, 67108864)
_SECONDS = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
_FIRST_TOKEN = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
_PER_TOKEN = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5)
_INSTRUMENTS = {
    "gen_ai.client.token.usage": ("{token}", "Tokens of one operation.", _TOKENS),
    "gen_ai.client.operation.duration": ("s", "Duration of the request.", _SECONDS),
    "gen_ai.client.operation.time_to_first_chunk": (
        "s",
        "From the request to the first chunk of its stream.",
        _SECONDS,
    ),
    # The name of the same metric in most gateways and in older dashboards.
    "gen_ai.server.time_to_first_token": ("s", "From a request to its first token.", _FIRST_TOKEN),
    "gen_ai.server.time_per_output_token": ("s", "Average time between two output tokens.", _PER_TOKEN),
}

OPERATIONS = {"completions": "text_completion"}
"""The gen_ai.operation.name of operations whose own name differs from the conventions."""

# Cache results whose settlement names a provider although no provider was called.
_NO_PROVIDER_CALLED = frozenset({"hit", "stale", "semantic"})

_Labels: TypeAlias = tuple[tuple[str, str], ...]


class _Histogram:
    """One histogram with one set of labels."""

    __slots__ = ("bounds", "buckets", "highest", "lowest", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.buckets = [0] * (len(bounds) + 1)
        self.total = 0.0
        self.lowest, self.highest = float("inf"), float("-inf")

    def add(self, value: float) -> None:
        self.buckets[bisect_left(self.bounds, value)] += 1
        self.total += value
        if value < self.lowest:
            self.lowest = value
        if value > self.highest:
            self.highest = value


class _Histograms(NamedTuple):
    """The histograms for one combination of operation, provider, model and outcome."""

    input: _Histogram
    output: _Histogram
    duration: _Histogram
    first_chunk: _Histogram
    first_token: _Histogram
    per_token: _Histogram


class GenAiMetrics:
    """The GenAI metrics of one worker. `names` maps the configured name of a provider to its gen_ai.provider.name. One
    thread calls `settle`, another one `read`."""

    def __init__(self, resource: Resource, scope: InstrumentationScope, names: Mapping[str, str]) -> None:
        self._resource, self._scope, self._names = resource, scope, names
        self._began = time.time_ns()
        self._counted: dict[tuple[str, _Labels], _Histogram] = {}
        self._of_kind: dict[tuple[str | None, str | None, str | None, str], _Histograms] = {}

    def settle(self, s: Settlement) -> None:
        if s.cache in _NO_PROVIDER_CALLED or s.booking is not None or s.operation == SOCKET:
            return
        of = self._of_kind.get((s.operation, s.provider, s.model, s.outcome)) or self._find(s)
        if of is None:
            return
        usage = s.usage
        if usage is not None:
            of.input.add(usage.prompt)
            of.output.add(usage.completion)
        of.duration.add(s.duration)
        if s.time_to_first_token is not None:
            of.first_chunk.add(s.time_to_first_token)
            of.first_token.add(s.time_to_first_token)
            per_token = s.time_per_output_token
            if per_token is not None:
                of.per_token.add(per_token)

    def _find(self, s: Settlement) -> _Histograms | None:
        name = self._names.get(s.provider or "")
        # Only a call to a provider is a GenAI operation, and only configured names become labels.
        if name is None or s.model is None:
            return None
        operation = s.operation or "none"
        labels: _Labels = (
            ("gen_ai.operation.name", OPERATIONS.get(operation, operation)),
            ("gen_ai.provider.name", name),
            ("gen_ai.request.model", s.model),
        )
        failed = (("error.type", s.outcome),) if s.outcome != "ok" else ()
        histograms = self._of_kind[s.operation, s.provider, s.model, s.outcome] = _Histograms(
            self._one("gen_ai.client.token.usage", (*labels, ("gen_ai.token.type", "input"))),
            self._one("gen_ai.client.token.usage", (*labels, ("gen_ai.token.type", "output"))),
            self._one("gen_ai.client.operation.duration", (*labels, *failed)),
            self._one("gen_ai.client.operation.time_to_first_chunk", labels),
            self._one("gen_ai.server.time_to_first_token", labels),
            self._one("gen_ai.server.time_per_output_token", labels),
        )
        return histograms

    def _one(self, name: str, labels: _Labels) -> _Histogram:
        counted = self._counted.get((name, labels))
        if counted is None:
            counted = self._counted[name, labels] = _Histogram(_INSTRUMENTS[name][2])
        return counted

    def read(self) -> MetricsData:
        """The cumulative metrics since the start."""
        now = time.time_ns()
        points: dict[str, list[HistogramDataPoint]] = {}
        for (name, labels), counted in list(self._counted.items()):
            buckets = list(counted.buckets)
            if not any(buckets):
                continue
            points.setdefault(name, []).append(
                HistogramDataPoint(
                    attributes=dict(labels),
                    start_time_unix_nano=self._began,
                    time_unix_nano=now,
                    count=sum(buckets),
                    sum=counted.total,
                    bucket_counts=buckets,
                    explicit_bounds=counted.bounds,
                    min=counted.lowest,
                    max=counted.highest,
                )
            )
        metrics = [
            Metric(name, text, unit, Histogram(points[name], AggregationTemporality.CUMULATIVE))
            for name, (unit, text, _) in _INSTRUMENTS.items()
            if name in points
        ]
        scoped = ScopeMetrics(self._scope, metrics, "")
        return MetricsData([ResourceMetrics(self._resource, [scoped], "")])


class Exporting:
    """Exports metrics every `every` seconds from its own thread, and once more at `close`."""

    def __init__(self, metrics: GenAiMetrics, exporter: MetricExporter, every: float = EVERY) -> None:
        self._metrics, self._exporter, self._every = metrics, exporter, every
        self._stop = threading.Event()
        self._exporting = threading.Thread(target=self._run, name="otlp-metrics", daemon=True)
        self._exporting.start()

    def _run(self) -> None:
        while not self._stop.wait(self._every):
            self._export()

    def _export(self) -> None:
        try:
            self._exporter.export(self._metrics.read())
        except Exception as error:  # noqa: BLE001 - no error of a collector may end this thread or delay a shutdown
            report(error)

    def close(self) -> None:
        self._stop.set()
        self._exporting.join(10)
        self._export()
        self._exporter.shutdown()
