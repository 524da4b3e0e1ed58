"""The gRPC service for ext_proc: passes messages between a stream of Envoy and its handler. It decides nothing.

One gRPC stream is one HTTP request or, for the upstream filters, one attempt. `closed` of the handler is called exactly
once, however the stream ends. After an exception, Envoy gets a fixed text and not the exception's, because Envoy would
copy it to its access log.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import TypeAlias

from ..errors import PeerError
from ..exchange.commands import Command
from ..exchange.events import ResponseHeaders
from ..exchange.handler import Closing, Handler
from . import wire
from .rpc import CallRefused, Methods, PeerGone, RpcCall, Status, Streaming

OpenStream: TypeAlias = Callable[[Mapping[str, str], str | None], Handler]
"""Returns the handler of a new stream, for its gRPC metadata and the address at which Envoy has reached this worker.
Raises PeerError if the metadata is invalid, and CallRefused if the stream must not begin."""

# An immediate response is the same for each event.
_ANY = ResponseHeaders((), False)

METHOD = "/envoy.service.ext_proc.v3.ExternalProcessor/Process"


class ExtProcService:
    """`on_error` is called with each unexpected exception."""

    def __init__(
        self,
        open_stream: OpenStream,
        on_error: Callable[[BaseException], None],
        is_broken: Callable[[str], Awaitable[bool]] | None = None,
    ) -> None:
        """`is_broken` tells, after the stream of an exchange has ended, whether the provider's connection broke. None:
        nobody knows."""
        self.methods: Methods = {METHOD: Streaming(self._process)}
        self._open_stream = open_stream
        self._on_error = on_error
        self._is_broken = is_broken
        self._stopping = False
        self._open = 0
        self._none_open = asyncio.Event()

    def stop(self) -> None:
        """Marks the service as stopping: streams that are cut from now on count as stopped, not as cancelled by the
        peer."""
        self._stopping = True

    async def drained(self) -> None:
        """Waits until no stream is open. An exchange has an open stream until it ends, also between two attempts."""
        while self._open:
            self._none_open.clear()
            await self._none_open.wait()

    async def _process(self, call: RpcCall) -> None:
        self._open += 1
        try:
            await self._pump(self._open_stream(call.metadata, call.local), call)
        except CallRefused:
            raise
        # The last place to keep an exception's text from Envoy.
        except Exception as exc:
            self._on_error(exc)
            if isinstance(exc, PeerError):
                raise CallRefused(Status.INVALID_ARGUMENT, "protocol error") from exc
            raise CallRefused(Status.INTERNAL, "stream stopped") from exc
        finally:
            self._open -= 1
            if not self._open:
                self._none_open.set()

    async def _pump(self, handler: Handler, call: RpcCall) -> None:
        why: Closing = "error"

        async def more_time(seconds: float) -> None:
            await call.write(wire.more_time(seconds))

        async def interrupt(command: Command) -> None:
            with suppress(PeerGone):
                await call.write(wire.to_answer(_ANY, command))

        handler.more_time, handler.interrupt = more_time, interrupt
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
            # The stream was reset before the answer was sent.
            why = self._cut()
        finally:
            try:
                if why != "stopping":  # then the process may end before what waits
                    why = await self._cause(handler, why)
                    await handler.before_close()
            finally:
                handler.closed(why)

    async def _cause(self, handler: Handler, why: Closing) -> Closing:
        exchange = handler.unfinished
        if why == "error" or exchange is None or self._is_broken is None:
            return why
        return "broken" if await self._is_broken(exchange) else why

    def _cut(self) -> Closing:
        return "stopping" if self._stopping else "cancelled"
