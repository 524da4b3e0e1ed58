"""The readers of response bodies: one class for each way in which a body goes from the provider to the caller.

The router chooses a class by the response headers, passes each chunk to it, and sends what it returns. A reader also
keeps the facts for settlement: the reply or the tally of a stream, the number of bytes, the time of the first token.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TypeAlias

from ..codecs.content_encoding import Inflater, inflate
from ..codecs.content_type import media_type
from ..codecs.sse import is_stream
from ..dialects.base import Dialect
from ..dialects.dropping import lost_in
from ..errors import ErrorReply, UpstreamError
from ..model.fault import Fault
from ..model.reply import Reply, ReplyEvent, fold
from ..model.reply_summary import ReplySummary, summary_of
from ..providers.base import Unframer
from .account_faults import for_caller
from .commands import CONTINUE, Command, Continue, ImmediateResponse, Pairs
from .events import ResponseBody
from .headers import dropped_fields
from .json_answers import NOT_JSON, json_reply
from .operation import OperationResponse
from .relay import MALFORMED, UNREADABLE, Relay, Tally, as_stream, is_lost
from .reply_calls import ReplyCalls
from .response_head import Answered

Clock: TypeAlias = Callable[[], float]
"""Monotonic, in seconds."""

# Trusted content types: JSON, and error pages.
_EXPLICIT_TYPES = ("application/json", "text/html", "application/xml", "text/xml")


class BodyReader:
    """The interface of all readers. A class attribute is the value for a reader without this fact."""

    __slots__ = ()

    length: int = 0
    """Bytes that went to the caller."""
    first_token_at: float | None = None
    """The time of a stream's first text, thinking or tool call, by the monotonic clock. For a reply without them (an
    image, speech), the time of its first byte."""
    tally: Tally | None = None
    """Of a stream."""
    summary: ReplySummary | None = None
    """Of a chat whose reply came whole."""
    raw: bytes | None = None
    """The complete reply in the provider's format, if there is one."""
    operation: OperationResponse | None = None
    """The reply of an operation other than chat."""
    is_whole: bool = False
    """Envoy buffers the complete body, so the limit for responses applies."""
    unseen: bool = False
    """The body bypasses the gateway: Envoy may close the stream before the body ends."""

    @property
    def reply(self) -> Reply | None:
        """The content of a chat's reply that came whole."""
        return None

    @property
    def lost(self) -> tuple[str, ...]:
        """Parts of the reply that the caller's dialect has no place for, sorted."""
        return ()

    def take(self, event: ResponseBody) -> Command | Fault:
        """The bytes for the caller. A fault: the response is an error, and the router writes it. Raises UpstreamError
        if a complete body cannot be read."""
        del event
        return CONTINUE


NO_BODY = BodyReader()


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

    def take(self, event: ResponseBody) -> Command:
        body = self.operation.whole(plain(event.body, self._encoding))
        self.length = len(body)
        return _whole(body, event.body)


# Bytes. After an error, providers send at most the end of their stream, and after the end a comment or nothing.
_MOST_AFTER_END = 1 << 20
# Seconds. A reset discards what Envoy has not sent yet, and the caller must get the last event before it.
_LAST_DELIVERY = 1.0
STREAM_FAILED = "edge_stream_failed"
"""The response code details of a stream that goes on after it has failed."""
STREAM_ENDLESS = "edge_stream_endless"
"""Those of a stream that goes on after its last event."""


