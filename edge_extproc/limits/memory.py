"""Counters of one process: for one worker, and for the time in which the shared store is down.

The same rules as redis.py keeps, step for step; nothing here waits, so each step is atomic.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from .base import MICRO, Entry, Lost, Settled, StoreSettings, Taken

# How long the news of a lost lease is kept for the worker that may come back to it.
_LOST_SECONDS = 86_400
# So often, in steps, what has expired is swept out.
_SWEEP_EVERY = 4096


@dataclass(slots=True)
class _Lease:
    entries: tuple[tuple[str, int, bool], ...]
    """Key, amount, slot."""
    until: float
    lost: Lost


class MemoryStore:
    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._counters: dict[str, int] = {}
        self._expires: dict[str, int] = {}
        self._leases: dict[str, _Lease] = {}
        """The next one to be lost comes first."""
        self._lost: dict[str, _Lease] = {}
        self._steps = 0

    def take_now(self, lease: str, entries: Sequence[Entry], seconds: int, lost: Lost) -> Taken:
        now = self._clock()
        self._lose(now)
        counters = self._counters
        used, before, ok = [], [], True
        for entry in entries:
            at, last = counters.get(entry.key, 0), 0
            if entry.weight:
                last = counters.get(entry.before, 0)
                at -= -last * entry.weight // MICRO
            used.append(at)
            before.append(last)
            if entry.hard and at + entry.amount > entry.maximum:
                ok = False
        if ok:
            for entry in entries:
                counters[entry.key] = counters.get(entry.key, 0) + entry.amount
                self._expires[entry.key] = entry.expires
            if seconds:
                held = tuple((entry.key, entry.amount, entry.slot) for entry in entries)
                self._leases[lease] = _Lease(held, now + seconds, lost)
        return Taken(ok, tuple(used), tuple(before))

    def settle_now(self, settled: Sequence[Settled]) -> None:
        for each in settled:
            lease, is_lost = self._leases.pop(each.lease, None), False
            if lease is None:
                lease, is_lost = self._lost.pop(each.lease, None), True
            if lease is None:
                continue
            for (key, amount, slot), used in zip(lease.entries, each.used, strict=True):
                held = 0 if is_lost and (slot or lease.lost == "release") else amount
                self._change(key, (0 if slot else amount if used < 0 else used) - held)

    async def take(self, lease: str, entries: Sequence[Entry], seconds: int, lost: Lost) -> Taken:
        return self.take_now(lease, entries, seconds, lost)

    async def settle(self, settled: Sequence[Settled]) -> None:
        self.settle_now(settled)

    async def add(self, amounts: Sequence[tuple[str, int, int]]) -> None:
        for key, amount, expires in amounts:
            self._expires.setdefault(key, expires)
            self._counters[key] = self._counters.get(key, 0) + amount

    async def renew(self, leases: Sequence[str], seconds: int) -> None:
        until = self._clock() + seconds
        for name in leases:
            lease = self._leases.pop(name, None)
            if lease is not None:
                lease.until = until
                self._leases[name] = lease

    async def close(self) -> None:
        """Nothing is open."""

    def _change(self, key: str, by: int) -> None:
        if by and key in self._counters:
            self._counters[key] = max(0, self._counters[key] + by)

    def _lose(self, now: float) -> None:
        while self._leases:
            name = next(iter(self._leases))
            lease = self._leases[name]
            if lease.until > now:
                break
            self._lost[name] = self._leases.pop(name)
            for key, amount, slot in lease.entries:
                if slot or lease.lost == "release":
                    self._change(key, -amount)
        self._steps += 1
        if self._steps % _SWEEP_EVERY == 0:
            for name in [n for n, lease in self._lost.items() if lease.until + _LOST_SECONDS < now]:
                del self._lost[name]
            for key in [k for k, at in self._expires.items() if at < now]:
                del self._expires[key]
                self._counters.pop(key, None)


class MemoryKind:
    def build(self, settings: StoreSettings) -> MemoryStore:
        return MemoryStore(settings.clock or time.time)


PLUGIN = MemoryKind()
