"""The readers of response bodies: one class for each way in which a body goes from the provider to the caller.

The router chooses a class by the response headers, passes each chunk to it, and sends what it returns. A reader also
keeps the facts for settlement: the reply or the tally of a stream, the number of bytes, the time of the first token.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from ..codecs.content_encoding import Inflater, inflate
from ..codecs.content_type import media_type
from ..codecs.sse import is_stream
from ..dialects.base import Dialect
from ..dialects.dropping import lost_in
from ..errors import ErrorReply, ResponseTooLarge, UpstreamError
from ..guardrails.base import VERDICT_SECONDS
from ..model.fault import Fault
from ..model.reply import Reply, ReplyEvent, fold
from ..model.reply_summary import ReplySummary, summary_of
from ..providers.base import Unframer
from .account_faults import for_caller
from .body_limits import BodyLimits
from .body_reader import BodyReader, Clock
from .commands import CONTINUE, Command, Continue, Pairs
from .events import ResponseBody
from .handler import MoreTime
from .headers import dropped_fields
from .json_answers import NOT_JSON, json_reply
from .operation import OperationResponse
from .relay import MALFORMED, UNREADABLE, Relay, Tally, as_stream, is_lost
from .reply_calls import ReplyCalls
from .response_head import Answered
from .streamed_body import StreamedBody

if TYPE_CHECKING:  # not loaded without rules
    from ..guardrails.base import ReplyGuard, ReplyServices

# Trusted content types: JSON, and error pages.
_EXPLICIT_TYPES = ("application/json", "text/html", "application/xml", "text/xml")


class PassedBody(BodyReader):
    """A body that the gateway does not see."""

    __slots__ = ("operation",)
    unseen = True

    def __init__(self, operation: OperationResponse | None = None) -> None:
        self.operation = operation


class TappedBody(BodyReader):
    """A body that passes unchanged. Its usage is read at its end."""

    __slots__ = ("_clock", "_encoding", "first_token_at", "length", "operation")

    def __init__(self, operation: OperationResponse, encoding: str | None, clock: Clock) -> None:
        self.operation: OperationResponse = operation
        self._encoding = encoding
        self._clock = clock
        self.length = 0
        self.first_token_at: float | None = None

    def take(self, event: ResponseBody) -> Command:
        self.operation.tap(event.body, end=event.end, encoding=self._encoding)
        if event.body and self.first_token_at is None:
            self.first_token_at = self._clock()
        self.length += len(event.body)
        return CONTINUE


class OperationBody(BodyReader):
    """A complete response of an operation other than chat, rewritten for the caller if its format differs."""

    __slots__ = ("_encoding", "length", "operation")
    is_whole = True

    def __init__(self, operation: OperationResponse, encoding: str | None) -> None:
        self.operation: OperationResponse = operation
        self._encoding = encoding
        self.length = 0

    def take(self, event: ResponseBody) -> Command | Fault:
        body = self.operation.whole(plain(event.body, self._encoding))
        self.length = len(body)
        return whole_body(body, event.body)


class UnnamedBody(StreamedBody):
    """A body whose content type does not show whether it is a stream, for a caller that requested one. The first bytes
    decide. A body that is not a stream is buffered until it is complete."""

    __slots__ = ("_answered", "_guard", "_held", "_json", "_longest", "_reply", "_streams", "_unjudged", "summary")

    def __init__(
        self,
        answered: Answered,
        relay: Relay,
        inflater: Inflater | None,
        clock: Clock,
        longest: int,
        *,
        json: bool = False,
        guard: ReplyGuard | None = None,
        in_full_duplex: bool = False,
    ) -> None:
        """`longest`: how many bytes are buffered at most. `json`: a complete reply must be a JSON object."""
        services = guard.services if guard is not None else None
        super().__init__(relay, inflater, None, clock, in_full_duplex=in_full_duplex, services=services)
        self._unjudged: Reply | None = None
        """A complete reply that waits for its verdict."""
        self._json = json
        self._guard = guard
        self._longest = longest
        self._answered = answered
        self._held = bytearray()
        self._streams = False
        self._reply: Reply | None = None
        self.summary: ReplySummary | None = None

    @property
    def reply(self) -> Reply | None:
        return self._reply

    def take(self, event: ResponseBody) -> Command:
        if self._streams:
            return super().take(event)
        if self._relay.tally.failed is not None:
            return self._after_failure(event)
        try:
            out = self._begin(self._inflater.feed(event.body) if self._inflater is not None else event.body, event.end)
        except UpstreamError as error:
            out = self._relay.fail(for_caller(error.fault()))
        if self._streams:
            return self._send(out, event)
        self.length += len(out)
        return Continue(body=out)

    def _begin(self, data: bytes, end: bool) -> bytes:
        self._held += data
        if is_stream(self._held):
            self._streams = True
            return self._relay.feed(bytes(self._held)) + (self._relay.close() if end else b"")
        if len(self._held) > self._longest:
            self._held.clear()
            fault = UpstreamError(f"the provider sent over {self._longest} bytes that are not a stream").fault()
            return self._relay.fail(fault)
        return self._as_stream(bytes(self._held)) if end and self._relay.tally.failed is None else b""

    def _as_stream(self, body: bytes) -> bytes:
        """A complete reply as the stream that the caller requested."""
        answered = self._answered
        self._reply = reply = _complete(answered.dialect.read_reply(body), answered)
        self.summary = summary_of(reply)
        if answered.dialect.name != answered.caller_dialect.name and _is_malformed(reply):
            return self._relay.fail(MALFORMED)
        if self._json:
            checked = json_reply(reply)
            if checked is None:
                return self._relay.fail(NOT_JSON)
            self._reply = reply = checked
        self._lost, self.tally = lost_in(reply, answered.caller_dialect), None
        if self._services is not None:
            self._unjudged = reply
            return b""
        return self._checked(self._guard.complete(reply) if self._guard is not None else reply)

    def _checked(self, reply: Reply) -> bytes:
        if self._guard is not None and self._guard.blocked is not None:
            self._reply, self.summary = reply, summary_of(reply)
        return as_stream(_for_caller(reply, self._answered), self._answered.call, self._answered.caller_dialect)[0]

    async def judged(self, event: ResponseBody, command: Command, more_time: MoreTime) -> Command | Fault:
        reply, self._unjudged = self._unjudged, None
        if reply is None or self._services is None or not isinstance(command, Continue):
            return await super().judged(event, command, more_time)
        await more_time(VERDICT_SECONDS)
        return self._followed(event, command, await self._verdict(self._judged_stream(self._services, reply)))

    async def _judged_stream(self, services: ReplyServices, reply: Reply) -> bytes:
        return self._checked(await services.judged_reply(reply))


class ReplyBody(BodyReader):
    """A reply that is buffered until it is complete. It becomes a stream if the caller requested one, and a stream
    becomes a complete reply if the caller did not. A reply that passes unchanged is parsed in full only if its content
    is needed."""

    __slots__ = (
        "_answered",
        "_guard",
        "_json",
        "_reply",
        "_streamed",
        "_unframer",
        "_unjudged",
        "_with_content",
        "asks",
        "in_background",
        "length",
        "lost",
        "raw",
        "summary",
    )
    is_whole = True

    def __init__(
        self,
        answered: Answered,
        unframer: Unframer | None,
        *,
        streamed: bool,
        with_content: bool = False,
        json: bool = False,
        guard: ReplyGuard | None = None,
    ) -> None:
        """`streamed`: the content type says that the reply comes as a stream. `with_content`: the cache or a trace will
        need the content. `json`: the reply must be a JSON object."""
        self._guard = guard
        self.asks: bool = guard is not None and guard.services is not None
        self._unjudged: Reply | None = None
        """The reply that waits for its verdict."""
        self._json = json
        self._answered = answered
        self._with_content = with_content
        self._unframer = unframer
        self._streamed = streamed
        self.in_background = False
        self.length = 0
        self.lost: tuple[str, ...] = ()
        self._reply: Reply | None = None
        self.summary: ReplySummary | None = None
        self.raw: bytes | None = None

    @property
    def reply(self) -> Reply | None:
        if self._reply is None and self.raw is not None:
            self._reply = _complete(self._answered.dialect.read_reply(self.raw), self._answered)
        return self._reply

    def take(self, event: ResponseBody) -> Command | Fault:
        answered = self._answered
        call, caller_dialect, dialect = answered.call, answered.caller_dialect, answered.dialect
        body = plain(event.body, answered.head.values.get("content-encoding"), self._unframer)
        if self._streamed or (streams_events(dialect) and is_stream(body)):
            events = read_stream(dialect, body)
            self._reply = reply = _complete(fold(dialect.name, events), answered)
            self.summary = summary_of(reply)
            fault = fault_in(events)
            if fault is not None:
                return for_caller(fault)
        elif dialect.name == caller_dialect.name and not call.stream and self._guard is None:
            return self._pass(body, event.body)
        else:
            try:
                self._reply = reply = _complete(dialect.read_reply(body), answered)
            except ErrorReply as error:
                return for_caller(error.fault())
            self.summary, self.raw = summary_of(reply), body
        if dialect.name != caller_dialect.name and _is_malformed(reply):
            return MALFORMED
        if self._json:
            checked = json_reply(reply)
            if checked is None:
                return NOT_JSON
            if checked is not reply:
                self._reply, self.raw = checked, None
            reply = checked
        self.lost = lost_in(reply, caller_dialect)
        if self._guard is None:
            return self._written(reply, event)
        if self.asks:
            self._unjudged = reply
            return CONTINUE
        return self._guarded(self._guard, reply, self._guard.complete(reply), event)

    async def judged(self, event: ResponseBody, command: Command, more_time: MoreTime) -> Command | Fault:
        reply, guard = self._unjudged, self._guard
        if reply is None or guard is None or guard.services is None:
            return command
        await more_time(VERDICT_SECONDS)
        return self._guarded(guard, reply, await guard.services.judged_reply(reply), event)

    def _guarded(self, guard: ReplyGuard, reply: Reply, checked: Reply, event: ResponseBody) -> Command:
        """The command with the checked reply. The cache gets the provider's, but not if it is blocked."""
        answered, raw = self._answered, self.raw
        if guard.blocked is not None:
            self._reply, self.raw, self.summary = checked, None, summary_of(checked)
        elif checked == reply and raw is not None and _is_own(answered) and not answered.call.stream:
            return self._unchanged(raw, event.body)
        return self._written(checked, event)

    def _written(self, reply: Reply, event: ResponseBody) -> Command:
        answered = self._answered
        call, caller_dialect = answered.call, answered.caller_dialect
        reply = _for_caller(reply, answered)
        if call.stream:
            out, content_type = as_stream(reply, call, caller_dialect)
            sent = None
        else:
            out = caller_dialect.write_reply(reply if reply.call is call else replace(reply, call=call))
            content_type, sent = "application/json", event.body
        self.length = len(out)
        dropped = dropped_fields((*answered.dropped, *self.lost)) if self.lost else ()
        return whole_body(out, sent, content_type, dropped)

    def _unchanged(self, body: bytes, buffered: bytes) -> Command:
        self.length = len(body)
        return whole_body(body, buffered)

    def _pass(self, body: bytes, buffered: bytes) -> Command | Fault:
        """The reply as it is. `buffered`: the body that Envoy buffers now."""
        answered = self._answered
        summary = None if self._with_content else answered.dialect.read_summary(body)
        if summary is None:
            try:
                self._reply = _complete(answered.dialect.read_reply(body), answered)
            except ErrorReply as error:
                return for_caller(error.fault())
            summary = summary_of(self._reply)
        elif not summary.model:
            summary = replace(summary, model=answered.candidate.model)
        self.summary, self.raw = summary, body
        return self._unchanged(body, buffered)


