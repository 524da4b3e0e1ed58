"""Calls of a reply whose arguments are no object, as callers of other formats get them: complete, or in a stream."""

from __future__ import annotations

import json
from typing import Any

import pytest
from crossings import CHAT, GEMINI, MESSAGES, RESPONSES, read_call
from hypothesis import given, settings
from hypothesis import strategies as st
from thoroughness import examples
from translating import LEAST, chunk, sse

from edge_extproc.dialects.dropping import lost_in
from edge_extproc.exchange.relay import CrossRelay, as_stream
from edge_extproc.model.call import Call
from edge_extproc.model.reply import Choice, Reply, fold
from edge_extproc.registry import load

BEDROCK = "bedrock_converse"
DIALECTS = {name: load("dialects", name) for name in (CHAT, RESPONSES, MESSAGES, GEMINI, BEDROCK)}
WITH_OBJECTS = (MESSAGES, GEMINI, BEDROCK)
EVERY = (*WITH_OBJECTS, RESPONSES)
CUT = ["{", '{"city": "Ro', '{"city": "Rome}', '{"a": [1, {"b": 2}', '{"a": "\\', '  {"a": {}']
OTHERS = ["[1]", "Rome", '"Rome"', "7"]
BROKEN = ['{"a": 1,}', "{'a': 1}", '{"a": "x\ny"}', '{"a": 1}{"a": 1}', "{}}"]


def call_of(arguments: str) -> dict[str, Any]:
    return {"index": 0, "id": "call_1", "type": "function", "function": {"name": "f", "arguments": arguments}}


def answer(arguments: str, finish: str) -> Reply:
    message = {"role": "assistant", "content": "so", "tool_calls": [call_of(arguments)]}
    choice = {"index": 0, "message": message, "finish_reason": finish}
    return DIALECTS[CHAT].read_reply(json.dumps({"id": "c", "model": "m", "choices": [choice]}).encode())


def request(target: str) -> Call:
    if target == BEDROCK:
        return Call(target, "chat", "m", stream=True, raw=b"{}")
    return read_call(target, json.dumps({**LEAST[target], "stream": True}).encode(), "m", stream=True)


def read_again(target: str, wire: bytes) -> Choice:
    dialect = DIALECTS[target]
    reader = dialect.reader(dialect.stream_type)
    events = [event for frame in reader.frames(wire) for event in reader.read(frame)] + reader.close()[1]
    return fold(target, events).choices[0]


def complete(target: str, arguments: str, finish: str) -> Choice:
    reply = answer(arguments, finish)
    return DIALECTS[target].read_reply(DIALECTS[target].write_reply(reply)).choices[0]


def streamed(target: str, arguments: list[str], finish: str) -> Choice:
    dialect = DIALECTS[target]
    reader, writer = DIALECTS[CHAT].reader("text/event-stream"), dialect.writer(request(target))
    relay = CrossRelay(reader, writer, can_contain=dialect.can_contain)
    first, *more = arguments
    pieces = [chunk({"tool_calls": [{"index": 0, "function": {"arguments": piece}}]}) for piece in more]
    wire = sse(chunk({"content": "so"}), chunk({"tool_calls": [call_of(first)]}), *pieces, chunk({}, finish), "[DONE]")
    return read_again(target, relay.feed(wire) + relay.close())


def as_a_stream(target: str, arguments: str, finish: str) -> Choice:
    return read_again(target, as_stream(answer(arguments, finish), request(target), DIALECTS[target])[0])


def reason(choice: Choice) -> str | None:
    return choice.finish.reason if choice.finish is not None else None


def inputs(choice: Choice) -> list[Any]:
    return [json.loads(part.arguments) for part in choice.parts if hasattr(part, "arguments")]


@pytest.mark.parametrize("target", EVERY)
@pytest.mark.parametrize("arguments", CUT)
@pytest.mark.parametrize("finish", ["tool_calls", "stop", "function_call"])
def test_a_reply_with_a_call_that_was_cut_off_ends_at_a_limit(target: str, arguments: str, finish: str) -> None:
    assert "length" == reason(complete(target, arguments, finish))
    assert "length" == reason(streamed(target, [arguments], finish))
    assert "length" == reason(streamed(target, list(arguments), finish))
    assert "length" == reason(as_a_stream(target, arguments, finish))


@pytest.mark.parametrize("target", WITH_OBJECTS)
@pytest.mark.parametrize("arguments", CUT)
def test_a_complete_reply_leaves_out_and_names_a_call_that_was_cut_off(target: str, arguments: str) -> None:
    assert [] == inputs(complete(target, arguments, "tool_calls"))
    assert ("reply.toolcall",) == lost_in(answer(arguments, "tool_calls"), DIALECTS[target])


