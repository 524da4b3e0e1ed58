"""What real Envoy makes of the rendered bootstrap: it takes it, and then does what the configuration says."""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
import tempfile
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx2
import pytest
from running_envoy import RunningEnvoy, envoy_binary

from edge_extproc.config.load import default, parse
from edge_extproc.config.schema import Config
from edge_extproc.config.secrets import ensure_file, generate_key
from edge_extproc.envoy_config import certificate
from edge_extproc.envoy_config.bootstrap import render
from edge_extproc.envoy_config.validate import validate
from edge_extproc.errors import ConfigError
from edge_extproc.exchange.commands import CONTINUE, Command, Continue, ImmediateResponse, Replace
from edge_extproc.exchange.events import Event, RequestBody, RequestHeaders, ResponseHeaders
from edge_extproc.exchange.handler import Closing
from edge_extproc.model.envoy_names import ANSWERED_BY, cluster_name
from edge_extproc.server.extproc import ExtProcService
from edge_extproc.server.serve import serve

pytestmark = pytest.mark.envoy

KEY = "edge-0123456789abcdef0123456789"
ENVIRON = {"PEPPER": "p" * 32, "KEY": KEY}
REST = """
auth: {pepper: "${PEPPER}"}
callers: [{tenant: dev, keys: [{id: dev, key: {env: KEY}}]}]
models: {}
"""


def configuration(text: str, directory: Path, rest: str = REST) -> Config:
    return parse(text + rest, "edge.yaml", environ=ENVIRON, base=directory)


@pytest.fixture
def short() -> Iterator[Path]:
    """A directory whose path leaves room for the names of Unix sockets."""
    with tempfile.TemporaryDirectory(prefix="edge-") as directory:
        yield Path(directory)


# --- Envoy takes what is rendered


@pytest.mark.parametrize("environ", [{}, {"OPENAI_API_KEY": "sk-1", "ANTHROPIC_API_KEY": "sk-2"}])
def test_envoy_takes_the_defaults(short: Path, environ: dict[str, str]) -> None:
    ensure_file(short / "dev-key", generate_key)
    ensure_file(short / "pepper", generate_key)

    validate(render(default(environ, short, rehearsal_port=10099)), envoy_binary())


def test_envoy_takes_a_certificate_of_our_own_and_one_of_the_users(short: Path) -> None:
    own = configuration("listen: {tls: {generate: true}}\nagent: {state_dir: .}\nproviders: {}", short)
    files = certificate.ensure(own.agent.state_dir)
    theirs = configuration(
        f"listen: {{tls: {{certificate: {files.certificate}, private_key: {files.private_key}}}}}\nproviders: {{}}",
        short,
    )

    validate(render(own), envoy_binary())
    validate(render(theirs), envoy_binary())


def test_envoy_takes_every_way_to_reach_a_provider(short: Path) -> None:
    ca = certificate.ensure(short).ca
    config = configuration(
        f"""
listen: {{address: "::1"}}
envoy: {{admin: {{port: 10009}}, access_log: {short}/access.log}}
providers:
  by-name: {{kind: openai, api_key: {{env: KEY}}}}
  negotiated: {{kind: anthropic, api_key: {{env: KEY}}, pool: {{http2: auto}}}}
  http2-only: {{kind: openai, api_key: {{env: KEY}}, pool: {{http2: true, max_connections: 7, idle: 5s}}}}
  http1-only: {{kind: openai, api_key: {{env: KEY}}, pool: {{http2: false}}}}
  private-authority: {{kind: openai, base_url: "https://llm.internal:8443/v1", tls: {{ca: {ca}, server_name: llm}}}}
  by-address: {{kind: openai, base_url: "https://10.0.0.7/v1", tls: {{ca: {ca}}}}}
  by-ipv6: {{kind: openai, base_url: "http://[::1]:8000/v1"}}
  plain-http2: {{kind: openai, base_url: "http://127.0.0.1:8000/v1", pool: {{http2: true}}}}
  plain-by-name: {{kind: openai, base_url: "http://llm:8000/v1", allow_plaintext: true}}
  groq: {{kind: openai_compatible, host: groq, api_key: {{env: KEY}}}}
""",
        short,
    )

    validate(render(config), envoy_binary())


