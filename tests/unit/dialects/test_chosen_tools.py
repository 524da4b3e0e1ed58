"""The tool that a caller of OpenAI's formats chooses, and the calls in its history, at providers of other formats."""

from __future__ import annotations

import json
from typing import Any

import pytest
import request_validators
from translating import CHAT, GEMINI, HI, MESSAGES, RESPONSES, cross, refused


def test_a_choice_may_leave_out_the_namespace_of_a_tool() -> None:
    read_file = {"type": "function", "name": "read", "parameters": {"type": "object", "properties": {}}}
    patch = {"type": "custom", "name": "patch"}
    files = {"type": "namespace", "name": "mcp__fs__", "tools": [read_file, patch]}
    mail = {"type": "namespace", "name": "mail", "tools": [read_file]}
    chosen = {
        ("function", "read"): "mcp__fs__read",
        ("function", "mcp__fs__read"): "mcp__fs__read",
        ("custom", "patch"): "mcp__fs__patch",
        ("function", "unknown"): "unknown",
    }
    for (kind, name), expected in chosen.items():
        body, _ = cross(RESPONSES, MESSAGES, tools=[files], tool_choice={"type": kind, "name": name})
        assert {"type": "tool", "name": expected} == {k: body["tool_choice"][k] for k in ("type", "name")}
    own, _ = cross(
        RESPONSES, MESSAGES, tools=[files, mail, read_file], tool_choice={"type": "function", "name": "read"}
    )
    assert "read" == own["tool_choice"]["name"]
    twice = refused(RESPONSES, MESSAGES, tools=[files, mail], tool_choice={"type": "function", "name": "read"})
    assert "several namespaces" in twice
    named, _ = cross(
        RESPONSES,
        MESSAGES,
        tools=[files, mail],
        tool_choice={"type": "function", "name": "read", "namespace": "mail"},
    )
    assert "mail__read" == named["tool_choice"]["name"]


@pytest.mark.parametrize("source", [CHAT, RESPONSES])
@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ({"type": "auto"}, {"type": "auto"}),
        ({"type": "none"}, {"type": "none"}),
        ({"type": "required"}, {"type": "any"}),
        ({"type": "any"}, {"type": "any"}),
        ({"type": "function", "name": "read"}, {"type": "tool", "name": "read"}),
        ({"type": "function", "function": {"name": "read"}}, {"type": "tool", "name": "read"}),
    ],
)
def test_a_choice_may_have_the_spelling_of_another_format(source: str, choice: Any, expected: Any) -> None:
    read = {"name": "read", "parameters": {"type": "object", "properties": {}}}
    tool = {"type": "function", "function": read} if source == CHAT else {"type": "function", **read}
    body, _ = cross(source, MESSAGES, tools=[tool], tool_choice=choice)

    assert expected == body["tool_choice"]


@pytest.mark.parametrize(
    ("arguments", "expected"), [(None, {}), ({"a": 1}, {"a": 1}), ("null", {}), ('{"a":1}', {"a": 1})]
)
@pytest.mark.parametrize("source", [CHAT, RESPONSES])
def test_the_arguments_of_a_call_may_be_an_object_or_null(source: str, arguments: Any, expected: Any) -> None:
    if source == CHAT:
        call = {"id": "c1", "type": "function", "function": {"name": "read", "arguments": arguments}}
        said = {"role": "assistant", "content": None, "tool_calls": [call]}
        body, _ = cross(CHAT, GEMINI, messages=[HI, said, {"role": "tool", "tool_call_id": "c1", "content": "x"}])
    else:
        called = {"type": "function_call", "call_id": "c1", "name": "read", "arguments": arguments}
        result = {"type": "function_call_output", "call_id": "c1", "output": "x"}
        body, _ = cross(RESPONSES, GEMINI, input=[HI, called, result])

    assert expected == body["contents"][1]["parts"][0]["functionCall"]["args"]


@pytest.mark.parametrize(
    ("names", "offered"), [(["f", "g"], "fg"), (["x", "y"], "fgh"), ([], "fgh"), (["f", "g", "x"], "fg")]
)
@pytest.mark.parametrize("mode", ["ANY", "VALIDATED"])
@pytest.mark.parametrize("key", ["allowedFunctionNames", "allowed_function_names"])
def test_functions_that_gemini_may_not_call_are_not_offered(
    key: str, mode: str, names: list[str], offered: str
) -> None:
    body, dropped = cross(
        GEMINI,
        CHAT,
        tools=[{"functionDeclarations": [{"name": name} for name in "fgh"]}],
        toolConfig={"functionCallingConfig": {"mode": mode, key: names}},
    )

    assert "".join(tool["function"]["name"] for tool in body["tools"]) == offered
    assert body.get("tool_choice") == ("required" if mode == "ANY" else None)
    is_narrowed = offered == "fg"
    assert any("allowed" in name.lower() for name in dropped) == (not is_narrowed)


@pytest.mark.parametrize("target", [RESPONSES, MESSAGES, GEMINI])
def test_a_name_of_two_functions_is_sent_once(target: str) -> None:
    function = {"name": "search", "description": "Searches mail"}
    other = {"name": "search", "description": "Searches files"}
    tools = [{"type": "function", "function": each} for each in (function, {"name": "f"}, function, other)]
    body, dropped = cross(CHAT, target, messages=[HI], tools=tools)

    validate = {
        RESPONSES: request_validators.openai_responses,
        MESSAGES: request_validators.anthropic,
        GEMINI: request_validators.gemini_3,
    }
    assert validate[target](body) == []
    sent = json.dumps(body["tools"])
    assert ("Searches mail" in sent, "Searches files" in sent) == (True, False)
    assert dropped == ("tools[3]",)
