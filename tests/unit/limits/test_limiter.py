"""Reserve, then settle: what a caller may still use, and what it is told."""

from __future__ import annotations

import asyncio
import random
import time
import uuid
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from limits_kit import ANN, MIDNIGHT, Now, RecordingListener, dollars, limiter, rule, settlement, until, used
from running_valkey import RunningValkey

from edge_extproc import registry
from edge_extproc.errors import BudgetReached, LimitReached, PolicyUnavailable, Unpriced
from edge_extproc.limits.base import MICRO, LimitStoreDown, LimitStoreSettings, ReservationRequest, ReserveResult
from edge_extproc.limits.limiter import PolicyLimiter
from edge_extproc.limits.memory import MemoryLimitStore
from edge_extproc.limits.rule_table import RuleTable
from edge_extproc.limits.spending import micro_dollars
from edge_extproc.model.limit_use import LimitUse, joined
from edge_extproc.model.principal import Principal
from edge_extproc.model.usage import Usage

NOTHING = ReservationRequest(0, 0)


def asking(micro_dollars: int | None, tokens: int = 0, assumed: int = 0) -> ReservationRequest:
    return ReservationRequest(tokens, micro_dollars, assumed, "m")


async def admit(
    by: PolicyLimiter, name: str, ask: ReservationRequest = NOTHING, who: Principal = ANN
) -> dict[str, str]:
    rules = by.rules(who)
    assert rules is not None
    return dict((await by.admit(name, rules, ask)).headers)


async def refused(
    by: PolicyLimiter, ask: ReservationRequest = NOTHING, name: str = "refused", who: Principal = ANN
) -> LimitReached:
    with pytest.raises(LimitReached) as found:
        await admit(by, name, ask, who)
    return found.value


# --- whom a rule is for


def test_all_levels_hold_at_once_and_a_stranger_has_none() -> None:
    book = RuleTable(
        [
            dollars(9),
            rule("requests", 5, level="team", name="research"),
            rule("requests", 4, level="user", name="*"),
            rule("requests", 3, level="key", name="acme-1"),
        ]
    )
    found = book.rules(ANN)

    assert found is not None
    assert ["tenant", "team", "user", "key"] == [each.level for each in found.rules]
    assert "ann" == found.rules[2].name
    assert "acme:user:ann:requests:minute:" == found.keys[2]
    assert book.rules(Principal("umbrella", "k")) is None
    assert found is book.rules(ANN)


def test_a_name_cannot_be_made_to_look_like_another_holder() -> None:
    book = RuleTable([rule("requests", 4, level="user", name="*")])
    keys = {book.rules(Principal("acme", "k", user=name)).keys for name in ("a:b", "a%3Ab", "a", "b")}  # type: ignore[union-attr]

    assert 4 == len(keys)


# --- requests, tokens, slots


async def test_requests_per_minute_slide() -> None:
    now = Now()
    by = limiter(rule("requests", 2), now=now)
    first, second = await admit(by, "a"), await admit(by, "b")
    error = await refused(by)

    assert ("2", "1", "60s") == tuple(first[f"x-ratelimit-{what}-requests"] for what in ("limit", "remaining", "reset"))
    assert "0" == second["x-ratelimit-remaining-requests"]
    assert ("0", 429) == (dict(error.headers)["x-ratelimit-remaining-requests"], error.fault().status)
    assert "requests per minute of tenant acme is limited to 2 requests; try again in 90 s" == error.message
    assert 90 == error.retry_after
    now.at += 89
    await refused(by)
    now.at += 2
    await admit(by, "c")


async def test_who_must_wait_is_known_without_asking() -> None:
    now, listener = Now(), RecordingListener()
    by = limiter(rule("requests", 1), now=now, listener=listener)
    rules = by.rules(ANN)
    assert rules is not None
    by.raise_if_blocked(rules)
    await admit(by, "a")
    await refused(by)
    with pytest.raises(LimitReached) as found:
        by.raise_if_blocked(rules)
    now.at += found.value.retry_after or 0
    by.raise_if_blocked(rules)
    await admit(by, "b")

    assert 2 == len(listener.refusals)


async def test_tokens_are_put_right_at_the_end() -> None:
    by = limiter(rule("tokens", 100))
    await admit(by, "a", asking(0, tokens=90))
    await refused(by, asking(0, tokens=20))
    by.settle(used("a", 0, tokens=30))

    assert "50" == (await admit(by, "b", asking(0, tokens=20)))["x-ratelimit-remaining-tokens"]


