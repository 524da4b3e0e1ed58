"""The L2 tier of the cache on a real Valkey: shared, and never in a call's way."""

from __future__ import annotations

import asyncio
import contextlib
import ssl

import pytest
import structlog
from redis.asyncio import Redis
from valkeys import Valkey, until

from edge_extproc.cache.base import CacheEntry, PurgeSelection
from edge_extproc.cache.key import CacheKey, CacheOwner, CanonicalCall, key_of
from edge_extproc.cache.l2 import StoreTier, StoreTierSettings
from edge_extproc.cache.packing import pack
from edge_extproc.cache.redis import RedisCacheSettings, RedisCacheStore
from edge_extproc.envoy_config import certificate
from edge_extproc.errors import Unavailable

NOW = 1_700_000_000.0
# Ample: what is tested is that there is an answer, not how fast this machine is today.
AMPLE = 5.0


def key(n: int = 0, tenant: str = "acme", model: str = "gpt-*[4]", sharing: str = "tenant", team: str = "") -> CacheKey:
    return key_of(CacheOwner(sharing, tenant, team), model, (), CanonicalCall(b"%d" % n, None))


def entry(text: bytes = b"{}", ttl: float | None = None) -> CacheEntry:
    return CacheEntry("openai_chat", text, "openai", "gpt", NOW, ttl=ttl)


class Heard:
    def __init__(self) -> None:
        self.failures: list[str] = []
        self.writes = 0
        self.down: list[bool] = []

    def cache_looked_up(self, tier, seconds, *, found):
        raise AssertionError("the tier does not count look-ups")

    def cache_wrote(self, tier):
        self.writes += 1

    def cache_failed(self, tier, why):
        self.failures.append(why)

    def cache_is_down(self, tier, *, down):
        self.down.append(down)


class Tier:
    """An L2 tier, its events, and the entries that arrived late."""

    def __init__(self, budget: float = AMPLE, timeout: float = 5.0, **settings) -> None:
        self.heard = Heard()
        self.late: dict[CacheKey, CacheEntry] = {}
        self.now = NOW
        self.store = RedisCacheStore(RedisCacheSettings(timeout=timeout, **settings))
        settings = StoreTierSettings(ttl=3600, budget=budget, compress_above=8192, probe_interval=0.02)
        self.tier = StoreTier(self.store, settings, self.heard, self.late.__setitem__, lambda: self.now)

    async def get(self, wanted: CacheKey) -> CacheEntry | None:
        return (await self.tier.get(wanted, 0)).entry

    async def put(self, wanted: CacheKey, kept: CacheEntry) -> None:
        before = self.heard.writes
        self.tier.put(wanted, kept, None)
        await until(lambda: self.heard.writes > before)


@pytest.fixture(scope="module")
def server():
    with Valkey() as valkey:
        yield valkey


@pytest.fixture
async def tiers():
    """Makes tiers, and closes them."""
    made: list[Tier] = []

    def make(**settings) -> Tier:
        made.append(Tier(**settings))
        return made[-1]

    yield make
    for each in made:
        await each.tier.close()


@pytest.fixture
async def valkey(server):
    """A client to look behind the tier's back, on an empty server."""
    async with Redis.from_url(server.url) as client:
        await client.flushall()
        yield client


# --- what is shared


async def test_what_one_replica_keeps_another_one_finds(server, valkey, tiers):
    one, other = tiers(url=server.url), tiers(url=server.url)
    kept = entry(b"word " * 10_000)
    await one.put(key(1), kept)

    assert kept == await other.get(key(1))
    assert await other.get(key(2)) is None
    assert await other.get(key(1, tenant="umbrella")) is None
    (name,) = await valkey.keys()
    assert await valkey.strlen(name) < 5_000
    assert 3_590_000 < await valkey.pttl(name) <= 3_600_000
    assert [] == one.heard.failures + other.heard.failures


async def test_an_entry_may_have_a_time_of_its_own_and_a_late_clock_forgets(server, valkey, tiers):
    tier = tiers(url=server.url)
    await tier.put(key(1), entry(ttl=60))

    (name,) = await valkey.keys()
    assert 50_000 < await valkey.pttl(name) <= 60_000
    tier.now = NOW + 61
    assert await tier.get(key(1)) is None


@pytest.mark.parametrize("why", ["garbage", "version", "other"])
async def test_what_cannot_be_read_is_a_miss(server, valkey, tiers, why):
    tier = tiers(url=server.url)
    wanted = key(1)
    packed = pack(key(2).digest if why == "other" else wanted.digest, entry(), 100)
    spoiled = {"garbage": b"\x00hello", "version": packed[:4] + b"\x00" + packed[5:], "other": packed}[why]
    await valkey.set(tier.store.name(wanted), spoiled)

    assert await tier.get(wanted) is None
    assert [why] == tier.heard.failures
    await tier.put(wanted, entry())
    assert await tier.get(wanted) is not None


