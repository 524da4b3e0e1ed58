"""Single flight: of equal calls at the same time, the first goes to a provider, and the others wait for its reply.

A flight ends with an entry, or with None if the first call has no reply to share: then the waiting calls go on by
themselves. The call that opened a flight must end it, however it ends itself.
"""

from __future__ import annotations

import asyncio

from .base import CacheEntry
from .key import CacheKey


class Flight:
    """One call in progress, and the equal calls that wait for it."""

    __slots__ = ("_flights", "_key", "_result")

    def __init__(self, flights: Flights, key: CacheKey) -> None:
        self._flights = flights
        self._key = key
        self._result: asyncio.Future[CacheEntry | None] | None = None

    async def wait(self, patience: float) -> CacheEntry | None:
        """The entry. None: there is none, or it takes longer than `patience` seconds."""
        if self._result is None:
            self._result = asyncio.get_running_loop().create_future()
        self._flights.waiting += 1
        try:
            await asyncio.wait((self._result,), timeout=patience)
        finally:
            self._flights.waiting -= 1
        return self._result.result() if self._result.done() else None

    def end(self, entry: CacheEntry | None) -> None:
        """Wakes the waiting calls. May be called more than once: only the first call counts."""
        self._flights.forget(self._key, self)
        if self._result is not None and not self._result.done():
            self._result.set_result(entry)


class Flights:
    """The flights of one process, by key."""

    def __init__(self) -> None:
        self.waiting = 0
        """The number of calls that wait for an equal call."""
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
