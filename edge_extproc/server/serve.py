"""One worker process's gRPC server: where it listens, what it permits, how it stops.

It does not know what its services do. A worker has an address of its own, because Envoy must be able to choose the
worker (both streams of a request belong in one process), and SO_REUSEPORT would let the kernel choose.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import stat
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar

from ..errors import StartError
from .health import Health
from .rpc import Service

if TYPE_CHECKING:
    from .transport import MutualTls

try:
    import uvloop
except ImportError:
    # Not made for Windows, where one may still develop.
    uvloop = None  # type: ignore[assignment]

T = TypeVar("T")

_UNIX = "unix:"
# sun_path of Linux is 108 bytes with its closing zero; other systems have less.
_LONGEST_PATH = 107


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run on the fastest event loop there is."""
    factory = uvloop.new_event_loop if uvloop is not None else None
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(main)


async def serve(
    address: str,
    services: Iterable[Service],
    stop: asyncio.Event,
    grace: float,
    *,
    tls: MutualTls | None = None,
    group: bool = False,
    on_ready: Callable[[], None] = lambda: None,
    on_stopping: Callable[[], None] = lambda: None,
    interceptors: Sequence[Any] = (),
    transport: Literal["http2", "grpcio"] = "http2",
) -> None:
    """Serve at `address` (`unix:/path`, or `host:port`, which takes `tls`) until `stop` is set; raises StartError
    where it cannot. `group`: the owner's group may open the socket too.

    The gRPC health service tells SERVING from `on_ready` on and NOT_SERVING as soon as `stop` is set. Streams then
    have `grace` seconds to end by themselves; those that do not are cancelled after it. `on_stopping` is called
    before the grace begins. `interceptors`: grpcio's, around calls of one message.
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
            health.stopping()
            await server.stop(grace)


class _Server(Protocol):
    def bind(self, address: str, tls: MutualTls | None) -> None:
        """Raises OSError."""
        ...

    async def start(self) -> None: ...

    async def stop(self, grace: float) -> None: ...


def _server(transport: str, services: Iterable[Service], interceptors: Sequence[Any]) -> _Server:
    """Loads only the one that is wanted."""
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
    # Whoever can write to the socket can play Envoy; it must not be open to others even for a moment.
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
    """Remove the socket that a worker left behind when it was killed."""
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
