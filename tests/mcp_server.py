"""A server of the official MCP SDK for tests of the gateway: tools, prompts and resources, in sessions or without."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from mcp.server.mcpserver import Context, MCPServer
from mcp.server.streamable_http import EventCallback, EventMessage, EventStore
from ports import free_port
from starlette.types import ASGIApp, Receive, Scope, Send

TOKEN = "token-of-the-gateway"


@dataclass
class SeenRequests:
    """The requests that reached the server: the method, and the headers."""

    requests: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    calls: list[tuple[str, Any]] = field(default_factory=list)
    """The tools that ran, with an argument."""


def build_server(seen: SeenRequests) -> MCPServer:
    server = MCPServer("tests", log_level="ERROR")

    @server.tool()
    def add(a: int, b: int) -> int:
        """Adds two numbers."""
        seen.calls.append(("add", (a, b)))
        return a + b

    @server.tool()
    def echo(text: str) -> str:
        """Says the text."""
        seen.calls.append(("echo", text))
        return text

    @server.tool()
    def secret() -> str:
        """A tool that callers may not use."""
        seen.calls.append(("secret", None))
        return "the secret"

    @server.tool()
    def fail() -> str:
        """Fails."""
        seen.calls.append(("fail", None))
        raise ValueError("it failed")

    @server.tool()
    async def count(to: int, ctx: Context) -> str:
        """Reports its progress."""
        seen.calls.append(("count", to))
        for n in range(to):
            await ctx.report_progress(n + 1, to)
        return f"counted to {to}"

    @server.tool()
    async def hang() -> str:
        """Does not end."""
        seen.calls.append(("hang", None))
        await asyncio.sleep(600)
        return "never"

    @server.resource("notes://public/one")
    def public() -> str:
        return "a public note"

    @server.resource("notes://private/one")
    def private() -> str:
        return "a private note"

    @server.prompt()
    def greet(name: str) -> str:
        return f"Greet {name}"

    @server.prompt()
    def hidden() -> str:
        return "hidden"

    return server


class StoredEvents(EventStore):
    """The events of all streams of one server, in memory."""

    def __init__(self) -> None:
        self._events: list[tuple[str, Any]] = []

    async def store_event(self, stream_id: str, message: Any) -> str:
        self._events.append((stream_id, message))
        return str(len(self._events) - 1)

    async def replay_events_after(self, last_event_id: str, send_callback: EventCallback) -> str | None:
        last = int(last_event_id)
        stream = self._events[last][0]
        for n, (stream_id, message) in enumerate(self._events[last + 1 :], last + 1):
            if stream_id == stream and message is not None:
                await send_callback(EventMessage(message, str(n)))
        return stream


class _Watched:
    def __init__(self, app: ASGIApp, seen: SeenRequests) -> None:
        self._app = app
        self._seen = seen

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            headers = {name.decode(): value.decode() for name, value in scope["headers"]}
            self._seen.requests.append((scope["method"], headers))
        await self._app(scope, receive, send)


@contextmanager
def serve(app: ASGIApp) -> Iterator[str]:
    """The address of a server with this app."""
    port = free_port()
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=port, log_level="error", lifespan="on"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        threading.Event().wait(0.02)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        server.force_exit = True
        thread.join(20)


@contextmanager
def mcp_server(*, json_response: bool = False) -> Iterator[tuple[SeenRequests, str]]:
    """What it has seen, and the URL of its endpoint."""
    seen = SeenRequests()
    app = build_server(seen).streamable_http_app(json_response=json_response, event_store=StoredEvents())
    with serve(_Watched(app, seen)) as url:
        yield seen, f"{url}/mcp"


Reply = tuple[int, dict[str, str], list[bytes]]
"""The status, the headers, and the parts of the body."""


class ScriptedMcp:
    """A server that answers each call of a tool with the reply of this name. Other messages get an empty result."""

    def __init__(self, replies: dict[str, Reply]) -> None:
        self.replies = replies
        self.requests: list[tuple[dict[str, str], Any]] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            while True:
                kind = (await receive())["type"].removeprefix("lifespan.")
                await send({"type": f"lifespan.{kind}.complete"})
                if kind == "shutdown":
                    return
        body = b""
        more = True
        while more:
            part = await receive()
            body, more = body + part.get("body", b""), part.get("more_body", False)
        message = json.loads(body) if body else {}
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        self.requests.append((headers, message))
        empty = json.dumps({"jsonrpc": "2.0", "id": message.get("id"), "result": {}}).encode()
        tool = (message.get("params") or {}).get("name", "")
        status, kept, parts = self.replies.get(tool, (200, {"content-type": "application/json"}, [empty]))
        encoded = [(name.encode(), value.encode()) for name, value in kept.items()]
        await send({"type": "http.response.start", "status": status, "headers": encoded})
        for part_of_body in parts:
            await send({"type": "http.response.body", "body": part_of_body, "more_body": True})
            await asyncio.sleep(0.02)
        await send({"type": "http.response.body", "body": b""})
