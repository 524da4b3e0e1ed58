"""The cache of replies, as config wants it. What config does not ask for is not loaded."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from ...config.cache import CacheConfig, CacheRedisConfig, split_node
from ...config.quantities import MAX_MESSAGE_TIMEOUT
from ...config.schema import Config

if TYPE_CHECKING:
    from ...cache.base import CacheEntry, CacheListener
    from ...cache.key import CacheKey
    from ...cache.l2 import StoreTier
    from ...cache.policy import CachePolicies
    from ...cache.tiered import CacheBounds, TieredCache


def build_cache(config: Config, watcher: CacheListener) -> TieredCache | None:
    """None where config has no cache: then nothing of it is loaded."""
    if config.cache is None:
        return None
    from ...cache import memory, tiered

    said = config.cache
    l1 = memory.MemoryTier(said.memory.entries, said.memory.size, said.memory.ttl.total_seconds())
    cache = tiered.TieredCache(_rules(said), _bounds(config, said), l1, None, watcher, time.time)
    if said.redis is not None:
        cache.l2 = _build_l2(said.redis, watcher, cache.fill)
    return cache


def change_cache(cache: TieredCache, config: Config) -> None:
    """To the rules of another configuration; what lies in it stays, and is found by whoever still may have it."""
    if config.cache is not None:
        cache.change(_rules(config.cache), _bounds(config, config.cache))


def _rules(said: CacheConfig) -> CachePolicies:
    from ...cache import policy

    return policy.CachePolicies(
        policy.CachePolicy(**said.common()),  # type: ignore[arg-type]  # a dict of what config has checked
        {name: changes.given() for name, changes in said.models.items()},
        {name: changes.given() for name, changes in said.tenants.items()},
    )


def _bounds(config: Config, said: CacheConfig) -> CacheBounds:
    from ...cache import tiered

    return tiered.CacheBounds(
        said.max_entry,
        said.single_flight.wait.total_seconds(),
        said.single_flight.wait_of_streams.total_seconds(),
        message_timeout=config.limits.message_timeout.total_seconds() * 0.8,
        max_message_timeout=max(MAX_MESSAGE_TIMEOUT, config.limits.message_timeout).total_seconds(),
    )


def _build_l2(
    said: CacheRedisConfig, watcher: CacheListener, on_late: Callable[[CacheKey, CacheEntry], None]
) -> StoreTier:
    from ...cache import l2, redis  # a third of a second and 38 MiB, for those who share

    sentinel, tls = said.sentinel, said.tls
    store = redis.RedisCacheStore(
        redis.RedisCacheSettings(
            url=said.url,
            cluster=[split_node(node) for node in said.cluster or ()],
            sentinels=[split_node(node) for node in sentinel.nodes] if sentinel is not None else (),
            master=sentinel.master if sentinel is not None else "",
            database=sentinel.database if sentinel is not None else 0,
            username=said.username,
            password=said.password.reveal() if said.password is not None else None,
            sentinel_username=sentinel.username if sentinel is not None else None,
            sentinel_password=sentinel.password.reveal() if sentinel is not None and sentinel.password else None,
            tls=tls is not None,
            ca=str(tls.ca) if tls is not None and tls.ca is not None else None,
            certificate=str(tls.certificate) if tls is not None and tls.certificate is not None else None,
            private_key=str(tls.private_key) if tls is not None and tls.private_key is not None else None,
            namespace=said.namespace,
        )
    )
    settings = l2.StoreTierSettings(said.ttl.total_seconds(), said.budget.total_seconds(), said.compress_above)
    return l2.StoreTier(store, settings, watcher, on_late, time.time)
