"""Beta flags of Anthropic at other hosts of its models, and the line of a prompt that only Anthropic reads."""

from __future__ import annotations

import json
from typing import Any

import pytest

from edge_extproc import registry
from edge_extproc.dialects.base import Dialect
from edge_extproc.providers import anthropic_betas
from edge_extproc.providers.base import ProviderSettings, UpstreamCall, UpstreamRequest

MESSAGES: Dialect = registry.load("dialects", "anthropic_messages")
MODEL = "claude-sonnet-4-5"
PLAIN = {"name": "plain", "input_schema": {"type": "object"}}
ADDRESSES = {
    "anthropic": "https://api.anthropic.com/v1",
    "anthropic elsewhere": "https://api.deepseek.example/anthropic/v1",
    "bedrock": "https://bedrock.example",
    "vertex": "https://vertex.example/v1",
}
OTHERS = ("anthropic elsewhere", "bedrock", "vertex")
LINE = "x-anthropic-billing-header: cc_version=2.1.114.76c; cc_entrypoint=cli; cch=ea6aa;"


def sent(host: str, body: dict[str, Any], *flags: str) -> tuple[Any, tuple[str, ...], UpstreamRequest]:
    """The body that a host gets, and what it lacks."""
    kind = host.partition(" ")[0]
    options = {"region": "us-east5", "project": "p"} if kind in ("bedrock", "vertex") else {}
    settings = ProviderSettings(kind, ADDRESSES[host], lambda: "key", options=options)
    provider = registry.load("providers", kind).build(settings)
    raw = json.dumps({"model": MODEL, "max_tokens": 9, "messages": [], **body}).encode()
    written = MESSAGES.splice(
        MESSAGES.read_call(raw, "chat", (("anthropic-beta", ",".join(flags)),) if flags else (), "/v1/messages"), MODEL
    )
    call = UpstreamCall("chat", "anthropic_messages", MODEL, False, "/messages", written.body, betas=flags)
    request = provider.request(call)
    return json.loads(request.body), (*written.dropped, *request.dropped), request


def having(field: str) -> tuple[dict[str, Any], str]:
    """A body with a field of the table, and the field's name in it."""
    place, is_type, name = field.partition("=")
    if is_type:
        return {"tools": [PLAIN, {"type": f"{name}x", "name": "own"}]}, "tools[1]"
    place, _, name = field.rpartition(".")
    match place:
        case "tools":
            return {"tools": [PLAIN, {**PLAIN, "name": "own", name: [1]}]}, f"tools[1].{name}"
        case "cache_control":
            text = {"type": "text", "text": "a", "cache_control": {"type": "ephemeral", name: "global"}}
            return {"system": [text]}, f"system[0].cache_control.{name}"
        case "":
            return {name: {"a": 1}}, name
        case _:
            return {place: {"other": 1, name: 2}}, field


CELLS = [(flag, field) for flag, fields in anthropic_betas.FIELDS.items() for field in fields]


@pytest.mark.parametrize("host", ["bedrock", "vertex"])
@pytest.mark.parametrize(("flag", "field"), CELLS)
def test_a_flag_that_a_host_does_not_know_takes_its_fields_along(host: str, flag: str, field: str) -> None:
    content, name = having(field)
    known = anthropic_betas.BEDROCK if host == "bedrock" else anthropic_betas.VERTEX
    body, dropped, _ = sent(host, content, flag)
    unchanged = {key: body.get(key) for key in content} == content
    without_flag = field == "output_config.effort"  # newer models know it without the flag

    if flag in known:
        # Bedrock refuses this one whatever the flags say.
        assert unchanged or (host, field) == ("bedrock", "tools.eager_input_streaming")
    else:
        assert f"anthropic-beta.{flag}" in dropped
        assert without_flag or (name in dropped and not unchanged)


