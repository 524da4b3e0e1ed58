"""A conversation that ends with a message of the assistant, for models that answer only the user."""

from __future__ import annotations

import json

import pytest
import request_validators
from crossings import CHAT, GEMINI, MESSAGES, RESPONSES
from translating import HI, cross, read

from edge_extproc.registry import load

SAID = {"role": "assistant", "content": "The answer is "}
ASKING = {"role": "system", "content": "Answer in French."}
CALLED = {
    "role": "assistant",
    "content": None,
    "tool_calls": [{"id": "call_a", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
}
TOOLS = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}]


def result(text: str, id: str = "call_a") -> dict[str, str]:
    return {"role": "tool", "tool_call_id": id, "content": text}


@pytest.mark.parametrize("model", ["claude-opus-4-6", "claude-sonnet-4-6", "claude-sonnet-5", "kimi-k2"])
def test_a_model_without_prefill_gets_a_user_message_at_the_end(model: str) -> None:
    body, dropped = cross(CHAT, MESSAGES, model, messages=[HI, SAID])

    assert body["messages"][1:] == [
        {"role": "assistant", "content": "The answer is "},
        {"role": "user", "content": "Continue."},
    ]
    assert dropped == ()
    assert request_validators.anthropic(body) == []


def test_an_older_claude_continues_the_message() -> None:
    body, _ = cross(CHAT, MESSAGES, "claude-sonnet-4-5", messages=[HI, SAID])

    assert body["messages"][1:] == [{"role": "assistant", "content": "The answer is"}]


def test_an_older_claude_that_thinks_does_not_continue_the_message() -> None:
    body, dropped = cross(CHAT, MESSAGES, "claude-sonnet-4-5", messages=[HI, SAID], reasoning_effort="high")

    assert body["messages"][-1] == {"role": "user", "content": "Continue."}
    assert body["thinking"] == {"type": "enabled", "budget_tokens": 4096}
    assert dropped == ()
    assert request_validators.anthropic(body) == []


@pytest.mark.parametrize("source", [CHAT, RESPONSES, MESSAGES])
def test_gemini_gets_a_user_message_at_the_end(source: str) -> None:
    body, _ = cross(source, GEMINI, **{"input" if source == RESPONSES else "messages": [HI, SAID]})

    assert body["contents"][-1] == {"role": "user", "parts": [{"text": "Continue."}]}
    assert request_validators.gemini_3(body) == []


@pytest.mark.parametrize("model", ["claude-opus-4-6", "claude-sonnet-4-5"])
def test_a_system_message_after_the_assistant_asks_for_the_next_message(model: str) -> None:
    body, _ = cross(CHAT, MESSAGES, model, messages=[{"role": "system", "content": "Be kind."}, HI, SAID, ASKING])

    assert body["system"] == "Be kind."
    assert body["messages"][-1] == {"role": "user", "content": "Answer in French."}
    assert request_validators.anthropic(body) == []


def test_a_system_message_after_the_assistant_keeps_its_path() -> None:
    _, dropped = cross(CHAT, GEMINI, messages=[HI, SAID, {**ASKING, "name": "me"}])

    assert dropped == ("messages[2].name",)


def test_other_system_messages_stay_in_the_system_prompt() -> None:
    body, _ = cross(CHAT, GEMINI, messages=[HI, SAID, ASKING, HI])

    assert body["systemInstruction"] == {"parts": [{"text": "Answer in French."}]}
    assert [turn["role"] for turn in body["contents"]] == ["user", "model", "user"]


@pytest.mark.parametrize("said", ["", "\n"])
def test_a_blank_message_at_the_end_is_no_message(said: str) -> None:
    body, _ = cross(CHAT, MESSAGES, "claude-opus-4-6", messages=[HI, {"role": "assistant", "content": said}])

    assert body["messages"] == [HI]


def test_a_call_at_the_end_stays() -> None:
    body, _ = cross(CHAT, MESSAGES, messages=[HI, CALLED], tools=TOOLS)

    assert body["messages"][-1]["role"] == "assistant"


@pytest.mark.parametrize("model", ["anthropic.claude-opus-4-6-v1:0", "amazon.nova-pro-v1:0"])
def test_bedrock_gets_a_user_message_at_the_end(model: str) -> None:
    chat = read(CHAT, messages=[HI, SAID])
    body = json.loads(load("dialects", "bedrock_converse").write_chat(chat, model).body)

    assert body["messages"][-1] == {"role": "user", "content": [{"text": "Continue."}]}


@pytest.mark.parametrize("target", [MESSAGES, GEMINI, RESPONSES])
def test_two_results_of_a_call_are_sent_as_one(target: str) -> None:
    messages = [HI, CALLED, result("one"), result("two"), HI]
    body, _ = cross(CHAT, target, messages=messages, tools=TOOLS)

    validate = {
        MESSAGES: request_validators.anthropic,
        GEMINI: request_validators.gemini_3,
        RESPONSES: request_validators.openai_responses,
    }
    assert validate[target](body) == []
    text = json.dumps(body)
    assert "one" in text
    assert "two" in text


def test_the_same_result_again_is_sent_once() -> None:
    body, _ = cross(CHAT, MESSAGES, messages=[HI, CALLED, result("one"), HI, result("one"), HI], tools=TOOLS)

    assert body["messages"][2]["content"][0] == {
        "type": "tool_result",
        "tool_use_id": "call_a",
        "content": "one",
    }
    assert request_validators.anthropic(body) == []