async def test_another_type_under_the_name_is_a_miss(server, valkey, tiers):
    tier = tiers(url=server.url)
    await valkey.lpush(tier.store.name(key(1)), "x")

    assert await tier.get(key(1)) is None
    assert (await tier.tier.get(key(1), 1.0)).entry is None
    assert ["refused", "refused"] == tier.heard.failures


# --- purge


@pytest.mark.parametrize(
    ("selection", "gone"),
    [
        (PurgeSelection(), {"a", "a2", "team", "u", "all"}),
        (PurgeSelection(tenant="acme"), {"a", "a2", "team"}),
        (PurgeSelection(tenant="acme", model="n"), {"a2"}),
        (PurgeSelection(model="gpt-*[4]"), {"a", "team", "u", "all"}),
        (PurgeSelection(model="*"), set()),
        (PurgeSelection(shared=True), {"all"}),
        (PurgeSelection(digest=key(1).digest), {"a"}),
        (PurgeSelection(tenant="acm"), set()),
    ],
)
async def test_purging_takes_what_was_chosen_and_nothing_else(server, valkey, tiers, selection, gone):
    tier = tiers(url=server.url)
    stranger = tiers(url=server.url, namespace="other")
    keys = {
        "a": key(1),
        "a2": key(1, model="n"),
        "team": key(1, sharing="team", team="blue"),
        "u": key(1, tenant="umbrella"),
        "all": key(1, sharing="global"),
    }
    for each in keys.values():
        await tier.put(each, entry())
    await stranger.put(key(1), entry())

    assert len(gone) == await tier.tier.purge(selection)
    assert set(keys) - gone == {name for name, each in keys.items() if await tier.get(each) is not None}
    assert await stranger.get(key(1)) is not None


async def test_a_purge_that_cannot_be_told_is_an_error(tiers):
    with Valkey() as gone:
        tier = tiers(url=gone.url)
    with pytest.raises(Unavailable):
        await tier.tier.purge(PurgeSelection())


# --- equal calls in several processes


async def test_one_process_asks_and_the_others_wait(server, valkey, tiers):
    one, other = tiers(url=server.url), tiers(url=server.url)
    first, second = await one.tier.get(key(1), 60), await other.tier.get(key(1), 60)

    assert first.token is not None
    assert (None, None, True) == (second.entry, second.token, second.elsewhere)
    waiting = asyncio.ensure_future(other.tier.wait(key(1), 60))
    one.tier.put(key(1), entry(), first.token)
    assert entry() == await waiting
    assert 1 == await valkey.dbsize()


async def test_a_reply_that_comes_between_two_looks_at_it_is_seen(server, valkey, tiers):
    one = tiers(url=server.url)
    first = await one.tier.get(key(1), 60)

    class Late:
        """The entry comes, and its lease goes, right after the first command of a look."""

        def __init__(self, client):
            self._client = client
            self._commands = 0

        def __getattr__(self, name):
            async def command(*arguments):
                told = await getattr(self._client, name)(*arguments)
                self._commands += 1
                if self._commands == 1:
                    await one.store.put(one.store.name(key(1)), b"packed", 60_000, first.token)
                return told

            return command

    other = tiers(url=server.url)
    own, other.store._client = other.store._client, Late(other.store._client)
    answer = await other.store.look(other.store.name(key(1)))
    other.store._client = own

    assert b"packed" == answer.value


async def test_others_go_on_when_the_first_brings_nothing(server, valkey, tiers):
    one, other = tiers(url=server.url), tiers(url=server.url)
    first = await one.tier.get(key(1), 60)
    waiting = asyncio.ensure_future(other.tier.wait(key(1), 60))
    one.tier.release(key(1), first.token)

    assert await waiting is None
    assert 0 == await valkey.dbsize()


async def test_a_lease_ends_by_itself_and_only_its_owner_ends_it(server, valkey, tiers):
    one, other = tiers(url=server.url), tiers(url=server.url)
    mine = await one.tier.get(key(1), 60)
    other.tier.release(key(1), "guess")
    other.tier.put(key(2), entry(), "guess")
    await until(lambda: other.heard.writes == 1)

    assert (await other.tier.get(key(1), 60)).elsewhere
    (lease,) = await valkey.keys("*:lease")
    assert 50_000 < await valkey.pttl(lease) <= 60_000
    await valkey.pexpire(lease, 1)
    assert await other.tier.wait(key(1), 60) is None
    assert mine.token is not None


