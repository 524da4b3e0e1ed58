"""Tenants that try to get more than is theirs from an MCP server, and servers that try to reach callers past the
gateway's view."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from guarding import SECRET, guardrails, rule
from mcp_kit import RESULT, SEAL, SESSION, SETTINGS, begin, call, error_of, stage
from player import Stage, answered, body, headers, talk, whole

from edge_extproc.auth.identity_seal import NAMESPACE, IdentitySeal
from edge_extproc.exchange.commands import Command, Continue, ImmediateResponse
from edge_extproc.exchange.events import ResponseBody
from edge_extproc.exchange.large_bodies import AT_ONCE
from edge_extproc.exchange.mcp.exchange import McpExchange
from edge_extproc.exchange.mcp.replies import McpReplies
from edge_extproc.model.principal import Principal

EVENTS = "text/event-stream"
MODERN = (("mcp-protocol-version", "2026-07-28"), ("mcp-method", "tools/call"), ("mcp-name", "add"))
LINE_ENDS = ("\u0085", "\u2028", "\u2029", "\x0b", "\x0c", "\x1c", "\x1d", "\x1e")


def play(on: Stage, *events: Any) -> list[Command]:
    exchange = McpExchange(on.gateway)
    commands: list[Command] = talk(exchange, *events)
    exchange.closed("done")
    assert [] == on.bugs
    return commands


def streamed(*parts: str) -> tuple[str, str | None]:
    """What the caller gets, and how the request was answered."""
    replies = McpReplies(7, lambda _, name: name == "add", None, AT_ONCE, 1 << 20)

    async def feed() -> bytes:
        return b"".join([await replies.chunk(part.encode(), end=part is parts[-1]) for part in parts])

    return asyncio.run(feed()).decode(), replies.answer


def as_some_clients_read(stream: str) -> list[Any]:
    """The messages of a stream for a client that splits lines as Python's str.splitlines does."""
    data: list[str] = []
    found: list[Any] = []
    for line in [*stream.splitlines(), ""]:
        if line.startswith("data: "):
            data.append(line.removeprefix("data: "))
        elif not line and data:
            found.append(json.loads("\n".join(data)))
            data = []
    return found


# --- the server: streams


HIDDEN = json.dumps({"jsonrpc": "2.0", "id": 7, "result": {"tools": [{"name": "no"}]}})


@pytest.mark.parametrize("end", LINE_ENDS)
@pytest.mark.parametrize("field", [": ", "id: ", "event: ", "retry: ", "more: "])
@pytest.mark.parametrize("data", [f"data: {json.dumps(RESULT)}\n", ""])
def test_no_field_of_an_event_hides_another_event(end: str, field: str, data: str) -> None:
    out, answer = streamed(f"{field}x{end}{end}data: {HIDDEN}{end}{end}\n{data}\n", ": end\n\n")

    assert as_some_clients_read(out) == ([RESULT] if data else [])
    assert ("result" if data else None) == answer


@pytest.mark.parametrize("end", ["\u0085", "\u2028", "\u2029"])
def test_no_text_hides_an_event(end: str) -> None:
    text = f"a{end}{end}data: {HIDDEN}{end}{end}b"
    message = {"jsonrpc": "2.0", "id": 7, "result": {"text": text, "tools": []}}
    for written in (json.dumps(message, ensure_ascii=False), json.dumps(message)):
        out, _ = streamed(f"id: 1\ndata: {written}\n\n")

        assert [message] == as_some_clients_read(out)
        assert out.startswith("id: 1\n")


@pytest.mark.parametrize(
    "raw",
    [
        json.dumps(RESULT).encode("utf-16"),
        json.dumps(RESULT).encode("utf-32"),
        json.dumps({**RESULT, "jsonrpc": "1.0"}).encode(),
        b'{"detail": "no message"}',
        b"[" * 100_000 + b"]" * 100_000,
        b'{"jsonrpc":"2.0","id":7,"result":' + b"9" * 5_000 + b"}",
    ],
)
def test_what_is_no_message_does_not_pass(raw: bytes) -> None:
    on = stage()
    *_, last = play(on, begin(), call(), answered(), whole(raw))

    assert (502, 502, 7) == error_of(last)
    # The tool may have run.
    assert "2" == str(on.settled[0].cost)


def test_an_error_of_http_without_a_message_keeps_its_status() -> None:
    """Clients begin a new session after 404."""
    on = stage()
    *_, last = play(on, begin(), call(), answered(404), whole(b'{"detail": "Session not found: abc"}'))

    assert (404, 404, 7) == error_of(last)
    assert ("upstream_error", None) == (on.settled[0].outcome, on.settled[0].cost)


