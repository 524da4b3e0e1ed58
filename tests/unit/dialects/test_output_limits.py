"""A bound on the answer that is no bound is refused where the call is read, in the caller's own spelling."""

from __future__ import annotations

import json
from typing import Any

import pytest

from edge_extproc.dialects.base import Dialect
from edge_extproc.errors import BadRequest, Unsupported
from edge_extproc.registry import load

CHAT, RESPONSES, MESSAGES, GEMINI, CONVERSE = (
    "openai_chat",
    "openai_responses",
    "anthropic_messages",
    "gemini_generate",
    "bedrock_converse",
)
DIALECTS: dict[str, Dialect] = {name: load("dialects", name) for name in (CHAT, RESPONSES, MESSAGES, GEMINI, CONVERSE)}
HI = {"role": "user", "content": "Hi"}
BODIES: list[tuple[str, str, str, dict[str, Any]]] = [
    (CHAT, "/v1/chat/completions", "max_tokens", {"model": "m", "messages": [HI]}),
    (CHAT, "/v1/chat/completions", "max_completion_tokens", {"model": "m", "messages": [HI]}),
    (RESPONSES, "/v1/responses", "max_output_tokens", {"model": "m", "input": "Hi"}),
    (MESSAGES, "/v1/messages", "max_tokens", {"model": "m", "messages": [HI]}),
    (
        GEMINI,
        "/v1beta/models/m:generateContent",
        "generationConfig.maxOutputTokens",
        {"contents": [{"role": "user", "parts": [{"text": "Hi"}]}]},
    ),
    (
        CONVERSE,
        "/model/m/converse",
        "inferenceConfig.maxTokens",
        {"messages": [{"role": "user", "content": [{"text": "Hi"}]}]},
    ),
]


def body_with(body: dict[str, Any], field: str, value: float) -> bytes:
    for key in reversed(field.split(".")[1:]):
        value = {key: value}  # type: ignore[assignment]
    return json.dumps({**body, field.split(".")[0]: value}).encode()


# Anthropic's 0 fills the prompt cache, and is allowed.
@pytest.mark.parametrize(
    ("dialect", "path", "field", "body", "value"),
    [(*row, value) for row in BODIES for value in (-1, 0, -(2**40)) if (row[0], value) != (MESSAGES, 0)],
)
def test_a_limit_below_one_is_refused_by_its_own_name(
    dialect: str, path: str, field: str, body: dict[str, Any], value: int
) -> None:
    with pytest.raises(BadRequest) as refused:
        DIALECTS[dialect].read_call(body_with(body, field, value), "chat", ((":path", path),), path)

    assert field == refused.value.param
    assert str(value) in refused.value.message


@pytest.mark.parametrize("spelled", ["maxOutputTokens", "max_output_tokens"])
def test_geminis_second_spelling_is_checked_beside_a_good_first_one(spelled: str) -> None:
    path = "/v1beta/models/m:generateContent"
    other = {"maxOutputTokens": "max_output_tokens", "max_output_tokens": "maxOutputTokens"}[spelled]
    body = {"contents": [], "generationConfig": {spelled: -1, other: 10}}

    with pytest.raises(BadRequest):
        DIALECTS[GEMINI].read_call(json.dumps(body).encode(), "chat", ((":path", path),), path)


def test_anthropics_zero_stays_with_hosts_of_its_own_format() -> None:
    raw = json.dumps({"model": "m", "max_tokens": 0, "messages": [HI]}).encode()
    call = DIALECTS[MESSAGES].read_call(raw, "chat", (), "/v1/messages")
    chat = DIALECTS[MESSAGES].read_chat(call)

    assert json.loads(raw) | {"model": "claude"} == json.loads(DIALECTS[MESSAGES].splice(call, "claude").body)
    for name in set(DIALECTS) - {MESSAGES}:
        with pytest.raises(Unsupported) as refused:
            DIALECTS[name].write_chat(chat, "m")
        assert "max_tokens" == refused.value.param


def test_a_limit_that_no_number_is_stays_the_hosts_to_judge() -> None:
    raw = json.dumps({"model": "m", "max_tokens": "0", "messages": [HI]}).encode()

    assert DIALECTS[CHAT].read_call(raw, "chat", (), "").max_output_tokens is None


@pytest.mark.parametrize(("limit", "sent"), [(1, 16), (16, 16), (100, 100)])
def test_openai_responses_gets_the_smallest_limit_that_it_accepts(limit: int, sent: int) -> None:
    raw = json.dumps({"model": "m", "max_tokens": limit, "messages": [HI]}).encode()
    chat = DIALECTS[MESSAGES].read_chat(DIALECTS[MESSAGES].read_call(raw, "chat", (), "/v1/messages"))
    written = DIALECTS[RESPONSES].write_chat(chat, "gpt-5.2")

    assert json.loads(written.body)["max_output_tokens"] == sent
    assert written.dropped == ()
