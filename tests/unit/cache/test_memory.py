"""The L1 tier: its bounds, its times, and what can be purged from it."""

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings
from thoroughness import examples

from edge_extproc.cache.base import CacheEntry, PurgeSelection
from edge_extproc.cache.key import CacheOwner, CanonicalCall, key_of
from edge_extproc.cache.memory import OVERHEAD, MemoryTier

NOW = 1_700_000_000.0


def key(n=0, tenant="acme", model="m", sharing="tenant", team=""):
    return key_of(CacheOwner(sharing, tenant, team), model, (), CanonicalCall(b"%d" % n, None))


def entry(size=100, at=NOW, ttl=None):
    return CacheEntry("openai_chat", b"x" * size, "openai", "gpt", at, ttl=ttl)


@pytest.fixture
def memory():
    return MemoryTier(entries=100, size=10 << 20, ttl=300)


def test_what_was_put_is_found_until_its_time_is_over(memory):
    memory.put(key(1), kept := entry(), NOW)

    assert kept is memory.get(key(1), NOW + 299)
    assert memory.get(key(1), NOW + 300) is None
    assert memory.get(key(2), NOW) is None


def test_an_entry_may_have_a_time_of_its_own(memory):
    memory.put(key(1), entry(ttl=10), NOW)
    memory.put(key(2), entry(ttl=1000), NOW)
    memory.put(key(3), entry(ttl=1000), NOW, until=NOW + 20)

    assert [False, True, True] == [memory.get(key(n), NOW + 19) is not None for n in (1, 2, 3)]
    assert [False, True, False] == [memory.get(key(n), NOW + 999) is not None for n in (1, 2, 3)]


def test_what_is_too_old_already_is_not_taken(memory):
    memory.put(key(1), entry(at=NOW - 100, ttl=50), NOW)
    memory.put(key(2), entry(), NOW, until=NOW)

    assert 0 == memory.counts().entries


@settings(max_examples=examples(30))
@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 60_000)), max_size=100))
def test_neither_bound_is_ever_passed(puts):
    memory = MemoryTier(entries=10, size=200_000, ttl=300)
    for number, size in puts:
        memory.put(key(number), entry(size), NOW)
        counts = memory.counts()
        assert counts.entries <= 10
        assert counts.bytes <= 200_000
    present = [n for n in range(31) if memory.get(key(n), NOW) is not None]
    held = sum(len(memory.get(key(n), NOW).body) + OVERHEAD for n in present)

    assert (len(present), held) == (memory.counts().entries, memory.counts().bytes)


def test_what_is_asked_for_often_survives_a_scan():
    memory = MemoryTier(entries=10, size=10 << 20, ttl=300)
    for _ in range(5):
        for n in range(8):
            if memory.get(key(n), NOW) is None:
                memory.put(key(n), entry(), NOW)
    for n in range(100, 600):
        assert memory.get(key(n), NOW) is None
        memory.put(key(n), entry(), NOW)

    assert all(memory.get(key(n), NOW) is not None for n in range(8))
    assert memory.counts().evictions >= 490


def test_replacing_is_no_eviction_and_counts_once(memory):
    memory.put(key(1), entry(100), NOW)
    memory.put(key(1), entry(50), NOW)

    assert (1, 50 + OVERHEAD, 0) == (memory.counts().entries, memory.counts().bytes, memory.counts().evictions)


@pytest.mark.parametrize(
    ("selection", "gone"),
    [
        (PurgeSelection(), {"a", "a2", "team", "u", "all"}),
        (PurgeSelection(tenant="acme"), {"a", "a2", "team"}),
        (PurgeSelection(tenant="acme", model="n"), {"a2"}),
        (PurgeSelection(model="m"), {"a", "team", "u", "all"}),
        (PurgeSelection(shared=True), {"all"}),
        (PurgeSelection(digest=key(1).digest), {"a"}),
        (PurgeSelection(tenant="umbrella", digest=key(1).digest), set()),
        (PurgeSelection(tenant="acm"), set()),
    ],
)
def test_purging_takes_what_was_chosen_and_nothing_else(memory, selection, gone):
    keys = {
        "a": key(1),
        "a2": key(1, model="n"),
        "team": key(1, sharing="team", team="blue"),
        "u": key(1, tenant="umbrella"),
        "all": key(1, sharing="global"),
    }
    for each in keys.values():
        memory.put(each, entry(), NOW)

    assert len(gone) == memory.purge(selection)
    assert set(keys) - gone == {name for name, each in keys.items() if memory.get(each, NOW) is not None}
    assert (5 - len(gone), 0) == (memory.counts().entries, memory.counts().evictions)
