"""Which turn a prompt continues, what has changed since, and how turns are kept."""

from __future__ import annotations

from typing import Any

import pytest

from edge_extproc.records.base import RecordStore, RecordStoreDown
from edge_extproc.records.memory import MemoryRecords
from edge_extproc.records.prompt_segments import DIGEST_BYTES, MOST_SEGMENTS, Prompt
from edge_extproc.records.prompt_turns import (
    MOST_TURNS,
    AnsweredTurn,
    EarlierTurns,
    PromptCaches,
    PromptCacheSettings,
    unchanged,
)

# A busy machine is not a failure.
PATIENCE = 60.0


def prompt(text: str, first: int = 0) -> Prompt:
    """Each letter is a segment. `first`: the number of those before the messages."""
    return Prompt(tuple(text), b"".join(letter.encode() * DIGEST_BYTES for letter in text), first)


def turn(text: str, first: int = 0, provider: str = "openai", at: float = 1.0) -> AnsweredTurn:
    return AnsweredTurn(prompt(text).digests, first, provider, "m", 5_000, at)


def continued(text: str, *turns: AnsweredTurn, first: int = 0, provider: str = "openai") -> AnsweredTurn | None:
    return EarlierTurns(b"", None, turns).continued(prompt(text, first), provider, "m")


@pytest.mark.parametrize(
    ("before", "now", "same"),
    [("abc", "abcde", 3), ("abc", "abc", 3), ("abcd", "abc", 3), ("abc", "aXcde", 1), ("abc", "Xbc", 0), ("", "a", 0)],
)
def test_the_beginning_that_is_the_same(before: str, now: str, same: int) -> None:
    assert same == unchanged(turn(before), prompt(now))


def test_the_turn_with_the_longest_common_beginning_is_continued() -> None:
    main, agent = turn("tsabc", 2, at=1), turn("tsxyz", 2, at=2)

    assert main == continued("tsabcd", main, agent, first=2)
    assert agent == continued("tsxyzw", main, agent, first=2)
    assert main == continued("tsXbcd", main, agent, first=2)


def test_a_turn_of_the_same_provider_comes_first() -> None:
    here, there = turn("ab", at=1), turn("abc", provider="azure", at=2)

    assert here == continued("abcd", here, there)
    assert there == continued("abcd", here, there, provider="azure")
    assert there == continued("abcd", there)


def test_another_conversation_with_the_same_system_prompt_is_none() -> None:
    assert None is continued("tsuXY", turn("tsuab", 2), first=2)
    assert None is continued("X", turn("a"))
    assert None is continued("abc")


def test_a_conversation_is_recognised_although_its_first_message_changes() -> None:
    before = turn("tABc", 1)

    assert before == continued("tXBcd", before, first=1)


# --- the store


def caches(store: Any, seconds: float = 60.0) -> PromptCaches:
    return PromptCaches(store, b"a pepper", lambda: 1_000.0, PromptCacheSettings(seconds, always=False))


async def add(found: PromptCaches, text: str, provider: str = "openai", session: str = "s") -> None:
    earlier = await found.earlier("acme", session, patience=PATIENCE)
    assert earlier is not None
    found.add(earlier, prompt(text), provider, "m", 5_000)
    await found.drain()


async def kept(found: PromptCaches, tenant: str = "acme", session: str = "s") -> list[bytes]:
    earlier = await found.earlier(tenant, session, patience=PATIENCE)
    assert earlier is not None
    return [each.digests for each in earlier.turns]


async def test_a_turn_that_continues_another_replaces_it_and_others_stay(store: RecordStore) -> None:
    found = caches(store)
    for text in ("ab", "abc", "xy", "abcd"):
        await add(found, text)
    await add(found, "abcde", "azure")

    assert [prompt(text).digests for text in ("xy", "abcd", "abcde")] == await kept(found)
    assert [] == await kept(found, session="other")
    assert [] == await kept(found, tenant="umbrella")


async def test_a_record_is_bounded(store: RecordStore) -> None:
    found = caches(store)
    for n in range(MOST_TURNS * 3):
        long = Prompt((), bytes([n]) * MOST_SEGMENTS * DIGEST_BYTES, 0)
        earlier = await found.earlier("acme", "s", patience=PATIENCE)
        assert earlier is not None
        found.add(earlier, long, "openai", "m", 5)
        await found.drain()
    earlier = await found.earlier("acme", "s", patience=PATIENCE)

    assert earlier is not None
    assert MOST_TURNS == len(earlier.turns)
    assert len(earlier.record or b"") < MOST_TURNS * (MOST_SEGMENTS * DIGEST_BYTES + 100)


async def test_turns_of_two_workers_at_once_are_both_kept(store: RecordStore) -> None:
    one, two = caches(store), caches(store)
    await add(one, "ab")
    first, second = await one.earlier("acme", "s", patience=PATIENCE), await two.earlier("acme", "s", patience=PATIENCE)
    assert first is not None
    assert second is not None
    one.add(first, prompt("abc"), "openai", "m", 5)
    two.add(second, prompt("xyz"), "openai", "m", 5)
    await one.drain()
    await two.drain()

    assert [prompt("abc").digests, prompt("xyz").digests] == await kept(two)


class Down:
    async def get(self, names: Any) -> list[bytes | None]:
        raise RecordStoreDown("down")

    async def claim(self, name: bytes, value: bytes, seconds: float) -> bytes | None:
        raise RecordStoreDown("down")


async def test_a_store_that_is_down_delays_and_breaks_nothing() -> None:
    found = caches(Down())
    found.add(EarlierTurns(b"n", None, ()), prompt("ab"), "openai", "m", 5)
    await found.drain()

    assert None is await found.earlier("acme", "s", patience=PATIENCE)


async def test_a_record_of_another_version_counts_as_none(store: RecordStore) -> None:
    found = caches(store)
    earlier = await found.earlier("acme", "s", patience=PATIENCE)
    assert earlier is not None
    await store.claim(earlier.name, b"\xc1 of a later version", 60.0)

    assert [] == await kept(found)
    await add(found, "ab")
    assert [prompt("ab").digests] == await kept(found)


async def test_the_task_writes_what_waits_and_close_writes_the_rest(store: RecordStore) -> None:
    found = caches(store)
    found.start()
    earlier = await found.earlier("acme", "s", patience=PATIENCE)
    assert earlier is not None
    found.add(earlier, prompt("ab"), "openai", "m", 5)
    await found.close()

    assert [prompt("ab").digests] == await kept(found)


def test_tenants_have_keys_of_their_own() -> None:
    found = caches(MemoryRecords())

    assert found.key_of("acme") == found.key_of("acme")
    assert 3 == len(
        {
            found.key_of("acme"),
            found.key_of("umbrella"),
            PromptCaches(MemoryRecords(), b"other", lambda: 0.0, found.settings).key_of("acme"),
        }
    )
