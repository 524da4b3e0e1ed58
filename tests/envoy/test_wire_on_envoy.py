"""What real Envoy makes of our answers, and what it tells us: the facts on which the exchange is built."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

import httpx2
import pytest
from ports import free_port
from two_levels import (
    JSON,
    PATIENCE,
    SSE,
    SSE_HEAD,
    Behaviour,
    Play,
    Seen,
    Stage,
    Talk,
    answer,
    breaks_off,
    chunk,
    never,
    on,
    staged,
    streams,
)

from edge_extproc.exchange.commands import CONTINUE, Command, Continue, ImmediateResponse, Pass, Replace
from edge_extproc.exchange.events import (
    Event,
    RequestBody,
    RequestHeaders,
    ResponseBody,
    ResponseHeaders,
)
from edge_extproc.exchange.full_duplex import passed

pytestmark = pytest.mark.envoy


def talks_of(stage: Stage) -> list[tuple[str, list[str]]]:
    """Who was asked what, in order."""
    return [(talk.role, [type(event).__name__ for event in talk.events]) for talk in stage.talks]


async def over(stage: Stage) -> None:
    async with asyncio.timeout(PATIENCE):
        for talk in stage.talks:
            await talk.over.wait()


def order(*names: str) -> Mapping[str, Mapping[str, object]]:
    """The metadata by which we say whom Envoy shall try, and who we are."""
    groups = [{"name": name, "clusters": [{"cluster_name": name, "weight": 1}]} for name in names]
    return {"edge": {"exchange": "exchange-1"}, "edge.route": {"priority_groups": groups}}


def sized(body: bytes, *headers: tuple[str, str]) -> Continue:
    """A body with its content-length."""
    return Continue((*headers, ("content-length", str(len(body)))), body=body)


ALL = ["RequestHeaders", "RequestBody", "ResponseHeaders", "ResponseBody"]
OK_A = answer(200, b'{"from":"a"}', JSON)
OK_B = answer(200, b'{"from":"b"}', JSON)
TWO_CHUNKS = streams(b"data: 1\n\n", b"data: 2\n\n")
STREAMED = Continue(response_body="streamed")
MADE = b'{"made":"here"}'


# --- the request


async def test_a_plain_conversation_has_four_messages(tmp_path: Path) -> None:
    async with staged(tmp_path, on({})) as stage:
        response = await stage.post(b'{"model":"m"}')
        await over(stage)

    assert (response.status_code, response.content) == (200, b'{"ok":true}')
    assert talks_of(stage) == [("router", ALL)]
    headers = stage.talk().only(RequestHeaders)
    assert dict(headers.headers)[":path"] == "/v1/chat"
    assert isinstance(headers.attributes["request.id"], str)
    assert stage.talk().only(RequestBody) == RequestBody(b'{"model":"m"}', end=True)
    assert stage.talk().only(ResponseHeaders).attributes == {
        "xds.cluster_name": "prov_a",
        "upstream.request_attempt_count": 1,
        "response.code": 200,
        "response.code_details": "via_upstream",
    }
    assert stage.errors == []


async def test_a_changed_request_reaches_the_provider(tmp_path: Path) -> None:
    change = sized(b'{"model":"a longer name"}', (":path", "/v1/other"), ("authorization", "Bearer theirs"))
    async with staged(tmp_path, on({RequestBody: change})) as stage:
        response = await stage.post(authorization="Bearer ours")

    (seen,) = stage.providers["prov_a"].seen
    assert response.status_code == 200
    assert (seen.line, seen.body) == ("POST /v1/other HTTP/1.1", b'{"model":"a longer name"}')
    assert seen.header("content-length") == "25"
    assert [value for name, value in seen.headers if name == "authorization"] == ["Bearer theirs"]


async def test_a_changed_body_without_its_length_is_stopped(tmp_path: Path) -> None:
    async with staged(tmp_path, on({RequestBody: Continue(body=b"longer than it was")})) as stage:
        response = await stage.post(b"short")
        access = await stage.access()

    assert response.status_code == 503
    assert "mismatch_between_content_length" in access
    assert stage.providers["prov_a"].seen == []


async def test_a_request_without_a_body_has_no_body_message(tmp_path: Path) -> None:
    async with staged(tmp_path, on({})) as stage:
        got = await stage.http.get("/v1/models")
        headed = await stage.http.head("/v1/models")
        empty = await stage.http.post("/v1/chat", content=b"")
        await over(stage)

    assert [r.status_code for r in (got, headed, empty)] == [200, 200, 200]
    assert [events for _, events in talks_of(stage)] == [
        ["RequestHeaders", "ResponseHeaders", "ResponseBody"],
        ["RequestHeaders", "ResponseHeaders"],
        ["RequestHeaders", "ResponseHeaders", "ResponseBody"],
    ]
    assert [talk.only(ResponseHeaders).end for talk in stage.talks] == [False, True, False]


async def test_a_chunked_request_gets_a_length(tmp_path: Path) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        yield b'{"model"'
        yield b':"m"}'

    async with staged(tmp_path, on({RequestBody: lambda event: sized(event.body + b" ")})) as stage:
        await stage.http.post("/v1/chat", content=chunks())

    (seen,) = stage.providers["prov_a"].seen
    assert seen.body == b'{"model":"m"} '
    assert (seen.header("content-length"), seen.header("transfer-encoding")) == ("14", None)


async def test_a_body_over_the_limit_skips_the_body_message(tmp_path: Path) -> None:
    replace = Replace((JSON,), (), MADE)
    async with staged(tmp_path, on({ResponseHeaders: replace}), body_limit=65536) as stage:
        response = await stage.post(b"x" * 100_000)
        await over(stage)

    assert talks_of(stage) == [("router", ["RequestHeaders", "ResponseHeaders"])]
    assert stage.talk().only(ResponseHeaders).attributes["response.code_details"] == "request_payload_too_large"
    assert (response.status_code, response.content) == (413, MADE)


async def test_twenty_megabytes_pass(tmp_path: Path) -> None:
    async with staged(tmp_path, on({})) as stage:
        response = await stage.post(b"x" * 20_000_000)

    assert response.status_code == 200
    assert len(stage.providers["prov_a"].seen[0].body) == 20_000_000


async def test_what_may_not_be_set_is_left_as_it_was_and_counted(tmp_path: Path) -> None:
    change = Continue(((":method", "PUT"), ("host", "elsewhere")), ("x-envoy-external-address",))
    async with staged(tmp_path, on({RequestBody: change})) as stage:
        response = await stage.post()
        rejected = stage.envoy.stats("http.edge.ext_proc.rejected_header_mutations")

    (seen,) = stage.providers["prov_a"].seen
    assert response.status_code == 200
    assert seen.line.startswith("POST ")
    assert seen.header("host") == "prov_a.example"
    # Nothing of ours takes it away, so it must be the configuration that does.
    assert seen.header("x-envoy-external-address") is not None
    assert list(rejected.values()) == [3]


@pytest.mark.parametrize("pair", [("x-bad", "a\nb"), ("x-bad", "a\x00b"), ("x bad", "a")])
async def test_a_header_that_http_forbids_stops_the_request(tmp_path: Path, pair: tuple[str, str]) -> None:
    async with staged(tmp_path, on({RequestBody: Continue((pair,))})) as stage:
        response = await stage.post()
        access = await stage.access()

    assert response.status_code == 503
    assert "header_mutation_set_contains_invalid_character" in access


async def test_bytes_that_are_not_utf8_come_and_go_as_they_are(tmp_path: Path) -> None:
    def back(event: RequestHeaders) -> Command:
        return Continue((("x-back", dict(event.headers)["x-odd"]),))

    async with staged(tmp_path, on({RequestHeaders: back})) as stage:
        await stage.http.post("/v1/chat", content=b"{}", headers=[(b"x-odd", b"caf\xe9 \xc3\xbc")])

    (seen,) = stage.providers["prov_a"].seen
    # The provider reads latin-1, as HTTP/1.1 did.
    assert seen.header("x-back") == b"caf\xe9 \xc3\xbc".decode("latin-1")


# --- replies of our own


@pytest.mark.parametrize("phase", [RequestHeaders, RequestBody])
async def test_a_reply_never_reaches_the_provider(tmp_path: Path, phase: type[Event]) -> None:
    # Its own content-length is put right by Envoy.
    reply = ImmediateResponse(401, (JSON, ("content-length", "999"), ("x-more", "1")), MADE, "edge_unauthenticated")
    async with staged(tmp_path, on({phase: reply})) as stage:
        response = await stage.post()
        access = await stage.access()
        await over(stage)

    assert (response.status_code, response.content) == (401, MADE)
    assert response.headers["content-type"] == "application/json"
    assert response.headers["content-length"] == str(len(MADE))
    assert access.startswith("401 edge_unauthenticated ")
    assert stage.providers["prov_a"].seen == []
    # Our own reply does not come back to us.
    assert ResponseHeaders not in [type(event) for event in stage.talk().events]


@pytest.mark.parametrize("status", [529, 600])
async def test_a_status_that_envoys_enum_does_not_name_is_sent(tmp_path: Path, status: int) -> None:
    async with staged(
        tmp_path, on({RequestBody: ImmediateResponse(status, (JSON,), MADE, "edge_overloaded")})
    ) as stage:
        response = await stage.post()

    assert (response.status_code, response.content) == (status, MADE)


async def test_a_whole_stream_is_one_reply(tmp_path: Path) -> None:
    events = b"data: 1\n\ndata: [DONE]\n\n"
    async with staged(tmp_path, on({RequestBody: ImmediateResponse(200, (SSE,), events, "edge_cache_hit")})) as stage:
        response = await stage.post()

    assert (response.headers["content-type"], response.content) == ("text/event-stream", events)


async def test_a_reply_to_head_loses_its_body_and_keeps_its_length(tmp_path: Path) -> None:
    async with staged(tmp_path, on({RequestHeaders: ImmediateResponse(200, (JSON,), MADE, "edge_models")})) as stage:
        first = await stage.http.head("/v1/models")
        second = await stage.http.get("/v1/models")

    assert (first.content, first.headers["content-length"]) == (b"", str(len(MADE)))
    assert second.content == MADE


async def test_a_repeated_header_is_sent_twice(tmp_path: Path) -> None:
    twice = (("set-cookie", "a=1"), ("set-cookie", "b=2"))
    plays = {RequestBody: ImmediateResponse(200, twice, b"", "edge_x"), ResponseHeaders: Continue(twice)}
    found = []
    for phase, command in plays.items():
        async with staged(tmp_path, on({phase: command})) as stage:
            response = await stage.post()
            found.append(response.headers.get_list("set-cookie"))

    assert found == [["a=1", "b=2"]] * 2


# --- who is tried, and how often


async def test_metadata_orders_the_providers(tmp_path: Path) -> None:
    change = Continue((("x-key", "b"),), metadata=order("prov_b", "prov_a"), reroute=True)
    async with staged(tmp_path, on({RequestBody: change}), prov_a=OK_A, prov_b=OK_B) as stage:
        response = await stage.post()
        await over(stage)

    assert response.content == b'{"from":"b"}'
    assert stage.talk().only(ResponseHeaders).attributes["xds.cluster_name"] == "prov_b"
    assert stage.providers["prov_a"].seen == []


async def test_a_second_attempt_is_written_afresh_and_knows_its_exchange(tmp_path: Path) -> None:
    first = b'{"for":"a"}'
    second = b'{"for":"b","longer":1}'
    again = Replace(
        (("x-key", "b"), (":path", "/v1/b"), ("host", "signed.example")),
        ("x-only-a",),
        second,
        {"edge": {"content_length": str(len(second))}},
    )
    to_a = Continue(
        (("x-key", "a"), ("x-only-a", "1"), ("content-length", str(len(first)))),
        body=first,
        metadata=order("prov_a", "prov_b"),
        reroute=True,
    )
    failing = answer(529, b'{"no":1}', JSON)
    async with staged(tmp_path, on({RequestBody: to_a}, again), prov_a=failing, prov_b=OK_B) as stage:
        response = await stage.post()
        await over(stage)

    (seen_a,), (seen_b,) = stage.providers["prov_a"].seen, stage.providers["prov_b"].seen
    assert response.content == b'{"from":"b"}'
    assert (seen_a.body, seen_a.header("x-key"), seen_a.header("x-only-a")) == (first, "a", "1")
    assert (seen_b.body, seen_b.header("x-key"), seen_b.header("x-only-a")) == (second, "b", None)
    assert (seen_b.line, seen_b.header("host")) == ("POST /v1/b HTTP/1.1", "signed.example")
    assert seen_b.header("content-length") == str(len(second))
    (event,) = stage.talk("upstream").events
    assert event.attributes == {"xds.cluster_name": "prov_b", "upstream.request_attempt_count": 2}
    assert event.metadata == {"edge": {"exchange": "exchange-1"}}
    # It sees what the last attempt was sent, not what the caller sent.
    assert dict(event.headers)["x-only-a"] == "1"
    assert stage.talk().only(ResponseHeaders).attributes["upstream.request_attempt_count"] == 2


async def test_a_second_attempt_that_changes_nothing_repeats_the_first(tmp_path: Path) -> None:
    to_a = sized(b'{"for":"a"}', ("x-key", "a"))
    async with staged(tmp_path, on({RequestBody: to_a}), prov_a=answer(503), prov_b=OK_B) as stage:
        await stage.post()

    (seen,) = stage.providers["prov_b"].seen
    assert (seen.body, seen.header("x-key")) == (b'{"for":"a"}', "a")


async def test_a_reply_at_the_upstream_level_goes_to_the_caller_through_the_router_level(tmp_path: Path) -> None:
    lost = ImmediateResponse(503, (JSON,), MADE, "edge_exchange_unknown")
    async with staged(tmp_path, on({}, lost), prov_a=answer(503), prov_b=OK_B, prov_c=OK_B) as stage:
        response = await stage.post()
        await over(stage)

    assert (response.status_code, response.content) == (503, MADE)
    # No further attempt, though there is one more provider.
    assert stage.providers["prov_b"].seen == stage.providers["prov_c"].seen == []
    assert stage.talk().only(ResponseHeaders).attributes["response.code_details"] == "edge_exchange_unknown"
    assert stage.talk().only(ResponseBody).body == MADE


async def test_the_last_failure_is_the_one_that_we_see(tmp_path: Path) -> None:
    async with staged(tmp_path, on({}), prov_a=answer(503, b"a", JSON), prov_b=answer(529, b"b", JSON)) as stage:
        response = await stage.post()
        await over(stage)

    headers = stage.talk().only(ResponseHeaders)
    assert (response.status_code, response.content) == (529, b"b")
    assert headers.attributes["xds.cluster_name"] == "prov_b"
    assert headers.attributes["response.code_details"] == "via_upstream"


# --- Envoy's own replies


async def seen_of_a_local_reply(tmp_path: Path, play: Play, **behaviours: Any) -> tuple[httpx2.Response, Talk]:
    async with staged(tmp_path, play, **behaviours) as stage:
        response = await stage.post()
        await over(stage)
    return response, stage.talk()


LOCAL_REPLIES = {
    "no endpoint": ({"prov_a": None}, 503, "no_healthy_upstream", b"no healthy upstream", 1),
    "connect refused": (
        {"prov_a": 0},
        503,
        "upstream_reset_before_response_started{remote_connection_failure|",
        b"upstream connect error or disconnect/reset before headers.",
        1,
    ),
    "per-try timeout": ({"prov_a": never}, 504, "upstream_per_try_timeout", b"upstream request timeout", 1),
}


@pytest.mark.parametrize("name", LOCAL_REPLIES)
async def test_a_reply_of_envoys_own_comes_as_a_response(tmp_path: Path, name: str) -> None:
    providers, status, details, body, attempts = LOCAL_REPLIES[name]
    providers = {key: free_port() if value == 0 else value for key, value in providers.items()}
    response, talk = await seen_of_a_local_reply(tmp_path, on({}), **providers)

    headers = talk.only(ResponseHeaders)
    assert response.status_code == status
    assert dict(headers.headers)[":status"] == str(status)
    assert headers.attributes["response.code_details"].startswith(details)
    assert headers.attributes["upstream.request_attempt_count"] == attempts
    assert not headers.end
    assert talk.only(ResponseBody).body.startswith(body)


@pytest.mark.parametrize("path", ["route", "cluster"])
async def test_a_request_that_goes_nowhere_comes_back_without_a_body(tmp_path: Path, path: str) -> None:
    to_nowhere = Continue((("x", "y"),), metadata=order("nowhere"), reroute=True)
    play = on({ResponseHeaders: Replace((JSON, (":status", "502")), (), MADE), RequestBody: to_nowhere})
    async with staged(tmp_path, play) as stage:
        response = await stage.http.post("/v1/chat" if path == "cluster" else "/nowhere", content=b"{}")
        await over(stage)

    headers = stage.talk().only(ResponseHeaders)
    wanted = {"route": "route_not_found", "cluster": "cluster_not_found"}[path]
    assert headers.end
    assert headers.attributes["response.code_details"] == wanted
    assert headers.attributes["upstream.request_attempt_count"] == 0
    assert (response.status_code, response.content) == (502, MADE)


@pytest.mark.parametrize(
    "table",
    [
        {ResponseHeaders: ImmediateResponse(502, (JSON,), MADE, "edge_no_provider")},
        {ResponseHeaders: Replace((JSON, (":status", "502")), (), MADE)},
        {ResponseBody: ImmediateResponse(502, (JSON,), MADE, "edge_no_provider")},
        {ResponseBody: sized(MADE, JSON, (":status", "502"))},
    ],
    ids=["Reply to headers", "Replace at headers", "Reply to body", "Continue at body"],
)
async def test_a_reply_of_envoys_own_can_be_told_in_our_words(tmp_path: Path, table: Any) -> None:
    response, _ = await seen_of_a_local_reply(tmp_path, on(table), prov_a=None)

    assert (response.status_code, response.content) == (502, MADE)
    assert response.headers["content-type"] == "application/json"


# --- the response


async def test_a_buffered_response_is_changed_whole_with_its_status(tmp_path: Path) -> None:
    change = sized(MADE, (":status", "502"), ("content-type", "text/x"))
    async with staged(tmp_path, on({ResponseBody: change})) as stage:
        response = await stage.post()

    assert (response.status_code, response.headers["content-type"], response.content) == (502, "text/x", MADE)


async def test_a_buffered_response_without_its_length_is_stopped(tmp_path: Path) -> None:
    async with staged(tmp_path, on({ResponseBody: Continue(body=MADE)})) as stage:
        response = await stage.post()
        access = await stage.access()

    assert response.status_code == 503
    assert "mismatch_between_content_length" in access


@pytest.mark.parametrize("configured", ["BUFFERED", "NONE"])
async def test_a_stream_that_we_ask_for_buffered_comes_whole(tmp_path: Path, configured: str) -> None:
    play = on(
        {
            ResponseHeaders: Continue(response_body="buffered"),
            ResponseBody: lambda event: sized(event.body + b"!"),
        }
    )
    async with staged(tmp_path, play, response_body=configured, prov_a=TWO_CHUNKS) as stage:
        response = await stage.post()
        await over(stage)

    assert stage.talk().only(ResponseBody) == ResponseBody(b"data: 1\n\ndata: 2\n\n", end=True)
    assert response.content == b"data: 1\n\ndata: 2\n\n!"


@pytest.mark.parametrize("configured", ["BUFFERED", "NONE"])
async def test_a_stream_comes_in_chunks_of_which_the_last_says_so(tmp_path: Path, configured: str) -> None:
    def louder(event: ResponseBody) -> Command:
        # Header changes are ignored here, even a wrong length.
        more = b"data: more\n\n" if event.end else b""
        return Continue((("x-late", "1"), ("content-length", "1")), body=event.body.upper() + more)

    play = on({ResponseHeaders: STREAMED, ResponseBody: louder})
    async with staged(tmp_path, play, response_body=configured, prov_a=TWO_CHUNKS) as stage:
        response = await stage.post()
        await over(stage)

    chunks = stage.talk().all(ResponseBody)
    assert b"".join(found.body for found in chunks) == b"data: 1\n\ndata: 2\n\n"
    assert [found.end for found in chunks] == [False] * (len(chunks) - 1) + [True]
    assert response.content == b"DATA: 1\n\nDATA: 2\n\ndata: more\n\n"
    assert "x-late" not in response.headers


async def test_chunks_may_be_held_back_and_sent_later(tmp_path: Path) -> None:
    play = on(
        {
            ResponseHeaders: STREAMED,
            ResponseBody: lambda event: Continue(body=b"data: all\n\n" if event.end else b""),
        }
    )
    async with staged(tmp_path, play, prov_a=TWO_CHUNKS) as stage:
        response = await stage.post()

    assert response.content == b"data: all\n\n"


@pytest.mark.parametrize("remove", [True, False])
async def test_a_streamed_reply_that_had_a_length_must_lose_it(tmp_path: Path, remove: bool) -> None:
    # An override to STREAMED keeps the header, unlike a configured STREAMED.
    headers = Continue(remove_headers=("content-length",) if remove else (), response_body="streamed")
    play = on({ResponseHeaders: headers, ResponseBody: lambda event: Continue(body=event.body + b" ")})
    async with staged(tmp_path, play) as stage:
        response = await stage.post()

    assert response.status_code == (200 if remove else 503)


async def test_a_body_that_we_do_not_ask_for_passes(tmp_path: Path) -> None:
    play = on({ResponseHeaders: Continue((("x-seen", "1"),), response_body="none")})
    async with staged(tmp_path, play, prov_a=TWO_CHUNKS) as stage:
        response = await stage.post()
        await over(stage)

    assert talks_of(stage) == [("router", ALL[:3])]
    assert (response.headers["x-seen"], response.content) == ("1", b"data: 1\n\ndata: 2\n\n")


async def test_the_status_of_a_stream_may_change_with_its_headers(tmp_path: Path) -> None:
    change = Continue(((":status", "418"),), response_body="streamed")
    async with staged(tmp_path, on({ResponseHeaders: change}), prov_a=TWO_CHUNKS) as stage:
        response = await stage.post()

    assert response.status_code == 418


HEADERS_ONLY = answer(200)


@pytest.mark.parametrize(
    "command",
    [ImmediateResponse(502, (JSON,), MADE, "edge_upstream_error"), Replace((JSON, (":status", "502")), (), MADE)],
    ids=["ImmediateResponse", "Replace"],
)
@pytest.mark.parametrize("behave", [HEADERS_ONLY, TWO_CHUNKS, OK_A], ids=["no body", "stream", "body"])
@pytest.mark.parametrize("configured", ["BUFFERED", "NONE"])
async def test_response_headers_may_be_answered_with_a_whole_other_response(
    tmp_path: Path, command: Command, behave: Behaviour, configured: str
) -> None:
    play = on({ResponseHeaders: command})
    async with staged(tmp_path, play, response_body=configured, prov_a=behave) as stage:
        response = await stage.post()
        await over(stage)

    assert (response.status_code, response.content) == (502, MADE)
    assert talks_of(stage) == [("router", ALL[:3])]
    # Envoy counts the bytes of a Reply, and drops the header of a Replace.
    assert response.headers.get("content-length") == (
        str(len(MADE)) if isinstance(command, ImmediateResponse) else None
    )


async def test_a_response_without_a_body_has_no_body_message_in_any_mode(tmp_path: Path) -> None:
    play = on({ResponseHeaders: Continue(response_body="buffered"), ResponseBody: sized(MADE)})
    async with staged(tmp_path, play, prov_a=HEADERS_ONLY) as stage:
        response = await stage.post()
        await over(stage)

    assert talks_of(stage) == [("router", ALL[:3])]
    assert stage.talk().only(ResponseHeaders).end
    assert response.content == b""


async def test_a_replaced_response_to_head_breaks_http(tmp_path: Path) -> None:
    """Envoy sends the body. So a response to HEAD is never replaced: Reply does it right."""
    async with staged(tmp_path, on({ResponseHeaders: Replace((JSON,), (), MADE)})) as stage:
        reader, writer = await asyncio.open_connection("127.0.0.1", stage.envoy.port("edge"))
        writer.write(b"HEAD /v1/models HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        answered = await reader.read()
        writer.close()

    assert answered.endswith(MADE)


async def test_a_buffered_body_may_be_answered_with_a_reply(tmp_path: Path) -> None:
    async with staged(tmp_path, on({ResponseBody: ImmediateResponse(502, (JSON,), MADE, "edge_x")})) as stage:
        response = await stage.post()

    assert (response.status_code, response.content) == (502, MADE)


async def test_a_reply_in_a_stream_only_cuts_it(tmp_path: Path) -> None:
    play = on({ResponseHeaders: STREAMED, ResponseBody: ImmediateResponse(502, (JSON,), MADE, "edge_cut")})
    async with staged(tmp_path, play, prov_a=TWO_CHUNKS) as stage:
        with pytest.raises(httpx2.RemoteProtocolError):
            await stage.post()
        access = await stage.access()

    assert access.startswith("200 edge_cut ")


# --- a body in full duplex mode

FULL_DUPLEX = Continue(response_body="full_duplex")


async def test_a_body_in_full_duplex_is_sent_as_we_say(tmp_path: Path) -> None:
    play = on(
        {
            ResponseHeaders: FULL_DUPLEX,
            ResponseBody: lambda event: passed(event, Continue(body=event.body.upper()), trailers=False),
        }
    )
    async with staged(tmp_path, play, prov_a=TWO_CHUNKS) as stage:
        response = await stage.post()
        await over(stage)

    assert response.content == b"DATA: 1\n\nDATA: 2\n\n"
    assert [chunk.end for chunk in stage.talk().all(ResponseBody)][-1]


class Endless:
    """A provider whose stream ends only with its connection."""

    def __init__(self) -> None:
        self.cut_off = asyncio.Event()

    async def __call__(self, request: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(SSE_HEAD)
        try:
            while True:
                writer.write(chunk(b"data: more\n\n"))
                await writer.drain()
                await asyncio.sleep(0.01)
        except ConnectionError:
            self.cut_off.set()
            raise


def from_the_third(then: Callable[[ResponseBody], Command]) -> Callable[[ResponseBody], Command]:
    """Two chunks pass. `then` answers the others."""
    seen = 0

    def answered(event: ResponseBody) -> Command:
        nonlocal seen
        seen += 1
        return then(event) if seen >= 3 else CONTINUE

    return answered


LAST_EVENT = b"data: [DONE]\n\n"


async def test_a_body_in_full_duplex_may_end_before_the_providers(tmp_path: Path) -> None:
    """The caller's response ends as usual, and its connection stays. The upstream request is reset."""
    endless = Endless()
    ends = from_the_third(lambda event: Pass(LAST_EVENT, end=True))
    play = on({ResponseHeaders: FULL_DUPLEX, ResponseBody: lambda event: passed(event, ends(event), trailers=False)})
    async with staged(tmp_path, play, prov_a=endless) as stage:
        response = await stage.post()
        access = await stage.access()
        async with asyncio.timeout(PATIENCE):
            await endless.cut_off.wait()
            await over(stage)

    assert response.content.endswith(b"data: more\n\ndata: [DONE]\n\n")
    assert access.startswith("200 via_upstream -")
    assert stage.talk().closing == "cancelled"
    assert stage.errors == []