async def test_a_call_that_leaves_while_it_asks_gives_its_lease_back(server, valkey, tiers):
    tier = tiers(url=server.url)
    await tier.get(key(9))
    asking = asyncio.ensure_future(tier.tier.get(key(1), 60))
    await asyncio.sleep(0)
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)

    async def is_free() -> bool:
        return 0 == await valkey.dbsize()

    await until(lambda: not tier.tier._lookups)
    await until(is_free)


async def test_a_server_that_has_forgotten_our_scripts_is_told_again(server, valkey, tiers):
    tier = tiers(url=server.url)
    await tier.put(key(1), entry())
    await valkey.script_flush()

    assert (await tier.tier.get(key(1), 60)).entry is not None
    assert [] == tier.heard.failures


# --- down, slow, full


async def test_a_store_that_is_gone_is_left_alone_until_it_is_back(tiers):
    with Valkey() as server, structlog.testing.capture_logs() as lines:
        tier = tiers(url=server.url)
        await tier.put(key(1), entry())
        server.kill()
        for _ in range(5):
            assert await tier.get(key(1)) is None
        assert tier.tier.is_down
        told = len(tier.heard.failures)
        for _ in range(100):
            assert await tier.get(key(1)) is None
            tier.tier.put(key(1), entry(), None)
        assert told == len(tier.heard.failures) == 5

        server.start()
        await until(lambda: not tier.tier.is_down)
        await tier.put(key(2), entry())
        assert await tier.get(key(2)) == entry()

    assert ["cache store down", "cache store back"] == [line["event"] for line in lines]
    assert [True, False] == tier.heard.down
    assert {"unreachable"} == set(tier.heard.failures)


async def test_a_store_that_hangs_costs_a_call_its_budget_and_what_comes_late_is_kept(tiers):
    with Valkey() as server:
        tier = tiers(url=server.url, budget=0.05, timeout=30.0)
        await until(lambda: is_found(tier))
        server.pause()
        for _ in range(5):
            assert await tier.get(key(1)) is None
        assert tier.tier.is_down
        assert {"slow"} == set(tier.heard.failures)
        tier.late.clear()

        server.go_on()
        await until(lambda: not tier.tier.is_down)
        await until(lambda: key(1) in tier.late)
        assert entry() == tier.late[key(1)]


async def is_found(tier: Tier) -> bool:
    tier.tier.put(key(1), entry(), None)
    return await tier.get(key(1)) is not None


async def test_a_store_that_is_full_still_answers(tiers):
    with Valkey("--maxmemory", "1mb", "--maxmemory-policy", "noeviction") as server:
        tier = tiers(url=server.url)
        with structlog.testing.capture_logs() as lines:
            async with Redis.from_url(server.url) as client:
                await client.config_set("maxmemory", 0)
                await tier.put(key(1), entry())
                await client.config_set("maxmemory", 1)
            for n in range(10):
                tier.tier.put(key(10 + n), entry(), "token")
            await until(lambda: 10 == tier.heard.failures.count("full"))

            assert entry() == await tier.get(key(1))
            assert entry() == (await tier.tier.get(key(1), 60)).entry
            assert not tier.tier.is_down
        assert ["cache store full"] == [line["event"] for line in lines]


async def test_what_waits_to_be_written_is_bounded(tiers):
    with Valkey() as server:
        tier = tiers(url=server.url)
        for n in range(1500):
            tier.tier.put(key(n), entry(), None)

        assert 500 <= tier.heard.failures.count("write_dropped") <= 501
        await until(lambda: tier.heard.writes >= 999)
        large = entry(bytes(range(256)) * 4 * 10_000)
        tier.tier._queued_bytes = 0
        big = CacheEntry("openai_chat", large.body * 4, "openai", "gpt", NOW)
        before = tier.heard.failures.count("write_dropped")
        tier.tier._settings = StoreTierSettings(3600, AMPLE, 1 << 30, 0.02)
        tier.tier.put(key(1), big, None)
        assert before + 1 == tier.heard.failures.count("write_dropped")


async def test_closing_writes_what_waits(server, valkey):
    tier = Tier(url=server.url)
    for n in range(20):
        tier.tier.put(key(n), entry(), None)
    await tier.tier.close()

    assert 20 == await valkey.dbsize()


# --- how it is reached