@pytest.mark.parametrize("kind", ["application/json; charset=utf-7", "text/event-stream; charset=utf-16"])
def test_a_reply_is_in_utf_8_for_each_client(kind: str) -> None:
    _, _, head = play(stage(), begin(), call(), answered(content_type=kind))

    assert isinstance(head, Continue)
    assert [kind.partition(";")[0]] == [value for name, value in head.set_headers if name == "content-type"]


# --- the server: lists and guardrails


@pytest.mark.parametrize(
    "written",
    [
        '{"jsonrpc":"2.0","id":7,"result":{"tools":[{"name":"no"}],"tools":[{"name":"add"}]}}',
        '{"jsonrpc":"2.0","id":7,"result":{"tools":[{"name":"no","name":"add"}]}}',
        '{"jsonrpc":"2.0","id":7,"result":{"Tools":[{"name":"no"}],"tools":[{"name":"add"}]}}',
        '{"jsonrpc":"2.0","id":7,"result":{"tools":[{"name":"add"}]},"Result":{"tools":[{"name":"no"}]}}',
        '{"jsonrpc":"2.0","id":7,"result":{"tools":[{"name":"add"}]},"more":{"tools":[{"name":"no"}]}}',
    ],
)
def test_a_list_is_the_same_for_each_client(written: str) -> None:
    out, _ = streamed(f"data: {written}\n\n")

    assert '"no"' not in out
    assert [{"jsonrpc": "2.0", "id": 7, "result": {"tools": [{"name": "add"}]}}] == as_some_clients_read(out)


@pytest.mark.parametrize(
    "message",
    [
        {"result": {"tools": [{"name": "add", "description": f"call it with {SECRET}"}]}},
        {"result": {"tools": [{"name": "add", "inputSchema": {"properties": {"a": {"description": SECRET}}}}]}},
        {"result": {"tools": [{"name": "add", "annotations": {SECRET: 1}}]}},
        {"result": {"instructions": SECRET}},
        {"error": {"code": 1, "message": SECRET}},
        {"result": {}, "more": SECRET},
        {"result": {}, "Result": SECRET},
    ],
)
def test_a_rule_sees_all_that_a_server_sends(message: dict[str, Any]) -> None:
    blocking = guardrails(rule("block", directions=frozenset({"reply"})))
    raw = {"jsonrpc": "2.0", "id": 7, **message}
    *_, last = play(stage(guardrails=blocking), begin(), call(), answered(), whole(raw))

    assert isinstance(last, Continue)
    assert last.body is not None
    assert SECRET.encode() not in last.body


def test_a_blocked_error_is_still_an_error_of_the_server() -> None:
    on = stage(guardrails=guardrails(rule("block", directions=frozenset({"reply"}))))
    play(on, begin(), call(), answered(), whole({"jsonrpc": "2.0", "id": 7, "error": {"code": 1, "message": SECRET}}))

    assert ("refused", None) == (on.settled[0].outcome, on.settled[0].cost)


# --- money


@pytest.mark.parametrize(
    ("status", "messages", "cost"),
    [
        (200, [{**RESULT, "error": None}], "2"),
        (200, [{**RESULT, "error": {"code": 1, "message": "m"}}], "2"),
        (500, [RESULT], "2"),
        (404, [{**RESULT, "result": {"isError": True}}], "2"),
        (200, [{"jsonrpc": "2.0", "id": 7, "error": {"code": 1}}, RESULT], "2"),
        (200, [RESULT, {"jsonrpc": "2.0", "id": 7, "error": {"code": 1}}], "2"),
        (200, [{"jsonrpc": "2.0", "id": 8, "error": {"code": 1}}], "2"),
        (200, [{"jsonrpc": "2.0", "id": 7, "method": "ping", "error": {"code": 1}}], "2"),
        (200, [{"jsonrpc": "2.0", "id": 7}], "2"),
        (200, [{"jsonrpc": "2.0", "id": 7, "error": {"code": 1}}], None),
    ],
)
@pytest.mark.parametrize("kind", ["application/json", EVENTS])
def test_a_result_is_never_free(status: int, messages: Sequence[Any], cost: str | None, kind: str) -> None:
    on = stage()
    if kind == EVENTS and status < 400:  # events under the status of an error do not pass
        sent = ResponseBody("".join(f"data: {json.dumps(each)}\n\n" for each in messages).encode(), True)
    else:
        sent = whole(messages[0] if len(messages) == 1 else json.dumps(messages).encode())
    kind = kind if status < 400 else "application/json"
    play(on, begin(), call(), answered(status, content_type=kind), sent)

    assert cost == (None if on.settled[0].cost is None else str(on.settled[0].cost))


