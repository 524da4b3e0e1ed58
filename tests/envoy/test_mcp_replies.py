"""Odd replies of MCP servers, guardrails, and tokens of OAuth, through Envoy."""

from __future__ import annotations

import http.server
import json
import re
import threading
import time
from collections.abc import Iterator
from typing import Any

import gateway as gateways
import httpx2 as httpx
import pytest
import tokens
from gateway import KEY, RunningGateway
from mcp_server import Reply, ScriptedMcp, serve

pytestmark = pytest.mark.envoy

JSON, EVENTS = {"content-type": "application/json"}, {"content-type": "text/event-stream"}
RESULT = {"jsonrpc": "2.0", "id": 7, "result": {"content": [{"type": "text", "text": "Ada wrote to ada@example.com"}]}}
NOTE = {"jsonrpc": "2.0", "method": "notifications/message", "params": {"level": "info", "data": "forbidden-word"}}
TOOLS = {"jsonrpc": "2.0", "id": 8, "result": {"tools": [{"name": "cut"}, {"name": "other"}, {"no": "name"}]}}
BLOCKED = {"jsonrpc": "2.0", "id": 7, "result": {"structuredContent": {"deep": ["a forbidden-word"]}}}


def event(message: Any, id: str = "1") -> bytes:
    return f"id: {id}\nevent: message\ndata: {json.dumps(message)}\n\n".encode()


WHOLE = event(NOTE, "1") + event(TOOLS, "2") + event(RESULT, "3")
LARGE = {"jsonrpc": "2.0", "id": 7, "result": {"content": [{"type": "text", "text": "x" * 3_000_000}]}}
REPLIES: dict[str, Reply] = {
    "large": (200, JSON, [json.dumps(LARGE).encode()]),
    "large_event": (200, EVENTS, [event(LARGE), event(NOTE, "2")]),
    "over": (200, JSON, [b" " * 40_000_000]),
    "cut": (200, EVENTS, [WHOLE[n : n + 17] for n in range(0, len(WHOLE), 17)]),
    "lines": (200, EVENTS, [b": hi\r\n\r\ndata: {\r\ndata: " + json.dumps(RESULT).encode()[1:] + b"\r\n\r\n"]),
    "json": (200, JSON, [json.dumps(RESULT).encode()]),
    "batch": (200, JSON, [json.dumps([NOTE, TOOLS, RESULT]).encode()]),
    "blocked": (200, JSON, [json.dumps(BLOCKED).encode()]),
    "blocked_event": (200, EVENTS, [event(BLOCKED)]),
    "broken": (200, JSON, [b'{"jsonrpc":']),
    "broken_event": (200, EVENTS, [b"data: {\n\n", event(RESULT)]),
    "text": (200, {"content-type": "text/plain"}, [b"the answer"]),
    "encoded": (200, {**JSON, "content-encoding": "gzip"}, [b"\x1f\x8b"]),
    "unauthorized": (401, {**JSON, "www-authenticate": 'Bearer resource_metadata="https://evil"'}, [b"{}"]),
    "redirect": (302, {"location": "http://127.0.0.1:1/secret"}, []),
    "gone": (404, {"content-type": "text/plain"}, [b"Session not found"]),
    "down": (503, {"content-type": "text/html"}, [b"<html>internal.example</html>"]),
    "error": (200, JSON, [b'{"jsonrpc":"2.0","id":7,"error":{"code":-32000,"message":"no"}}']),
}
RULES = """
guardrails:
  rules:
    - {name: mail, detect: {pii: {kinds: [email]}}, action: mask, on: [request, reply], for: {models: [odd/*]}}
    - {name: forbidden, detect: {words: {words: [forbidden-word]}}, action: block, on: [request, reply]}
"""


