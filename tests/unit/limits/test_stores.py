"""Both stores of counters keep the same rules, step for step; the shared one in a real Valkey."""

from __future__ import annotations

import asyncio
import itertools
import uuid
from collections.abc import AsyncIterator, Sequence
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from limits_kit import MIDNIGHT, Now
from running_valkey import RunningValkey
from thoroughness import examples

from edge_extproc import registry
from edge_extproc.limits.base import (
    MAX_COUNT,
    LimitStore,
    LimitStoreDown,
    LimitStoreSettings,
    Lost,
    ReserveResult,
    SettleResult,
    WindowCounter,
    WindowCounters,
    WrongParent,
)
from edge_extproc.limits.memory import MemoryLimitStore

LATER = 4_000_000_000


def shared(valkey: RunningValkey) -> Any:
    return registry.load("limits", "redis").build(LimitStoreSettings(valkey.url, 5.0))


@pytest.fixture(params=["memory", "redis"])
async def store(request: pytest.FixtureRequest) -> AsyncIterator[LimitStore]:
    if request.param == "memory":
        yield registry.load("limits", "memory").build(LimitStoreSettings())
        return
    found = shared(request.getfixturevalue("valkey"))
    yield found
    await found.close()


def fresh(name: str = "c") -> str:
    return f"{name}-{uuid.uuid4().hex}"


class Entry(NamedTuple):
    """A counter, and how much is taken from it."""

    counter: WindowCounter
    amount: int
    weight: int


def entry(key: str, maximum: int, amount: int = 1, *, hard: bool = True, slot: bool = False, **more: Any) -> Entry:
    kind, stated = more.get("kind", "window"), more.get("stated", -1)
    counter = WindowCounter(key, more.get("before", ""), maximum, hard, more.get("expires", LATER), slot, kind, stated)
    return Entry(counter, amount, more.get("weight", 0))


async def take(store: LimitStore, lease: str, entries: Sequence[Entry], seconds: int, lost: Lost) -> ReserveResult:
    counters = WindowCounters([each.counter for each in entries])
    weight = max(each.weight for each in entries)
    return await store.reserve(lease, counters, [each.amount for each in entries], weight, seconds, lost)


async def test_as_much_is_taken_as_there_is_and_no_more(store: LimitStore) -> None:
    key = fresh()
    taken = [await take(store, fresh(), [entry(key, 10, 4)], 60, "charge") for _ in range(3)]

    assert [ReserveResult(True, (0,), (0,)), ReserveResult(True, (4,), (0,)), ReserveResult(False, (8,), (0,))] == taken


async def test_all_is_taken_or_nothing(store: LimitStore) -> None:
    wide, narrow = fresh(), fresh()
    first = await take(store, fresh(), [entry(wide, 10, 3), entry(narrow, 2, 3)], 60, "charge")
    after = await take(store, fresh(), [entry(wide, 10, 1), entry(narrow, 2, 1)], 60, "charge")

    assert (False, True, (0, 0)) == (first.ok, after.ok, after.used)


async def test_a_soft_limit_counts_and_does_not_refuse(store: LimitStore) -> None:
    key = fresh()
    await take(store, fresh(), [entry(key, 1, 5, hard=False)], 60, "charge")
    taken = await take(store, fresh(), [entry(key, 1, 5, hard=False)], 60, "charge")

    assert (True, (5,)) == (taken.ok, taken.used)


async def test_a_part_of_the_window_before_counts(store: LimitStore) -> None:
    before, key = fresh(), fresh()
    await take(store, fresh(), [entry(before, 100, 10)], 60, "charge")
    taken = await take(store, fresh(), [entry(key, 10, 6, before=before, weight=500_000)], 60, "charge")
    fits = await take(store, fresh(), [entry(key, 10, 5, before=before, weight=500_000)], 60, "charge")

    assert (ReserveResult(False, (5,), (10,)), True) == (taken, fits.ok)


@pytest.mark.parametrize(("used", "left"), [(0, 10), (3, 7), (-1, 4), (9, 1)])
async def test_settling_puts_what_was_used_in_place_of_what_was_taken(store: LimitStore, used: int, left: int) -> None:
    key, lease = fresh(), fresh()
    await take(store, lease, [entry(key, 10, 6)], 60, "charge")
    for _ in range(2):  # the second time changes nothing
        await store.settle([SettleResult(lease, (used,))])

    assert (10 - left,) == (await take(store, fresh(), [entry(key, 10, 0)], 60, "charge")).used


async def test_a_slot_is_given_back_whatever_was_used(store: LimitStore) -> None:
    key, lease = fresh(), fresh()
    await take(store, lease, [entry(key, 1, slot=True)], 60, "charge")
    refused = await take(store, fresh(), [entry(key, 1, slot=True)], 60, "charge")
    await store.settle([SettleResult(lease, (-1,))])

    assert (False, True) == (refused.ok, (await take(store, fresh(), [entry(key, 1, slot=True)], 60, "charge")).ok)