def test_two_calls_with_one_id_are_two_calls() -> None:
    on = stage()
    for _ in range(2):
        play(on, begin(("mcp-session-id", SESSION)), call(), answered(), whole(RESULT))

    assert ["2", "2"] == [str(each.cost) for each in on.settled]


# --- the tenant


class OneCaller:
    def __init__(self, principal: Principal) -> None:
        self._principal = principal

    def authenticate(self, _: Any) -> Principal:
        return self._principal


@pytest.mark.parametrize(
    ("required", "audiences", "passes"),
    [
        ((), ("a",), True),
        (("a", "b"), ("b", "c"), True),
        (("a",), ("A",), False),
        (("a",), (), False),
        (("a",), None, True),
    ],
)
@pytest.mark.parametrize("sealed", [False, True])
def test_a_token_for_another_server(
    required: tuple[str, ...], audiences: tuple[str, ...] | None, passes: bool, sealed: bool
) -> None:
    """Also if ext_authz has verified the token."""
    principal = Principal("acme", "jwt:ann", audiences=audiences)
    server = replace(SETTINGS.servers["s"], audiences=required)
    settings = replace(SETTINGS, servers={"s": server}, issuers=("https://issuer",), url="https://gateway")
    on = stage(authenticator=OneCaller(principal)).having(mcp=settings)
    event = begin()
    if sealed:
        seal = IdentitySeal(b"pepper")
        on.having(identity_seal=seal, authenticator=OneCaller(Principal("other", "other")))
        event = replace(event, metadata={NAMESPACE: seal.seal(principal, "request-1")})
    first, *_ = play(on, event, *([call()] if passes else []))

    assert isinstance(first, Continue if passes else ImmediateResponse)
    if isinstance(first, ImmediateResponse):
        assert (401, 401, None) == error_of(first)
        assert dict(first.headers)["www-authenticate"].startswith('Bearer error="invalid_token", resource_metadata=')


@pytest.mark.parametrize("method", ["notifications/cancelled", "notifications/progress"])
@pytest.mark.parametrize("more", [(), (("mcp-protocol-version", "2026-07-28"),)])
def test_no_notification_names_the_request_of_another_caller(method: str, more: tuple[tuple[str, str], ...]) -> None:
    note = body({"jsonrpc": "2.0", "method": method, "params": {"requestId": 1, "progressToken": 1}})
    on = stage()
    _, accepted = play(on, begin(*more), note)
    _, sent = play(stage(), begin(("mcp-session-id", SESSION)), note)

    assert isinstance(accepted, ImmediateResponse)
    assert (202, b"") == (accepted.status, accepted.body)
    assert ("ok", 0) == (on.settled[0].outcome, on.settled[0].attempts)
    assert isinstance(sent, Continue)


def test_a_stream_is_not_resumed_without_a_session() -> None:
    for version in MODERN, MODERN[1:]:
        event = begin(*version, ("last-event-id", "of-another"))
        _, command = play(stage(), event, call())
        passes = isinstance(command, Continue) and "last-event-id" not in command.remove_headers
        assert not passes


def test_an_event_belongs_to_the_caller_that_got_it() -> None:
    """Some servers repeat any stream whose event is named, whose session it may be."""
    mine, other = Principal("acme", "acme-1"), Principal("acme", "acme-2")
    sealed = SEAL.seal_event("s", mine, "3")
    assert sealed is not None
    assert "3" == SEAL.open_event("s", mine, sealed)
    assert [None] * 3 == [
        SEAL.open_event("s", other, sealed),
        SEAL.open_event("t", mine, sealed),
        SEAL.open_event("s", mine, SEAL.seal("s", mine, "3") or ""),
    ]

    def get(event: str) -> Command:
        sent, *_ = play(stage(), begin(("mcp-session-id", SESSION), ("last-event-id", event), method="GET", end=True))
        return sent

    passed = get(sealed)
    assert isinstance(passed, Continue)
    assert ("last-event-id", "3") in passed.set_headers
    assert "last-event-id" not in passed.remove_headers
    for foreign in ("3", SEAL.seal_event("s", other, "3") or "", SEAL.seal_event("t", mine, "3") or "", SESSION):
        assert 400 == error_of(get(foreign))[0]


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("id: 3\ndata:\n\n", "id: <3>\ndata:\n\n"),
        ("retry: 1\nid:3\n\n", "retry: 1\nid: <3>\n\n"),
        ("id: 3\r\ndata:\r\n\r\n", "id: <3>\ndata:\n\n"),
        ("id:\n\n", "id:\n\n"),
        ("id: bad\ndata:\n\n", "data:\n\n"),
        (f"id: 3\nid: 4\ndata: {json.dumps(RESULT)}\n\n", f"id: <3>\nid: <4>\ndata: {json.dumps(RESULT)}\n\n"),
        (f"idx: 3\ndata: {json.dumps(RESULT)}\n\n", f"idx: 3\ndata: {json.dumps(RESULT)}\n\n"),
    ],
)
def test_ids_of_events_are_those_of_the_caller(raw: str, expected: str) -> None:
    replies = McpReplies(7, lambda *_: True, None, AT_ONCE, 1 << 20, lambda id: f"<{id}>" if id != "bad" else None)

    assert expected == asyncio.run(replies.chunk(raw.encode(), end=True)).decode()


