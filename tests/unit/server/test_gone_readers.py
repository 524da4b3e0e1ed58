"""What the admin port does when the reader of a page closes it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from starlette.types import Message, Receive, Scope, Send

from edge_extproc.server.admin import server
from edge_extproc.server.gone_readers import StopsForGoneReaders


class Application:
    """It never ends by itself."""

    def __init__(self) -> None:
        self.begun, self.ended = asyncio.Event(), asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.ended.set()


def scope_of(method: str) -> Scope:
    return {"type": "http", "method": method, "path": "/", "headers": []}


async def test_a_page_whose_connection_is_closed_is_stopped() -> None:
    """With a real server and a real connection."""
    app = Application()
    admin = server(app, "127.0.0.1", 0)
    serving = asyncio.ensure_future(admin.serve())
    await admin.until_started()
    port = admin.servers[0].sockets[0].getsockname()[1]
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /ui/money HTTP/1.1\r\nhost: localhost\r\n\r\n")
    await app.begun.wait()
    writer.close()

    await app.ended.wait()
    admin.should_exit = True
    await serving


async def test_a_change_is_not_stopped() -> None:
    app, sent = Application(), asyncio.Event()

    async def receive() -> Message:
        sent.set()
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        raise AssertionError

    running = asyncio.ensure_future(StopsForGoneReaders(app)(scope_of("POST"), receive, send))
    await app.begun.wait()

    assert not app.ended.is_set()
    running.cancel()
    await app.ended.wait()


async def test_an_application_gets_its_messages_and_ends_after_its_answer() -> None:
    """A server says that the client is gone as soon as the answer is complete."""
    steps: list[Any] = []
    complete = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        steps.append(await receive())
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"x", "more_body": False})
        steps.append(await receive())
        await asyncio.sleep(0)
        steps.append("end")

    messages: list[Message] = [{"type": "http.request", "body": b"", "more_body": False}]

    async def receive() -> Message:
        if messages:
            return messages.pop()
        await complete.wait()
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        if message["type"] == "http.response.body":
            complete.set()

    await StopsForGoneReaders(app)(scope_of("GET"), receive, send)
    assert ["http.request", "http.disconnect", "end"] == [
        each if isinstance(each, str) else each["type"] for each in steps
    ]


async def test_an_error_of_the_application_is_raised() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        raise ValueError("of the application")

    async def receive() -> Message:
        await asyncio.Event().wait()
        raise AssertionError

    async def send(message: Message) -> None:
        raise AssertionError

    with pytest.raises(ValueError, match="of the application"):
        await StopsForGoneReaders(app)(scope_of("GET"), receive, send)
