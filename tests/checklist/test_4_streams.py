"""Streams: what is read however it comes, and the order in which each SDK wants to be told. One test for each entry."""

from __future__ import annotations

import json
from typing import Any

import anthropic_grammar
import chat_grammar
import pytest
import responses_grammar
from crossings import DIALECTS, events_of, read_call
from translating import (
    CHAT,
    EVERY,
    GEMINI,
    LEAST,
    MESSAGES,
    RESPONSES,
    caller_stream,
    chunk,
    cross,
    growing,
    objects,
    sse,
    stream_events,
    whole,
)

from edge_extproc.model.content import RedactedThinking, Text, Thinking, ToolCall
from edge_extproc.model.fault import Fault
from edge_extproc.model.reply import (
    Ended,
    Failed,
    Finish,
    Finished,
    Garbled,
    PartDelta,
    PartEnded,
    PartStarted,
    Ping,
    ReplyEvent,
    ReplyStarted,
    UsageSeen,
)
from edge_extproc.model.usage import Usage

DONE = "[DONE]"
LESS = {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4}
USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}


def call_delta(index: int | None, arguments: str, id: str | None = None, name: str | None = None) -> dict[str, Any]:
    function = {"arguments": arguments, **({"name": name} if name else {})}
    call = {"function": function, **({"id": id, "type": "function"} if id else {})}
    return {"tool_calls": [call if index is None else {"index": index, **call}]}


def text_of(events: list[ReplyEvent]) -> str:
    return "".join(event.text for event in events if isinstance(event, PartDelta))


def calls_of(events: list[ReplyEvent]) -> list[tuple[str, str, str]]:
    reply = whole(CHAT, events)
    return [(p.id, p.name, p.arguments) for p in reply.choices[0].parts if isinstance(p, ToolCall)]


def wire_for(target: str, events: list[ReplyEvent]) -> bytes:
    raw = json.dumps({**LEAST[target], "stream": True, "stream_options": {"include_usage": True}}).encode()
    writer = DIALECTS[target].writer(read_call(target, raw, "m", stream=True))
    return b"".join(writer.write(event) for event in events)


# --- reading


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
@pytest.mark.parametrize("colon", [b"data: ", b"data:"])
@pytest.mark.parametrize("size", [1, 7, 0])
def test_4_1_lines_end_in_three_ways_and_are_cut_anywhere(end: bytes, colon: bytes, size: int) -> None:
    wire = sse(chunk({"content": "å—✓"}), chunk({"content": "b"}, "stop"), DONE)
    wire = b": OPENROUTER PROCESSING\n\n" + wire.replace(b"data: ", colon)

    events = events_of(DIALECTS[CHAT], wire.replace(b"\n", end), size)

    assert "å—✓b" == text_of(events)
    assert isinstance(events[-1], Ended)


def test_4_1_the_last_event_may_lack_its_blank_line() -> None:
    wire = sse(chunk({"content": "a"}), chunk({}, "stop"), DONE)

    assert isinstance(events_of(DIALECTS[CHAT], wire.rstrip(b"\n"))[-1], Ended)


def test_4_1_data_may_stand_on_several_lines() -> None:
    wire = json.dumps(chunk({"content": "a"}, "stop"), indent=1).replace("\n", "\ndata: ")

    assert "a" == text_of(events_of(DIALECTS[CHAT], f"data: {wire}\n\ndata: [DONE]\n\n".encode()))


def test_4_2_done_may_be_missing_where_the_finish_was_told() -> None:
    assert isinstance(stream_events(CHAT, chunk({"content": "a"}), chunk({}, "stop"))[-1], Ended)


@pytest.mark.parametrize(
    ("source", "values"),
    [
        (CHAT, [chunk({"content": "a"})]),
        (RESPONSES, [{"type": "response.created", "response": {"id": "r", "output": []}}]),
        (
            MESSAGES,
            [{"type": "message_start", "message": {"id": "m", "model": "m", "content": [], "usage": {}}}],
        ),
        (GEMINI, [{"candidates": [{"content": {"parts": [{"text": "a"}]}}]}]),
    ],
)
def test_4_2_a_stream_that_stops_without_a_finish_is_torn(source: str, values: list[Any]) -> None:
    events = stream_events(source, *values)

    assert isinstance(events[-1], Failed)


