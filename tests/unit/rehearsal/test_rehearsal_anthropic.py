"""The Anthropic side, asked by the official client."""

from __future__ import annotations

import base64
import json
from typing import Any

import httpx2
import pytest
from anthropic import APIStatusError, AsyncAnthropic, AuthenticationError, BadRequestError, NotFoundError

from edge_extproc.rehearsal import Rehearsal

USER = {"role": "user", "content": "hello there"}
PIXEL = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}}
EPHEMERAL = {"type": "ephemeral"}
THINKING = {"type": "enabled", "budget_tokens": 1024}


def tool(name: str, **schema: Any) -> dict[str, Any]:
    return {"name": name, "input_schema": {"type": "object", **schema}}


WEATHER = tool("get_weather", properties={"city": {"type": "string"}}, required=["city"])
TIME = tool("get_time")


async def ask(client: AsyncAnthropic, *messages: Any, **settings: Any) -> Any:
    return await client.messages.create(
        **{"model": "rehearsal", "max_tokens": 2000, "messages": list(messages) or [USER], **settings}
    )


async def stream(client: AsyncAnthropic, *messages: Any, **settings: Any) -> tuple[list[str], Any]:
    """The event types as they came, and the message that they add up to."""
    given = {"model": "rehearsal", "max_tokens": 2000, "messages": list(messages) or [USER], **settings}
    types = [event.type async for event in await client.messages.create(**given, stream=True)]
    async with client.messages.stream(**given) as events:
        return types, await events.get_final_message()


def content(reply: Any) -> list[dict[str, Any]]:
    """The blocks, but for what differs from answer to answer and what only one way of answering sends."""
    return [block.model_dump(exclude={"id", "citations"}, exclude_none=True) for block in reply.content]


async def test_a_reply_echoes_and_counts(anthropic: AsyncAnthropic) -> None:
    reply = await ask(anthropic, system="be brief")

    assert content(reply) == [{"type": "text", "text": "You asked: hello there\n(I see 1 message and 2 system words.)"}]
    assert (reply.stop_reason, reply.stop_sequence, reply.role) == ("end_turn", None, "assistant")
    assert (reply.usage.input_tokens, reply.usage.output_tokens) == (4, 12)
    assert reply._request_id.startswith("req_")


async def test_a_stream_says_what_the_reply_says(anthropic: AsyncAnthropic) -> None:
    types, streamed = await stream(anthropic)
    reply = await ask(anthropic)

    assert types == [
        "message_start",
        "content_block_start",
        *["content_block_delta"] * 8,
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]
    assert content(streamed) == content(reply)
    assert (streamed.usage.input_tokens, streamed.usage.output_tokens) == (2, 8)


async def test_text_and_parallel_calls_stream_as_they_are_replied(anthropic: AsyncAnthropic) -> None:
    message = {"role": "user", "content": [{"type": "text", "text": "call get_weather and get_time"}]}
    _, streamed = await stream(anthropic, message, tools=[WEATHER, TIME])
    reply = await ask(anthropic, message, tools=[WEATHER, TIME])

    assert content(streamed) == content(reply)
    assert content(reply) == [
        {"type": "text", "text": "I will call get_weather and get_time."},
        {"type": "tool_use", "name": "get_weather", "input": {"city": "city"}},
        {"type": "tool_use", "name": "get_time", "input": {}},
    ]
    assert reply.stop_reason == "tool_use"
    assert len({block.id for block in reply.content[1:]}) == 2


@pytest.mark.parametrize(
    ("choice", "names"),
    [
        ({"type": "auto"}, ["get_weather", "get_time"]),
        ({"type": "auto", "disable_parallel_tool_use": True}, ["get_weather"]),
        ({"type": "any"}, ["get_weather", "get_time"]),
        ({"type": "tool", "name": "get_time"}, ["get_time"]),
        ({"type": "none"}, []),
    ],
)
async def test_the_tool_choice_is_kept(anthropic: AsyncAnthropic, choice: dict[str, Any], names: list[str]) -> None:
    message = {"role": "user", "content": "call get_weather and get_time"}
    reply = await ask(anthropic, message, tools=[WEATHER, TIME], tool_choice=choice, metadata={"user_id": "u"})
    _, streamed = await stream(anthropic, message, tools=[WEATHER, TIME], tool_choice=choice)

    assert content(streamed) == content(reply)
    assert [block.name for block in reply.content if block.type == "tool_use"] == names


