"""Finds a concurrency limit that is certainly used up, without a query to the store.

Calls in progress in this worker are a lower bound of all calls in progress. So a limit that is full here is full
everywhere. A limit that has room here is decided by the store, with the reservation. A large body that is on its way
counts as a call in progress (docs/adr/333).
"""

from __future__ import annotations

import asyncio
from collections import Counter
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


class Uploads:
    """The large requests of this worker whose bodies are on their way."""

    def __init__(self) -> None:
        self._open: dict[str, tuple[str, ...]] = {}
        """By exchange: the counters of its concurrency limits."""

    def close(self, exchange_id: str) -> None:
        """The body is there, or does not come any more."""
        self._open.pop(exchange_id, None)

    async def open(
        self,
        exchange_id: str,
        rules: CallerLimits,
        reserved: Callable[[], Mapping[str, int]],
        delays: Sequence[float],
    ) -> LimitRule | None:
        """The concurrency limit that is still full after the delays. None: each has room, and the upload is open until
        `close`. `reserved`: by counter, what calls in progress in this worker have reserved now."""
        slots = [
            (counter_of(rule, key, None, 0.0).key, rule)
            for rule, key in zip(rules.rules, rules.keys, strict=True)
            if rule.measure == "concurrent" and rule.hard
        ]
        if not slots:
            return None
        for delay in (*delays, None):
            in_use = Counter(reserved())
            for counters in self._open.values():
                in_use.update(counters)
            full = next((rule for key, rule in slots if in_use[key] >= rule.maximum), None)
            if full is None:
                self._open[exchange_id] = tuple([key for key, _ in slots])
                return None
            if delay is None:
                return full
            await asyncio.sleep(delay)
        return None
