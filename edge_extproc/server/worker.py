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
from typing import Any, TypeVar

import grpc
from grpc import aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from ..errors import StartError
from .transport import MutualTls

try:
    import uvloop
except ImportError:
    # Not made for Windows, where one may still develop.
    uvloop = None  # type: ignore[assignment]

T = TypeVar("T")

MAX_MESSAGE = 64 * 1024 * 1024
"""Bytes. A buffered body is one message; Envoy's own body limit is the one to set, and it must lie below this."""

OPTIONS: tuple[tuple[str, int], ...] = (
    ("grpc.max_receive_message_length", MAX_MESSAGE),
    ("grpc.max_send_message_length", MAX_MESSAGE),
    # A stream lives as long as its request, and every SSE in flight is one. Envoy opens another connection beyond it.
    ("grpc.max_concurrent_streams", 10_000),
    # Envoy pings every 30 s, also when nothing moves; gRPC's defaults would take that for abuse and hang up.
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 5_000),
    # Two workers at one address would each get some of the streams: the second one must fail.
    ("grpc.so_reuseport", 0),
)

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
    services: Iterable[grpc.GenericRpcHandler],
    stop: asyncio.Event,
    grace: float,
    *,
    tls: MutualTls | None = None,
    on_ready: Callable[[], None] = lambda: None,
    on_stopping: Callable[[], None] = lambda: None,
    interceptors: Sequence[aio.ServerInterceptor] = (),
) -> None:
    """Serve at `address` (`unix:/path`, or `host:port`, which takes `tls`) until `stop` is set; raises StartError
    where it cannot.

    The gRPC health service tells SERVING from `on_ready` on and NOT_SERVING as soon as `stop` is set. Streams then
    have `grace` seconds to end by themselves; those that do not are cancelled after it. `on_stopping` is called
    before the grace begins.
    """
    server = aio.server(options=OPTIONS, interceptors=interceptors)
    server.add_generic_rpc_handlers(tuple(services))
    healthy = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(healthy, server)
    with _bound(server, address, tls):
        await server.start()
        try:
            await healthy.set("", health_pb2.HealthCheckResponse.SERVING)
            on_ready()
            await stop.wait()
        finally:
            on_stopping()
            await healthy.enter_graceful_shutdown()
            await server.stop(grace)


@contextlib.contextmanager
def _bound(server: aio.Server, address: str, tls: MutualTls | None) -> Iterator[None]:
    if not address.startswith(_UNIX):
        _bind(server, address, tls)
        yield
        return
    path = Path(address.removeprefix(_UNIX))
    _make_room(path)
    # Whoever can write to the socket can play Envoy; it must not be open to others even for a moment.
    before = os.umask(0o177)
    try:
        _bind(server, address)
    finally:
        os.umask(before)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def _bind(server: aio.Server, address: str, tls: MutualTls | None = None) -> None:
    try:
        if tls is None:
            server.add_insecure_port(address)
        else:
            server.add_secure_port(address, tls.of_server())
    except RuntimeError as exc:
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
