"""Prompt caching: marks of the caller survive where they mean something. One test for each entry of the list."""

from __future__ import annotations

import json
from typing import Any

import pytest
from crossings import DIALECTS
from translating import CHAT, GEMINI, HI, MESSAGES, RESPONSES, cross, read, write

MARK = {"type": "ephemeral"}
USE = {"type": "tool_use", "id": "t", "name": "f", "input": {}}
HOUR = {"type": "ephemeral", "ttl": "1h"}


def marked(mark: Any) -> dict[str, Any]:
    return {"cache_control": mark}


def test_6_1_marks_on_every_kind_of_block_come_back() -> None:
    """Four, the most that Anthropic accepts."""
    told = {
        "system": "a",
        "tools": [{"name": "f", "input_schema": {"type": "object"}, **marked(HOUR)}],
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "a", **marked(HOUR)}]},
            {
                "role": "assistant",
                "content": [{"type": "tool_use", "id": "t", "name": "f", "input": {}, **marked(MARK)}],
            },
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": "x", **marked(MARK)}]},
        ],
    }

    body, dropped = write(read(MESSAGES, **told), MESSAGES)

    assert told == {key: body[key] for key in told}
    assert () == dropped


def test_6_1_marks_of_an_openai_caller_reach_anthropic() -> None:
    call = {"id": "t", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    messages = [
        {"role": "system", "content": [{"type": "text", "text": "a", **marked(HOUR)}]},
        {"role": "user", "content": [{"type": "text", "text": "b", **marked(MARK)}]},
        {"role": "assistant", "content": None, "tool_calls": [{**call, **marked(MARK)}]},
        {"role": "tool", "tool_call_id": "t", "content": "x", **marked(MARK)},
    ]
    tools = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}, **marked(HOUR)}]

    body, dropped = cross(CHAT, MESSAGES, messages=messages, tools=tools)

    # The first mark and the last three: Anthropic accepts four.
    assert HOUR == body["tools"][0]["cache_control"]
    assert "a" == body["system"]
    assert [MARK, MARK, MARK] == [turn["content"][0]["cache_control"] for turn in body["messages"]]
    assert ("messages[0].content[0].cache_control",) == dropped


@pytest.mark.parametrize("mark", [{"type": "forever"}, {}])
def test_6_1_a_mark_of_another_type_asks_for_nothing(mark: Any) -> None:
    messages = [{"role": "user", "content": [{"type": "text", "text": "b", **marked(mark)}]}]

    body, _ = cross(CHAT, MESSAGES, messages=messages)

    assert "b" == body["messages"][0]["content"]


@pytest.mark.parametrize("target", [CHAT, RESPONSES, GEMINI])
def test_6_2_marks_and_thinking_of_anthropic_are_named_and_not_sent_to_others(target: str) -> None:
    thought = {"type": "thinking", "thinking": "Hm", "signature": "s"}
    said = {"role": "assistant", "content": [thought, {"type": "text", "text": "a"}]}
    messages = [{"role": "user", "content": [{"type": "text", "text": "b", **marked(MARK)}]}, said, HI]

    body, dropped = cross(MESSAGES, target, messages=messages)

    assert "cache_control" not in str(body)
    assert "Hm" not in str(body)
    assert ("messages[0].content[0].cache_control", True) == (dropped[0], len(dropped) == 2)


def test_6_2_the_place_of_a_call_in_a_stream_is_not_sent_back_to_others() -> None:
    call = {"index": 0, "id": "t", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    messages = [HI, {"role": "assistant", "content": None, "tool_calls": [call]}]
    tools = [{"type": "function", "function": {"name": "f"}}]

    for target in (MESSAGES, RESPONSES, GEMINI):
        body, _ = cross(CHAT, target, messages=messages, tools=tools)
        assert "index" not in str(body)


def test_6_2_what_is_sealed_for_claude_and_gemini_is_taken_out_when_another_model_goes_on() -> None:
    """Our own replies gave it to the caller. The rest of the body keeps its bytes."""
    call = {"id": "t", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    signed = {**call, "extra_content": {"google": {"thought_signature": "c2ln"}}}
    block = {"type": "thinking", "thinking": "Hm", "signature": "s"}
    said = {"role": "assistant", "content": "a", "thinking_blocks": [block], "tool_calls": [signed]}
    raw = b'{ "temperature":1.0,"model":"m", "messages":' + json.dumps([HI, said]).encode() + b"}"
    asked = DIALECTS[CHAT].read_call(raw, "chat", (), "/v1/chat/completions")

    other = DIALECTS[CHAT].splice(asked, "gpt-5.2")

    assert ("messages[1].thinking_blocks", "messages[1].tool_calls[0].extra_content") == other.dropped
    assert b'{ "temperature":1.0,"model":"gpt-5.2", "messages":' == other.body[: other.body.index(b"[")]
    assert [HI, {"role": "assistant", "content": "a", "tool_calls": [call]}] == json.loads(other.body)["messages"]
    claude = DIALECTS[CHAT].splice(asked, "anthropic/claude-opus-4-6")
    assert ("messages[1].tool_calls[0].extra_content",) == claude.dropped
    assert [block] == json.loads(claude.body)["messages"][1]["thinking_blocks"]
    unsigned = raw.replace(b'"thinking_blocks"', b'"x"').replace(b'"thought_signature"', b'"y"')
    plain = DIALECTS[CHAT].read_call(unsigned, "chat", (), "/v1/chat/completions")
    assert unsigned.replace(b'"m"', b'"gpt"') == DIALECTS[CHAT].splice(plain, "gpt").body
