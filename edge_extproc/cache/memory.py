"""The L1 tier: a W-TinyLFU cache in this process, bounded by a number of entries and by bytes.

W-TinyLFU keeps entries that are read often, and evicts those that were read once: many new calls in a row do not evict
the popular ones. Each entry has its own expiry.
"""

from __future__ import annotations

from typing import Literal

from moka_py import Moka

from .base import CacheEntry, PurgeSelection, TierCounts
from .key import CacheKey

# Bytes that an entry takes besides its body: the objects, the key, the index and the table's own share. Measured with
# tracemalloc and the growth of a process (bench/cache.py).
OVERHEAD = 1500


class MemoryTier:
    """The `L1Tier`. `entries`, `size` (bytes): the bounds. `ttl`: default time to live, seconds."""

    def __init__(self, entries: int, size: int, ttl: float, policy: Literal["tiny_lfu", "lru"] = "tiny_lfu") -> None:
        self._ttl = ttl
        self._evictions = 0
        self._bytes = 0
        self._index: dict[CacheKey, int] = {}
        # moka has one bound. With a least weight for each entry, a bound on the weight also bounds the number.
        self._min_weight = -(-size // entries)
        self._table: Moka[CacheKey, tuple[CacheEntry, float]] = Moka(
            self._min_weight * entries, eviction_listener=self._on_eviction, policy=policy, weigher=self._weight
        )

    def get(self, key: CacheKey, now: float) -> CacheEntry | None:
        cached = self._table.get(key)
        # The table has its own clock and removes expired entries late, so the expiry is checked here.
        return cached[0] if cached is not None and now < cached[1] else None

    def get_stale(self, key: CacheKey, now: float) -> CacheEntry | None:
        cached = self._table.get(key)
        return cached[0] if cached is not None and cached[1] <= now < cached[1] + cached[0].stale else None

    def put(self, key: CacheKey, entry: CacheEntry, now: float, until: float | None = None) -> None:
        expires = now + self._ttl if entry.ttl is None else entry.stored_at + entry.ttl
        if until is not None and until < expires:
            expires = until
        removed_at = expires + entry.stale
        if removed_at <= now:
            return
        size = _size(entry)
        self._bytes += size - self._index.get(key, 0)
        self._index[key] = size
        self._table.set(key, (entry, expires), ttl=removed_at - now)
        # Without this call, moka applies the bounds only some time later.
        self._table.run_pending_tasks()

    def purge(self, selection: PurgeSelection) -> int:
        matching = [key for key in self._index if fits(key, selection)]
        for key in matching:
            self._table.remove(key)
        self._table.run_pending_tasks()
        return len(matching)

    def counts(self) -> TierCounts:
        self._table.run_pending_tasks()
        return TierCounts(len(self._index), self._bytes, self._evictions)

    def _weight(self, _: CacheKey, cached: tuple[CacheEntry, float]) -> int:
        return max(_size(cached[0]), self._min_weight)

    def _on_eviction(self, key: CacheKey, _: tuple[CacheEntry, float], cause: str) -> None:
        if cause == "replaced":
            return
        self._bytes -= self._index.pop(key, 0)
        if cause != "explicit":
            self._evictions += 1


def _size(entry: CacheEntry) -> int:
    return len(entry.body) + OVERHEAD


def fits(key: CacheKey, selection: PurgeSelection) -> bool:
    """Whether the entry of this key is selected."""
    if selection.digest is not None and key.digest != selection.digest:
        return False
    if selection.model is not None and key.model != selection.model:
        return False
    if selection.tenant is None and not selection.shared:
        return True
    return (selection.shared and key.owner == "global") or (
        selection.tenant is not None and key.belongs_to(selection.tenant)
    )
