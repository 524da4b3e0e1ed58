"""Each fault, as a client meets it."""

from __future__ import annotations

import gzip
import json
from typing import Any

import anthropic as anthropic_sdk
import httpx2
import openai as openai_sdk
import pytest
from anthropic import AsyncAnthropic
from openai import AsyncOpenAI
from providers import until

from edge_extproc.rehearsal import Rehearsal

MESSAGES: Any = [{"role": "user", "content": "hello there"}]
CHAT = "/v1/chat/completions"


def body(model: str, **more: Any) -> dict[str, Any]:
    return {"model": model, "messages": MESSAGES, **more}


async def chunks_of(client: AsyncOpenAI, model: str) -> tuple[int, Exception | None]:
    """How many chunks came, and what ended them."""
    count = 0
    try:
        async for _ in await client.chat.completions.create(model=model, messages=MESSAGES, stream=True):
            count += 1
    except (openai_sdk.APIError, httpx2.TransportError, json.JSONDecodeError) as exc:
        return count, exc
    return count, None


async def events_of(client: AsyncAnthropic, model: str) -> tuple[int, Exception | None]:
    """How many events came (the SDK swallows the ping), and what ended them."""
    count = 0
    try:
        async for _ in await client.messages.create(model=model, messages=MESSAGES, max_tokens=99, stream=True):
            count += 1
    except (anthropic_sdk.APIError, httpx2.TransportError, json.JSONDecodeError) as exc:
        return count, exc
    return count, None


@pytest.mark.parametrize("fault", ["cut", "drop"])
@pytest.mark.parametrize("after", [0, 1, 4])
async def test_a_stream_that_is_cut_brings_what_was_sent_before(openai: AsyncOpenAI, fault: str, after: int) -> None:
    count, error = await chunks_of(openai, f"rehearsal({fault}={after})")

    assert count == after
    assert error is not None


async def test_a_cut_is_a_reset_and_a_drop_is_not(http: httpx2.AsyncClient) -> None:
    with pytest.raises(httpx2.ReadError):
        await http.post(CHAT, json=body("rehearsal(cut=2)", stream=True))
    with pytest.raises(httpx2.RemoteProtocolError, match="incomplete chunked read"):
        await http.post(CHAT, json=body("rehearsal(drop=2)", stream=True))


async def test_a_cut_beyond_the_end_still_comes_before_it(http: httpx2.AsyncClient) -> None:
    lines = []
    with pytest.raises(httpx2.ReadError):
        async with http.stream("POST", CHAT, json=body("rehearsal(cut=999)", stream=True)) as reply:
            lines = [line async for line in reply.aiter_lines()]

    assert "data: [DONE]" not in lines


@pytest.mark.parametrize("fault", ["cut", "drop"])
@pytest.mark.parametrize("after", [0, 2, 999])
async def test_a_plain_body_is_cut_too(http: httpx2.AsyncClient, fault: str, after: int) -> None:
    with pytest.raises((httpx2.ReadError, httpx2.RemoteProtocolError)):
        await http.post(CHAT, json=body(f"rehearsal({fault}={after})"))


@pytest.mark.parametrize("stream", [True, False])
async def test_a_refused_request_sees_no_answer(http: httpx2.AsyncClient, stream: bool) -> None:
    with pytest.raises(httpx2.ReadError):
        await http.post(CHAT, json=body("rehearsal-refuse", stream=stream))


async def test_a_stream_may_end_cleanly_without_its_terminator(
    http: httpx2.AsyncClient, openai: AsyncOpenAI, anthropic: AsyncAnthropic
) -> None:
    reply = await http.post(CHAT, json=body("rehearsal(end=999)", stream=True))

    assert "[DONE]" not in reply.text
    assert '"finish_reason":"stop"' in reply.text
    assert await chunks_of(openai, "rehearsal(end=3)") == (3, None)
    assert await events_of(anthropic, "rehearsal(end=2)") == (2, None)


