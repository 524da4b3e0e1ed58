"""Two caches, as two workers have them, and one Valkey behind both."""

from __future__ import annotations

import asyncio

import pytest
from every_dialect import EVERY_NAME
from valkeys import Valkey, until

from edge_extproc import registry
from edge_extproc.cache.base import NewReply
from edge_extproc.cache.l2 import StoreTier, StoreTierSettings
from edge_extproc.cache.memory import MemoryTier
from edge_extproc.cache.policy import CachePolicies, CachePolicy
from edge_extproc.cache.redis import RedisCacheSettings, RedisCacheStore
from edge_extproc.cache.tiered import CacheBounds, TieredCache
from edge_extproc.model.content import Text
from edge_extproc.model.plan import Candidate
from edge_extproc.model.principal import Principal
from edge_extproc.model.reply import Choice, Finish, Reply

DIALECT = registry.load("dialects", "openai_chat")
BODY = b'{"model":"m","temperature":0,"messages":[{"role":"user","content":"Hello"}]}'
CALL = DIALECT.read_call(BODY, "chat", (), "/v1/chat/completions")
MADE = NewReply(
    Reply("openai_chat", "1", "m", (Choice((Text("Hi"),), Finish("stop")),)), b"{}", "openai", "gpt", None, ("seed",)
)


class Heard:
    def __init__(self):
        self.lookups = []
        self.writes = []
        self.failures = []

    def cache_looked_up(self, tier, seconds, *, found):
        self.lookups.append((tier, found))

    def cache_wrote(self, tier):
        self.writes.append(tier)

    def cache_failed(self, tier, why):
        self.failures.append((tier, why))

    def cache_is_down(self, tier, *, down):
        self.failures.append((tier, "down"))


class Worker:
    now = 1_700_000_000.0

    def __init__(self, url, stale=0.0, **bounds):
        self.heard = Heard()
        limits = CacheBounds(
            **{"max_entry": 1 << 20, "wait": 20.0, "wait_of_streams": 20.0, "message_timeout": 60.0, **bounds}
        )
        l1 = MemoryTier(100, 1 << 22, 300)
        self.cache = TieredCache(
            CachePolicies(CachePolicy(stale=stale), {}, {}), limits, l1, None, self.heard, lambda: self.now
        )
        store = RedisCacheStore(RedisCacheSettings(url=url))
        settings = StoreTierSettings(ttl=3600, budget=5.0, compress_above=8192, purge_interval=0.02)
        self.cache.l2 = StoreTier(store, settings, self.heard, self.cache.fill, lambda: self.now)

    def turn(self, tenant="acme", headers=()):
        return self.cache.start_lookup(
            Principal(tenant, "key"), CALL, [Candidate("openai", "gpt")], headers, DIALECT.read_chat, EVERY_NAME
        )

    async def written(self):
        await until(lambda: "redis" in self.heard.writes)


async def no_more_time(seconds):
    raise AssertionError("Envoy needs no word")


@pytest.fixture(scope="module")
def server():
    with Valkey() as valkey:
        yield valkey


@pytest.fixture
async def workers(server):
    async with RedisCacheStore(RedisCacheSettings(url=server.url))._client as client:
        await client.flushall()
    made = [Worker(server.url), Worker(server.url)]
    yield made
    for each in made:
        await each.cache.close()


async def kept(worker, headers=()):
    turn = worker.turn(headers=headers)
    assert await turn.look_up(no_more_time) is None
    turn.store(MADE)
    turn.close()
    await worker.written()


async def test_what_one_has_the_other_finds_far_and_then_near(workers):
    one, other = workers
    await kept(one)
    first, second = other.turn(), other.turn()

    assert b"{}" == (await first.look_up(no_more_time)).body
    assert ("seed",) == (await second.look_up(no_more_time)).dropped
    assert ["redis", "memory"] == [first.tier, second.tier]
    assert [("memory", False), ("redis", True), ("memory", True)] == other.heard.lookups
    assert 0 == len(other.cache.flights)
    assert await other.turn(tenant="umbrella").look_up(no_more_time) is None


async def test_what_was_found_far_stays_near_no_longer_than_it_may_live(workers):
    one, other = workers
    await kept(one, headers=(("x-edge-cache-ttl", "100"),))
    other.now += 60
    assert await other.turn().look_up(no_more_time) is not None
    other.now += 39
    assert await other.turn().look_up(no_more_time) is not None
    other.now += 1

    assert await other.turn().look_up(no_more_time) is None


