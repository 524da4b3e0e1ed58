"""MCP through Envoy with the official SDK on both sides: rights, sessions, limits, prices, guardrails, OAuth."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import gateway as gateways
import httpx2 as httpx
import pytest
from gateway import KEY, OTHER_KEY, RunningGateway
from mcp import MCPError
from mcp.client.client import Client
from mcp.client.streamable_http import streamable_http_client
from mcp_server import TOKEN, SeenRequests, mcp_server

pytestmark = pytest.mark.envoy

POOR_KEY, SLOW_KEY, NARROW_KEY = (f"edge-test-key-of-tenant-{name}" for name in ("poor", "slow", "narrow"))
SECOND_KEY = "edge-test-second-key-of-acme"
MODES = ("legacy", "2026-07-28")
LEGACY = {"content-type": "application/json", "accept": "application/json, text/event-stream"}
MODERN = {**LEGACY, "mcp-protocol-version": "2026-07-28"}
META = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientCapabilities": {},
    "io.modelcontextprotocol/clientInfo": {"name": "t", "version": "1"},
}
GRANT = "mcp: {tests: {tools: [add, echo, count, fail, hang], prompts: [greet], resources: ['notes://public/*']}}"
INITIALIZE = {
    "protocolVersion": "2025-11-25",
    "capabilities": {},
    "clientInfo": {"name": "t", "version": "1"},
}


def text(url: str, *, more: str = "") -> str:
    written = gateways.config("http://127.0.0.1:9", more=more)
    keys = f"keys: [{{id: acme-1, key: {KEY}}}, {{id: acme-2, key: {SECOND_KEY}}}, {{id: acme-narrow, "
    keys += f"key: {NARROW_KEY}, policy: {{mcp: {{tests: {{tools: [ec*]}}}}}}}}]"
    written = written.replace(
        f"{{tenant: acme, keys: [{{id: acme-1, key: {KEY}}}]}}", f"{{tenant: acme, {GRANT}, {keys}}}"
    )
    others = [
        f"- {{tenant: poor, {GRANT}, keys: [{{id: poor-1, key: {POOR_KEY}, limits: {{dollars_per_day: 1}}}}]}}",
        f"- {{tenant: slow, {GRANT}, keys: [{{id: slow-1, key: {SLOW_KEY}, limits: {{requests_per_minute: 2}}}}]}}",
    ]
    written = written.replace("callers:\n", "callers:\n" + "".join(f"  {each}\n" for each in others))
    written = written.replace("listen: {", "listen: {cors: {origins: ['https://app.example']}, ")
    server = f"{{base_url: '{url}', api_key: {TOKEN}, prices: {{add: 0.4, 'e*': 0.25, fail: 0.1, hang: 0.2}}}}"
    return written + f"mcp: {{servers: {{tests: {server}, dead: {{base_url: 'http://127.0.0.1:9/mcp'}}}}}}\n"


@pytest.fixture(scope="module")
def server() -> Iterator[tuple[SeenRequests, str]]:
    with mcp_server() as running:
        yield running


@pytest.fixture(scope="module")
def running(server: tuple[SeenRequests, str]) -> Iterator[RunningGateway]:
    with RunningGateway(text(server[1])) as gateway:
        yield gateway


@pytest.fixture
def seen(server: tuple[SeenRequests, str]) -> SeenRequests:
    server[0].requests.clear()
    server[0].calls.clear()
    return server[0]


@pytest.fixture
def before(running: RunningGateway) -> int:
    """How many lines there are before a test."""
    running.all_settled()
    return len(running.access_lines())


def new_lines(gateway: RunningGateway, before: int) -> list[dict[str, Any]]:
    gateway.all_settled()
    return gateway.access_lines()[before:]


def with_client(
    gateway: RunningGateway, use: Callable[[Client], Awaitable[Any]], key: str = KEY, mode: str = "legacy"
) -> Any:
    async def run() -> Any:
        async with httpx.AsyncClient(headers={"authorization": f"Bearer {key}"}, timeout=30) as http:
            transport = streamable_http_client(f"{gateway.url}/mcp/tests", http_client=http)
            async with Client(transport, mode=mode) as client:  # type: ignore[arg-type]
                return await use(client)

    return asyncio.run(run())


def post(
    gateway: RunningGateway,
    message: Any,
    key: str | None = KEY,
    headers: dict[str, str] = LEGACY,
    server: str = "tests",
) -> httpx.Response:
    sent = {**headers, **({"authorization": f"Bearer {key}"} if key is not None else {})}
    body = message if isinstance(message, bytes) else json.dumps(message)
    return httpx.post(f"{gateway.url}/mcp/{server}", content=body, headers=sent, timeout=30)


def request(method: str, id: Any = 7, **params: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": id, "method": method, "params": params}


def modern(method: str, mirrored: str | None = None, /, **params: Any) -> tuple[dict[str, Any], dict[str, str]]:
    named = {"mcp-name": mirrored} if mirrored is not None else {}
    return request(method, **params, _meta=META), {**MODERN, "mcp-method": method, **named}


def session_of(gateway: RunningGateway, key: str = KEY) -> str:
    reply = post(gateway, request("initialize", **INITIALIZE), key)
    assert 200 == reply.status_code, reply.text
    session = reply.headers["mcp-session-id"]
    post(gateway, {"jsonrpc": "2.0", "method": "notifications/initialized"}, key, {**LEGACY, "mcp-session-id": session})
    return str(session)


def error_of(reply: httpx.Response) -> tuple[int, int, str]:
    """The HTTP status, the code of JSON-RPC, and the gateway's code."""
    error = reply.json()["error"]
    return reply.status_code, error["code"], error.get("data", {}).get("code", "")