async def test_what_was_used_elsewhere_is_added(store: LimitStore) -> None:
    key = fresh()
    await store.add([(key, 5, LATER), (key, 2, LATER)])

    assert (7,) == (await take(store, fresh(), [entry(key, 10)], 60, "charge")).used


@pytest.mark.parametrize(("lost", "stays"), [("charge", 6), ("release", 0)])
@pytest.mark.parametrize("shape", ["memory", "redis"])
async def test_a_lost_lease_frees_its_slot_and_may_still_be_settled(
    valkey: RunningValkey, shape: str, lost: Any, stays: int
) -> None:
    now = Now()
    store: Any = MemoryLimitStore(now) if shape == "memory" else shared(valkey)
    money, slots, lease = fresh(), fresh(), fresh()
    await take(store, lease, [entry(money, 10, 6), entry(slots, 1, slot=True)], 1, lost)

    async def seen() -> tuple[int, ...]:
        taken = await take(store, fresh(), [entry(money, 10, 0), entry(slots, 9, 0)], 60, lost)
        return tuple(taken.used)

    assert (6, 1) == await seen()
    now.at += 2
    async with asyncio.timeout(10):
        found = await seen()
        while found == (6, 1):
            await asyncio.sleep(0.02)
            found = await seen()
    assert (stays, 0) == found

    # The worker was not dead: it tells what was used.
    await store.settle([SettleResult(lease, (4, -1))])
    assert (4, 0) == await seen()
    await store.close()


async def test_a_lease_that_is_renewed_is_not_lost() -> None:
    now = Now()
    store = MemoryLimitStore(now)
    await take(store, "a", [entry("slots", 1, slot=True)], 10, "charge")
    now.at += 8
    await store.renew(["a", "unknown"], 10)
    now.at += 8

    assert not (await take(store, "b", [entry("slots", 1, slot=True)], 10, "charge")).ok
    now.at += 8
    assert (await take(store, "c", [entry("slots", 1, slot=True)], 10, "charge")).ok


async def test_renewing_in_the_shared_store_puts_the_moment_of_loss_off(valkey: RunningValkey) -> None:
    store, lease = shared(valkey), fresh()
    await take(store, lease, [entry(fresh(), 1, slot=True)], 60, "charge")
    before = float(valkey.command("ZSCORE", "{edge}:leases", lease).split(b"\r\n")[1])
    await store.renew([lease, fresh()], 600)
    after = float(valkey.command("ZSCORE", "{edge}:leases", lease).split(b"\r\n")[1])
    await store.close()

    assert 500_000 < after - before < 600_000


async def test_memory_forgets_what_has_expired() -> None:
    now = Now()
    store = MemoryLimitStore(now)
    await take(store, "a", [entry("old", 9, expires=int(MIDNIGHT) + 10)], 0, "charge")
    now.at += 100
    for _ in range(4096):
        await take(store, "x", [entry("new", 10**9)], 0, "charge")

    assert {"new"} == set(store._counters)


async def test_a_store_that_is_not_there_is_down() -> None:
    store = registry.load("limits", "redis").build(LimitStoreSettings("unix:///nowhere/s", 0.2))
    with pytest.raises(LimitStoreDown):
        await take(store, "a", [entry("k", 1)], 60, "charge")
    with pytest.raises(LimitStoreDown):
        await store.add([("k", 1, LATER)])
    await store.close()


async def test_an_error_of_the_store_does_not_tell_its_address() -> None:
    store = registry.load("limits", "redis").build(LimitStoreSettings("redis://:hunter2@127.0.0.1:1/0", 0.2))
    with pytest.raises(LimitStoreDown) as found:
        await store.renew(["a"], 60)
    await store.close()

    assert "hunter2" not in str(found.value)
    assert found.value.__suppress_context__


# --- one and the same

_STEP = st.one_of(
    st.tuples(st.just("take"), st.integers(0, 4), st.integers(0, 3), st.integers(0, 6), st.booleans()),
    st.tuples(st.just("settle"), st.integers(0, 4), st.integers(-1, 8), st.just(0), st.just(False)),
)


@settings(max_examples=examples(40), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(_STEP, max_size=20))
def test_memory_and_valkey_agree_on_any_steps(valkey: RunningValkey, steps: list[Any]) -> None:
    async def play(store: Any, mark: str) -> list[Any]:
        heard: list[Any] = []
        names = itertools.count()
        open_: dict[int, str] = {}
        for verb, lease, number, amount, flag in steps:
            if verb == "take":
                name = f"{mark}-{lease}-{next(names)}"
                entries = [entry(f"{mark}-{number}", 10, amount, hard=not flag), entry(f"{mark}-s", 2, slot=True)]
                taken = await take(store, name, entries, 60, "charge")
                heard.append(taken)
                if taken.ok:
                    open_[lease] = name
            elif lease in open_:
                await store.settle([SettleResult(open_[lease], (number, -1))])
        await store.close()
        return heard

    async def both() -> tuple[list[Any], list[Any]]:
        return await play(MemoryLimitStore(), "m"), await play(shared(valkey), fresh("r"))

    in_memory, in_valkey = asyncio.run(both())

    assert in_memory == in_valkey


