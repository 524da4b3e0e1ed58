"""Web searches that a provider executed are counted, in complete replies, their summaries and streams."""

from __future__ import annotations

import json
from typing import Any

import pytest
from translating import CHAT, GEMINI, MESSAGES, RESPONSES, stream_events

from edge_extproc.model.reply import Choice, Finish, Reply, UsageSeen
from edge_extproc.model.usage import Usage
from edge_extproc.registry import load

DIALECTS = {name: load("dialects", name) for name in (RESPONSES, MESSAGES, GEMINI, CHAT)}
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


@pytest.mark.parametrize("field", ["server_tool_use", "server_tool_use_details"])
@pytest.mark.parametrize(
    ("stated", "searches"),
    [
        ({"web_search_requests": 3, "tool_calls_requested": 4, "tool_calls_executed": 4}, 3),
        ({"tool_calls_executed": 2}, 0),
        (None, 0),
        ([], 0),
        ({"web_search_requests": -1}, 0),
        ({"web_search_requests": 10_001}, 0),
    ],
)
def test_openrouter_reports_its_searches_in_the_usage(field: str, stated: Any, searches: int) -> None:
    usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2, "cost": 0.03, field: stated}
    head = {"id": "c", "created": 1, "model": "m"}
    choice = {"index": 0, "message": {"role": "assistant", "content": "a"}, "finish_reason": "stop"}
    chunk = {**head, "object": "chat.completion.chunk"}
    end = {"index": 0, "delta": {"role": "assistant", "content": "a"}, "finish_reason": "stop"}

    assert searches == counted(CHAT, {**head, "object": "chat.completion", "choices": [choice], "usage": usage})
    assert searches == seen(CHAT, {**chunk, "choices": [end]}, {**chunk, "choices": [], "usage": usage})


@pytest.mark.parametrize(("items", "stated", "searches"), [([], 2, 2), ([SEARCH], 3, 3), ([SEARCH, SEARCH], 1, 2)])
def test_a_response_of_openrouter_has_the_higher_count_of_items_and_usage(
    items: list[Any], stated: int, searches: int
) -> None:
    usage = {"input_tokens": 1, "output_tokens": 1, "server_tool_use_details": {"web_search_requests": stated}}
    output = [{**item, "id": f"ws_{number}"} for number, item in enumerate(items)]
    response = {"id": "r", "object": "response", "status": "completed", "model": "m", "output": output, "usage": usage}
    begun = {"type": "response.created", "response": {**response, "output": [], "status": "in_progress"}}

    assert searches == counted(RESPONSES, response)
    assert searches == seen(RESPONSES, begun, {"type": "response.completed", "response": response})


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


# --- searches that have begun


def usages(source: str, *values: Any) -> list[int]:
    """The searches of each reported usage, as a caller who leaves after it is charged for."""
    return [event.usage.searches for event in stream_events(source, *values) if isinstance(event, UsageSeen)]


def begun(index: int, name: str = "web_search") -> list[dict[str, Any]]:
    """A call of a server tool, of which the arguments come later."""
    block = {"type": "server_tool_use", "id": f"srvtoolu_{index}", "name": name, "input": {}}
    piece = {"type": "input_json_delta", "partial_json": '{"query": "a"}'}
    return [
        {"type": "content_block_start", "index": index, "content_block": block},
        {"type": "content_block_delta", "index": index, "delta": piece},
        {"type": "content_block_stop", "index": index},
    ]


def searched(index: int, content: Any = ()) -> list[dict[str, Any]]:
    block = {"type": "web_search_tool_result", "tool_use_id": f"srvtoolu_{index - 1}", "content": content}
    return [
        {"type": "content_block_start", "index": index, "content_block": block},
        {"type": "content_block_stop", "index": index},
    ]


MESSAGE_START = {
    "type": "message_start",
    "message": {
        "type": "message",
        "id": "m",
        "model": "c",
        "role": "assistant",
        "content": [],
        "usage": {"input_tokens": 9, "output_tokens": 0, "server_tool_use": {"web_search_requests": 0}},
    },
}
FAILED_SEARCH = {"type": "web_search_tool_result_error", "error_code": "max_uses_exceeded"}