def used(*ids: str) -> dict[str, Any]:
    return {
        "role": "assistant",
        "content": [{"type": "tool_use", "id": i, "name": "get_time", "input": {"at": "noon"}} for i in ids],
    }


def results(*ids: str, value: Any = "sunny") -> dict[str, Any]:
    return {"role": "user", "content": [{"type": "tool_result", "tool_use_id": i, "content": value} for i in ids]}


async def test_tool_results_are_answered(anthropic: AsyncAnthropic) -> None:
    parts = [{"type": "text", "text": "it rains"}, PIXEL]
    first = await ask(anthropic, USER, used("a", "b"), results("b", "a"), tools=[TIME])
    second = await ask(anthropic, USER, used("a"), results("a", value=parts), tools=[TIME])

    assert first.content[0].text.startswith("The tools answered: sunny; sunny\n")
    assert second.content[0].text.startswith("The tools answered: it rains\n")
    assert second.usage.input_tokens == 10 + 2 + 1 + 2 + 100


async def test_all_kinds_of_content_are_read(anthropic: AsyncAnthropic) -> None:
    blocks = [
        {"type": "text", "text": "look at"},
        PIXEL,
        {"type": "image", "source": {"type": "url", "url": "https://example.com/a.png"}},
        {"type": "image", "source": {"type": "file", "file_id": "file_1"}},
        {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "words"}},
        {"type": "text", "text": "this"},
    ]
    late = {"role": "system", "content": "be brief"}
    reply = await ask(anthropic, {"role": "user", "content": blocks}, late)

    assert reply.content[0].text == "You asked: look at\nthis\n(I see 2 messages, 3 images and 1 document.)"
    assert reply.usage.input_tokens == 3 + 400 + 2


async def test_thought_is_signed_and_comes_back_accepted(anthropic: AsyncAnthropic) -> None:
    _, streamed = await stream(anthropic, thinking=THINKING)
    reply = await ask(anthropic, thinking=THINKING)

    assert content(streamed) == content(reply)
    assert [block.type for block in reply.content] == ["thinking", "text"]
    assert reply.usage.output_tokens == 20 + 8
    await ask(anthropic, USER, {"role": "assistant", "content": content(reply)}, USER, thinking=THINKING)
    forged = [{**content(reply)[0], "signature": "forged"}]
    with pytest.raises(BadRequestError, match="signature"):
        await ask(anthropic, USER, {"role": "assistant", "content": forged}, USER)


async def test_omitted_thought_is_signed_all_the_same(anthropic: AsyncAnthropic) -> None:
    thinking = {"type": "adaptive", "display": "omitted"}
    _, streamed = await stream(anthropic, thinking=thinking, output_config={"effort": "low"})
    reply = await ask(anthropic, thinking=thinking, output_config={"effort": "low"})

    assert content(streamed) == content(reply)
    assert (reply.content[0].thinking, reply.usage.output_tokens) == ("", 5 + 8)
    assert reply.content[0].signature


async def test_thinking_may_be_switched_off_and_redacted_thought_come_back(anthropic: AsyncAnthropic) -> None:
    redacted = {"role": "assistant", "content": [{"type": "redacted_thinking", "data": "xyz"}]}
    reply = await ask(anthropic, USER, redacted, USER, thinking={"type": "disabled"})

    assert [block.type for block in reply.content] == ["text"]


async def test_the_token_limit_cuts_the_text(anthropic: AsyncAnthropic) -> None:
    reply = await ask(anthropic, max_tokens=2)

    assert (reply.content[0].text, reply.stop_reason) == ("You asked:", "max_tokens")


async def test_the_token_limit_cuts_a_call(anthropic: AsyncAnthropic) -> None:
    reply = await ask(anthropic, tools=[WEATHER], tool_choice={"type": "any"}, max_tokens=2)

    assert (content(reply)[0]["input"], reply.stop_reason) == ({}, "max_tokens")


