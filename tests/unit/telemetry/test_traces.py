"""Spans from settlements: what they say, whom they follow, and what they keep to themselves."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.metrics.export import ConsoleMetricExporter, MetricExportResult
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, Status, StatusCode, TraceFlags
from otlp import Span, spans_of
from settlements import settlement

from edge_extproc.model.plan import AttemptResult, Candidate
from edge_extproc.model.rule_hit import RuleHit
from edge_extproc.model.settlement import PhaseTime, Settlement
from edge_extproc.model.trace import Parent, Trace, Transcript, read_traceparent
from edge_extproc.model.usage import Usage
from edge_extproc.telemetry import otlp
from edge_extproc.telemetry.base import Flavour
from edge_extproc.telemetry.genai_metrics import Exporting, GenAiMetrics
from edge_extproc.telemetry.sending import MOST, MOST_CONTENT, SpanQueue
from edge_extproc.telemetry.traces import TracedHost, Traces, TraceSettings

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SECRET = "sk-proj-AbCdEf0123456789AbCdEf"
DONE = settlement(
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
SETTINGS = TraceSettings(
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
    hosts={"openai": TracedHost("openai", "api.openai.com", 443)},
)


def spans(*settlements: Settlement, **changes: Any) -> list[Span]:
    """What a collector would read."""
    exporter = InMemorySpanExporter()
    traces = Traces(replace(SETTINGS, **changes), spans=exporter)
    for each in settlements:
        traces.settle(each)
    traces.close()
    return spans_of([ExportTraceServiceRequest.FromString(traces.encode(exporter.get_finished_spans()))])


def attributes(settlement: Settlement, **changes: Any) -> dict[str, Any]:
    (span,) = spans(settlement, **changes)
    return span.attributes


def sampler(ratio: float) -> Traces:
    return Traces(replace(SETTINGS, ratio=ratio), spans=InMemorySpanExporter())


def test_a_span_says_what_an_exchange_came_to() -> None:
    (span,) = spans(DONE)
    told = span.attributes

    assert (span.name, span.kind, span.parent_id, span.error) == ("chat gpt-4o", 3, "", False)
    assert (span.trace_id, span.span_id) == (TRACE, SPAN)
    assert span.times == (1_000_000_000_000, 1_002_000_000_000)
    assert told["gen_ai.provider.name"] == "openai"
    assert (told["server.address"], told["server.port"]) == ("api.openai.com", 443)
    assert (told["gen_ai.usage.input_tokens"], told["gen_ai.usage.cache_read.input_tokens"]) == (15, 5)
    assert told["gen_ai.response.finish_reasons"] == ["stop"]
    assert {name for name, _ in span.events} == {"edge.phase", "edge.usage"}
    assert span.resource.items() >= {"service.version": "1.2.3", "service.name": "edge"}.items()


def test_a_span_names_the_run_and_its_parent() -> None:
    named = attributes(replace(DONE, run="task", run_parent="job"))

    assert ("task", "job") == (named["edge.run"], named["edge.run_parent"])
    assert not {"edge.run", "edge.run_parent"} & attributes(DONE).keys()


def test_the_bill_is_exact() -> None:
    (span,) = spans(DONE)
    (bill,) = [facts for name, facts in span.events if name == "edge.usage"]

    assert (bill["edge.cost_usd"], bill["edge.tokens.output"]) == ("0.000001", 7)


def test_an_error_is_named_and_its_attempts_told() -> None:
    tries = (AttemptResult(Candidate("openai", "gpt-4o"), "failed", 503, "server_error"),)
    (span,) = spans(replace(DONE, outcome="upstream_error", code=SECRET, status=502, usage=None, attempt_results=tries))

    assert span.error
    assert span.attributes["error.type"] == "***"
    assert [name for name, _ in span.events if name == "edge.attempt"] == ["edge.attempt"]


def test_what_guardrail_rules_did_is_an_event_each() -> None:
    hits = (
        RuleHit("pii", "email", "mask", "enforce", "request", 2),
        RuleHit("k", "aws", "block", "shadow", "reply", 1),
    )
    (span,) = spans(replace(DONE, guardrails=hits))

    found = [facts for name, facts in span.events if name == "edge.guardrail"]
    assert found[0] == {
        "edge.guardrail.rule": "pii",
        "edge.guardrail.label": "email",
        "edge.guardrail.action": "mask",
        "edge.guardrail.mode": "enforce",
        "edge.guardrail.direction": "request",
        "edge.guardrail.count": 2,
    }
    assert len(found) == 2


def test_what_a_provider_says_too_much_is_cut_and_redacted() -> None:
    told = attributes(replace(DONE, response_model=f"{SECRET} {'x' * 1000}", usage=Usage(output=10**30)))

    assert told["gen_ai.response.model"].startswith("*** x")
    assert len(told["gen_ai.response.model"]) <= 256
    assert told["gen_ai.usage.output_tokens"] == (1 << 63) - 1


def test_without_a_trace_there_is_no_span() -> None:
    assert spans(replace(DONE, trace=None)) == []


TALK = Transcript((("system", "Be brief."), ("user", f"I am ann@example.com, {SECRET}")), "Call +1 415 555 2671.")


@pytest.mark.parametrize("flavours", [(), ("langfuse",), ("openinference",), ("langfuse", "openinference")])
def test_what_was_said_is_redacted_in_every_tools_words(flavours: tuple[Flavour, ...]) -> None:
    said = str(attributes(replace(DONE, transcript=TALK), flavours=flavours))

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


def test_sampling_and_words_change_while_traces_go_on() -> None:
    exporter = InMemorySpanExporter()
    traces = Traces(replace(SETTINGS, ratio=0.0), spans=exporter)
    assert traces.begin(None) is None
    traces.settle(DONE)
    traces.change(1.0, content=False, flavours=("openinference",))
    traces.settle(replace(DONE, exchange_id="e2"))
    traces.close()
    read = spans_of([ExportTraceServiceRequest.FromString(traces.encode(exporter.get_finished_spans()))])

    assert traces.begin(None) is not None
    assert not traces.content
    assert {"e1", "e2"} == {span.attributes["edge.exchange"] for span in read}
    assert all("llm.model_name" in span.attributes for span in read)


def test_a_half_of_the_traces_is_about_a_half() -> None:
    half = sampler(0.5)

    assert 350 < sum(half.begin(None) is not None for _ in range(1000)) < 650


def test_a_librarys_exception_does_not_tell_its_text() -> None:
    context = SpanContext(1, 2, is_remote=False, trace_flags=TraceFlags(1))
    event = Event("exception", {"exception.message": "the caller's words"})
    span = ReadableSpan("x", context, events=(event,), status=Status(StatusCode.ERROR, "the caller's words"))

    encoded = ExportTraceServiceRequest.FromString(sampler(1.0).encode([span]))

    assert ["x"] == [each.name for each in spans_of([encoded])]
    assert "the caller's words" not in str(encoded)


LETTERS = st.text(max_size=300)
INT64 = st.integers(-(1 << 63), (1 << 63) - 1)


@given(
    st.dictionaries(
        LETTERS, LETTERS | st.booleans() | st.integers(-(1 << 63), (1 << 63) - 1) | st.floats(allow_nan=False)
    ),
    st.lists(LETTERS),
)
def test_every_value_is_read_as_it_was_written(values: dict[str, Any], texts: list[str]) -> None:
    told = {**values, "texts": texts}
    facts = [
        otlp.pairs(otlp.OF_SPAN, told),
        otlp.event("e", 7, otlp.pairs(otlp.OF_EVENT, values)),
    ]
    span = otlp.span(TRACE, SPAN, SPAN, otlp.named("a name"), 5, 1 << 62, facts, "why")
    read = ExportTraceServiceRequest.FromString(otlp.request({"service.name": "s"}, ("scope", "1"), [span, span]))
    one, two = spans_of([read])

    assert one == two
    assert (one.attributes, one.events) == (told, [("e", values)])
    assert (one.parent_id, one.error, one.times, one.service) == (SPAN, True, (5, 1 << 62), "s")


@given(LETTERS, st.integers(-(1 << 63), (1 << 63) - 1), st.floats(allow_nan=False), st.integers(0, 1 << 62))
def test_what_is_left_to_write_is_read_as_it_was_written(text: str, whole: int, number: float, at: int) -> None:
    slots = otlp.Slot("text").text(text) + otlp.Slot("whole").integer(whole) + otlp.Slot("number").number(number)
    stamped = otlp.Stamped("e", {"of": "it"}, "took").at(at, number)
    span = otlp.span(TRACE, SPAN, None, otlp.named("a name"), 5, 6, [slots, stamped], None)
    (read,) = spans_of([ExportTraceServiceRequest.FromString(otlp.request({"service.name": "s"}, ("s", "1"), [span]))])

    assert {"text": text, "whole": whole, "number": number} == read.attributes
    assert [("e", {"of": "it", "took": number})] == read.events
    assert not read.error


def test_a_collector_that_is_gone_costs_spans_and_nothing_else() -> None:
    class Gone(InMemorySpanExporter):
        def export(self, spans: Any) -> SpanExportResult:
            raise OSError("nobody there")

    sending = SpanQueue(Gone(), 4, every=3600.0)
    span = ReadableSpan("s")  # to make one takes a millisecond
    for _ in range(MOST + 5):
        sending.put(span)
    waiting = len(sending)
    sending.shutdown()

    assert (MOST, 5, 0) == (waiting, sending.dropped, sending.sent)
    assert 4 == sending.failed


def test_bytes_that_are_not_utf8_cannot_spoil_a_batch() -> None:
    assert attributes(replace(DONE, tenant="caf\udce9"))["edge.tenant"] == "caf\\udce9"


def test_metrics_count_only_what_config_knows_and_a_provider_was_asked() -> None:
    metrics = GenAiMetrics(Resource.get_empty(), InstrumentationScope("x"), {"openai": "openai"})
    metrics.settle(replace(DONE, stream=True, time_to_first_token=0.5))
    metrics.settle(replace(DONE, model=None))
    metrics.settle(replace(DONE, provider=None))
    metrics.settle(replace(DONE, cache="hit", usage=None))
    (resource,) = metrics.read().resource_metrics
    (scope,) = resource.scope_metrics
    points = {metric.name: list(metric.data.data_points) for metric in scope.metrics}

    assert {name: sum(point.count for point in many) for name, many in points.items()} == {
        "gen_ai.client.token.usage": 2,
        "gen_ai.client.operation.duration": 1,
        "gen_ai.client.operation.time_to_first_chunk": 1,
        "gen_ai.server.time_to_first_token": 1,
        "gen_ai.server.time_per_output_token": 1,
    }
    (first,) = points["gen_ai.server.time_to_first_token"]
    assert (first.sum, first.bucket_counts[first.explicit_bounds.index(0.5)]) == (0.5, 1)
    assert {dict(p.attributes or {})["gen_ai.request.model"] for many in points.values() for p in many} == {"gpt"}


def test_a_worker_without_traces_loads_nothing_of_them() -> None:
    code = "import sys, edge_extproc.worker.main; print([m for m in sys.modules if m.startswith('opentelemetry')])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert run.stdout.strip() == "[]"


def test_of_a_long_conversation_the_last_messages_are_told() -> None:
    asked = tuple(("user", f"{n} " + "x" * 20_000) for n in range(100))
    found = attributes(replace(DONE, transcript=Transcript(asked, "done")), content=True, flavours=("openinference",))
    told = json.loads(found["gen_ai.input.messages"])

    assert len(json.dumps(found)) < 1 << 20
    assert told[-1]["parts"][0]["content"].startswith("99 ")
    assert told[0]["parts"][0]["content"] == f"… {101 - len(told)} earlier messages"


def test_many_short_messages_are_no_thousand_attributes() -> None:
    found = attributes(
        replace(DONE, transcript=Transcript((("user", "x"),) * 5000, "")), content=True, flavours=("openinference",)
    )

    assert len(found) < 1000


def test_what_was_said_waits_within_a_bound_and_goes_out_in_parts() -> None:
    batches: list[int] = []

    class Counting(InMemorySpanExporter):
        def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
            batches.append(len(spans))
            return SpanExportResult.SUCCESS

    sending = SpanQueue(Counting(), 4, every=3600.0, weigh=lambda span: 1 << 20 if span.name == "said" else 0)
    fit = MOST_CONTENT >> 20
    for _ in range(fit + 3):
        sending.put(ReadableSpan("said"))
    sending.put(ReadableSpan("small"))
    sending.shutdown()

    assert (fit + 1, 3) == (sending.sent, sending.dropped)
    assert [1] * fit + [1] == batches

    sending.put(ReadableSpan("said"))
    assert 3 == sending.dropped  # there is room again


def test_a_talk_is_weighed() -> None:
    traces = Traces(replace(SETTINGS, content=True), spans=InMemorySpanExporter())
    traces.settle(replace(DONE, transcript=Transcript((("user", "x" * MOST_CONTENT),), "y")))
    traces.close()

    assert (0, 1) == (traces.sending.sent, traces.sending.dropped)


def test_what_an_exporter_of_metrics_raises_ends_neither_its_thread_nor_a_stop() -> None:
    exported = threading.Semaphore(0)

    class Raising(ConsoleMetricExporter):
        def export(self, *_: Any, **__: Any) -> MetricExportResult:
            exported.release()
            raise ValueError("an answer that is none")

    metrics = GenAiMetrics(Resource.get_empty(), InstrumentationScope("x"), {"openai": "openai"})
    exporting = Exporting(metrics, Raising(), every=0.001)
    again = [exported.acquire(timeout=10) for _ in range(2)]
    exporting.close()

    assert again == [True, True]
