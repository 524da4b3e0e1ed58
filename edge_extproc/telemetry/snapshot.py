"""What a worker counts, at one moment, as bytes for its supervisor: metric families with their exemplars.

Not Prometheus' text: that has no exemplars in one form, and takes ten times as long to read in the other.
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
    """Unix time at which the value was learnt, where the metric tells it."""


class MetricFamily(msgspec.Struct, frozen=True, array_like=True):
    name: str
    documentation: str
    type: str
    samples: list[Sample]


_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(list[MetricFamily])


def take(registry: Collector) -> bytes:
    """Takes milliseconds: a thread is the place for it, where the loop is busy."""
    return _ENCODER.encode([_family(metric) for metric in registry.collect()])


def read(snapshot: bytes) -> list[MetricFamily]:
    """Raises ValueError where it is none."""
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


def _exemplar(found: Exemplar | None) -> SampleExemplar | None:
    return SampleExemplar(dict(found.labels), found.value, float(found.timestamp or 0.0)) if found is not None else None


def exemplar_of(found: SampleExemplar | None) -> Exemplar | None:
    return Exemplar(found.labels, found.value, found.timestamp) if found is not None else None
