"""HTTP itself, over a bare socket where a client would not send such a thing; and what the provider says of itself."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import pytest
from providers import KEY, until

from edge_extproc.rehearsal import Recorded, Rehearsal
from edge_extproc.rehearsal.connection import MAX_AHEAD
from edge_extproc.rehearsal.record import Records

BODY = b'{"model":"rehearsal","messages":[{"role":"user","content":"hi"}]}'
JSON = "application/json"


def post(body: bytes = BODY, *headers: str, path: str = "/v1/chat/completions", version: str = "1.1") -> bytes:
    lines = [
        f"POST {path} HTTP/{version}",
        "host: x",
        f"authorization: Bearer {KEY}",
        f"content-type: {JSON}",
        f"content-length: {len(body)}",
        *headers,
    ]
    return "\r\n".join([*lines, "", ""]).encode() + body


@asynccontextmanager
async def connected(provider: Rehearsal) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", int(provider.url.rpartition(":")[2]), limit=20 << 20)
    try:
        yield reader, writer
    finally:
        writer.close()
        await writer.wait_closed()


async def answer(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    """The status line and the body of one answer with a length."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
    return head.partition(b"\r\n")[0].rstrip(), await reader.readexactly(length)


async def test_requests_on_one_connection_are_answered_in_order(provider: Rehearsal) -> None:
    async with connected(provider) as (reader, writer):
        writer.write(post(BODY.replace(b"hi", b"one")) + post(BODY.replace(b"hi", b"two")))

        assert [b"one" in (await answer(reader))[1], b"two" in (await answer(reader))[1]] == [True, True]
        assert provider.connections == 1


async def test_a_client_that_sends_far_ahead_is_held_back_and_served(provider: Rehearsal) -> None:
    async with connected(provider) as (reader, writer):
        slow = BODY.replace(b'"rehearsal"', b'"rehearsal(delay=20ms)"')
        long = BODY.replace(b"hi", b"x" * MAX_AHEAD)
        writer.write(post(slow))
        await until(lambda: bool(provider.requests))
        writer.write(post(long) + post(long) + post())
        statuses = [(await answer(reader))[0] for _ in range(4)]

        assert statuses == [b"HTTP/1.1 200"] * 4


async def test_a_client_that_asks_first_is_told_to_continue(provider: Rehearsal) -> None:
    async with connected(provider) as (reader, writer):
        request = post(BODY, "expect: 100-continue")
        writer.write(request.removesuffix(BODY))
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100")
        writer.write(BODY)

        assert (await answer(reader))[0] == b"HTTP/1.1 200"


async def test_what_is_no_http_is_refused(provider: Rehearsal) -> None:
    async with connected(provider) as (reader, writer):
        writer.write(b"\x16\x03\x01\x02\x00 hello\r\n\r\n")

        assert (await reader.read()).startswith(b"HTTP/1.1 400")


async def test_an_old_client_gets_its_answer_and_a_closed_connection(provider: Rehearsal) -> None:
    async with connected(provider) as (reader, writer):
        writer.write(post(version="1.0"))

        assert (await reader.read()).endswith(b"}")


async def test_a_client_that_leaves_before_it_asked_leaves_nothing(provider: Rehearsal) -> None:
    async with connected(provider) as (_, writer):
        writer.write(post()[:50])
    await until(lambda: not provider.connections)

    assert (provider.requests, dict(provider.tally)) == ((), {})


LONG = BODY.replace(b'"rehearsal"', b'"rehearsal(tokens=999999)"')


async def test_a_slow_reader_is_waited_for(provider: Rehearsal) -> None:
    async with connected(provider) as (reader, writer):
        writer.write(post(LONG))
        head = await reader.readuntil(b"\r\n\r\n")
        # More than the buffers of both sides hold: nobody can have written all of it.
        assert dict(provider.tally) == {}

        assert b"word999999" in await reader.readuntil(b"}]")
        assert head.startswith(b"HTTP/1.1 200")
    await until(lambda: dict(provider.tally) == {"answered": 1})


@pytest.mark.parametrize("wanted", [LONG, LONG[:-1] + b',"stream":true}'], ids=["whole", "stream"])
async def test_a_reader_that_leaves_in_the_middle_is_noticed(provider: Rehearsal, wanted: bytes) -> None:
    async with connected(provider) as (reader, writer):
        writer.write(post(wanted))
        await reader.readuntil(b"\r\n\r\n")
        assert dict(provider.tally) == {}
    await until(lambda: dict(provider.tally) == {"abandoned": 1})


async def test_a_head_request_has_no_body(http: httpx2.AsyncClient) -> None:
    reply = await http.head("/v1/models")

    assert (reply.status_code, reply.content) == (405, b"")


@pytest.mark.parametrize("anthropic", [True, False])
async def test_an_unknown_path_is_answered_in_the_callers_format(http: httpx2.AsyncClient, anthropic: bool) -> None:
    if not anthropic:
        del http.headers["anthropic-version"]
    reply = await http.post("/v1/surprises", json={})

    assert reply.status_code == 404
    assert ("request_id" in reply.json()) is anthropic


