"""The transport by grpcio, the reference implementation: several times as dear for each message as `http2_transport`,
and the one to compare with where a peer and that one do not understand each other."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

import grpc
from grpc import aio

from .rpc import MAX_MESSAGE, MAX_STREAMS, CallRefused, PeerGone, Service, Streaming, Unary
from .transport import MutualTls

if TYPE_CHECKING:
    Context: TypeAlias = aio.ServicerContext[Any, Any]

OPTIONS: tuple[tuple[str, int], ...] = (
    ("grpc.max_receive_message_length", MAX_MESSAGE),
    ("grpc.max_send_message_length", MAX_MESSAGE),
    ("grpc.max_concurrent_streams", MAX_STREAMS),
    # Envoy pings every 30 s, also when nothing moves; gRPC's defaults would take that for abuse and hang up.
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 5_000),
    # Two workers at one address would each get some of the streams: the second one must fail.
    ("grpc.so_reuseport", 0),
)


class GrpcioServer:
    """`services` at one address. Made in a running loop."""

    def __init__(self, services: Iterable[Service], interceptors: Sequence[aio.ServerInterceptor] = ()) -> None:
        self._server = aio.server(options=OPTIONS, interceptors=tuple(interceptors))
        methods = {path: _handler(method) for service in services for path, method in service.methods.items()}
        self._server.add_generic_rpc_handlers((_Methods(methods),))

    def bind(self, address: str, tls: MutualTls | None) -> None:
        """Listens at `address`, as gRPC writes it. Raises OSError."""
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
        """Takes no more calls, lets the open ones go on for so many seconds, and cancels the rest."""
        await self._server.stop(grace)


class _Methods(grpc.GenericRpcHandler):
    def __init__(self, handlers: Mapping[str, Any]) -> None:
        self._handlers = handlers

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        return self._handlers.get(handler_call_details.method)


# No (de)serializer: messages stay bytes.
def _handler(method: Unary | Streaming) -> Any:
    if isinstance(method, Streaming):
        return grpc.stream_stream_rpc_method_handler(partial(_stream, method))
    return grpc.unary_unary_rpc_method_handler(partial(_answer, method))


async def _answer(method: Unary, request: bytes, context: Context) -> bytes:
    try:
        return await method.run(request)
    except CallRefused as refused:
        await _abort(context, refused)
        raise


# read() and write(), not a generator: a generator whose stream breaks off while its answer is being written is left to
# the garbage collector, and the method would end when that pleases.
async def _stream(method: Streaming, _: object, context: Context) -> None:
    try:
        await method.run(_Call(context))
    except CallRefused as refused:
        await _abort(context, refused)
    except PeerGone:
        # The cancellation is on its way.
        await asyncio.sleep(0)


async def _abort(context: Context, refused: CallRefused) -> None:
    await context.abort(_CODES[refused.status], refused.details)


_CODES = {code.value[0]: code for code in grpc.StatusCode}


class _Call:
    cut = False
    """A stream that is reset while its method waits for a message looks like one that ends."""

    def __init__(self, context: Context) -> None:
        self._context = context
        metadata = context.invocation_metadata() or ()
        self.metadata = {key: value for key, value in metadata if isinstance(value, str)}

    async def read(self) -> bytes | None:
        message = await self._context.read()
        return None if message is aio.EOF else message

    async def write(self, message: bytes) -> None:
        try:
            await self._context.write(message)
        except aio.InternalError as exc:
            raise PeerGone from exc