async def test_more_than_a_limit_allows_at_all_says_what_would_help() -> None:
    by = limiter(rule("tokens", 100))
    error = await refused(by, asking(0, tokens=101))

    assert (None, True) == (error.retry_after, "ask for fewer output tokens" in error.message)


async def test_a_slot_that_becomes_free_at_once_is_waited_for() -> None:
    by = limiter(rule("concurrent", 1))
    await admit(by, "a")
    asyncio.get_running_loop().call_later(0.01, by.settle, settlement("a"))

    assert "0" == (await admit(by, "b"))["x-ratelimit-remaining-concurrent"]


async def test_no_more_than_so_many_run_at_one_time() -> None:
    by = limiter(rule("concurrent", 1))
    await admit(by, "a")
    error = await refused(by)

    assert ("concurrent requests at one time of tenant acme is limited to 1 requests; try again in 1 s", 1) == (
        error.message,
        error.retry_after,
    )


# --- dollars


async def test_a_budget_is_reserved_by_the_worst_case_and_settled_by_the_cost() -> None:
    by = limiter(dollars(1))
    await admit(by, "a", asking(900_000))
    error = await refused(by, asking(200_000))
    by.settle(used("a", "0.0000005"))
    headers = await admit(by, "b", asking(200_000))

    assert isinstance(error, BudgetReached)
    assert ("budget_exceeded", 86_400) == (error.code, error.retry_after)
    assert "dollars per day of tenant acme is limited to $1.00" in error.message
    # Half a micro-dollar is rounded up.
    assert ("1.00", "0.799999", "86400s") == tuple(
        headers[f"x-ratelimit-{what}-dollars"] for what in ("limit", "remaining", "reset")
    )


async def test_the_next_day_is_a_new_budget_and_late_costs_belong_to_the_old_one() -> None:
    now = Now()
    by = limiter(dollars(1), now=now)
    await admit(by, "a", asking(MICRO))
    now.at += 86_400
    by.settle(used("a", 1))

    assert "0.50" == (await admit(by, "b", asking(500_000)))["x-ratelimit-remaining-dollars"]


async def test_an_unpriced_model_is_refused_under_a_budget_or_pays_an_assumed_price() -> None:
    listener = RecordingListener()
    strict = limiter(dollars(1), listener=listener)
    with pytest.raises(Unpriced) as found:
        await admit(strict, "a", asking(None))
    lenient = limiter(dollars(1, allow_unpriced=True), assumed=(2 * MICRO, 3 * MICRO))
    await admit(lenient, "a", asking(None, assumed=400_000))
    usage = Usage(input=10_000, output=10_000)
    lenient.settle(settlement("a", provider="p", lane="raw", usage=usage, unpriced=True))
    headers = await admit(lenient, "b", asking(0))

    assert ("model_unpriced", 403, "model") == (found.value.code, found.value.status, found.value.param)
    assert 1 == len(listener.refusals)
    assert "0.95" == headers["x-ratelimit-remaining-dollars"]


@pytest.mark.parametrize("allow_unpriced", [False, True])
async def test_a_call_whose_web_searches_have_no_price_counts_as_the_worst_case(allow_unpriced: bool) -> None:
    """Its model has one, so it was admitted. Otherwise a search would make any call free."""
    by = limiter(dollars(1, allow_unpriced=allow_unpriced))
    await admit(by, "a", asking(600_000))
    usage = Usage(input=10_000, output=10_000, searches=1)
    by.settle(settlement("a", provider="p", lane="raw", usage=usage, unpriced=True))

    assert "0.40" == (await admit(by, "b", asking(0)))["x-ratelimit-remaining-dollars"]


UNSEEN = {"usage": None, "cost": None}


@pytest.mark.parametrize(
    ("end", "left"),
    [
        ({"outcome": "rejected", "lane": "raw"}, "1.00"),
        ({"outcome": "upstream_error", "provider": "p", "status": 500, "lane": "raw"}, "1.00"),
        ({"outcome": "upstream_error", "status": 503, "lane": "raw"}, "1.00"),
        ({"outcome": "upstream_error", "status": 504, "lane": "raw"}, "0.40"),  # who knows what it did in that time
        ({"outcome": "ok", "provider": "p"}, "1.00"),  # from a cache
        ({"outcome": "ok", "provider": "p", "lane": "raw"}, "0.40"),  # an answer that does not say
        ({"outcome": "caller_left", "lane": "raw"}, "0.40"),
        ({"outcome": "stopped", "lane": "cross"}, "0.40"),
        ({"outcome": "gateway_error"}, "1.00"),  # nothing was sent
    ],
)
async def test_what_nobody_told_counts_as_the_worst_case_where_a_provider_may_have_worked(
    end: dict[str, Any], left: str
) -> None:
    by = limiter(dollars(1))
    await admit(by, "a", asking(600_000))
    by.settle(settlement("a", **end))
    by.settle(settlement("a", **end))

    assert left == (await admit(by, "b", asking(0)))["x-ratelimit-remaining-dollars"]