def test_4_3_a_chunk_that_cannot_be_read_is_skipped_and_counted() -> None:
    wire = sse(chunk({"content": "a"})) + b"data: {oops\n\n" + sse(chunk({"content": "b"}, "stop"), DONE)

    events = events_of(DIALECTS[CHAT], wire)

    assert "ab" == text_of(events)
    assert 1 == sum(isinstance(event, Garbled) for event in events)
    assert isinstance(events[-1], Ended)


@pytest.mark.parametrize(
    ("source", "value", "kind"),
    [
        (CHAT, {"error": {"message": "Failed to call a function", "code": "tool_use_failed"}}, "invalid_request"),
        (CHAT, {**chunk({}), "error": {"message": "gone", "code": 502}}, "api"),
        (MESSAGES, {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}, "overloaded"),
        (RESPONSES, {"type": "error", "code": "rate_limit_exceeded", "message": "slow"}, "rate_limit"),
        (GEMINI, {"error": {"code": 503, "status": "UNAVAILABLE", "message": "busy"}}, "overloaded"),
    ],
)
def test_4_3_an_error_within_a_chunk_is_an_error(source: str, value: Any, kind: str) -> None:
    events = stream_events(source, value)

    assert isinstance(events[-1], Failed)
    assert kind == events[-1].fault.kind


def test_4_5_gemini_streams_as_events_or_as_a_growing_array() -> None:
    chunks = [
        {"candidates": [{"content": {"parts": [{"text": "a"}]}}]},
        {"candidates": [{"content": {"parts": [{"text": "b"}]}, "finishReason": "STOP"}]},
    ]
    array = json.dumps(chunks, indent=2).encode()

    assert stream_events(GEMINI, *chunks) == events_of(DIALECTS[GEMINI], array, 3)


def test_4_6_a_first_chunk_without_choices_begins_nothing() -> None:
    filters = {**chunk({}), "choices": [], "prompt_filter_results": [{"prompt_index": 0}]}

    chunks = caller_stream(
        CHAT, stream_events(CHAT, filters, chunk({"role": "assistant", "content": "a"}), chunk({}, "stop"), DONE)
    )

    assert 1 == sum("role" in choice["delta"] for each in chunks[:-1] for choice in each["choices"])
    kinds = [
        e["type"] for e in caller_stream(MESSAGES, stream_events(CHAT, filters, chunk({"content": "a"}, "stop"), DONE))
    ]
    assert ["message_start", "content_block_start", "content_block_delta", "content_block_stop"] == kinds[:4]


@pytest.mark.parametrize(
    "values",
    [
        [chunk({"content": "a"}), chunk({}, "stop"), {**chunk({}), "choices": [], "usage": USAGE}],
        [chunk({"content": "a"}), chunk({}, "stop", usage=USAGE)],
        [chunk({"content": "a"}, usage=LESS), chunk({}, "stop", usage=USAGE)],
        [chunk({"content": "a"}), chunk({}, "stop", x_groq={"usage": USAGE})],
    ],
)
def test_4_7_usage_is_the_last_one_told_wherever_it_stands(values: list[Any]) -> None:
    assert Usage(input=3, output=2) == whole(CHAT, stream_events(CHAT, *values, DONE)).usage


def test_4_8_a_finish_that_is_told_twice_is_told_once() -> None:
    events = stream_events(CHAT, chunk({"content": "a"}), chunk({}, "stop"), chunk({}, "stop", usage=USAGE), DONE)

    finishes = [
        c["finish_reason"] for each in caller_stream(CHAT, events)[:-1] for c in each["choices"] if c["finish_reason"]
    ]
    assert ["stop"] == finishes


def test_4_9_calls_without_an_index_are_told_apart_by_their_id() -> None:
    events = stream_events(
        CHAT,
        chunk(call_delta(None, '{"a":1}', "c1", "f")),
        chunk(call_delta(None, '{"b":2}', "c2", "g")),
        chunk({}, "tool_calls"),
        DONE,
    )

    assert [("c1", "f", '{"a":1}'), ("c2", "g", '{"b":2}')] == calls_of(events)


# --- telling OpenAI's chunks

MIXED = (
    Thinking("Hm", "s"),
    RedactedThinking("c2VhbA=="),
    Text("Wait"),
    ToolCall("c1", "f", '{"a":1}'),
    ToolCall("c2", "g", ""),
)


