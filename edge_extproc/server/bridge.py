"""Sessions of OpenAI's Responses API over WebSockets, for providers that have none.

Envoy sends a session here once the agent has permitted its upgrade (exchange/sockets/). Each response.create becomes a
streamed POST /v1/responses through Envoy's own listener, with the headers of the upgrade, so that all checks, limits
and routes are those of any request. The events of the response go back as messages.

    the caller's messages → response.create waits for the responses before it; response.cancel ends the current one
    a response            → one request; its events are sent as they come, and the next one waits until they are written
    the caller leaves     → the request is ended
    the worker stops      → the current response ends, then the session, with code 1001
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import Protocol, TypeAlias

from wsproto import ConnectionType, WSConnection
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Event,
    Ping,
    RejectConnection,
    Request,
    TextMessage,
)
from wsproto.frame_protocol import CloseReason
from wsproto.utilities import LocalProtocolError, ProtocolError

from ..codecs.json_values import object_in
from ..codecs.sse import SseDecoder
from ..dialects.openai_responses import socket_events
from ..errors import StartError, UpstreamError
from ..model.content import Json
from ..telemetry import logs
from .bridge_requests import (
    History,
    Refused,
    SessionRequest,
    broken,
    cancelled,
    is_create,
    is_end,
    read_event,
    refusal,
    request_headers,
    warmup,
)

Headers: TypeAlias = list[tuple[bytes, bytes]]

_OK = 200
_UNAUTHENTICATED = 401
_PORTION = 65536
_CLOSING_SECONDS, _LINGER_SECONDS = 5.0, 0.1
"""How long the other side may take to end what has ended here, and how long a connection stays open for Envoy."""
_LONGEST_ERROR = 1 << 20
_MOST_WAITING = 4
"""The responses that a caller may ask for while one is in progress."""
_DONE = b"[DONE]"
_ITEM_DONE = "response.output_item.done"


class GatewayUnreachable(Exception):
    """The gateway's own listener does not answer, or has closed the connection."""


class StreamedReply(Protocol):
    """The response of the gateway."""

    @property
    def status(self) -> int: ...

    def chunks(self) -> AsyncIterator[bytes]:
        """Raises GatewayUnreachable."""
        ...


Ask: TypeAlias = Callable[[Headers, bytes], AbstractAsyncContextManager[StreamedReply]]
"""Sends POST /v1/responses. Raises GatewayUnreachable."""


