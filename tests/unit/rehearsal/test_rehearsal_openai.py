"""The OpenAI side, asked by the official client."""

from __future__ import annotations

import base64
import json
import math
from typing import Any

import httpx2
import pytest
from openai import APIStatusError, AsyncOpenAI, AuthenticationError, BadRequestError, NotFoundError, RateLimitError

from edge_extproc.rehearsal import Rehearsal

USER = {"role": "user", "content": "hello there"}
PIXEL = "data:image/png;base64,iVBORw0KGgo="


def tool(name: str, **schema: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "parameters": {"type": "object", **schema}}}


WEATHER = tool("get_weather", properties={"city": {"type": "string"}}, required=["city"])
TIME = tool("get_time")


async def ask(client: AsyncOpenAI, *messages: Any, **settings: Any) -> Any:
    return await client.chat.completions.create(
        **{"model": "rehearsal", "messages": list(messages) or [USER], **settings}
    )


async def stream(client: AsyncOpenAI, *messages: Any, **settings: Any) -> list[Any]:
    return [chunk async for chunk in await ask(client, *messages, stream=True, **settings)]


async def test_a_reply_echoes_and_counts(openai: AsyncOpenAI) -> None:
    reply = await ask(openai, {"role": "system", "content": "be brief"}, USER)

    assert reply.choices[0].message.content == "You asked: hello there\n(I see 2 messages and 2 system words.)"
    assert reply.choices[0].finish_reason == "stop"
    assert (reply.usage.prompt_tokens, reply.usage.completion_tokens, reply.usage.total_tokens) == (4, 12, 16)
    assert reply._request_id.startswith("req_")


async def test_the_same_question_has_the_same_answer_under_another_id(openai: AsyncOpenAI) -> None:
    first, second = await ask(openai), await ask(openai)

    assert first.choices == second.choices
    assert first.id != second.id


async def test_a_stream_says_what_the_reply_says(openai: AsyncOpenAI) -> None:
    chunks = await stream(openai)

    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == (
        "You asked: hello there\n(I see 1 message.)"
    )
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-1].choices[0].finish_reason == "stop"
    assert len({chunk.id for chunk in chunks}) == 1


async def test_usage_streams_only_if_asked_for(openai: AsyncOpenAI) -> None:
    without = await stream(openai)
    chunks = await stream(openai, stream_options={"include_usage": True})

    assert all("usage" not in chunk.model_fields_set for chunk in without)
    assert all(chunk.usage is None and "usage" in chunk.model_fields_set for chunk in chunks[:-1])
    assert (chunks[-1].choices, chunks[-1].usage.completion_tokens) == ([], 8)
    assert len(chunks) == len(without) + 1


async def test_parallel_calls_stream_with_ids_and_whole_arguments(openai: AsyncOpenAI) -> None:
    async with openai.chat.completions.stream(
        model="rehearsal",
        messages=[{"role": "user", "content": "call get_weather and get_time"}],
        tools=[WEATHER, TIME],  # type: ignore[list-item]  # the SDK's TypedDict is narrower than any dict
    ) as events:
        reply = await events.get_final_completion()

    calls = reply.choices[0].message.tool_calls or []
    assert [(call.function.name, json.loads(call.function.arguments)) for call in calls] == [
        ("get_weather", {"city": "city"}),
        ("get_time", {}),
    ]
    assert len({call.id for call in calls}) == 2
    assert reply.choices[0].finish_reason == "tool_calls"


async def test_a_stream_of_nothing_but_calls_opens_with_the_first_call(openai: AsyncOpenAI) -> None:
    chunks = await stream(openai, tools=[WEATHER], tool_choice="required")

    opening = chunks[0].choices[0].delta
    assert (opening.role, opening.content, opening.tool_calls[0].function.name) == ("assistant", None, "get_weather")


async def test_whole_reply_and_stream_agree_on_calls(openai: AsyncOpenAI) -> None:
    reply = await ask(openai, tools=[WEATHER, TIME], tool_choice={"type": "function", "function": {"name": "get_time"}})

    message = reply.choices[0].message
    assert (message.content, [call.function.name for call in message.tool_calls]) == (None, ["get_time"])


