"""A debug capture: what one announced request sends to its providers, and what comes back.

The supervisor announces a request by its id, with the key that it will have. Only then are streams looked at, and only
the stream with this id is kept, and only if the gateway has authenticated this key. A capture is in memory, bounded,
and removed when it is taken or after a minute.
"""

from __future__ import annotations

import codecs
from collections import OrderedDict
from collections.abc import Callable
from urllib.parse import parse_qsl, urlencode

from ..model.captured import CapturedAttempt, CapturedRequest
from ..model.envoy_names import CALLERS_ID
from .commands import Command, Continue, Pairs, Replace
from .events import Event, RequestBody, RequestHeaders, ResponseBody, ResponseHeaders
from .handler import Closing, Handler, Interrupt, MoreTime

MOST, SECONDS = 8, 60.0
MOST_BYTES = 128 * 1024
REMOVED = "(removed)"
# Names whose values describe a request. The value of any other header may be a credential.
_SHOWN = frozenset(
    {
        *(":method", ":path", ":scheme", ":authority", ":status", "accept", "accept-encoding", "user-agent"),
        *("content-type", "content-length", "content-encoding", "transfer-encoding", "date", "server"),
        *("request-id", "x-request-id", "apim-request-id", "x-amzn-requestid", "retry-after", "traceparent"),
        *("cache-control", "x-envoy-upstream-service-time"),
    }
)
_SHOWN_PARAMETERS = frozenset({"alt", "api-version", "beta"})


class Captures:
    """The captures of one worker. `clock`: monotonic, in seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._by_id: OrderedDict[str, tuple[float, CapturedRequest]] = OrderedDict()
        self._by_exchange: dict[str, CapturedRequest] = {}

    @property
    def is_expecting(self) -> bool:
        """Whether any request is announced or kept. It is nearly never."""
        if self._by_id:
            self._remove_old()
        return bool(self._by_id)

    def expect(self, request_id: str, key: str) -> None:
        self._remove_old()
        self._by_id[request_id] = (self._clock(), CapturedRequest(key))
        while len(self._by_id) > MOST:
            self._forget(next(iter(self._by_id)))

    def take(self, request_id: str) -> CapturedRequest | None:
        """The capture, which is then forgotten. None: it is unknown, or no stream had the id and the key."""
        found = self._by_id.get(request_id)
        self._forget(request_id)
        return found[1] if found is not None and found[1].exchange is not None else None

    def wanted(self, event: RequestHeaders) -> CapturedRequest | None:
        """The announced capture of the request that has these headers, if it has not begun."""
        for name, value in event.headers:
            if name in (CALLERS_ID, "x-request-id") and (found := self._by_id.get(value)) is not None:
                return found[1] if found[1].exchange is None else None
        return None

    def of_exchange(self, exchange: object) -> CapturedRequest | None:
        return self._by_exchange.get(exchange) if isinstance(exchange, str) else None

    def begin(self, capture: CapturedRequest, exchange: str) -> None:
        capture.exchange = exchange
        self._by_exchange[exchange] = capture

    def _remove_old(self) -> None:
        now = self._clock()
        while self._by_id and now - next(iter(self._by_id.values()))[0] > SECONDS:
            self._forget(next(iter(self._by_id)))

    def _forget(self, request_id: str) -> None:
        found = self._by_id.pop(request_id, None)
        if found is not None and found[1].exchange is not None:
            self._by_exchange.pop(found[1].exchange, None)


class CapturedHandler:
    """Passes all events to a handler of a request or of an attempt, and keeps what an announced one sends and gets."""

    def __init__(self, handler: Handler, captures: Captures) -> None:
        self._handler = handler
        self._captures = captures
        self._capture: CapturedRequest | None = None
        self._decode = codecs.getincrementaldecoder("utf-8")("replace").decode
        self._sent = b""
        """The caller's body, which the provider gets if the gateway does not change it."""

    @property
    def more_time(self) -> MoreTime:
        return self._handler.more_time

    @more_time.setter
    def more_time(self, more_time: MoreTime) -> None:
        self._handler.more_time = more_time

    @property
    def interrupt(self) -> Interrupt:
        return self._handler.interrupt

    @interrupt.setter
    def interrupt(self, interrupt: Interrupt) -> None:
        self._handler.interrupt = interrupt

    @property
    def unfinished(self) -> str | None:
        return self._handler.unfinished

    async def handle(self, event: Event) -> Command:
        command = await self._handler.handle(event)
        match event:
            case RequestHeaders():
                self._capture = self._captures.wanted(event)
                if self._capture is not None:
                    self._note_request(command)
                else:
                    self._note_attempt(event, command)
            case RequestBody() if self._capture is not None:
                self._sent = event.body
                self._note_request(command)
            case ResponseHeaders() if (capture := self._begun()) is not None:
                shown = _shown(event.headers)
                capture.headers = shown
                capture.status = next((int(value) for name, value in shown if name == ":status"), None)
            case ResponseBody() if (capture := self._begun()) is not None:
                room = MOST_BYTES - len(capture.body)
                text = self._decode(event.body, event.end)
                capture.body += text[:room]
                capture.cut = capture.cut or len(text) > room
            case _:
                pass
        return command

    async def before_close(self) -> None:
        await self._handler.before_close()

    def closed(self, why: Closing) -> None:
        self._handler.closed(why)
        if (capture := self._begun()) is not None:
            capture.ended = True

    def _begun(self) -> CapturedRequest | None:
        return self._capture if self._capture is not None and self._capture.exchange is not None else None

    def _note_request(self, command: Command) -> None:
        """The first attempt. The command names the exchange and the key that the gateway has authenticated."""
        capture = self._capture
        if capture is None or not isinstance(command, Continue) or command.metadata is None:
            return
        facts = command.metadata.get("edge", {})
        exchange = facts.get("exchange")
        if facts.get("key") != capture.key or not isinstance(exchange, str):
            return
        self._captures.begin(capture, exchange)
        body = self._sent if command.body is None else command.body
        capture.attempts.append(_attempt(command.set_headers, body))

    def _note_attempt(self, event: RequestHeaders, command: Command) -> None:
        """A further attempt of a captured request."""
        capture = self._captures.of_exchange(event.metadata.get("edge", {}).get("exchange"))
        if capture is not None and len(capture.attempts) < MOST and isinstance(command, Continue | Replace):
            capture.attempts.append(_attempt(command.set_headers, command.body or b""))


def _attempt(headers: Pairs, body: bytes) -> CapturedAttempt:
    text = body[: MOST_BYTES + 1].decode(errors="replace")
    return CapturedAttempt(_shown(headers), text[:MOST_BYTES], len(text) > MOST_BYTES)


def _shown(headers: Pairs) -> list[tuple[str, str]]:
    """Without values that may be credentials, in headers and in the query."""
    return [
        (name, (_without_secrets(value) if name == ":path" else value) if name in _SHOWN else REMOVED)
        for name, value in headers
        if not name.startswith("x-envoy-") or name in _SHOWN
    ]


def _without_secrets(path: str) -> str:
    before, mark, query = path.partition("?")
    if not mark:
        return path
    pairs = parse_qsl(query, keep_blank_values=True)
    return f"{before}?{urlencode([(n, v if n in _SHOWN_PARAMETERS else REMOVED) for n, v in pairs], safe='()')}"
