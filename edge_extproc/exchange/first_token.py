"""The first-token guard: it observes one attempt of a guarded exchange from its request to its first token.

The guard holds a stream until its first token, and a reply until it is complete. A failure before that (an error inside
the stream, an empty stream, an unreadable response) becomes an HTTP error, so that Envoy retries with the next
candidate and the caller does not notice. After the first token the provider's bytes pass unchanged, and the router
level writes the errors.

The guard also holds an error response if the configuration has a fallback model for such errors. The candidates of that
model then become the rest of the plan.

The response body is in full duplex mode: Envoy sends chunks without waiting for answers. A stall or a broken connection
before the first token needs no action: for Envoy, no response has begun.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from ..codecs.content_encoding import Inflater, inflate
from ..codecs.content_type import media_type
from ..codecs.sse import is_stream
from ..dialects.base import Dialect, StreamReader, retry_after
from ..errors import BadRequest, PeerError, Unavailable, UpstreamError
from ..model.fault import Fault
from ..model.plan import NO_FALLBACK, AccountProblem, AttemptResult, Candidate
from ..model.reply import Ended, Failed, Finished, PartDelta, PartStarted, ReplyEvent
from ..providers.base import Unframer
from .account_faults import MAY_HIDE_ONE, STATUSES, account_problem, for_caller
from .adapt import adapt, format_of
from .attempt import Attempt, encode_attempt, find_attempt, lost
from .commands import CONTINUE, HOLD, Command, Continue, ImmediateResponse, Pass, Release
from .events import (
    Event,
    RequestBody,
    RequestHeaders,
    RequestTrailers,
    ResponseBody,
    ResponseHeaders,
    ResponseTrailers,
)
from .handler import Closing, Interrupt, MoreTime, no_interrupt, no_more_time
from .headers import first, status_of
from .open import OpenExchanges
from .ports import Gateway
from .relay import UNREADABLE, Tally, is_lost
from .response_bodies import fault_in, read_stream, streams_events
from .states import GUARD, State, StreamOrder
from .verdicts import is_failing

# Bytes. The longest beginning of a stream without a token is the repeated request of `response.created`. A longer one
# is released, because the guard must not buffer a whole response.
MAX_HELD = 1 << 20

# The share of an attempt's time after which a stream that is alive is passed on without its first token.
_PATIENCE = 0.5

_EMPTY_STREAM = Fault(502, "api", "the provider's stream ended before its first token", "empty_stream")

REFUSED = "edge_first_token"
"""Response code details of a response that the guard refused when no candidate was left."""

# Envoy does not retry a response with this header, because `envoy-ratelimited` is not in the route's retry_on.
_NO_RETRY = ("x-envoy-ratelimited", "true")


class GuardExchange:
    """One attempt. It writes to the attempt log of its exchange, and replaces the rest of the plan for a fallback."""

    def __init__(self, gateway: Gateway, open_exchanges: OpenExchanges) -> None:
        self.more_time: MoreTime = no_more_time
        self.interrupt: Interrupt = no_interrupt
        self._gateway = gateway
        self._open_exchanges = open_exchanges
        self._order = StreamOrder(GUARD)
        self._try: Attempt | None = None
        self._status = 0
        self._headers: tuple[tuple[str, str], ...] = ()
        self._holding: _StreamBeginning | _WholeReply | _ErrorResponse | None = None

    async def handle(self, event: Event) -> Command:
        self._order.advance(event)
        match event:
            case RequestHeaders():
                return await self._request_headers(event)
            case ResponseHeaders():
                return self._response_headers(event)
            case ResponseBody():
                return self._response_body(event)
            case ResponseTrailers():
                return CONTINUE
            case RequestBody() | RequestTrailers():  # pragma: no cover - not in GUARD
                raise PeerError(f"{type(event).__name__} at the guard")

    unfinished = None

    async def before_close(self) -> None:
        """Does nothing."""

    def closed(self, why: Closing) -> None:
        """Nothing to settle: the router exchange does."""

    # --- the request

    async def _request_headers(self, event: RequestHeaders) -> Command:
        attempt = self._try = find_attempt(event, self._open_exchanges)
        if attempt is None:
            return lost(self._gateway)
        self._gateway = attempt.exchange.gateway
        # The router level has written the first request, for the first candidate.
        is_encoded = attempt.number == 1 and attempt.candidate == attempt.exchange.plan.at(1)
        return CONTINUE if is_encoded else await encode_attempt(event, attempt)

    # --- the response

    def _response_headers(self, event: ResponseHeaders) -> Command:
        attempt = self._try
        if attempt is None:
            return CONTINUE
        self._headers = event.headers
        written = first(event.headers, ":status")
        self._status = status_of(written)
        if written is not None and str(self._status) != written:
            # Envoy retries 502, and does not know the other one.
            return self._failed(Fault(502, "api", f"the provider answered with status {written}", "upstream_error"))
        if self._status >= 400:
            if self._reads_error(attempt) and not event.end:
                self._holding = _ErrorResponse()
                return HOLD
            return self._error_answer(self._fault_in(b"") if self._status in STATUSES else None)
        if event.end:
            return self._failed(Fault(502, "api", "the provider answered without a body", "empty_answer"))
        try:
            inflater = Inflater.of(first(event.headers, "content-encoding"))
        except UpstreamError as error:
            return self._failed(error.fault())
        held_whole = not attempt.exchange.call.stream
        self._holding = self._stream(attempt, inflater) or _WholeReply(
            self._dialect(attempt), inflater, whole=held_whole
        )
        return HOLD

    def _reads_error(self, attempt: Attempt) -> bool:
        """Whether the body of an error response decides what follows."""
        may_be_ours = self._status in MAY_HIDE_ONE and not self._is_last()
        return bool(attempt.exchange.plan.fallback) or may_be_ours

    def _stream(self, attempt: Attempt, inflater: Inflater | None) -> _StreamBeginning | None:
        """None: the response is not a stream, by its content type or by the request."""
        theirs = self._dialect(attempt)
        content_type = first(self._headers, "content-type") or ""
        unframer = self._gateway.providers[attempt.candidate.provider].unframe(theirs.name, content_type)
        content_type = content_type if unframer is None else theirs.stream_type
        is_stream = attempt.exchange.call.stream and media_type(content_type) == media_type(theirs.stream_type)
        return _StreamBeginning(theirs.reader(content_type), inflater, unframer) if is_stream else None

    def _response_body(self, event: ResponseBody) -> Command:
        response = self._holding
        if self._order.state is State.REPLIED:
            return HOLD
        match response:
            case None:
                return Pass(event.body, event.end)
            case _ErrorResponse():
                return self._error_body(response, event)
            case _StreamBeginning() | _WholeReply():
                fault = response.feed(event)
        if fault is not None:
            return self._failed(fault)
        if response.has_output or response.length > MAX_HELD or self._is_slow(event):
            self._holding = None
            return Release(body=response.take(), end=event.end)
        return HOLD

    def _is_slow(self, event: ResponseBody) -> bool:
        """Whether a stream that is alive needs more time than an attempt has until its response begins. Its role chunk,
        pings and comments show that it is alive, and Envoy does not see them while they are held. A hedged attempt is
        not cut, so it may wait."""
        attempt = self._known()
        plan, began = attempt.exchange.plan, attempt.exchange.journal.began.get(attempt.number)
        if event.end or not event.body or plan.try_timeout is None or plan.hedged or began is None:
            return False
        return self._gateway.clock.monotonic() - began > plan.try_timeout * _PATIENCE

    def _error_body(self, response: _ErrorResponse, event: ResponseBody) -> Command:
        response.parts.append(event.body)
        response.length += len(event.body)
        if not event.end and response.length <= MAX_HELD:
            return HOLD
        self._holding = None
        body = b"".join(response.parts)
        answer = self._error_answer(self._fault_in(body))
        return Release(answer.set_headers, body=body, end=event.end, order=answer.order)

    # --- the decision

    def _error_answer(self, fault: Fault | None) -> Continue:
        """Passes a response with an error status. Envoy decides by the status whether to retry. `fault`: the content of
        the body, where it was read."""
        attempt = self._known()
        plan = attempt.exchange.plan
        problem = account_problem(fault) if fault is not None else None
        self._note(str(self._status), retry_after(self._headers), problem)
        fallback = self._fallback(fault) if fault is not None else ()
        if problem is not None and attempt.number < len(plan.candidates) and not self._is_last():
            return Continue(((":status", "503"),))
        if fallback:
            rest = (*plan.candidates[: attempt.number], *fallback)
            attempt.exchange.plan = replace(plan, candidates=rest, max_attempts=len(rest), fallback=NO_FALLBACK)
            return Continue(((":status", "503"),), order=self._gateway.order(attempt.exchange.plan))
        veto = self._veto(is_final=fault is not None and self._status in STATUSES)
        return Continue(veto) if veto else CONTINUE

    def _fault_in(self, body: bytes) -> Fault | None:
        """None: the body cannot be read."""
        encoding = first(self._headers, "content-encoding")
        try:
            body = inflate(encoding, body) if encoding not in (None, "", "identity") else body
        except UpstreamError:
            return None
        return self._dialect(self._known()).read_error(self._status, self._headers, body)

    def _fallback(self, fault: Fault) -> tuple[Candidate, ...]:
        """The fallback candidates that can take this call."""
        attempt = self._known()
        match fault.kind:
            case "context_length":
                candidates = attempt.exchange.plan.fallback.context_length
            case "content_filter":
                candidates = attempt.exchange.plan.fallback.content_filter
            case _:
                return ()
        return tuple(candidate for candidate in candidates if self._is_able(candidate))

    def _is_able(self, candidate: Candidate) -> bool:
        gateway = self._gateway
        try:
            adapt(self._known().exchange.parsed, candidate, gateway.dialects, gateway.providers, gateway.formats)
        except (BadRequest, Unavailable):
            return False
        return True

    def _failed(self, fault: Fault) -> Command:
        """Replaces a failed stream by an HTTP error. If Envoy does not retry it, or no candidate is left, the router
        level sends the error to the caller."""
        attempt = self._known()
        # An error inside a stream has status 200. By default, it is a fault of the provider.
        fault = fault if fault.status >= 400 else replace(fault, status=502)
        self._status = fault.status
        self._note(fault.code or fault.kind, fault.retry_after, account_problem(fault))
        fault = for_caller(fault)
        status, headers, body = self._dialect(attempt).write_error(fault)
        self._order.replied()
        self._holding = None
        if self._is_last():
            # Ending a response while the provider still sends is a use after free in Envoy 1.40.
            attempt.exchange.fault = fault
            return ImmediateResponse(status, tuple(headers), body, REFUSED)
        to_set = ((":status", str(status)), *headers, *self._veto(is_final=status in STATUSES))
        return Release(to_set, ("content-encoding", "content-length"), body, end=True)

    def _is_last(self) -> bool:
        """Whether Envoy makes no further attempt in any case."""
        attempt = self._known()
        plan = attempt.exchange.plan
        return attempt.number >= (len(plan.candidates) if plan.fallback else plan.max_attempts)

    def _veto(self, *, is_final: bool) -> tuple[tuple[str, str], ...]:
        """The header that forbids a retry. The fallback raises Envoy's number of retries, which other errors must not
        use. `is_final`: the same provider would refuse its key again, or another one would refuse a request that breaks
        a rule."""
        attempt = self._known()
        plan = attempt.exchange.plan
        return (_NO_RETRY,) if is_final or (plan.fallback and attempt.number >= len(plan.candidates)) else ()

    def _note(self, reason: str, retry_after: float | None, problem: AccountProblem | None) -> None:
        failed = problem is not None or is_failing(self._status)
        attempt = self._known()
        candidate, number, journal = attempt.candidate, attempt.number, attempt.exchange.journal
        began = journal.began.get(number)
        took = self._gateway.clock.monotonic() - began if began is not None else None
        journal.ended[number] = AttemptResult(
            candidate,
            "failed" if failed else "ok",
            self._status,
            reason,
            duration=took,
            stream=attempt.exchange.call.stream,
            retry_after=retry_after if failed else None,
            account_problem=problem,
        )

    def _dialect(self, attempt: Attempt) -> Dialect:
        provider = self._gateway.providers[attempt.candidate.provider]
        return self._gateway.dialects[format_of(attempt.exchange.call, attempt.candidate, provider)]

    def _known(self) -> Attempt:
        if self._try is None:
            raise LookupError("the guard has no attempt")
        return self._try


class _ErrorResponse:
    """An error response whose body is not complete yet."""

    __slots__ = ("length", "parts")

    def __init__(self) -> None:
        self.parts: list[bytes] = []
        self.length = 0


class _HeldBytes:
    """The bytes of a response that are held."""

    __slots__ = ("_inflater", "_parts", "length")

    def __init__(self, inflater: Inflater | None) -> None:
        self._inflater = inflater
        self._parts: list[bytes] = []
        self.length = 0
        """Bytes, as they came."""

    def _hold(self, event: ResponseBody) -> bytes:
        """Holds the bytes, and returns them without their content encoding. Raises UpstreamError."""
        self._parts.append(event.body)
        self.length += len(event.body)
        return self._inflater.feed(event.body) if self._inflater is not None else event.body

    def take(self) -> bytes:
        """All bytes, as they came."""
        return b"".join(self._parts)


class _WholeReply(_HeldBytes):
    """A reply that is held until it is complete and was read. It may be a stream whatever its content type says."""

    __slots__ = ("_dialect", "_plain", "_stream", "_whole", "has_output")

    def __init__(self, dialect: Dialect, inflater: Inflater | None, *, whole: bool) -> None:
        """`whole`: the caller asked for no stream, so a stream is held until its end too."""
        super().__init__(inflater)
        self._dialect = dialect
        self._whole = whole
        self._plain: list[bytes] = []
        self._stream: _StreamBeginning | None = None
        self.has_output = False

    def feed(self, event: ResponseBody) -> Fault | None:
        try:
            data = self._hold(event)
            if self._stream is not None:
                return self._feed_stream(data, event.end)
            self._plain.append(data)
            return self._decide(event.end)
        except UpstreamError as error:
            return error.fault()

    def _decide(self, end: bool) -> Fault | None:
        if not end and self._whole:
            return None
        body = b"".join(self._plain)
        if streams_events(self._dialect) and is_stream(body):
            if self._whole:
                self.has_output = True
                return fault_in(read_stream(self._dialect, body))
            self._stream = _StreamBeginning(self._dialect.reader(self._dialect.stream_type), None, None)
            return self._feed_stream(body, end)
        if end:
            if self._dialect.read_summary(body) is None:
                self._dialect.read_reply(body)
            self.has_output = True
        return None

    def _feed_stream(self, data: bytes, end: bool) -> Fault | None:
        if self._stream is None:
            raise LookupError("no stream has begun")
        fault = self._stream.feed(ResponseBody(data, end))
        self.has_output = self._stream.has_output
        return fault


class _StreamBeginning(_HeldBytes):
    """The beginning of a stream: its bytes and its events."""

    __slots__ = ("_reader", "_tally", "_unframer", "has_output")

    def __init__(self, reader: StreamReader, inflater: Inflater | None, unframer: Unframer | None) -> None:
        super().__init__(inflater)
        self._reader = reader
        self._unframer = unframer
        self._tally = Tally()
        self.has_output = False
        """Whether a part of the reply was received."""

    def feed(self, event: ResponseBody) -> Fault | None:
        """The fault, if the stream failed before its first token."""
        try:
            data = self._hold(event)
            if self._unframer is not None:
                data = self._unframer.feed(data) + (self._unframer.close() if event.end else b"")
            for frame in self._reader.frames(data):
                fault = self._observe(self._reader.read(frame))
                if fault is not None or self.has_output:
                    return fault
            if not event.end:
                return None
            fault = self._observe(self._reader.close()[1])
        except UpstreamError as error:
            return error.fault()
        return None if self.has_output else fault or _EMPTY_STREAM

    def _observe(self, reply_events: Iterable[ReplyEvent]) -> Fault | None:
        """Observes events up to the first output. Returns the fault, if one comes before it."""
        for reply_event in reply_events:
            self._tally.note(reply_event)
            if isinstance(reply_event, Failed):
                return reply_event.fault
            if is_lost(self._tally):
                if isinstance(reply_event, Ended):
                    return UNREADABLE
                continue
            if _has_output(reply_event):
                self.has_output = True
                return None
        return None


def _has_output(reply_event: ReplyEvent) -> bool:
    match reply_event:
        case PartDelta():
            return bool(reply_event.text)
        case PartStarted():
            return reply_event.kind not in ("text", "thinking")
        case Finished() | Ended():
            return True
        case _:
            return False