def text(url: str, more: str = "") -> str:
    written = gateways.config("http://127.0.0.1:9", more=more)
    tools = ", ".join(name for name in (*REPLIES, "plain") if name != "other")
    written = written.replace("{tenant: acme,", f"{{tenant: acme, mcp: {{odd: {{tools: [{tools}]}}}},")
    server = f"{{base_url: '{url}/mcp', headers: {{x-api-key: of-the-gateway}}, prices: {{'*': 0.1}}}}"
    return written + f"mcp: {{servers: {{odd: {server}}}}}\n"


@pytest.fixture(scope="module")
def server() -> Iterator[tuple[ScriptedMcp, str]]:
    scripted = ScriptedMcp(REPLIES)
    with serve(scripted) as url:
        yield scripted, url


@pytest.fixture(scope="module")
def running(server: tuple[ScriptedMcp, str]) -> Iterator[RunningGateway]:
    with RunningGateway(text(server[1])) as gateway:
        yield gateway


@pytest.fixture(scope="module")
def guarded(server: tuple[ScriptedMcp, str]) -> Iterator[RunningGateway]:
    with RunningGateway(text(server[1], RULES)) as gateway:
        yield gateway


@pytest.fixture
def seen(server: tuple[ScriptedMcp, str]) -> ScriptedMcp:
    server[0].requests.clear()
    return server[0]


def call(gateway: RunningGateway, tool: str, key: str = KEY, more: Any = (), **arguments: Any) -> httpx.Response:
    message = {"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": {"name": tool, "arguments": arguments}}
    headers = {**JSON, "accept": "application/json, text/event-stream", "authorization": f"Bearer {key}", **dict(more)}
    return httpx.post(f"{gateway.url}/mcp/odd", content=json.dumps(message), headers=headers, timeout=30)


SIGNED = re.compile(rb"(?m)^(id: [^.\n]+)\.[\w-]{32}$")


def events(reply: httpx.Response) -> list[Any]:
    return [json.loads(line.removeprefix("data: ")) for line in reply.text.splitlines() if line.startswith("data: {")]


def test_events_that_come_in_parts(running: RunningGateway, seen: ScriptedMcp) -> None:
    reply = call(running, "cut")
    note, tools, result = events(reply)

    assert 200 == reply.status_code
    assert (NOTE, RESULT) == (note, result)
    assert [{"name": "cut"}] == tools["result"]["tools"]
    # Ids of events have a signature for the caller.
    assert ["1", "2", "3"] == [
        line[4:].partition(".")[0] for line in reply.text.splitlines() if line.startswith("id: ")
    ]
    assert event(NOTE, "1") == SIGNED.sub(rb"\1", reply.content)[: len(event(NOTE, "1"))]


def test_an_event_of_several_lines_passes_as_it_came(running: RunningGateway, seen: ScriptedMcp) -> None:
    assert b"".join(REPLIES["lines"][2]) == call(running, "lines").content


def test_a_list_of_messages(running: RunningGateway, seen: ScriptedMcp) -> None:
    note, tools, result = call(running, "batch").json()

    assert (NOTE, RESULT, [{"name": "cut"}]) == (note, result, tools["result"]["tools"])


def test_a_body_passes_as_it_came(running: RunningGateway, seen: ScriptedMcp) -> None:
    reply = call(running, "json", more={"x-api-key": KEY, "cookie": "a=b", "x-secret": "mine", "idempotency-key": "k"})
    (headers, _), *_ = seen.requests

    assert REPLIES["json"][2][0] == reply.content
    assert "of-the-gateway" == headers["x-api-key"]
    assert not {"authorization", "cookie", "x-secret", "idempotency-key", "x-edge-cluster"} & headers.keys()


