"""The store in Qdrant: the contract, in the client's local mode and at the server that QDRANT_URL names."""

from __future__ import annotations

import asyncio
import os
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import numpy as np
import pytest
from qdrant_client import AsyncQdrantClient

from edge_extproc.cache.base import CacheEntry, PurgeSelection
from edge_extproc.cache.key import CacheKey, CacheOwner
from edge_extproc.cache.semantic.base import SemanticFailure, SemanticRecord, Vector
from edge_extproc.cache.semantic.qdrant_store import QdrantSettings, QdrantStore, connect

ONE, OTHER = b"1" * 32, b"2" * 32


@pytest.fixture(params=["local", pytest.param("server", marks=pytest.mark.live)])
async def store(request: pytest.FixtureRequest) -> AsyncIterator[QdrantStore]:
    if request.param == "local":
        made = QdrantStore(AsyncQdrantClient(":memory:"), QdrantSettings("edge", 10.0, has_indexes=False))
        yield made
    else:
        # A collection of its own: the server may have others.
        settings = QdrantSettings(f"edge-test-{uuid.uuid4().hex[:12]}", 10.0, quantized=True)
        made = QdrantStore(
            connect(os.environ["QDRANT_URL"], os.environ.get("QDRANT_API_KEY"), None, None, 10), settings
        )
        yield made
        for length in (2, 3):
            await made._client.delete_collection(f"{settings.collection}-{length}")
    await made.close()


def vector(angle: float, length: int = 2) -> Vector:
    numbers = np.zeros(length, np.float32)
    numbers[:2] = np.cos(angle), np.sin(angle)
    return numbers


def record(
    number: int,
    partition: bytes = ONE,
    angle: float = 0.0,
    expires: float = 100.0,
    owner: CacheOwner | None = None,
    model: str = "chat",
    length: int = 2,
) -> SemanticRecord:
    key = CacheKey((owner or CacheOwner("tenant", "acme")).name, model, number.to_bytes(32, "big"))
    entry = CacheEntry("openai_chat", b'{"text": "\xc3\xbc"}', "openai", "gpt", 5.0, "stop", ttl=60.0)
    text = f"question {number}"
    return SemanticRecord(key, partition, text, vector(angle, length), entry, "the answer", expires)


async def numbers(
    store: QdrantStore, partition: bytes = ONE, angle: float = 0.0, count: int = 9, now: float = 1.0, length: int = 2
) -> list[int]:
    found = await store.nearest(partition, vector(angle, length), count, now)
    return [int.from_bytes(each.record.key.digest, "big") for each in found]


async def test_a_record_comes_back_as_it_was(store: QdrantStore) -> None:
    await store.put(record(1), 1.0)
    (found,) = await store.nearest(ONE, vector(0.5), 3, 1.0)

    same = record(1)
    assert (same.key, ONE, "question 1", same.entry, "the answer", 100.0) == (
        found.record.key,
        found.record.partition,
        found.record.text,
        found.record.entry,
        found.record.answer,
        found.record.expires,
    )
    assert np.cos(0.5) == pytest.approx(found.similarity, abs=0.02)


async def test_only_the_partition_is_searched_nearest_first(store: QdrantStore) -> None:
    for number, angle in enumerate((0.9, 0.1, 0.5)):
        await store.put(record(number, angle=angle), 1.0)
    await store.put(record(7, OTHER), 1.0)

    assert [1, 2, 0] == await numbers(store)
    assert [1] == await numbers(store, count=1)
    assert [7] == await numbers(store, OTHER)


async def test_nothing_is_found_before_the_first_record(store: QdrantStore) -> None:
    assert [] == await numbers(store)


async def test_the_same_call_is_stored_once(store: QdrantStore) -> None:
    await store.put(record(1, angle=1.0), 1.0)
    await store.put(record(1), 1.0)

    assert [1] == await numbers(store)


async def test_expired_records_are_neither_found_nor_kept(store: QdrantStore) -> None:
    await store.put(record(1, expires=10.0), 1.0)
    await store.put(record(2, expires=500.0), 1.0)
    await store.put(record(3, expires=1.0), 1.0)

    assert [2] == await numbers(store, now=10.0)
    await store.put(record(4, expires=900.0), 100.0)  # a minute later
    assert {2, 4} == set(await numbers(store))


async def test_vectors_of_another_length_do_not_meet(store: QdrantStore) -> None:
    await store.put(record(1), 1.0)
    await store.put(record(2, length=3), 1.0)

    assert [1] == await numbers(store)
    assert [2] == await numbers(store, length=3)
    assert 2 == await store.purge(PurgeSelection())


async def test_a_purge_selects_as_in_the_other_tiers(store: QdrantStore) -> None:
    owners = (
        CacheOwner("tenant", "acme"),
        CacheOwner("team", "acme", "a/b"),
        CacheOwner("tenant", "umbrella"),
        CacheOwner("global", "acme"),
        CacheOwner("tenant", "a/c me"),
    )
    for number, owner in enumerate(owners):
        await store.put(record(number, owner=owner, model=f"m{number}"), 1.0)

    assert 0 == await store.purge(PurgeSelection(tenant="nobody"))
    assert 1 == await store.purge(PurgeSelection(tenant="a/c me"))
    assert 0 == await store.purge(PurgeSelection(tenant="acme", model="m2"))
    assert 2 == await store.purge(PurgeSelection(tenant="acme"))
    assert {2, 3} == set(await numbers(store))
    assert 1 == await store.purge(PurgeSelection(shared=True))
    assert 1 == await store.purge(PurgeSelection(digest=(2).to_bytes(32, "big")))
    assert [] == await numbers(store)


async def test_a_point_of_another_program_is_ignored(store: QdrantStore) -> None:
    from qdrant_client import models

    await store.put(record(1), 1.0)
    payload = {"partition": ONE.hex(), "expires": 99.0, "digest": "zz"}
    await store._client.upsert("edge-2", [models.PointStruct(id=1, vector=[1.0, 0.0], payload=payload)])

    assert [1] == await numbers(store)


# --- a server that does not answer as it should


@asynccontextmanager
async def server(status: int | None) -> AsyncIterator[str]:
    """None: it never answers."""
    finished = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        if status is None:
            await finished.wait()
        else:
            writer.write(b"HTTP/1.1 %d x\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}" % status)
            await writer.drain()
        writer.close()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with listening:
        yield f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
        finished.set()


@pytest.mark.parametrize(
    ("status", "why"), [(500, "refused"), (401, "refused"), (507, "full"), (None, "slow")], ids=str
)
async def test_a_server_that_fails_is_a_failure_within_the_time(status: int | None, why: str) -> None:
    async with server(status) as url:
        store = QdrantStore(
            connect(url, "a-key", None, None, 1), QdrantSettings("edge", 0.05 if status is None else 10)
        )
        for use in (store.nearest(ONE, vector(0.0), 1, 1.0), store.put(record(1), 1.0), store.purge(PurgeSelection())):
            with pytest.raises(SemanticFailure) as failure:
                await use
            assert why == failure.value.why
        await store.close()


async def test_a_server_that_is_away_is_a_failure() -> None:
    async with server(500) as url:
        pass
    store = QdrantStore(connect(url, None, None, None, 1), QdrantSettings("edge", 10))
    with pytest.raises(SemanticFailure) as failure:
        await store.nearest(ONE, vector(0.0), 1, 1.0)
    await store.close()

    assert "unreachable" == failure.value.why