@pytest.mark.parametrize(
    ("content", "headers", "status"),
    [
        (b"{", {"content-type": JSON}, 400),
        (b"[]", {"content-type": JSON}, 400),
        (BODY, {"content-type": "text/plain"}, 415),
        (BODY, {"content-type": JSON, "content-encoding": "gzip"}, 415),
    ],
)
async def test_only_json_objects_are_read(
    http: httpx2.AsyncClient, content: bytes, headers: dict[str, str], status: int
) -> None:
    assert (await http.post("/v1/messages", content=content, headers=headers)).status_code == status


async def test_a_body_over_the_limit_is_read_to_its_end_and_refused(
    provider: Rehearsal, http: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge_extproc.rehearsal.connection.MAX_BODY", 1000)
    reply = await http.post("/v1/messages", content=b"x" * 100_000)

    assert (reply.status_code, reply.json()["error"]["type"]) == (413, "request_too_large")
    assert len(provider.requests[0].body) <= 1000


async def test_a_large_body_is_answered(http: httpx2.AsyncClient) -> None:
    message = {"role": "user", "content": "long " * 400_000}
    reply = await http.post("/v1/chat/completions", json={"model": "rehearsal", "messages": [message]})

    assert reply.json()["usage"]["prompt_tokens"] == 400_000


async def test_what_arrived_can_be_seen_in_the_process_and_from_outside(
    provider: Rehearsal, http: httpx2.AsyncClient
) -> None:
    await http.post("/v1/chat/completions?a=b", content=BODY, headers={"content-type": JSON})

    (seen,) = provider.requests
    assert (seen.method, seen.target, seen.body) == ("POST", "/v1/chat/completions?a=b", BODY)
    assert (seen.header("authorization"), seen.header("x-missing")) == (f"Bearer {KEY}", None)
    assert KEY not in repr(seen)
    told: dict[str, Any] = (await http.get("/rehearsal/requests")).json()
    assert base64.b64decode(told["data"][0]["body"]) == BODY
    assert ["authorization", f"Bearer {KEY}"] in told["data"][0]["headers"]
    assert told["tally"] == {"answered": 1}


async def test_what_arrived_can_be_forgotten(provider: Rehearsal, http: httpx2.AsyncClient) -> None:
    await http.get("/v1/models")
    await http.delete("/rehearsal/requests")

    assert (provider.requests, (await http.get("/rehearsal/health")).json()) == ((), {"status": "ok"})


async def test_a_header_sent_twice_is_kept_twice(provider: Rehearsal) -> None:
    async with connected(provider) as (reader, writer):
        writer.write(post(BODY, "x-rehearsal-status: 503", "x-rehearsal-status: 500"))

        assert (await answer(reader))[0] == b"HTTP/1.1 500"
    assert provider.requests[0].header("x-rehearsal-status") == "503, 500"


async def test_nothing_is_kept_unless_told_to() -> None:
    provider = Rehearsal()
    await provider.start()
    try:
        async with httpx2.AsyncClient(base_url=provider.url, headers={"authorization": f"Bearer {KEY}"}) as http:
            assert (await http.get("/v1/models")).status_code == 200
            assert (await http.get("/rehearsal/requests")).status_code == 404
        provider.forget()
        assert provider.requests == ()
    finally:
        await provider.stop()
        await provider.stop()


async def test_stopping_ends_what_is_under_way(http: httpx2.AsyncClient, provider: Rehearsal) -> None:
    async with http.stream(
        "POST",
        "/v1/chat/completions",
        content=BODY.replace(b'rsal"', b'rsal(stall=0)"'),
        headers={"content-type": JSON},
    ) as reply:
        assert (reply.status_code, provider.connections) == (200, 1)
        await provider.stop()
        with pytest.raises((httpx2.ReadError, httpx2.RemoteProtocolError)):
            await reply.aread()
    assert provider.connections == 0


async def test_it_listens_on_ipv6_where_there_is_one() -> None:
    provider = Rehearsal(clock=lambda: 7.0)
    try:
        port = await provider.start("::1")
    except OSError:
        pytest.skip("no IPv6 loopback here")
    await provider.stop()

    assert provider.url == f"http://[::1]:{port}"


def test_only_the_last_records_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge_extproc.rehearsal.record.MAX_RECORDS", 2)
    monkeypatch.setattr("edge_extproc.rehearsal.record.MAX_RECORDED_BYTES", 10)
    records = Records()

    def keep(*bodies: bytes) -> list[bytes]:
        for body in bodies:
            records.add(Recorded("POST", "/", (), body))
        return [kept.body for kept in records.all()]

    assert keep(b"a", b"b", b"c") == [b"b", b"c"]
    assert keep(b"x" * 10) == [b"x" * 10]
    assert keep(b"y" * 99) == [b"y" * 99]
