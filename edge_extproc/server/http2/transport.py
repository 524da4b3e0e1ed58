"""The transport for a busy worker: gRPC on asyncio's own protocol classes, one task a call.

grpcio hands each message through two threads of its own before a coroutine sees it, which costs several times what
the message itself does; here a turn of the loop reads many messages, wakes their calls and writes their answers at
once. What it speaks is in `http2`; docs/adr/012 tells why it is here.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, TypeAlias, cast

from ..rpc import CallRefused, PeerGone, Service, Status, Streaming
from ..transport import MutualTls
from .connection import Http2Connection
from .stream import Http2Stream

_UNIX = "unix:"

Runner: TypeAlias = "Callable[[Http2Call], Awaitable[None]]"

# Connections that wait to be accepted: each of Envoy's threads opens its own, all at once after a restart.
_BACKLOG = 1024
# A peer that connects and says nothing.
_GREETING_SECONDS = 10.0
# Messages of one call that are there already, before the others have their turn.
_IN_A_ROW = 16
# Calls that are cancelled tidy up, and wait for nobody.
_TIDY_SECONDS = 5.0


class Http2Call(Http2Stream):
    """One stream, for its method."""

    __slots__ = ("_drained", "_in_a_row", "_protocol", "_readable", "deadline", "started", "task")

    _protocol: _Protocol
    task: asyncio.Task[None]

    def __init__(self, id: int, path: str, metadata: Mapping[str, str], send_window: int) -> None:
        super().__init__(id, path, metadata, send_window)
        self.started = False
        self._in_a_row = 0
        self.deadline: asyncio.TimerHandle | None = None
        self._readable: asyncio.Future[None] | None = None
        self._drained: asyncio.Future[None] | None = None

    @property
    def cut(self) -> bool:
        return self.gone

    @property
    def peer(self) -> str:
        """As gRPC writes addresses."""
        return self._protocol.peer

    async def read(self) -> bytes | None:
        self._in_a_row += 1
        if self._in_a_row > _IN_A_ROW:
            self._in_a_row = 0
            await asyncio.sleep(0)
        while True:
            if self.gone:
                return None
            if self.messages:
                break
            if self.ended:
                return None
            self._in_a_row = 0
            self._readable = self._protocol.loop.create_future()
            await self._readable
        message = self.messages.popleft()
        self._protocol.connection.was_read(self, len(message))
        return message

    async def write(self, message: bytes) -> None:
        if self.gone:
            raise PeerGone
        protocol = self._protocol
        protocol.connection.send_message(self, message)
        protocol.flush_soon()
        while self.blocked:
            self._drained = protocol.loop.create_future()
            await self._drained
            if self.gone:
                raise PeerGone
        if protocol.paused is not None:
            await protocol.paused.wait()

    # --- what the connection tells

    def readable(self) -> None:
        if self._readable is not None and not self._readable.done():
            self._readable.set_result(None)

    def writable(self) -> None:
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)

    def left(self) -> None:
        """Whoever waits for the peer is told so; whoever is busy is cancelled; whoever has not begun will see."""
        if self._readable is not None and not self._readable.done():
            self._readable.set_result(None)
        elif self.started:
            self.task.cancel()


class _Protocol(asyncio.Protocol):
    """One connection."""

    def __init__(self, server: Http2Server) -> None:
        self.loop = server.loop
        self.connection = Http2Connection(Http2Call, self._opened)
        self.paused: asyncio.Event | None = None
        """Set once the peer takes bytes again."""
        self.peer = "unix:"
        self._server = server
        self._transport: asyncio.Transport | None = None
        self._greeting: asyncio.TimerHandle | None = None
        self._flushing = False

    # --- asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        secured = transport.get_extra_info("ssl_object")
        if secured is not None and secured.selected_alpn_protocol() != "h2":
            self._transport.abort()
            return
        address = transport.get_extra_info("peername")
        if isinstance(address, tuple):
            host, port = address[:2]
            self.peer = f"ipv6:[{host}]:{port}" if ":" in host else f"ipv4:{host}:{port}"
            _keep_alive(transport.get_extra_info("socket"))
        self._greeting = self.loop.call_later(_GREETING_SECONDS, self._ungreeted)
        self._server.connections.add(self)
        self.flush()

    def _ungreeted(self) -> None:
        if not self.connection.greeted and self._transport is not None:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        self.connection.receive(data)
        self.flush()

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self._transport = None
        if self._greeting is not None:
            self._greeting.cancel()
        self.resume_writing()
        self.connection.lost()
        self._server.lost(self)

    def pause_writing(self) -> None:
        self.paused = asyncio.Event()

    def resume_writing(self) -> None:
        if self.paused is not None:
            self.paused.set()
            self.paused = None

    # --- the calls' side

    def flush_soon(self) -> None:
        """Once for all calls that write in this turn of the loop."""
        if not self._flushing:
            self._flushing = True
            self.loop.call_soon(self.flush)

    def flush(self) -> None:
        self._flushing = False
        out = self.connection.take()
        if self._transport is None or self._transport.is_closing():
            return
        if out:
            self._transport.write(out)
        if self.connection.closed or self.connection.drained:
            self._transport.close()

    def drain(self) -> None:
        """Closes once the peer knows, and the last call is over."""
        self.connection.drain()
        self.flush()

    def close(self) -> None:
        self.flush()
        if self._transport is not None:
            self._transport.close()

    def _opened(self, stream: Http2Stream) -> None:
        call = cast("Http2Call", stream)
        call._protocol = self
        run = self._server.runners.get(call.path)
        if run is None:
            self.connection.finish(call, Status.UNIMPLEMENTED, "unknown method")
            self.connection.returned()
            return
        call.task = self.loop.create_task(self._run(call, run))
        self._server.calls.add(call.task)
        if call.timeout is not None:
            call.deadline = self.loop.call_later(call.timeout, self._too_late, call)

    def _too_late(self, call: Http2Call) -> None:
        self.connection.finish(call, Status.DEADLINE_EXCEEDED, "deadline exceeded")
        self.flush_soon()
        call.task.cancel()

    async def _run(self, call: Http2Call, run: Runner) -> None:
        call.started = True
        status, details = Status.OK, ""
        try:
            await run(call)
        except CallRefused as refused:
            status, details = refused.status, refused.details
        except PeerGone:
            pass
        except asyncio.CancelledError:
            # Of a peer that left there is nobody to hear it; else the worker's grace is over.
            status, details = Status.UNAVAILABLE, "the worker stops"
        except BaseException:
            status, details = Status.INTERNAL, "internal error"
            raise
        finally:
            self._server.calls.discard(call.task)
            if call.deadline is not None:
                call.deadline.cancel()
            self.connection.finish(call, status, details)
            self.connection.returned()
            self.flush_soon()


class Http2Server:
    """`services` at one address. Made in a running loop."""

    def __init__(self, services: Iterable[Service], interceptors: Sequence[Any] = ()) -> None:
        """`interceptors`: grpcio's, for calls of one message."""
        self.loop = asyncio.get_running_loop()
        self.runners: dict[str, Runner] = {}
        self.connections: set[_Protocol] = set()
        self.calls: set[asyncio.Task[None]] = set()
        self._methods = {path: method for service in services for path, method in service.methods.items()}
        self._interceptors = interceptors
        self._listener: socket.socket
        self._tls: ssl.SSLContext | None = None
        self._listening: asyncio.Server | None = None
        self._quiet = asyncio.Event()

    def bind(self, address: str, tls: MutualTls | None) -> None:
        """Takes `address`, as gRPC writes it. Raises OSError."""
        self._listener = _listener(address)
        self._tls = tls.context() if tls is not None else None

    async def start(self) -> None:
        for path, method in self._methods.items():
            if isinstance(method, Streaming):
                self.runners[path] = method.run
            elif self._interceptors:
                self.runners[path] = await _intercepted(path, method.run, self._interceptors)
            else:
                self.runners[path] = _alone(method.run)
        listener = self._listener
        create: Any = self.loop.create_server if listener.family != socket.AF_UNIX else self.loop.create_unix_server
        self._listening = await create(lambda: _Protocol(self), sock=listener, backlog=_BACKLOG, ssl=self._tls)

    def lost(self, protocol: _Protocol) -> None:
        self.connections.discard(protocol)
        if not self.connections:
            self._quiet.set()

    async def stop(self, grace: float) -> None:
        """Takes no more calls, lets the open ones go on for so many seconds, and cancels the rest."""
        if self._listening is not None:
            self._listening.close()
        self._quiet.clear()
        for protocol in tuple(self.connections):
            protocol.drain()
        if self.connections:
            try:
                async with asyncio.timeout(grace):
                    await self._quiet.wait()
            except TimeoutError:
                pass
        if self.calls:
            for task in self.calls:
                task.cancel()
            await asyncio.wait(tuple(self.calls), timeout=_TIDY_SECONDS)
        for protocol in tuple(self.connections):
            protocol.close()


