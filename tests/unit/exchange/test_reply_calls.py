"""The calls of a translated reply: the caller's names of tools, and ids that are new in the conversation."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from edge_extproc.dialects.tool_names import legal_name, own_names, with_legal_names
from edge_extproc.exchange.parsed_call import ParsedCall
from edge_extproc.exchange.relay import CrossRelay
from edge_extproc.exchange.reply_calls import ReplyCalls
from edge_extproc.model.content import ToolCall
from edge_extproc.model.host import UNKNOWN_HOST
from edge_extproc.model.reply import Choice, PartStarted, Reply
from edge_extproc.registry import load

MESSAGES, CHAT, GEMINI = (load("dialects", n) for n in ("anthropic_messages", "openai_chat", "gemini_generate"))
LONG = "mcp__files__" + "read_" * 13


def parsed(*names: str, ids: tuple[str, ...] = (), **more: Any) -> ParsedCall:
    messages: list[Any] = [{"role": "user", "content": "a"}]
    for id in ids:
        use = {"type": "tool_use", "id": id, "name": names[0], "input": {}}
        messages.append({"role": "assistant", "content": [use]})
        messages.append({"role": "user", "content": [{"type": "tool_result", "tool_use_id": id, "content": "b"}]})
    tools = [{"name": name, "input_schema": {"type": "object"}} for name in names]
    body = {"model": "m", "max_tokens": 9, "messages": messages, "tools": tools, **more}
    return ParsedCall(MESSAGES.read_call(json.dumps(body).encode(), "chat", (), "/v1/messages"), MESSAGES, None)


def reply(*calls: tuple[str, str]) -> Reply:
    return Reply("openai_chat", "r", "m", (Choice(tuple(ToolCall(id, name, "{}") for id, name in calls)),))


def told(call: ParsedCall, *calls: tuple[str, str]) -> list[tuple[str, str]]:
    (choice,) = ReplyCalls(call).reply(reply(*calls)).choices
    return [(part.id, part.name) for part in choice.parts if isinstance(part, ToolCall)]


@pytest.mark.parametrize("name", [LONG, "mcp.files:read", "2nd", "ü", "a b", "x" * 65])
def test_a_name_that_some_provider_refuses_gets_a_legal_one(name: str) -> None:
    legal = legal_name(name)

    assert re.fullmatch("[a-zA-Z_][a-zA-Z0-9_-]{0,63}", legal)
    assert legal_name(legal) == legal
    assert {legal: name} == own_names(parsed("f", name).chat())


@pytest.mark.parametrize("name", ["f", "_f-2", "x" * 64])
def test_a_legal_name_stays(name: str) -> None:
    chat = parsed(name, ids=("call_1",)).chat()

    assert name == legal_name(name)
    assert chat is with_legal_names(chat)


def test_tools_calls_and_the_choice_have_the_same_name() -> None:
    call = parsed(LONG, "f", ids=("call_1",), tool_choice={"type": "tool", "name": LONG})
    body = json.loads(CHAT.write_chat(call.chat(), "m", UNKNOWN_HOST).body)
    legal = body["tools"][0]["function"]["name"]

    assert legal == legal_name(LONG)
    assert legal == body["messages"][1]["tool_calls"][0]["function"]["name"]
    assert legal == body["tool_choice"]["function"]["name"]
    assert "f" == body["tools"][1]["function"]["name"]


def test_a_choice_among_some_tools_has_the_same_names() -> None:
    tools = [{"type": "function", "function": {"name": name}} for name in ("2nd", "f")]
    choice = {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": tools[:1]}}
    body = {"model": "m", "messages": [{"role": "user", "content": "a"}], "tools": tools, "tool_choice": choice}
    chat = CHAT.read_chat(CHAT.read_call(json.dumps(body).encode(), "chat", (), "/v1/chat/completions"))
    written = json.loads(load("dialects", "openai_responses").write_chat(chat, "m", UNKNOWN_HOST).body)

    assert [legal_name("2nd"), "f"] == [tool["name"] for tool in written["tools"]]
    assert [legal_name("2nd")] == [tool["name"] for tool in written["tool_choice"]["tools"]]


def test_a_caller_gets_its_own_name_back_whole_and_streamed() -> None:
    call = parsed(LONG, "f")
    started = PartStarted(0, "tool_call", "call_1", legal_name(LONG))

    assert [("call_1", LONG), ("call_2", "f")] == told(call, ("call_1", legal_name(LONG)), ("call_2", "f"))
    assert LONG == ReplyCalls(call).started(started).name
    function = {"name": legal_name(LONG), "arguments": "{}"}
    delta = {"tool_calls": [{"index": 0, "id": "call_1", "type": "function", "function": function}]}
    chunk = {"id": "c", "choices": [{"index": 0, "delta": delta, "finish_reason": "tool_calls"}]}
    relay = CrossRelay(CHAT.reader(""), MESSAGES.writer(call.call), calls=ReplyCalls(call))
    assert LONG.encode() in relay.feed(f"data: {json.dumps(chunk)}\n\ndata: [DONE]\n\n".encode())


def test_an_id_of_the_conversation_is_not_used_again() -> None:
    first = told(parsed("f", ids=("call_0",)), ("call_0", "f"))
    second = told(parsed("f", ids=("call_0", first[0][0])), ("call_0", "f"))

    assert 3 == len({"call_0", first[0][0], second[0][0]})
    assert [("call_0", "f")] == told(parsed("f", ids=("call_1",)), ("call_0", "f"))


def test_an_id_that_its_format_encoded_is_not_used_again_either() -> None:
    kimis = "functions.f:0"
    once = json.loads(MESSAGES.write_reply(reply((kimis, "f"))))["content"][0]["id"]

    assert kimis != told(parsed("f", ids=(once,)), (kimis, "f"))[0][0]


def test_two_calls_of_a_reply_have_two_ids_and_a_missing_one_stays_missing() -> None:
    ids = [id for id, _ in told(parsed("f"), ("call_0", "f"), ("call_0", "f"), ("", "f"), ("", "f"))]

    assert ("call_0", "", "") == (ids[0], ids[2], ids[3])
    assert ids[1] not in ("call_0", "")


def test_a_reply_without_calls_stays() -> None:
    empty = reply()

    assert empty is ReplyCalls(parsed("f")).reply(empty)


def test_a_request_that_cannot_be_read_again_has_no_other_names() -> None:
    call = MESSAGES.read_call(b'{"model":"m","tools":[{"name":"a.b"}],"messages":7}', "chat", (), "/v1/messages")

    assert [("call_1", "a_b")] == told(ParsedCall(call, MESSAGES, None), ("call_1", "a_b"))