async def test_a_reply_that_is_too_old_for_this_caller_is_not_given_and_asked_anew(workers):
    one, other = workers
    await kept(one)
    other.now += 60
    turn = other.turn(headers=(("cache-control", "max-age=30"),))

    assert await turn.look_up(no_more_time) is None
    assert "miss" == turn.state
    turn.close()


async def test_one_asks_for_both(workers):
    one, other = workers
    leading, following = one.turn(), other.turn()
    assert await leading.look_up(no_more_time) is None
    waiting = asyncio.ensure_future(following.look_up(no_more_time))
    await until(lambda: ("redis", False) in other.heard.lookups)
    leading.store(MADE)
    leading.close()

    assert b"{}" == (await waiting).body
    assert ("hit", "flight") == (following.state, following.tier)
    assert following.waited > 0


async def test_who_waited_in_vain_goes_alone_and_lets_others_go(workers):
    one, other = workers
    leading, following, third = one.turn(), other.turn(), other.turn()
    await leading.look_up(no_more_time)
    waiting = [asyncio.ensure_future(each.look_up(no_more_time)) for each in (following, third)]
    await until(lambda: ("redis", False) in other.heard.lookups)
    leading.close()

    assert await waiting[0] is None
    following.close()
    assert await waiting[1] is None
    third.close()
    assert [] == other.heard.failures
    assert 0 == len(other.cache.flights)


async def test_a_purge_is_for_both_tiers(workers):
    one, _ = workers
    await kept(one)

    assert 0 == await one.cache.purge_json(b'{"tenant":"umbrella"}')
    assert 2 == await one.cache.purge_json(b'{"tenant":"acme","model":"m"}')
    assert await one.turn().look_up(no_more_time) is None


def lies_near(worker):
    return worker.cache.l1.counts().entries


async def test_a_purge_reaches_the_memory_of_workers_elsewhere(workers):
    one, other = workers
    await kept(one)
    await other.turn().look_up(no_more_time)
    other.cache.start()
    await until(lambda: "redis" in one.heard.writes and lies_near(other) == 1)
    await heard_of(other, one, b'{"tenant":"umbrella"}')
    assert 1 == lies_near(other)
    await one.cache.purge_json(b'{"tenant":"acme"}')

    await until(lambda: lies_near(other) == 0)
    assert await other.turn(headers=(("cache-control", "max-age=9999"),)).look_up(no_more_time) is None


async def heard_of(listener, purger, wanted):
    """Waits until the listener has asked for purges after this one."""
    asked, purges = [], listener.cache.l2._store.purges

    async def counted():
        asked.append(await purges())
        return asked[-1]

    await purger.cache.purge_json(wanted)
    listener.cache.l2._store.purges = counted
    await until(lambda: len(asked) > 1)


async def test_who_has_missed_too_many_purges_forgets_all(workers):
    one, other = workers
    await kept(one)
    await other.turn().look_up(no_more_time)
    other.cache.start()
    await heard_of(other, one, b'{"tenant":"umbrella"}')
    await one.cache.l2._store._client.delete("edge:purges")

    await until(lambda: lies_near(other) == 0)


async def test_a_reply_past_its_time_lies_far_for_when_no_provider_answers(server, workers):
    one, other = (Worker(server.url, stale=7200.0) for _ in range(2))
    await kept(one)
    other.now += 4000
    turn, follower = other.turn(), one.turn()
    # The store goes by its own clock: it must see that the time is over, so that one asks and the others wait.
    (name,) = [n for n in await one.cache.l2._store._client.keys() if b"lease" not in n]
    assert 10_700_000 < await one.cache.l2._store._client.pttl(name) <= 10_800_000
    await one.cache.l2._store._client.pexpire(name, 7_000_000)

    assert await turn.look_up(no_more_time) is None
    assert turn._token is not None
    assert b"{}" == turn.stale_entry().body
    assert ("stale", False) == (turn.state, turn.may_store)
    turn.close()
    follower.close()
    late = Worker(server.url, stale=7200.0)
    late.now += 3600 + 7200
    missed = late.turn()
    assert await missed.look_up(no_more_time) is None
    assert missed.stale_entry() is None
    missed.close()
    for worker in (one, other, late):
        await worker.cache.close()
