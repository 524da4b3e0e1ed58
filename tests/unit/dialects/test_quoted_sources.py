"""Search results, documents of blocks, and results whose call is not in the history, in other formats."""

from __future__ import annotations

import json
from typing import Any

import pytest
import request_validators
from asking import CHAT, CONVERSE, GEMINI, MESSAGES, PATHS, PROVIDERS, RESPONSES, provider_request

from edge_extproc.errors import BadRequest

Json = dict[str, Any]
FOUND: Json = {
    "type": "search_result",
    "source": "https://example.com/a",
    "title": "Guide",
    "content": [{"type": "text", "text": "First."}, {"type": "text", "text": "Second."}],
    "citations": {"enabled": True},
}
BLOCKS: Json = {"type": "document", "title": "Notes", "context": "Of May", "source": {"type": "content"}}
TEXT: Json = {
    "type": "document",
    "title": "Plain",
    "source": {"type": "text", "media_type": "text/plain", "data": "Words."},
}
OTHERS = [name for name, each in PROVIDERS.items() if each.dialect != MESSAGES]


def blocks_of(content: Any) -> Json:
    return {**BLOCKS, "source": {"type": "content", "content": content}}


def sent(provider: str, caller: str = MESSAGES, **fields: Any) -> tuple[Json, tuple[str, ...]]:
    least = {"model": "m", "max_tokens": 9} if caller == MESSAGES else {}
    body, dropped = provider_request(caller, {**least, **fields}, PATHS[caller], PROVIDERS[provider])
    assert [] == request_validators.of(provider, PROVIDERS[provider].dialect, body)
    return json.loads(body), dropped


def texts(value: Any) -> list[str]:
    """All strings of a body."""
    if isinstance(value, dict):
        return [text for each in value.values() for text in texts(each)]
    if isinstance(value, list):
        return [text for each in value for text in texts(each)]
    return [value] if isinstance(value, str) else []


def in_result(block: Json) -> list[Json]:
    return [
        {"role": "user", "content": "Go."},
        {"role": "assistant", "content": [{"type": "tool_use", "id": "toolu_1", "name": "f", "input": {}}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "toolu_1", "content": [block]}]},
    ]


@pytest.mark.parametrize("provider", OTHERS)
def test_a_search_result_is_text_with_its_title_and_source(provider: str) -> None:
    body, dropped = sent(provider, messages=[{"role": "user", "content": [FOUND, {"type": "text", "text": "Why?"}]}])

    assert "Title: Guide\nSource: https://example.com/a\n\nFirst.\n\nSecond." in texts(body)
    assert ("messages[0].content[0].citations",) == dropped


@pytest.mark.parametrize("provider", OTHERS)
def test_a_search_result_in_the_result_of_a_tool_is_text_there(provider: str) -> None:
    body, dropped = sent(provider, messages=in_result(FOUND), tools=[{"name": "f", "input_schema": {"type": "object"}}])

    assert any("Source: https://example.com/a\n\nFirst.\n\nSecond." in text for text in texts(body))
    assert "From the result of tool call" not in json.dumps(body)
    assert ("messages[2].content[0].content[0].citations",) == dropped


@pytest.mark.parametrize("content", ["Words.", [{"type": "text", "text": "Words."}]])
@pytest.mark.parametrize("provider", OTHERS)
def test_a_document_of_blocks_is_text_with_its_title_and_context(provider: str, content: Any) -> None:
    body, dropped = sent(provider, messages=[{"role": "user", "content": [blocks_of(content)]}])

    assert "Title: Notes\nContext: Of May\n\nWords." in texts(body)
    assert () == dropped


def test_images_of_a_document_stay_images() -> None:
    image = {"type": "image", "source": {"type": "url", "url": "https://example.com/a.png"}}
    words = {"type": "text", "text": "Words."}
    body, _ = sent("gpt", messages=[{"role": "user", "content": [blocks_of([words, image, words])]}])
    content = body["messages"][0]["content"]

    assert ["text", "image_url", "text"] == [each["type"] for each in content]


def test_the_cache_mark_of_a_search_result_stays() -> None:
    marked = {**FOUND, "cache_control": {"type": "ephemeral"}}
    body, _ = sent("claude on bedrock", messages=[{"role": "user", "content": [marked]}])

    assert ["text", "cachePoint"] == [next(iter(each)) for each in body["messages"][0]["content"]]


@pytest.mark.parametrize("block", [{**FOUND, "content": []}, {**FOUND, "content": [{"type": "x"}]}, blocks_of([7])])
def test_a_source_without_readable_content_is_refused_with_its_place(block: Json) -> None:
    with pytest.raises(BadRequest, match=r"messages\[0\]\.content\[0\]"):
        sent("gpt", messages=[{"role": "user", "content": [block]}])