class UpstreamErrorBody(BodyReader):
    """The body of an error response."""

    __slots__ = ("_encoding", "_read")
    is_whole = True

    def __init__(self, read: Callable[[bytes], Fault], encoding: str | None) -> None:
        """`read` converts the plain body into a fault."""
        self._read = read
        self._encoding = encoding

    def take(self, event: ResponseBody) -> Fault:
        return self._read(plain(event.body, self._encoding))


class ReplacedBody(BodyReader):
    """A body that an error replaces, whatever it contains."""

    __slots__ = ("_fault",)

    def __init__(self, fault: Fault) -> None:
        self._fault = fault

    def take(self, event: ResponseBody) -> Fault:
        del event
        return self._fault


def take_whole(body: BodyReader, event: ResponseBody, limits: BodyLimits) -> Command | Fault:
    """The command for a complete body, or for a chunk of another one."""
    if not body.is_whole:
        return body.take(event)
    try:
        limits.check_response(len(event.body))
    except ResponseTooLarge as error:
        return error.fault()
    return body.take(event)


def plain(body: bytes, encoding: str | None, unframer: Unframer | None = None) -> bytes:
    """A complete body without its content encoding and framing. Raises UpstreamError."""
    body = inflate(encoding, body)
    return body if unframer is None else unframer.feed(body) + unframer.close()


