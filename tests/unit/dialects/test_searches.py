"""Web searches that a provider executed are counted, in complete replies, their summaries and streams."""

from __future__ import annotations

import json
from typing import Any

import pytest
from translating import GEMINI, MESSAGES, RESPONSES, stream_events

from edge_extproc.model.reply import Choice, Finish, Reply, UsageSeen
from edge_extproc.model.usage import Usage
from edge_extproc.registry import load

DIALECTS = {name: load("dialects", name) for name in (RESPONSES, MESSAGES, GEMINI)}
SEARCH = {"type": "web_search_call", "id": "ws_1", "status": "completed", "action": {"type": "search", "query": "a"}}
OPENED = {**SEARCH, "id": "ws_2", "action": {"type": "open_page", "url": "https://a.example"}}
PLAIN = {"type": "web_search_call", "id": "ws_3", "status": "completed"}


def counted(source: str, body: dict[str, Any]) -> int:
    raw = json.dumps(body).encode()
    usage, summary = DIALECTS[source].read_reply(raw).usage, DIALECTS[source].read_summary(raw)
    assert usage is not None
    assert summary is None or (summary.usage is not None and summary.usage.searches == usage.searches)
    return usage.searches


def seen(source: str, *values: Any) -> int:
    usages = [event.usage for event in stream_events(source, *values) if isinstance(event, UsageSeen)]
    return usages[-1].searches


@pytest.mark.parametrize(
    ("stated", "searches"),
    [
        ({"web_search_requests": 3}, 3),
        ({}, 0),
        (None, 0),
        ({"web_search_requests": -1}, 0),
        ({"web_search_requests": 10_001}, 0),
    ],
)
def test_anthropic_reports_its_searches_in_the_usage(stated: Any, searches: int) -> None:
    usage = {"input_tokens": 1, "output_tokens": 1, "server_tool_use": stated}
    message = {"type": "message", "id": "m", "model": "c", "content": [], "stop_reason": "end_turn"}
    begun = {**message, "content": [], "usage": {"input_tokens": 1, "output_tokens": 0}}

    assert searches == counted(MESSAGES, {**message, "usage": usage})
    assert searches == seen(
        MESSAGES,
        {"type": "message_start", "message": begun},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": usage},
        {"type": "message_stop"},
    )


@pytest.mark.parametrize("items", [[SEARCH, OPENED, SEARCH], [PLAIN, SEARCH], [OPENED]])
def test_a_response_has_an_item_for_each_search(items: list[Any]) -> None:
    output = [{**item, "id": f"ws_{number}"} for number, item in enumerate(items)]
    searches = sum(item is not OPENED for item in items)
    usage = {"input_tokens": 1, "output_tokens": 1, "total_tokens": 2}
    response = {"id": "r", "object": "response", "status": "completed", "model": "m", "output": output, "usage": usage}
    begun = {"type": "response.created", "response": {**response, "output": [], "status": "in_progress"}}
    done = [
        {"type": "response.output_item.done", "output_index": number, "item": item}
        for number, item in enumerate(output)
    ]

    assert searches == counted(RESPONSES, response)
    assert searches == seen(RESPONSES, begun, *done, {"type": "response.completed", "response": response})
    empty = {"type": "response.completed", "response": {**response, "output": []}}
    assert searches == seen(RESPONSES, begun, *done, empty)


@pytest.mark.parametrize(
    ("model", "queries", "searches"),
    [("gemini-3-flash-preview", 3, 3), ("gemini-2.5-flash", 3, 1), ("gemini-2.5-pro", 0, 0), ("gemini-3.1-pro", 0, 0)],
)
def test_gemini_is_charged_by_search_or_by_prompt(model: str, queries: int, searches: int) -> None:
    metadata = {"groundingMetadata": {"webSearchQueries": ["a"] * queries}}
    content = {"content": {"role": "model", "parts": [{"text": "Hi"}]}, "index": 0}
    usage = {"usageMetadata": {"promptTokenCount": 1, "candidatesTokenCount": 1}, "modelVersion": model}
    grounded = {"candidates": [{**content, **metadata}], **usage}
    last = {"candidates": [{**content, "finishReason": "STOP"}], **usage}

    assert searches == counted(GEMINI, {"candidates": [{**content, **metadata, "finishReason": "STOP"}], **usage})
    assert searches == seen(GEMINI, grounded, last)
    array = json.dumps([grounded, last]).encode()
    whole = DIALECTS[GEMINI].read_reply(array).usage
    assert whole is not None
    assert searches == whole.searches


def test_a_caller_of_anthropic_reads_the_searches_of_another_provider() -> None:
    reply = Reply(RESPONSES, "r", "m", (Choice((), Finish("stop")),), Usage(input=1, output=1, searches=2))
    body = json.loads(DIALECTS[MESSAGES].write_reply(reply))

    assert {"web_fetch_requests": 0, "web_search_requests": 2} == body["usage"]["server_tool_use"]


def test_sums_have_the_searches_of_both() -> None:
    assert 5 == (Usage(searches=2) + Usage(input=1, searches=3)).searches


def test_a_failed_response_has_its_searches() -> None:
    usage = {"input_tokens": 1, "output_tokens": 1, "total_tokens": 2}
    response = {"id": "r", "object": "response", "model": "m", "output": [], "usage": usage}
    failed = {**response, "status": "failed", "output": [SEARCH], "error": {"code": "server_error", "message": "no"}}
    begun = {"type": "response.created", "response": {**response, "status": "in_progress"}}

    assert 1 == seen(RESPONSES, begun, {"type": "response.failed", "response": failed})
    done = {"type": "response.output_item.done", "output_index": 0, "item": SEARCH}
    assert 1 == seen(RESPONSES, begun, done, {"type": "response.failed", "response": {**failed, "output": []}})