@pytest.mark.parametrize(("flag", "field"), CELLS)
def test_anthropic_itself_gets_each_flag_and_field(flag: str, field: str) -> None:
    content, _ = having(field)
    body, dropped, request = sent("anthropic", content, flag)

    assert ({**content}, ()) == ({key: body[key] for key in content}, dropped)
    assert ("anthropic-beta", flag) in request.headers


def test_the_sdks_flags_are_accepted_whatever_they_are() -> None:
    """A flag that no table knows passes to Anthropic and is named elsewhere."""
    flag = "something-new-2027-01-01"

    assert ("anthropic-beta", flag) in sent("anthropic", {}, flag)[2].headers
    assert all(f"anthropic-beta.{flag}" in sent(host, {}, flag)[1] for host in ("bedrock", "vertex"))


def test_a_choice_among_no_tools_is_removed_with_them() -> None:
    tools = {"tools": [{"type": "mcp_toolset", "mcp_server_name": "a"}], "tool_choice": {"type": "any"}}
    body, dropped, _ = sent("vertex", {**tools, "mcp_servers": []}, "mcp-client-2025-11-20")

    assert {"tools", "tool_choice", "mcp_servers"}.isdisjoint(body)
    assert {"tools[0]", "tool_choice", "mcp_servers"} <= set(dropped)


@pytest.mark.parametrize("value", ["adaptive", None, 1])
def test_an_object_that_is_none_is_left_to_the_host(value: Any) -> None:
    content = {"thinking": value, "system": "block_binding"}
    body, _, _ = sent("vertex", {**content, "metadata": {"block_binding": 1}}, "thinking-binding-controls-2026-08-01")

    assert content == {key: body[key] for key in content}


# --- the billing line of Claude Code


@pytest.mark.parametrize("host", OTHERS)
def test_the_billing_line_reaches_no_other_host(host: str) -> None:
    agent = {"type": "text", "text": "You are an agent", "cache_control": {"type": "ephemeral"}}
    body, dropped, _ = sent(host, {"system": [{"type": "text", "text": LINE}, agent]})
    alone, named, _ = sent(host, {"system": [{"type": "text", "text": LINE}]})

    assert [agent] == body["system"]
    assert "system" not in alone
    assert ("system.x-anthropic-billing-header",) == dropped == named


def test_anthropic_itself_gets_the_billing_line() -> None:
    system = [{"type": "text", "text": LINE}]

    assert (system, ()) == (
        sent("anthropic", {"system": system})[0]["system"],
        sent("anthropic", {"system": system})[1],
    )


@pytest.mark.parametrize("host", OTHERS)
@pytest.mark.parametrize("shared", [f"{LINE}\nMore", f"{LINE}\n\nMore\n", f"More\n{LINE}", f"More\n{LINE}\n"])
def test_the_billing_line_is_removed_from_a_text_that_has_more(host: str, shared: str) -> None:
    mark, other = {"cache_control": {"type": "ephemeral"}}, {"type": "text", "text": "x", "citations": None}
    block = {"type": "text", "text": shared, **mark}
    blocks, dropped, _ = sent(host, {"system": [block, other]})
    plain, named, _ = sent(host, {"system": shared})
    alone, _, _ = sent(host, {"system": LINE})

    assert [{"type": "text", "text": "More", **mark}, other] == blocks["system"]
    assert ("More", False) == (plain["system"], "system" in alone)
    assert ("system.x-anthropic-billing-header",) == dropped == named


@pytest.mark.parametrize("host", OTHERS)
@pytest.mark.parametrize("system", [f"See {LINE}", [{"type": "text", "text": f"a\nb {LINE}"}], {"text": LINE}])
def test_another_text_with_the_words_is_left_alone(host: str, system: Any) -> None:
    body, dropped, _ = sent(host, {"system": system, "metadata": {"user_id": LINE}})

    assert (system, ()) == (body["system"], dropped)


def test_a_body_that_cannot_be_read_is_left_to_the_host() -> None:
    assert ({}, ()) == anthropic_betas.without_billing(b'{"system":[1],"a":"' + LINE.encode() + b'"}')