async def test_no_tool_is_called_when_none_may_be(openai: AsyncOpenAI) -> None:
    message = {"role": "user", "content": "call get_time"}

    assert (await ask(openai, message, tools=[TIME], tool_choice="none")).choices[0].message.tool_calls is None
    assert (await ask(openai, message, tools=[TIME], tool_choice="auto")).choices[0].message.tool_calls


async def test_one_call_at_a_time_if_so_asked(openai: AsyncOpenAI) -> None:
    message = {"role": "user", "content": "call get_weather and get_time"}
    reply = await ask(openai, message, tools=[WEATHER, TIME], parallel_tool_calls=False)

    assert len(reply.choices[0].message.tool_calls) == 1


def called(*ids: str) -> dict[str, Any]:
    function = {"name": "get_time", "arguments": "{}"}
    return {"role": "assistant", "tool_calls": [{"id": i, "type": "function", "function": function} for i in ids]}


def result(identity: str, text: str = "noon") -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": identity, "content": text}


async def test_tool_results_are_answered(openai: AsyncOpenAI) -> None:
    reply = await ask(openai, USER, called("a", "b"), result("b"), result("a", "sunny"), tools=[TIME])

    assert reply.choices[0].message.content.startswith("The tools answered: noon; sunny\n")


async def test_all_kinds_of_content_are_read(openai: AsyncOpenAI) -> None:
    content = [
        {"type": "text", "text": "look at"},
        {"type": "image_url", "image_url": {"url": PIXEL, "detail": "low"}},
        {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}},
        {"type": "file", "file": {"file_data": "data:application/pdf;base64,AAAA", "filename": "a.pdf"}},
        {"type": "file", "file": {"file_id": "file-1"}},
        {"type": "text", "text": "this"},
    ]
    reply = await ask(openai, {"role": "user", "content": content})

    assert reply.choices[0].message.content == ("You asked: look at\nthis\n(I see 1 message, 1 image and 3 documents.)")
    assert reply.usage.prompt_tokens == 3 + 400


async def test_an_assistants_words_may_be_parts_or_a_refusal(openai: AsyncOpenAI) -> None:
    parts = {"role": "assistant", "content": [{"type": "text", "text": "a b"}, {"type": "refusal", "refusal": "c"}]}

    assert (await ask(openai, USER, parts, {"role": "assistant", "refusal": "no"}, USER)).usage.prompt_tokens == 7


async def test_reasoning_costs_hidden_tokens(openai: AsyncOpenAI) -> None:
    usage = (await ask(openai, reasoning_effort="low")).usage

    assert (usage.completion_tokens, usage.completion_tokens_details.reasoning_tokens) == (13, 5)


@pytest.mark.parametrize("field", ["max_tokens", "max_completion_tokens"])
async def test_the_token_limit_cuts_the_text(openai: AsyncOpenAI, field: str) -> None:
    reply = await ask(openai, **{field: 2})

    assert (reply.choices[0].message.content, reply.choices[0].finish_reason) == ("You asked:", "length")
    assert reply.usage.completion_tokens == 2


@pytest.mark.parametrize("stop", [" there", [" there", "x"]])
async def test_a_stop_sequence_ends_the_text(openai: AsyncOpenAI, stop: Any) -> None:
    reply = await ask(openai, stop=stop)

    assert (reply.choices[0].message.content, reply.choices[0].finish_reason) == ("You asked: hello", "stop")


async def test_a_json_schema_is_answered(openai: AsyncOpenAI) -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    wanted = {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema, "strict": True}}

    assert json.loads((await ask(openai, response_format=wanted)).choices[0].message.content) == {"n": 1}


async def test_a_json_object_is_answered_if_the_messages_speak_of_json(openai: AsyncOpenAI) -> None:
    wanted = {"type": "json_object"}
    reply = await ask(openai, {"role": "user", "content": "say it in JSON"}, response_format=wanted)

    assert json.loads(reply.choices[0].message.content) == {"answer": "answer"}
    with pytest.raises(BadRequestError, match="json"):
        await ask(openai, response_format=wanted)


