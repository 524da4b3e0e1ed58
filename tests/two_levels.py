"""Real Envoy in its two-level topology, between plain HTTP/1.1 providers and our server with a scripted handler."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import httpx2
from running_envoy import RunningEnvoy

from edge_extproc.exchange.commands import CONTINUE, Command
from edge_extproc.exchange.events import (
    Event,
)
from edge_extproc.exchange.handler import Closing
from edge_extproc.server.extproc import ExtProcService
from edge_extproc.server.serve import serve

PATIENCE = 30
JSON = ("content-type", "application/json")
SSE = ("content-type", "text/event-stream")


# --- providers: plain HTTP/1.1 servers with a scripted behaviour


@dataclass(frozen=True)
class Seen:
    """A request as a provider saw it."""

    line: str
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def header(self, name: str) -> str | None:
        return dict(self.headers).get(name)


Behaviour: TypeAlias = Callable[[Seen, asyncio.StreamWriter], Awaitable[None]]


def answer(status: int, body: bytes = b"", *headers: tuple[str, str], reason: str = "x") -> Behaviour:
    async def behave(seen: Seen, writer: asyncio.StreamWriter) -> None:
        lines = [f"HTTP/1.1 {status} {reason}", f"content-length: {len(body)}", *(f"{k}: {v}" for k, v in headers)]
        writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + body)

    return behave


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


SSE_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


def streams(*chunks: bytes) -> Behaviour:
    """An SSE reply in chunks, with a pause after each, as from a model."""

    async def behave(seen: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(SSE_HEAD)
        for data in chunks:
            writer.write(chunk(data))
            await writer.drain()
            await asyncio.sleep(0.02)
        writer.write(b"0\r\n\r\n")

    return behave


def breaks_off(begin: bytes, reached_caller: asyncio.Event) -> Behaviour:
    """The beginning of a reply. When it has reached the caller, the connection is reset."""

    async def behave(seen: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(begin)
        await reached_caller.wait()
        writer.transport.abort()

    return behave


async def never(seen: Seen, writer: asyncio.StreamWriter) -> None:
    await asyncio.Event().wait()


class Provider:
    def __init__(self, behave: Behaviour) -> None:
        self.behave = behave
        self.seen: list[Seen] = []
        self._open: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[int]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        try:
            yield server.sockets[0].getsockname()[1]
        finally:
            server.close()
            for task in self._open:
                task.cancel()
            if self._open:
                await asyncio.wait(self._open)

    @contextmanager
    def in_thread(self, release: threading.Event) -> Iterator[int]:
        """Listens in a thread of its own, so that the tested code may block this one. At the end `release` is set, so
        that no reply waits for it."""
        ports: queue.SimpleQueue[int] = queue.SimpleQueue()
        stop, loop = asyncio.Event(), asyncio.new_event_loop()

        async def serve() -> None:
            async with self.listening() as port:
                ports.put(port)
                await stop.wait()

        thread = threading.Thread(target=lambda: loop.run_until_complete(serve()), name="provider")
        thread.start()
        try:
            yield ports.get(timeout=PATIENCE)
        finally:
            release.set()
            loop.call_soon_threadsafe(stop.set)
            thread.join(10)
            with contextlib.suppress(RuntimeError):
                loop.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        task.add_done_callback(self._open.discard)
        ends = (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError)
        with contextlib.suppress(*ends), contextlib.closing(writer):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
                headers = tuple(
                    (name.lower(), value.strip()) for name, _, value in (line.partition(":") for line in head[1:-2])
                )
                body = await self._body(reader, dict(headers))
                self.seen.append(Seen(head[0], headers, body))
                await self.behave(self.seen[-1], writer)
                await writer.drain()

    async def _body(self, reader: asyncio.StreamReader, headers: Mapping[str, str]) -> bytes:
        if headers.get("transfer-encoding") != "chunked":
            return await reader.readexactly(int(headers.get("content-length", "0")))
        body = b""
        while size := int(await reader.readline(), 16):
            body += await reader.readexactly(size)
            await reader.readexactly(2)
        await reader.readexactly(2)
        return body


# --- the agent: our real server with a scripted handler


@dataclass
class Talk:
    """One stream of Envoy."""

    role: str
    play: Play
    events: list[Event] = field(default_factory=list)
    closing: Closing | None = None
    over: asyncio.Event = field(default_factory=asyncio.Event)

    async def handle(self, event: Event) -> Command:
        self.events.append(event)
        return await self.play(self, event)

    unfinished = None

    async def before_close(self) -> None:
        pass

    def closed(self, why: Closing) -> None:
        self.closing = why
        self.over.set()

    def only(self, kind: type[Any]) -> Any:
        (match,) = [event for event in self.events if isinstance(event, kind)]
        return match

    def all(self, kind: type[Any]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]


Play: TypeAlias = Callable[[Talk, Event], Awaitable[Command]]


def on(table: Mapping[type[Event], Command | Callable[[Any], Command]], upstream: Command = CONTINUE) -> Play:
    """Answers by the event's type at the router level, and one command at the upstream level."""

    async def play(talk: Talk, event: Event) -> Command:
        if talk.role == "upstream":
            return upstream
        match = table.get(type(event), CONTINUE)
        return match(event) if callable(match) else match

    return play


