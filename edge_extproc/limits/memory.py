"""The `LimitStore` in the memory of one process: for a gateway without a shared store, and while the store is down.

It implements the same steps as redis.py. No step waits, so each one is atomic.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from .base import (
    MAX_COUNT,
    MICRO,
    LimitStoreSettings,
    Lost,
    ReserveResult,
    SettleResult,
    WindowCounter,
    WindowCounters,
)

# Seconds that a lost lease is remembered, for a worker that settles it later.
_LOST_SECONDS = 86_400
# Expired counters are deleted every so many steps.
_SWEEP_EVERY = 4096


@dataclass(slots=True)
class _Lease:
    counters: WindowCounters
    amounts: Sequence[int]
    until: float
    lost: Lost


class MemoryLimitStore:
    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._counters: dict[str, int] = {}
        self._expires: dict[str, int] = {}
        self._leases: dict[str, _Lease] = {}
        """Ordered by expiry: the next one to be lost is first."""
        self._lost: dict[str, _Lease] = {}
        self._steps = 0

    def reserve_now(
        self, lease: str, counters: WindowCounters, amounts: Sequence[int], weight: int, seconds: int, lost: Lost
    ) -> ReserveResult:
        now = self._clock()
        self._lose_expired(now)
        counts = self._counters
        current, used, earlier_totals, ok = [], [], [], True
        for (key, before, maximum, hard, _, _), amount in zip(counters.items, amounts, strict=True):
            at = total = counts.get(key, 0)
            earlier = 0
            if weight and before:
                earlier = counts.get(before, 0)
                total -= -earlier * weight // MICRO
            current.append(at)
            used.append(total)
            earlier_totals.append(earlier)
            if hard and total + amount > maximum:
                ok = False
        if ok:
            for (key, _, _, _, expires, slot), amount, at in zip(counters.items, amounts, current, strict=True):
                counts[key] = min(at + amount, MAX_COUNT)
                if slot or not at:
                    self._expires[key] = expires
            if seconds:
                self._leases[lease] = _Lease(counters, amounts, now + seconds, lost)
        return ReserveResult(ok, tuple(used), tuple(earlier_totals))

    def settle_now(self, lease: str, used: Sequence[int]) -> None:
        """`used`: the final amount for each counter. -1: the reserved amount."""
        held, is_lost = self._leases.pop(lease, None), False
        if held is None:
            held, is_lost = self._lost.pop(lease, None), True
        if held is None:
            return
        for (key, _, _, _, _, slot), amount, spent in zip(held.counters.items, held.amounts, used, strict=True):
            reserved = 0 if is_lost and (slot or held.lost == "release") else amount
            by = (0 if slot else amount if spent < 0 else spent) - reserved
            if by:
                self._change(key, by)

    def total(self, counter: WindowCounter, weight: int) -> int:
        """The counter's value now, with the weighted part of the previous window. `weight`: in millionths."""
        return self._counters.get(counter.key, 0) - -self._counters.get(counter.before, 0) * weight // MICRO

    def counted(self, include: Callable[[str], bool]) -> Callable[[], list[tuple[str, int, int]]]:
        """Returns a function that another thread may call. It gives key, value and expiry of the counters whose key
        `include` accepts, as if every call in progress were lost now."""
        counters, expires, leases = dict(self._counters), dict(self._expires), list(self._leases.values())

        def after_loss() -> list[tuple[str, int, int]]:
            for lease in leases:
                if lease.lost == "release":
                    for counter, amount in zip(lease.counters.items, lease.amounts, strict=True):
                        counters[counter.key] = counters.get(counter.key, 0) - amount
            return [(key, max(0, amount), expires[key]) for key, amount in counters.items() if include(key)]

        return after_loss

    def put(self, amounts: Sequence[tuple[str, int, int]]) -> None:
        """Restores saved counters at a start. Expired ones are ignored."""
        now = self._clock()
        for key, amount, expires in amounts:
            if expires > now:
                self._counters[key], self._expires[key] = amount, expires

    async def reserve(
        self, lease: str, counters: WindowCounters, amounts: Sequence[int], weight: int, seconds: int, lost: Lost
    ) -> ReserveResult:
        return self.reserve_now(lease, counters, amounts, weight, seconds, lost)

    async def settle(self, settled: Sequence[SettleResult]) -> None:
        for each in settled:
            self.settle_now(each.lease, each.used)

    async def add(self, amounts: Sequence[tuple[str, int, int]]) -> None:
        for key, amount, expires in amounts:
            self._expires.setdefault(key, expires)
            self._counters[key] = min(self._counters.get(key, 0) + amount, MAX_COUNT)

    async def renew(self, leases: Sequence[str], seconds: int) -> None:
        until = self._clock() + seconds
        for name in leases:
            lease = self._leases.pop(name, None)
            if lease is not None:
                lease.until = until
                self._leases[name] = lease

    async def check_writable(self) -> None:
        """Always writable."""

    async def close(self) -> None:
        """There is nothing to close."""

    def _change(self, key: str, by: int) -> None:
        if key in self._counters:
            self._counters[key] = min(max(0, self._counters[key] + by), MAX_COUNT)

    def _lose_expired(self, now: float) -> None:
        while self._leases:
            name = next(iter(self._leases))
            lease = self._leases[name]
            if lease.until > now:
                break
            self._lost[name] = self._leases.pop(name)
            for counter, amount in zip(lease.counters.items, lease.amounts, strict=True):
                if counter.slot or lease.lost == "release":
                    self._change(counter.key, -amount)
        self._steps += 1
        if self._steps % _SWEEP_EVERY == 0:
            for name in [n for n, lease in self._lost.items() if lease.until + _LOST_SECONDS < now]:
                del self._lost[name]
            for key in [k for k, at in self._expires.items() if at < now]:
                del self._expires[key]
                self._counters.pop(key, None)


class MemoryKind:
    def build(self, settings: LimitStoreSettings) -> MemoryLimitStore:
        return MemoryLimitStore(settings.clock or time.time)


PLUGIN = MemoryKind()