def test_raw_fields_reach_envoy_and_a_wrong_one_is_refused_in_one_line(short: Path) -> None:
    def raw(fields: str) -> Config:
        return configuration(
            f"providers: {{p: {{kind: openai, api_key: {{env: KEY}}}}}}\nenvoy: {{raw: {fields}}}", short
        )

    validate(
        render(raw("{static_resources: {clusters: [{name: provider_p, max_requests_per_connection: 9}]}}")),
        envoy_binary(),
    )
    with pytest.raises(ConfigError, match="no such field: 'max_rqs'") as refused:
        validate(render(raw("{static_resources: {clusters: [{name: provider_p, max_rqs: 9}]}}")), envoy_binary())
    assert "\n" not in refused.value.message
    assert "/tmp" not in refused.value.message


def test_an_envoy_that_cannot_be_started_is_named() -> None:
    with pytest.raises(ConfigError, match="Envoy /no/envoy cannot be started: No such file or directory"):
        validate({}, "/no/envoy")


# --- Envoy does what was rendered


@dataclass
class Asked:
    """What one provider was sent."""

    lines: list[str] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    port: int = 0


@contextmanager
def provider(status: int) -> Iterator[Asked]:
    asked = Asked()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            asked.lines.append(self.requestline)
            asked.headers.append({name.lower(): value for name, value in self.headers.items()})
            asked.bodies.append(self.rfile.read(int(self.headers["content-length"])))
            self.send_response(status)
            self.send_header("content-length", "2")
            self.end_headers()
            self.wfile.write(b"ok")

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    asked.port = server.server_port
    try:
        yield asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


Answer = Callable[[str, Event], Command]


@dataclass
class Talk:
    role: str
    answer: Answer
    events: list[Event] = field(default_factory=list)

    async def handle(self, event: Event) -> Command:
        self.events.append(event)
        return self.answer(self.role, event)

    unfinished = None

    async def before_close(self) -> None:
        pass

    def closed(self, why: Closing) -> None:
        pass


@asynccontextmanager
async def agent(config: Config, answer: Answer) -> AsyncIterator[list[list[Talk]]]:
    """Workers on the sockets that the configuration says; gives what each of them was told."""
    stop = asyncio.Event()
    told: list[list[Talk]] = []
    tasks: set[Awaitable[None]] = set()
    ready: list[asyncio.Event] = []
    for socket in config.agent.worker_sockets():
        talks: list[Talk] = []

        def open_stream(metadata: Mapping[str, str], local: str | None, talks: list[Talk] = talks) -> Talk:
            talks.append(Talk(metadata["x-edge-role"], answer))
            return talks[-1]

        told.append(talks)
        service = ExtProcService(open_stream, lambda exc: None)
        ready.append(asyncio.Event())
        Path(socket).parent.mkdir(parents=True, exist_ok=True)
        tasks.add(
            asyncio.create_task(
                serve(f"unix:{socket}", [service], stop, 0.5, on_ready=ready[-1].set, on_stopping=service.stop)
            )
        )
    for event in ready:
        await event.wait()
    try:
        yield told
    finally:
        stop.set()
        await asyncio.gather(*tasks)


def ephemeral(config: Config) -> dict[str, Any]:
    """The bootstrap with a port of the kernel's choice."""
    bootstrap = render(config)
    bootstrap["static_resources"]["listeners"][0]["address"]["socket_address"]["port_value"] = 0
    return bootstrap


@asynccontextmanager
async def gateway(config: Config, directory: Path) -> AsyncIterator[tuple[RunningEnvoy, httpx2.AsyncClient]]:
    async with contextlib.AsyncExitStack() as stack:
        envoy = await stack.enter_async_context(RunningEnvoy(ephemeral(config), directory))
        client = httpx2.AsyncClient(base_url=f"http://127.0.0.1:{envoy.port('edge')}", timeout=30)
        yield envoy, await stack.enter_async_context(client)


def route(*providers: str) -> dict[str, dict[str, object]]:
    groups = [
        {"name": f"{n}", "clusters": [{"cluster_name": cluster_name(p), "weight": 1}]} for n, p in enumerate(providers)
    ]
    return {"edge.route": {"priority_groups": groups}, "edge": {"exchange": "x1"}}