@pytest.mark.parametrize("arguments", CUT)
def test_openais_formats_keep_the_text_of_a_call_that_was_cut_off(arguments: str) -> None:
    written = json.loads(DIALECTS[RESPONSES].write_reply(answer(arguments, "tool_calls")))
    item = written["output"][-1]

    assert ("incomplete", arguments) == (item["status"], item["arguments"])
    assert () == lost_in(answer(arguments, "tool_calls"), DIALECTS[RESPONSES])


@pytest.mark.parametrize("finish", ["tool_calls", "length"])
@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["{", "{}"], ["incomplete", "completed"]),
        (["{}", "{"], ["completed", "incomplete"]),
        (["{", '{"a":'], ["incomplete", "incomplete"]),
    ],
)
def test_a_responses_item_is_incomplete_if_its_own_call_was_cut_off(
    arguments: list[str], expected: list[str], finish: str
) -> None:
    """A client may execute the completed ones."""
    calls = [{**call_of(text), "index": i, "id": f"call_{i}"} for i, text in enumerate(arguments)]
    choice = {"index": 0, "message": {"role": "assistant", "tool_calls": calls}, "finish_reason": finish}
    reply = DIALECTS[CHAT].read_reply(json.dumps({"id": "c", "model": "m", "choices": [choice]}).encode())
    written = json.loads(DIALECTS[RESPONSES].write_reply(reply))
    wire = as_stream(reply, request(RESPONSES), DIALECTS[RESPONSES])[0].decode()
    events = [json.loads(line.removeprefix("data: ")) for line in wire.splitlines() if line.startswith("data: {")]
    done = [event["item"]["status"] for event in events if event["type"] == "response.output_item.done"]
    last = [item["status"] for item in events[-1]["response"]["output"]]

    assert [expected] * 3 == [[item["status"] for item in written["output"]], done, last]


@pytest.mark.parametrize("target", WITH_OBJECTS)
@pytest.mark.parametrize("arguments", OTHERS)
def test_arguments_that_begin_no_object_are_a_text_in_one(target: str, arguments: str) -> None:
    expected = ("tool_calls", [{"raw_arguments": arguments}])

    for choice in (
        complete(target, arguments, "tool_calls"),
        streamed(target, [arguments], "tool_calls"),
        streamed(target, ["", *arguments], "tool_calls"),
        as_a_stream(target, arguments, "tool_calls"),
    ):
        assert expected == (reason(choice), inputs(choice))
    assert ("reply.toolcall",) == lost_in(answer(arguments, "tool_calls"), DIALECTS[target])


@pytest.mark.parametrize("target", WITH_OBJECTS)
@pytest.mark.parametrize("arguments", BROKEN)
def test_an_object_with_an_error_is_a_text_in_one(target: str, arguments: str) -> None:
    choice = complete(target, arguments, "tool_calls")

    assert ("tool_calls", [{"raw_arguments": arguments}]) == (reason(choice), inputs(choice))


@pytest.mark.parametrize("target", WITH_OBJECTS)
@pytest.mark.parametrize("arguments", ["null", "{}", '{"a":"}{"}', ' {"a":[]}'])
def test_arguments_that_can_be_read_are_the_input(target: str, arguments: str) -> None:
    expected = ("tool_calls", [json.loads(arguments) or {}])

    assert expected == (reason(complete(target, arguments, "tool_calls")), inputs(complete(target, arguments, "stop")))
    for pieces in ([arguments], list(arguments)):
        choice = streamed(target, pieces, "tool_calls")
        assert expected == (reason(choice), inputs(choice))


@settings(max_examples=examples(100))
@given(st.dictionaries(st.text(max_size=3), st.recursive(st.text() | st.integers() | st.none(), st.lists)), st.data())
def test_every_beginning_of_an_object_was_cut_off(value: dict[str, Any], data: st.DataObject) -> None:
    text = json.dumps(value, ensure_ascii=data.draw(st.booleans()))
    cut = text[: data.draw(st.integers(1, len(text) - 1))]

    assert "length" == reason(complete(MESSAGES, cut, "tool_calls"))


def test_long_arguments_in_small_pieces_are_read_in_linear_time() -> None:
    text = "x" * 50_000

    assert [{"raw_arguments": text}] == inputs(streamed(MESSAGES, list(text), "tool_calls"))
