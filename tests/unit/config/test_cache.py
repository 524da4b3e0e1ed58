"""What a configuration may say of the cache, and what becomes of it."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from edge_extproc.cache.l2 import StoreTier
from edge_extproc.config.load import parse
from edge_extproc.config.schema import Config
from edge_extproc.errors import ConfigError
from edge_extproc.worker.wiring.cache import build_cache

REST = """
auth: {pepper: "pepper-pepper-pepper"}
callers: [{tenant: dev, keys: [{id: dev, key: edge-0123456789abcdef0123456789}]}]
providers: {p: {kind: openai, api_key: secret}}
models: {m: [{provider: p}], "gpt-*": [{provider: p}]}
"""


class Deaf:
    """Hears nothing of what a cache tells."""

    def cache_looked_up(self, *_: object, found: bool) -> None: ...
    def cache_wrote(self, *_: object) -> None: ...
    def cache_failed(self, *_: object) -> None: ...
    def cache_is_down(self, *_: object, down: bool) -> None: ...


def read(cache: str) -> Config:
    return parse(
        f"cache: {cache}\n{REST}" if cache else REST, "f", environ={"PASSWORD": "sesame"}, base=Path("/nowhere")
    )


def test_there_is_no_cache_unless_it_is_asked_for() -> None:
    assert read("").cache is None
    assert build_cache(read(""), Deaf()) is None


def test_a_cache_has_a_default_for_everything() -> None:
    said = read("{}").cache

    assert said is not None
    assert (1000, 64 << 20, timedelta(minutes=5)) == (said.memory.entries, said.memory.size, said.memory.ttl)
    assert ("tenant", False, 0.0, False, ()) == (
        said.share,
        said.across_dialects,
        said.max_temperature,
        said.tool_calls,
        said.ignore,
    )
    cache = build_cache(read("{}"), Deaf())
    assert cache is not None
    assert cache.l2 is None


def test_models_and_tenants_may_differ() -> None:
    config = read(
        "{max_temperature: 1, models: {m: {ttl: 1h, ignore: [user]}, 'gpt-4*': {max_temperature: 0.5}},"
        " tenants: {dev: {share: global, tool_calls: true, across_dialects: true, enabled: false}}}"
    )
    cache = build_cache(config, Deaf())

    assert cache is not None
    found = cache._rules.policy_for("dev", "m")
    assert (3600.0, frozenset({"user"}), "global", True, True, False, 1.0) == (
        found.ttl,
        found.ignore,
        found.sharing,
        found.tool_calls,
        found.across_dialects,
        found.enabled,
        found.max_temperature,
    )
    assert 0.5 == cache._rules.policy_for("other", "gpt-4o").max_temperature


@pytest.mark.parametrize(
    "redis",
    [
        "{url: 'redis://localhost:6379/1', username: edge, password: {env: PASSWORD}}",
        "{url: 'rediss://[::1]:6379', tls: {}, ttl: 2h, budget: 3ms, namespace: ours}",
        "{url: 'unix:///run/redis.sock'}",
        "{cluster: ['a:6379', '[::1]:6380'], tls: {}}",
        "{sentinel: {master: ours, nodes: ['a:26379'], password: {env: PASSWORD}}}",
    ],
)
async def test_a_redis_is_named_in_three_ways(redis: str) -> None:
    cache = build_cache(read(f"{{redis: {redis}}}"), Deaf())

    assert cache is not None
    assert isinstance(cache.l2, StoreTier)
    await cache.close()


@pytest.mark.parametrize(
    ("cache", "told"),
    [
        ("{redis: {}}", "exactly one of url, cluster and sentinel is needed"),
        ("{redis: {url: 'redis://a', cluster: ['a:1']}}", "exactly one of url, cluster and sentinel is needed"),
        ("{redis: {url: 'redis://me:sesame@a'}}", "this URL contains a user or a password"),
        ("{redis: {url: 'http://a'}}", "this is not an address of a Redis"),
        ("{redis: {url: 'redis://a:x'}}", "this is not a URL"),
        ("{redis: {url: 'redis://a/b'}}", "has no host, or a database"),
        ("{redis: {url: 'unix://a'}}", "not a path of a Unix socket"),
        ("{redis: {url: 'redis://a', tls: {}}}", "tls is given for a URL without TLS"),
        ("{redis: {cluster: [a]}}", "this is not a host with its port"),
        ("{max_temperature: 3}", "this is not a temperature"),
        ("{max_temperature: warm}", "this is not a temperature"),
        ("{share: all}", "this is not one of tenant, team, global"),
        ("{tenants: {nobody: {}}}", "there is no tenant 'nobody'; have dev"),
        ("{models: {claude: {}}}", "there is no model 'claude'; have gpt-*, m"),
        ("{memory: {entries: 0}}", "out of range"),
    ],
)
def test_mistakes_are_told(cache: str, told: str) -> None:
    with pytest.raises(ConfigError) as found:
        read(cache)

    assert told in found.value.message
    assert "sesame" not in found.value.message