class StreamedBody(BodyReader):
    """A stream. Each chunk is passed on when its frames are complete. After a failure nothing more is passed on. A
    provider that goes on sending after a failure or after the last event is cut off: the caller's stream is reset,
    because Envoy cannot end a response before its provider does."""

    __slots__ = (
        "_after_end",
        "_clock",
        "_ended_at",
        "_inflater",
        "_lost",
        "_relay",
        "_unframer",
        "first_token_at",
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
    ) -> None:
        """`operation`: set for a stream that is not a chat."""
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

    def take(self, event: ResponseBody) -> Command:
        relay, out = self._relay, b""
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

    def _after_failure(self, event: ResponseBody) -> Command:
        if self._is_endless(event):
            return ImmediateResponse(502, (), b"", STREAM_FAILED)
        return self._send(b"", event)

    def _is_endless(self, event: ResponseBody) -> bool:
        """Whether the provider has sent too much since the stream was over."""
        if not self._after_end:
            self._ended_at = self._clock()
        self._after_end += len(event.body)
        return self._after_end > _MOST_AFTER_END and self._clock() - self._ended_at > _LAST_DELIVERY

    def _send(self, out: bytes, event: ResponseBody) -> Command:
        if self.first_token_at is None and (self._relay.tally.has_token or (out and self._has_no_tokens)):
            self.first_token_at = self._clock()
        self.length += len(out)
        return CONTINUE if out == event.body else Continue(body=out)

    @property
    def _has_no_tokens(self) -> bool:
        """Images and speech: the stream shows no tokens."""
        return self.operation is not None and not self.operation.has_text


class UnnamedBody(StreamedBody):
    """A body whose content type does not show whether it is a stream, for a caller that requested one. The first bytes
    decide. A body that is not a stream is buffered until it is complete."""

    __slots__ = ("_answered", "_held", "_json", "_longest", "_reply", "_streams", "summary")

    def __init__(
        self,
        answered: Answered,
        relay: Relay,
        inflater: Inflater | None,
        clock: Clock,
        longest: int,
        *,
        json: bool = False,
    ) -> None:
        """`longest`: how many bytes are buffered at most. `json`: a complete reply must be a JSON object."""
        super().__init__(relay, inflater, None, clock)
        self._json = json
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
        return as_stream(_for_caller(reply, answered), answered.call, answered.caller_dialect)[0]


class ReplyBody(BodyReader):
    """A reply that is buffered until it is complete. It becomes a stream if the caller requested one, and a stream
    becomes a complete reply if the caller did not. A reply that passes unchanged is parsed in full only if its content
    is needed."""

    __slots__ = (
        "_answered",
        "_json",
        "_reply",
        "_streamed",
        "_unframer",
        "_with_content",
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
    ) -> None:
        """`streamed`: the content type says that the reply comes as a stream. `with_content`: the cache or a trace will
        need the content. `json`: the reply must be a JSON object."""
        self._json = json
        self._answered = answered
        self._with_content = with_content
        self._unframer = unframer
        self._streamed = streamed
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
        elif dialect.name == caller_dialect.name and not call.stream:
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
        reply = _for_caller(reply, answered)
        if call.stream:
            out, content_type = as_stream(reply, call, caller_dialect)
            sent = None
        else:
            out = caller_dialect.write_reply(replace(reply, call=call))
            content_type, sent = "application/json", event.body
        self.length = len(out)
        dropped = dropped_fields((*answered.dropped, *self.lost)) if self.lost else ()
        return _whole(out, sent, content_type, dropped)

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
        self.summary, self.raw, self.length = summary, body, len(body)
        return _whole(body, buffered)


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
    if reply.id and reply.model and reply.created:
        return reply
    id, model = answered.id_and_model
    created = reply.created or answered.began_at
    return replace(reply, id=reply.id or id, model=reply.model or model, created=created)


def _for_caller(reply: Reply, answered: Answered) -> Reply:
    """The reply with the caller's names of tools, if it is translated."""
    is_own = answered.dialect.name == answered.caller_dialect.name
    return reply if is_own else ReplyCalls(answered.parsed).reply(reply)


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


def _whole(body: bytes, buffered: bytes | None, content_type: str = "application/json", more: Pairs = ()) -> Command:
    """The complete response body. `buffered`: the body that Envoy buffers now. None: it is not compared."""
    if body == buffered:
        return CONTINUE
    to_set: Pairs = (("content-type", content_type), ("content-length", str(len(body))), *more)
    return Continue(set_headers=to_set, remove_headers=("content-encoding",), body=body)
