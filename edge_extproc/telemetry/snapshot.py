"""Encodes the metrics of a worker as bytes for the supervisor: metric families with their exemplars.

Prometheus' text formats are not used: one has no exemplars, and the other takes ten times as long to parse.
"""

from __future__ import annotations

import msgspec
from prometheus_client.core import Exemplar, Metric
from prometheus_client.registry import Collector


class SampleExemplar(msgspec.Struct, frozen=True, array_like=True):
    labels: dict[str, str]
    value: float
    timestamp: float


class Sample(msgspec.Struct, frozen=True, array_like=True):
    name: str
    labels: tuple[tuple[str, str], ...]
    value: float
    exemplar: SampleExemplar | None = None
    at: float | None = None
    """Unix time at which the value was read, if the metric reports it."""


class MetricFamily(msgspec.Struct, frozen=True, array_like=True):
    name: str
    documentation: str
    type: str
    samples: list[Sample]


_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(list[MetricFamily])


def take(registry: Collector) -> bytes:
    """The encoded metrics of a registry. Takes milliseconds: call it in a thread if the event loop is busy."""
    return _ENCODER.encode([_family(metric) for metric in registry.collect()])


def read(snapshot: bytes) -> list[MetricFamily]:
    """The metric families of a snapshot. Raises ValueError if the bytes are not a snapshot."""
    return _DECODER.decode(snapshot)


def _family(metric: Metric) -> MetricFamily:
    return MetricFamily(
        metric.name,
        metric.documentation,
        metric.type,
        [
            Sample(
                s.name,
                tuple(s.labels.items()),
                float(s.value),
                _exemplar(s.exemplar),
                float(s.timestamp) if s.timestamp is not None else None,
            )
            for s in metric.samples
        ],
    )


def _exemplar(exemplar: Exemplar | None) -> SampleExemplar | None:
    return (
        SampleExemplar(dict(exemplar.labels), exemplar.value, float(exemplar.timestamp or 0.0))
        if exemplar is not None
        else None
    )


def exemplar_of(sample: SampleExemplar | None) -> Exemplar | None:
    return Exemplar(sample.labels, sample.value, sample.timestamp) if sample is not None else None