def test_4_10_the_role_comes_once_and_everything_is_of_one_choice() -> None:
    chunks = chat_grammar.hold_to_the_grammar(wire_for(CHAT, growing(*MIXED, finish="tool_calls")))

    assert {0} == {choice["index"] for each in chunks for choice in each["choices"]}


def test_4_11_calls_are_counted_from_0_and_named_once() -> None:
    chunks = caller_stream(CHAT, growing(*MIXED, finish="tool_calls"))[:-1]
    deltas = [c for each in chunks for choice in each["choices"] for c in choice["delta"].get("tool_calls", ())]

    assert [(0, "c1", "f"), (1, "c2", "g")] == [
        (each["index"], each["id"], each["function"]["name"]) for each in deltas if "id" in each
    ]
    arguments = ["".join(d["function"]["arguments"] for d in deltas if d["index"] == i) for i in (0, 1)]
    assert ['{"a":1}', "{}"] == arguments


def test_4_12_thinking_is_shown_and_its_signature_comes_with_the_block() -> None:
    chunks = caller_stream(CHAT, growing(*MIXED, finish="tool_calls"))[:-1]
    deltas = [choice["delta"] for each in chunks for choice in each["choices"]]

    assert "Hm" == "".join(delta.get("reasoning_content", "") for delta in deltas)
    assert "Wait" == "".join(delta.get("content") or "" for delta in deltas)
    assert [
        {"type": "thinking", "thinking": "Hm", "signature": "s"},
        {"type": "redacted_thinking", "data": "c2VhbA=="},
    ] == [block for delta in deltas for block in delta.get("thinking_blocks", ())]


@pytest.mark.parametrize("target", EVERY)
def test_4_13_a_ping_says_nothing(target: str) -> None:
    events = growing(Text("a"))
    pinged = [events[0], Ping(), *events[1:], Ping()] if target == CHAT else [events[0], Ping(), *events[1:]]

    without, with_ = wire_for(target, events), wire_for(target, pinged)
    if target == MESSAGES:
        anthropic_grammar.hold_to_the_grammar(anthropic_grammar.objects(with_))
        assert ["ping"] == [v["type"] for v in objects(with_) if v not in objects(without)]
    else:
        assert [v for v in objects(without) if v != DONE] == [v for v in objects(with_) if v != DONE]


@pytest.mark.parametrize("source", [CHAT, MESSAGES])
def test_4_14_deltas_then_the_finish_then_usage_then_done(source: str) -> None:
    events = [UsageSeen(Usage(input=1)), *growing(Text("a"), source=source, usage=Usage(input=3, output=2))]
    chunks = caller_stream(CHAT, events)

    assert DONE == chunks[-1]
    assert ([], 5) == (chunks[-2]["choices"], chunks[-2]["usage"]["total_tokens"])
    assert "stop" == chunks[-3]["choices"][0]["finish_reason"]
    assert 1 == sum(bool(each.get("usage")) for each in chunks[:-1])
    assert not any(each.get("usage") for each in caller_stream(CHAT, events, usage=False)[:-1])


def test_4_15_a_call_of_gemini_is_remembered_until_the_finish_comes() -> None:
    def call(name: str) -> dict[str, Any]:
        return {"candidates": [{"content": {"parts": [{"functionCall": {"name": name, "args": {}}}]}}]}

    end = {"candidates": [{"content": {"parts": [{"text": ""}]}, "finishReason": "STOP"}]}
    chunks = caller_stream(CHAT, stream_events(GEMINI, call("f"), call("g"), end))[:-1]
    choices = [choice for each in chunks for choice in each["choices"]]

    assert "tool_calls" == choices[-1]["finish_reason"]
    begun = [c for choice in choices for c in choice["delta"].get("tool_calls", ()) if "id" in c]
    assert [(0, "f"), (1, "g")] == [(c["index"], c["function"]["name"]) for c in begun]


def test_4_15_a_finish_without_content_is_told_and_a_stop_in_between_is_not() -> None:
    def piece(text: str, finish: str | None = None) -> dict[str, Any]:
        candidate: dict[str, Any] = {"content": {"parts": [{"text": text}]}}
        return {"candidates": [{**candidate, **({"finishReason": finish} if finish else {})}]}

    limit = caller_stream(CHAT, stream_events(GEMINI, piece("a"), {"candidates": [{"finishReason": "MAX_TOKENS"}]}))
    twice = caller_stream(CHAT, stream_events(GEMINI, piece("a", "STOP"), piece("b", "STOP")))

    assert "length" == limit[-2]["choices"][0]["finish_reason"]
    chat_grammar.hold_to_the_grammar(sse(*twice))
    assert "ab" == "".join(c["delta"].get("content") or "" for each in twice[:-1] for c in each["choices"])