async def test_a_stop_sequence_is_named(anthropic: AsyncAnthropic) -> None:
    _, streamed = await stream(anthropic, stop_sequences=["x", " there"])

    assert (streamed.content[0].text, streamed.stop_reason, streamed.stop_sequence) == (
        "You asked: hello",
        "stop_sequence",
        " there",
    )


async def test_a_json_schema_is_answered(anthropic: AsyncAnthropic) -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    reply = await ask(anthropic, output_config={"format": {"type": "json_schema", "schema": schema}})

    assert json.loads(reply.content[0].text) == {"n": 1}


async def test_cache_buckets_are_disjoint(anthropic: AsyncAnthropic) -> None:
    system = [{"type": "text", "text": "one two three", "cache_control": EPHEMERAL}, {"type": "text", "text": "four"}]
    written = (await ask(anthropic, system=system)).usage
    read = (await ask(anthropic, system=system, model="rehearsal(cached=2)")).usage
    whole = (await ask(anthropic, system=system, cache_control={"type": "ephemeral", "ttl": "1h"})).usage
    tools = (await ask(anthropic, tools=[{**TIME, "cache_control": EPHEMERAL}])).usage

    def buckets(usage: Any) -> tuple[int, int, int]:
        return usage.input_tokens, usage.cache_creation_input_tokens, usage.cache_read_input_tokens

    assert [buckets(usage) for usage in (written, read, whole, tools)] == [(3, 3, 0), (3, 1, 2), (0, 6, 0), (2, 10, 0)]


async def test_tokens_are_counted_before_they_cost(anthropic: AsyncAnthropic) -> None:
    counted = await anthropic.messages.count_tokens(model="rehearsal", messages=[{"role": "user", "content": "a b c"}])

    assert counted.input_tokens == 3


async def test_models_are_listed_and_any_is_known(anthropic: AsyncAnthropic) -> None:
    names = [model.id async for model in anthropic.models.list()]

    assert names[0] == "rehearsal"
    assert (await anthropic.models.retrieve("claude-anything")).id == "claude-anything"


def said(role: str, *blocks: dict[str, Any]) -> dict[str, Any]:
    return {"role": role, "content": list(blocks)}


def pictured(**source: Any) -> list[dict[str, Any]]:
    return [said("user", {"type": "image", "source": source})]


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"model": None}, "model"),
    ({"max_tokens": None}, "max_tokens"),
    ({"max_tokens": 0}, "max_tokens"),
    ({"max_tokens": "many"}, "max_tokens"),
    ({"messages": None}, "messages"),
    ({"messages": []}, "messages"),
    ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].role"),
    ({"messages": [{"role": "assistant", "content": "x"}]}, "messages[0].role"),
    ({"messages": [{"role": "user", "content": ""}]}, "messages[0].content"),
    ({"messages": [{"role": "user", "content": []}]}, "messages[0].content"),
    ({"messages": [{"role": "user"}]}, "messages[0].content"),
    ({"messages": [{**USER, "name": "me"}]}, "messages[0].name"),
    ({"messages": [said("user", {"type": "tool_use"})]}, "messages[0].content[0].type"),
    ({"messages": [said("user", {"type": "text", "text": ""})]}, "messages[0].content[0].text"),
    ({"messages": [said("user", {"type": "text", "text": "x", "index": 1})]}, "messages[0].content[0].index"),
    (
        {"messages": pictured(type="base64", media_type="image/tiff", data="")},
        "messages[0].content[0].source.media_type",
    ),
    ({"messages": pictured(type="base64", media_type="image/png", data="?")}, "messages[0].content[0].source.data"),
    ({"messages": pictured(type="url", url="ftp://x")}, "messages[0].content[0].source.url"),
    ({"messages": [USER, used("a")]}, "messages"),
    ({"messages": [USER, used("a"), USER]}, "messages[2].content"),
    ({"messages": [USER, used("a"), results("b")]}, "messages[2].content[0].tool_use_id"),
    ({"surprise": 1}, "surprise"),
    ({"temperature": 1.5}, "temperature"),
    ({"metadata": {"team": "x"}}, "metadata.team"),
    ({"cache_control": {"type": "eternal"}}, "cache_control.type"),
    ({"tools": [TIME, TIME]}, "tools[1].name"),
    ({"tools": [tool("no spaces")]}, "tools[0].name"),
    ({"tools": [{"name": "x", "input_schema": {}}]}, "tools[0].input_schema.type"),
    ({"tools": [{"type": "function", "name": "x"}]}, "tools[0].type"),
    ({"tool_choice": {"type": "auto"}}, "tool_choice"),
    ({"tools": [TIME], "tool_choice": {"type": "required"}}, "tool_choice.type"),
    ({"tools": [TIME], "tool_choice": {"type": "tool", "name": "x"}}, "tool_choice.name"),
    ({"thinking": {"type": "enabled", "budget_tokens": 3}}, "thinking.budget_tokens"),
    ({"thinking": {"type": "enabled", "budget_tokens": 3000}}, "thinking.budget_tokens"),
    ({"thinking": THINKING, "temperature": 0.5}, "temperature"),
    ({"thinking": THINKING, "tools": [TIME], "tool_choice": {"type": "any"}}, "tool_choice"),
    ({"output_config": {"format": {"type": "json_schema", "schema": {"$ref": "#"}}}}, "output_config"),
]


