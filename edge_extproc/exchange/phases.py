"""What one exchange knows so far: of the request, and of its answer. The router writes it, the settlement reads it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from ..auth.base import CallerRights
from ..cache.base import CacheEntry, CacheLookup
from ..codecs.content_encoding import Inflater
from ..dialects.base import Dialect, Route
from ..limits.base import CallerLimits, Reservation
from ..model.bill import Bill
from ..model.call import Call
from ..model.fault import Fault
from ..model.plan import Candidate, Plan
from ..model.principal import Principal
from ..model.reply import Reply
from ..model.trace import Parent, Trace
from ..providers.base import Unframer
from .adapt import Adapted
from .events import Event, Headers
from .open import OpenExchange
from .operation import OperationResponse
from .prompt_size import AskedParts
from .relay import Relay

T = TypeVar("T")


@dataclass(slots=True)
class RequestState:
    """What was learned of the request so far."""

    began: float
    started_at: float
    overhead: float = 0.0
    phases: dict[type[Event], list[float]] = field(default_factory=dict)
    """When each kind of event first came, and how long we took for all of its kind."""
    headers: Headers = ()
    values: Mapping[str, str] = field(default_factory=dict)
    """The first of each header."""
    request_id: str | None = None
    """The one that the caller is told: its own, if that is valid, else Envoy's."""
    method: str = ""
    path: str = ""
    voice: Dialect | None = None
    """In whose words errors are told."""
    route: Route | None = None
    principal: Principal | None = None
    rights: CallerRights | None = None
    """What this caller may do; None: nothing is forbidden."""
    rules: CallerLimits | None = None
    """What limits this caller; None: nothing does."""
    admission: Reservation | None = None
    large: bool = False
    """Work on the body is done off the event loop."""
    asked: AskedParts | None = None
    """Read in advance where the body is large."""
    call: Call | None = None
    plan: Plan | None = None
    adapted: Adapted | None = None
    turn: CacheLookup | None = None
    """Our dealings with the cache; None where there is none."""
    parent: Parent | None = None
    trace: Trace | None = None
    open: OpenExchange | None = None
    """None where nothing was sent."""

    def took(self, kind: type[Event], began: float, seconds: float) -> None:
        self.overhead += seconds
        phase = self.phases.get(kind)
        if phase is None:
            self.phases[kind] = [began, seconds]
        else:
            phase[1] += seconds


@dataclass(slots=True)
class ResponseState:
    """What was learned of the response so far."""

    status: int | None = None
    """What the caller is told."""
    came: int | None = None
    """What came, where the caller is told something better."""
    headers: Headers = ()
    values: Mapping[str, str] = field(default_factory=dict)
    """The first of each header."""
    details: str = ""
    """Who made it: Envoy's response code details."""
    attempts: int = 0
    candidate: Candidate | None = None
    dropped: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()
    """Parts of the reply that the caller's format has no place for."""
    fault: Fault | None = None
    ours: bool = False
    """The fault is our own refusal."""
    bug: bool = False
    relay: Relay | None = None
    inflater: Inflater | None = None
    unframer: Unframer | None = None
    other: OperationResponse | None = None
    """Of an operation that is no chat."""
    held: bytearray = field(default_factory=bytearray)
    """The body so far, where only the body tells whether it is a stream."""
    reply: Reply | None = None
    body: bytes | None = None
    """All of a reply in the provider's own words, where it came whole and may be kept."""
    cached: CacheEntry | None = None
    """The reply of another call, given again."""
    passed: bool = False
    """The body goes by without us, so that Envoy may close our stream before its end."""
    first_token_at: float | None = None
    """When the first text, thinking or tool call of a stream came (the monotonic clock); of a reply that holds no such
    thing, such as an image, its first byte."""
    sent: int = 0
    bill: Bill | None = None
    """Made at the last answer, where somebody reads it there."""


def require(fact: T | None) -> T:
    """Something that an earlier event has established; that it is missing would be a bug of ours."""
    if fact is None:
        raise LookupError("an exchange used what it had not learned yet")
    return fact
