"""The `LimitStore` in the memory of one process: for a gateway without a shared store, and while the store is down.

It implements the same steps as redis.py. No step waits, so each one is atomic.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from .base import (
    MAX_COUNT,
    MAX_RUNS,
    MICRO,
    MOST,
    LimitStoreSettings,
    Lost,
    ReserveResult,
    SettleResult,
    WindowCounter,
    WindowCounters,
    WrongParent,
)

# Seconds that a lost lease is remembered, for a worker that settles it later.
_LOST_SECONDS = 86_400
# Runs whose parent is remembered. An older one may be given another parent.
_MAX_PARENTS = 100_000
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
        self._expired: dict[str, _Lease] = {}
        self._workers: dict[str, float] = {}
        """By name: the time from which the worker is not counted."""
        self._steps = 0
        self._parents: dict[tuple[str, str], str] = {}
        """By tenant and run: the run that it is a part of, or ""."""

    def reserve_now(
        self, lease: str, counters: WindowCounters, amounts: Sequence[int], weight: int, seconds: int, lost: Lost
    ) -> ReserveResult:
        now = self._clock()
        self._lose_expired(now)
        counts = self._counters
        current, used, earlier_totals, ok = [], [], [], True
        for (key, before, maximum, hard, expires, _, kind, stated), amount in zip(counters.items, amounts, strict=True):
            at = total = counts.get(key, 0)
            earlier = 0
            if kind != "window":
                maximum = earlier = self._narrowed(key, maximum, stated, expires)
                if kind == "clock":
                    total = max(0, int(now) - at) if at else 0
                    ok = ok and total < maximum
            elif weight and before:
                earlier = counts.get(before, 0)
                total -= -earlier * weight // MICRO
            current.append(at)
            used.append(total)
            earlier_totals.append(earlier)
            if hard and total + amount > maximum:
                ok = False
        if ok:
            for counter, amount, at in zip(counters.items, amounts, current, strict=True):
                key = counter.key
                counts[key] = (at or int(now)) if counter.kind == "clock" else min(at + amount, MAX_COUNT)
                if not at or counter.slot or counter.kind != "window":
                    self._expires[key] = counter.expires
            if seconds:
                self._leases[lease] = _Lease(counters, amounts, now + seconds, lost)
        return ReserveResult(ok, tuple(used), tuple(earlier_totals))

    def settle_now(self, lease: str, used: Sequence[int]) -> None:
        """`used`: the final amount for each counter. -1: the reserved amount."""
        record, is_lost = self._leases.pop(lease, None), False
        if record is None:
            record, is_lost = self._expired.pop(lease, None), True
        if record is None:
            return
        for counter, amount, spent in zip(record.counters.items, record.amounts, used, strict=True):
            key, slot = counter.key, counter.slot
            reserved = 0 if is_lost and (slot or record.lost == "release") else amount
            by = (0 if slot else amount if spent < 0 else spent) - reserved
            if by:
                self._change(key, by)

    def ancestry_now(self, tenant: str, run: str, parent: str | None) -> tuple[str, ...]:
        """`ancestry`; the record lasts as long as this process."""
        known = self._parents.get((tenant, run))
        if known is not None and parent is not None and known != parent:
            raise WrongParent(f"it began with the parent {known!r}" if known else "it began without a parent")
        chain, above = [run], known if known is not None else parent or ""
        while above:
            if above == run:
                raise WrongParent("it would be a part of itself")
            if len(chain) >= MAX_RUNS:
                raise WrongParent(f"it would be a part of more than {MAX_RUNS - 1} runs")
            chain.append(above)
            above = self._parents.setdefault((tenant, above), "")
        if known is None:
            self._parents[tenant, run] = parent or ""
            while len(self._parents) > _MAX_PARENTS:
                del self._parents[next(iter(self._parents))]
        return tuple(chain)

    async def ancestry(self, tenant: str, run: str, parent: str | None, seconds: int) -> tuple[str, ...]:
        del seconds
        return self.ancestry_now(tenant, run, parent)

    def _narrowed(self, key: str, maximum: int, stated: int, expires: int) -> int:
        """The smallest maximum of a run, which includes those that earlier calls have stated."""
        least = self._counters.get(key + MOST, -1)
        if stated >= 0 and (least < 0 or stated < least):
            least = self._counters[key + MOST] = stated
        if least >= 0:
            self._expires[key + MOST] = expires
        return min(maximum, least) if least >= 0 else maximum

    def value(self, key: str) -> int:
        return self._counters.get(key, 0)

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
            self._counters[key] = min(max(0, self._counters.get(key, 0) + amount), MAX_COUNT)

    def correct(self, amounts: Sequence[tuple[str, int, int]]) -> None:
        """The same for counters that still exist: a window that is over is not corrected."""
        for key, amount, _ in amounts:
            self._change(key, amount)

    async def renew(self, leases: Sequence[str], seconds: int) -> None:
        until = self._clock() + seconds
        for name in leases:
            lease = self._leases.pop(name, None)
            if lease is not None:
                lease.until = until
                self._leases[name] = lease

    async def read(self, keys: Sequence[str]) -> Sequence[int]:
        return [self._counters.get(key, 0) for key in keys]

    async def join(self, worker: str, milliseconds: int) -> int:
        now = self._clock()
        self._workers = {name: until for name, until in self._workers.items() if until > now}
        self._workers[worker] = now + milliseconds / 1000
        return len(self._workers)

    async def leave(self, worker: str) -> None:
        self._workers.pop(worker, None)

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
            self._expired[name] = self._leases.pop(name)
            for counter, amount in zip(lease.counters.items, lease.amounts, strict=True):
                if counter.slot or lease.lost == "release":
                    self._change(counter.key, -amount)
        self._steps += 1
        if self._steps % _SWEEP_EVERY == 0:
            for name in [n for n, lease in self._expired.items() if lease.until + _LOST_SECONDS < now]:
                del self._expired[name]
            for key in [k for k, at in self._expires.items() if at < now]:
                del self._expires[key]
                self._counters.pop(key, None)


class MemoryKind:
    def build(self, settings: LimitStoreSettings) -> MemoryLimitStore:
        return MemoryLimitStore(settings.clock or time.time)


PLUGIN = MemoryKind()