# --- what passes


@pytest.mark.parametrize("mode", MODES)
def test_a_client_lists_and_calls_what_it_may_use(
    running: RunningGateway, seen: SeenRequests, before: int, mode: str
) -> None:
    async def use(client: Client) -> Any:
        progress: list[float] = []

        async def note(done: float, total: float | None, message: str | None) -> None:
            progress.append(done)

        tools = [tool.name for tool in (await client.list_tools()).tools]
        prompts = [prompt.name for prompt in (await client.list_prompts()).prompts]
        resources = [str(each.uri) for each in (await client.list_resources()).resources]
        total = (await client.call_tool("add", {"a": 1, "b": 2})).content[0].text  # type: ignore[union-attr]
        await client.call_tool("count", {"to": 3}, progress_callback=note)
        note_text = (await client.read_resource("notes://public/one")).contents[0].text  # type: ignore[union-attr]
        greeting = (await client.get_prompt("greet", {"name": "Ada"})).messages[0].content.text  # type: ignore[union-attr]
        return tools, prompts, resources, total, progress, note_text, greeting

    tools, prompts, resources, total, progress, note_text, greeting = with_client(running, use, mode=mode)
    lines = new_lines(running, before)

    assert (["add", "echo", "fail", "count", "hang"], ["greet"], ["notes://public/one"]) == (tools, prompts, resources)
    assert ("3", [1.0, 2.0, 3.0], "a public note", "Greet Ada") == (total, progress, note_text, greeting)
    for _, headers in seen.requests:
        assert f"Bearer {TOKEN}" == headers["authorization"]
        assert not [name for name in headers if name.startswith(("x-edge-", "x-envoy-", "x-forwarded-"))]
    (added,) = [line for line in lines if line["model"] == "tests/add"]
    assert ("ok", "0.4", "tools/call", "mcp") == tuple(
        added[name] for name in ("outcome", "cost_usd", "rpc_method", "operation")
    )
    assert ("tests", "acme", "acme-1", 200) == tuple(added[name] for name in ("provider", "tenant", "key", "status"))
    # A client of sessions leaves its stream of notifications at the end.
    assert {"ok"} == {line["outcome"] for line in lines if line["rpc_method"] != "stream"}