@pytest.mark.parametrize(
    ("blocks", "searches"),
    [
        ([*begun(0)], [0, 1]),
        ([*begun(0), *searched(1, []), *begun(2)], [0, 1, 2]),
        ([*begun(0), *searched(1, FAILED_SEARCH)], [0, 1, 0]),
        ([*begun(0, "web_fetch"), *begun(1, "code_execution")], [0]),
    ],
    ids=["one", "two", "failed", "other tools"],
)
def test_a_search_of_anthropic_is_counted_when_it_begins(blocks: list[Any], searches: list[int]) -> None:
    assert searches == usages(MESSAGES, MESSAGE_START, *blocks)
    prompts = [e.usage.prompt for e in stream_events(MESSAGES, MESSAGE_START, *blocks) if isinstance(e, UsageSeen)]
    assert {9} == set(prompts)


@pytest.mark.parametrize(("stated", "searches"), [({"server_tool_use": {"web_search_requests": 1}}, 1), ({}, 0)])
def test_the_final_usage_of_anthropic_has_the_number_of_searches(stated: Any, searches: int) -> None:
    usage = {"output_tokens": 5, **stated}
    ended = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": usage}

    assert searches == usages(MESSAGES, MESSAGE_START, *begun(0), *begun(1), ended, {"type": "message_stop"})[-1]


def test_a_search_of_a_response_is_counted_when_it_begins() -> None:
    response = {"id": "r", "object": "response", "status": "in_progress", "model": "m", "output": []}
    started = {"type": "response.created", "response": response}
    running = {"type": "web_search_call", "id": "ws", "status": "in_progress"}
    added = [{"type": "response.output_item.added", "output_index": n, "item": running} for n in range(3)]
    opened = {"type": "response.output_item.done", "output_index": 1, "item": OPENED}
    found = {"type": "response.output_item.done", "output_index": 0, "item": SEARCH}
    failed = {
        "type": "response.failed",
        "response": {**response, "status": "failed", "error": {"code": "server_error"}},
    }

    assert [1, 2, 3, 2, 2] == usages(RESPONSES, started, *added, opened, found)
    assert 2 == usages(RESPONSES, started, *added, opened, found, failed)[-1]


def grounded(*queries: str) -> dict[str, Any]:
    return {"index": 0, "groundingMetadata": {"webSearchQueries": list(queries)}}


def calling(*queries: str, tool: str = "GOOGLE_SEARCH_WEB") -> dict[str, Any]:
    call = {"toolType": tool, "id": "t", "args": {"queries": list(queries)}}
    return {"index": 0, "content": {"role": "model", "parts": [{"toolCall": call, "thoughtSignature": "c2ln"}]}}


@pytest.mark.parametrize(
    ("candidates", "model", "searches"),
    [
        ([grounded("a", "b")], "gemini-3-flash-preview", [2]),
        ([grounded("", "a", "", "b")], "gemini-3-flash-preview", [2]),
        ([grounded("a", "b")], "gemini-2.5-flash", [1]),
        ([calling("a"), calling("b", "c"), grounded("", "a", "b", "c")], "gemini-3-flash-preview", [1, 3]),
        ([calling("a", tool="GOOGLE_MAPS")], "gemini-3-flash-preview", []),
    ],
    ids=["metadata", "empty queries", "by prompt", "tool calls", "another tool"],
)
def test_a_search_of_gemini_is_counted_before_the_usage(candidates: list[Any], model: str, searches: list[int]) -> None:
    chunks = [{"candidates": [each], "modelVersion": model} for each in candidates]

    assert searches == usages(GEMINI, *chunks)


def test_a_complete_reply_of_gemini_with_calls_of_functions_has_its_searches() -> None:
    parts = [*calling("a", "b")["content"]["parts"], {"functionCall": {"name": "f", "args": {}}}]
    candidate = {"index": 0, "content": {"role": "model", "parts": parts}, "finishReason": "STOP"}
    usage = {"promptTokenCount": 1, "candidatesTokenCount": 1}

    reply = {"candidates": [candidate], "usageMetadata": usage, "modelVersion": "gemini-3-flash-preview"}
    assert 2 == counted(GEMINI, reply)