async def test_several_choices_are_interleaved(openai: AsyncOpenAI) -> None:
    reply = await ask(openai, n=2, response_format={"type": "text"})
    chunks = await stream(openai, n=2)

    assert [choice.index for choice in reply.choices] == [0, 1]
    assert reply.usage.completion_tokens == 16
    assert [chunk.choices[0].index for chunk in chunks[:4]] == [0, 1, 0, 1]


async def test_cached_tokens_are_reported_as_told(openai: AsyncOpenAI) -> None:
    usage = (await ask(openai, model="rehearsal(cached=1)")).usage

    assert (usage.prompt_tokens, usage.prompt_tokens_details.cached_tokens) == (2, 1)


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"messages": []}, "messages"),
    ({"messages": None}, "messages"),
    ({"messages": "hi"}, "messages"),
    ({"messages": ["hi"]}, "messages[0]"),
    ({"messages": [{"role": "robot", "content": "x"}]}, "messages[0].role"),
    ({"messages": [{"role": "function", "name": "f", "content": "x"}]}, "messages[0].role"),
    ({"messages": [{"content": "x"}]}, "messages[0].role"),
    ({"messages": [{"role": "user"}]}, "messages[0].content"),
    ({"messages": [{"role": "user", "content": []}]}, "messages[0].content"),
    ({"messages": [{"role": "user", "content": 7}]}, "messages[0].content"),
    ({"messages": [{"role": "user", "content": [{"type": "video"}]}]}, "messages[0].content[0].type"),
    ({"messages": [{"role": "system", "content": [{"type": "image_url"}]}]}, "messages[0].content[0].type"),
    (
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]},
        "messages[0].content[0].image_url.url",
    ),
    ({"messages": [{"role": "assistant"}]}, "messages[0].content"),
    ({"messages": [{"role": "assistant", "content": "x", "tool_calls": []}]}, "messages[0].tool_calls"),
    ({"messages": [USER, called("a")]}, "messages"),
    ({"messages": [USER, called("a"), USER]}, "messages[2].role"),
    ({"messages": [USER, called("a"), result("b")]}, "messages[2].tool_call_id"),
    ({"model": 7}, "model"),
    ({"surprise": 1}, "surprise"),
    ({"temperature": 3}, "temperature"),
    ({"temperature": "hot"}, "temperature"),
    ({"max_tokens": 0}, "max_tokens"),
    ({"max_tokens": True}, "max_tokens"),
    ({"max_tokens": 1, "max_completion_tokens": 1}, "max_tokens"),
    ({"n": 0}, "n"),
    ({"stop": ["a"] * 5}, "stop"),
    ({"stop": [1]}, "stop"),
    ({"stream_options": {"include_usage": True}}, "stream_options"),
    ({"logprobs": True}, "logprobs"),
    ({"modalities": ["audio"]}, "modalities"),
    ({"reasoning_effort": "heroic"}, "reasoning_effort"),
    ({"parallel_tool_calls": True}, "parallel_tool_calls"),
    ({"tool_choice": "auto"}, "tool_choice"),
    ({"tools": [TIME], "tool_choice": "all"}, "tool_choice"),
    ({"tools": [TIME], "tool_choice": {"type": "function", "function": {"name": "x"}}}, "tool_choice.function.name"),
    ({"tools": [tool("no spaces")]}, "tools[0].function.name"),
    ({"tools": [tool("x", type="string")]}, "tools[0].function.parameters"),
    ({"tools": [{"type": "custom"}]}, "tools[0].type"),
    ({"response_format": {"type": "json_schema", "json_schema": {"name": "x"}}}, "response_format.json_schema.schema"),
]


@pytest.mark.parametrize(("wrong", "param"), REFUSED, ids=[f"{n}-{param}" for n, (_, param) in enumerate(REFUSED)])
async def test_what_is_wrong_is_refused_by_its_path(
    http: httpx2.AsyncClient, wrong: dict[str, Any], param: str
) -> None:
    del http.headers["anthropic-version"]
    reply = await http.post("/v1/chat/completions", json={"model": "rehearsal", "messages": [USER], **wrong})

    assert (reply.status_code, reply.json()["error"]["param"]) == (400, param)
    assert reply.json()["error"]["type"] == "invalid_request_error"


