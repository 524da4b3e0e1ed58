"""One TCP connection of the rehearsal server: HTTP/1.1 by h11, and simulated connection failures.

It sends the performances of stage.py. It is an asyncio protocol, because a web framework does not give access to the
socket, which is needed to reset a connection within a stream, or to close it without the end of the chunked body.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, assert_never, cast

import h11

from .stage import Performance

# Larger than any request that a provider accepts.
MAX_BODY = 64 << 20
# Bytes that a client may send during a response.
MAX_AHEAD = 64 << 10
# Seconds. A reset discards unacknowledged bytes, so it waits until the peer has acknowledged them.
RESET_PATIENCE = 1.0

Outcome = Literal["answered", "broken", "abandoned"]


@dataclass(frozen=True, slots=True)
class Request:
    method: str
    target: str
    headers: tuple[tuple[str, str], ...] = field(repr=False)
    body: bytes = field(repr=False)
    is_too_large: bool = False


class _PeerLeft(Exception):
    """The client closed the connection before the response was complete."""


class Connection(asyncio.Protocol):
    """One connection. Each request is answered before the next one is read."""

    def __init__(
        self, answer: Callable[[Request], Performance], tally: Counter[Outcome], open_: set[Connection]
    ) -> None:
        self._answer = answer
        self._tally = tally
        self._open = open_
        self._http = h11.Connection(h11.SERVER)
        self._transport: asyncio.Transport
        self._closed = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()
        self._is_full = False
        self._head: h11.Request
        self._body = bytearray()
        self._size = 0
        self._unsent = b""
        self._task: asyncio.Task[None] | None = None
        self._ahead = 0

    # ------------------------------------------------------------------------------------------- what the loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # For TCP, it is always a Transport.
        self._transport = cast(asyncio.Transport, transport)
        self._open.add(self)

    def data_received(self, data: bytes) -> None:
        self._http.receive_data(data)
        if self._task is None:
            self._read()
        else:
            self._ahead += len(data)
            if self._ahead > MAX_AHEAD:
                self._transport.pause_reading()

    def eof_received(self) -> None:
        self._closed.set()

    def connection_lost(self, _exc: Exception | None) -> None:
        self._open.discard(self)
        self._closed.set()
        self._writable.set()

    def pause_writing(self) -> None:
        self._is_full = True
        self._writable.clear()

    def resume_writing(self) -> None:
        self._is_full = False
        self._writable.set()

    async def close(self) -> None:
        """Ends the connection at once."""
        task = self._task
        self._transport.abort()
        if task is not None:
            task.cancel()
            await asyncio.wait((task,))

    # ------------------------------------------------------------------------------------------------------ requests

    def _read(self) -> None:
        try:
            while self._task is None:
                match self._http.next_event():
                    case h11.Request() as head:
                        self._head = head
                        self._size = 0
                    case h11.Data(data=data):
                        # A too large body is read to its end: a client that still sends would lose the response.
                        self._size += len(data)
                        if self._size <= MAX_BODY:
                            self._body += data
                    case h11.EndOfMessage():
                        self._start()
                    case _:
                        if self._http.they_are_waiting_for_100_continue:
                            self._send(h11.InformationalResponse(status_code=100, headers=[]))
                            self._push()
                        return
        except h11.RemoteProtocolError:
            self._refuse_to_speak()

    def _start(self) -> None:
        request = Request(
            self._head.method.decode("ascii"),
            self._head.target.decode("ascii"),
            tuple((name.decode("ascii"), value.decode("latin-1")) for name, value in self._head.headers),
            bytes(self._body),
            is_too_large=self._size > MAX_BODY,
        )
        self._body = bytearray()
        self._task = asyncio.get_running_loop().create_task(self._serve(request))

    def _refuse_to_speak(self) -> None:
        """Answers bytes that are not HTTP."""
        self._send(h11.Response(status_code=400, headers=[("connection", "close"), ("content-length", "0")]))
        self._push()
        self._transport.close()

    # ------------------------------------------------------------------------------------------------------- answers

    async def _serve(self, request: Request) -> None:
        outcome: Outcome = "broken"
        can_go_on = False
        try:
            outcome = await self._play(self._answer(request), has_body=request.method != "HEAD")
            can_go_on = self._http.our_state is self._http.their_state is h11.DONE
        except _PeerLeft:
            outcome = "abandoned"
        finally:
            self._tally[outcome] += 1
            self._task = None
            if not can_go_on:
                self._transport.close()
        if can_go_on:
            self._http.start_next_cycle()
            if self._ahead > MAX_AHEAD:
                self._transport.resume_reading()
            self._ahead = 0
            self._read()

    async def _play(self, performance: Performance, *, has_body: bool) -> Outcome:
        await self._wait(performance.delay)
        if performance.refuse:
            return await self._reset()
        self._send(h11.Response(status_code=performance.status, headers=list(performance.headers)))
        if has_body:
            await self._wait(performance.first)
            for number, chunk in enumerate(performance.chunks):
                if number:
                    await self._write()
                    await self._wait(performance.pace)
                self._send(h11.Data(data=chunk))
        match performance.ending:
            case "whole":
                self._send(h11.EndOfMessage())
                return await self._finish()
            case "drop":
                self._push()
                return "broken"
            case "reset":
                self._push()
                return await self._reset()
            case "stall":
                self._push()
                await self._closed.wait()
                raise _PeerLeft
            case _:
                assert_never(performance.ending)

    def _send(self, event: h11.Event) -> None:
        """Adds to the next write. The head and body of a JSON reply are one write, and so are the last event and the
        end."""
        self._unsent += self._http.send(event) or b""

    def _push(self) -> None:
        self._transport.write(self._unsent)
        self._unsent = b""

    async def _finish(self) -> Outcome:
        """Writes the end. A client that closes as soon as it has everything counts as answered."""
        self._push()
        await self._writable.wait()
        return "abandoned" if self._is_full else "answered"

    async def _write(self) -> None:
        """Writes, yields to other connections, and waits for a slow reader."""
        self._push()
        await asyncio.sleep(0)
        await self._writable.wait()
        if self._closed.is_set():
            raise _PeerLeft

    async def _wait(self, seconds: float) -> None:
        if seconds > 0:
            self._push()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._closed.wait(), seconds)
        if self._closed.is_set():
            raise _PeerLeft

    async def _reset(self) -> Outcome:
        """Sends RST instead of FIN, after the written bytes have arrived."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + RESET_PATIENCE
        wire = self._transport.get_extra_info("socket")
        while (self._transport.get_write_buffer_size() or _unacknowledged(wire.fileno())) and loop.time() < deadline:
            await self._wait(0.0005)
        wire.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._transport.abort()
        return "broken"


if sys.platform == "win32":

    def _unacknowledged(_fd: int) -> int:
        return 0

else:
    import fcntl
    import termios

    def _unacknowledged(fd: int) -> int:
        """The number of bytes that were sent and not acknowledged (TIOCOUTQ)."""
        return int(struct.unpack("i", fcntl.ioctl(fd, termios.TIOCOUTQ, b"\0\0\0\0"))[0])
