"""The store in memory: it finds the nearest records of one partition, and stays within its bounds."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_extproc.cache.base import CacheEntry, PurgeSelection
from edge_extproc.cache.key import CacheKey
from edge_extproc.cache.memory import OVERHEAD
from edge_extproc.cache.semantic.base import SemanticRecord, Vector
from edge_extproc.cache.semantic.memory_store import MemoryVectorStore

ONE, OTHER = b"1" * 32, b"2" * 32


def vector(angle: float) -> Vector:
    return np.array([np.cos(angle), np.sin(angle)], np.float32)


def record(
    number: int, partition: bytes = ONE, angle: float = 0.0, expires: float = 100.0, tenant: str = "acme"
) -> SemanticRecord:
    key = CacheKey(f"tenant/{tenant}", "chat", number.to_bytes(32, "big"))
    entry = CacheEntry("openai_chat", b"{}", "openai", "gpt", 0.0)
    return SemanticRecord(key, partition, f"question {number}", vector(angle), entry, "", expires)


async def numbers(
    store: MemoryVectorStore, partition: bytes = ONE, angle: float = 0.0, count: int = 9, now: float = 1.0
) -> list[int]:
    found = await store.nearest(partition, vector(angle), count, now)
    return [int.from_bytes(each.record.key.digest, "big") for each in found]


async def test_the_nearest_come_first_and_only_those_of_the_partition() -> None:
    store = MemoryVectorStore(100, 1 << 20)
    for number, angle in enumerate((0.9, 0.1, 0.5)):
        await store.put(record(number, angle=angle), 1.0)
    await store.put(record(7, OTHER), 1.0)

    assert [1, 2, 0] == await numbers(store)
    assert [1, 2] == await numbers(store, count=2)
    assert [7] == await numbers(store, OTHER)
    assert [] == await numbers(store, b"3" * 32)
    (nearest, *_) = await store.nearest(ONE, vector(0.1), 1, 1.0)
    assert 1.0 == round(nearest.similarity, 5)


async def test_an_expired_record_is_gone() -> None:
    store = MemoryVectorStore(100, 1 << 20)
    await store.put(record(1, expires=10.0), 1.0)
    await store.put(record(2, expires=20.0), 1.0)
    await store.put(record(3, expires=1.0), 1.0)

    assert [2] == await numbers(store, now=10.0)
    assert 1 == store.counts().entries


async def test_the_same_call_is_stored_once() -> None:
    store = MemoryVectorStore(100, 1 << 20)
    await store.put(record(1, angle=1.0), 1.0)
    await store.put(record(1, angle=0.0), 1.0)

    assert [1] == await numbers(store)
    assert 1 == store.counts().entries


async def test_what_was_used_least_recently_is_evicted() -> None:
    store = MemoryVectorStore(2, 1 << 20)
    await store.put(record(1, angle=0.0), 1.0)
    await store.put(record(2, angle=1.0), 1.0)
    await numbers(store, angle=0.0)
    await store.put(record(3, angle=2.0), 1.0)

    assert {1, 3} == set(await numbers(store))
    assert (2, 1) == (store.counts().entries, store.counts().evictions)


async def test_the_bound_of_bytes_holds_and_a_larger_record_is_not_stored() -> None:
    store = MemoryVectorStore(100, 3 * (OVERHEAD + 100))
    for number in range(9):
        await store.put(record(number), 1.0)
    large = record(99)
    large.entry.body = b"x" * 10_000  # type: ignore[misc]
    await store.put(large, 1.0)

    assert 3 == store.counts().entries
    assert store.counts().bytes <= 3 * (OVERHEAD + 100)
    assert 99 not in await numbers(store)


async def test_a_purge_selects_by_tenant_model_and_key() -> None:
    store = MemoryVectorStore(100, 1 << 20)
    for number, tenant in enumerate(("acme", "acme", "umbrella")):
        await store.put(record(number, tenant=tenant), 1.0)

    assert 0 == await store.purge(PurgeSelection(model="other"))
    assert 1 == await store.purge(PurgeSelection(digest=(0).to_bytes(32, "big")))
    assert 1 == await store.purge(PurgeSelection(tenant="umbrella"))
    assert [1] == await numbers(store)
    assert 1 == await store.purge(PurgeSelection())
    assert (0, 0) == (store.counts().entries, store.counts().bytes)


STEP = st.one_of(
    st.tuples(st.just("put"), st.integers(0, 9), st.sampled_from([ONE, OTHER]), st.floats(0, 3)),
    st.tuples(st.just("purge"), st.integers(0, 9), st.sampled_from([ONE, OTHER]), st.floats(0, 3)),
)


@given(st.lists(STEP, max_size=40))
@settings(deadline=None)
async def test_it_finds_what_a_plain_list_finds(steps: list[tuple[str, int, bytes, float]]) -> None:
    store, plain = MemoryVectorStore(1000, 1 << 24), dict[tuple[bytes, int], float]()
    for what, number, partition, angle in steps:
        if what == "put":
            await store.put(record(number, partition, angle), 1.0)
            plain[partition, number] = angle
        else:
            await store.purge(PurgeSelection(digest=number.to_bytes(32, "big")))
            plain = {name: each for name, each in plain.items() if name[1] != number}

    for partition in (ONE, OTHER):
        assert {number for at, number in plain if at == partition} == set(await numbers(store, partition, count=99))
    assert len(plain) == store.counts().entries