# --- Envoy


def cluster(name: str, *ports: int) -> dict[str, Any]:
    return {
        "name": name,
        "type": "STATIC",
        "connect_timeout": "1s",
        "circuit_breakers": {
            "thresholds": [{"retry_budget": {"budget_percent": {"value": 100}, "min_retry_concurrency": 1000}}]
        },
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [
                {
                    "lb_endpoints": [
                        {
                            "endpoint": {
                                "hostname": f"{name}.example",
                                "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
                            }
                        }
                        for port in ports
                    ]
                }
            ],
        },
    }


def ext_proc(role: str, mode: Mapping[str, str], **more: Any) -> dict[str, Any]:
    return {
        "name": "envoy.filters.http.ext_proc",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.ext_proc.v3.ExternalProcessor",
            "grpc_service": {
                "envoy_grpc": {"cluster_name": "agent"},
                "initial_metadata": [{"key": "x-edge-role", "value": role}],
            },
            "processing_mode": dict(mode),
            "message_timeout": "5s",
            "status_on_error": {"code": "ServiceUnavailable"},
            "metadata_options": {
                "receiving_namespaces": {"untyped": ["edge", "edge.route"]},
                "forwarding_namespaces": {"untyped": ["edge"]},
            },
            **more,
        },
    }


SKIP_FIRST_ATTEMPT = {
    "matcher_list": {
        "matchers": [
            {
                "predicate": {
                    "single_predicate": {
                        "input": {
                            "name": "attempt",
                            "typed_config": {
                                "@type": "type.googleapis.com/envoy.type.matcher.v3.HttpRequestHeaderMatchInput",
                                "header_name": "x-envoy-attempt-count",
                            },
                        },
                        "value_match": {"exact": "1"},
                    }
                },
                "on_match": {
                    "action": {
                        "name": "skip",
                        "typed_config": {
                            "@type": "type.googleapis.com/envoy.extensions.filters.common.matcher.action.v3.SkipFilter"
                        },
                    }
                },
            }
        ]
    }
}


