"""Spans from settlements: what they say, whom they follow, and what they keep to themselves."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags

from edge_extproc.model.plan import Candidate, Tried
from edge_extproc.model.settlement import PhaseTime, Settlement
from edge_extproc.model.trace import Parent, Talk, Trace, read_traceparent
from edge_extproc.model.usage import Usage
from edge_extproc.telemetry import traces as room
from edge_extproc.telemetry.traces import Host, Settings, Traces

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SECRET = "sk-proj-AbCdEf0123456789AbCdEf"
DONE = Settlement(
    exchange_id="e1",
    outcome="ok",
    status=200,
    code=None,
    started_at=1_000.0,
    duration=2.0,
    overhead=0.003,
    tenant="acme",
    operation="chat",
    model="gpt",
    provider="openai",
    upstream_model="gpt-4o",
    finish="stop",
    usage=Usage(input=10, cache_read=5, output=7),
    cost=Decimal("0.0000010"),
    trace=Trace(TRACE, SPAN, None),
    phases=(PhaseTime("request_body", 0.001, 0.002),),
)
SETTINGS = Settings(
    endpoint="http://127.0.0.1:9",
    protocol="http",
    headers={},
    ratio=1.0,
    service="edge",
    version="1.2.3",
    instance="here",
    environment="lab",
    content=True,
    flavours=(),
    metrics=False,
    hosts={"openai": Host("openai", "api.openai.com", 443)},
)


def spans(*settlements: Settlement, **changes: Any) -> list[ReadableSpan]:
    exporter = InMemorySpanExporter()
    traces = Traces(replace(SETTINGS, **changes), spans=exporter)
    for settlement in settlements:
        traces.settle(settlement)
    traces.close()
    return list(exporter.get_finished_spans())


def attributes(settlement: Settlement, **changes: Any) -> dict[str, Any]:
    (span,) = spans(settlement, **changes)
    return dict(span.attributes or {})


def sampler(ratio: float) -> Traces:
    return Traces(replace(SETTINGS, ratio=ratio), spans=InMemorySpanExporter())


def test_a_span_says_what_an_exchange_came_to() -> None:
    (span,) = spans(DONE)
    told = dict(span.attributes or {})

    assert (span.name, span.kind, span.parent) == ("chat gpt-4o", SpanKind.CLIENT, None)
    assert (span.start_time, span.end_time) == (1_000_000_000_000, 1_002_000_000_000)
    assert told["gen_ai.provider.name"] == "openai"
    assert (told["server.address"], told["server.port"]) == ("api.openai.com", 443)
    assert (told["gen_ai.usage.input_tokens"], told["gen_ai.usage.cache_read.input_tokens"]) == (15, 5)
    assert told["gen_ai.response.finish_reasons"] == ("stop",)
    assert {event.name for event in span.events} == {"edge.phase", "edge.usage"}
    assert dict(span.resource.attributes).items() >= {"service.version": "1.2.3", "service.name": "edge"}.items()


def test_the_bill_is_exact() -> None:
    (span,) = spans(DONE)
    (bill,) = [dict(event.attributes or {}) for event in span.events if event.name == "edge.usage"]

    assert (bill["edge.cost_usd"], bill["edge.tokens.output"]) == ("0.000001", 7)


def test_an_error_is_named_and_its_attempts_told() -> None:
    tries = (Tried(Candidate("openai", "gpt-4o"), "failed", 503, "server_error"),)
    (span,) = spans(replace(DONE, outcome="upstream_error", code=SECRET, status=502, usage=None, tries=tries))

    assert span.status.status_code is StatusCode.ERROR
    assert dict(span.attributes or {})["error.type"] == "***"
    assert [event.name for event in span.events if event.name == "edge.attempt"] == ["edge.attempt"]


def test_what_a_provider_says_too_much_is_cut_and_redacted() -> None:
    told = attributes(replace(DONE, response_model=f"{SECRET} {'x' * 1000}", usage=Usage(output=10**30)))

    assert told["gen_ai.response.model"].startswith("*** x")
    assert len(told["gen_ai.response.model"]) <= 256
    assert told["gen_ai.usage.output_tokens"] == (1 << 63) - 1


def test_without_a_trace_there_is_no_span() -> None:
    assert spans(replace(DONE, trace=None)) == []


TALK = Talk((("system", "Be brief."), ("user", f"I am ann@example.com, {SECRET}")), "Call +1 415 555 2671.")


@pytest.mark.parametrize("flavours", [(), ("langfuse",), ("openinference",), ("langfuse", "openinference")])
def test_what_was_said_is_redacted_in_every_tools_words(flavours: tuple[room.Flavour, ...]) -> None:
    said = str(attributes(replace(DONE, talk=TALK), flavours=flavours))

    assert "I am [email], ***" in said
    assert "Call [phone]." in said
    assert SECRET not in said
    assert ("langfuse" in said, "openinference" in said) == ("langfuse" in flavours, "openinference" in flavours)


def test_langfuse_and_openinference_find_what_they_look_for() -> None:
    told = attributes(DONE, flavours=("langfuse", "openinference"))

    assert told["langfuse.observation.usage_details"] == '{"input":10,"cache_read":5,"output":7}'
    assert told["langfuse.observation.cost_details"] == '{"total":1e-6}'
    assert (told["llm.token_count.prompt"], told["llm.token_count.total"]) == (15, 22)


def test_a_parent_decides_and_chance_where_there_is_none() -> None:
    always, never = sampler(1.0), sampler(0.0)
    sampled, unsampled = Parent(TRACE, SPAN, sampled=True), Parent(TRACE, SPAN, sampled=False)

    following = never.begin(sampled)
    assert following is not None
    assert (following.trace_id, following.parent_id) == (TRACE, SPAN)
    assert read_traceparent(following.header) == Parent(TRACE, following.span_id, sampled=True)
    assert always.begin(unsampled) is never.begin(None) is None
    own = always.begin(None)
    assert own is not None
    assert own.parent_id is None
    assert read_traceparent(own.header) is not None


def test_a_half_of_the_traces_is_about_a_half() -> None:
    half = sampler(0.5)

    assert 350 < sum(half.begin(None) is not None for _ in range(1000)) < 650


def test_a_librarys_exception_does_not_tell_its_text() -> None:
    exporter = InMemorySpanExporter()
    context = SpanContext(1, 2, is_remote=False, trace_flags=TraceFlags(1))
    event = Event("exception", {"exception.message": "the caller's words"})
    span = ReadableSpan("x", context, events=(event,), status=Status(StatusCode.ERROR, "the caller's words"))
    room._WithoutExceptions(exporter).export([span])

    assert "the caller's words" not in "".join(each.to_json() for each in exporter.get_finished_spans())


def test_metrics_count_only_what_config_knows() -> None:
    reader = InMemoryMetricReader()
    meter = room._Meter(Traces(SETTINGS, spans=InMemorySpanExporter())._resource, reader, SETTINGS.hosts)
    meter.settle(replace(DONE, stream=True, time_to_first_token=0.5))
    meter.settle(replace(DONE, model=None))
    meter.settle(replace(DONE, provider=None))
    found = reader.get_metrics_data()
    meter.close()
    assert found is not None
    points = {
        m.name: list(m.data.data_points) for r in found.resource_metrics for s in r.scope_metrics for m in s.metrics
    }

    assert {name: sum(point.count for point in many) for name, many in points.items()} == {
        "gen_ai.client.token.usage": 2,
        "gen_ai.client.operation.duration": 1,
        "gen_ai.server.time_to_first_token": 1,
        "gen_ai.server.time_per_output_token": 1,
    }
    assert {dict(p.attributes or {})["gen_ai.request.model"] for many in points.values() for p in many} == {"gpt"}


def test_a_worker_without_traces_loads_nothing_of_them() -> None:
    code = "import sys, edge_extproc.app; print([m for m in sys.modules if m.startswith('opentelemetry')])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert run.stdout.strip() == "[]"