def test_the_title_of_a_text_document_is_in_the_text_for_a_chat_host() -> None:
    body, dropped = sent("gpt", messages=[{"role": "user", "content": [TEXT]}])
    assert "Title: Plain\n\nWords." in texts(body)
    assert () == dropped

    body, _ = sent("gpt", messages=in_result(TEXT), tools=[{"name": "f", "input_schema": {"type": "object"}}])
    assert "Title: Plain\n\nWords." in texts(body["messages"][-1])
    assert "tool" == body["messages"][-1]["role"]


@pytest.mark.parametrize(
    "block",
    [
        {"searchResult": {"source": "https://a.example", "title": "T", "content": [{"text": "Words."}]}},
        {"document": {"name": "T", "format": "txt", "source": {"content": [{"text": "Words."}]}}},
    ],
)
def test_sources_of_bedrock_are_text_too(block: Json) -> None:
    for provider in ("gpt", "claude", "gemini"):
        body, dropped = sent(provider, CONVERSE, messages=[{"role": "user", "content": [block]}])
        assert any(text.endswith("Words.") and ": T" in text for text in texts(body))
        assert () == dropped


# --- results without their calls

SCHEMA: Json = {"type": "object", "properties": {}}
ORPHANS: dict[str, Json] = {
    CHAT: {
        "model": "m",
        "messages": [
            {"role": "tool", "tool_call_id": "gone", "content": "sun"},
            {"role": "user", "content": "So?"},
        ],
    },
    RESPONSES: {
        "model": "m",
        "input": [
            {"type": "function_call_output", "call_id": "gone", "output": "sun"},
            {"role": "user", "content": "So?"},
        ],
    },
    MESSAGES: {
        "model": "m",
        "max_tokens": 9,
        "messages": [
            {
                "role": "user",
                "content": [
                    {"type": "tool_result", "tool_use_id": "gone", "content": "sun"},
                    {"type": "text", "text": "So?"},
                ],
            }
        ],
    },
    GEMINI: {
        "contents": [
            {
                "role": "user",
                "parts": [{"functionResponse": {"name": "f", "id": "gone", "response": {"output": "sun"}}}],
            },
            {"role": "user", "parts": [{"text": "So?"}]},
        ]
    },
    CONVERSE: {
        "messages": [
            {
                "role": "user",
                "content": [{"toolResult": {"toolUseId": "gone", "content": [{"text": "sun"}]}}, {"text": "So?"}],
            }
        ]
    },
}
NAMES = {
    CHAT: "messages[0].tool_call_id",
    RESPONSES: "input[0].call_id",
    MESSAGES: "messages[0].content[0].tool_use_id",
    GEMINI: "contents[0].parts[0].functionResponse.id",
    CONVERSE: "messages[0].content[0].toolResult.toolUseId",
}
CROSSINGS = [(caller, name) for caller in ORPHANS for name, each in PROVIDERS.items() if each.dialect != caller]


@pytest.mark.parametrize(("caller", "provider"), CROSSINGS)
def test_a_result_without_its_call_is_a_text_of_the_user(caller: str, provider: str) -> None:
    body, dropped = provider_request(caller, ORPHANS[caller], PATHS[caller], PROVIDERS[provider])

    assert [] == request_validators.of(provider, PROVIDERS[provider].dialect, body)
    assert b"The result of an earlier tool call, which is not shown:" in body
    assert b"sun" in body
    assert b"gone" not in body
    assert (NAMES[caller],) == dropped


@pytest.mark.parametrize("provider", [name for name, each in PROVIDERS.items() if each.dialect != CHAT])
def test_a_result_without_its_call_does_not_part_another_call_from_its_result(provider: str) -> None:
    function = {"name": "f", "arguments": "{}"}
    messages = [
        {"role": "user", "content": "Go."},
        {"role": "assistant", "content": None, "tool_calls": [{"id": "c1", "type": "function", "function": function}]},
        {"role": "tool", "tool_call_id": "gone", "content": "rain"},
        {"role": "tool", "tool_call_id": "c1", "content": "sun"},
    ]
    tools = [{"type": "function", "function": {"name": "f", "parameters": SCHEMA}}]
    body, dropped = sent(provider, CHAT, model="m", messages=messages, tools=tools)

    assert 1 == json.dumps(body).count("sun") == json.dumps(body).count("rain")
    assert ("messages[2].tool_call_id",) == dropped


def test_a_failed_result_without_its_call_says_that_it_failed() -> None:
    block = {"type": "tool_result", "tool_use_id": "gone", "content": "no disk", "is_error": True}
    body, _ = sent("gpt", messages=[{"role": "user", "content": [block]}])

    assert "The error of an earlier tool call, which is not shown:" in texts(body)