def bootstrap(agent: Path, providers: Mapping[str, int | None], body_limit: int, response_body: str) -> dict[str, Any]:
    """The two-level topology. A provider without a port has no endpoint."""
    router_level = ext_proc(
        "router",
        {
            "request_header_mode": "SEND",
            "request_body_mode": "BUFFERED",
            "response_header_mode": "SEND",
            "response_body_mode": response_body,
        },
        allow_mode_override=True,
        request_attributes=["request.id"],
        response_attributes=[
            "xds.cluster_name",
            "upstream.request_attempt_count",
            "response.code",
            "response.code_details",
        ],
    )
    upstream_level = ext_proc(
        "upstream",
        {"request_header_mode": "SEND", "response_header_mode": "SKIP"},
        mutation_rules={"allow_all_routing": True},
        request_attributes=["xds.cluster_name", "upstream.request_attempt_count"],
    )
    return {
        "static_resources": {
            "listeners": [
                {
                    "name": "edge",
                    "address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}},
                    "per_connection_buffer_limit_bytes": body_limit,
                    "filter_chains": [
                        {
                            "filters": [
                                {
                                    "name": "envoy.filters.network.http_connection_manager",
                                    "typed_config": {
                                        "@type": "type.googleapis.com/envoy.extensions.filters.network."
                                        "http_connection_manager.v3.HttpConnectionManager",
                                        "stat_prefix": "edge",
                                        "use_remote_address": True,
                                        "access_log": [
                                            {
                                                "name": "envoy.access_loggers.stdout",
                                                "typed_config": {
                                                    "@type": "type.googleapis.com/envoy.extensions.access_loggers."
                                                    "stream.v3.StdoutAccessLog",
                                                    "log_format": {
                                                        "text_format_source": {
                                                            "inline_string": "ACCESS %RESPONSE_CODE% "
                                                            "%RESPONSE_CODE_DETAILS% %RESPONSE_FLAGS%\n"
                                                        }
                                                    },
                                                },
                                            }
                                        ],
                                        "route_config": route_config(list(providers)),
                                        "http_filters": [router_level, router(upstream_level)],
                                    },
                                }
                            ]
                        }
                    ],
                }
            ],
            "clusters": [
                {
                    "name": "agent",
                    "type": "STATIC",
                    "connect_timeout": "1s",
                    "per_connection_buffer_limit_bytes": 33554432,
                    "typed_extension_protocol_options": {
                        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                            "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                            "explicit_http_config": {"http2_protocol_options": {}},
                        }
                    },
                    "load_assignment": {
                        "cluster_name": "agent",
                        "endpoints": [{"lb_endpoints": [{"endpoint": {"address": {"pipe": {"path": str(agent)}}}}]}],
                    },
                },
                *(cluster(name, *([] if port is None else [port])) for name, port in providers.items()),
            ],
        }
    }


def route_config(providers: list[str]) -> dict[str, Any]:
    return {
        "name": "edge",
        "virtual_hosts": [
            {
                "name": "llm",
                "domains": ["*"],
                "routes": [
                    {
                        "match": {"prefix": "/v1/"},
                        "route": {
                            "timeout": "0s",
                            "auto_host_rewrite": True,
                            "inline_cluster_specifier_plugin": {
                                "extension": {
                                    "name": "envoy.router.cluster_specifier_plugin.priority_group",
                                    "typed_config": {
                                        "@type": "type.googleapis.com/envoy.extensions.router.cluster_specifiers."
                                        "priority_group.v3.PriorityGroupClusterSpecifier",
                                        "override_metadata_namespace": "edge.route",
                                        "priority_groups": [
                                            {"name": name, "clusters": [{"cluster_name": name, "weight": 1}]}
                                            for name in providers
                                        ],
                                    },
                                }
                            },
                            "retry_policy": {
                                "retry_on": "5xx,reset,connect-failure,refused-stream,retriable-status-codes",
                                "retriable_status_codes": [429, 529],
                                "num_retries": len(providers) - 1,
                                "per_try_timeout": "1s",
                                "retry_back_off": {"base_interval": "0.001s", "max_interval": "0.002s"},
                                "refresh_cluster_on_retry": True,
                            },
                        },
                    }
                ],
                "include_request_attempt_count": True,
            }
        ],
    }