async def access_line(envoy: RunningEnvoy) -> dict[str, Any]:
    async with asyncio.timeout(30):
        while True:
            for line in envoy.logs().splitlines():
                if line.startswith('{"'):
                    found: dict[str, Any] = json.loads(line)
                    return found
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("version", ["HTTP/1.1", "HTTP/2"])
async def test_without_its_agent_the_gateway_answers_503_in_json_over_tls(
    short: Path, tmp_path: Path, version: str
) -> None:
    config = configuration("listen: {tls: {generate: true}}\nagent: {state_dir: .}\nproviders: {}", short)
    trust = ssl.create_default_context(cafile=certificate.ensure(short).ca)

    async with RunningEnvoy(ephemeral(config), tmp_path) as envoy:
        url = f"https://localhost:{envoy.port('edge')}"
        async with httpx2.AsyncClient(verify=trust, http2=version == "HTTP/2", base_url=url, timeout=30) as http:
            reply = await http.post("/v1/chat/completions", json={"model": "m"})

    assert version == reply.http_version
    assert 503 == reply.status_code
    assert "application/json" == reply.headers["content-type"]
    assert {
        "type": "error",
        "error": {
            "message": "the gateway's policy server does not answer; try again",
            "type": "overloaded_error",
            "param": None,
            "code": "policy_unavailable",
        },
    } == reply.json()


async def test_plain_http2_is_taken_on_a_plain_listener(short: Path, tmp_path: Path) -> None:
    config = configuration("agent: {state_dir: .}\nproviders: {}", short)
    async with RunningEnvoy(ephemeral(config), tmp_path) as envoy:
        url = f"http://127.0.0.1:{envoy.port('edge')}"
        async with httpx2.AsyncClient(http1=False, http2=True, base_url=url, timeout=30) as http:
            reply = await http.post("/v1/chat/completions", json={})

    assert ("HTTP/2", 503) == (reply.http_version, reply.status_code)


async def test_internal_headers_of_a_caller_reach_nobody_and_steer_nothing(short: Path, tmp_path: Path) -> None:
    def answer(role: str, event: Event) -> Command:
        match event:
            case RequestBody():
                return Continue(set_headers=((":path", "/v1/up"),), reroute=True, metadata=route("p"))
            case _:
                return CONTINUE

    sent = {
        "x-envoy-max-retries": "9",
        "X-Envoy-Retry-On": "retriable-4xx",
        "x-envoy-upstream-rq-timeout-ms": "1",
        "x-envoy-attempt-count": "7",
        "x-envoy-external-address": "10.9.9.9",
        "x-edge-exchange": "forged",
        "x-forwarded-for": "1.2.3.4",
        "x-request-id": "chosen by the caller, and with it a worker",
        "x-kept": "yes",
    }
    with provider(418) as asked:
        config = configuration(
            f"agent: {{state_dir: ., workers: 1}}\n"
            f"providers: {{p: {{kind: openai, base_url: 'http://127.0.0.1:{asked.port}/v1'}}}}",
            short,
        )
        async with agent(config, answer) as told, gateway(config, tmp_path) as (_, http):
            reply = await http.post("/v1/chat/completions?key=secret", json={"model": "m"}, headers=sent)

    ((talk,),) = told
    heard = next(event for event in talk.events if isinstance(event, RequestHeaders))
    names = {name for name, _ in heard.headers}
    assert 418 == reply.status_code
    assert "x-kept" in names
    assert ("x-request-id", sent["x-request-id"]) not in heard.headers
    # Envoy's own, and true.
    assert ("x-envoy-external-address", "127.0.0.1") in heard.headers
    # The caller's own id, put aside by Envoy: it goes back to the caller and chooses no worker.
    assert ("x-edge-request-id", sent["x-request-id"]) in heard.headers
    own = {name for name in names if name.startswith(("x-edge-", "x-envoy-"))}
    assert {"x-envoy-external-address", "x-edge-request-id"} == own
    (headers,) = asked.headers
    assert "yes" == headers["x-kept"]
    assert f"127.0.0.1:{asked.port}" == headers["host"]
    assert not {name for name in headers if name.startswith(("x-edge-", "x-envoy-", "x-forwarded-"))}
    assert not {name for name in reply.headers if name.startswith(("x-edge-", "x-envoy-"))}
    assert "edge" == reply.headers["server"]