async def test_an_endless_schema_is_refused(openai: AsyncOpenAI) -> None:
    wanted = {"type": "json_schema", "json_schema": {"name": "answer", "schema": {"$ref": "#"}}}

    with pytest.raises(BadRequestError, match="infinite value"):
        await ask(openai, response_format=wanted)


async def test_unknown_fields_pass_where_the_script_is_lenient(openai: AsyncOpenAI) -> None:
    await ask(openai, model="rehearsal(lenient)", extra_body={"surprise": 1})

    with pytest.raises(BadRequestError) as caught:
        await ask(openai, extra_body={"surprise": 1})
    assert caught.value.code == "unknown_parameter"


async def test_a_credential_is_required(provider: Rehearsal, http: httpx2.AsyncClient, openai: AsyncOpenAI) -> None:
    with pytest.raises(AuthenticationError) as caught:
        await ask(openai.with_options(api_key="wrong"))
    assert caught.value.code == "invalid_api_key"

    for headers in ({"authorization": ""}, {"authorization": "Bearer"}, {"authorization": "Basic x"}):
        assert (await http.get("/v1/models", headers=headers)).status_code == 401


async def test_errors_have_the_type_of_their_status(openai: AsyncOpenAI) -> None:
    with pytest.raises(RateLimitError) as limited:
        await ask(openai, model="rehearsal-429")
    with pytest.raises(NotFoundError) as missing:
        await ask(openai, model="rehearsal-404")
    with pytest.raises(APIStatusError) as broken:
        await ask(openai, model="rehearsal-500")

    assert (limited.value.code, limited.value.response.headers["retry-after"]) == ("rate_limit_exceeded", "1")
    assert missing.value.code == "model_not_found"
    assert (broken.value.status_code, broken.value.type) == (500, "server_error")


async def test_models_are_listed_and_any_is_known(openai: AsyncOpenAI) -> None:
    names = [model.id async for model in openai.models.list()]

    assert names[0] == "rehearsal"
    assert (await openai.models.retrieve("gpt-anything")).id == "gpt-anything"


async def test_embeddings_are_unit_vectors_near_to_texts_that_share_words(openai: AsyncOpenAI) -> None:
    reply = await openai.embeddings.create(
        model="rehearsal", input=["the cat sat", "the cat ran", "unrelated words here"], dimensions=64
    )

    one, near, far = (item.embedding for item in reply.data)
    assert len(one) == 64
    assert math.isclose(math.hypot(*one), 1, rel_tol=1e-6)
    assert sum(a * b for a, b in zip(one, near, strict=True)) > sum(a * b for a, b in zip(one, far, strict=True))
    assert reply.usage.prompt_tokens == 9


async def test_unknown_fields_of_an_embedding_are_refused_unless_lenient(openai: AsyncOpenAI) -> None:
    extra = {"surprise": 1}

    await openai.embeddings.create(model="rehearsal(lenient)", input="x", extra_body=extra)
    with pytest.raises(BadRequestError, match="surprise"):
        await openai.embeddings.create(model="rehearsal", input="x", extra_body=extra)


async def test_embeddings_are_the_same_in_base64(openai: AsyncOpenAI) -> None:
    packed = await openai.embeddings.create(model="rehearsal", input="hello", encoding_format="base64")
    plain = await openai.embeddings.create(model="rehearsal", input="hello", encoding_format="float")

    assert len(base64.b64decode(packed.data[0].embedding)) == 4 * 256  # type: ignore[arg-type]  # the SDK says list
    assert len(plain.data[0].embedding) == 256


@pytest.mark.parametrize("given", [[1, 2, 3], [[1, 2], [3]]])
async def test_tokens_are_embedded_too(openai: AsyncOpenAI, given: Any) -> None:
    assert (await openai.embeddings.create(model="rehearsal", input=given)).usage.prompt_tokens == 3


@pytest.mark.parametrize("given", [None, "", [], [""], [{}], 7])
async def test_an_input_without_words_is_refused(openai: AsyncOpenAI, given: Any) -> None:
    with pytest.raises(BadRequestError) as caught:
        await openai.embeddings.create(model="rehearsal", input=given)

    assert caught.value.param == "input"