# --- telling Anthropic's events


def test_4_16_one_block_is_open_at_a_time_and_none_is_empty() -> None:
    events = anthropic_grammar.objects(wire_for(MESSAGES, growing(*MIXED, source=CHAT, finish="tool_calls")))

    anthropic_grammar.hold_to_the_grammar(events)
    blocks = [event["content_block"]["type"] for event in events if event["type"] == "content_block_start"]
    assert ["thinking", "redacted_thinking", "text", "tool_use", "tool_use"] == blocks


def test_4_16_a_role_and_empty_content_open_no_block() -> None:
    values = [
        chunk({"role": "assistant", "content": ""}),
        chunk(call_delta(0, "{}", "c", "f")),
        chunk({}, "tool_calls"),
    ]
    events = caller_stream(MESSAGES, stream_events(CHAT, *values, DONE))

    assert ["tool_use"] == [e["content_block"]["type"] for e in events if e["type"] == "content_block_start"]


def test_4_17_thinking_stays_within_its_block_and_sealed_thinking_has_no_delta() -> None:
    events = caller_stream(MESSAGES, growing(Thinking("Hm", "s"), RedactedThinking("c2VhbA=="), Text("a"), source=CHAT))
    first, sealed = (
        [e["delta"]["type"] for e in events if e["type"] == "content_block_delta" and e["index"] == index]
        for index in (0, 1)
    )

    assert ["thinking_delta", "signature_delta"] == first
    assert [] == sealed


def test_4_20_interleaved_calls_wait_for_each_other_and_lose_nothing() -> None:
    values = [
        chunk(call_delta(0, '{"a"', "c1", "f")),
        chunk(call_delta(1, '{"b"', "c2", "g")),
        chunk(call_delta(0, ":1}")),
        chunk(call_delta(1, ":2}")),
        chunk({}, "tool_calls"),
        DONE,
    ]
    wire = wire_for(MESSAGES, stream_events(CHAT, *values))

    anthropic_grammar.hold_to_the_grammar(anthropic_grammar.objects(wire))
    assert [("c1", "f", '{"a":1}'), ("c2", "g", '{"b":2}')] == calls_of(events_of(DIALECTS[MESSAGES], wire))


def test_4_21_usage_that_is_known_at_the_end_is_told_at_the_end() -> None:
    usage = Usage(input=3, cache_read=5, output=2)
    events = caller_stream(MESSAGES, growing(Text("a"), source=CHAT, usage=usage))

    assert 0 == events[0]["message"]["usage"]["output_tokens"]
    end = next(event for event in events if event["type"] == "message_delta")["usage"]
    assert (3, 5, 2) == (end["input_tokens"], end["cache_read_input_tokens"], end["output_tokens"])


def test_4_21_counts_of_anthropic_replace_each_other_and_what_is_not_told_stays() -> None:
    def delta(**usage: int) -> dict[str, Any]:
        return {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, **({"usage": usage} if usage else {})}

    usage = {"input_tokens": 9, "cache_read_input_tokens": 4, "output_tokens": 1}
    start = {"type": "message_start", "message": {"id": "m", "model": "m", "content": [], "usage": usage}}

    events = stream_events(
        MESSAGES, start, delta(output_tokens=5), delta(output_tokens=7), delta(), {"type": "message_stop"}
    )

    assert Usage(input=9, cache_read=4, output=7) == whole(MESSAGES, events).usage


@pytest.mark.parametrize("target", EVERY)
def test_4_22_a_stream_is_told_as_an_event_stream(target: str) -> None:
    assert DIALECTS[target].stream_type.startswith("text/event-stream")


# --- the Responses API


def test_4_23_a_stream_of_responses_keeps_to_its_order() -> None:
    final = responses_grammar.check(wire_for(RESPONSES, growing(*MIXED, finish="tool_calls", usage=Usage(input=3))))

    assert ["reasoning", "reasoning", "message", "function_call", "function_call"] == [
        o["type"] for o in final["output"]
    ]
    assert 3 == final["usage"]["input_tokens"]