async def test_a_counter_stops_at_the_largest_number_that_is_exact(store: LimitStore) -> None:
    key, least = fresh(), 10**14
    for step in range(3):
        lease = fresh()
        assert (await take(store, lease, [entry(key, 1, least, hard=False)], 60, "charge")).ok
        await store.settle([SettleResult(lease, (MAX_COUNT - step,))])
        await store.add([(key, MAX_COUNT, LATER)])

    assert (MAX_COUNT,) == (await take(store, fresh(), [entry(key, 1, 0, hard=False)], 60, "charge")).used
    # And what is given back is still taken from it.
    lease = fresh()
    await take(store, lease, [entry(key, 1, 7, hard=False)], 60, "charge")
    await store.settle([SettleResult(lease, (0,))])
    assert (MAX_COUNT - 7,) == (await take(store, fresh(), [entry(key, 1, 0, hard=False)], 60, "charge")).used


# --- runs


async def test_the_smallest_maximum_that_a_call_of_a_run_has_stated_applies_to_all(store: LimitStore) -> None:
    key = fresh()

    async def call(amount: int, stated: int = -1, maximum: int = 100) -> ReserveResult:
        return await take(store, fresh(), [entry(key, maximum, amount, kind="run", stated=stated)], 60, "charge")

    found = [
        await call(3),
        await call(3, 10),
        await call(3, 50),
        await call(3),
        await call(1, maximum=9),
        await call(1),
    ]

    assert [
        ReserveResult(True, (0,), (100,)),
        ReserveResult(True, (3,), (10,)),
        ReserveResult(True, (6,), (10,)),
        ReserveResult(False, (9,), (10,)),
        ReserveResult(False, (9,), (9,)),
        ReserveResult(True, (9,), (10,)),
    ] == found


async def test_a_run_is_settled_like_a_window(store: LimitStore) -> None:
    key, lease = fresh(), fresh()
    await take(store, lease, [entry(key, 10, 8, kind="run"), entry(fresh(), 9, 0, kind="clock")], 60, "charge")
    await store.settle([SettleResult(lease, (2, 0))])

    assert (2,) == (await take(store, fresh(), [entry(key, 10, 0, kind="run")], 60, "charge")).used


async def test_the_time_of_a_run_begins_with_its_first_call(store: LimitStore) -> None:
    key = fresh()
    first = await take(store, fresh(), [entry(key, 60, 0, kind="clock")], 60, "charge")
    second = await take(store, fresh(), [entry(key, 60, 0, kind="clock", stated=30)], 60, "charge")
    over = await take(store, fresh(), [entry(key, 60, 0, kind="clock", stated=0)], 60, "charge")

    assert [(True, (60,)), (True, (30,)), (False, (0,))] == [(each.ok, each.before) for each in (first, second, over)]
    assert first.used[0] == 0 <= second.used[0] < 30


async def test_the_first_call_of_a_run_decides_its_parent(store: LimitStore) -> None:
    tenant, other = fresh("acme"), fresh("umbrella")
    found = [
        await store.ancestry(tenant, "root", None, 60),
        await store.ancestry(tenant, "child:1", "root", 60),
        await store.ancestry(tenant, "grandchild", "child:1", 60),
        await store.ancestry(tenant, "grandchild", None, 60),
        await store.ancestry(other, "grandchild", None, 60),
    ]

    assert [
        ("root",),
        ("child:1", "root"),
        ("grandchild", "child:1", "root"),
        ("grandchild", "child:1", "root"),
        ("grandchild",),
    ] == found


@pytest.mark.parametrize(
    ("run", "parent", "why"),
    [
        ("child", "elsewhere", "it began with the parent 'root'"),
        ("root", "child", "it began without a parent"),
        ("new", "new", "it would be a part of itself"),
        ("7", "6", "it would be a part of more than 7 runs"),
    ],
)
async def test_a_run_cannot_leave_its_parent(store: LimitStore, run: str, parent: str, why: str) -> None:
    tenant = fresh("acme")
    await store.ancestry(tenant, "child", "root", 60)
    for n in range(1, 7):
        await store.ancestry(tenant, str(n), str(n - 1) if n > 1 else "child", 60)

    with pytest.raises(WrongParent, match=why):
        await store.ancestry(tenant, run, parent, 60)