def _alone(run: Callable[[bytes], Awaitable[bytes]]) -> Runner:
    async def runner(call: Http2Call) -> None:
        await call.write(await run(await _question(call)))

    return runner


async def _intercepted(path: str, run: Callable[[bytes], Awaitable[bytes]], interceptors: Sequence[Any]) -> Runner:
    # Loads grpcio, which a worker without interceptors does not need.
    from ..interception import intercepted

    around = await intercepted(path, run, interceptors)

    async def runner(call: Http2Call) -> None:
        await call.write(await around(await _question(call), call))

    return runner


async def _question(call: Http2Call) -> bytes:
    message = await call.read()
    if message is not None:
        return message
    if call.gone:
        raise PeerGone
    raise CallRefused(Status.INTERNAL, "a call without a message")


def _listener(address: str) -> socket.socket:
    """Whoever connects is answered once the server has started.

    Two workers never share an address: each would get some of the streams.
    """
    if address.startswith(_UNIX):
        listener = socket.socket(socket.AF_UNIX)
        bind: Any = address.removeprefix(_UNIX)
    else:
        host, _, port = address.rpartition(":")
        host = host.strip("[]")
        listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        # What a worker before us left in TIME_WAIT is in nobody's way.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bind = (host, int(port))
    try:
        listener.bind(bind)
        listener.listen(_BACKLOG)
    except BaseException:
        listener.close()
        raise
    listener.setblocking(False)
    return listener


def _keep_alive(sock: socket.socket | None) -> None:
    """A machine that is switched off says nothing; the kernel finds out."""
    if sock is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
