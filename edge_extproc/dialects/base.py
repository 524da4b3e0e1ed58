"""The port of a wire format.

A dialect does no IO. It converts between bytes and the types of model/, and knows its own format, but not providers,
routing or Envoy. `read_call` is cheap and runs for every request. `read_chat`, `write_chat`, `reader` and `writer`
translate to and from other formats. On the raw lane only `splice` and an observing `reader` are used.

A dialect must map each field of another dialect, name it in `Written.dropped`, or raise `Unsupported`. For unreadable
bytes it raises `BadRequest` (caller) or `UpstreamError` (provider).
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Callable, Sequence
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Literal, Protocol, TypeAlias, runtime_checkable

from ..codecs.frame import Frame
from ..conversations.base import StoreSteps
from ..errors import BadRequest
from ..model.call import Call, Chat, Operation, Written
from ..model.content import Part
from ..model.fault import Fault
from ..model.frozen_dataclass import frozen_dataclass
from ..model.host import UNKNOWN_HOST, HostProfile
from ..model.reply import Reply, ReplyEvent
from ..model.reply_summary import ReplySummary
from ..model.spelling import Spelling
from ..model.wire_names import WireNames

Headers: TypeAlias = Sequence[tuple[str, str]]
"""Header pairs in wire order, names in lower case, pseudo-headers included."""


@frozen_dataclass
class Route:
    """A path of a dialect. `path` may have one `{model}` segment."""

    method: str
    path: str
    operation: Operation
    format: str = ""
    """The wire format of an operation other than chat."""
    member: str = ""
    """If several routes have this method and path: bodies with this top-level member belong to this one."""


@frozen_dataclass
class ModelCard:
    """One row of a list of models. `created` is Unix time in seconds."""

    id: str
    owned_by: str
    created: int = 0


@frozen_dataclass
class FieldSupport:
    """How a dialect handles one field of a Chat of another dialect. `how`: a text for the documentation."""

    kind: Literal["mapped", "dropped", "refused"]
    how: str


class StreamReader(Protocol):
    """Decodes one streamed reply: `frames`, then `read` for each frame. The events do not depend on the portions of the
    input."""

    def frames(self, data: bytes) -> list[Frame]:
        """The frames that `data` completes. The remaining bytes are buffered, up to a limit."""
        ...

    def read(self, frame: Frame) -> list[ReplyEvent]:
        """The events of one frame. An unreadable frame is Garbled; an error inside the stream is Failed."""
        ...

    def close(self) -> tuple[list[Frame], list[ReplyEvent]]:
        """Ends the stream. Returns the last frame, if it had no delimiter, and its events; then Ended if the stream is
        complete and Ended was not returned before, or Failed if it is incomplete."""
        ...


@runtime_checkable
class SkimmingReader(StreamReader, Protocol):
    """A reader that knows a frame which does nothing but add text to the reply, without making events of it. A format
    whose frames hold more than that (Gemini's usage) has none."""

    def skim(self, frame: Frame) -> int | None:
        """The number of characters that the frame adds to a part of the first choice, if `read` would return one
        PartDelta, or nothing because there are no characters. The reader then has read the frame. None: it has not."""
        ...


class StreamWriter(Protocol):
    """Encodes one streamed reply for a caller. `write(Ended())` returns the terminator, `write(Failed(…))` the
    dialect's error event without a terminator. Nothing is written after either."""

    def write(self, event: ReplyEvent) -> bytes: ...


class Dialect(Protocol):
    name: str
    """The name in the configuration and of the package."""
    title: str
    """For humans."""
    spelling: Spelling
    """How callers of this format spell the fields of a Chat. `read_chat` puts it on each Chat, in the words of this
    caller where there are several; a writer of another format names what it drops or refuses by it."""
    wire_names: WireNames
    """The names of this format that bounds, policies and the cache key search a body for."""
    routes: tuple[Route, ...]
    stream_type: str
    """The content type of a streamed reply."""
    cites: bool
    """Whether a reply of this format has a place for the sources on the web that another format's reply cites."""
    signs_thinking: bool
    """Whether replies of this format have signed thinking, which its provider refuses if it was changed."""
    client_headers: tuple[str, ...]
    """Request headers that only clients of this dialect send, in lower case. They determine the dialect of an error if
    the path belongs to several dialects or to none."""
    error_headers: tuple[str, ...]
    """Response headers that mark an error body as one of this dialect, whichever dialect the request was in."""

    def read_call(self, raw: bytes, operation: Operation, headers: Headers, path: str) -> Call:
        """Reads the fields that routing needs. Raises BadRequest if the body is not a JSON object or lacks a required
        field."""
        ...

    def splice(self, call: Call, model: str, host: HostProfile = UNKNOWN_HOST) -> Written:
        """The request of the raw lane: the caller's bytes with only our own fields changed (the model; usage in
        streams), without the parts of the history that this provider refuses."""
        ...

    def path(self, operation: Operation, model: str, *, stream: bool) -> str:
        """The path of such a call at a provider of this format, below its base URL (which ends in /v1 or similar)."""
        ...

    def read_chat(self, call: Call) -> Chat:
        """The whole conversation. Raises BadRequest, which names the field."""
        ...

    def write_chat(self, chat: Chat, model: str, host: HostProfile = UNKNOWN_HOST) -> Written:
        """The request of a caller of another dialect, for a provider of this one. The request of a caller of this
        dialect is never written: `splice` makes it. A pure function. Raises Unsupported or BadRequest."""
        ...

    def read_reply(self, body: bytes) -> Reply:
        """Raises UpstreamError if the body is not a reply of this format."""
        ...

    def read_summary(self, body: bytes) -> ReplySummary | None:
        """The same as the summary of `read_reply(body)`, without reading the content. None: only `read_reply` can tell,
        because the reply does not have the usual shape of this format, or is no reply."""
        ...

    def write_reply(self, reply: Reply) -> bytes: ...

    def can_contain(self, part: Part) -> bool:
        """Whether a reply of this format has a place for this part of another format's reply. Other parts are dropped
        or replaced by a text, and named to the caller."""
        ...

    def reader(self, content_type: str) -> StreamReader: ...

    def writer(self, call: Call) -> StreamWriter: ...

    def read_error(self, status: int, headers: Headers, body: bytes) -> Fault:
        """Never raises. A body that is not an error of this format becomes the message of the fault."""
        ...

    def write_error(self, fault: Fault) -> tuple[int, list[tuple[str, str]], bytes]:
        """The status, the headers (content-type, retry-after) and the body in this format."""
        ...

    def write_models(self, models: Sequence[ModelCard]) -> bytes: ...

    def write_model(self, card: ModelCard) -> bytes:
        """The description of one model."""
        ...


@frozen_dataclass
class CompleteReply:
    """A complete reply, as the caller gets it."""

    body: bytes
    stream: bytes = b""
    """If it is a stream: the order of its events, in a form of the dialect."""


@frozen_dataclass
class StoredAnswer:
    """The answer to a request for a stored object."""

    body: bytes = b""
    content_type: str = "application/json"
    write: Callable[[], bytes] | None = None
    """Makes the body, if that may take long."""


class ReplyListener(Protocol):
    """Finds a complete reply in the bytes that go to the caller."""

    def feed(self, data: bytes) -> CompleteReply | None:
        """The reply, as soon as it is complete."""
        ...


@runtime_checkable
class HasVariants(Protocol):
    """A dialect whose host has another dialect at paths of its own, with this one's framing and errors."""

    variants: tuple[Dialect, ...]


@runtime_checkable
class RaisesLimit(Protocol):
    """A dialect whose requests can have a higher output limit than the translated chat."""

    def added_output(self, chat: Chat, model: str) -> int:
        """The most tokens by which the request exceeds the chat's limit. `model`: as in `write_chat`, with the name
        that the host's profile knows it by."""
        ...


@runtime_checkable
class StatefulDialect(Protocol):
    """A dialect whose callers may refer to earlier replies by their ids. The generators are steps in the gateway's
    store of conversations."""

    stored_routes: tuple[Route, ...]
    """Paths of stored objects. They exist only if the gateway has a store."""

    def is_own_object(self, path: str) -> bool:
        """Whether a path of `stored_routes` can only mean an object of the gateway, and not one of a provider."""
        ...

    def add_context(self, call: Call, seed: str) -> StoreSteps[Call]:
        """The call with `stored` set, and with the stored items that it refers to in its body. `seed`: unguessable and
        new each time. Raises BadRequest or NotStored."""
        ...

    def reply_listener(self, call: Call) -> ReplyListener: ...

    def store_reply(self, call: Call, reply: CompleteReply) -> StoreSteps[None]:
        """Stores a reply that a listener has found, if it is one that callers may refer to."""
        ...

    def serve_stored(
        self, method: str, path: str, query: str, body: bytes, seed: str, now: int
    ) -> StoreSteps[StoredAnswer]:
        """The answer to a request of a path of `stored_routes`. `now`: Unix time. Raises CallerError."""
        ...


@runtime_checkable
class SealingDialect(Protocol):
    """A dialect with encrypted reasoning that only the account which made it can decrypt. It leaves out the items with
    `Call.unreadable` when it writes a request on the raw lane."""

    def sealed_in_request(self, raw: bytes) -> tuple[tuple[bytes, ...], frozenset[bytes]]:
        """The encrypted texts in a request, and those without which the conversation cannot go on."""
        ...

    def sealed_in_reply(self, raw: bytes) -> tuple[bytes, ...]:
        """The encrypted texts in a reply, or in an event of a stream."""
        ...


def header(headers: Headers, name: str) -> str | None:
    """The first value of a header, or None."""
    for key, value in headers:
        if key == name:
            return value
    return None


def output_limit(value: float | None, param: str, *, least: int = 1) -> None:
    """Checks a caller's limit of output tokens. `param`: the caller's name of the field.

    Raises BadRequest for a number below `least`: its meaning differs between hosts (no limit, an empty reply, an
    error), so it cannot be reserved."""
    if value is not None and value < least:
        raise BadRequest(f"{param} is {value}; it must be {least} or more", param=param)


def made_id(prefix: str, digits: int, *seeds: object) -> str:
    """An id for a reply or a call without one. It is the same for the same reply, complete or as a stream."""
    return prefix + hashlib.sha256(repr(seeds).encode("utf-8", "surrogatepass")).hexdigest()[:digits]


# Azure's names are the first two.
_UNITS: tuple[tuple[str, float], ...] = (
    ("x-ms-retry-after-ms", 0.001),
    ("retry-after-ms", 0.001),
    ("retry-after", 1.0),
)
# When a limit has room again: OpenAI, Groq and xAI; Anthropic; the IETF draft; OpenRouter and GitHub. For each: the
# rest of the limit, and its reset.
_RESETS: tuple[tuple[str, str], ...] = (
    ("x-ratelimit-remaining-requests", "x-ratelimit-reset-requests"),
    ("x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens"),
    ("anthropic-ratelimit-requests-remaining", "anthropic-ratelimit-requests-reset"),
    ("anthropic-ratelimit-input-tokens-remaining", "anthropic-ratelimit-input-tokens-reset"),
    ("anthropic-ratelimit-output-tokens-remaining", "anthropic-ratelimit-output-tokens-reset"),
    ("anthropic-ratelimit-tokens-remaining", "anthropic-ratelimit-tokens-reset"),
    ("ratelimit-remaining", "ratelimit-reset"),
    ("x-ratelimit-remaining", "x-ratelimit-reset"),
)
_DURATION = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m(?!s))?(?:(\d+(?:\.\d+)?)s)?(?:(\d+(?:\.\d+)?)ms)?")
_SECONDS = (86_400.0, 3_600.0, 60.0, 1.0, 0.001)
# A greater number is a Unix time, in seconds or (a thousand times greater) in milliseconds.
_LEAST_UNIX_TIME = 1e9


