"""The near tier: W-TinyLFU in this process, bounded by entries and by bytes.

It keeps what is asked for often and forgets what came once, so that a scan of new questions does not wash the known
ones out. Every entry has a time of its own.
"""

from __future__ import annotations

from typing import Literal

from moka_py import Moka

from .base import CacheEntry, PurgeSelection, TierCounts
from .key import CacheKey

# What an entry takes beside its body: the entry, its key and facts, the index, and the table's own share. Measured
# with tracemalloc and the growth of a process (bench/cache.py).
OVERHEAD = 1500


class MemoryTier:
    """`ttl`: seconds, for entries that say nothing themselves."""

    def __init__(self, entries: int, size: int, ttl: float, policy: Literal["tiny_lfu", "lru"] = "tiny_lfu") -> None:
        self._ttl = ttl
        self._evictions = 0
        self._bytes = 0
        self._index: dict[CacheKey, int] = {}
        # One bound holds both: no entry weighs less than its share of the bytes.
        self._least = -(-size // entries)
        self._table: Moka[CacheKey, tuple[CacheEntry, float]] = Moka(
            self._least * entries, eviction_listener=self._gone, policy=policy, weigher=self._weight
        )

    def get(self, key: CacheKey, now: float) -> CacheEntry | None:
        found = self._table.get(key)
        # The table tells time by itself, and forgets when it comes to it.
        return found[0] if found is not None and now < found[1] else None

    def stale(self, key: CacheKey, now: float) -> CacheEntry | None:
        found = self._table.get(key)
        return found[0] if found is not None and found[1] <= now < found[1] + found[0].stale else None

    def put(self, key: CacheKey, entry: CacheEntry, now: float, until: float | None = None) -> None:
        expires = now + self._ttl if entry.ttl is None else entry.stored_at + entry.ttl
        if until is not None and until < expires:
            expires = until
        gone = expires + entry.stale
        if gone <= now:
            return
        size = _size(entry)
        self._bytes += size - self._index.get(key, 0)
        self._index[key] = size
        self._table.set(key, (entry, expires), ttl=gone - now)
        # Otherwise the bounds would hold only some time later.
        self._table.run_pending_tasks()

    def purge(self, selection: PurgeSelection) -> int:
        chosen = [key for key in self._index if fits(key, selection)]
        for key in chosen:
            self._table.remove(key)
        self._table.run_pending_tasks()
        return len(chosen)

    def counts(self) -> TierCounts:
        self._table.run_pending_tasks()
        return TierCounts(len(self._index), self._bytes, self._evictions)

    def _weight(self, _: CacheKey, found: tuple[CacheEntry, float]) -> int:
        return max(_size(found[0]), self._least)

    def _gone(self, key: CacheKey, _: tuple[CacheEntry, float], cause: str) -> None:
        if cause == "replaced":
            return
        self._bytes -= self._index.pop(key, 0)
        if cause != "explicit":
            self._evictions += 1


def _size(entry: CacheEntry) -> int:
    return len(entry.body) + OVERHEAD


def fits(key: CacheKey, selection: PurgeSelection) -> bool:
    if selection.digest is not None and key.digest != selection.digest:
        return False
    if selection.model is not None and key.model != selection.model:
        return False
    if selection.tenant is None and not selection.shared:
        return True
    return (selection.shared and key.owner == "global") or (
        selection.tenant is not None and key.belongs_to(selection.tenant)
    )