@pytest.mark.parametrize("count", [2**64 - 1, 10**30, -(2**64), 1e300, "many", True, None], ids=repr)
async def test_a_usage_that_cannot_be_leaves_the_worst_case_in_a_budget(count: Any) -> None:
    by = limiter(rule("dollars", 5 * MICRO, "day"), rule("tokens", 1000, "day"))
    await admit(by, "a", asking(2 * MICRO, 300))
    by.settle(replace(used("a", 10**20), usage=Usage(output=count)))

    told = await admit(by, "b", asking(0))
    assert ("3.00", "700") == (told["x-ratelimit-remaining-dollars"], told["x-ratelimit-remaining-tokens"])


async def test_what_a_caller_asks_for_is_counted_within_what_a_counter_holds(valkey: RunningValkey) -> None:
    store = shared(valkey)
    tenant = f"t{uuid.uuid4().hex}"
    soft = rule("tokens", 1000, "day", tenant=tenant, name=tenant, hard=False)
    by = limiter(soft, store=store, now=time.time)
    who = replace(ANN, tenant=tenant)
    for n in range(3):
        await admit(by, f"{tenant}-{n}", asking(0, 10**30), who)
        by.settle(replace(used(f"{tenant}-{n}", 0), usage=Usage(output=10**30)))
    await by.close()

    assert 0 == by.unsettled


async def test_one_that_took_nothing_settles_nothing() -> None:
    by = limiter(dollars(1))
    by.settle(used("unknown", 1))

    assert "1.00" == (await admit(by, "b", asking(0)))["x-ratelimit-remaining-dollars"]


def test_money_is_rounded_up_to_whole_micro_dollars() -> None:
    from decimal import Decimal

    assert (1, 0, 1_500_000) == (
        micro_dollars(Decimal("0.0000001")),
        micro_dollars(Decimal(0)),
        micro_dollars(Decimal("1.5")),
    )


# --- warnings


async def test_a_soft_limit_warns_and_goes_on() -> None:
    listener = RecordingListener()
    by = limiter(dollars(1, hard=False, warn_at=500_000), listener=listener)
    quiet = await admit(by, "a", asking(600_000))
    first, second = await admit(by, "b", asking(600_000)), await admit(by, "c", asking(600_000))

    assert "x-edge-warning" not in quiet
    assert "dollars per day of tenant acme: 60% of $1.00 used" == first["x-edge-warning"]
    assert "120%" in second["x-edge-warning"]
    assert [600_000] == [at for _, at in listener.warnings]


async def test_the_rule_that_is_nearest_to_its_end_is_told() -> None:
    by = limiter(rule("requests", 100), rule("requests", 3, level="key", name="acme-1"))
    headers = await admit(by, "a")

    assert ("3", "2") == (headers["x-ratelimit-limit-requests"], headers["x-ratelimit-remaining-requests"])
    assert "key acme-1" in (await _after(by, 2)).message


async def _after(by: PolicyLimiter, more: int) -> LimitReached:
    for n in range(more):
        await admit(by, f"more-{n}")
    return await refused(by)


# --- the shared store, and what happens without it


def shared(valkey: RunningValkey, seconds: float = 5.0) -> Any:
    return registry.load("limits", "redis").build(LimitStoreSettings(valkey.url, seconds))


class Broken:
    """A store that is down as long as it is told to be."""

    def __init__(self, store: Any) -> None:
        self.store, self.down, self.asked = store, True, 0
        self.why, self.proved = "down", 0

    async def _do(self, name: str, *arguments: Any) -> Any:
        self.asked += 1
        if self.down:
            raise LimitStoreDown(self.why)
        return await getattr(self.store, name)(*arguments)

    async def reserve(self, *arguments: Any) -> ReserveResult:
        taken: ReserveResult = await self._do("reserve", *arguments)
        return taken

    async def settle(self, *arguments: Any) -> None:
        await self._do("settle", *arguments)

    async def add(self, *arguments: Any) -> None:
        await self._do("add", *arguments)

    async def renew(self, *arguments: Any) -> None:
        await self._do("renew", *arguments)

    async def join(self, *arguments: Any) -> int:
        counted: int = await self._do("join", *arguments)
        return counted

    async def leave(self, *arguments: Any) -> None:
        await self._do("leave", *arguments)

    async def check_writable(self) -> None:
        self.proved += 1
        if self.down:
            raise LimitStoreDown(self.why)

    async def close(self) -> None:
        await self.store.close()