async def test_users_and_passwords(tiers):
    with Valkey() as server:
        async with Redis.from_url(server.url) as client:
            allowed = ("on", ">sesame", "~edge:*", "+@all", "-@dangerous")
            await client.execute_command("ACL", "SETUSER", "edge", *allowed)
            await client.execute_command("ACL", "SETUSER", "default", "off")
        welcome = tiers(url=server.url, username="edge", password="sesame")
        await welcome.put(key(1), entry())
        assert await welcome.get(key(1)) is not None
        assert 1 == await welcome.tier.purge(PurgeSelection(tenant="acme"))

        stranger = tiers(url=server.url, username="edge", password="guess")
        assert await stranger.get(key(1)) is None
        assert [] != stranger.heard.failures
        elsewhere = tiers(url=server.url, username="edge", password="sesame", namespace="other")
        assert await elsewhere.get(key(1)) is None
        assert ["refused"] == elsewhere.heard.failures
        assert "sesame" not in repr(RedisCacheSettings(password="sesame", sentinel_password="sesame"))


async def test_a_cluster(tiers):
    with contextlib.ExitStack() as stack:
        nodes = [
            stack.enter_context(Valkey("--cluster-enabled", "yes", "--cluster-config-file", "n.conf")) for _ in range(3)
        ]
        await make_cluster(nodes)
        one, other = (tiers(cluster=[("127.0.0.1", nodes[n].port)]) for n in (0, 2))
        await until(lambda: is_found(one))
        for n in range(30):
            await one.put(key(n), entry(b"%d" % n))

        assert [b"%d" % n for n in range(30)] == [(await other.get(key(n))).body for n in range(30)]
        sizes = []
        for node in nodes:
            async with Redis.from_url(node.url) as client:
                sizes.append(await client.dbsize())
        assert 30 == sum(sizes)
        assert all(sizes)
        first = await one.tier.get(key(100), 60)
        assert (await other.tier.get(key(100), 60)).elsewhere
        one.tier.put(key(100), entry(), first.token)
        assert entry() == await other.tier.wait(key(100), 60)
        assert 31 == await one.tier.purge(PurgeSelection(tenant="acme"))


async def make_cluster(nodes: list[Valkey]) -> None:
    """Three masters, without replicas."""
    ends = [0, 5461, 10923, 16384]
    async with contextlib.AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(Redis.from_url(node.url)) for node in nodes]
        for client, low, high in zip(clients, ends, ends[1:], strict=False):
            await client.execute_command("CLUSTER", "ADDSLOTSRANGE", low, high - 1)
        for node in nodes[1:]:
            await clients[0].execute_command("CLUSTER", "MEET", "127.0.0.1", node.port)

        async def is_one() -> bool:
            told = [await client.execute_command("CLUSTER", "INFO") for client in clients]
            texts = [str(each) for each in told]
            return all("ok" in t and "3" in t for t in texts) and all(
                is_known(each, "cluster_known_nodes", "3") and is_known(each, "cluster_state", "ok") for each in told
            )

        await until(is_one)


def is_known(told: object, field: str, value: str) -> bool:
    if isinstance(told, dict):
        return str(told.get(field)) == value
    text = told.decode() if isinstance(told, bytes) else str(told)
    return f"{field}:{value}" in text


async def test_sentinels_say_which_server_it_is(server, valkey, tiers):
    watched = f"sentinel monitor ours 127.0.0.1 {server.port} 1"
    with Valkey(sentinel=watched) as sentinel:
        tier = tiers(sentinels=[("127.0.0.1", sentinel.port)], master="ours")
        await until(lambda: is_found(tier))

        assert 1 == await valkey.dbsize()


async def test_tls_and_who_is_trusted(server, valkey, tiers, tmp_path):
    files = certificate.ensure(tmp_path, names=["localhost"])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.certificate, files.private_key)

    async def pass_on(reader, writer):
        there, back = await asyncio.open_connection("127.0.0.1", server.port)
        with contextlib.suppress(OSError):
            await asyncio.gather(pump(reader, back), pump(there, writer))

    async def pump(source, sink):
        while data := await source.read(65536):
            sink.write(data)
            await sink.drain()
        sink.close()

    proxy = await asyncio.start_server(pass_on, "127.0.0.1", 0, ssl=context)
    port = proxy.sockets[0].getsockname()[1]
    try:
        trusting = tiers(url=f"rediss://localhost:{port}/0", ca=str(files.ca))
        await trusting.put(key(1), entry())
        assert entry() == await trusting.get(key(1))
        assert 1 == await valkey.dbsize()

        wary = tiers(url=f"rediss://localhost:{port}/0")
        assert await wary.get(key(1)) is None
        assert ["unreachable"] == wary.heard.failures
        await wary.tier.close()
        await trusting.tier.close()
    finally:
        proxy.close()
