"""Equal calls at one time: the first goes, the others wait for its reply, for a while.

A flight ends with an entry, or with None where the first call brought nothing that others may have: then those who
waited go on by themselves. Whoever opened a flight must end it, however its own call ended.
"""

from __future__ import annotations

import asyncio

from .base import CacheEntry
from .key import CacheKey


class Flight:
    __slots__ = ("_ended", "_flights", "_key")

    def __init__(self, flights: Flights, key: CacheKey) -> None:
        self._flights = flights
        self._key = key
        self._ended: asyncio.Future[CacheEntry | None] | None = None

    async def wait(self, patience: float) -> CacheEntry | None:
        """What it brought; None where that is nothing, or takes longer than `patience` seconds."""
        if self._ended is None:
            self._ended = asyncio.get_running_loop().create_future()
        self._flights.waiting += 1
        try:
            await asyncio.wait((self._ended,), timeout=patience)
        finally:
            self._flights.waiting -= 1
        return self._ended.result() if self._ended.done() else None

    def end(self, entry: CacheEntry | None) -> None:
        """Once or more; the first call counts."""
        self._flights.forget(self._key, self)
        if self._ended is not None and not self._ended.done():
            self._ended.set_result(entry)


class Flights:
    """Of one process, by key."""

    def __init__(self) -> None:
        self.waiting = 0
        """Calls that wait for an equal one."""
        self._by_key: dict[CacheKey, Flight] = {}

    def __len__(self) -> int:
        return len(self._by_key)

    def under_way(self, key: CacheKey) -> Flight | None:
        return self._by_key.get(key)

    def open(self, key: CacheKey) -> Flight:
        flight = self._by_key[key] = Flight(self, key)
        return flight

    def forget(self, key: CacheKey, flight: Flight) -> None:
        if self._by_key.get(key) is flight:
            del self._by_key[key]
