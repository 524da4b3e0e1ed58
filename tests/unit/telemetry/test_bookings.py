"""A booking has a line in the access log and is no request: who counts both can tell them apart."""

from __future__ import annotations

import json
from collections.abc import Sequence

from settlements import settlement

from edge_extproc.accounting.prices import PriceTable
from edge_extproc.cache.semantic.base import EmbeddingUse
from edge_extproc.model.settlement import Settlement
from edge_extproc.model.usage import Usage
from edge_extproc.telemetry.logs import access_line
from edge_extproc.telemetry.metrics import LabelNames, Metrics
from edge_extproc.worker.wiring.semantic import EmbeddingMeter


def counted(settled: Sequence[Settlement]) -> float:
    metrics = Metrics(LabelNames(), version="0", started_at=0.0)
    for each in settled:
        metrics.settle(each)
    return sum(s.value for m in metrics.registry.collect() for s in m.samples if s.name == "edge_requests_total")


def requests_in_log(settled: Sequence[Settlement]) -> int:
    return sum("booking" not in json.loads(access_line(each)) for each in settled)


def test_the_lines_without_a_booking_are_the_counted_requests() -> None:
    booked = [settlement(exchange_id=kind, booking=kind) for kind in ("charge", "credit", "usage")]
    settled = [settlement(exchange_id="a"), *booked, settlement(exchange_id="b", outcome="rejected")]

    assert 2 == counted(settled) == requests_in_log(settled)
    assert ["charge", "credit", "usage"] == [json.loads(access_line(each))["booking"] for each in booked]


def test_embeddings_of_the_semantic_cache_are_no_requests() -> None:
    settled: list[Settlement] = []
    meter = EmbeddingMeter(PriceTable, None, lambda: (settled.append,))
    meter(EmbeddingUse(tenant="acme", provider="openai", model="m", usage=Usage(input=3), seconds=0.1))

    assert 1 == len(settled)
    assert 0 == counted(settled) == requests_in_log(settled)
    assert "usage" == json.loads(access_line(settled[0]))["booking"]