async def test_without_its_store_a_closed_rule_lets_nobody_pass() -> None:
    listener = RecordingListener()
    store = Broken(None)
    by = limiter(dollars(1), rule("requests", 5, local=True), store=store, listener=listener)
    for _ in range(3):
        with pytest.raises(PolicyUnavailable) as found:
            await admit(by, "a", asking(1))

    assert (503, "policy_unavailable", 1) == (found.value.status, found.value.code, found.value.retry_after)
    assert ([False], 1) == (listener.stores, store.asked)  # it is not asked again for each call


async def test_without_its_store_a_local_rule_gives_each_worker_its_share_of_what_was_left() -> None:
    from edge_extproc.limits.memory import MemoryLimitStore

    listener, now = RecordingListener(), Now()
    store = Broken(MemoryLimitStore(now))
    store.down = False
    by = limiter(dollars(1, local=True), store=store, listener=listener, now=now, share_of=4)
    await admit(by, "before", asking(600_000))
    store.down = True
    await admit(by, "a", asking(60_000))
    await admit(by, "b", asking(40_000))
    await refused(by, asking(1))

    assert 2 == listener.locals
    by.settle(used("a", "0.05"))
    by.settle(used("b", "0.04"))
    store.down = False
    by._down_until = 0.0
    by.start()
    await until(lambda: not by.unsettled)
    headers = await admit(by, "after", asking(0))
    await by.close()

    # What was used in the meantime is in the shared counter, and the worst case of the open one still is.
    assert "0.31" == headers["x-ratelimit-remaining-dollars"]
    assert [False, True] == listener.stores


async def test_each_reason_of_an_outage_is_told_once() -> None:
    listener, store = RecordingListener(), Broken(MemoryLimitStore())
    by = limiter(dollars(1), store=store, listener=listener, down_seconds=0.001)
    store.why = "connection refused"
    by.start()
    # Nobody calls: the limiter finds out by itself, of the start, of another reason, and of the end.
    await until(lambda: listener.reasons == ["connection refused"])
    for why in ("wrong user or password", "connection refused", "wrong user or password"):
        before, store.why = store.proved, why
        await until(lambda before=before: store.proved > before + 2)
    store.down = False
    await until(lambda: listener.stores[-1])
    await by.close()

    assert ["connection refused", "wrong user or password", ""] == listener.reasons
    assert [False, False, True] == listener.stores


async def test_a_call_whose_taking_was_not_answered_takes_nothing_in_the_end(valkey: RunningValkey) -> None:
    """The store did it, and its answer was lost."""
    store = Broken(shared(valkey))
    tenant = uuid.uuid4().hex
    by = limiter(dollars(1, tenant=tenant, name=tenant), store=store, now=Now())
    who = Principal(tenant, "k")
    done = store._do

    async def lost(name: str, *arguments: Any) -> Any:
        store.down = False
        await done(name, *arguments)
        raise LimitStoreDown("lost")

    store._do = lost  # type: ignore[method-assign]
    with pytest.raises(PolicyUnavailable):
        await admit(by, f"{tenant}-a", asking(MICRO), who)
    store._do = done  # type: ignore[method-assign]
    by._down_until = 0.0
    by.start()
    await until(lambda: not by.unsettled)
    headers = await admit(by, f"{tenant}-b", asking(0), who)
    await by.close()

    assert "1.00" == headers["x-ratelimit-remaining-dollars"]