@pytest.mark.parametrize(
    ("tool", "status", "code", "cost"),
    [
        ("broken", 502, "upstream_error", "0.1"),
        ("text", 502, "upstream_error", "0.1"),
        ("encoded", 502, "upstream_error", "0.1"),
        ("unauthorized", 502, "upstream_error", None),
        ("redirect", 502, "upstream_error", None),
        ("gone", 404, "mcp_server_error", None),
        ("down", 503, "mcp_server_error", None),
    ],
)
def test_replies_that_do_not_pass(
    running: RunningGateway, seen: ScriptedMcp, tool: str, status: int, code: str, cost: str | None
) -> None:
    running.all_settled()
    before = len(running.access_lines())
    reply = call(running, tool)
    running.all_settled()
    (line,) = running.access_lines()[before:]

    error = reply.json()
    assert (status, 7, code) == (reply.status_code, error["id"], error["error"]["data"]["code"])
    assert not {"www-authenticate", "location"} & reply.headers.keys()
    assert "internal" not in reply.text
    assert (status, cost) == (line["status"], line["cost_usd"])


@pytest.mark.parametrize("tool", ["large", "large_event"])
def test_large_messages(running: RunningGateway, seen: ScriptedMcp, tool: str) -> None:
    reply = call(running, tool, text="y" * 3_000_000)

    assert b"".join(REPLIES[tool][2]) == SIGNED.sub(rb"\1", reply.content)
    assert 3_000_000 == len(seen.requests[0][1]["params"]["arguments"]["text"])


def test_a_body_over_the_limit(running: RunningGateway, seen: ScriptedMcp) -> None:
    assert 502 == call(running, "over").status_code
    assert 413 == call(running, "json", text="y" * 40_000_000).status_code


def test_an_event_that_cannot_be_read_ends_the_stream(running: RunningGateway, seen: ScriptedMcp) -> None:
    (error,) = events(call(running, "broken_event"))

    assert (7, 502) == (error["id"], error["error"]["code"])


def test_an_error_of_the_server_costs_nothing(running: RunningGateway, seen: ScriptedMcp) -> None:
    running.all_settled()
    before = len(running.access_lines())
    reply = call(running, "error")
    running.all_settled()
    (line,) = running.access_lines()[before:]

    assert -32000 == reply.json()["error"]["code"]
    assert ("refused", None) == (line["outcome"], line["cost_usd"])


# --- guardrails


def test_a_rule_masks_arguments_and_results(guarded: RunningGateway, seen: ScriptedMcp) -> None:
    for tool in ("json", "lines"):
        reply = call(guarded, tool, to="eva@example.com")
        (_, message), *_ = seen.requests
        seen.requests.clear()

        assert "eva@example.com" not in json.dumps(message)
        assert tool == message["params"]["name"]
        assert "ada@example.com" not in reply.text
        assert "Ada wrote to" in reply.text


def test_the_caller_gets_its_own_value_again(guarded: RunningGateway, seen: ScriptedMcp, server: Any) -> None:
    scripted, _ = server
    reply = call(guarded, "json", to="ada@example.com")
    masked = scripted.requests[0][1]["params"]["arguments"]["to"]
    scripted.replies["plain"] = (
        200,
        JSON,
        [json.dumps({"jsonrpc": "2.0", "id": 7, "result": {"content": [{"type": "text", "text": masked}]}}).encode()],
    )
    again = call(guarded, "plain", to="ada@example.com")

    assert 200 == reply.status_code
    assert "ada@example.com" == again.json()["result"]["content"][0]["text"]


def test_a_rule_blocks_arguments(guarded: RunningGateway, seen: ScriptedMcp) -> None:
    reply = call(guarded, "json", deep={"list": ["a forbidden-word"]})
    error = reply.json()

    assert (400, 7, "guardrail_blocked") == (reply.status_code, error["id"], error["error"]["data"]["code"])
    assert [] == seen.requests


@pytest.mark.parametrize("tool", ["blocked", "blocked_event", "cut", "batch"])
def test_a_rule_blocks_what_the_server_sends(guarded: RunningGateway, seen: ScriptedMcp, tool: str) -> None:
    guarded.all_settled()
    before = len(guarded.access_lines())
    reply = call(guarded, tool)
    guarded.all_settled()
    (line,) = guarded.access_lines()[before:]

    assert "forbidden-word" not in reply.text
    assert "guardrail_blocked" in reply.text
    assert "forbidden" in {hit["rule"] for hit in line["guardrails"]}
    assert "0.1" == line["cost_usd"]


