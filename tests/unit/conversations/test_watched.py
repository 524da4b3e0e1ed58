"""The operations of a store of conversations are counted."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from edge_extproc.conversations.base import Blocks, Bounds
from edge_extproc.conversations.memory import MemoryConversations
from edge_extproc.conversations.watched import WatchedConversations
from edge_extproc.errors import PolicyUnavailable, TooLarge
from edge_extproc.telemetry.conversation_metrics import ConversationMetrics
from edge_extproc.telemetry.metrics import LabelNames, Metrics


class Counted:
    """A store in memory, and its metrics."""

    def __init__(self, **bounds: float) -> None:
        self.now = 0.0
        self._registry = Metrics(LabelNames(), version="0", started_at=0.0)
        metrics: ConversationMetrics = self._registry.conversations
        settings = {"entries": 2, "size": 10_000, "ttl": 60.0, **bounds}
        inner = MemoryConversations(
            Bounds(int(settings["entries"]), int(settings["size"]), settings["ttl"]),
            100_000,
            lambda: self.now,
            metrics.removed,
        )
        metrics.watch(lambda: self.store.down is not None, inner)
        self.metrics = metrics
        self.store = WatchedConversations(inner, metrics)

    def value(self, name: str, **labels: str) -> float | None:
        return self._registry.registry.get_sample_value(name, labels)

    def operations(self, operation: str, result: str = "done") -> float | None:
        return self.value("edge_conversation_operations_total", operation=operation, result=result)


def test_each_operation_is_counted_with_its_result_and_its_bytes() -> None:
    counted = Counted()

    async def work() -> None:
        store = counted.store
        await store.write("acme", "a", b"12345")
        await store.append("acme", "a", b"678")
        await store.append("acme", "none", b"x")
        await store.replace("acme", "a", 1, b"678", b"67")
        await store.replace("acme", "a", 1, b"678", b"67")
        await store.read("acme", ["a", "none", "none too"])
        await store.delete("acme", "none")
        with pytest.raises(TooLarge):
            await store.write("acme", "b", b"x" * 20_000)

    asyncio.run(work())

    assert [1, 1, 1, 1] == [counted.operations(name) for name in ("write", "append", "replace", "read")]
    assert [1, 1, 2, 1] == [counted.operations(name, "missed") for name in ("append", "replace", "read", "delete")]
    assert 1 == counted.operations("write", "too_large")
    sizes = [counted.value("edge_conversation_bytes_total", operation=name) for name in ("write", "append", "read")]
    assert [5, 3, 7] == sizes
    assert 1 == counted.value("edge_conversation_records")
    assert (counted.value("edge_conversation_memory_bytes") or 0) > 7


def test_what_the_store_removes_is_counted_by_its_reason() -> None:
    counted = Counted()

    async def work() -> None:
        for id in "abc":
            await counted.store.write("acme", id, b"x")
        counted.now = 100
        await counted.store.read("acme", ["c"])
        await counted.store.write("acme", "d", b"x")
        await counted.store.write("acme", "e", b"x")

    asyncio.run(work())

    removals = [counted.value("edge_conversation_removals_total", reason=reason) for reason in ("room", "expired")]
    assert [1, 2] == removals


class Failing(MemoryConversations):
    down = "connection refused"

    async def read(self, tenant: str, ids: Sequence[str]) -> list[Blocks | None]:
        raise PolicyUnavailable("no store")

    async def append(self, tenant: str, id: str, block: bytes) -> bool:
        raise PolicyUnavailable("no store")

    async def replace(self, tenant: str, id: str, at: int, before: bytes, block: bytes) -> bool:
        raise PolicyUnavailable("no store")

    async def delete(self, tenant: str, id: str) -> bool:
        raise PolicyUnavailable("no store")


def test_an_outage_is_counted() -> None:
    counted = Counted()
    counted.store = WatchedConversations(Failing(Bounds(1, 1, 1.0), 1, lambda: 0.0), counted.metrics)

    async def work() -> None:
        for step in (
            counted.store.read("acme", ["a", "b"]),
            counted.store.append("acme", "a", b"x"),
            counted.store.replace("acme", "a", 0, b"x", b"y"),
            counted.store.delete("acme", "a"),
        ):
            with pytest.raises(PolicyUnavailable):
                await step
        counted.store.not_stored("acme", PolicyUnavailable("no store"))
        counted.store.not_stored("acme", TooLarge("x"))
        await counted.store.close()

    asyncio.run(work())

    names = ("read", "append", "replace", "delete")
    assert [2, 1, 1, 1] == [counted.operations(name, "error") for name in names]
    reasons = ("error", "too_large")
    assert [1, 1] == [counted.value("edge_conversation_unstored_replies_total", reason=reason) for reason in reasons]
    assert 1 == counted.value("edge_conversation_store_down")
