"""Runs the gRPC server of one worker process: its address, its permissions, its shutdown.

It knows nothing of its services. Each worker has its own address, because Envoy must choose the worker: all streams of
a request belong to one process. With SO_REUSEPORT the kernel would choose.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import stat
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar

from ..errors import StartError
from .health import Health
from .rpc import RpcService

if TYPE_CHECKING:
    from .transport import MutualTls

try:
    import uvloop
except ImportError:
    # uvloop does not exist for Windows, which can be used for development.
    uvloop = None  # type: ignore[assignment]

T = TypeVar("T")


async def _nothing_open() -> None:
    """For services whose streams need no others."""


_UNIX = "unix:"
# Bytes: sun_path of Linux has 108 with its final zero; other systems have less.
_LONGEST_PATH = 107


def run(main: Coroutine[Any, Any, T]) -> T:
    """Runs a coroutine on uvloop if it is installed, else on asyncio's own event loop."""
    factory = uvloop.new_event_loop if uvloop is not None else None
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(main)


async def serve(
    address: str,
    services: Iterable[RpcService],
    stop: asyncio.Event,
    grace: float,
    *,
    tls: MutualTls | None = None,
    group: bool = False,
    on_ready: Callable[[], None] = lambda: None,
    on_stopping: Callable[[], None] = lambda: None,
    drained: Callable[[], Awaitable[None]] = _nothing_open,
    interceptors: Sequence[Any] = (),
    transport: Literal["http2", "grpcio"] = "http2",
) -> None:
    """Serves at `address` until `stop` is set. Raises StartError.

    `address` is `unix:/path` or `host:port`; `tls` applies to the latter. `group`: the owner's group may open the
    socket too.

    When `stop` is set, `on_stopping` is called, and streams have `grace` seconds to end; the remaining ones are
    cancelled. New streams are accepted until `drained` returns, because an open exchange may need them. The gRPC health
    service reports SERVING from `on_ready` until then: Envoy forgets an unhealthy worker that DNS no longer names.
    `interceptors`: grpcio's, for unary methods.
    """
    health = Health()
    server = _server(transport, [*services, health], interceptors)
    with _bound(server, address, tls, group=group):
        await server.start()
        try:
            health.serving()
            on_ready()
            await stop.wait()
        finally:
            on_stopping()
            deadline = asyncio.get_running_loop().time() + grace
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(deadline):
                    await drained()
            health.stopping()
            await server.stop(max(0.0, deadline - asyncio.get_running_loop().time()))


class _Server(Protocol):
    def bind(self, address: str, tls: MutualTls | None) -> None:
        """Listens at the address. Raises OSError."""
        ...

    async def start(self) -> None: ...

    async def stop(self, grace: float) -> None: ...


def _server(transport: str, services: Iterable[RpcService], interceptors: Sequence[Any]) -> _Server:
    """The configured transport. Only this one is imported."""
    if transport == "grpcio":
        from . import grpcio_transport

        return grpcio_transport.GrpcioServer(services, interceptors)
    from .http2 import transport as http2_transport

    return http2_transport.Http2Server(services, interceptors)


@contextlib.contextmanager
def _bound(server: _Server, address: str, tls: MutualTls | None, *, group: bool) -> Iterator[None]:
    if not address.startswith(_UNIX):
        _bind(server, address, tls)
        yield
        return
    path = Path(address.removeprefix(_UNIX))
    _make_room(path)
    # A process that can write to the socket can act as Envoy, so the socket must never be open to others.
    before = os.umask(0o117 if group else 0o177)
    try:
        _bind(server, address, None)
    finally:
        os.umask(before)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def _bind(server: _Server, address: str, tls: MutualTls | None) -> None:
    try:
        server.bind(address, tls)
    except OSError as exc:
        raise StartError(f"cannot listen at {address}: the address is taken, or not one of this machine") from exc


def _make_room(path: Path) -> None:
    """Removes the socket file of a worker that was killed."""
    if len(os.fsencode(path)) > _LONGEST_PATH:
        raise StartError(f"the socket's path {str(path)!r} is too long: {_LONGEST_PATH} bytes at most")
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise StartError(f"{str(path)!r} is in the way: it is not a socket")
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(os.fspath(path))
        except ConnectionRefusedError:
            path.unlink()
            return
    raise StartError(f"somebody listens at {str(path)!r} already")
