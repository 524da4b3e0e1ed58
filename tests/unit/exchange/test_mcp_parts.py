"""The parts of requests to MCP servers: methods, headers that repeat the body, sessions, prices, addresses."""

from __future__ import annotations

import base64
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_extproc.codecs.json_rpc import INVALID_PARAMS, METHOD_NOT_FOUND, RpcFault, RpcMessage
from edge_extproc.errors import BadRequest, Unauthenticated
from edge_extproc.exchange.mcp.errors import HeaderMismatch
from edge_extproc.exchange.mcp.metadata import challenge, metadata
from edge_extproc.exchange.mcp.methods import McpUse, uses_of
from edge_extproc.exchange.mcp.mirrored import (
    check_mirrored,
    check_once,
    check_parameters,
    decoded,
    has_parameters,
    is_modern,
)
from edge_extproc.exchange.mcp_session_ids import SessionSeal
from edge_extproc.exchange.mcp_settings import McpServer, McpSettings
from edge_extproc.exchange.phases import Received
from edge_extproc.model.principal import Principal

MODERN = {"mcp-protocol-version": "2026-07-28"}


def request(method: str, **params: Any) -> RpcMessage:
    return RpcMessage("request", method, 7, params)


# --- methods


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (request("tools/call", name="add"), (McpUse("tools", "add"),)),
        (request("prompts/get", name="greet"), (McpUse("prompts", "greet"),)),
        (request("resources/read", uri="a://b"), (McpUse("resources", "a://b"),)),
        (request("resources/subscribe", uri="a://b"), (McpUse("resources", "a://b"),)),
        (request("resources/unsubscribe", uri="a://b.c/..d"), (McpUse("resources", "a://b.c/..d"),)),
        (request("completion/complete", ref={"type": "ref/prompt", "name": "p"}), (McpUse("prompts", "p"),)),
        (
            request("completion/complete", ref={"type": "ref/resource", "uri": "a://{x}"}),
            (McpUse("resources", "a://{x}"),),
        ),
        (
            request("subscriptions/listen", notifications={"resourceSubscriptions": ["a://b", "c://d"]}),
            (McpUse("resources", "a://b"), McpUse("resources", "c://d")),
        ),
        (request("subscriptions/listen", notifications={"toolsListChanged": True}), ()),
        (request("subscriptions/listen"), ()),
        (request("tools/list"), ()),
        (RpcMessage("request", "ping", 1), ()),
        (RpcMessage("notification", "notifications/cancelled"), ()),
    ],
)
def test_what_a_message_uses(message: RpcMessage, expected: tuple[McpUse, ...]) -> None:
    assert expected == uses_of(message)


@pytest.mark.parametrize(
    ("message", "code"),
    [
        (request("tasks/get", taskId="1"), METHOD_NOT_FOUND),
        (request("TOOLS/CALL", name="add"), METHOD_NOT_FOUND),
        (request("notifications/initialized"), METHOD_NOT_FOUND),
        (RpcMessage("notification", "tools/call", None, {"name": "add"}), METHOD_NOT_FOUND),
        (request("tools/call"), INVALID_PARAMS),
        (RpcMessage("request", "tools/call", 7), INVALID_PARAMS),
        (request("tools/call", name=["add"]), INVALID_PARAMS),
        (request("tools/call", name=""), INVALID_PARAMS),
        (request("tools/call", name="a\n"), INVALID_PARAMS),
        (request("tools/call", name="a" * 257), INVALID_PARAMS),
        (request("tools/call", name="add", task={}), INVALID_PARAMS),
        (request("completion/complete"), INVALID_PARAMS),
        (request("completion/complete", ref={"type": "ref/tool", "name": "add"}), INVALID_PARAMS),
        (request("subscriptions/listen", notifications={"resourceSubscriptions": "a://b"}), INVALID_PARAMS),
        (request("subscriptions/listen", notifications={"resourceSubscriptions": [1]}), INVALID_PARAMS),
        *(
            (request("resources/read", uri=uri), INVALID_PARAMS)
            for uri in ("a://b/../c", "a://b/%2e%2E/c", "a://b/..", "..", "a://b%2f..%2Fc", "a:..\\b", "a://b/./c")
        ),
    ],
)
def test_messages_that_do_not_go_through(message: RpcMessage, code: int) -> None:
    with pytest.raises(RpcFault) as refused:
        uses_of(message)

    assert code == refused.value.rpc_code
    assert message.id == refused.value.id


