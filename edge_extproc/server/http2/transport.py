"""The default gRPC transport, for busy workers: asyncio's protocol classes and one task for each call.

grpcio passes each message through two threads before a coroutine gets it, which costs several times as much as the
message itself. Here, one turn of the event loop reads many messages, wakes their calls and writes their answers
together. The protocol is in `connection`; docs/adr/012 has the reasons for this transport.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, TypeAlias, cast

from ..rpc import CallRefused, Message, PeerGone, RpcService, Status, Streaming, size_of, whole
from ..transport import MutualTls
from .connection import Http2Connection
from .stream import Http2Stream

_UNIX = "unix:"

Runner: TypeAlias = "Callable[[Http2Call], Awaitable[None]]"

# Connections that wait to be accepted. Each of Envoy's threads opens its own, all at once after a restart.
_BACKLOG = 1024
# Seconds for a peer to send its preface.
_GREETING_SECONDS = 10.0
# Messages of one call that are read before other calls have their turn.
_IN_A_ROW = 16
# Seconds for cancelled calls to clean up.
_TIDY_SECONDS = 5.0


class Http2Call(Http2Stream):
    """One stream, with the interface for its method."""

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
    def local(self) -> str | None:
        return self._protocol.local

    @property
    def cut(self) -> bool:
        return self.gone

    @property
    def peer(self) -> str:
        """The peer's address in gRPC's notation."""
        return self._protocol.peer

    async def read(self) -> Message | None:
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
        self._protocol.connection.was_read(self, size_of(message))
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

    # --- called by the connection

    def readable(self) -> None:
        if self._readable is not None and not self._readable.done():
            self._readable.set_result(None)

    def writable(self) -> None:
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)

    def left(self) -> None:
        """Called when the peer has left. A method that waits for a message gets the end. A method that does something
        else is cancelled. A method that has not started will notice."""
        if self._readable is not None and not self._readable.done():
            self._readable.set_result(None)
        elif self.started:
            self.task.cancel()


class _Protocol(asyncio.Protocol):
    """One connection of a peer."""

    def __init__(self, server: Http2Server) -> None:
        self.loop = server.loop
        self.connection = Http2Connection(Http2Call, self._opened)
        self.paused: asyncio.Event | None = None
        """Set when the peer accepts more bytes."""
        self.peer = "unix:"
        self.local: str | None = None
        self._server = server
        self._transport: asyncio.Transport | None = None
        self._greeting: asyncio.TimerHandle | None = None
        self._flushing = False

    # --- called by asyncio

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        secured = transport.get_extra_info("ssl_object")
        if secured is not None and secured.selected_alpn_protocol() != "h2":
            self._transport.abort()
            return
        self.local = _written(transport.get_extra_info("sockname"))
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

    # --- called by calls

    def flush_soon(self) -> None:
        """Schedules one flush for all calls that write in this turn of the event loop."""
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
        """Closes the connection after the peer has been informed and the last call has ended."""
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
        status, details = Status.INTERNAL, "internal error"
        try:
            await run(call)
            status, details = Status.OK, ""
        except CallRefused as refused:
            status, details = refused.status, refused.details
        except PeerGone:
            status, details = Status.OK, ""
        except asyncio.CancelledError:
            # If the peer has left, nobody receives this status. Otherwise the worker's grace period is over.
            status, details = Status.UNAVAILABLE, "the worker stops"
        finally:
            self._server.calls.discard(call.task)
            if call.deadline is not None:
                call.deadline.cancel()
            self.connection.finish(call, status, details)
            self.connection.returned()
            self.flush_soon()


class Http2Server:
    """A gRPC server of `services` at one address. Create it in a running event loop."""

    def __init__(self, services: Iterable[RpcService], interceptors: Sequence[Any] = ()) -> None:
        """`interceptors`: grpcio's, for unary methods."""
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
        """Binds to `address`, in gRPC's notation. Raises OSError."""
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
        """Accepts no more calls, waits `grace` seconds for open ones, and cancels the rest."""
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
    # Imports grpcio, which a worker without interceptors does not need.
    from ..interception import intercepted

    around = await intercepted(path, run, interceptors)

    async def runner(call: Http2Call) -> None:
        await call.write(await around(await _question(call), call))

    return runner


async def _question(call: Http2Call) -> bytes:
    message = await call.read()
    if message is not None:
        return whole(message)
    if call.gone:
        raise PeerGone
    raise CallRefused(Status.INTERNAL, "a call without a message")


def _listener(address: str) -> socket.socket:
    """A bound socket. Connections are answered after the server has started.

    Two workers never share an address, because each would get a part of the streams.
    """
    if address.startswith(_UNIX):
        listener = socket.socket(socket.AF_UNIX)
        bind: Any = address.removeprefix(_UNIX)
    else:
        host, _, port = address.rpartition(":")
        host = host.strip("[]")
        listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        # Connections of a previous worker in TIME_WAIT do not prevent the bind.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bind = (host, int(port))
    with contextlib.ExitStack() as unless_bound:
        unless_bound.callback(listener.close)
        listener.bind(bind)
        listener.listen(_BACKLOG)
        unless_bound.pop_all()
    listener.setblocking(False)
    return listener


def _written(address: object) -> str | None:
    """A socket's address as Envoy writes it."""
    match address:
        case str():
            return address
        case (str(host), int(port), *_):
            # An IPv6 socket has this prefix before the address of an IPv4 connection.
            host = host.removeprefix("::ffff:") if "." in host else host
            return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        case _:
            return None


def _keep_alive(sock: socket.socket | None) -> None:
    """Enables keepalive: a machine that is switched off closes no connection, but the kernel detects it."""
    if sock is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
