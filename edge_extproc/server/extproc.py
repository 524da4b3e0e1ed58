"""The ext_proc shell: pumps messages between one of Envoy's streams and its handler. It decides nothing.

One gRPC stream is one HTTP request (or, on the upstream level, one try of it). Each message gets exactly one answer.
However the stream ends, `closed` is called once; and whatever is raised, Envoy hears a fixed sentence and never the
text of an exception, which it would copy into its access log.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

import grpc
from grpc import aio

from ..errors import PeerError
from ..exchange.handler import Closing, Handler
from . import wire

if TYPE_CHECKING:
    Context: TypeAlias = aio.ServicerContext[Any, Any]

OpenStream: TypeAlias = Callable[[Mapping[str, str]], Handler]
"""Gives the handler of a new stream from its gRPC metadata. Raises PeerError where that says nothing we know."""

METHOD = "/envoy.service.ext_proc.v3.ExternalProcessor/Process"


class ExtProcService(grpc.GenericRpcHandler):
    """Add it to a server's generic handlers. `on_error` is told what was raised and not foreseen."""

    def __init__(self, open_stream: OpenStream, on_error: Callable[[BaseException], None]) -> None:
        self._open_stream = open_stream
        self._on_error = on_error
        self._stopping = False
        # No (de)serializer: messages stay bytes up to server/wire.py, where constant answers are serialized already.
        self._method: grpc.RpcMethodHandler[Any, Any] = grpc.stream_stream_rpc_method_handler(self._process)

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        return self._method if handler_call_details.method == METHOD else None

    def stop(self) -> None:
        """From now on, a stream that is cut was cut by us."""
        self._stopping = True

    async def _process(self, _: object, context: Context) -> None:
        try:
            await self._pump(self._open_stream(_texts(context.invocation_metadata())), context)
        # The last place where an exception can be kept from Envoy.
        except Exception as exc:  # noqa: BLE001
            self._on_error(exc)
            if isinstance(exc, PeerError):
                await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "protocol error")
            await context.abort(grpc.StatusCode.INTERNAL, "stream stopped")

    # read() and write(), not a generator: a generator whose stream breaks off while its answer is being written is left
    # to the garbage collector, and `closed` would come when that pleases.
    async def _pump(self, handler: Handler, context: Context) -> None:
        why: Closing = "error"

        async def more_time(seconds: float) -> None:
            await context.write(wire.more_time(seconds))

        handler.more_time = more_time
        try:
            while (message := await context.read()) is not aio.EOF:
                event = wire.to_event(message)
                for answer in wire.to_answers(event, await handler.handle(event)):
                    await context.write(answer)
            why = "done"
        except asyncio.CancelledError:
            why = self._cut()
            raise
        except aio.InternalError:
            # The stream was reset before our answer; the cancellation is on its way.
            why = self._cut()
        finally:
            handler.closed(why)

    def _cut(self) -> Closing:
        return "stopping" if self._stopping else "cancelled"


def _texts(metadata: Iterable[tuple[str, str | bytes]] | None) -> dict[str, str]:
    """Metadata that is text; what is not (a key that ends in -bin) is nothing that we ask Envoy to send."""
    return {key: value for key, value in metadata or () if isinstance(value, str)}
