"""The ext_proc shell: pumps messages between one of Envoy's streams and its handler. It decides nothing.

One gRPC stream is one HTTP request (or, on the upstream level, one try of it). Each message gets exactly one answer.
However the stream ends, `closed` is called once; and whatever is raised, Envoy hears a fixed sentence and never the
text of an exception, which it would copy into its access log.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import TypeAlias

from ..errors import PeerError
from ..exchange.handler import Closing, Handler
from . import wire
from .rpc import CallRefused, Methods, PeerGone, RpcCall, Status, Streaming

OpenStream: TypeAlias = Callable[[Mapping[str, str]], Handler]
"""Gives the handler of a new stream from its gRPC metadata. Raises PeerError where that says nothing we know."""

METHOD = "/envoy.service.ext_proc.v3.ExternalProcessor/Process"


class ExtProcService:
    """`on_error` is told what was raised and not foreseen."""

    def __init__(self, open_stream: OpenStream, on_error: Callable[[BaseException], None]) -> None:
        self.methods: Methods = {METHOD: Streaming(self._process)}
        self._open_stream = open_stream
        self._on_error = on_error
        self._stopping = False

    def stop(self) -> None:
        """From now on, a stream that is cut was cut by us."""
        self._stopping = True

    async def _process(self, call: RpcCall) -> None:
        try:
            await self._pump(self._open_stream(call.metadata), call)
        # The last place where an exception can be kept from Envoy.
        except Exception as exc:
            self._on_error(exc)
            if isinstance(exc, PeerError):
                raise CallRefused(Status.INVALID_ARGUMENT, "protocol error") from exc
            raise CallRefused(Status.INTERNAL, "stream stopped") from exc

    async def _pump(self, handler: Handler, call: RpcCall) -> None:
        why: Closing = "error"

        async def more_time(seconds: float) -> None:
            await call.write(wire.more_time(seconds))

        handler.more_time = more_time
        try:
            while (message := await call.read()) is not None:
                event = wire.to_event(message)
                for answer in wire.to_answers(event, await handler.handle(event)):
                    await call.write(answer)
            why = self._cut() if call.cut else "done"
        except asyncio.CancelledError:
            why = self._cut()
            raise
        except PeerGone:
            # The stream was reset before our answer.
            why = self._cut()
        finally:
            handler.closed(why)

    def _cut(self) -> Closing:
        return "stopping" if self._stopping else "cancelled"
