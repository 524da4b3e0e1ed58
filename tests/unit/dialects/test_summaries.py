"""A conversation of Claude whose earlier messages were replaced by a summary, for other providers."""

from __future__ import annotations

from typing import Any

import pytest
import request_validators
from crossings import CHAT, GEMINI, MESSAGES, RESPONSES
from translating import HI, answer, carried, cross, stream_events, whole

from edge_extproc.model.usage import Usage

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


MADE = {
    "type": "compaction",
    "input_tokens": 180_000,
    "cache_read_input_tokens": 7,
    "cache_creation_input_tokens": 5,
    "cache_creation": {"ephemeral_5m_input_tokens": 2, "ephemeral_1h_input_tokens": 3},
    "output_tokens": 3_500,
}
USED = {
    "input_tokens": 23_000,
    "output_tokens": 1_000,
    "iterations": [MADE, {"type": "message", "input_tokens": 23_000, "output_tokens": 1_000}],
}
REPLY = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "claude-opus-4-6",
    "content": [{"type": "text", "text": "x"}],
    "stop_reason": "end_turn",
    "stop_sequence": None,
}
EXPECTED = Usage(input=203_000, cache_read=7, cache_write=2, cache_write_1h=3, output=4_500)


def test_a_summary_that_a_reply_made_is_counted() -> None:
    assert answer(MESSAGES, {**REPLY, "usage": USED}).usage == EXPECTED


def test_a_summary_that_a_stream_made_is_counted() -> None:
    start = {"type": "message_start", "message": {**REPLY, "content": [], "usage": {"input_tokens": 23_000}}}
    end = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": USED}
    events = stream_events(MESSAGES, start, end, {"type": "message_stop"})

    assert whole(MESSAGES, events).usage == EXPECTED


def test_the_caller_of_the_same_format_gets_the_sums_without_it() -> None:
    written = carried(MESSAGES, {**REPLY, "usage": USED}, MESSAGES)["usage"]

    assert {name: written[name] for name in USED} == USED


@pytest.mark.parametrize(
    "iterations", [None, 7, [], [7], [{"type": "message", "input_tokens": 5}], [{"type": "advisor"}]]
)
def test_other_iterations_are_in_the_sums(iterations: Any) -> None:
    usage = answer(MESSAGES, {**REPLY, "usage": {**USED, "iterations": iterations}}).usage

    assert usage == Usage(input=23_000, output=1_000)


def test_a_summary_without_counts_leaves_the_others() -> None:
    usage = answer(MESSAGES, {**REPLY, "usage": {**USED, "iterations": [{"type": "compaction"}]}}).usage

    assert usage == Usage(input=23_000, output=1_000)
