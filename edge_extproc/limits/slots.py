"""Finds a concurrency limit that is certainly used up, without a query to the store.

Calls in progress in this worker are a lower bound of all calls in progress. So a limit that is full here is full
everywhere. A limit that has room here is decided by the store, with the reservation.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence

from .base import CallerLimits, LimitRule
from .counters import counter_of
from .frames import OpenReservation


def reserved_by(reservations: Iterable[OpenReservation]) -> dict[str, int]:
    """By counter: what calls in progress have reserved."""
    reserved: dict[str, int] = {}
    for reservation in reservations:
        for counter, amount in zip(reservation.frame.counters.items, reservation.amounts, strict=True):
            reserved[counter.key] = reserved.get(counter.key, 0) + amount
    return reserved


async def full_rule(
    rules: CallerLimits, reserved: Callable[[], Mapping[str, int]], delays: Sequence[float]
) -> LimitRule | None:
    """The concurrency limit that is still full after the delays; None if each has room. `reserved`: by counter, what
    calls in progress in this worker have reserved now."""
    slots = [
        (counter_of(rule, key, None, 0.0).key, rule)
        for rule, key in zip(rules.rules, rules.keys, strict=True)
        if rule.measure == "concurrent" and rule.hard
    ]
    if not slots:
        return None
    for delay in (*delays, None):
        now = reserved()
        full = next((rule for key, rule in slots if now.get(key, 0) >= rule.maximum), None)
        if full is None or delay is None:
            return full
        await asyncio.sleep(delay)
    return None
