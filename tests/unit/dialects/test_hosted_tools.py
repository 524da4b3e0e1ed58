"""Tools that the provider executes: mapped where the other format has an equivalent, else left out and named."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from asking import CHAT, CONVERSE, DIALECTS, GEMINI, MESSAGES, RESPONSES

from edge_extproc.errors import Unsupported
from edge_extproc.model.call import Call
from edge_extproc.model.host import UNKNOWN_HOST, HostProfile
from edge_extproc.providers.anthropic import ANTHROPIC_HOST
from edge_extproc.providers.google import GEMINI_HOST
from edge_extproc.providers.openai import OPENAI_HOST

HOSTS = {MESSAGES: ANTHROPIC_HOST, GEMINI: GEMINI_HOST, RESPONSES: OPENAI_HOST}
MODELS = {
    MESSAGES: "claude-opus-4-6",
    GEMINI: "gemini-2.5-flash",
    RESPONSES: "gpt-5",
    CHAT: "gpt-5",
    CONVERSE: "anthropic.claude-opus-4-6-v1",
}
PLACE = {"type": "approximate", "country": "DE", "city": "Bonn"}
BODIES: dict[str, dict[str, Any]] = {
    RESPONSES: {"input": "Go."},
    MESSAGES: {"max_tokens": 9, "messages": [{"role": "user", "content": "Go."}]},
    GEMINI: {"contents": [{"role": "user", "parts": [{"text": "Go."}]}]},
}
FUNCTIONS: dict[str, Any] = {
    RESPONSES: {"type": "function", "name": "weather", "parameters": {"type": "object"}},
    MESSAGES: {"name": "weather", "input_schema": {"type": "object"}},
    GEMINI: {"functionDeclarations": [{"name": "weather"}]},
}


def cross(
    source: str, target: str, tools: list[Any], host: HostProfile | None = None, **more: Any
) -> tuple[Any, tuple[str, ...]]:
    raw = json.dumps({"model": "m", **BODIES[source], "tools": tools, **more}).encode()
    chat = DIALECTS[source].read_chat(Call(source, "chat", "m", False, raw))
    written = DIALECTS[target].write_chat(chat, MODELS[target], host or HOSTS.get(target, UNKNOWN_HOST))
    return json.loads(written.body).get("tools"), written.dropped


SEARCHES = {
    RESPONSES: {"type": "web_search"},
    MESSAGES: {"type": "web_search_20250305", "name": "web_search"},
    GEMINI: {"googleSearch": {}},
}
CODES = {
    RESPONSES: {"type": "code_interpreter", "container": {"type": "auto"}},
    MESSAGES: {"type": "code_execution_20250825", "name": "code_execution"},
    GEMINI: {"codeExecution": {}},
}
FETCHES = {MESSAGES: {"type": "web_fetch_20250910", "name": "web_fetch"}, GEMINI: {"urlContext": {}}}


@pytest.mark.parametrize("equal", [SEARCHES, CODES, FETCHES], ids=["search", "code", "fetch"])
def test_each_tool_becomes_that_of_the_other_format(equal: dict[str, Any]) -> None:
    for source, tool in equal.items():
        for target, expected in equal.items():
            if source != target:
                assert ([expected], ()) == cross(source, target, [tool])


@pytest.mark.parametrize("source", [RESPONSES, MESSAGES, GEMINI])
@pytest.mark.parametrize("target", [RESPONSES, MESSAGES, GEMINI, CHAT, CONVERSE])
def test_an_unknown_host_is_offered_none(source: str, target: str) -> None:
    if source == target:
        return
    path = "tools[0].googleSearch" if source == GEMINI else "tools[0]"

    assert (None, (path,)) == cross(source, target, [SEARCHES[source]], UNKNOWN_HOST)


@pytest.mark.parametrize("target", [CHAT, CONVERSE])
def test_a_format_without_such_tools_gets_none(target: str) -> None:
    every = replace(UNKNOWN_HOST, hosted_tools=frozenset({"web_search", "web_fetch", "code_execution"}))

    assert (None, ("tools[0]",)) == cross(RESPONSES, target, [SEARCHES[RESPONSES]], every)


def test_domains_and_places_are_kept_where_the_format_has_them() -> None:
    openai = {"type": "web_search", "filters": {"allowed_domains": ["a.example"]}, "user_location": PLACE}
    claude = {
        "type": "web_search_20250305",
        "name": "web_search",
        "allowed_domains": ["a.example"],
        "user_location": PLACE,
    }

    assert ([claude], ()) == cross(RESPONSES, MESSAGES, [openai])
    assert ([openai], ()) == cross(MESSAGES, RESPONSES, [claude])
    assert (None, ("tools[0]",)) == cross(MESSAGES, GEMINI, [claude])  # it would search everywhere
    placed = {**SEARCHES[MESSAGES], "user_location": PLACE, "max_uses": 3}
    assert ([{"googleSearch": {}}], ("tools[0].max_uses", "tools[0].user_location")) == cross(
        MESSAGES, GEMINI, [placed]
    )
    assert ("tools[0].max_uses",) == cross(MESSAGES, RESPONSES, [placed])[1]
    blocking = {**SEARCHES[MESSAGES], "blocked_domains": ["b.example"]}
    assert (None, ("tools[0]",)) == cross(MESSAGES, RESPONSES, [blocking])


@pytest.mark.parametrize(
    "tool",
    [
        {"type": "web_search", "external_web_access": False},
        {"type": "web_search", "filters": {"unknown": 1}},
        {"type": "code_interpreter", "container": {"type": "auto", "file_ids": ["f"]}},
        {"type": "code_interpreter", "container": "cntr_1"},
        {"type": "file_search", "vector_store_ids": ["v"]},
        {"type": "image_generation"},
    ],
)
def test_a_tool_with_more_than_the_other_format_has_is_left_out(tool: Any) -> None:
    assert (None, ("tools[0]",)) == cross(RESPONSES, MESSAGES, [tool])


def test_settings_that_only_change_the_quality_are_named() -> None:
    tools, dropped = cross(RESPONSES, MESSAGES, [{"type": "web_search_preview", "search_context_size": "high"}])

    assert ([SEARCHES[MESSAGES]], ("tools[0].search_context_size",)) == (tools, dropped)
    search = {"googleSearch": {"timeRangeFilter": {}, "excludeDomains": ["a"]}}
    assert (None, ("tools[0].googleSearch",)) == cross(GEMINI, MESSAGES, [search])


@pytest.mark.parametrize("source", [RESPONSES, MESSAGES])
def test_gemini_gets_functions_or_a_search_and_functions_count_more(source: str) -> None:
    tools, dropped = cross(source, GEMINI, [SEARCHES[source], FUNCTIONS[source]])

    assert ["weather"] == [each["name"] for tool in tools for each in tool["functionDeclarations"]]
    assert ("tools[0]",) == dropped


@pytest.mark.parametrize(("source", "target"), [(RESPONSES, MESSAGES), (MESSAGES, RESPONSES), (GEMINI, MESSAGES)])
def test_functions_and_tools_of_the_host_can_be_together(source: str, target: str) -> None:
    tools, dropped = cross(source, target, [SEARCHES[source], FUNCTIONS[source]])

    assert (SEARCHES[target], "weather", ()) == (tools[0], tools[1]["name"], dropped)


def test_a_function_of_the_same_name_counts_more() -> None:
    own = {"type": "function", "name": "web_search", "parameters": {"type": "object"}}
    tools, dropped = cross(RESPONSES, MESSAGES, [SEARCHES[RESPONSES], own])

    assert ([["input_schema", "name"]], ("tools[0]",)) == ([sorted(tool) for tool in tools], dropped)


@pytest.mark.parametrize("choice", ["required", {"type": "web_search"}])
def test_a_tool_of_the_host_cannot_be_forced_elsewhere(choice: Any) -> None:
    with pytest.raises(Unsupported, match="no tool of type 'web_search'"):
        cross(RESPONSES, MESSAGES, [SEARCHES[RESPONSES]], tool_choice=choice)


def test_several_tools_of_the_host_are_several_tools() -> None:
    tools, dropped = cross(MESSAGES, GEMINI, [SEARCHES[MESSAGES], CODES[MESSAGES], FETCHES[MESSAGES]])

    assert ([{"googleSearch": {}}, {"codeExecution": {}}, {"urlContext": {}}], ()) == (tools, dropped)
