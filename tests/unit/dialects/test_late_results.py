"""Results of tools that do not directly follow their calls, for a provider of another format."""

from __future__ import annotations

import json
from typing import Any

import pytest
import request_validators
from asking import CHAT, MESSAGES, PATHS, PROVIDERS, Json, provider_request

from edge_extproc.dialects.crossing import NO_RESULT

SCHEMA: Json = {"type": "object", "properties": {}}
# The turns of a history: u is a text of the user, a one of the model, c1 a call, r1 its result; + joins parallel ones.
HISTORIES = (
    "u c1 u r1",
    "u c1 u a r1 u",
    "u c1 a r1 u",
    "u c1 a u",
    "u c1 c2 r1 r2",
    "u c1+c2 c3+c4 r3 u",
    "u c1+c2 r1 c3 r2+r3",
    "u c1+c2 r2 c3+c4 r3 u",
    "u c1+c2 r2 u r1 c3 r3 u",
    "u c1+c2 r1",
)


def _chat(turn: str) -> list[Json]:
    ids = [each[1:] for each in turn.split("+")]
    match turn[0]:
        case "c":
            calls = [{"id": id, "type": "function", "function": {"name": "f", "arguments": "{}"}} for id in ids]
            return [{"role": "assistant", "content": None, "tool_calls": calls}]
        case "r":
            return [{"role": "tool", "tool_call_id": id, "content": f"result {id}"} for id in ids]
        case role:
            return [{"role": {"u": "user", "a": "assistant"}[role], "content": "text"}]


def _items(turn: str) -> list[Json]:
    ids = [each[1:] for each in turn.split("+")]
    match turn[0]:
        case "c":
            return [{"type": "function_call", "call_id": id, "name": "f", "arguments": "{}"} for id in ids]
        case "r":
            return [{"type": "function_call_output", "call_id": id, "output": f"result {id}"} for id in ids]
        case _:
            return _chat(turn)


def _messages(turn: str) -> list[Json]:
    ids = [each[1:] for each in turn.split("+")]
    match turn[0]:
        case "c":
            calls = [{"type": "tool_use", "id": id, "name": "f", "input": {}} for id in ids]
            return [{"role": "assistant", "content": calls}]
        case "r":
            results = [{"type": "tool_result", "tool_use_id": id, "content": f"result {id}"} for id in ids]
            return [{"role": "user", "content": results}]
        case _:
            return _chat(turn)


def _converse(turn: str) -> list[Json]:
    ids = [each[1:] for each in turn.split("+")]
    match turn[0]:
        case "c":
            calls = [{"toolUse": {"toolUseId": id, "name": "f", "input": {}}} for id in ids]
            return [{"role": "assistant", "content": calls}]
        case "r":
            results = [{"toolResult": {"toolUseId": id, "content": [{"text": f"result {id}"}]}} for id in ids]
            return [{"role": "user", "content": results}]
        case role:
            return [{"role": {"u": "user", "a": "assistant"}[role], "content": [{"text": "text"}]}]


def _contents(turn: str) -> list[Json]:
    """Google's older models give no ids, so results belong to calls by their order."""
    ids = [each[1:] for each in turn.split("+")]
    match turn[0]:
        case "c":
            return [{"role": "model", "parts": [{"functionCall": {"name": f"f{id}", "args": {}}} for id in ids]}]
        case "r":
            answers = [{"name": f"f{id}", "response": {"output": f"result {id}"}} for id in ids]
            return [{"role": "user", "parts": [{"functionResponse": answer} for answer in answers]}]
        case role:
            return [{"role": {"u": "user", "a": "model"}[role], "parts": [{"text": "text"}]}]


def body(caller: str, history: str) -> Json:
    turns = history.split()
    match caller:
        case "openai_chat":
            tools = [{"type": "function", "function": {"name": "f", "parameters": SCHEMA}}]
            return {"model": "m", "messages": [each for turn in turns for each in _chat(turn)], "tools": tools}
        case "openai_responses":
            function = {"type": "function", "name": "f", "parameters": SCHEMA}
            return {"model": "m", "input": [each for turn in turns for each in _items(turn)], "tools": [function]}
        case "anthropic_messages":
            messages = [each for turn in turns for each in _messages(turn)]
            return {
                "model": "m",
                "max_tokens": 9,
                "messages": messages,
                "tools": [{"name": "f", "input_schema": SCHEMA}],
            }
        case "bedrock_converse":
            spec = {"toolSpec": {"name": "f", "inputSchema": {"json": SCHEMA}}}
            return {"messages": [each for turn in turns for each in _converse(turn)], "toolConfig": {"tools": [spec]}}
        case _:
            declared = [{"name": f"f{n}", "parametersJsonSchema": SCHEMA} for n in range(1, 5)]
            contents = [each for turn in turns for each in _contents(turn)]
            return {"contents": contents, "tools": [{"functionDeclarations": declared}]}


CROSSINGS = [(caller, name) for caller in PATHS for name, each in PROVIDERS.items() if each.dialect != caller]


@pytest.mark.parametrize("history", HISTORIES)
@pytest.mark.parametrize(("caller", "provider"), CROSSINGS)
def test_each_call_has_one_result_directly_after_it(caller: str, provider: str, history: str) -> None:
    sent, dropped = provider_request(caller, body(caller, history), PATHS[caller], PROVIDERS[provider])
    calls = {word[1:] for turn in history.split() for word in turn.split("+") if word[0] == "c"}
    given = {word[1:] for turn in history.split() for word in turn.split("+") if word[0] == "r"}

    assert [] == request_validators.of(provider, PROVIDERS[provider].dialect, sent)
    assert dict.fromkeys(given, 1) == {id: sent.count(f"result {id}".encode()) for id in given}
    assert len(calls - given) == sent.count(NO_RESULT.encode())
    assert () == dropped


def test_a_late_result_is_moved_to_its_call() -> None:
    sent, _ = provider_request(CHAT, body(CHAT, "u c1+c2 r2 u r1 u"), PATHS[CHAT], PROVIDERS["claude"])
    messages: list[Any] = json.loads(sent)["messages"]
    results = [
        (each["tool_use_id"], each["content"]) for each in messages[2]["content"] if each["type"] == "tool_result"
    ]

    assert ["user", "assistant", "user"] == [each["role"] for each in messages]
    assert [("2", "result 2"), ("1", "result 1")] == results


def test_what_remains_of_a_message_keeps_its_path() -> None:
    """A result is moved away from before the text, whose mark the provider does not have."""
    request = body(MESSAGES, "u c1 u a r1 u")
    text = {"type": "text", "text": "and?", "cache_control": {"type": "ephemeral"}}
    request["messages"][4]["content"].append(text)
    _, dropped = provider_request(MESSAGES, request, PATHS[MESSAGES], PROVIDERS["gpt"])

    assert ("messages[4].content[1].cache_control",) == dropped
