"""What Envoy's access log is told of an exchange, with the last answer; and nothing where nobody reads it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from player import Stage, answered, body, chunks, headers, talk, whole

ASKED = {"model": "chat", "messages": [{"role": "user", "content": "Hello"}]}
REPLY = {
    "id": "c1",
    "object": "chat.completion",
    "created": 1,
    "model": "gpt-4o-mini",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
}
PAID = {
    "tenant": "acme",
    "key": "acme-1",
    "route": "/v1/chat/completions",
    "model": "chat",
    "provider": "openai",
    "tokens_in": 3,
    "tokens_out": 2,
    "cost_usd": "5",
}


def noted(*events: Any, notes: bool = True) -> Any:
    """What the last of the answers tells Envoy."""
    return (talk(Stage().having(adds_access_log_facts=notes).exchange(), *events)[-1].metadata or {}).get("edge")


def test_a_whole_reply_is_told_with_its_bill() -> None:
    assert noted(headers(), body(ASKED), answered(), whole(REPLY)) == PAID


def test_a_stream_is_told_with_its_last_chunk() -> None:
    chunk = {**REPLY, "object": "chat.completion.chunk", "choices": [{"index": 0, "delta": {"content": "Hi"}}]}
    last = {**chunk, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
    wire = b"".join(b"data: " + json.dumps(each).encode() + b"\n\n" for each in (chunk, last)) + b"data: [DONE]\n\n"
    stream = headers(), body({**ASKED, "stream": True}), answered(content_type="text/event-stream")

    assert noted(*stream, *chunks(wire)) == PAID
    assert noted(*stream, *chunks(wire, end=False)) is None


def test_a_refusal_is_told_with_what_was_known() -> None:
    assert noted(headers(key=None)) == {"error": "authentication"}
    assert noted(headers(), body({**ASKED, "model": "nobody's"}))["error"] == "not_found"


@pytest.mark.parametrize("event", [headers(key=None), headers("/v1/models", method="GET", end=True)])
def test_nothing_is_told_where_nobody_reads_it(event: Any) -> None:
    assert noted(event, notes=False) is None
