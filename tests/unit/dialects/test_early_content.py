"""Content that Anthropic tells within message_start, as it does for turns that go on with what was begun before."""

from __future__ import annotations

import json
from typing import Any

import pytest
from translating import EVERY, MESSAGES, RESPONSES, caller_stream, stream_events, whole

from edge_extproc.dialects.bedrock_converse import PLUGIN as BEDROCK
from edge_extproc.model.call import Call
from edge_extproc.model.content import Text, ToolCall
from edge_extproc.model.reply import Ended, Finish

CALL = {
    "type": "tool_use",
    "id": "toolu_01A",
    "name": "roll",
    "input": {"who": "two"},
    "caller": {"type": "code_execution_20250825", "tool_id": "srvtoolu_01A"},
}


def started(*content: Any, reason: str | None = "tool_use") -> dict[str, Any]:
    message = {"id": "msg_01A", "type": "message", "role": "assistant", "model": "m", "content": list(content)}
    usage = {"input_tokens": 0, "output_tokens": 0}
    return {"type": "message_start", "message": {**message, "stop_reason": reason, "usage": usage}}


STOP = {"type": "message_stop"}


def test_a_call_within_message_start_is_read_with_its_finish() -> None:
    events = stream_events(MESSAGES, started(CALL), STOP)
    (choice,) = whole(MESSAGES, events).choices
    (call,) = choice.parts

    assert isinstance(events[-1], Ended)
    assert isinstance(call, ToolCall)
    assert ("toolu_01A", "roll", {"who": "two"}) == (call.id, call.name, json.loads(call.arguments))
    assert Finish("tool_calls", "tool_use") == choice.finish


@pytest.mark.parametrize("target", EVERY)
def test_every_caller_gets_the_call_and_its_finish(target: str) -> None:
    values = caller_stream(target, stream_events(MESSAGES, started(CALL), STOP))
    text = json.dumps(values)

    assert "roll" in text
    assert "two" in text
    match target:
        case "openai_chat":
            assert "tool_calls" in [v["choices"][0]["finish_reason"] for v in values if v != "[DONE]" and v["choices"]]
        case "openai_responses":
            assert "completed" == values[-1]["response"]["status"]
        case "anthropic_messages":
            assert ["tool_use"] == [v["delta"]["stop_reason"] for v in values if v["type"] == "message_delta"]
        case _:
            assert "STOP" == values[-1]["candidates"][0]["finishReason"]


def test_a_caller_of_converse_gets_the_call_and_its_finish() -> None:
    writer = BEDROCK.writer(Call(BEDROCK.name, "chat", "m", stream=True, raw=b"{}"))
    wire = b"".join(writer.write(event) for event in stream_events(MESSAGES, started(CALL), STOP))

    assert b"roll" in wire
    assert b'"stopReason":"tool_use"' in wire


def test_blocks_that_come_later_stand_beside_those_of_the_start() -> None:
    block = {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": "later"}}
    end = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}}
    events = stream_events(
        MESSAGES,
        started({"type": "text", "text": "early"}, reason=None),
        block,
        {"type": "content_block_stop", "index": 0},
        end,
        STOP,
    )
    (choice,) = whole(MESSAGES, events).choices

    assert (Text("early"), Text("later")) == choice.parts
    assert Finish("stop", "end_turn") == choice.finish


def test_a_finish_that_comes_later_replaces_that_of_the_start() -> None:
    end = {"type": "message_delta", "delta": {"stop_reason": "max_tokens"}}
    (choice,) = whole(MESSAGES, stream_events(MESSAGES, started(CALL), end, STOP)).choices

    assert Finish("length", "max_tokens") == choice.finish


@pytest.mark.parametrize(
    ("caller", "kept"),
    [
        ({"type": "program", "caller_id": "call_00a"}, False),
        ("program", False),
        ({"type": "direct"}, True),
        ({"type": "code_execution_20250825", "tool_id": "srvtoolu_1"}, True),
    ],
)
def test_the_caller_of_a_call_is_told_where_it_is_anthropics(caller: Any, kept: bool) -> None:
    item = {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "stock", "arguments": "{}"}
    item["caller"] = caller
    response = {"id": "resp_1", "object": "response", "status": "completed", "model": "m", "output": [item]}
    events = stream_events(RESPONSES, {"type": "response.completed", "response": response})
    begun = [v["content_block"] for v in caller_stream(MESSAGES, events) if v["type"] == "content_block_start"]

    assert [kept] == ["caller" in block for block in begun]
