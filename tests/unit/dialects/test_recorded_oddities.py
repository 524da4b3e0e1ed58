"""What providers and their own clients were recorded to send besides what their documentation says."""

from __future__ import annotations

import json
from typing import Any

import pytest
from translating import CHAT, GEMINI, HI, MESSAGES, RESPONSES, caller_stream, cross, read, stream_events, whole

from edge_extproc.dialects.bedrock_converse import PLUGIN as BEDROCK
from edge_extproc.model.call import ToolChoice
from edge_extproc.model.content import Text

FUNCTION = {"name": "label", "parameters": {"type": "object", "properties": {}}}
TOOL = {"type": "function", "function": FUNCTION}
OTHERS = [CHAT, RESPONSES, MESSAGES]


def called(arguments: str) -> dict[str, Any]:
    call = {"id": "call_1", "type": "function", "function": {"name": "label", "arguments": arguments}}
    turns = [HI, {"role": "assistant", "content": None, "tool_calls": [call]}]
    return {"messages": [*turns, {"role": "tool", "tool_call_id": "call_1", "content": "red"}], "tools": [TOOL]}


@pytest.mark.parametrize("arguments", ["null", " null ", "", "{}"])
def test_arguments_that_are_null_are_none(arguments: str) -> None:
    messages, _ = cross(CHAT, MESSAGES, **called(arguments))
    gemini, _ = cross(CHAT, GEMINI, **called(arguments))
    converse = json.loads(BEDROCK.write_chat(read(CHAT, **called(arguments)), "anthropic.claude-sonnet-4-5").body)

    assert {} == messages["messages"][1]["content"][0]["input"]
    assert {} == gemini["contents"][1]["parts"][0]["functionCall"].get("args", {})
    assert {} == converse["messages"][1]["content"][0]["toolUse"]["input"]


@pytest.mark.parametrize("untyped", [{}, {"type": None}])
def test_a_choice_of_a_tool_needs_no_type(untyped: dict[str, Any]) -> None:
    chat = read(CHAT, tools=[TOOL], tool_choice={**untyped, "function": {"name": "label"}})

    assert ToolChoice("tool", "label") == chat.tool_choice


@pytest.mark.parametrize("target", OTHERS)
@pytest.mark.parametrize(
    "part", [{"thought": True, "thoughtSignature": "c2ln"}, {"thoughtSignature": "c2ln"}, {"thought_signature": "c2ln"}]
)
def test_a_part_that_is_a_signature_alone_does_not_cross(target: str, part: dict[str, Any]) -> None:
    turns = [
        {"role": "user", "parts": [{"text": "Name a person."}]},
        {"role": "model", "parts": [part]},
        {"role": "user", "parts": [{"text": "Now tell of Ruby."}]},
    ]
    body, dropped = cross(GEMINI, target, contents=turns)

    assert "Ruby" in json.dumps(body)
    assert "c2ln" not in json.dumps(body)
    assert dropped
    turns_sent = body.get("messages") or body.get("input")
    assert not [turn for turn in turns_sent if turn["role"] == "assistant"]


@pytest.mark.parametrize("name", ["stopSequences", "stop_sequences"])
def test_one_text_stands_for_a_list_of_one(name: str) -> None:
    contents = {"role": "user", "parts": {"text": "Hi"}}
    calling = {"mode": "ANY", "allowedFunctionNames": "label"}
    chat = read(
        GEMINI,
        contents=contents,
        generationConfig={name: "END", "responseModalities": "TEXT"},
        tools=[{"functionDeclarations": [FUNCTION]}],
        toolConfig={"functionCallingConfig": calling},
    )

    assert ("END",) == chat.stop
    assert ToolChoice("tool", "label") == chat.tool_choice
    assert () == chat.needed


def test_one_part_of_a_reply_stands_for_a_list_of_one() -> None:
    candidate = {"content": {"role": "model", "parts": {"text": "Hi"}}, "finishReason": "STOP", "index": 0}
    events = stream_events(GEMINI, {"candidates": [candidate]})

    assert (Text("Hi"),) == whole(GEMINI, events).choices[0].parts


def test_one_object_stands_for_a_list_of_one() -> None:
    chat = read(
        GEMINI,
        systemInstruction={"parts": {"text": "Be brief."}},
        contents={"role": "user", "parts": {"text": "Hi"}},
        tools={"functionDeclarations": FUNCTION},
    )

    assert [(Text("Be brief."),), (Text("Hi"),)] == [message.parts for message in chat.messages]
    assert ["label"] == [getattr(tool, "name", None) for tool in chat.tools]


def test_an_item_keeps_the_id_that_it_began_with() -> None:
    def message(id: str, *content: Any) -> dict[str, Any]:
        return {"id": id, "type": "message", "role": "assistant", "status": "completed", "content": list(content)}

    def call(id: str) -> dict[str, Any]:
        item = {"type": "function_call", "call_id": "call_1", "name": "label", "arguments": "{}"}
        return {**item, "id": id, "status": "completed"}

    def response(id: str) -> dict[str, Any]:
        return {"id": id, "object": "response", "model": "m", "created_at": 1, "output": []}

    text = {"type": "output_text", "text": "Hello", "annotations": []}
    where = {"output_index": 0, "content_index": 0}
    events = stream_events(
        RESPONSES,
        {"type": "response.created", "response": {**response("r1"), "status": "in_progress"}},
        {"type": "response.output_item.added", "output_index": 0, "item": message("m1")},
        {"type": "response.output_text.delta", **where, "item_id": "m3", "delta": "Hello"},
        {"type": "response.content_part.done", **where, "item_id": "m5", "part": text},
        {"type": "response.output_item.done", "output_index": 0, "item": message("m6", text)},
        {"type": "response.output_item.added", "output_index": 1, "item": call("f1")},
        {"type": "response.output_item.done", "output_index": 1, "item": call("f2")},
        {"type": "response.completed", "response": {**response("r3"), "status": "completed"}},
    )
    values = caller_stream(RESPONSES, events)
    ids = {
        kind: [value["item"]["id"] for value in values if value["type"] == f"response.output_item.{kind}"]
        for kind in ("added", "done")
    }

    assert ["m1", "f1"] == ids["added"] == ids["done"]
    assert {"m1", "f1"} == {value["item_id"] for value in values if "item_id" in value}
    assert ["m1", "f1"] == [item["id"] for item in values[-1]["response"]["output"]]


@pytest.mark.parametrize("source", [RESPONSES, MESSAGES])
def test_an_empty_schema_is_one_of_an_object_for_chat(source: str) -> None:
    tool = (
        {"name": "f", "parameters": {}, "type": "function"}
        if source == RESPONSES
        else {"name": "f", "input_schema": {}}
    )
    body, _ = cross(source, CHAT, tools=[tool])

    assert body["tools"][0]["function"]["parameters"] == {"type": "object", "properties": {}}


@pytest.mark.parametrize("stop", ["", [""], [], None])
@pytest.mark.parametrize("target", [RESPONSES, MESSAGES, GEMINI])
def test_an_empty_stop_sequence_is_none(target: str, stop: Any) -> None:
    body, dropped = cross(CHAT, target, messages=[HI], stop=stop)

    assert "stop" not in json.dumps(body)
    assert dropped == ()