def streams_events(dialect: Dialect) -> bool:
    return media_type(dialect.stream_type) == "text/event-stream"


def may_be_events(dialect: Dialect, content_type: str) -> bool:
    """Whether only the body can show if it is a stream. Hosts and proxies send streams as text/plain, as bytes, or
    without a content type."""
    kind = media_type(content_type)
    return streams_events(dialect) and kind not in _EXPLICIT_TYPES and not kind.endswith("+json")


def _complete(reply: Reply, answered: Answered) -> Reply:
    """The reply with its call, and with an id, a model and a time if it has none."""
    return reply.completed(*answered.id_and_model, answered.began_at, answered.call)


def _for_caller(reply: Reply, answered: Answered) -> Reply:
    """The reply with the caller's names of tools, if it is translated."""
    return reply if _is_own(answered) else ReplyCalls(answered.parsed).reply(reply)


def _is_own(answered: Answered) -> bool:
    """Whether the caller's format is the provider's."""
    return answered.dialect.name == answered.caller_dialect.name


def _is_malformed(reply: Reply) -> bool:
    return any(choice.finish is not None and choice.finish.reason == "malformed" for choice in reply.choices)


def read_stream(dialect: Dialect, body: bytes) -> list[ReplyEvent]:
    reader = dialect.reader(dialect.stream_type)
    events = [event for frame in reader.frames(body) for event in reader.read(frame)]
    return events + reader.close()[1]


def fault_in(events: list[ReplyEvent]) -> Fault | None:
    tally = Tally()
    for event in events:
        tally.note(event)
    return tally.failed or (UNREADABLE if is_lost(tally) else None)


def whole_body(
    body: bytes, buffered: bytes | None, content_type: str = "application/json", more: Pairs = ()
) -> Command:
    """The complete response body. `buffered`: the body that Envoy buffers now. None: it is not compared."""
    if body == buffered:
        return CONTINUE
    to_set: Pairs = (("content-type", content_type), ("content-length", str(len(body))), *more)
    return Continue(set_headers=to_set, remove_headers=("content-encoding",), body=body)
