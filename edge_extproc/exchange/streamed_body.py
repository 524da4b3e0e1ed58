"""The reader of a response body that is a stream."""

from __future__ import annotations

from collections.abc import Awaitable
from dataclasses import replace
from typing import TYPE_CHECKING

from ..codecs.content_encoding import Inflater
from ..errors import PolicyUnavailable, UpstreamError
from ..guardrails.base import VERDICT_SECONDS
from ..model.fault import Fault
from ..providers.base import Unframer
from .body_reader import BodyReader, Clock
from .commands import CONTINUE, Command, Continue, ImmediateResponse
from .events import ResponseBody
from .handler import MoreTime
from .operation import OperationResponse
from .relay import Relay, Tally

if TYPE_CHECKING:  # not loaded without rules
    from ..guardrails.base import ReplyServices

# Bytes. After an error, providers send at most the end of their stream, and after the end a comment or nothing.
_MOST_AFTER_END = 1 << 20
# Seconds. A reset discards what Envoy has not sent yet, and the caller must get the last event before it.
_LAST_DELIVERY = 1.0
STREAM_FAILED = "edge_stream_failed"
"""The response code details of a stream that goes on after it has failed."""
STREAM_ENDLESS = "edge_stream_endless"
"""Those of a stream that goes on after its last event."""
STREAM_BLOCKED = "edge_stream_blocked"
"""Those of a stream that goes on after a guardrail has ended it."""


class StreamedBody(BodyReader):
    """A stream. Each chunk is passed on when its frames are complete. After a failure nothing more is passed on. A
    provider that goes on sending after a failure or after the last event is cut off: the caller's stream is reset,
    because Envoy cannot end a response before its provider does, except in full duplex mode (docs/adr/255)."""

    __slots__ = (
        "_after_end",
        "_clock",
        "_ended_at",
        "_inflater",
        "_lost",
        "_relay",
        "_services",
        "_unframer",
        "asks",
        "first_token_at",
        "in_background",
        "in_full_duplex",
        "is_refused",
        "length",
        "operation",
        "tally",
    )

    def __init__(
        self,
        relay: Relay,
        inflater: Inflater | None,
        unframer: Unframer | None,
        clock: Clock,
        operation: OperationResponse | None = None,
        *,
        in_full_duplex: bool = False,
        services: ReplyServices | None = None,
    ) -> None:
        """`operation`: set for a stream that is not a chat. `services`: those of the relay's guard."""
        self.in_full_duplex: bool = in_full_duplex
        self.asks: bool = services is not None
        self.is_refused: bool = False
        self.in_background: bool = False
        self._services = services
        self._relay = relay
        self._inflater = inflater
        self._unframer = unframer
        self._clock = clock
        self._lost: tuple[str, ...] = ()
        self._after_end = 0
        """The number of bytes since the failure or the last event."""
        self._ended_at = 0.0
        self.operation = operation
        self.tally: Tally | None = relay.tally
        self.length = 0
        self.first_token_at: float | None = None

    @property
    def lost(self) -> tuple[str, ...]:
        return tuple(sorted(self._relay.tally.lost)) if self._relay.tally.lost else self._lost

    @property
    def is_cut(self) -> bool:
        return self.in_full_duplex and self._relay.tally.blocked

    def take(self, event: ResponseBody) -> Command:
        relay, out = self._relay, b""
        if relay.tally.blocked:
            return self._after_block(event)
        if relay.tally.failed is not None:
            return self._after_failure(event)
        if relay.tally.ended and self._is_endless(event):
            return ImmediateResponse(502, (), b"", STREAM_ENDLESS)
        try:
            data = self._inflater.feed(event.body) if self._inflater is not None else event.body
            if self._unframer is not None:
                out = relay.feed(self._unframer.feed(data))
                data = self._unframer.close() if event.end else b""
            out += relay.feed(data) + (relay.close() if event.end else b"")
        except UpstreamError as error:
            # The rest of the stream cannot be read: the caller gets an error event, and nothing after it.
            out += relay.fail(error.fault())
        return self._send(out, event)

    async def judged(self, event: ResponseBody, command: Command, more_time: MoreTime) -> Command | Fault:
        if self._services is None or not self._services.due or not isinstance(command, Continue):
            return command
        await more_time(VERDICT_SECONDS)
        return self._followed(event, command, await self._verdict(self._relay.judged()))

    async def _verdict(self, judged: Awaitable[bytes]) -> bytes:
        """The bytes that a verdict allows, or the error event that ends the stream."""
        try:
            return await judged
        except PolicyUnavailable as error:
            self.is_refused = True
            return self._relay.refuse(error.fault())

    def _followed(self, event: ResponseBody, command: Continue, out: bytes) -> Command:
        if not out:
            return command
        self.length += len(out)
        return replace(command, body=(event.body if command.body is None else command.body) + out)

    def _after_failure(self, event: ResponseBody) -> Command:
        if self._is_endless(event):
            return ImmediateResponse(502, (), b"", STREAM_FAILED)
        return self._send(b"", event)

    def _after_block(self, event: ResponseBody) -> Command:
        """Each further token costs, so the upstream is reset as soon as the caller has the last event."""
        if self._is_endless(event, most=0) and not event.end:
            return ImmediateResponse(502, (), b"", STREAM_BLOCKED)
        return self._send(b"", event)

    def _is_endless(self, event: ResponseBody, most: int = _MOST_AFTER_END) -> bool:
        """Whether the provider has sent too much since the stream was over."""
        if not self._after_end:
            self._ended_at = self._clock()
        self._after_end += len(event.body)
        return self._after_end > most and self._clock() - self._ended_at > _LAST_DELIVERY

    def _send(self, out: bytes, event: ResponseBody) -> Command:
        if self.first_token_at is None and (self._relay.tally.has_token or (out and self._has_no_tokens)):
            self.first_token_at = self._clock()
        self.length += len(out)
        return CONTINUE if out == event.body else Continue(body=out)

    @property
    def _has_no_tokens(self) -> bool:
        """Images and speech: the stream shows no tokens."""
        return self.operation is not None and not self.operation.has_text