@pytest.mark.parametrize("shape", ["own", "shared"])
async def test_a_charge_counts_whole_until_it_is_corrected(valkey: RunningValkey, shape: str) -> None:
    tenant = f"t{uuid.uuid4().hex}"
    rules = [
        replace(each, tenant=tenant, name=tenant)
        for each in (dollars(10), rule("tokens", 100, "day"), rule("tokens", 5), rule("concurrent", 1))
    ]
    by = limiter(*rules, store=shared(valkey) if shape == "shared" else None, now=time.time)
    who, ask = replace(ANN, tenant=tenant), ReservationRequest(50, 6 * MICRO, batch=True)
    by.start()
    await admit(by, f"{tenant}-1", ask, who)
    charged = by.charge(f"{tenant}-1")
    by.settle(used(f"{tenant}-1", 0))
    await until(lambda: by.unsettled == 0)

    assert [(True, 6 * MICRO), (False, 50)] == [(each.is_money, each.amount) for each in charged]
    assert () == by.charge(f"{tenant}-1")
    await refused(by, ask, f"{tenant}-2", who)
    by.correct([(each.key, -each.amount // 2, each.expires) for each in charged])
    await until(lambda: by.unsettled == 0)
    totals = {use.limit[3:]: use.total for use in await by.uses()}
    assert (3 * MICRO, 25) == (totals["dollars", "day"], totals["tokens", "day"])
    await admit(by, f"{tenant}-3", ask, who)
    await by.close()


async def test_what_was_perhaps_given_back_is_not_given_back_again(valkey: RunningValkey) -> None:
    """The store added it, and its answer was lost."""
    store = shared(valkey)
    key = f"{uuid.uuid4().hex}:tenant:t:dollars:day:1"
    expires = int(time.time()) + 1000
    await store.add([(key, 10, expires)])
    add = store.add

    async def lost(amounts: Any) -> None:
        store.add = add
        await add(amounts)
        raise LimitStoreDown("no answer")

    store.add = lost
    by = limiter(dollars(1), store=store, now=Now())
    by.start()
    by.correct([(key, -4, expires)])
    await until(lambda: by.unsettled == 0 and store.add == add)

    assert [6] == list(await store.read([key]))
    await by.close()


async def test_leases_of_calls_under_way_are_renewed(valkey: RunningValkey) -> None:
    tenant = uuid.uuid4().hex
    by = limiter(rule("concurrent", 1, tenant=tenant, name=tenant), store=shared(valkey), lease_seconds=1)
    by.start()
    await admit(by, tenant, who=Principal(tenant, "k"))
    first = valkey.command("ZSCORE", "{edge}:leases", tenant)
    await until(lambda: valkey.command("ZSCORE", "{edge}:leases", tenant) != first)
    await by.close()


# --- never overshot

BUDGET = 1_000_000


@settings(max_examples=3, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 2**32))
def test_two_hundred_calls_on_four_workers_never_spend_more_than_the_budget(valkey: RunningValkey, seed: int) -> None:
    """Some fail, some leave in mid-call or while they wait, one worker dies with all that it has open. What each spent
    is the most that its provider can have billed."""
    chance = random.Random(seed)
    tenant = uuid.uuid4().hex
    who = Principal(tenant, "k")
    spent: list[int] = []
    passed: list[int] = []

    async def call(by: PolicyLimiter, name: str, dead: bool) -> None:
        worst = chance.randint(1, 40_000)
        cost = chance.randint(0, worst)
        rules = by.rules(who)
        assert rules is not None
        end = chance.choice(["ok", "ok", "ok", "caller_left", "error", "rejected", "impatient"])
        try:
            waiting = by.admit(name, rules, ReservationRequest(10, worst))
            await (asyncio.wait_for(waiting, chance.uniform(0, 0.002)) if end == "impatient" else waiting)
        except LimitReached:
            return
        except TimeoutError:
            by.settle(settlement(name, "caller_left"))
            return
        passed.append(1)
        # The calls of all limiters overlap in another order each time.
        await asyncio.sleep(chance.uniform(0, 0.005))
        if dead or end == "caller_left":
            spent.append(worst)
            if not dead:
                by.settle(settlement(name, "caller_left", lane="raw"))
        elif end in ("error", "rejected"):
            by.settle(settlement(name, "upstream_error" if end == "error" else "rejected", status=500, provider="p"))
        else:
            spent.append(cost)
            by.settle(used(name, cost / MICRO))

    async def all_of_them() -> int:
        workers = [
            limiter(
                dollars(BUDGET / MICRO, "month", tenant=tenant, name=tenant),
                dollars(BUDGET / MICRO * 2, "day", tenant=tenant, level="key", name="k"),
                rule("concurrent", 150, tenant=tenant, name=tenant),
                store=shared(valkey),
                now=Now(MIDNIGHT),
            )
            for _ in range(4)
        ]
        for worker in workers:
            worker.start()
        calls = [call(workers[n % 4], f"{tenant}-{n}", dead=n % 4 == 3 and n > 120) for n in range(200)]
        await asyncio.gather(*calls)
        for worker in workers:
            await worker.close()
        counted = valkey.command("GET", f"{{edge}}:c:{tenant}:tenant:{tenant}:dollars:month:1798761600")
        return int(counted.split(b"\r\n")[1])

    counted = asyncio.run(all_of_them())

    assert passed
    assert sum(spent) <= counted <= BUDGET


# --- how far limits are used


def standing(by: PolicyLimiter) -> list[tuple[str, str, int, int, int]]:
    return [(s.rule.name, s.rule.measure, s.maximum, s.used, s.reserved) for s in by.statuses()]


@pytest.mark.parametrize("shared_store", [False, True])
async def test_what_is_used_and_reserved_is_known_without_asking_the_store(
    shared_store: bool, valkey: RunningValkey
) -> None:
    tenant = uuid.uuid4().hex
    who = Principal(tenant, "k")
    store = shared(valkey) if shared_store else None
    named = {"tenant": tenant, "name": tenant}
    by = limiter(dollars(1, **named), rule("concurrent", 9, **named), store=store, now=Now())
    by.start()
    await admit(by, "a", asking(300_000), who)
    await admit(by, "b", asking(200_000), who)
    assert [(tenant, "dollars", 1_000_000, 500_000, 500_000), (tenant, "concurrent", 9, 2, 2)] == standing(by)

    by.settle(used("a", "0.1"))
    await until(lambda: not by.unsettled and standing(by)[1][3] == 1)
    found = standing(by)
    await by.close()

    assert [(tenant, "dollars", 1_000_000, 300_000, 200_000), (tenant, "concurrent", 9, 1, 1)] == found


async def test_a_window_that_is_over_stands_at_nothing_and_a_minute_fades() -> None:
    now = Now(MIDNIGHT + 30)
    by = limiter(dollars(1), rule("tokens", 100), now=now)
    await admit(by, "a", asking(400_000, tokens=80))
    by.settle(used("a", "0.4", tokens=80))
    now.at = MIDNIGHT + 90
    assert [400_000, 40] == [s.used for s in by.statuses()]
    now.at = MIDNIGHT + 86_400

    assert [0, 0] == [s.used for s in by.statuses()]


async def test_a_rule_that_is_no_more_is_not_told_and_a_new_maximum_is() -> None:
    by = limiter(dollars(1), rule("requests", 5, level="user", name="*"))
    await admit(by, "a", asking(1))
    by.replace_rules(RuleTable([rule("requests", 7, level="user", name="*")]))

    assert [("ann", "requests", 7, 1, 1)] == standing(by)


# --- for the admin API


async def test_the_use_of_each_named_limit_is_read_from_the_store_also_before_its_first_call(
    valkey: RunningValkey,
) -> None:
    tenant = f"acme-{uuid.uuid4().hex}"
    rules = [
        dollars(5, "day", tenant=tenant, name=tenant),
        rule("requests", 60, tenant=tenant, level="user", name="*"),
        rule("concurrent", 3, tenant=tenant, level="key", name="k"),
        rule("dollars", 9, "run", tenant=tenant, name=tenant),
    ]
    now = time.time()
    one, other = (
        limiter(*rules, store=registry.load("limits", "redis").build(LimitStoreSettings(valkey.url, 5.0)), now=Now(now))
        for _ in range(2)
    )
    who = Principal(tenant, "k", user="ann")
    for name in ("one", "two"):
        found = one.rules(who)
        assert found is not None
        await one.admit(f"{tenant}-{name}", found, ReservationRequest(10, 2_000_000))
    day = (int(now) // 86_400 + 1) * 86_400
    of_day, of_slots = (tenant, "tenant", tenant, "dollars", "day"), (tenant, "key", "k", "concurrent", "now")
    shown = {use.limit: use for use in await one.uses()}
    elsewhere = {use.limit: use for use in await other.uses()}

    assert LimitUse(of_day, 5_000_000, 4_000_000, 4_000_000, day) == shown[of_day]
    assert LimitUse(of_day, 5_000_000, 4_000_000, 0, day) == elsewhere[of_day]
    assert LimitUse(of_slots, 3, 2, 2, None) == shown[of_slots]
    assert 2 == shown[tenant, "user", "ann", "requests", "minute"].total
    assert {of_day, of_slots} == elsewhere.keys()
    assert 4_000_000 == joined([shown.values(), elsewhere.values()])[of_day].reserved
    await one.close()
    await other.close()
