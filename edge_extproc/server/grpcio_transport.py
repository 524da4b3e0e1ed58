"""The gRPC transport by grpcio, the reference implementation.

It takes several times as much time for each message as `http2.transport`. It is for comparison, if a peer has a problem
with that one.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

import grpc
from grpc import aio

from .rpc import MAX_MESSAGE, MAX_STREAMS, CallRefused, PeerGone, RpcService, Streaming, Unary
from .transport import MutualTls

if TYPE_CHECKING:
    Context: TypeAlias = aio.ServicerContext[Any, Any]

_UNIX = "unix:"

OPTIONS: tuple[tuple[str, int], ...] = (
    ("grpc.max_receive_message_length", MAX_MESSAGE),
    ("grpc.max_send_message_length", MAX_MESSAGE),
    ("grpc.max_concurrent_streams", MAX_STREAMS),
    # Envoy pings every 30 s, also on idle connections. gRPC's default would treat that as abuse and close the
    # connection.
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 5_000),
    # Without this, two workers at one address would share its streams. The second one must fail.
    ("grpc.so_reuseport", 0),
)


class GrpcioServer:
    """A gRPC server of `services` at one address. Create it in a running event loop."""

    def __init__(self, services: Iterable[RpcService], interceptors: Sequence[aio.ServerInterceptor] = ()) -> None:
        self._local: str | None = None
        self._server = aio.server(options=OPTIONS, interceptors=tuple(interceptors))
        methods = {path: self._handler(method) for service in services for path, method in service.methods.items()}
        self._server.add_generic_rpc_handlers((_Methods(methods),))

    def bind(self, address: str, tls: MutualTls | None) -> None:
        """Listens at `address`, in gRPC's notation. Raises OSError."""
        self._local = _reached_at(address)
        try:
            if tls is None:
                self._server.add_insecure_port(address)
            else:
                self._server.add_secure_port(address, tls.of_server())
        except RuntimeError as exc:
            raise OSError(str(exc)) from exc

    async def start(self) -> None:
        await self._server.start()

    async def stop(self, grace: float) -> None:
        """Accepts no more calls, waits `grace` seconds for open ones, and cancels the rest."""
        await self._server.stop(grace)

    # No serializers: messages stay bytes.
    def _handler(self, method: Unary | Streaming) -> Any:
        if isinstance(method, Streaming):
            return grpc.stream_stream_rpc_method_handler(partial(_stream, method, lambda: self._local))
        return grpc.unary_unary_rpc_method_handler(partial(_answer, method))


def _reached_at(address: str) -> str | None:
    """The address of the peer's connections, which grpcio does not tell. It is unknown if the server listens at all
    addresses."""
    if address.startswith(_UNIX):
        return address.removeprefix(_UNIX)
    host = address.rpartition(":")[0].strip("[]")
    return None if ipaddress.ip_address(host).is_unspecified else address


class _Methods(grpc.GenericRpcHandler):
    def __init__(self, handlers: Mapping[str, Any]) -> None:
        self._handlers = handlers

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        return self._handlers.get(handler_call_details.method)


async def _answer(method: Unary, request: bytes, context: Context) -> bytes:
    try:
        return await method.run(request)
    except CallRefused as refused:
        await _abort(context, refused)
        raise


# read() and write() instead of a generator: a generator whose stream breaks while it writes would be closed by the
# garbage collector, at an undefined time.
async def _stream(method: Streaming, local: Callable[[], str | None], _: object, context: Context) -> None:
    try:
        await method.run(_Call(context, local()))
    except CallRefused as refused:
        await _abort(context, refused)
    except PeerGone:
        # The cancellation of this task follows.
        await asyncio.sleep(0)


async def _abort(context: Context, refused: CallRefused) -> None:
    await context.abort(_CODES[refused.status], refused.details)


_CODES = {code.value[0]: code for code in grpc.StatusCode}


class _Call:
    cut = False
    """Always False: grpcio reports a stream that is reset while its method reads like a proper end."""

    def __init__(self, context: Context, local: str | None) -> None:
        self._context = context
        # grpcio refuses a message while another is on its way, with the error that it has for a peer that is gone.
        self._writing = asyncio.Lock()
        self.local = local
        metadata = context.invocation_metadata() or ()
        self.metadata = {key: value for key, value in metadata if isinstance(value, str)}

    async def read(self) -> bytes | None:
        message = await self._context.read()
        return None if message is aio.EOF else message

    async def write(self, message: bytes) -> None:
        try:
            async with self._writing:
                await self._context.write(message)
        # UsageError: the method has returned, and a task that it left, a guardrail's for example, writes after it.
        except (aio.InternalError, aio.UsageError) as exc:
            raise PeerGone from exc