def test_a_stream_of_notifications_and_the_end_of_a_session(running: RunningGateway, seen: SeenRequests) -> None:
    session = session_of(running)
    headers = {**LEGACY, "mcp-session-id": session, "authorization": f"Bearer {KEY}"}
    with httpx.stream("GET", f"{running.url}/mcp/tests", headers=headers) as stream:
        assert (200, "text/event-stream") == (stream.status_code, stream.headers["content-type"].partition(";")[0])
    ended = httpx.delete(f"{running.url}/mcp/tests", headers=headers)
    after = post(running, request("tools/list"), headers={**LEGACY, "mcp-session-id": session})

    assert 200 == ended.status_code
    assert 404 == after.status_code
    assert ["POST", "POST", "GET", "DELETE", "POST"] == [method for method, _ in seen.requests]
    assert session != seen.requests[2][1]["mcp-session-id"]


def test_a_stream_is_resumed_within_its_session(running: RunningGateway, seen: SeenRequests) -> None:
    session = {**LEGACY, "mcp-session-id": session_of(running), "mcp-protocol-version": "2025-11-25"}
    listed = post(running, request("tools/list"), headers=session).text
    first = next(line.removeprefix("id: ") for line in listed.splitlines() if line.startswith("id: "))
    headers = {**session, "last-event-id": first, "authorization": f"Bearer {KEY}"}
    with httpx.stream("GET", f"{running.url}/mcp/tests", headers=headers, timeout=30) as stream:
        lines = (line.removeprefix("data: ") for line in stream.iter_lines() if line.startswith("data: {"))
        tools = [tool["name"] for tool in json.loads(next(lines))["result"]["tools"]]
    without = {name: value for name, value in headers.items() if name != "mcp-session-id"}

    # The reply is repeated as this caller may have it.
    assert ["add", "echo", "fail", "count", "hang"] == tools
    assert first.rpartition(".")[0] == seen.requests[-1][1]["last-event-id"]
    # Another one's event: the server would repeat any stream.
    for foreign in ("0", f"0.{first.rpartition('.')[2]}"):
        assert 400 == httpx.get(f"{running.url}/mcp/tests", headers={**headers, "last-event-id": foreign}).status_code
    assert 405 == httpx.get(f"{running.url}/mcp/tests", headers=without).status_code
    assert 400 == post(running, request("ping"), headers=without).status_code


@pytest.mark.parametrize(("uri", "status"), [("notes://public/one", 200), ("notes://private/one", 403)])
def test_a_client_listens_to_what_it_may_use(
    running: RunningGateway, seen: SeenRequests, uri: str, status: int
) -> None:
    message, headers = modern("subscriptions/listen", notifications={"resourceSubscriptions": [uri]})
    sent = {**headers, "authorization": f"Bearer {KEY}"}
    url = f"{running.url}/mcp/tests"
    with httpx.stream("POST", url, content=json.dumps(message), headers=sent, timeout=30) as stream:
        first = next((line for line in stream.iter_lines() if line.startswith("data: ")), "")

    assert status == stream.status_code
    assert ("notifications/subscriptions/acknowledged" in first) is (status == 200)
    assert (status == 200) is bool(seen.requests)


# --- what does not