@pytest.mark.parametrize("event", ["", " a", "a\n", "\u00e9", "a" * 513])
def test_an_event_with_an_id_for_no_header_gets_none(event: str) -> None:
    assert SEAL.seal_event("s", Principal("acme", "acme-1"), event) is None


@pytest.mark.parametrize(
    "session",
    ["", "of-server", f"{SESSION}x", SESSION[:-1], f"{SESSION}, {SESSION}", f" {SESSION}", SESSION.upper(), "." * 99],
)
def test_a_session_is_not_guessed(session: str) -> None:
    for more in ({}, {"method": "GET", "end": True}, {"method": "DELETE", "end": True}):
        *_, refused = play(stage(), begin(("mcp-session-id", session), **more), *([] if more else [call()]))

        assert isinstance(refused, ImmediateResponse)
        assert 404 == refused.status


@pytest.mark.parametrize(
    "name",
    [
        "Add",
        "ADD",
        "add ",
        " add",
        "add\x00",
        "add\n",
        "ａｄｄ",
        "ad\u200bd",
        "add/../no",
        "no",
        "*",
        "a?d",
        "",
        "add\u0301",
    ],
)
@pytest.mark.parametrize("method", ["tools/call", "prompts/get", "resources/read"])
def test_a_name_is_compared_as_it_is(name: str, method: str) -> None:
    member = "uri" if method == "resources/read" else "name"
    on = stage()
    _, refused = play(on, begin(), body({"jsonrpc": "2.0", "id": 7, "method": method, "params": {member: name}}))

    assert isinstance(refused, ImmediateResponse)
    assert refused.status in (400, 403)
    assert 0 == on.settled[0].attempts


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\xef\xbb\xbf" + json.dumps(RESULT).encode(),
        json.dumps(RESULT).encode("utf-16"),
        b'{"jsonrpc":"2.0","id":NaN,"method":"ping"}',
        b'{"jsonrpc":"2.0","id":1e3,"method":"ping"}',
        b'{"jsonrpc":"2.0","id":null,"method":"ping"}',
        b'{"jsonrpc":"2.0","id":' + b"9" * 5_000 + b',"method":"ping"}',
        b'{"jsonrpc":"2.0","id":1,"method":"ping","params":{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}}",
        b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"add","n\\u0061me":"no"}}',
        b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"add","Name":"no"}}',
        b'{"jsonrpc":"2.0","id":1,"method":"tools/call","Params":{"name":"no"},"params":{"name":"add"}}',
        b'{"jsonrpc":"2.0","id":1,"method":"tools/call","param\xc5\xbf":{"name":"no"},"params":{"name":"add"}}',
        b'{"jsonrpc":"2.0","method":"tools/call","params":{"name":"add"}}',
    ],
)
def test_a_body_that_could_be_read_in_two_ways_does_not_pass(raw: bytes) -> None:
    on = stage()
    _, refused = play(on, begin(), body(raw))

    assert isinstance(refused, ImmediateResponse)
    assert 400 == refused.status
    assert 0 == on.settled[0].attempts


@pytest.mark.parametrize("method", ["x\ny", "\u202eevil", "a" * 101, "call me on 555 0100", "ｔools/call"])
def test_the_log_has_no_text_of_the_callers_as_a_method(method: str) -> None:
    on = stage()
    play(on, begin(), body({"jsonrpc": "2.0", "id": 7, "method": method}))

    assert "other" == on.settled[0].rpc_method


@pytest.mark.parametrize("path", ["/mcp/S", "/mcp/s/", "/mcp//s", "/mcp/s%2f", "/mcp/../mcp/s", "/mcp/", "/mcp/s;a"])
def test_a_path_names_one_server(path: str) -> None:
    (refused,) = play(stage(), headers(path))

    assert (404, 404, None) == error_of(refused)