async def test_a_streamed_body_that_we_reply_to_is_cut_and_its_upstream_request_is_reset(tmp_path: Path) -> None:
    endless = Endless()
    play = on(
        {
            ResponseHeaders: STREAMED,
            ResponseBody: from_the_third(lambda event: ImmediateResponse(502, (JSON,), MADE, "edge_cut")),
        }
    )
    async with staged(tmp_path, play, prov_a=endless) as stage:
        with pytest.raises(httpx2.RemoteProtocolError):
            await stage.post()
        async with asyncio.timeout(PATIENCE):
            await endless.cut_off.wait()


async def test_a_streamed_body_cannot_end_before_the_providers(tmp_path: Path) -> None:
    """Envoy takes no `end_of_stream` in this mode."""
    endless = Endless()
    play = on(
        {ResponseHeaders: STREAMED, ResponseBody: from_the_third(lambda event: Pass(LAST_EVENT, end=True))},
    )
    async with staged(tmp_path, play, prov_a=endless) as stage:
        with pytest.raises(httpx2.RemoteProtocolError):
            await stage.post()
        access = await stage.access()
        async with asyncio.timeout(PATIENCE):
            await endless.cut_off.wait()

    assert "spurious_message" in access


async def test_a_streamed_body_that_we_empty_ends_with_the_providers(tmp_path: Path) -> None:
    """The response ends after the provider's last chunk: an empty answer does not reset the upstream request."""
    emptied, at_end = asyncio.Event(), asyncio.Event()

    async def waits(request: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(SSE_HEAD + chunk(b"data: 1\n\n"))
        await emptied.wait()
        writer.write(chunk(b"data: 2\n\n") + b"0\r\n\r\n")
        await writer.drain()
        at_end.set()

    def empty(event: ResponseBody) -> Command:
        emptied.set()
        return Continue(body=LAST_EVENT if event.end else b"")

    async with staged(tmp_path, on({ResponseHeaders: STREAMED, ResponseBody: empty}), prov_a=waits) as stage:
        response = await stage.post()
        access = await stage.access()

    assert response.content == LAST_EVENT
    assert at_end.is_set()
    assert access.startswith("200 via_upstream -")


# --- what breaks


async def ends_by_closing(seen: Seen, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\ndata: 1\n\n")
    writer.close()


async def test_a_provider_that_breaks_a_buffered_body_leaves_us_no_message(tmp_path: Path) -> None:
    """Envoy answers 502 by itself, with no further attempt and not through us: its local_reply_config must shape it."""
    heard = asyncio.Event()

    async def play(talk: Talk, event: Event) -> Command:
        if isinstance(event, ResponseHeaders):
            heard.set()
        return CONTINUE

    half = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\nhalf"
    async with staged(tmp_path, play, prov_a=breaks_off(half, heard), prov_b=OK_B) as stage:
        response = await stage.post()
        access = await stage.access()
        await over(stage)

    assert talks_of(stage) == [("router", ALL[:3])]
    assert (response.status_code, response.headers["content-type"]) == (502, "text/plain")
    assert access.startswith("502 upstream_reset_after_response_started{protocol_error} ")
    assert stage.providers["prov_b"].seen == []


async def test_a_provider_that_breaks_a_stream_leaves_us_no_message(tmp_path: Path) -> None:
    """The caller sees a broken HTTP message, never a clean end; there is no chance to add an error event."""
    heard = asyncio.Event()

    async def play(talk: Talk, event: Event) -> Command:
        if isinstance(event, ResponseBody):
            heard.set()
        return STREAMED if isinstance(event, ResponseHeaders) else CONTINUE

    cut = breaks_off(SSE_HEAD + chunk(b"data: 1\n\n"), heard)
    async with staged(tmp_path, play, prov_a=cut, prov_b=OK_B) as stage:
        with pytest.raises(httpx2.RemoteProtocolError):
            await stage.post()
        access = await stage.access()
        await over(stage)

    assert stage.talk().all(ResponseBody) == [ResponseBody(b"data: 1\n\n", end=False)]
    assert access.startswith("200 upstream_reset_after_response_started{")


async def test_a_body_that_ends_with_its_connection_ends_clean_and_can_be_added_to(tmp_path: Path) -> None:
    def told(event: ResponseBody) -> Command:
        return Continue(body=event.body + b"event: error\n\n") if event.end else CONTINUE

    play = on({ResponseHeaders: STREAMED, ResponseBody: told})
    async with staged(tmp_path, play, prov_a=ends_by_closing) as stage:
        response = await stage.post()

    assert response.content == b"data: 1\n\nevent: error\n\n"


async def test_a_buffered_response_over_the_limit_leaves_us_no_message(tmp_path: Path) -> None:
    async with staged(tmp_path, on({}), body_limit=65536, prov_a=answer(200, b"y" * 300_000, JSON)) as stage:
        response = await stage.post()
        access = await stage.access()
        await over(stage)

    # The response's headers may be overtaken by the end; its body never comes.
    assert talks_of(stage) in ([("router", ALL[:2])], [("router", ALL[:3])])
    assert response.status_code == 500
    assert access.startswith("500 response_payload_too_large ")


@pytest.mark.parametrize("mode", ["streamed", "none"])
async def test_a_caller_that_leaves_a_stream_just_ends_ours(tmp_path: Path, mode: Any) -> None:
    endless = streams(*[b"data: %d\n\n" % n for n in range(200)])
    async with staged(tmp_path, on({ResponseHeaders: Continue(response_body=mode)}), prov_a=endless) as stage:
        async with stage.http.stream("POST", "/v1/chat", content=b"{}") as response:
            await anext(response.aiter_raw())
        access = await stage.access()
        await over(stage)

    assert access.endswith(" DC")
    assert not any(found.end for found in stage.talk().all(ResponseBody))
    assert stage.errors == []


async def test_a_caller_that_leaves_early_just_ends_our_stream(tmp_path: Path) -> None:
    asked = asyncio.Event()

    async def thinks(seen: Seen, writer: asyncio.StreamWriter) -> None:
        asked.set()
        await never(seen, writer)

    async with staged(tmp_path, on({}), prov_a=thinks) as stage:
        asking = asyncio.create_task(stage.post())
        await asked.wait()
        asking.cancel()
        await over(stage)

    assert talks_of(stage) == [("router", ALL[:2])]
    assert stage.errors == []


@pytest.mark.parametrize("phase", [RequestHeaders, RequestBody, ResponseHeaders, ResponseBody])
async def test_a_bug_of_ours_is_a_neutral_answer(tmp_path: Path, phase: type[Event]) -> None:
    async def play(talk: Talk, event: Event) -> Command:
        if type(event) is phase:
            raise ValueError("our own affair")
        return CONTINUE

    async with staged(tmp_path, play) as stage:
        response = await stage.post()
        access = await stage.access()
        await over(stage)

    assert (response.status_code, response.content) == (503, b"")
    assert "stream_stopped" in access
    assert "our own affair" not in stage.envoy.logs()
    assert [str(error) for error in stage.errors] == ["our own affair"]
    assert stage.talk().closing == "error"
