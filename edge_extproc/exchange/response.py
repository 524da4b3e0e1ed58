"""The phases of a response, and the facts that settlement reads from them.

ResponseHead      the response headers of a provider or of Envoy (response_head.py)
Answered          a provider of the plan sent them (response_head.py)
Receiving         the body is arriving (response_bodies.py)
RefusedResponse   the caller gets an error instead
CachedReply       the caller gets a reply from the cache
OwnReply          the gateway responds itself: a list of models, an estimated count
"""

from __future__ import annotations

from typing import TypeAlias

from ..cache.base import CacheEntry
from ..model.fault import Fault
from ..model.frozen_dataclass import frozen_dataclass
from ..model.plan import Candidate
from .body_reader import NO_BODY, BodyReader
from .response_head import Answered, ResponseHead


@frozen_dataclass
class Receiving:
    answered: Answered
    body: BodyReader


@frozen_dataclass
class RefusedResponse:
    before: ResponseHead | Answered | Receiving | None
    """The response that the error replaces."""
    fault: Fault
    by_gateway: bool
    """The gateway or Envoy refused the request; no provider did."""
    status: int
    """The status of the response to the caller."""
    length: int
    """Bytes of the body to the caller."""
    cut: bool = False
    """The gateway refused it while a provider worked on the request, or when it had answered."""


@frozen_dataclass
class CachedReply:
    before: ResponseHead | Answered | None
    """The response that the cached reply replaces."""
    entry: CacheEntry
    lost: tuple[str, ...]
    """Parts of the reply that the caller's dialect has no place for."""
    length: int


@frozen_dataclass
class OwnReply:
    length: int


ResponsePhase: TypeAlias = ResponseHead | Answered | Receiving | RefusedResponse | CachedReply | OwnReply


@frozen_dataclass
class ResponseFacts:
    """The facts of a response at its end."""

    status: int | None
    """The status of the response to the caller; None if there is none."""
    length: int
    """Bytes of the body to the caller."""
    head: ResponseHead | None
    candidate: Candidate | None
    """The candidate that answered."""
    body: BodyReader
    refused: RefusedResponse | None
    entry: CacheEntry | None
    """The cached reply that the caller got."""
    dropped: tuple[str, ...]
    """Fields that the provider's request lacks."""
    lost: tuple[str, ...]
    """Parts of the reply that the caller's dialect has no place for."""

    @property
    def attempts(self) -> int:
        return self.head.attempts if self.head is not None else 0

    @property
    def upstream_status(self) -> int | None:
        """The status of the last attempt."""
        if self.refused is not None and self.refused.cut:
            return self.head.status if self.head is not None else None
        return self.status if self.entry is None else self.head.status if self.head is not None else None

    @property
    def fault(self) -> Fault | None:
        """The error that the caller got, as a response or within its stream."""
        if self.refused is not None:
            return self.refused.fault
        return self.body.tally.failed if self.body.tally is not None else None


def head_of(phase: ResponsePhase | None) -> ResponseHead | None:
    """The received response headers, even if another response replaces them."""
    before = phase.before if isinstance(phase, RefusedResponse | CachedReply) else phase
    answered = before.answered if isinstance(before, Receiving) else before
    head = answered.head if isinstance(answered, Answered) else answered
    return head if isinstance(head, ResponseHead) else None


def response_facts(phase: ResponsePhase | None) -> ResponseFacts:
    """The facts. `phase` is the newest one; None if there was no response."""
    if isinstance(phase, OwnReply):
        return ResponseFacts(200, phase.length, None, None, NO_BODY, None, None, (), ())
    before = phase.before if isinstance(phase, (RefusedResponse, CachedReply)) else phase
    answered, body = (before.answered, before.body) if isinstance(before, Receiving) else (before, NO_BODY)
    head: ResponseHead | None = None
    candidate: Candidate | None = None
    dropped: tuple[str, ...] = ()
    if isinstance(answered, Answered):
        head, candidate, dropped = answered.head, answered.candidate, answered.dropped
    elif answered is not None:
        head = answered
    if isinstance(phase, CachedReply):
        entry = phase.entry
        return ResponseFacts(200, phase.length, head, candidate, body, None, entry, entry.dropped, phase.lost)
    if isinstance(phase, RefusedResponse):
        return ResponseFacts(phase.status, phase.length, head, candidate, body, phase, None, dropped, body.lost)
    status = head.status if head is not None else None
    return ResponseFacts(status, body.length, head, candidate, body, None, None, dropped, body.lost)