async def test_a_plain_body_may_end_cleanly_in_the_middle(http: httpx2.AsyncClient) -> None:
    for fault in ("end", "malformed"):
        reply = await http.post(CHAT, json=body(f"rehearsal({fault}=1)"))

        assert (reply.status_code, len(reply.content)) == (200, 32)


@pytest.mark.parametrize("after", [0, 3])
async def test_an_error_inside_the_stream_is_raised_by_the_sdk(
    openai: AsyncOpenAI, anthropic: AsyncAnthropic, after: int
) -> None:
    chunks, chat_error = await chunks_of(openai, f"rehearsal(error={after})")
    _, message_error = await events_of(anthropic, f"rehearsal(error={after})")

    assert chunks == after
    assert isinstance(chat_error, openai_sdk.APIError)
    assert isinstance(message_error, anthropic_sdk.APIStatusError)
    assert "overloaded_error" in str(message_error)


async def test_an_error_may_come_as_a_good_answer(http: httpx2.AsyncClient) -> None:
    reply = await http.post(CHAT, json=body("rehearsal-error-first"))

    assert (reply.status_code, list(reply.json())) == (200, ["error"])


async def test_a_malformed_event_stands_among_good_ones(
    http: httpx2.AsyncClient, openai: AsyncOpenAI, anthropic: AsyncAnthropic
) -> None:
    chunks, error = await chunks_of(openai, "rehearsal(malformed=2)")
    reply = await http.post(CHAT, json=body("rehearsal(malformed=2)", stream=True))

    assert (chunks, type(error)) == (2, json.JSONDecodeError)
    assert isinstance((await events_of(anthropic, "rehearsal(malformed=2)"))[1], json.JSONDecodeError)
    assert reply.text.endswith("data: [DONE]\n\n")


@pytest.mark.parametrize("stream", [True, False])
async def test_a_stalled_answer_waits_until_the_client_leaves(
    provider: Rehearsal, http: httpx2.AsyncClient, stream: bool
) -> None:
    async with http.stream("POST", CHAT, json=body("rehearsal(stall=1)", stream=stream)) as reply:
        received = await anext(reply.aiter_raw())

        assert (reply.status_code, len(received) > 0, dict(provider.tally)) == (200, True, {})

    await until(lambda: bool(provider.tally))
    assert dict(provider.tally) == {"abandoned": 1}


async def test_a_client_that_leaves_a_slow_stream_is_noticed(provider: Rehearsal, http: httpx2.AsyncClient) -> None:
    async with http.stream("POST", CHAT, json=body("rehearsal(tokens=10000,pace=5ms)", stream=True)) as reply:
        await anext(reply.aiter_raw())

    await until(lambda: bool(provider.tally))
    assert dict(provider.tally) == {"abandoned": 1}


@pytest.mark.parametrize("option", ["delay", "first", "pace"])
async def test_a_delay_outlasts_an_impatient_client(provider: Rehearsal, http: httpx2.AsyncClient, option: str) -> None:
    with pytest.raises(httpx2.ReadTimeout):
        await http.post(CHAT, json=body(f"rehearsal({option}=60s)"), timeout=0.05)

    await until(lambda: bool(provider.tally))
    assert dict(provider.tally) == {"abandoned": 1}


async def test_a_delayed_answer_is_whole(http: httpx2.AsyncClient) -> None:
    reply = await http.post(CHAT, json=body("rehearsal(delay=1ms,first=1ms,pace=1ms)"))

    assert reply.json()["object"] == "chat.completion"