@pytest.mark.parametrize("mode", MODES)
def test_a_tool_that_the_caller_may_not_use(
    running: RunningGateway, seen: SeenRequests, before: int, mode: str
) -> None:
    async def use(client: Client) -> MCPError:
        with pytest.raises(MCPError) as refused:
            await client.call_tool("secret", {})
        return refused.value

    error = with_client(running, use, mode=mode)
    line = new_lines(running, before)[-1 if mode != "legacy" else 2]

    assert "'secret' is not among the tools of the MCP server 'tests'" in str(error)
    assert [] == seen.calls
    assert ("rejected", "permission_denied", 403, "tests/secret", None) == tuple(
        line[name] for name in ("outcome", "code", "status", "model", "cost_usd")
    )


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (request("tools/call", name="secret"), (403, 403, "permission_denied")),
        (request("prompts/get", name="hidden"), (403, 403, "permission_denied")),
        (request("resources/read", uri="notes://private/one"), (403, 403, "permission_denied")),
        (request("resources/subscribe", uri="notes://private/one"), (403, 403, "permission_denied")),
        (request("completion/complete", ref={"type": "ref/prompt", "name": "hidden"}), (403, 403, "permission_denied")),
        (request("resources/read", uri="notes://public/../private/one"), (400, -32602, "invalid_request")),
        (request("tools/call", name="add", task={"ttl": 1}), (400, -32602, "invalid_request")),
        (request("tools/call"), (400, -32602, "invalid_request")),
        (request("tasks/get", taskId="1"), (400, -32601, "invalid_request")),
        (request("secret/method"), (400, -32601, "invalid_request")),
        ([request("tools/list")], (400, -32600, "invalid_request")),
        (b'{"jsonrpc":"2.0","id":7,"method":"tools/list","method":"tools/call"}', (400, -32600, "invalid_request")),
        (b'{"jsonrpc":"2.0","id":7,"method":"tools/list","Method":"tools/call"}', (400, -32600, "invalid_request")),
        (
            b'{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"add","name":"secret"}}',
            (400, -32600, "invalid_request"),
        ),
        (
            b'{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"add","Name":"secret"}}',
            (400, -32600, "invalid_request"),
        ),
        (b"{", (400, -32700, "invalid_request")),
        ({"jsonrpc": "2.0", "method": "notifications/other"}, (400, -32601, "invalid_request")),
        ({"jsonrpc": "2.0", "id": 7, "result": {}}, (400, 400, "invalid_request")),
    ],
)
def test_messages_that_are_refused(
    running: RunningGateway, seen: SeenRequests, message: Any, expected: tuple[int, int, str]
) -> None:
    reply = post(running, message)

    assert expected == error_of(reply)
    assert reply.json()["id"] == (7 if isinstance(message, dict) and "params" in message else reply.json()["id"])
    assert [] == seen.requests


@pytest.mark.parametrize(
    "changed",
    [
        {"mcp-name": "echo"},
        {"mcp-method": "tools/list"},
        {"mcp-protocol-version": "2026-08-01"},
        {"mcp-name": ""},
        {"mcp-name": "=?base64?YWRk!?="},
    ],
)
def test_a_header_that_differs_from_the_body(
    running: RunningGateway, seen: SeenRequests, changed: dict[str, str]
) -> None:
    message, headers = modern("tools/call", "add", name="add", arguments={"a": 1, "b": 2})
    reply = post(running, message, headers={**headers, **changed})

    assert (400, -32020, "header_mismatch") == error_of(reply)
    assert 7 == reply.json()["id"]
    assert [] == seen.requests


def test_a_header_that_is_there_twice(running: RunningGateway, seen: SeenRequests) -> None:
    message, headers = modern("tools/call", "add", name="add", arguments={"a": 1, "b": 2})
    pairs = [*headers.items(), ("mcp-name", "secret"), ("authorization", f"Bearer {KEY}")]
    reply = httpx.post(f"{running.url}/mcp/tests", content=json.dumps(message), headers=pairs)

    assert (400, -32020, "header_mismatch") == error_of(reply)
    assert [] == seen.requests


def test_an_unknown_method_of_a_modern_client(running: RunningGateway, seen: SeenRequests) -> None:
    message, headers = modern("secret/method")

    assert (404, -32601, "invalid_request") == error_of(post(running, message, headers=headers))
    assert [] == seen.requests


