"""The gateway's own headers on a response, for the caller."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..cache.base import CacheLookup
from ..limits.base import Reservation
from . import headers as header_rules
from .commands import Pairs
from .phases import RequestPhase, Sent

if TYPE_CHECKING:  # not loaded without rules
    from ..guardrails.call_guard import CallGuard


def notes_of(
    dropped: tuple[str, ...], guard: CallGuard | None, lookup: CacheLookup | None, reservation: Reservation | None
) -> Pairs:
    """The headers for the dropped fields, the guardrails, the cache and the limits."""
    notes = header_rules.dropped_fields(dropped)
    if guard is not None:
        notes = (*notes, *header_rules.guardrail_hits(guard.hits))
    if lookup is not None:
        notes = (*notes, ("x-edge-cache", lookup.state))
        key = lookup.key_text
        if key is not None:
            notes = (*notes, ("x-edge-cache-key", key))
    return notes if reservation is None else (*notes, *reservation.headers)


def notes_of_request(request: RequestPhase | None) -> Pairs:
    """The headers on a response without a provider's reply."""
    if not isinstance(request, Sent):
        return ()
    admitted = request.admitted
    return notes_of((), admitted.read.identified.guard, admitted.lookup, admitted.reservation)
