"""A gRPC client for unary calls of bytes: how the supervisor calls its workers.

grpcio would cost the supervisor 10 MiB of memory and threads. All calls share one connection. A call opens a new one if
there is none, or if the worker has closed it or accepts no more calls on it. Requests are small: those that are over a
window of 64 KiB are refused.
"""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote

from ..rpc import MAX_MESSAGE, Status
from .frames import (
    ACK,
    CANCEL,
    CONTINUATION,
    DATA,
    DEFAULT_WINDOW,
    ENABLE_PUSH,
    END_HEADERS,
    END_STREAM,
    FRAME,
    FRAME_SIZE_ERROR,
    GOAWAY,
    HEADERS,
    INITIAL_WINDOW_SIZE,
    LARGEST_WINDOW,
    MAX_FRAME,
    MAX_HEADER_LIST_SIZE,
    MAX_HEADERS,
    PADDED,
    PING,
    PREFACE,
    PREFIX,
    PROTOCOL_ERROR,
    RST_STREAM,
    SETTING,
    SETTINGS,
    U32,
    WINDOW_UPDATE,
    ConnectionFault,
    _frame,
    header_block_of,
    literal,
    unpadded,
)
from .header_blocks import BadBlock, HeaderDecoder

if TYPE_CHECKING:
    from ..transport import MutualTls

_UNIX: Final = "unix:"
# Bytes that have arrived until the worker may send as many again.
_REFILL: Final = 16 * 1024 * 1024


class CallFailed(Exception):
    """A call that ended with another status than OK. No connection, or a lost one, is UNAVAILABLE."""

    def __init__(self, status: int, details: str) -> None:
        super().__init__(details)
        self.status = status
        self.details = details


class UnaryClient:
    """The calls to one address, `unix:/path` or `host:port`. With `tls`, the name in the worker's certificate is
    compared with the configured one, not with the address."""

    def __init__(self, address: str, tls: MutualTls | None = None) -> None:
        self._address = address
        self._tls = tls
        self._connection: _Connection | None = None
        self._connecting = asyncio.Lock()

    async def call(self, path: str, message: bytes, seconds: float) -> bytes:
        """The response. `path`: `/package.Service/Method`. Raises CallFailed, also after so many seconds."""
        try:
            async with asyncio.timeout(seconds):
                connection = await self._usable(len(message) + PREFIX.size)
                return await connection.call(path, message)
        except TimeoutError:
            raise CallFailed(Status.DEADLINE_EXCEEDED, f"no response after {seconds:g} s") from None
        except OSError as error:  # ssl.SSLError too
            raise CallFailed(Status.UNAVAILABLE, f"cannot connect: {error.strerror or error}") from error

    async def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    async def _usable(self, size: int) -> _Connection:
        if size > DEFAULT_WINDOW:
            raise CallFailed(Status.INVALID_ARGUMENT, f"the request is over {DEFAULT_WINDOW} bytes")
        async with self._connecting:
            if self._connection is None or not self._connection.permits(size):
                if self._connection is not None:
                    self._connection.retire()
                self._connection = await self._connected()
            return self._connection

    async def _connected(self) -> _Connection:
        loop, connection = asyncio.get_running_loop(), _Connection()
        if self._address.startswith(_UNIX):
            await loop.create_unix_connection(lambda: connection, self._address.removeprefix(_UNIX))
            return connection
        host, _, port = self._address.rpartition(":")
        context = self._tls.context_of_client() if self._tls is not None else None
        name = self._tls.server_name if self._tls is not None else None
        await loop.create_connection(lambda: connection, host.strip("[]"), int(port), ssl=context, server_hostname=name)
        if not connection.speaks_http2:
            connection.close()
            raise OSError("the worker speaks no HTTP/2")
        return connection


