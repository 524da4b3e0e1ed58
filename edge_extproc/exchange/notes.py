"""The gateway's own headers on a response, for the caller."""

from __future__ import annotations

from ..cache.base import CacheLookup
from ..limits.base import Reservation
from . import headers as header_rules
from .commands import Pairs


def notes_of(dropped: tuple[str, ...], lookup: CacheLookup | None, reservation: Reservation | None) -> Pairs:
    """The headers for the dropped fields, the cache and the limits."""
    notes = header_rules.dropped_fields(dropped)
    if lookup is not None:
        notes = (*notes, ("x-edge-cache", lookup.state))
        key = lookup.key_text
        if key is not None:
            notes = (*notes, ("x-edge-cache-key", key))
    return notes if reservation is None else (*notes, *reservation.headers)