def retry_after(headers: Headers, status: int = 0) -> float | None:
    """The seconds after which the provider accepts a request again. None: it does not say. A date is relative to the
    response's own Date header, which is from the same clock. `status`: of a rate limit without Retry-After, the reset
    of the limit that is used up counts."""
    for name, unit in _UNITS:
        value = header(headers, name)
        if value is None:
            continue
        try:
            seconds = float(value) * unit
        except ValueError:
            seconds = _seconds_until(value, header(headers, "date"))
        if math.isfinite(seconds) and seconds >= 0:
            return seconds
    return _reset(headers) if status == 429 else None


def _reset(headers: Headers) -> float | None:
    """The reset of the limits that are used up; if none is, of all of them."""
    used_up: list[float] = []
    others: list[float] = []
    for remaining, reset in _RESETS:
        value = header(headers, reset)
        seconds = math.nan if value is None else _until(value.strip(), header(headers, "date"))
        if math.isfinite(seconds) and seconds >= 0:
            (used_up if header(headers, remaining) == "0" else others).append(seconds)
    return max(used_up or others, default=None)


def _until(value: str, now: str | None) -> float:
    """The seconds of a duration (`6m0s`, `12ms`, `60`), or until a time (Unix time, or a date). NaN: it is none."""
    match = _DURATION.fullmatch(value)
    if value and match is not None:
        return sum(float(number or 0) * unit for number, unit in zip(match.groups(), _SECONDS, strict=True))
    try:
        number = float(value)
    except ValueError:
        return _seconds_until(value, now)
    if number < _LEAST_UNIX_TIME:
        return number
    try:
        received = parsedate_to_datetime(now or "").timestamp()
    except (TypeError, ValueError):
        return math.nan
    return number / (1_000 if number >= 1_000 * _LEAST_UNIX_TIME else 1) - received


def _seconds_until(then: str, now: str | None) -> float:
    try:
        return (_time(then) - parsedate_to_datetime(now or "")).total_seconds()
    except (TypeError, ValueError):  # no date, or one without a zone beside one with
        return math.nan


def _time(value: str) -> datetime:
    """A date of HTTP, or of RFC 3339. Raises ValueError or TypeError."""
    try:
        return datetime.fromisoformat(value)
    except ValueError:
        return parsedate_to_datetime(value)