@pytest.mark.parametrize(
    ("options", "content_type", "read"),
    [
        ("status=502,body=html", "text/html; charset=utf-8", "<!doctype html>"),
        ("status=500,body=empty", "application/json", ""),
        ("status=500,body=gzip", "application/json", '{"error"'),
        ("body=html", "text/html; charset=utf-8", "<!doctype html>"),
        ("body=empty", "application/json", ""),
        ("body=gzip", "application/json", '{"id"'),
        ("content_type=text/plain", "text/plain", '{"id"'),
    ],
)
async def test_a_body_may_be_of_another_kind(
    http: httpx2.AsyncClient, options: str, content_type: str, read: str
) -> None:
    reply = await http.post(CHAT, json=body(f"rehearsal({options})"))

    assert reply.headers["content-type"] == content_type
    assert reply.text.startswith(read)
    assert bool(reply.text) == bool(read)
    assert reply.headers.get("content-encoding") == ("gzip" if "gzip" in options else None)


async def test_a_stream_may_be_empty(http: httpx2.AsyncClient) -> None:
    reply = await http.post(CHAT, json=body("rehearsal-empty", stream=True))

    assert (reply.content, reply.headers["content-type"]) == (b"", "text/event-stream; charset=utf-8")


async def test_each_event_of_a_compressed_stream_can_be_read_at_once(http: httpx2.AsyncClient) -> None:
    async with http.stream("POST", CHAT, json=body("rehearsal(body=gzip,stall=2)", stream=True)) as reply:
        seen = ""
        async for text in reply.aiter_text():
            seen += text
            if seen.count("\n\n") == 2:
                break

    whole = await http.post(CHAT, json=body("rehearsal-gzip", stream=True))
    assert whole.text.endswith("data: [DONE]\n\n")


async def test_a_stream_may_be_written_byte_by_byte(openai: AsyncOpenAI, http: httpx2.AsyncClient) -> None:
    whole = await chunks_of(openai, "rehearsal")

    assert await chunks_of(openai, "rehearsal(split=7)") == whole
    assert gzip.decompress(
        b"".join([part async for part in (await raw(http, "rehearsal(split=1,body=gzip)")).aiter_raw()])
    ).startswith(b'{"id"')


async def raw(http: httpx2.AsyncClient, model: str) -> httpx2.Response:
    request = http.build_request("POST", CHAT, json=body(model))
    return await http.send(request, stream=True)


async def test_retry_after_is_sent_as_told(http: httpx2.AsyncClient) -> None:
    reply = await http.post(CHAT, json=body("rehearsal(status=429,retry_after=20)"))

    assert (reply.status_code, reply.headers["retry-after"]) == (429, "20")


async def test_only_the_first_requests_of_a_key_fail(provider: Rehearsal, http: httpx2.AsyncClient) -> None:
    async def statuses(*models: str) -> list[int]:
        return [(await http.post(CHAT, json=body(model))).status_code for model in models]

    assert await statuses(*["rehearsal(fail_first=2)"] * 3) == [503, 503, 200]
    assert await statuses("a(fail_first=1,key=k,status=500)", "b(fail_first=1,key=k,status=500)") == [500, 200]
    provider.forget()
    assert await statuses("rehearsal(fail_first=2)") == [503]


async def test_only_so_many_keys_are_remembered(http: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge_extproc.rehearsal.server.MAX_KEYS", 2)

    async def status(key: str) -> int:
        return (await http.post(CHAT, json=body(f"rehearsal(fail_first=1,key={key})"))).status_code

    assert [await status(key) for key in "aabcca"] == [503, 200, 503, 503, 200, 503]


async def test_a_header_tells_what_a_name_can_tell(http: httpx2.AsyncClient) -> None:
    reply = await http.post(CHAT, json=body("rehearsal"), headers={"x-rehearsal-tokens": "2"})
    models = await http.get("/v1/models", headers={"x-rehearsal-status": "503"})

    assert reply.json()["choices"][0]["message"]["content"] == "word1 word2"
    assert models.status_code == 503


async def test_an_option_that_does_not_exist_is_refused(openai: AsyncOpenAI) -> None:
    with pytest.raises(openai_sdk.BadRequestError, match="explode"):
        await openai.chat.completions.create(model="rehearsal(explode=1)", messages=MESSAGES)