@pytest.mark.parametrize("key", [OTHER_KEY, SECOND_KEY])
def test_a_session_of_another_caller(running: RunningGateway, seen: SeenRequests, key: str) -> None:
    session = session_of(running)
    own = seen.requests[-1][1]["mcp-session-id"]
    seen.requests.clear()
    headers = {**LEGACY, "mcp-session-id": session}
    refused = [
        post(running, request("tools/list"), key, headers),
        post(running, request("tools/list"), KEY, {**LEGACY, "mcp-session-id": own}),
        httpx.get(f"{running.url}/mcp/tests", headers={**headers, "authorization": f"Bearer {key}"}),
        httpx.delete(f"{running.url}/mcp/tests", headers={**headers, "authorization": f"Bearer {key}"}),
    ]

    # The tenant of OTHER_KEY may not use the server at all.
    expected = 403 if key == OTHER_KEY else 404
    assert [expected, 404, expected, expected] == [reply.status_code for reply in refused]
    assert [] == seen.requests


def test_a_key_narrows_what_its_tenant_may_use(running: RunningGateway, seen: SeenRequests) -> None:
    message, headers = modern("tools/list")
    listed = post(running, message, NARROW_KEY, headers).json()["result"]["tools"]
    message, headers = modern("tools/call", "add", name="add", arguments={"a": 1, "b": 2})
    refused = post(running, message, NARROW_KEY, headers)

    assert ["echo"] == [tool["name"] for tool in listed]
    assert (403, 403, "permission_denied") == error_of(refused)
    assert [] == seen.calls


@pytest.mark.parametrize(
    ("key", "headers", "status", "code"),
    [
        (None, {}, 401, "missing_api_key"),
        ("wrong", {}, 401, "invalid_api_key"),
        (OTHER_KEY, {}, 403, "permission_denied"),
        (KEY, {"origin": "https://evil.example"}, 403, "permission_denied"),
        (KEY, {"content-type": "text/plain"}, 400, "invalid_request"),
    ],
)
def test_requests_that_are_refused(
    running: RunningGateway, seen: SeenRequests, key: str | None, headers: dict[str, str], status: int, code: str
) -> None:
    reply = post(running, request("tools/list"), key, {**LEGACY, **headers})

    assert (status, status, code) == error_of(reply)
    assert ("Bearer" if status == 401 else None) == reply.headers.get("www-authenticate")
    assert [] == seen.requests


def test_a_page_of_an_allowed_origin(running: RunningGateway, seen: SeenRequests) -> None:
    message, headers = modern("tools/list")
    reply = post(running, message, headers={**headers, "origin": "https://app.example"})

    assert 200 == reply.status_code
    assert "origin" not in seen.requests[0][1]


def test_a_server_that_is_not_there(running: RunningGateway, before: int) -> None:
    unknown = post(running, request("tools/list"), server="nothing")
    dead = post(running, request("tools/list"), server="dead")

    assert 404 == unknown.status_code
    assert 403 == dead.status_code


# --- limits and money


def test_the_end_of_a_budget(running: RunningGateway, seen: SeenRequests, before: int) -> None:
    message, headers = modern("tools/call", "add", name="add", arguments={"a": 1, "b": 2})
    replies = [post(running, message, POOR_KEY, headers) for _ in range(3)]
    free, headers = modern("tools/call", "count", name="count", arguments={"to": 1})
    lines = new_lines(running, before)

    assert [200, 200, 429] == [reply.status_code for reply in replies]
    assert (429, 429, "budget_exceeded") == error_of(replies[-1])
    assert 7 == replies[-1].json()["id"]
    assert int(replies[-1].headers["retry-after"]) > 0
    assert [("ok", "0.4"), ("ok", "0.4"), ("rejected", None)] == [(line["outcome"], line["cost_usd"]) for line in lines]
    assert 2 == len(seen.calls)
    assert 200 == post(running, free, POOR_KEY, headers).status_code


def test_requests_in_a_minute(running: RunningGateway, seen: SeenRequests) -> None:
    message, headers = modern("tools/list")
    replies = [post(running, message, SLOW_KEY, headers) for _ in range(3)]

    assert [200, 200, 429] == [reply.status_code for reply in replies]
    assert (429, 429, "rate_limit_exceeded") == error_of(replies[-1])
    assert 2 == len(seen.requests)


