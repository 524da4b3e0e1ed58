"""A scripted HTTP server: it stores each request, and sends the bytes or the JSON that the test gives."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeAlias


@dataclass
class Received:
    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


Script: TypeAlias = Callable[[Received], Any]
"""The answer to a request: an object for JSON, bytes for a complete response, or an Event to wait for before the
connection is closed."""


@dataclass
class ScriptedService:
    url: str
    script: Script
    requests: list[Received] = field(default_factory=list)


def response(status: int, body: bytes, *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status} Reason", f"content-length: {len(body)}", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


def answer_json(value: Any, status: int = 200) -> bytes:
    return response(status, json.dumps(value).encode(), "content-type: application/json")


@asynccontextmanager
async def scripted_service(script: Script) -> AsyncIterator[ScriptedService]:
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            while True:
                try:
                    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                except (asyncio.IncompleteReadError, ConnectionResetError):
                    return
                first, *lines = head.strip().split("\r\n")
                method, path, _ = first.split(" ")
                headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
                body = await reader.readexactly(int(headers.get("content-length", "0")))
                request = Received(method, path, headers, body)
                service.requests.append(request)
                answer = service.script(request)
                if isinstance(answer, asyncio.Event):
                    await answer.wait()
                    return
                writer.write(answer if isinstance(answer, bytes) else answer_json(answer))
                await writer.drain()
        except (ConnectionResetError, BrokenPipeError):
            return
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    service = ScriptedService(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", script)
    try:
        yield service
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