def test_4_23_an_answer_that_was_cut_off_is_incomplete_and_counted() -> None:
    events = [*growing(Text("a"), finish="length", usage=Usage(input=3, output=2))]
    final = responses_grammar.check(wire_for(RESPONSES, events))

    assert ("incomplete", "max_output_tokens", 5) == (
        final["status"],
        final["incomplete_details"]["reason"],
        final["usage"]["total_tokens"],
    )
    assert responses_grammar.check(wire_for(RESPONSES, growing(Text("a"))))["usage"] is None


@pytest.mark.parametrize(
    ("kind", "index"), [("reasoning_text", "content_index"), ("reasoning_summary_text", "summary_index")]
)
def test_4_23_both_ways_to_stream_reasoning_are_thinking(kind: str, index: str) -> None:
    item = {"id": "rs", "type": "reasoning", "summary": []}
    text = {"id": "msg", "type": "message", "role": "assistant", "status": "completed", "content": []}
    events = stream_events(
        RESPONSES,
        {"type": "response.created", "response": {"id": "r", "model": "m", "output": []}},
        {"type": "response.output_item.added", "output_index": 0, "item": item},
        {"type": f"response.{kind}.delta", "output_index": 0, "item_id": "rs", index: 0, "delta": "Hm"},
        {"type": f"response.{kind}.done", "output_index": 0, "item_id": "rs", index: 0, "text": "Hm"},
        {"type": "response.output_item.done", "output_index": 0, "item": item},
        {"type": "response.output_item.added", "output_index": 1, "item": text},
        {"type": "response.output_text.delta", "output_index": 1, "item_id": "msg", "content_index": 0, "delta": "a"},
        {"type": "response.completed", "response": {"id": "r", "model": "m", "status": "completed", "output": []}},
    )

    assert [Thinking("Hm"), Text("a")] == [
        type(part)(part.text)  # type: ignore[union-attr, call-arg]
        for part in whole(RESPONSES, events).choices[0].parts
    ]


def test_4_23_the_effort_is_all_that_a_chat_host_is_told_of_reasoning() -> None:
    body, dropped = cross(RESPONSES, CHAT, reasoning={"effort": "low", "summary": "auto"})

    assert ("low", ("reasoning.summary",)) == (body["reasoning_effort"], dropped)


def test_4_23_calls_and_results_of_responses_are_turns_of_a_chat() -> None:
    call = {"type": "function_call", "name": "f", "arguments": "{}"}
    items = [
        {"role": "user", "content": "Hi"},
        {"type": "reasoning", "id": "rs", "summary": [{"type": "summary_text", "text": "Hm"}]},
        {**call, "call_id": "a"},
        {**call, "call_id": "b"},
        {"type": "function_call_output", "call_id": "a", "output": "1"},
        {"type": "function_call_output", "call_id": "b", "output": "2"},
    ]
    body, _ = cross(RESPONSES, CHAT, input=items)

    assert ["user", "assistant", "tool", "tool"] == [message["role"] for message in body["messages"]]
    assert ["a", "b"] == [each["id"] for each in body["messages"][1]["tool_calls"]]


@pytest.mark.parametrize("size", [1, 16, 0])
def test_4_24_the_last_event_in_pieces_still_tells_the_usage(size: int) -> None:
    wire = wire_for(RESPONSES, growing(Text("a"), usage=Usage(input=3, output=2)))

    assert Usage(input=3, output=2) == whole(RESPONSES, events_of(DIALECTS[RESPONSES], wire, size)).usage


# --- broken streams (chapter 5, entry 7)


@pytest.mark.parametrize("target", EVERY)
def test_5_7_a_stream_that_breaks_ends_in_the_callers_error_and_never_cleanly(target: str) -> None:
    fault = Fault(503, "overloaded", "busy")
    events = [ReplyStarted("r", "m"), PartStarted(0, "text"), PartDelta(0, "a"), Failed(fault)]
    wire = wire_for(target, [*events, PartEnded(0), Finished(Finish("stop")), Ended()])

    assert b"busy" in wire
    for clean in (b"[DONE]", b"message_stop", b"response.completed", b"finishReason", b'"end_turn"'):
        assert clean not in wire
    last = events_of(DIALECTS[target], wire)[-1]
    assert isinstance(last, Failed)
    assert "overloaded" == last.fault.kind
    if target == MESSAGES:
        assert b"event: error" in wire