def test_a_tool_that_fails_is_charged_and_an_error_is_not(
    running: RunningGateway, seen: SeenRequests, before: int
) -> None:
    message, headers = modern("tools/call", "fail", name="fail", arguments={})
    failed = post(running, message, headers=headers)
    message, headers = modern("tools/call", "echo", name="echo", arguments="none")
    wrong = post(running, message, headers=headers)
    first, second = new_lines(running, before)

    assert failed.json()["result"]["isError"]
    assert "error" in wrong.json()
    assert ("ok", "0.1", False) == (first["outcome"], first["cost_usd"], first["estimated"])
    assert ("refused", None) == (second["outcome"], second["cost_usd"])


def test_a_call_that_its_caller_leaves_is_charged(running: RunningGateway, seen: SeenRequests, before: int) -> None:
    message, headers = modern("tools/call", "hang", name="hang", arguments={})
    body = json.dumps(message).encode()
    sent = {**headers, "authorization": f"Bearer {KEY}", "host": "gateway", "content-length": str(len(body))}
    lines = "".join(f"{name}: {value}\r\n" for name, value in sent.items())
    with socket.create_connection(("127.0.0.1", int(running.url.rpartition(":")[2]))) as connection:
        connection.sendall(f"POST /mcp/tests HTTP/1.1\r\n{lines}\r\n".encode() + body)
        gateways.until(lambda: bool(seen.calls))
    (line,) = new_lines(running, before)

    assert ("caller_left", "0.2", True) == (line["outcome"], line["cost_usd"], line["estimated"])


def test_tools_are_in_the_metrics(running: RunningGateway) -> None:
    message, headers = modern("tools/call", "add", name="add", arguments={"a": 1, "b": 2})
    post(running, message, headers=headers)
    post(running, request("tools/call", name="invented"))
    running.all_settled()
    metrics = running.metrics()

    assert 'model="tests/add"' in metrics
    assert 'provider="tests"' in metrics
    assert 'edge_tool_calls_total{outcome="ok",server="tests",tool="add"}' in metrics
    assert 'edge_tool_calls_total{outcome="rejected",server="tests",tool="other"}' in metrics
    assert "invented" not in metrics


def test_other_requests_go_on_as_before(running: RunningGateway) -> None:
    reply = httpx.get(f"{running.url}/v1/models", headers={"authorization": f"Bearer {KEY}"})

    assert 200 == reply.status_code


def test_a_server_with_json_replies_and_a_ledger() -> None:
    with mcp_server(json_response=True) as (seen, url), RunningGateway(text(url, more="store: {}")) as gateway:

        async def use(client: Client) -> Any:
            tools = [tool.name for tool in (await client.list_tools()).tools]
            return tools, (await client.call_tool("echo", {"text": "hello"})).content[0].text  # type: ignore[union-attr]

        assert (["add", "echo", "fail", "count", "hang"], "hello") == with_client(gateway, use)
        gateway.all_settled()

        def rows() -> list[dict[str, Any]]:
            return gateway.usage("--by", "model")

        gateways.until(lambda: any(row.get("model") == "tests/echo" for row in rows()))
        (row,) = [row for row in rows() if row.get("model") == "tests/echo"]
        assert 1 == row["requests"]
        assert 0.25 == float(row["cost"]), row
        assert ["echo"] == [name for name, _ in seen.calls]


def test_an_unreachable_server_is_an_error_with_the_id() -> None:
    written = text("http://127.0.0.1:9/mcp")
    with RunningGateway(written) as gateway:
        message, headers = modern("tools/call", "add", name="add", arguments={"a": 1, "b": 2})
        reply = post(gateway, message, headers=headers)
        (line,) = new_lines(gateway, 0)

    assert (502, 502, "provider_unreachable") == error_of(reply)
    assert 7 == reply.json()["id"]
    assert ("upstream_error", None) == (line["outcome"], line["cost_usd"])