@pytest.mark.parametrize(("wrong", "param"), REFUSED, ids=[f"{n}-{param}" for n, (_, param) in enumerate(REFUSED)])
async def test_what_is_wrong_is_refused_by_its_path(
    http: httpx2.AsyncClient, wrong: dict[str, Any], param: str
) -> None:
    given = {"model": "rehearsal", "max_tokens": 2000, "messages": [USER], **wrong}
    reply = await http.post("/v1/messages", json=given)

    error = reply.json()
    assert (reply.status_code, error["type"], error["error"]["type"]) == (400, "error", "invalid_request_error")
    assert error["error"]["message"].startswith(param)
    assert error["request_id"] == reply.headers["request-id"]


async def test_unknown_fields_pass_where_the_script_is_lenient(anthropic: AsyncAnthropic) -> None:
    await ask(anthropic, model="rehearsal(lenient)", extra_body={"surprise": 1})
    await anthropic.messages.count_tokens(model="rehearsal(lenient)", messages=[USER], extra_body={"surprise": 1})  # type: ignore[list-item]  # a dict, not the SDK's TypedDict


async def test_the_version_header_is_required(http: httpx2.AsyncClient) -> None:
    del http.headers["anthropic-version"]
    reply = await http.post("/v1/messages", json={})

    assert (reply.status_code, "anthropic-version" in reply.json()["error"]["message"]) == (400, True)


async def test_a_credential_is_required_in_either_header(provider: Rehearsal, anthropic: AsyncAnthropic) -> None:
    with pytest.raises(AuthenticationError) as caught:
        await ask(anthropic.with_options(api_key="wrong"))

    assert caught.value.body["error"]["type"] == "authentication_error"  # type: ignore[index]  # the SDK says object
    async with AsyncAnthropic(base_url=provider.url, auth_token="token", max_retries=0) as bearer:
        await ask(bearer)


async def test_errors_have_the_type_of_their_status(anthropic: AsyncAnthropic) -> None:
    with pytest.raises(NotFoundError) as missing:
        await ask(anthropic, model="rehearsal-404")
    with pytest.raises(APIStatusError) as overloaded:
        await ask(anthropic, model="rehearsal-529")

    assert missing.value.body["error"]["type"] == "not_found_error"  # type: ignore[index]  # the SDK says object
    assert overloaded.value.body["error"]["type"] == "overloaded_error"  # type: ignore[index]  # the SDK says object


async def test_a_document_may_be_base64(anthropic: AsyncAnthropic) -> None:
    data = base64.b64encode(b"%PDF-1.7").decode()
    document = {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": data}}

    assert (await ask(anthropic, said("user", document))).usage.input_tokens == 100
