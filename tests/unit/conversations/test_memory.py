"""The store of conversations in memory: its bounds, its expiry, and the tenants in it."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import pytest

from edge_extproc.conversations.base import Append, Bounds, Delete, Read, StoreSteps, Write, perform
from edge_extproc.conversations.memory import MemoryConversations
from edge_extproc.errors import TooLarge

T = TypeVar("T")


class Kept:
    def __init__(self, entries: int = 10, size: int = 100_000, ttl: float = 60.0, total: int = 1_000_000) -> None:
        self.now = 0.0
        self.store = MemoryConversations(Bounds(entries, size, ttl), total, lambda: self.now)

    def write(self, id: str, block: bytes = b"x", tenant: str = "acme") -> None:
        run(self.store.write(tenant, id, block))

    def has(self, id: str, tenant: str = "acme") -> bool:
        return run(self.store.read(tenant, [id])) != [None]


def run(step: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(step)


def test_a_record_is_read_by_its_own_tenant_alone() -> None:
    kept = Kept()
    kept.write("a", b"1")

    assert [(b"1",), None] == run(kept.store.read("acme", ["a", "b"]))
    assert [None] == run(kept.store.read("umbrella", ["a"]))
    assert not run(kept.store.append("umbrella", "a", b"2"))
    assert not run(kept.store.delete("umbrella", "a"))
    assert kept.has("a")


def test_blocks_are_added_in_order_and_a_new_record_replaces_them() -> None:
    kept = Kept()
    kept.write("a", b"1")

    assert run(kept.store.append("acme", "a", b"2"))
    assert [(b"1", b"2")] == run(kept.store.read("acme", ["a"]))
    kept.write("a", b"3")
    assert [(b"3",)] == run(kept.store.read("acme", ["a"]))


def test_a_block_is_replaced_if_it_is_the_expected_one() -> None:
    kept = Kept(size=1_000)
    kept.write("a", b"1")
    run(kept.store.append("acme", "a", b"2"))
    size = kept.store.size

    assert run(kept.store.replace("acme", "a", 1, b"2", b"222"))
    assert size + 2 == kept.store.size
    refused = [("acme", "a", 1, b"2"), ("acme", "a", 7, b"2"), ("acme", "b", 0, b"1"), ("umbrella", "a", 0, b"1")]
    assert [False] * 4 == [run(kept.store.replace(*each, b"x")) for each in refused]
    assert [(b"1", b"222")] == run(kept.store.read("acme", ["a"]))
    with pytest.raises(TooLarge):
        run(kept.store.replace("acme", "a", 0, b"1", b"x" * 1_000))


def test_a_block_that_grows_makes_room() -> None:
    kept = Kept(size=2_000)
    kept.write("a")
    kept.write("b")

    assert run(kept.store.replace("acme", "b", 0, b"x", b"x" * 1_500))
    assert (False, True) == (kept.has("a"), kept.has("b"))


def test_what_is_not_used_for_its_time_is_gone() -> None:
    kept = Kept(ttl=60)
    kept.write("a")
    kept.write("b")
    kept.now = 40
    assert kept.has("a")  # its time begins again
    kept.now = 80

    assert (True, False) == (kept.has("a"), kept.has("b"))
    assert not run(kept.store.append("acme", "b", b"2"))


def test_the_least_recently_used_record_makes_room() -> None:
    kept = Kept(entries=2)
    kept.write("a")
    kept.write("b")
    kept.has("a")
    kept.write("c")

    assert (True, False, True) == (kept.has("a"), kept.has("b"), kept.has("c"))


def test_one_tenant_does_not_take_the_room_of_another() -> None:
    kept = Kept(entries=2)
    kept.write("a", tenant="umbrella")
    for n in range(5):
        kept.write(f"r{n}")

    assert kept.has("a", "umbrella")
    assert [False, False, False, True, True] == [kept.has(f"r{n}") for n in range(5)]


def test_bytes_are_bounded_for_a_tenant_and_for_all() -> None:
    kept = Kept(size=5_000, total=9_000)
    for n in range(4):
        kept.write(f"r{n}", b"x" * 2_000)
    kept.write("of-umbrella", b"x" * 4_000, "umbrella")
    kept.write("of-initech", b"x" * 4_000, "initech")

    assert kept.store.size <= 9_000
    assert (True, True) == (kept.has("of-umbrella", "umbrella"), kept.has("of-initech", "initech"))
    assert not any(kept.has(f"r{n}") for n in range(4))


def test_a_record_that_no_room_could_hold_is_refused() -> None:
    kept = Kept(size=1_000)
    kept.write("a")

    with pytest.raises(TooLarge):
        kept.write("b", b"x" * 1_000)
    with pytest.raises(TooLarge):
        run(kept.store.append("acme", "a", b"x" * 1_000))
    assert kept.has("a")


def test_nothing_remains_of_what_is_deleted() -> None:
    kept = Kept()
    kept.write("a")

    assert run(kept.store.delete("acme", "a"))
    assert not run(kept.store.delete("acme", "a"))
    assert 0 == kept.store.size
    kept.write("b")
    run(kept.store.close())
    assert 0 == kept.store.size


def test_each_step_is_performed_for_the_tenant() -> None:
    kept = Kept()

    def steps() -> StoreSteps[list[Any]]:
        nothing = yield Read(())
        yield Write("a", b"1")
        added = yield Append("a", b"2")
        (blocks,) = yield Read(("a",))
        deleted = yield Delete("a")
        return [nothing, added, blocks, deleted]

    assert [[], True, (b"1", b"2"), True] == run(perform(kept.store, "acme", steps()))
