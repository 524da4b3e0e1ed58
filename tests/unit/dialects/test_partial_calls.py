"""Function calls whose arguments Gemini streams in pieces, for callers of other formats."""

from __future__ import annotations

import json
from typing import Any

import pytest
from translating import CHAT, GEMINI, MESSAGES, RESPONSES, caller_stream, stream_events, whole

from edge_extproc.model.content import Text, ToolCall
from edge_extproc.model.reply import Ended, Garbled


def chunk(*parts: Any, finish: str | None = None) -> dict[str, Any]:
    end = {"finishReason": finish} if finish else {}
    return {"candidates": [{"index": 0, "content": {"role": "model", "parts": list(parts)}, **end}], "responseId": "r"}


def piece(*values: Any, more: bool = True, **fields: Any) -> dict[str, Any]:
    call = {**fields, **({"partialArgs": list(values)} if values else {}), **({"willContinue": True} if more else {})}
    return {"functionCall": call}


def at(path: str, text: str | None = None, more: bool = False, **value: Any) -> dict[str, Any]:
    held = {"stringValue": text} if text is not None else value
    return {"jsonPath": path, **held, **({"willContinue": True} if more else {})}


END = piece(more=False)
STREAM = (
    chunk({"text": "Let me look."}),
    chunk({**piece(name="weather", id="c1"), "thoughtSignature": "c2ln"}),
    chunk(piece(at("$.city", "New ", more=True))),
    chunk(piece(at("$.city", "Delhi", more=True)), piece(at("$.city", ""))),
    chunk(piece(at("$.days", numberValue=3), at("$.exact", boolValue=True), at("$.unit", nullValue="NULL_VALUE"))),
    chunk(piece(at("$.at[0].lat", numberValue=1.5)), piece(at("$['at'][0]['the.lon']", numberValue=2))),
    chunk(END, finish="STOP"),
)
ARGUMENTS = {"city": "New Delhi", "days": 3, "exact": True, "unit": None, "at": [{"lat": 1.5, "the.lon": 2}]}


def calls_of(*chunks: Any) -> list[ToolCall]:
    events = stream_events(GEMINI, *chunks)
    assert isinstance(events[-1], Ended)
    return [part for part in whole(GEMINI, events).choices[0].parts if isinstance(part, ToolCall)]


def test_pieces_become_one_call() -> None:
    text, call = whole(GEMINI, stream_events(GEMINI, *STREAM)).choices[0].parts

    assert isinstance(text, Text)
    assert isinstance(call, ToolCall)
    assert ("c1", "weather", "c2ln") == (call.id, call.name, call.signature)
    assert ARGUMENTS == json.loads(call.arguments)


@pytest.mark.parametrize("target", [CHAT, MESSAGES, RESPONSES, GEMINI])
def test_each_caller_gets_the_whole_call(target: str) -> None:
    wire = json.dumps(caller_stream(target, stream_events(GEMINI, *STREAM)))

    assert "weather" in wire
    assert "New Delhi" in wire
    assert "partialArgs" not in wire


def test_parallel_calls_are_two() -> None:
    first, second = calls_of(
        chunk(piece(name="f")),
        chunk(piece(at("$.a", "1")), END),
        chunk(piece(name="g")),
        chunk(piece(at("$.b", "2"), more=False)),
        chunk(finish="STOP"),
    )

    assert ("f", {"a": "1"}, "g", {"b": "2"}) == (
        first.name,
        json.loads(first.arguments),
        second.name,
        json.loads(second.arguments),
    )
    assert first.id != second.id


def test_a_call_ends_where_the_next_one_begins_or_the_reply_ends() -> None:
    first, second = calls_of(
        chunk(piece(name="f")),
        chunk(piece(at("$.a", "1"))),
        chunk({"functionCall": {"name": "g", "args": {}}}, finish="STOP"),
    )
    assert ("f", {"a": "1"}, "g") == (first.name, json.loads(first.arguments), second.name)

    (only,) = calls_of(chunk(piece(name="f")), chunk(piece(at("$.a", "1"))), chunk(finish="STOP"))
    assert {"a": "1"} == json.loads(only.arguments)


def test_a_call_that_was_cut_off_is_not_executed() -> None:
    cut = (chunk(piece(name="f")), chunk(piece(at("$.a", "1", more=True))), chunk(finish="MAX_TOKENS"))
    (call,) = calls_of(*cut)
    assert '{"a":"1"' == call.arguments

    stream = caller_stream(MESSAGES, stream_events(GEMINI, *cut))
    assert "max_tokens" == next(each["delta"]["stop_reason"] for each in stream if each["type"] == "message_delta")


def test_names_in_snake_case_are_read_too() -> None:
    value = {"json_path": "$.a", "string_value": "1"}
    (call,) = calls_of(
        chunk({"function_call": {"name": "f", "will_continue": True}}),
        chunk({"function_call": {"partial_args": [value]}}),
        chunk(finish="STOP"),
    )

    assert ("f", {"a": "1"}) == (call.name, json.loads(call.arguments))


@pytest.mark.parametrize("path", ["", "$", "a", "$[0]", "$..a", "$.a[*]", "$.a[b]", "$.a.b", "$.list.x"])
def test_a_path_that_names_no_argument_is_reported(path: str) -> None:
    events = stream_events(
        GEMINI,
        chunk(piece(name="f")),
        chunk(piece(at("$.a", "1"), at("$.list[0]", "1"), at(path, "2"), more=False), finish="STOP"),
    )

    assert any(isinstance(event, Garbled) for event in events)
    assert isinstance(events[-1], Ended)