def router(upstream_level: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": "envoy.filters.http.router",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router",
            "suppress_envoy_headers": True,
            "upstream_http_filters": [
                {
                    "name": "edge.upstream",
                    "typed_config": {
                        "@type": "type.googleapis.com/envoy.extensions.common.matching.v3.ExtensionWithMatcher",
                        "xds_matcher": SKIP_FIRST_ATTEMPT,
                        "extension_config": upstream_level,
                    },
                },
                {
                    "name": "envoy.filters.http.header_mutation",
                    "typed_config": {
                        "@type": "type.googleapis.com/envoy.extensions.filters.http.header_mutation.v3.HeaderMutation",
                        "mutations": {
                            "request_mutations": [
                                {
                                    "append": {
                                        "append_action": "ADD_IF_ABSENT",
                                        "header": {
                                            "key": "content-length",
                                            "value": "%DYNAMIC_METADATA(edge:content_length)%",
                                        },
                                    }
                                },
                                {"remove": "x-envoy-attempt-count"},
                            ]
                        },
                    },
                },
                {
                    "name": "envoy.filters.http.upstream_codec",
                    "typed_config": {
                        "@type": "type.googleapis.com/envoy.extensions.filters.http.upstream_codec.v3.UpstreamCodec"
                    },
                },
            ],
        },
    }


# --- all together


@dataclass
class Stage:
    envoy: RunningEnvoy
    http: httpx2.AsyncClient
    providers: dict[str, Provider]
    talks: list[Talk]
    errors: list[BaseException]

    def talk(self, role: str = "router") -> Talk:
        (match,) = [talk for talk in self.talks if talk.role == role]
        return match

    async def post(self, body: bytes = b'{"model":"m"}', **headers: str) -> httpx2.Response:
        return await self.http.post("/v1/chat", content=body, headers={"content-type": "application/json", **headers})

    async def access(self) -> str:
        """The access log's line of the only request, when it is there."""
        async with asyncio.timeout(PATIENCE):
            while True:
                match = [line for line in self.envoy.logs().splitlines() if line.startswith("ACCESS ")]
                if match:
                    return match[0].removeprefix("ACCESS ")
                await asyncio.sleep(0.02)


@asynccontextmanager
async def staged(
    directory: Path,
    play: Play,
    *,
    body_limit: int = 33554432,
    response_body: str = "BUFFERED",
    **behaviours: Behaviour | int | None,
) -> AsyncIterator[Stage]:
    """Envoy between a client and providers (name=behaviour; a number is a dead port, None no endpoint at all)."""
    stop, ready = asyncio.Event(), asyncio.Event()
    talks: list[Talk] = []
    errors: list[BaseException] = []

    def open_stream(metadata: Mapping[str, str], local: str | None) -> Talk:
        talks.append(Talk(metadata["x-edge-role"], play))
        return talks[-1]

    service = ExtProcService(open_stream, errors.append)
    async with contextlib.AsyncExitStack() as stack:
        providers: dict[str, Provider] = {}
        ports: dict[str, int | None] = {}
        for name, behave in (behaviours or {"prov_a": answer(200, b'{"ok":true}', JSON)}).items():
            if behave is None or isinstance(behave, int):
                ports[name] = behave
                continue
            providers[name] = Provider(behave)
            ports[name] = await stack.enter_async_context(providers[name].listening())
        agent = directory / "agent.sock"
        serving = asyncio.create_task(
            serve(f"unix:{agent}", [service], stop, 0.5, on_ready=ready.set, on_stopping=service.stop)
        )
        stack.push_async_callback(lambda: asyncio.wait({serving}))
        stack.callback(stop.set)
        await ready.wait()
        envoy = RunningEnvoy(bootstrap(agent, ports, body_limit, response_body), directory)
        await stack.enter_async_context(envoy)
        http = httpx2.AsyncClient(base_url=f"http://127.0.0.1:{envoy.port('edge')}", timeout=PATIENCE)
        await stack.enter_async_context(http)
        yield Stage(envoy, http, providers, talks, errors)