# --- headers


@pytest.mark.parametrize(
    ("values", "expected"),
    [({}, False), (MODERN, True), ({"mcp-protocol-version": "2025-11-25"}, False)]
    + [({"mcp-protocol-version": version}, False) for version in ("9", "DRAFT-2027", "2026-7-28", "2026-07-28 ")]
    + [({"mcp-protocol-version": "2027-01-01"}, True)],
)
def test_revisions(values: dict[str, str], expected: bool) -> None:
    assert expected is is_modern(values)


CALL = request("tools/call", name="add", _meta={"io.modelcontextprotocol/protocolVersion": "2026-07-28"})
IN_BASE64 = f"=?base64?{base64.b64encode('größe'.encode()).decode()}?="


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({**MODERN, "mcp-method": "tools/call", "mcp-name": "add"}, CALL),
        ({}, request("tools/call", name="add")),
        ({"mcp-name": "add"}, request("tools/call", name="add")),
        ({"mcp-name": IN_BASE64}, request("tools/call", name="größe")),
        ({"mcp-name": "a://b"}, request("resources/subscribe", uri="a://b")),
        ({**MODERN, "mcp-method": "tools/list"}, request("tools/list")),
        (MODERN, RpcMessage("notification", "notifications/cancelled")),
        ({}, RpcMessage("response", id=1)),
    ],
)
def test_headers_that_repeat_the_body(values: dict[str, str], message: RpcMessage) -> None:
    check_mirrored(values, message)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, CALL),
        ({"mcp-protocol-version": "2025-11-25", "mcp-method": "tools/call", "mcp-name": "add"}, CALL),
        ({**MODERN, "mcp-name": "add"}, CALL),
        ({**MODERN, "mcp-method": "tools/call"}, CALL),
        ({**MODERN, "mcp-method": "tools/list", "mcp-name": "add"}, CALL),
        ({**MODERN, "mcp-method": "tools/call", "mcp-name": "other"}, CALL),
        ({"mcp-method": "tools/list"}, request("tools/call", name="add")),
        ({"mcp-name": "other"}, request("tools/call", name="add")),
        ({"mcp-name": "add"}, request("tools/list")),
        ({"mcp-name": "add"}, request("tools/list", name=1)),
        ({"mcp-method": "other"}, RpcMessage("notification", "notifications/cancelled")),
        ({**MODERN, "mcp-method": "tools/call", "mcp-name": ""}, request("tools/call")),
    ],
)
def test_headers_that_say_something_else(values: dict[str, str], message: RpcMessage) -> None:
    with pytest.raises(HeaderMismatch):
        check_mirrored(values, message)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        ("plain", "plain"),
        (IN_BASE64, "größe"),
        ("=?base64?YQ==?=", "a"),
        ("=?base64?YR==?=", None),
        ("=?base64?!?=", None),
        ("=?base64?/w==?=", None),
        ("=?BASE64?YQ==?=", "=?BASE64?YQ==?="),
    ],
)
def test_values_in_base64(value: str | None, expected: str | None) -> None:
    assert expected == decoded(value)


def test_a_header_is_there_once() -> None:
    check_once((("accept", "a"), ("accept", "b"), ("mcp-name", "a")))
    for name in ("mcp-name", "mcp-session-id", "mcp-param-to"):
        with pytest.raises(HeaderMismatch):
            check_once(((name, "a"), (name, "a")))


def test_headers_of_parameters() -> None:
    message = request("tools/call", name="n", arguments={"a": "x", "b": {"c": 4, "d": True, "e": None, "f": [1.5]}})
    for value in ("x", "4", "true", "=?base64?eA==?="):
        check_parameters((("mcp-param-any", value), ("other", "y")), message)
    for value in ("y", "1.5", "None", "=?base64?!?="):
        with pytest.raises(HeaderMismatch):
            check_parameters((("mcp-param-any", value),), message)
    assert has_parameters((("mcp-param-a", "x"),))
    assert not has_parameters((("mcp-name", "x"),))


# --- sessions

ANN = Principal("acme", "ann")
VISIBLE = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=100)


