"""The port of a wire format.

A dialect is pure: bytes and nouns in, nouns and bytes out. It knows its own format and nothing of providers, routing
or Envoy. `read_call` is cheap and runs on every request; `read_chat`/`write_chat` and `reader`/`writer` carry a call
across to another format; on the raw lane only `splice` and a listening `reader` run.

What a dialect must do with each field that another dialect asked for: map it, name it in `Written.dropped`, or raise
`Unsupported`. What it must do with bytes it cannot read: raise `BadRequest` (caller) or `UpstreamError` (provider).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from email.utils import parsedate_to_datetime
from typing import Literal, Protocol, TypeAlias

from ..codecs.frame import Frame
from ..errors import BadRequest
from ..model.call import Call, Chat, Operation, Written
from ..model.content import Part
from ..model.fault import Fault
from ..model.host import UNKNOWN_HOST, HostProfile
from ..model.noun import noun
from ..model.reply import Reply, ReplyEvent
from ..model.spelling import Spelling
from ..model.wire_names import WireNames

Headers: TypeAlias = Sequence[tuple[str, str]]
"""Header pairs in wire order, names in lower case, pseudo-headers included."""


@noun
class Route:
    """A path on which a dialect is spoken. `path` may hold one `{model}` segment."""

    method: str
    path: str
    operation: Operation
    format: str = ""
    """Of an operation other than chat: the wire format that is spoken there."""


@noun
class ModelCard:
    """One row of a list of models. `created` is Unix time in seconds."""

    id: str
    owned_by: str
    created: int = 0


@noun
class FieldSupport:
    """What becomes of one field of a Chat of another dialect. `how` is for the reader of the documentation."""

    kind: Literal["mapped", "dropped", "refused"]
    how: str


class StreamReader(Protocol):
    """Decodes one streamed reply: `frames`, then `read` each. Cut the bytes anywhere, the events are the same."""

    def frames(self, data: bytes) -> list[Frame]:
        """The frames that `data` completes; the rest is kept, up to a stated bound."""
        ...

    def read(self, frame: Frame) -> list[ReplyEvent]:
        """What one frame says. An unreadable one is Garbled; an error inside the stream is Failed."""
        ...

    def close(self) -> tuple[list[Frame], list[ReplyEvent]]:
        """The stream is over. The last frame, if it had no delimiter, and its events; then Ended where a proper end
        was seen and not yet told, Failed where none was."""
        ...


class StreamWriter(Protocol):
    """Encodes one streamed reply for a caller. `write(Ended())` writes the terminator, `write(Failed(…))` the dialect's
    error event and no terminator; each of them is the last thing written."""

    def write(self, event: ReplyEvent) -> bytes: ...


class Dialect(Protocol):
    name: str
    """As config and file name spell it."""
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
    client_headers: tuple[str, ...]
    """Request headers that only clients of this dialect send, in lower case. They choose the dialect of an error where
    the path belongs to several dialects or to none."""
    error_headers: tuple[str, ...]
    """Response headers that mark an error body as one of this dialect, whichever dialect the request was in."""

    def read_call(self, raw: bytes, operation: Operation, headers: Headers, path: str) -> Call:
        """The cheap view. Raises BadRequest where the body is no JSON object or lacks what every call must say."""
        ...

    def splice(self, call: Call, model: str, host: HostProfile = UNKNOWN_HOST) -> Written:
        """The raw lane: the caller's own bytes with only our fields changed (the model; usage in streams asked for),
        and without what this gateway or another provider put into the history and this one refuses."""
        ...

    def path(self, operation: Operation, model: str, *, stream: bool) -> str:
        """Where a provider of this format takes such a call, below its base URL (which ends in /v1 or the like)."""
        ...

    def read_chat(self, call: Call) -> Chat:
        """The whole conversation. Raises BadRequest that names the field."""
        ...

    def write_chat(self, chat: Chat, model: str, host: HostProfile = UNKNOWN_HOST) -> Written:
        """The request of a caller of another dialect, for a provider of this one. The request of a caller of this
        dialect is never written: `splice` makes it. A pure function. Raises Unsupported or BadRequest."""
        ...

    def read_reply(self, body: bytes) -> Reply:
        """Raises UpstreamError where the body is not a reply of this format."""
        ...

    def write_reply(self, reply: Reply) -> bytes: ...

    def can_say(self, part: Part) -> bool:
        """Whether a reply of this format has a place for this part of another format's reply. A part that it has none
        for is left out, or replaced by a text that says so, and named to the caller."""
        ...

    def reader(self, content_type: str) -> StreamReader: ...

    def writer(self, call: Call) -> StreamWriter: ...

    def read_error(self, status: int, headers: Headers, body: bytes) -> Fault:
        """Never raises: what is no error of this format becomes one with the body as its message."""
        ...

    def write_error(self, fault: Fault) -> tuple[int, list[tuple[str, str]], bytes]:
        """Status, headers (content-type, retry-after) and body in this dialect's envelope."""
        ...

    def write_models(self, models: Sequence[ModelCard]) -> bytes: ...

    def write_model(self, card: ModelCard) -> bytes:
        """One model alone."""
        ...


def header(headers: Headers, name: str) -> str | None:
    """The first value of a header, or None."""
    for key, value in headers:
        if key == name:
            return value
    return None


def output_limit(value: float | None, param: str, *, least: int = 1) -> None:
    """Checks the most tokens that a caller lets the model answer with. `param` is the caller's own name of the field.

    Raises BadRequest for a number below `least`: hosts give it different meanings (no bound, an empty answer, an
    error), and a reservation has none for it."""
    if value is not None and value < least:
        raise BadRequest(f"{param} is {value}; it must be {least} or more", param=param)


def made_id(prefix: str, digits: int, *seeds: object) -> str:
    """An id where the provider gave none: the same for the same reply, whether it came whole or as a stream."""
    return prefix + hashlib.sha256(repr(seeds).encode("utf-8", "surrogatepass")).hexdigest()[:digits]


_UNITS: tuple[tuple[str, float], ...] = (("retry-after-ms", 0.001), ("retry-after", 1.0))


def retry_after(headers: Headers) -> float | None:
    """How many seconds a provider wants us to wait, or None where it does not say. A date counts from the answer's
    own date: the clock that both were read from."""
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
    return None


def _seconds_until(then: str, now: str | None) -> float:
    try:
        return (parsedate_to_datetime(then) - parsedate_to_datetime(now or "")).total_seconds()
    except (TypeError, ValueError):  # no date, or one without a zone beside one with
        return math.nan
