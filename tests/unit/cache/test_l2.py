"""The L2 tier without its store: what the real one cannot be asked to do (tests/valkey has the rest)."""

from __future__ import annotations

import asyncio
from typing import Any, cast

from edge_extproc.cache.key import CacheKey
from edge_extproc.cache.l2 import CacheStore, CacheStoreError, StoreTier, StoreTierSettings


class Deaf:
    """Takes a cancellation for a failure, as happens in a library."""

    def name(self, key: CacheKey) -> str:
        return key.model

    async def get(self, name: str, lease: object) -> Any:
        raise CacheStoreError("unreachable")

    async def check_writable(self) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise CacheStoreError("unreachable") from None

    async def close(self) -> None:
        """Nothing is held."""


class Unheard:
    def cache_failed(self, tier: str, why: str) -> None:
        """Nobody listens."""

    def cache_is_down(self, tier: str, *, down: bool) -> None:
        """Nobody listens."""


async def test_it_closes_though_its_store_does_not_hear_that_it_is_cancelled() -> None:
    settings = StoreTierSettings(ttl=60, budget=1, compress_above=8192, probe_interval=0.001)
    tier = StoreTier(cast("CacheStore", Deaf()), settings, cast("Any", Unheard()), lambda *_: None, lambda: 0.0)
    while not tier.is_down:
        await tier.get(CacheKey("tenant:acme", "gpt", b"digest"), 0)
    await asyncio.sleep(0)

    async with asyncio.timeout(10):
        await tier.close()
