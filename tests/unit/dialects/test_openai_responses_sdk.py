"""OpenAI's own SDK reads what we write: whole, streamed, and when it fails."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import httpx2
import openai
import pytest
from openai.types.responses import Response

from edge_extproc.dialects.openai_responses import PLUGIN
from edge_extproc.errors import LimitReached
from edge_extproc.model.content import Text, ToolCall
from edge_extproc.model.fault import Fault
from edge_extproc.model.reply import (
    Choice,
    Failed,
    Finish,
    PartDelta,
    PartStarted,
    Reply,
    ReplyEvent,
    ReplyStarted,
    unfold,
)
from edge_extproc.model.usage import Usage

TOOL: dict[str, Any] = {
    "type": "function",
    "name": "weather",
    "parameters": {
        "type": "object",
        "properties": {"place": {"type": "string"}},
        "required": ["place"],
        "additionalProperties": False,
    },
    "strict": True,
}
REPLY = Reply(
    "anthropic_messages",
    "msg_1",
    "claude",
    (Choice((Text("It is warm."), ToolCall("toolu_1", "weather", '{"place":"Rome"}')), Finish("tool_calls")),),
    Usage(input=10, cache_read=5, output=7, reasoning=2),
    1_700_000_000,
)


def client(status: int, content_type: str, answer: bytes | Iterable[bytes]) -> openai.OpenAI:
    def handle(request: httpx2.Request) -> httpx2.Response:
        body = answer if isinstance(answer, bytes) else b"".join(answer)
        return httpx2.Response(status, headers={"content-type": content_type}, content=body)

    return openai.OpenAI(
        api_key="unused",
        base_url="http://gateway.example/v1",
        max_retries=0,
        http_client=httpx2.Client(transport=httpx2.MockTransport(handle)),
    )


def written(events: Iterable[ReplyEvent]) -> Iterable[bytes]:
    raw = json.dumps({"model": "claude", "input": "x", "stream": True, "tools": [TOOL], "temperature": 0.5}).encode()
    writer = PLUGIN.writer(PLUGIN.read_call(raw, "chat", (), "/v1/responses"))
    return [writer.write(event) for event in events]


def test_the_sdk_reads_a_whole_reply() -> None:
    sdk = client(200, "application/json", PLUGIN.write_reply(REPLY))

    response = sdk.responses.create(model="claude", input="x")

    assert isinstance(response, Response)
    assert response.output_text == "It is warm."
    assert response.usage is not None
    assert response.usage.input_tokens_details.cached_tokens == 5
    assert response.usage.total_tokens == 24


def test_the_sdk_accumulates_a_stream() -> None:
    sdk = client(200, PLUGIN.stream_type, written(unfold(REPLY)))

    with sdk.responses.stream(model="claude", input="x", tools=[TOOL]) as stream:
        kinds = [event.type for event in stream]
        response = stream.get_final_response()

    assert kinds[0] == "response.created"
    assert kinds[-1] == "response.completed"
    assert response.output_text == "It is warm."
    call = response.output[1]
    assert call.type == "function_call"
    assert (call.call_id, call.parsed_arguments) == ("toolu_1", {"place": "Rome"})
    assert response.temperature == 0.5


def test_the_sdk_raises_for_a_stream_that_breaks_and_has_seen_a_failed_response_before() -> None:
    events: list[ReplyEvent] = [
        ReplyStarted("msg_1", "claude"),
        PartStarted(0, "text"),
        PartDelta(0, "It"),
        Failed(Fault(529, "overloaded", "too many callers", "overloaded_error")),
    ]
    sdk = client(200, PLUGIN.stream_type, written(events))
    kinds: list[str] = []

    with sdk.responses.create(model="claude", input="x", stream=True) as stream:
        with pytest.raises(openai.APIError, match="too many callers"):
            kinds.extend(event.type for event in stream)

    assert kinds[-1] == "response.failed"
    assert "response.completed" not in kinds


def test_the_sdk_raises_what_a_refusal_of_ours_means() -> None:
    status, headers, body = PLUGIN.write_error(LimitReached("slow down", retry_after=2.5).fault())
    sdk = client(status, dict(headers)["content-type"], body)

    with pytest.raises(openai.RateLimitError, match="slow down") as caught:
        sdk.responses.create(model="claude", input="x")

    assert caught.value.code == "rate_limit_exceeded"
    assert dict(headers)["retry-after"] == "3"
