"""How a translated request is addressed: what concerns the chat formats themselves.

The numbers are those of the list of translation behaviours that this directory is named for: chapter, then entry.
"""

from __future__ import annotations

import pytest
from crossings import DIALECTS, MODELS
from translating import (
    CHAT,
    EVERY,
    GEMINI,
    MESSAGES,
    RESPONSES,
    answer,
    caller_stream,
    carried,
    cross,
    read,
    stream_events,
    write,
)


@pytest.mark.parametrize("target", EVERY)
def test_1_3_the_name_that_the_host_knows_replaces_the_callers_everywhere(target: str) -> None:
    source = CHAT if target != CHAT else MESSAGES
    body, _ = cross(source, target, "the-hosts-name")

    assert body.get("model", "the-hosts-name") == "the-hosts-name"
    assert ("the-hosts-name" in DIALECTS[target].path("chat", "the-hosts-name", stream=False)) == (target == GEMINI)


def test_1_3_the_name_that_the_host_knows_decides_what_may_be_asked() -> None:
    """The caller's name may be an alias that says nothing."""
    format_ = {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "object"}}}
    chat = read(CHAT, model="fast", response_format=format_)

    body, _ = write(chat, MESSAGES, "claude-opus-4-6")

    assert "json_schema" == body["output_config"]["format"]["type"]


@pytest.mark.parametrize("target", EVERY)
def test_1_4_a_second_attempt_starts_from_the_call_and_not_from_the_first(target: str) -> None:
    messages = [{"role": "system", "content": "Be brief"}, {"role": "user", "content": "Hi"}]
    chat = read(CHAT, messages=messages)

    first = write(chat, target)
    for other in EVERY:
        write(chat, other)

    assert first == write(chat, target)


def test_1_5_a_reply_tells_the_model_that_answered() -> None:
    body = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "claude-x",
        "content": [],
        "stop_reason": "end_turn",
        "usage": {"input_tokens": 1, "output_tokens": 1},
    }

    assert "claude-x" == carried(MESSAGES, body, CHAT)["model"]
    assert "claude-x" == carried(MESSAGES, body, RESPONSES)["model"]
    assert "claude-x" == carried(MESSAGES, body, GEMINI)["modelVersion"]
    assert "claude-x" == answer(MESSAGES, body).model


@pytest.mark.parametrize("target", [CHAT, MESSAGES, RESPONSES])
def test_1_5_a_stream_that_names_no_model_is_of_the_one_that_was_asked(target: str) -> None:
    events = stream_events(GEMINI, {"candidates": [{"content": {"parts": [{"text": "a"}]}, "finishReason": "STOP"}]})
    source = caller_stream(target, events)[0]

    assert "m" == source.get("message", source.get("response", source))["model"]
    assert MODELS[target] != "m"
