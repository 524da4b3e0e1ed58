"""A conversation of Claude whose earlier messages were replaced by a summary, for other providers."""

from __future__ import annotations

from typing import Any

import pytest
import request_validators
from crossings import CHAT, GEMINI, MESSAGES, RESPONSES
from translating import HI, cross

SUMMARY = {"type": "compaction", "content": "The user wants a boat."}
GO = {"role": "user", "content": "Go on."}
TEXT = "Summary of the conversation so far:\nThe user wants a boat."
USE = {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {}}
RESULT = {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "toolu_1", "content": "old"}]}


def assistant(*blocks: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": list(blocks)}


def chat(*messages: Any) -> Any:
    return cross(MESSAGES, CHAT, system="Be kind.", messages=list(messages))


@pytest.mark.parametrize(
    "before",
    [[], [HI], [HI, assistant({"type": "text", "text": "old"}), HI], [HI, assistant(USE), RESULT]],
)
def test_a_summary_replaces_what_was_before_it(before: list[Any]) -> None:
    body, dropped = chat(*before, assistant(SUMMARY, {"type": "text", "text": "Which?"}), GO)

    assert body["messages"] == [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": TEXT},
        {"role": "assistant", "content": "Which?"},
        GO,
    ]
    assert dropped == ()


def test_the_last_summary_counts() -> None:
    body, _ = chat(assistant({**SUMMARY, "content": "old"}), HI, assistant(SUMMARY), GO)

    assert [message["content"] for message in body["messages"]] == ["Be kind.", TEXT, "Go on."]


@pytest.mark.parametrize("content", [None, ""])
def test_a_summary_that_failed_is_named(content: Any) -> None:
    body, dropped = chat(HI, assistant({**SUMMARY, "content": content}, {"type": "text", "text": "x"}), GO)

    assert [message["content"] for message in body["messages"]] == ["Be kind.", "Hi", "x", "Go on."]
    assert dropped == ("messages[1].content[0]",)


def test_what_follows_a_summary_keeps_its_path() -> None:
    cited = {"type": "text", "text": "x", "citations": [{"type": "char_location"}]}
    _, dropped = chat(HI, assistant(SUMMARY, cited), GO)

    assert dropped == ("messages[1].content[1].citations",)


@pytest.mark.parametrize(
    ("target", "validate"),
    [(GEMINI, request_validators.gemini_3), (RESPONSES, request_validators.openai_responses)],
)
def test_every_provider_accepts_it(target: str, validate: Any) -> None:
    body, _ = cross(MESSAGES, target, messages=[HI, assistant(USE), RESULT, assistant(SUMMARY), GO])

    assert validate(body) == []
