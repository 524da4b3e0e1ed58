"""Anthropic and Bedrock get at most four cache marks."""

from __future__ import annotations

import json
from typing import Any

import pytest
from translating import CHAT, HI, MESSAGES, cross, read

from edge_extproc.dialects.bedrock_converse import PLUGIN as BEDROCK

CLAUDE = "anthropic.claude-sonnet-4-5-20250929-v1:0"
MARK = {"cache_control": {"type": "ephemeral"}}
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}


def text(word: str) -> dict[str, Any]:
    return {"type": "text", "text": word, **MARK}


def asked(*words: str, **more: Any) -> dict[str, Any]:
    system = {"role": "system", "content": [text("rules")]}
    return {"messages": [*({"role": "user", "content": [text(word)]} for word in words), system], **more}


def test_the_first_mark_of_the_prompt_and_the_last_three_stay() -> None:
    body, dropped = cross(CHAT, MESSAGES, **asked("a", "b", "c", "d", "e"))
    bedrock = BEDROCK.write_chat(read(CHAT, **asked("a", "b", "c", "d", "e")), CLAUDE)
    written = json.loads(bedrock.body)

    assert [{"type": "text", "text": "rules", **MARK}] == body["system"]
    assert ["c", "d", "e"] == [block["text"] for block in body["messages"][0]["content"] if "cache_control" in block]
    assert ("messages[0].content[0].cache_control", "messages[1].content[0].cache_control") == dropped
    assert dropped == bedrock.dropped
    assert 4 == json.dumps(written).count("cachePoint")
    assert "cachePoint" in written["system"][1]


def test_marks_of_tools_and_of_results_count() -> None:
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    result = {"role": "tool", "tool_call_id": "c", "content": [text("found")]}
    turns = [HI, {"role": "assistant", "content": None, "tool_calls": [call]}, result]
    turns += asked("a", "b", "c")["messages"]
    body, dropped = cross(CHAT, MESSAGES, messages=turns, tools=[{**TOOL, **MARK}])

    assert "cache_control" in body["tools"][0]
    assert 4 == json.dumps(body).count("cache_control")
    assert ("messages[2].content[0].cache_control", "messages[6].content[0].cache_control") == dropped


@pytest.mark.parametrize("words", ["", "a", "abc"])
def test_four_marks_are_not_too_many(words: str) -> None:
    body, dropped = cross(CHAT, MESSAGES, **asked("x", *words))

    assert min(len(words) + 2, 4) == json.dumps(body).count("cache_control")
    assert (len(words) > 2) == bool(dropped)
