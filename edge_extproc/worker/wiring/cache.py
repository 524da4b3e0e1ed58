"""Builds the response cache from the configuration. Tiers that are not configured are not imported."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from ...config.cache import CacheConfig, CacheRedisConfig, split_node
from ...config.quantities import MAX_MESSAGE_TIMEOUT
from ...config.schema import Config
from ...config.semantic import SemanticCacheConfig

if TYPE_CHECKING:
    from ...cache.base import CacheEntry, CacheListener, L3Tier
    from ...cache.key import CacheKey
    from ...cache.l2 import StoreTier
    from ...cache.policy import CachePolicies
    from ...cache.redis import RedisCacheStore
    from ...cache.tiered import CacheBounds, TieredCache


def build_cache(
    config: Config, listener: CacheListener, build_l3: Callable[[SemanticCacheConfig], L3Tier] | None = None
) -> TieredCache | None:
    """None if the configuration has no cache. `build_l3` is called if it has a semantic one."""
    if config.cache is None:
        return None
    from ...cache import memory, tiered

    settings = config.cache
    l1 = memory.MemoryTier(settings.memory.entries, settings.memory.size, settings.memory.ttl.total_seconds())
    cache = tiered.TieredCache(_rules(settings), _bounds(config, settings), l1, None, listener, time.time)
    if settings.redis is not None:
        cache.l2 = _build_l2(settings.redis, listener, cache.fill)
    if settings.semantic is not None and build_l3 is not None:
        cache.l3 = build_l3(settings.semantic)
    return cache


def change_cache(cache: TieredCache, config: Config) -> None:
    """Applies the rules of another configuration. Entries stay, for callers who may still read them."""
    if config.cache is not None:
        cache.change(_rules(config.cache), _bounds(config, config.cache))


def _rules(settings: CacheConfig) -> CachePolicies:
    from ...cache import policy

    return policy.CachePolicies(
        policy.CachePolicy(**settings.common()),  # type: ignore[arg-type]  # the configuration has checked the values
        {name: changes.given() for name, changes in settings.models.items()},
        {name: changes.given() for name, changes in settings.tenants.items()},
    )


def _bounds(config: Config, settings: CacheConfig) -> CacheBounds:
    from ...cache import tiered

    return tiered.CacheBounds(
        settings.max_entry,
        settings.single_flight.wait.total_seconds(),
        settings.single_flight.wait_of_streams.total_seconds(),
        message_timeout=config.limits.message_timeout.total_seconds() * 0.8,
        max_message_timeout=max(MAX_MESSAGE_TIMEOUT, config.limits.message_timeout).total_seconds(),
    )


def _build_l2(
    settings: CacheRedisConfig, listener: CacheListener, on_late: Callable[[CacheKey, CacheEntry], None]
) -> StoreTier:
    from ...cache import l2  # takes a third of a second and 38 MiB, so only with Redis

    tier = l2.StoreTierSettings(settings.ttl.total_seconds(), settings.budget.total_seconds(), settings.compress_above)
    return l2.StoreTier(build_store(settings), tier, listener, on_late, time.time)


def build_store(settings: CacheRedisConfig) -> RedisCacheStore:
    from ...cache import redis

    sentinel, tls = settings.sentinel, settings.tls
    return redis.RedisCacheStore(
        redis.RedisCacheSettings(
            url=settings.url,
            cluster=[split_node(node) for node in settings.cluster or ()],
            sentinels=[split_node(node) for node in sentinel.nodes] if sentinel is not None else (),
            master=sentinel.master if sentinel is not None else "",
            database=sentinel.database if sentinel is not None else 0,
            username=settings.username,
            password=settings.password.reveal() if settings.password is not None else None,
            sentinel_username=sentinel.username if sentinel is not None else None,
            sentinel_password=sentinel.password.reveal() if sentinel is not None and sentinel.password else None,
            tls=tls is not None,
            ca=str(tls.ca) if tls is not None and tls.ca is not None else None,
            certificate=str(tls.certificate) if tls is not None and tls.certificate is not None else None,
            private_key=str(tls.private_key) if tls is not None and tls.private_key is not None else None,
            namespace=settings.namespace,
        )
    )