@pytest.mark.parametrize(("value", "status"), [("eva@example.com", 400), ("plain", 200), ("another", 400)])
def test_a_header_that_repeats_an_argument(guarded: RunningGateway, seen: ScriptedMcp, value: str, status: int) -> None:
    to = "eva@example.com" if value == "eva@example.com" else "plain"
    reply = call(guarded, "json", more={"mcp-param-to": value}, to=to)

    assert status == reply.status_code
    assert (status == 200) == bool(seen.requests)


# --- tokens


@pytest.fixture(scope="module")
def with_tokens(server: tuple[ScriptedMcp, str]) -> Iterator[RunningGateway]:
    keys = tokens.key_set(tokens.RSA)

    class Site(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("content-length", str(len(keys)))
            self.end_headers()
            self.wfile.write(keys)

        def log_message(self, *_: Any) -> None:
            """Says nothing."""

    issuer = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Site)
    threading.Thread(target=issuer.serve_forever, daemon=True).start()
    trusted = {
        "issuer": tokens.ISSUER,
        "jwks_url": f"http://127.0.0.1:{issuer.server_address[1]}/keys",
        "audiences": ["https://gateway.example/mcp/odd", "https://gateway.example/mcp/other"],
    }
    of_server = "{odd: {audiences: ['https://gateway.example/mcp/odd'], "
    written = (
        text(server[1])
        .replace("servers: {odd: {", f"servers: {of_server}")
        .replace(
            f'auth: {{pepper: "{gateways.PEPPER}"}}',
            f'auth: {{pepper: "{gateways.PEPPER}", jwt: [{json.dumps(trusted)}]}}',
        )
    )
    with RunningGateway(written) as gateway:
        yield gateway
    issuer.shutdown()
    issuer.server_close()


def token(**more: Any) -> str:
    return tokens.token(**{"exp": time.time() + 60, "aud": "https://gateway.example/mcp/odd", "tenant": "acme", **more})


def test_a_client_finds_the_issuers(with_tokens: RunningGateway, seen: ScriptedMcp) -> None:
    url = with_tokens.url
    refused = httpx.post(f"{url}/mcp/odd", content=b"{}", headers=JSON)
    address = refused.headers["www-authenticate"].removeprefix('Bearer resource_metadata="').removesuffix('"')
    metadata = httpx.get(address)

    assert (401, f"{url}/.well-known/oauth-protected-resource/mcp/odd") == (refused.status_code, address)
    assert 200 == metadata.status_code
    assert {
        "resource": f"{url}/mcp/odd",
        "authorization_servers": [tokens.ISSUER],
        "bearer_methods_supported": ["header"],
    } == metadata.json()
    assert [] == seen.requests


def test_a_token_for_this_server(with_tokens: RunningGateway, seen: ScriptedMcp) -> None:
    assert 200 == call(with_tokens, "json", token()).status_code
    assert "authorization" not in seen.requests[0][0]


@pytest.mark.parametrize(
    ("claims", "code"),
    [
        ({"aud": "https://other.example"}, "wrong_audience"),
        ({"aud": "https://gateway.example/mcp/other"}, "wrong_audience"),
        ({"exp": 1}, "expired_token"),
    ],
)
def test_a_token_that_is_not_for_this_server(
    with_tokens: RunningGateway, seen: ScriptedMcp, claims: dict[str, Any], code: str
) -> None:
    reply = call(with_tokens, "json", token(**claims))

    assert (401, code) == (reply.status_code, reply.json()["error"]["data"]["code"])
    assert reply.headers["www-authenticate"].startswith('Bearer error="invalid_token", resource_metadata="http')
    assert [] == seen.requests


def test_no_metadata_without_issuers(running: RunningGateway) -> None:
    assert 401 == httpx.get(f"{running.url}/.well-known/oauth-protected-resource/mcp/odd").status_code
