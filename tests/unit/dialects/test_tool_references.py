"""Claude Code's tool search: references to tools, deferred tools and context management, at any provider."""

from __future__ import annotations

import json
from typing import Any

import pytest
from asking import CHAT, CONVERSE, DIALECTS, GEMINI, MESSAGES, RESPONSES
from player import Stage, body, headers, talk

from edge_extproc.model.call import Call

MODELS = {CHAT: "gpt-5", RESPONSES: "gpt-5", GEMINI: "gemini-3-flash-preview", CONVERSE: "anthropic.claude-opus-4-6-v1"}
WEATHER = {"name": "weather", "input_schema": {"type": "object"}, "defer_loading": True}
SEARCH = {"name": "search", "input_schema": {"type": "object"}}


def cross(target: str, **body: Any) -> tuple[str, tuple[str, ...]]:
    call = Call(MESSAGES, "chat", "m", False, json.dumps({"model": "m", "max_tokens": 9, **body}).encode())
    written = DIALECTS[target].write_chat(DIALECTS[MESSAGES].read_chat(call), MODELS[target])
    return written.body.decode(), written.dropped


@pytest.mark.parametrize("target", MODELS)
def test_a_reference_to_a_tool_is_told_as_text(target: str) -> None:
    found = [{"type": "tool_reference", "tool_name": "weather"}, {"type": "text", "text": "(1 of 9)"}]
    messages = [
        {"role": "user", "content": "Go."},
        {"role": "assistant", "content": [{"type": "tool_use", "id": "toolu_1", "name": "search", "input": {}}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "toolu_1", "content": found}]},
    ]
    edits = {"edits": [{"type": "clear_tool_uses_20250919"}]}

    written, dropped = cross(target, messages=messages, tools=[SEARCH, WEATHER], context_management=edits)

    assert "The tool weather can be called now." in written
    assert "(1 of 9)" in written
    assert '"name":"weather"' in written.replace(" ", "")
    assert ("context_management", "tools[1].defer_loading") == dropped


@pytest.mark.parametrize("target", MODELS)
def test_the_search_of_anthropic_is_left_out_and_all_tools_are_offered(target: str) -> None:
    result = {
        "type": "tool_search_tool_search_result",
        "tool_references": [{"type": "tool_reference", "tool_name": "weather"}],
    }
    used = [
        {"type": "server_tool_use", "id": "srvtoolu_1", "name": "tool_search_tool_regex", "input": {"query": "w"}},
        {"type": "tool_search_tool_result", "tool_use_id": "srvtoolu_1", "content": result},
        {"type": "tool_use", "id": "toolu_2", "name": "weather", "input": {}},
    ]
    messages = [
        {"role": "user", "content": "Go."},
        {"role": "assistant", "content": used},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "toolu_2", "content": "sunny"}]},
    ]
    tools = [{"type": "tool_search_tool_regex_20251119", "name": "tool_search_tool_regex"}, WEATHER]

    written, dropped = cross(target, messages=messages, tools=tools)

    assert "sunny" in written
    assert ("messages[1].content[0]", "messages[1].content[1]", "tools[0]", "tools[1].defer_loading") == dropped


@pytest.mark.parametrize(
    "path", ["/v1/messages?beta=true", "/messages?beta=true", "/v1/messages/count_tokens?beta=true"]
)
def test_the_query_of_the_beta_client_is_accepted(path: str) -> None:
    hello = {"model": "claude", "max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}]}
    _, command = talk(Stage().exchange(), headers(path, ("anthropic-beta", "a,b")), body(hello))
    sent = dict(command.set_headers)  # type: ignore[union-attr]

    assert sent[":path"].startswith("/v1/messages")
    assert "a,b" == sent["anthropic-beta"]