class ResponsesBridge:
    """The WebSocket server of one worker."""

    def __init__(self, ask: Ask, largest: Callable[[], int]) -> None:
        """`largest`: the most bytes of a message, and of what a session remembers."""
        self._ask = ask
        self._largest = largest
        self._server: asyncio.Server | None = None
        self._sessions: dict[asyncio.Task[None], ServedSession] = {}

    async def start(self, path: str, *, group: bool = False) -> None:
        """Listens at the Unix socket. A process that can write to it can act as Envoy, so it is not open to others.
        Raises StartError."""
        # asyncio removes the file of a worker that was killed.
        before = os.umask(0o117 if group else 0o177)
        try:
            self._server = await asyncio.start_unix_server(self._serve, path)
        except OSError as error:
            raise StartError(f"cannot listen at {path}: {error.strerror}") from error
        finally:
            os.umask(before)

    def stop(self) -> None:
        """No session begins, and each ends after its current response."""
        if self._server is not None:
            self._server.close()
        for session in self._sessions.values():
            session.stop()

    async def drained(self) -> None:
        """Returns once no session is open."""
        while self._sessions:
            await asyncio.wait(self._sessions)

    async def close(self) -> None:
        """Ends what is open."""
        self.stop()
        for task in self._sessions:
            task.cancel()
        await asyncio.gather(*self._sessions, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        session = ServedSession(reader, writer, self._ask, self._largest())
        if task is not None:
            self._sessions[task] = session
        try:
            await session.run()
        except (OSError, asyncio.CancelledError):
            pass  # the connection has ended, or the worker ends: nobody waits for this task
        except Exception as bug:  # noqa: BLE001 - nobody waits for this task
            logs.report(bug)
        finally:
            if task is not None:
                self._sessions.pop(task, None)
            writer.close()


class ServedSession:
    """One session, from its upgrade to its end."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, ask: Ask, largest: int) -> None:
        self._reader = reader
        self._writer = writer
        self._ask = ask
        self._largest = largest
        self._protocol = WSConnection(ConnectionType.SERVER)
        self._headers: Headers = []
        self._id = secrets.token_hex(16)
        self._count = 0
        self._history = History(largest)
        self._waiting: deque[dict[str, Json]] = deque()
        """The response.create events that wait for an earlier response."""
        self._more = asyncio.Event()
        self._current: asyncio.Task[None] | None = None
        self._begun: dict[str, Json] | None = None
        """The current response, as its first event has it."""
        self._text: list[str] = []
        self._size = 0
        self._is_stopping = self._is_closed = self._has_left = False

    def stop(self) -> None:
        self._is_stopping = True
        self._more.set()

    @property
    def _is_ending(self) -> bool:
        return self._is_stopping or self._is_closed

    async def run(self) -> None:
        """Returns at the end of the session. Raises OSError if the connection breaks."""
        tasks = [asyncio.create_task(self._read()), asyncio.create_task(self._respond())]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
            tasks[1].cancel()
            await self._linger(tasks[0])
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _linger(self, reading: asyncio.Task[None]) -> None:
        """Envoy drops the last bytes that wait for the agent when this side closes the connection."""
        if not self._is_closed:
            return
        with contextlib.suppress(TimeoutError, ProtocolError):
            async with asyncio.timeout(_CLOSING_SECONDS):
                reading.cancel()
                await asyncio.gather(reading, return_exceptions=True)
                while not self._has_left and (data := await self._reader.read(_PORTION)):
                    self._protocol.receive_data(data)
                    self._has_left = any(isinstance(event, CloseConnection) for event in self._protocol.events())
                await asyncio.sleep(_LINGER_SECONDS)

    # --- the caller's messages

    async def _read(self) -> None:
        while not self._is_closed:
            data = await self._reader.read(_PORTION)
            if not data:
                return
            try:
                self._protocol.receive_data(data)
                for event in self._protocol.events():
                    await self._on(event)
                    if self._is_closed:
                        return
            except ProtocolError:
                await self._close(CloseReason.PROTOCOL_ERROR, "these are no WebSocket frames")

    async def _on(self, event: Event) -> None:
        match event:
            case Request():
                await self._accept(event)
            case TextMessage():
                await self._on_text(event)
            case BytesMessage():
                await self._close(CloseReason.UNSUPPORTED_DATA, "this API has no binary messages; send events as text")
            case Ping():
                await self._write(event.response())
            case CloseConnection():
                self._is_closed = self._has_left = True
                await self._write(event.response())

    async def _accept(self, upgrade: Request) -> None:
        if self._is_stopping:
            self._is_closed = True
            await self._write(RejectConnection(status_code=503))
            return
        self._headers = [*upgrade.extra_headers, (b"host", upgrade.host.encode())]
        await self._write(AcceptConnection(subprotocol=next(iter(upgrade.subprotocols), None)))

    async def _on_text(self, part: TextMessage) -> None:
        self._text.append(part.data)
        self._size += len(part.data)
        if self._size > self._largest:
            await self._close(CloseReason.MESSAGE_TOO_BIG, f"a message is over {self._largest} bytes")
            return
        if not part.message_finished:
            return
        text = "".join(self._text)
        self._text, self._size = [], 0
        try:
            await self._on_event(read_event(text))
        except Refused as refused:
            await self._send(refused.event())

    async def _on_event(self, event: dict[str, Json]) -> None:
        if is_create(event):
            if len(self._waiting) >= _MOST_WAITING:
                raise Refused(f"{_MOST_WAITING} responses of this session wait already; wait for the end of one")
            self._waiting.append(event)
            self._more.set()
        elif event.get("type") == "response.cancel":
            if self._current is None:
                raise Refused("no response of this session is in progress")
            self._current.cancel()

    # --- the responses

    async def _respond(self) -> None:
        """One response after the other, until the session ends."""
        while not self._is_ending:
            self._more.clear()
            while self._waiting and not self._is_ending:
                await self._respond_to(self._waiting.popleft())
            if not self._is_ending:
                await self._more.wait()
        await self._close(CloseReason.GOING_AWAY, "the gateway restarts; open another session")

    async def _respond_to(self, event: dict[str, Json]) -> None:
        try:
            request = self._history.request(event)
        except Refused as refused:
            await self._send(refused.event())
            return
        if request.is_warmup:
            ended, events = warmup(request)
            self._history.ended(request, ended, [])
            for each in events:
                await self._send(each)
            return
        self._begun = None
        # A task of its own, which response.cancel can end.
        task = self._current = asyncio.create_task(self._request(request))
        try:
            await asyncio.wait([task])
        finally:
            self._current = None
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        if task.cancelled():
            await self._send(cancelled(self._begun or {"object": "response", "model": request.model, "output": []}))
        else:
            task.result()

    async def _request(self, request: SessionRequest) -> None:
        self._count += 1
        headers = request_headers(self._headers, f"{self._id}-{self._count}")
        try:
            async with self._ask(headers, request.body) as reply:
                if reply.status != _OK:
                    await self._refused(reply)
                elif not await self._pass_on(request, reply):
                    await self._end(broken("the response has ended before its last event"))
        except (GatewayUnreachable, UpstreamError) as error:
            await self._end(broken(str(error)))

    async def _refused(self, reply: StreamedReply) -> None:
        body = b""
        async for chunk in reply.chunks():
            body += chunk
            if len(body) > _LONGEST_ERROR:
                break
        await self._end(refusal(reply.status, body))
        if reply.status == _UNAUTHENTICATED:  # the key was revoked, or the token has expired
            await self._close(CloseReason.POLICY_VIOLATION, "the caller of this session is not known any more")

    async def _pass_on(self, request: SessionRequest, reply: StreamedReply) -> bool:
        """Writes the events of a response. False: it has no end."""
        decoder, items, size = SseDecoder(), list[Json](), 0
        chunks = reply.chunks()
        async for chunk in chunks:
            written: list[bytes] = []  # at once: each write is a part for the agent
            for frame in decoder.feed(chunk):
                if not frame.data or frame.data == _DONE:
                    continue
                kind = socket_events.type_of(frame.data)
                if self._begun is None or kind == _ITEM_DONE or is_end(kind):
                    event = socket_events.read_event(frame.data) or {}
                    response = dict(object_in(event, "response"))
                    self._begun = self._begun or response
                    if kind == _ITEM_DONE and (size := size + len(frame.data)) <= self._largest:
                        items.append(event.get("item"))
                    if is_end(kind):
                        self._history.ended(request, response, items)
                        await self._end(*written, frame.data)
                        await _read_on(chunks)
                        return True
                written.append(frame.data)
            await self._send(*written)
        return False

    async def _end(self, *events: bytes) -> None:
        """Writes the last events of a response."""
        self._current = None  # it is too late to cancel it
        await self._send(*events)

    # --- the connection

    async def _send(self, *events: bytes) -> None:
        await self._write(*(TextMessage(data=event.decode(errors="replace")) for event in events))

    async def _close(self, code: CloseReason, reason: str) -> None:
        if not self._is_closed:
            self._is_closed = True
            await self._write(CloseConnection(code=int(code), reason=reason))

    async def _write(self, *events: Event) -> None:
        """Waits while the caller does not read."""
        with contextlib.suppress(LocalProtocolError):  # the caller has closed the session meanwhile
            self._writer.write(b"".join([self._protocol.send(event) for event in events]))
        await self._writer.drain()


async def _read_on(chunks: AsyncIterator[bytes]) -> None:
    """To the end of the reply: a request whose reply is not read seems to be one that its caller has left."""
    with contextlib.suppress(TimeoutError, GatewayUnreachable):
        async with asyncio.timeout(_CLOSING_SECONDS):
            async for _ in chunks:
                pass