@given(VISIBLE)
def test_a_session_belongs_to_its_server_tenant_and_key(session: str) -> None:
    seal = SessionSeal(b"pepper")
    sealed = seal.seal("files", ANN, session)

    assert sealed is not None
    assert sealed == SessionSeal(b"pepper").seal("files", ANN, session)
    assert session == seal.open("files", ANN, sealed)
    for server, principal in (
        ("web", ANN),
        ("files", Principal("umbrella", "ann")),
        ("files", Principal("acme", "bob")),
        ("files", Principal("acmea", "nn")),
    ):
        assert seal.open(server, principal, sealed) is None
    for other in (session, f"{session}x.{sealed.rpartition('.')[2]}", sealed[:-1], "", ".", "\udcff"):
        assert seal.open("files", ANN, other) is None
    assert SessionSeal(b"other").open("files", ANN, sealed) is None


@pytest.mark.parametrize("session", ["", "a b", "a\n", "ä", "x" * 513])
def test_an_id_that_is_not_valid(session: str) -> None:
    assert SessionSeal(b"pepper").seal("files", ANN, session) is None


# --- prices


@pytest.mark.parametrize(
    ("tool", "expected"),
    [("search", "3"), ("search_web", "2"), ("search_x", "1"), ("other", "0.5"), ("se*", "4")],
)
def test_the_price_of_a_tool(tool: str, expected: str) -> None:
    prices = {"*": "0.5", "se*": "4", "search*": "1", "search": "3", "search_we?": "2"}
    server = McpServer("s", "/", "c", prices=tuple((name, Decimal(price)) for name, price in prices.items()))

    assert Decimal(expected) == server.price_of(tool)


def test_a_tool_without_a_price_costs_nothing() -> None:
    assert Decimal(0) == McpServer("s", "/", "c", prices=(("a", Decimal(1)),)).price_of("b")


# --- OAuth


def received(**values: str) -> Received:
    named = {f":{name}" if name in ("authority", "scheme") else name: value for name, value in values.items()}
    return Received((), named, None, "POST", "/mcp/s", None, None, None)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("url", "values", "expected"),
    [
        ("https://own.example", {"authority": "other"}, "https://own.example"),
        (None, {"authority": "gw.example:8443", "x-forwarded-proto": "https"}, "https://gw.example:8443"),
        (None, {"host": "[::1]:80", "scheme": "http"}, "http://[::1]:80"),
        (None, {"authority": "gw"}, "http://gw"),
        (None, {"authority": 'evil", x="'}, None),
        (None, {"authority": "gw", "x-forwarded-proto": "javascript"}, None),
        (None, {}, None),
    ],
)
def test_the_address_of_the_metadata(url: str | None, values: dict[str, str], expected: str | None) -> None:
    values = {name.replace("x_forwarded_proto", "x-forwarded-proto"): value for name, value in values.items()}
    settings = McpSettings(SessionSeal(b"p"), url=url, issuers=("https://issuer",))
    ((_, value),) = challenge(settings, received(**values), "s", unauthenticated("missing_api_key"))

    resource = f'Bearer resource_metadata="{expected}/.well-known/oauth-protected-resource/mcp/s"'
    assert ("Bearer" if expected is None else resource) == value
    if expected is None:
        with pytest.raises(BadRequest):
            metadata(settings, received(**values), "s")
        return
    found = metadata(settings, received(**values), "s")
    assert f'"resource":"{expected}/mcp/s"'.encode() in found.body
    # Stores keep what is the same for each host and scheme.
    assert ("no-store" not in dict(found.headers)["cache-control"]) is (url is not None)


def unauthenticated(code: str) -> Unauthenticated:
    error = Unauthenticated("no")
    error.code = code
    return error


def test_a_wrong_token_is_named_as_such() -> None:
    settings = McpSettings(SessionSeal(b"p"), url="https://g", issuers=("i",))
    ((_, value),) = challenge(settings, received(), "s", unauthenticated("expired_token"))

    assert 'Bearer error="invalid_token", resource_metadata="https://g/.well-known' in value
    without = McpSettings(SessionSeal(b"p"), url="https://g")
    assert (("www-authenticate", "Bearer"),) == challenge(without, received(), "s", unauthenticated("x"))
