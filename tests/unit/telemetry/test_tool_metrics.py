"""The metrics of tools: only calls move them, and no caller can make a new series."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from settlements import settlement

from edge_extproc.telemetry.metrics import LabelNames, Metrics

NAMES = LabelNames(
    models=frozenset({"s/add", "gpt"}), providers=frozenset({"s", "openai"}), dialects=frozenset({"mcp"})
)
CALL = {
    "operation": "mcp",
    "rpc_method": "tools/call",
    "model": "s/add",
    "provider": "s",
    "attempts": 1,
    "cost": Decimal("0.5"),
}


def samples(*settled: dict[str, Any]) -> dict[tuple[str, tuple[str, ...]], float]:
    metrics = Metrics(NAMES, version="1", started_at=0.0)
    for each in settled:
        metrics.settle(settlement(**each))
    families = text_string_to_metric_families(metrics.exposition().decode())
    return {
        (sample.name, tuple(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
        if sample.name.startswith(("edge_tool", "edge_request_duration_seconds_count"))
        and not sample.name.endswith("_bucket")
    }


def test_a_call_is_counted_with_its_cost_and_time() -> None:
    found = samples(CALL, CALL, {**CALL, "outcome": "rejected", "attempts": 0, "cost": None})

    assert 2 == found["edge_tool_calls_total", ("ok", "s", "add")]
    assert 1 == found["edge_tool_calls_total", ("rejected", "s", "add")]
    assert 1.0 == found["edge_tool_cost_usd_total", ("s", "add")]
    # Without the call that the gateway refused.
    assert 2 == found["edge_tool_call_duration_seconds_count", ("s",)]


@pytest.mark.parametrize(
    ("model", "provider", "labels"),
    [
        ("s/invented", "s", ("ok", "s", "other")),
        (None, "s", ("ok", "s", "none")),
        ("x/y", "x", ("ok", "other", "other")),
    ],
)
def test_names_are_those_of_the_configuration(model: str | None, provider: str, labels: tuple[str, ...]) -> None:
    found = samples({**CALL, "model": model, "provider": provider})

    assert [labels] == [key for name, key in found if name == "edge_tool_calls_total"]


@pytest.mark.parametrize("more", [{"rpc_method": "tools/list"}, {"operation": "chat", "rpc_method": None}])
def test_other_requests_are_no_calls(more: dict[str, Any]) -> None:
    assert not [name for name, _ in samples({**CALL, **more}) if name.startswith("edge_tool")]


@pytest.mark.parametrize(("method", "counted"), [("stream", 0), ("subscriptions/listen", 0), ("tools/list", 1)])
def test_a_stream_of_notifications_is_no_slow_reply(method: str, counted: int) -> None:
    found = samples({**CALL, "rpc_method": method, "model": None, "stream": True, "duration": 3_000.0})

    assert counted == sum(value for (name, _), value in found.items() if name.startswith("edge_request_duration"))
