"""OpenAI's Responses API, asked by the official client; streams are held to the SDK's own grammar."""

from __future__ import annotations

import json
from typing import Any

import httpx2
import pytest
import responses_grammar
from openai import AsyncOpenAI, BadRequestError, RateLimitError
from openai.types.responses import Response
from pydantic import BaseModel
from responses_grammar import events_of

USER = {"role": "user", "content": "hello there"}
WEATHER = {
    "type": "function",
    "name": "get_weather",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}
TIME = {"type": "function", "name": "get_time", "parameters": {"type": "object"}}


async def ask(client: AsyncOpenAI, asked: Any = "hello there", **settings: Any) -> Response:
    return await client.responses.create(**{"model": "rehearsal", "input": asked, **settings})  # type: ignore[no-any-return]  # its overloads


async def wire(http: httpx2.AsyncClient, asked: Any = "hello there", **settings: Any) -> bytes:
    body = {"model": "rehearsal", "input": asked, "stream": True, **settings}
    return (await http.post("/v1/responses", json=body)).content


async def test_a_reply_echoes_and_counts(openai: AsyncOpenAI) -> None:
    reply = await ask(openai, [USER], instructions="be brief")

    assert "You asked: hello there\n(I see 1 message and 2 system words.)" == reply.output_text
    assert "completed" == reply.status
    assert reply.usage is not None
    assert (4, 12, 16) == (reply.usage.input_tokens, reply.usage.output_tokens, reply.usage.total_tokens)
    Response.model_validate(reply.model_dump())


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"tools": [WEATHER, TIME], "input": "call get_weather and get_time"},
        {"tools": [WEATHER], "tool_choice": "required"},
        {"reasoning": {"effort": "low", "summary": "auto"}, "include": ["reasoning.encrypted_content"]},
        {"reasoning": {"effort": "high"}},
        {"max_output_tokens": 16, "input": "word " * 100},
        {"text": {"format": {"type": "json_schema", "name": "w", "schema": WEATHER["parameters"]}}},
        {"model": "rehearsal(tokens=0)"},
    ],
)
async def test_a_stream_is_as_the_sdk_wants_it_and_says_what_the_reply_says(
    openai: AsyncOpenAI, http: httpx2.AsyncClient, settings: Any
) -> None:
    final = responses_grammar.check(await wire(http, settings.get("input", "hello there"), **settings))
    whole = (await ask(openai, settings.get("input", "hello there"), **settings)).model_dump(
        mode="json", exclude_unset=True
    )

    assert whole["usage"] == final["usage"]
    assert whole["status"] == final["status"]
    assert [said(item) for item in whole["output"]] == [said(item) for item in final["output"]]


def said(item: dict[str, Any]) -> Any:
    return item["type"], item.get("name"), item.get("arguments"), item.get("summary"), item.get("content")


async def test_tools_are_called_and_their_results_are_read(openai: AsyncOpenAI) -> None:
    question = {"role": "user", "content": "call get_weather"}
    reply = await ask(openai, [question], tools=[WEATHER, TIME])
    (call,) = [item for item in reply.output if item.type == "function_call"]
    result = {"type": "function_call_output", "call_id": call.call_id, "output": "sunny"}
    items = [item.model_dump(exclude_none=True) for item in reply.output]

    assert ("get_weather", {"city": "city"}) == (call.name, json.loads(call.arguments))
    answer = await ask(openai, [question, *items, result], tools=[WEATHER])
    assert answer.output_text.startswith("The tools answered: sunny")


@pytest.mark.parametrize(
    ("choice", "called"),
    [
        ("auto", []),
        ("none", []),
        ("required", ["get_weather"]),
        ({"type": "function", "name": "get_time"}, ["get_time"]),
        (
            {"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "get_time"}]},
            ["get_time"],
        ),
    ],
)
async def test_who_must_call_a_tool_calls_one(openai: AsyncOpenAI, choice: Any, called: list[str]) -> None:
    reply = await ask(openai, tools=[WEATHER, TIME], tool_choice=choice)

    assert called == [item.name for item in reply.output if item.type == "function_call"]


class Weather(BaseModel):
    city: str
    degrees: int


async def test_the_sdk_parses_a_structured_output(openai: AsyncOpenAI) -> None:
    reply = await openai.responses.parse(model="rehearsal", input="How is it?", text_format=Weather)

    assert Weather(city="city", degrees=1) == reply.output_parsed


async def test_thoughts_are_an_item_of_their_own_and_shown_where_that_was_asked(openai: AsyncOpenAI) -> None:
    hidden = await ask(openai, reasoning={"effort": "low"})
    shown = await ask(openai, reasoning={"effort": "low", "summary": "auto"})

    for reply, parts in ((hidden, 0), (shown, 1)):
        assert ["reasoning", "message"] == [item.type for item in reply.output]
        assert parts == len(reply.output[0].summary)  # type: ignore[union-attr]  # it is the reasoning
        assert reply.usage is not None
        assert 5 == reply.usage.output_tokens_details.reasoning_tokens


async def test_a_cut_answer_is_incomplete(openai: AsyncOpenAI) -> None:
    reply = await ask(openai, "word " * 100, max_output_tokens=16)

    assert reply.incomplete_details is not None
    assert ("incomplete", "max_output_tokens") == (reply.status, reply.incomplete_details.reason)
    assert reply.usage is not None
    assert 16 == reply.usage.output_tokens


@pytest.mark.parametrize(
    ("wrong", "param"),
    [
        ({"messages": []}, "messages"),
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"conversation": "conv_1"}, "conversation"),
        ({"background": True}, "background"),
        ({"input": []}, "input"),
        ({"input": [{"type": "item_reference", "id": "msg_1"}]}, "input[0].id"),
        ({"input": [{"role": "robot", "content": "x"}]}, "input[0].role"),
        ({"input": [{"role": "user", "content": [{"type": "text", "text": "x"}]}]}, "input[0].content[0].type"),
        ({"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "x"}]}]}, None),
        ({"input": [USER, {"type": "function_call_output", "call_id": "c", "output": "x"}]}, "input[1].call_id"),
        ({"input": [USER, {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}]}, "input"),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
        ({"tools": [{**TIME, "name": "a b"}]}, "tools[0].name"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tools": [TIME], "tool_choice": {"type": "function", "name": "f"}}, "tool_choice.name"),
        ({"max_output_tokens": 15}, "max_output_tokens"),
        ({"top_logprobs": 1}, "top_logprobs"),
        ({"text": {"format": {"type": "json_object"}}}, "input"),
        ({"stream_options": {"include_obfuscation": False}}, "stream_options"),
    ],
)
async def test_what_the_service_refuses_is_refused(openai: AsyncOpenAI, wrong: Any, param: str | None) -> None:
    with pytest.raises(BadRequestError) as found:
        await ask(openai, extra_body=wrong)

    if param is not None:
        assert param == found.value.param


async def test_faults_work_as_in_chat(openai: AsyncOpenAI, http: httpx2.AsyncClient) -> None:
    with pytest.raises(RateLimitError):
        await ask(openai, model="rehearsal-429")
    broken = events_of(await wire(http, model="rehearsal-error"))
    assert ["error"] == [event["type"] for event in broken[-1:]]
    ended = events_of(await wire(http, model="rehearsal-end"))
    assert 5 == len(ended)
