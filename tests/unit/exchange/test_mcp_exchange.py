"""Requests to MCP servers without Envoy: the order of events, streams cut anywhere, and every end."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mcp_kit import RESULT, SESSION, begin, call, error_of, stage
from player import Stage, answered, body, headers, talk, whole

from edge_extproc.errors import PeerError
from edge_extproc.exchange.commands import CONTINUE, Continue, ImmediateResponse
from edge_extproc.exchange.events import RequestBody, RequestTrailers, ResponseBody
from edge_extproc.exchange.handler import Closing
from edge_extproc.exchange.large_bodies import AT_ONCE
from edge_extproc.exchange.mcp.exchange import McpExchange
from edge_extproc.exchange.mcp.replies import McpReplies


def settled(on: Stage, exchange: McpExchange, why: Closing = "done") -> tuple[str, int | None, str | None, bool]:
    exchange.closed(why)
    exchange.closed("error")
    (settlement,) = on.settled
    assert [] == on.bugs
    cost = None if settlement.cost is None else str(settlement.cost)
    return settlement.outcome, settlement.status, cost, settlement.estimated


def test_a_call_goes_to_the_server_with_its_credential() -> None:
    on = stage()
    exchange = McpExchange(on.gateway)
    before, sent, head, last = talk(exchange, begin(), call(), answered(), whole(RESULT))

    assert isinstance(sent, Continue)
    set_headers = dict(sent.set_headers)
    assert CONTINUE == before
    assert ("Bearer of-server", "/mcp", "mcp_s", "mcp/s") == tuple(
        set_headers[name] for name in ("authorization", ":path", "x-edge-cluster", "x-edge-route")
    )
    assert (True, None) == (sent.reroute, sent.body)
    assert isinstance(head, Continue)
    assert ("buffered", CONTINUE) == (head.response_body, last)
    assert ("ok", 200, "2", False) == settled(on, exchange)


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        ([begin(path="/mcp/other")], (404, 404, None)),
        ([begin(key="wrong")], (401, 401, None)),
        ([begin(method="PUT")], (405, 405, None)),
        ([begin(end=True)], (400, 400, None)),
        ([begin(("content-encoding", "gzip"))], (400, 400, None)),
        ([begin(("content-length", "99999999999"))], (413, 413, None)),
        ([begin(("origin", "https://evil"))], (403, 403, None)),
        ([headers("/mcp/s", ("content-type", "text/plain"))], (400, 400, None)),
        ([begin(method="GET")], (400, 400, None)),
        ([begin(method="GET", end=True)], (405, 405, None)),
        ([begin(("mcp-session-id", "of-server"), method="GET", end=True)], (404, 404, None)),
        (
            [begin(("mcp-session-id", SESSION), ("mcp-protocol-version", "2026-07-28"), method="GET", end=True)],
            (405, 405, None),
        ),
        ([begin(path="/.well-known/oauth-protected-resource/mcp/s", method="GET", end=True)], (404, 404, None)),
        ([begin(), call("other")], (403, 403, 7)),
        ([begin(("last-event-id", "1")), call()], (400, 400, 7)),
        ([begin(), RequestBody(b"", True)], (400, -32700, None)),
        ([begin(), body({"jsonrpc": "2.0", "id": 7, "method": "x"})], (400, -32601, 7)),
        ([begin(("mcp-method", "x")), call()], (400, -32020, 7)),
        ([begin(), call(), answered(401)], (502, 502, 7)),
        ([begin(), call(), answered(307)], (502, 502, 7)),
        ([begin(), call(), answered(404, content_type="text/html")], (404, 404, 7)),
        ([begin(), call(), answered(200, ("content-encoding", "br"))], (502, 502, 7)),
        ([begin(), call(), answered(content_type="text/html")], (502, 502, 7)),
        ([begin(), call(), answered(200, ("mcp-session-id", "a b"))], (502, 502, 7)),
        (
            [begin(), call(), answered(503, details="upstream_reset_before_response_started{connection_failure}")],
            (502, 502, 7),
        ),
        ([begin(), call(), answered(), whole(b"no message")], (502, 502, 7)),
        ([begin(), call(), answered(), whole(b"[1]")], (502, 502, 7)),
    ],
)
def test_refusals(events: list[Any], expected: tuple[int, int, Any]) -> None:
    on = stage()
    exchange = McpExchange(on.gateway)
    *_, refusal = talk(exchange, *events)

    assert expected == error_of(refusal)
    outcome, status, _, _ = settled(on, exchange)
    assert expected[0] == status
    assert outcome in ("rejected", "upstream_error")


@pytest.mark.parametrize(
    ("events", "why", "expected"),
    [
        ([begin(), call()], "cancelled", ("caller_left", None, "2", True)),
        ([begin(), call()], "stopping", ("stopped", None, "2", True)),
        ([begin(), call()], "error", ("gateway_error", None, "2", True)),
        ([begin()], "cancelled", ("caller_left", None, None, False)),
        ([begin(), call("echo"), answered(), whole(RESULT)], "done", ("ok", 200, "0", False)),
        (
            [begin(), call(), answered(404), whole(b'{"jsonrpc":"2.0","id":null,"error":{"code":1,"message":"m"}}')],
            "done",
            ("refused", 404, None, False),
        ),
        ([begin(), call(), answered(500, end=True)], "done", ("upstream_error", 500, None, False)),
        (
            [begin(), call(), answered(504, details="upstream_response_timeout")],
            "done",
            ("upstream_error", 504, "2", True),
        ),
        ([begin(), call(), answered(503, details="no_healthy_upstream")], "done", ("upstream_error", 503, None, False)),
        ([begin(), call(), answered(202, end=True)], "done", ("ok", 202, "2", True)),
        (
            [begin(), call(), answered(), whole({**RESULT, "result": {"isError": True}})],
            "done",
            ("ok", 200, "2", False),
        ),
        ([begin(), call(), answered(), whole({**RESULT, "id": "7"})], "done", ("ok", 200, "2", True)),
        (
            [begin(), call(), answered(), whole({"jsonrpc": "2.0", "id": 7, "error": {}})],
            "done",
            ("refused", 200, None, False),
        ),
        (
            [begin(), call(), answered(content_type="text/event-stream"), ResponseBody(b"data: {\n\n", True)],
            "done",
            ("rejected", 200, "2", False),
        ),
        (
            [begin(), call(), answered(content_type="text/event-stream"), ResponseBody(b": hi\n\n", False)],
            "cancelled",
            ("caller_left", 200, "2", True),
        ),
        (
            [begin(), body({"jsonrpc": "2.0", "method": "notifications/cancelled"}), answered(202), whole(b"Accepted")],
            "done",
            ("ok", 202, None, False),
        ),
    ],
)
def test_ends(events: Sequence[Any], why: Closing, expected: tuple[Any, ...]) -> None:
    on = stage()
    exchange = McpExchange(on.gateway)
    talk(exchange, *events)

    assert expected == settled(on, exchange, why)


@pytest.mark.parametrize(("status", "more"), [(200, [("content-length", "0")]), (204, [])])
def test_an_empty_reply_passes(status: int, more: list[tuple[str, str]]) -> None:
    end = begin(("mcp-session-id", SESSION), method="DELETE", end=True)
    _, head, last = talk(McpExchange(stage().gateway), end, answered(status, *more, content_type=""), whole(b""))

    assert isinstance(head, Continue)
    assert CONTINUE == last


def test_an_accepted_notification_has_no_body() -> None:
    note = body({"jsonrpc": "2.0", "method": "notifications/initialized"})
    *_, head, last = talk(McpExchange(stage().gateway), begin(), note, answered(202), whole(b"Accepted"))

    assert isinstance(head, Continue)
    assert Continue(body=b"") == last
    *_, empty = talk(McpExchange(stage().gateway), begin(), note, answered(202), whole(b""))
    assert CONTINUE == empty


def test_a_charset_does_not_pass() -> None:
    charset = headers("/mcp/s", ("content-type", "application/json; charset=utf-7"))
    _, sent = talk(McpExchange(stage().gateway), charset, call())

    assert isinstance(sent, Continue)
    assert ("content-type", "application/json") in sent.set_headers


def test_a_session_is_the_callers_own() -> None:
    on = stage()
    events = [begin(("mcp-session-id", SESSION)), call(), answered(200, ("mcp-session-id", "of-server")), whole(RESULT)]
    _, sent, head, _ = talk(McpExchange(on.gateway), *events)

    assert isinstance(sent, Continue)
    assert isinstance(head, Continue)
    assert ("mcp-session-id", "of-server") in sent.set_headers
    assert "mcp-session-id" not in sent.remove_headers
    assert (("mcp-session-id", SESSION), ("content-type", "application/json")) == head.set_headers
    assert "mcp-session-id" not in head.remove_headers


def test_a_modern_request_has_no_session() -> None:
    modern = [("mcp-protocol-version", "2026-07-28"), ("mcp-method", "tools/call"), ("mcp-name", "add")]
    _, sent = talk(McpExchange(stage().gateway), begin(("mcp-session-id", "any"), *modern), call())

    assert isinstance(sent, Continue)
    assert "mcp-session-id" in sent.remove_headers


def test_a_reply_of_the_caller_needs_its_session() -> None:
    reply = body({"jsonrpc": "2.0", "id": 1, "result": {"action": "accept"}})
    _, refused = talk(McpExchange(stage().gateway), begin(), reply)
    _, sent = talk(McpExchange(stage().gateway), begin(("mcp-session-id", SESSION)), reply)

    assert (400, 400, None) == error_of(refused)
    assert isinstance(sent, Continue)


def test_a_body_without_headers_is_envoys_mistake() -> None:
    with pytest.raises(PeerError):
        talk(McpExchange(stage().gateway), call())


def test_other_events_pass() -> None:
    exchange = McpExchange(stage().gateway)

    assert [CONTINUE] * 3 == talk(exchange, RequestTrailers(), answered(), whole(b"x"))


def test_without_servers_there_is_nothing() -> None:
    (refused,) = talk(McpExchange(Stage().gateway), begin())

    assert (404, 404, None) == error_of(refused)


@pytest.mark.parametrize("events", [[begin()], [begin(), call(), answered(), whole(RESULT)]])
def test_a_bug_is_an_error_without_its_text(events: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    on = stage()
    exchange = McpExchange(on.gateway)
    talk(exchange, *events[:-1])

    def fail(*_: Any) -> None:
        raise ValueError("a secret")

    monkeypatch.setattr(exchange, "_request_headers", fail)
    monkeypatch.setattr(exchange, "_response_body", fail)
    if len(events) == 1:
        (refused,) = talk(exchange, *events)
        assert (500, 500, None) == error_of(refused)
        assert isinstance(refused, ImmediateResponse)
        assert b"secret" not in refused.body
    else:
        with pytest.raises(ValueError, match="a secret"):
            talk(exchange, events[-1])
    exchange.closed("done")

    assert ["ValueError"] == [type(bug).__name__ for bug in on.bugs]
    assert ["gateway_error"] == [settlement.outcome for settlement in on.settled]


def test_a_sink_that_fails_stops_no_other() -> None:
    on = stage()
    taken: list[Any] = []

    def fail(_: Any) -> None:
        raise ValueError

    on.having(sinks=(fail, taken.append))
    exchange = McpExchange(on.gateway)
    talk(exchange, begin(), body({"jsonrpc": "2.0", "method": "notifications/initialized"}))
    exchange.closed("done")

    assert 1 == len(taken)
    assert 1 == len(on.bugs)
    asyncio.run(exchange.before_close())


# --- streams

LISTED = {"jsonrpc": "2.0", "id": 7, "result": {"tools": [{"name": "add"}, {"name": "no"}, 5], "prompts": [], "x": 1}}
TEMPLATES = {
    "jsonrpc": "2.0",
    "id": "x",
    "result": {"resourceTemplates": [{"uriTemplate": "a://{b}"}, {"uriTemplate": "c"}]},
}
WIRE = (
    b"\xef\xbb\xbf: hi\n\nid: 1\nretry: 10\ndata:\n\n"
    + b'data: {"jsonrpc":"2.0","method":"notifications/progress","params":{}}\r\n\r\n'
    + b"id: 2\r\nevent: message\r\ndata: "
    + json.dumps(LISTED).encode()
    + b"\r\n\r\nid: 3\ndata: "
    + json.dumps(TEMPLATES).encode().replace(b", ", b",\ndata: ")
    + b"\n\ndata: "
    + json.dumps(RESULT).encode()
)


def may_see(kind: str, name: str) -> bool:
    return name in ("add", "a://{b}")


def read(parts: Sequence[bytes]) -> tuple[bytes, str | None]:
    replies = McpReplies(7, may_see, None, AT_ONCE, 1 << 20)

    async def feed() -> bytes:
        out = [await replies.chunk(part, end=False) for part in parts]
        return b"".join([*out, await replies.chunk(b"", end=True)])

    return asyncio.run(feed()), replies.answer


@given(st.lists(st.integers(0, len(WIRE)), max_size=8))
def test_portions_do_not_matter(cuts: list[int]) -> None:
    places = [0, *sorted(cuts), len(WIRE)]
    out, answer = read([WIRE[begin:end] for begin, end in pairwise(places)])

    assert (out, answer) == read([WIRE])


def test_what_is_filtered_and_what_passes_as_it_came() -> None:
    out, answer = read([WIRE])
    listed = {**LISTED, "result": {**LISTED["result"], "tools": [{"name": "add"}]}}  # type: ignore[dict-item]

    assert "result" == answer
    assert out.startswith(WIRE[: WIRE.index(b"id: 2")])
    assert out.endswith(b"data: " + json.dumps(RESULT).encode())
    filtered = out.split(b"\n\n")[-2]
    assert b"id: 2\nevent: message\ndata: " + json.dumps(listed, separators=(",", ":")).encode() in out
    assert [{"uriTemplate": "a://{b}"}] == json.loads(filtered.partition(b"data: ")[2])["result"]["resourceTemplates"]


def test_a_message_over_the_limit_ends_the_stream() -> None:
    replies = McpReplies(7, may_see, None, AT_ONCE, 20)
    out = asyncio.run(replies.chunk(b"data: " + json.dumps(RESULT).encode() + b"\n\n", end=False))

    assert b'"id":7' in out
    assert b'"code":502' in out
    assert b"" == asyncio.run(replies.chunk(b"data: {}\n\n", end=True))
    assert "withheld" == replies.answer


def test_a_large_body_is_read_elsewhere() -> None:
    large = {**RESULT, "result": {"content": [{"type": "text", "text": "x" * 300_000}]}}
    on = stage()
    exchange = McpExchange(on.gateway)
    asked: list[float] = []

    async def more_time(seconds: float) -> None:
        asked.append(seconds)

    exchange.more_time = more_time
    *_, last = talk(exchange, begin(), call(text="x" * 300_000), answered(), whole(large))

    assert CONTINUE == last
    assert 2 == len(asked)
    assert ("ok", 200, "2", False) == settled(on, exchange)