@dataclass(slots=True)
class _Call:
    result: asyncio.Future[bytes]
    headers: dict[bytes, bytes] = field(default_factory=dict)
    body: bytearray = field(default_factory=bytearray)

    def fail(self, status: int, details: str) -> None:
        if not self.result.done():
            self.result.set_exception(CallFailed(status, details))

    def end(self) -> None:
        """The peer has sent everything."""
        status = self.headers.get(b"grpc-status", b"")
        if not status.isdigit():
            http = self.headers.get(b":status", b"").decode("latin-1")
            self.fail(Status.UNAVAILABLE, f"the response has no gRPC status, and the HTTP status {http!r}")
        elif int(status) != Status.OK:
            self.fail(int(status), unquote(self.headers.get(b"grpc-message", b"").decode("latin-1")))
        elif len(self.body) < PREFIX.size or PREFIX.unpack_from(self.body) != (0, len(self.body) - PREFIX.size):
            self.fail(Status.INTERNAL, "the response is not one uncompressed message")
        elif not self.result.done():
            self.result.set_result(bytes(self.body[PREFIX.size :]))


class _Connection(asyncio.Protocol):
    """One HTTP/2 connection. The peer may send in portions of any size, and pings it, so it is read at any time."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._buffer = b""
        self._calls: dict[int, _Call] = {}
        self._next = 1
        self.speaks_http2 = False
        self._is_open = False
        """Whether a new call may be begun."""
        self._window = DEFAULT_WINDOW
        """The bytes that the peer permits on the connection. Those of a new stream are no fewer."""
        self._arrived = 0
        self._headers = HeaderDecoder(MAX_HEADERS)
        self._block: tuple[int, int, bytearray] | None = None
        """An incomplete header block: stream, flags, bytes so far."""

    def permits(self, size: int) -> bool:
        """Whether a call with so many bytes can be begun."""
        return self._is_open and size <= self._window and self._next < LARGEST_WINDOW

    async def call(self, path: str, message: bytes) -> bytes:
        """Raises CallFailed."""
        stream, self._next = self._next, self._next + 2
        call = self._calls[stream] = _Call(asyncio.get_running_loop().create_future())
        body = PREFIX.pack(0, len(message)) + message
        self._window -= len(body)
        frames = [_frame(HEADERS, END_HEADERS, stream, _request_headers(path))]
        for at in range(0, len(body), MAX_FRAME):
            part = body[at : at + MAX_FRAME]
            frames.append(_frame(DATA, END_STREAM if at + MAX_FRAME >= len(body) else 0, stream, part))
        self._write(*frames)
        try:
            return await call.result
        finally:
            if stream in self._calls:
                self._reset(stream)
            self._close_if_unused()

    def retire(self) -> None:
        """Begins no more calls. It closes after those in progress."""
        self._is_open = False
        self._close_if_unused()

    def close(self) -> None:
        """Calls in progress fail."""
        self._is_open = False
        if self._transport is not None:
            self._transport.abort()

    # --- called by asyncio

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - of a stream protocol
        self._transport = transport
        secured: ssl.SSLObject | None = transport.get_extra_info("ssl_object")
        self.speaks_http2 = secured is None or secured.selected_alpn_protocol() == "h2"
        if not self.speaks_http2:
            return
        settings = ((ENABLE_PUSH, 0), (INITIAL_WINDOW_SIZE, LARGEST_WINDOW), (MAX_HEADER_LIST_SIZE, MAX_HEADERS))
        self._is_open = True
        self._write(
            PREFACE,
            _frame(SETTINGS, 0, 0, b"".join(SETTING.pack(name, value) for name, value in settings)),
            _frame(WINDOW_UPDATE, 0, 0, U32.pack(LARGEST_WINDOW - DEFAULT_WINDOW)),
        )

    def connection_lost(self, exc: Exception | None) -> None:
        self._is_open = False
        calls = list(self._calls.values())
        self._calls.clear()
        for call in calls:
            call.fail(Status.UNAVAILABLE, "the connection was closed" if exc is None else f"connection lost: {exc}")

    def data_received(self, data: bytes) -> None:
        try:
            self._buffer = self._receive_all(self._buffer + data)
        except (ConnectionFault, BadBlock):
            self.close()

    # --- frames

    def _receive_all(self, data: bytes) -> bytes:
        """Returns what is left: the beginning of a frame."""
        at, end = 0, len(data)
        while end - at >= FRAME.size:
            upper, lower, kind, flags, stream = FRAME.unpack_from(data, at)
            size = upper << 8 | lower
            if size > MAX_FRAME:
                raise ConnectionFault(FRAME_SIZE_ERROR, "a frame is too large")
            if end - at - FRAME.size < size:
                break
            at += FRAME.size
            self._receive(kind, flags, stream & LARGEST_WINDOW, data[at : at + size])
            at += size
        return data[at:]

    def _receive(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if (kind == CONTINUATION) != (self._block is not None):
            raise ConnectionFault(PROTOCOL_ERROR, "a header block is not complete")
        match kind:
            case _ if kind == DATA:
                self._data(flags, stream, payload)
            case _ if kind in (HEADERS, CONTINUATION):
                self._header_block(kind, flags, stream, payload)
            case _ if kind == SETTINGS and not flags & ACK:
                self._write(_frame(SETTINGS, ACK, 0))
            case _ if kind == PING and not flags & ACK:
                self._write(_frame(PING, ACK, 0, payload))
            case _ if kind == WINDOW_UPDATE and stream == 0 and len(payload) == U32.size:
                self._window += U32.unpack(payload)[0]
            case _ if kind == RST_STREAM and (call := self._calls.pop(stream, None)) is not None:
                call.fail(Status.UNAVAILABLE, "the call was reset")
            case _ if kind == GOAWAY and len(payload) >= U32.size:
                self._go_away(U32.unpack_from(payload)[0] & LARGEST_WINDOW)

    def _data(self, flags: int, stream: int, payload: bytes) -> None:
        self._arrived += len(payload)
        if self._arrived >= _REFILL:
            self._write(_frame(WINDOW_UPDATE, 0, 0, U32.pack(self._arrived)))
            self._arrived = 0
        call = self._calls.get(stream)
        if call is None:
            return
        call.body += unpadded(payload) if flags & PADDED else payload
        if len(call.body) > MAX_MESSAGE + PREFIX.size:
            call.fail(Status.RESOURCE_EXHAUSTED, f"the response is over {MAX_MESSAGE} bytes")
            self._reset(stream)
        elif flags & END_STREAM:
            self._calls.pop(stream).end()

    def _header_block(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if kind == HEADERS:
            payload = header_block_of(flags, payload)
            self._block = (stream, flags, bytearray())
        assert self._block is not None  # noqa: S101 - _receive has compared it
        begun, begun_flags, block = self._block
        block += payload
        if begun != stream or len(block) > MAX_HEADERS:
            raise ConnectionFault(PROTOCOL_ERROR, "a header block is too large, or that of another stream")
        if not flags & END_HEADERS:
            return
        self._block = None
        fields = self._headers.decode(bytes(block))  # also of a call that has ended: the decoder has a state
        call = self._calls.get(stream)
        if call is not None:
            call.headers.update(fields)
            if begun_flags & END_STREAM:
                self._calls.pop(stream).end()

    def _reset(self, stream: int) -> None:
        del self._calls[stream]
        self._write(_frame(RST_STREAM, 0, stream, U32.pack(CANCEL)))

    def _go_away(self, last: int) -> None:
        for stream in [stream for stream in self._calls if stream > last]:
            self._calls.pop(stream).fail(Status.UNAVAILABLE, "the worker accepts no more calls")
        self.retire()

    def _close_if_unused(self) -> None:
        if not self._is_open and not self._calls and self._transport is not None:
            self._transport.close()

    def _write(self, *frames: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(b"".join(frames))


def _request_headers(path: str) -> bytes:
    return _METHOD_POST + _SCHEME_HTTP + literal(b":path", path.encode()) + _OTHER_HEADERS


# Entries 3 and 6 of the static table.
_METHOD_POST: Final = b"\x83"
_SCHEME_HTTP: Final = b"\x86"
_OTHER_HEADERS: Final = (
    literal(b":authority", b"worker") + literal(b"te", b"trailers") + literal(b"content-type", b"application/grpc")
)
