"""The store of conversations on a real Valkey: shared, bounded, expiring, encrypted."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import TypeVar

import pytest
from redis.asyncio import Redis
from valkeys import Valkey, until

from edge_extproc.codecs.sealing import BlockCipher
from edge_extproc.conversations.base import Bounds, RemovalListener, ignore_removal
from edge_extproc.conversations.redis import RedisConversations
from edge_extproc.errors import PolicyUnavailable, TooLarge

T = TypeVar("T")
CIPHER = BlockCipher(["a key of the tests, long enough"])


@pytest.fixture
def valkey() -> Iterator[Valkey]:
    with Valkey() as running:
        yield running


def stored(
    valkey: Valkey, cipher: BlockCipher = CIPHER, removed: RemovalListener = ignore_removal, **bounds: float
) -> RedisConversations:
    settings = {"entries": 10, "size": 100_000, "ttl": 60.0, **bounds}
    return RedisConversations(
        valkey.url, 5.0, Bounds(int(settings["entries"]), int(settings["size"]), settings["ttl"]), cipher, removed
    )


def run(valkey: Valkey, work: Callable[[RedisConversations], Awaitable[T]], **bounds: float) -> T:
    async def with_store() -> T:
        store = stored(valkey, **bounds)
        try:
            return await work(store)
        finally:
            await store.close()

    return asyncio.run(with_store())


def test_processes_share_the_records_of_a_tenant(valkey: Valkey) -> None:
    async def work(store: RedisConversations) -> list[object]:
        other = stored(valkey)
        await store.write("acme", "a", b"1")
        added = await other.append("acme", "a", b"2")
        missing = await other.append("acme", "b", b"2")
        read = await other.read("acme", ["a", "b"])
        foreign = await other.read("umbrella", ["a"])
        not_deleted = await other.delete("umbrella", "a")
        deleted = await other.delete("acme", "a")
        after = await store.read("acme", ["a"])
        await other.close()
        return [added, missing, read, foreign, not_deleted, deleted, after]

    assert [True, False, [(b"1", b"2"), None], [None], False, True, [None]] == run(valkey, work)


def test_a_block_is_replaced_if_it_is_the_expected_one(valkey: Valkey) -> None:
    async def work(store: RedisConversations) -> list[object]:
        await store.write("acme", "old", b"x")
        await store.write("acme", "a", b"1")
        await store.append("acme", "a", b"2" * 500)
        replaced = await store.replace("acme", "a", 1, b"2" * 500, b"3")
        refused = [
            await store.replace("acme", "a", 1, b"2" * 500, b"4"),
            await store.replace("acme", "a", 7, b"2", b"4"),
            await store.replace("acme", "b", 0, b"1", b"4"),
            await store.replace("umbrella", "a", 0, b"1", b"4"),
        ]
        with pytest.raises(TooLarge):
            await store.replace("acme", "a", 0, b"1", b"x" * 1_000)
        # Its bytes were counted: there is room again, and a block that grows takes that of an old record.
        await store.write("acme", "c", b"5" * 500)
        before = [*await store.read("acme", ["old"]), *await store.read("acme", ["a", "c"])]
        grown = await store.replace("acme", "a", 0, b"1", b"6" * 380)
        after = await store.read("acme", ["a", "c", "old"])
        return [replaced, refused, before, grown, after]

    replaced, refused, before, grown, after = run(valkey, work, size=1_000)

    assert (True, [False] * 4, True) == (replaced, refused, grown)
    assert [(b"x",), (b"1", b"3"), (b"5" * 500,)] == before
    assert [(b"6" * 380, b"3"), (b"5" * 500,), None] == after


def test_two_replacements_of_one_block_at_once_do_not_both_happen(valkey: Valkey) -> None:
    async def work(store: RedisConversations) -> list[bool]:
        await store.write("acme", "a", b"1")
        changes = [store.replace("acme", "a", 0, b"1", b"new %d" % n) for n in range(5)]
        return list(await asyncio.gather(*changes))

    assert [False, False, False, False, True] == sorted(run(valkey, work))


def test_records_and_bytes_of_a_tenant_are_bounded(valkey: Valkey) -> None:
    async def work(store: RedisConversations) -> list[bool]:
        await store.write("umbrella", "u", b"x")
        for n in range(4):
            await store.write("acme", f"r{n}", b"x")
            await store.read("acme", ["r0"])
        by_count = await store.read("acme", [f"r{n}" for n in range(4)])
        for n in range(3):
            await store.write("acme", f"s{n}", b"x" * 2_000)
        by_size = await store.read("acme", [f"s{n}" for n in range(3)])
        of_umbrella = await store.read("umbrella", ["u"])
        return [found is not None for found in (*by_count, *by_size, *of_umbrella)]

    found = run(valkey, work, entries=2, size=5_000)

    assert [True, False, False, True] == found[:4]
    assert [False, True, True] == found[4:7]
    assert found[7]


def test_a_record_that_is_too_large_is_refused(valkey: Valkey) -> None:
    async def work(store: RedisConversations) -> None:
        await store.write("acme", "a", b"x")
        with pytest.raises(TooLarge):
            await store.append("acme", "a", b"x" * 1_000)
        with pytest.raises(TooLarge):
            await store.write("acme", "b", b"x" * 1_000)
        assert [(b"x",), None] == await store.read("acme", ["a", "b"])

    run(valkey, work, size=1_000)


def test_what_is_not_used_expires_and_its_size_no_longer_counts(valkey: Valkey) -> None:
    async def work(store: RedisConversations) -> None:
        await store.write("acme", "a", b"x" * 600)

        async def gone() -> bool:
            plain = Redis.from_url(valkey.url)
            keys = await plain.keys("edge:conversations:*:record:*")
            await plain.aclose()
            return not keys

        await until(gone)
        await store.write("acme", "b", b"x" * 600)
        assert await store.read("acme", ["a"]) == [None]
        assert (await store.read("acme", ["b"])) != [None]

    run(valkey, work, size=1_000, ttl=0.3)


def test_what_the_store_removes_is_counted(valkey: Valkey) -> None:
    removals: list[tuple[str, int]] = []

    async def work(_: RedisConversations) -> None:
        def removed(why: str, records: int) -> None:
            removals.append((why, records))

        small = stored(valkey, removed=removed, entries=1)
        brief = stored(valkey, removed=removed, ttl=0.3)

        async def expired() -> bool:
            await brief.write("umbrella", "in use", b"x")
            return ("expired", 1) in removals

        try:
            await small.write("acme", "a", b"x")
            await small.write("acme", "b", b"x")
            await brief.write("umbrella", "not used", b"x")
            await until(expired)
        finally:
            await small.close()
            await brief.close()

    run(valkey, work)

    assert [("room", 1), ("expired", 1)] == removals


def test_the_server_sees_neither_text_nor_tenant(valkey: Valkey) -> None:
    async def work(store: RedisConversations) -> bytes:
        await store.write("acme-corporation", "resp_1", b"a secret plan")
        plain = Redis.from_url(valkey.url)
        seen = b""
        for key in await plain.keys("*"):
            kind = await plain.type(key)
            value = await plain.lrange(key, 0, -1) if kind == b"list" else []
            seen += key + b"".join(value)
        await plain.aclose()
        return seen

    seen = run(valkey, work)

    assert b"resp_1" in seen
    assert b"secret plan" not in seen
    assert b"acme-corporation" not in seen


def test_a_record_of_another_key_is_as_if_it_were_not_there(valkey: Valkey) -> None:
    async def work(store: RedisConversations) -> list[object]:
        await store.write("acme", "a", b"1")
        other = stored(valkey, BlockCipher(["another key, also long enough"]))
        read: list[object] = list(await other.read("acme", ["a"]))
        await other.close()
        return read

    assert [None] == run(valkey, work)


def test_an_outage_is_an_error_and_ends(valkey: Valkey) -> None:
    async def work(store: RedisConversations) -> None:
        await store.write("acme", "a", b"1")
        valkey.kill()
        with pytest.raises(PolicyUnavailable):
            await store.read("acme", ["a"])
        assert store.down is not None
        valkey.start()
        assert [None] == await store.read("acme", ["a"])
        assert store.down is None

    run(valkey, work)