async def test_a_retry_goes_to_the_next_provider_through_the_worker_that_knows_it(short: Path, tmp_path: Path) -> None:
    def answer(role: str, event: Event) -> Command:
        match role, event:
            case "router", RequestBody():
                credential = (":path", "/v1/first"), ("authorization", "Bearer first"), ("content-length", "5")
                return Continue(set_headers=credential, body=b"first", reroute=True, metadata=route("a", "b"))
            case "upstream", RequestHeaders():
                return Replace(
                    ((":path", "/v1/second"), ("x-api-key", "second")),
                    ("authorization", "content-length"),
                    b"the second",
                    {"edge": {"content_length": "10"}},
                )
            case _:
                return CONTINUE

    with provider(503) as first, provider(200) as second:
        config = configuration(
            f"""
agent: {{state_dir: ., workers: 2}}
retries: {{attempts: 2, back_off: {{base: 1ms, max: 2ms}}}}
providers:
  a: {{kind: openai, base_url: "http://127.0.0.1:{first.port}/v1"}}
  b: {{kind: openai, base_url: "http://127.0.0.1:{second.port}/v1"}}
""",
            short,
        )
        async with agent(config, answer) as told, gateway(config, tmp_path) as (envoy, http):
            replies = [await http.post(f"/v1/chat/completions?key={KEY}", json={"model": "m"}) for _ in range(8)]
            logged = await access_line(envoy)

    assert [200] * 8 == [reply.status_code for reply in replies]
    # One gRPC stream for the first try, one more for the second, in the same worker.
    for talks in told:
        assert ["router", "upstream"] * (len(talks) // 2) == [talk.role for talk in talks]
    assert 16 == sum(len(talks) for talks in told)
    assert ["POST /v1/first HTTP/1.1"] * 8 == first.lines
    assert ["POST /v1/second HTTP/1.1"] * 8 == second.lines
    assert [b"the second"] * 8 == second.bodies
    for headers in second.headers:
        assert ("10", "second", f"127.0.0.1:{second.port}") == (
            headers["content-length"],
            headers["x-api-key"],
            headers["host"],
        )
        assert "authorization" not in headers
        assert not {name for name in headers if name.startswith(("x-edge-", "x-envoy-", "x-forwarded-"))}
    answered = next(e for talks in told for talk in talks for e in talk.events if isinstance(e, ResponseHeaders))
    assert {
        ANSWERED_BY: "b",
        "upstream.request_attempt_count": 2,
        "response.code_details": "via_upstream",
    } == dict(answered.attributes)
    assert {
        "method": "POST",
        "status": 200,
        "cluster": "provider_b",
        "attempts": 2,
        "details": "via_upstream",
    }.items() <= logged.items()
    assert "x1" == logged["edge"]["exchange"]
    assert KEY not in json.dumps(logged)


async def test_what_the_agent_did_not_route_goes_nowhere(short: Path, tmp_path: Path) -> None:
    with provider(200) as asked:
        config = configuration(
            f"agent: {{state_dir: ., workers: 1}}\n"
            f"providers: {{p: {{kind: openai, base_url: 'http://127.0.0.1:{asked.port}/v1'}}}}",
            short,
        )
        async with agent(config, lambda role, event: CONTINUE), gateway(config, tmp_path) as (_, http):
            reply = await http.post("/v1/chat/completions", json={})

    assert 503 == reply.status_code
    assert [] == asked.lines


async def test_the_agents_own_replies_are_not_rewritten_and_envoys_are(short: Path, tmp_path: Path) -> None:
    def answer(role: str, event: Event) -> Command:
        match event:
            case RequestHeaders(headers=headers) if ("x-refuse", "1") in headers:
                return ImmediateResponse(401, (("content-type", "application/json"),), b'{"ours":true}', "edge_refused")
            case _:
                return CONTINUE

    config = configuration("agent: {state_dir: ., workers: 1}\nproviders: {}", short)
    async with agent(config, answer), gateway(config, tmp_path) as (_, http):
        refused = await http.post("/v1/chat/completions", json={}, headers={"x-refuse": "1"})
        too_large = await http.post("/v1/chat/completions", content=b"x" * (33 << 20))

    assert (401, {"ours": True}) == (refused.status_code, refused.json())
    assert (413, "request_too_large") == (too_large.status_code, too_large.json()["error"]["code"])
    assert "the request body is over the limit of 32MiB (limits.request_body)" == too_large.json()["error"]["message"]
