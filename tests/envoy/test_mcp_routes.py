"""Routes and clusters of MCP servers: they change while the gateway runs, and exist for older Envoys."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import gateway as gateways
import httpx2 as httpx
import pytest
from gateway import KEY, RunningGateway, until
from mcp_server import ScriptedMcp, serve
from otlp import Collector

pytestmark = pytest.mark.envoy

MORE = "retries: {attempts: 3}\n"


def text(servers: dict[str, tuple[str, str]], more: str = "") -> str:
    """`servers`: the address and the token of each."""
    written = gateways.config(
        "http://127.0.0.1:9", more=more, models='"two*": [{provider: openai}, {provider: anthropic}]'
    )
    rows = "".join(
        f"    {name}: {{base_url: '{url}/mcp', api_key: {token}, prices: {{}}}}\n"
        for name, (url, token) in servers.items()
    )
    grants = "{tenant: acme, mcp: {'*': {tools: ['*']}}," if servers else "{tenant: acme,"
    return written.replace("{tenant: acme,", grants) + (f"mcp:\n  servers:\n{rows}" if rows else "")


@contextmanager
def scripted() -> Iterator[tuple[ScriptedMcp, str]]:
    server = ScriptedMcp({})
    with serve(server) as url:
        yield server, url


def call(gateway: RunningGateway, server: str, **more: str) -> int:
    message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "any"}}
    headers = {"content-type": "application/json", "authorization": f"Bearer {KEY}", **more}
    sent = httpx.post(f"{gateway.url}/mcp/{server}", content=json.dumps(message), headers=headers, timeout=30)
    return int(sent.status_code)


def tokens(server: ScriptedMcp) -> set[str]:
    return {headers["authorization"] for headers, _ in server.requests}


def reload(gateway: RunningGateway, written: str) -> None:
    fresh = gateway.path.with_suffix(".fresh")
    fresh.write_text(written)
    fresh.replace(gateway.path)
    before = last_reload(gateway)
    assert gateway.process is not None
    gateway.process.send_signal(signal.SIGHUP)
    until(lambda: last_reload(gateway) != before)
    found = last_reload(gateway)
    assert "applied" == found["outcome"], found


def last_reload(gateway: RunningGateway) -> Any:
    return httpx.get(f"{gateway.admin}/config").json()["last_reload"]


def test_a_server_comes_moves_and_goes_while_the_gateway_runs() -> None:
    with scripted() as (first, first_url), scripted() as (second, second_url):
        first_text = text({"moving": (first_url, "token-of-first")})
        with RunningGateway(text({})) as gateway:
            ports = gateway.path.read_text()
            assert 404 == call(gateway, "moving")
            reload(gateway, with_ports(first_text, ports))
            until(lambda: call(gateway, "moving") == 200)
            reload(gateway, with_ports(text({"moving": (second_url, "token-of-second")}), ports))
            until(lambda: call(gateway, "moving") == 200 and bool(second.requests))
            reload(gateway, with_ports(text({}), ports))
            until(lambda: call(gateway, "moving") == 404)

    assert {"Bearer token-of-first"} == tokens(first)
    assert {"Bearer token-of-second"} == tokens(second)


def with_ports(written: str, other: str) -> str:
    """The configuration with the ports of another one."""
    ours = [line for line in written.splitlines() if not line.startswith(("listen:", "admin:"))]
    theirs = [line for line in other.splitlines() if line.startswith(("listen:", "admin:"))]
    return "\n".join((*theirs, *ours)) + "\n"


def test_caller_gateway_and_server_are_one_trace() -> None:
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    with Collector() as collector, scripted() as (server, url):
        more = f"""
        telemetry:
          otlp: {{endpoint: "{collector.grpc}", service: edge-test, environment: lab}}
        """
        with RunningGateway(text({"odd": (url, "token")}, more)) as gateway:
            assert 200 == call(gateway, "odd", traceparent=f"00-{trace}-00f067aa0ba902b7-01")
            collector.until(lambda span: span.service == "edge-test", 1)
            (span,) = [span for span in collector.spans() if span.service == "edge-test"]

    assert (trace, "mcp odd/any") == (span.trace_id, span.name)
    assert f"00-{trace}-{span.span_id}-01" == server.requests[0][0]["traceparent"]


def test_ext_authz_leaves_mcp_to_the_exchange() -> None:
    with scripted() as (server, url):
        written = text({"odd": (url, "token")}).replace("auth: {", "auth: {trust_ext_authz: true, ")
        with RunningGateway(written) as gateway:
            assert 200 == call(gateway, "odd")
            assert 401 == call(gateway, "odd", authorization="Bearer wrong")

    assert 1 == len(server.requests)


@pytest.mark.parametrize("version", ["1.36", "1.37", "1.39"])
def test_older_envoys(version: str) -> None:
    with (
        scripted() as (server, url),
        RunningGateway(text({"odd": (url, "token")}, MORE + f'envoy: {{version: "{version}"}}\n')) as gateway,
    ):
        assert 200 == call(gateway, "odd")
        assert {"Bearer token"} == tokens(server)
