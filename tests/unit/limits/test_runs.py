"""A run has caps that all its calls share, with those of the runs that are a part of it."""

from __future__ import annotations

import asyncio
import itertools
import time
import uuid
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from limits_kit import ANN, MIDNIGHT, Now, RecordingListener, dollars, limiter, rule, settlement, used
from running_valkey import RunningValkey

from edge_extproc import registry
from edge_extproc.errors import BadRequest, LimitReached, PolicyUnavailable, RunReached
from edge_extproc.limits.base import LimitStoreSettings, ReservationRequest
from edge_extproc.limits.counter_file import CounterFile
from edge_extproc.limits.limiter import PolicyLimiter
from edge_extproc.limits.rule_table import outlives_restart
from edge_extproc.model.principal import Principal
from edge_extproc.model.run import Run, RunCaps

MICRO = 1_000_000
NAMES = (f"call-{n}" for n in itertools.count())


async def call(
    by: PolicyLimiter, run: Run, micro: int = 100_000, tokens: int = 10, who: Principal = ANN, name: str = ""
) -> dict[str, str]:
    rules = await by.with_run(who, run)
    return dict((await by.admit(name or next(NAMES), rules, ReservationRequest(tokens, micro))).headers)


async def refusal(by: PolicyLimiter, run: Run, micro: int = 100_000, **more: Any) -> RunReached:
    with pytest.raises(RunReached) as found:
        await call(by, run, micro, **more)
    return found.value


def cap(measure: Any, maximum: int, **more: Any) -> Any:
    return rule(measure, maximum, "run", **more)


async def test_a_cap_of_the_configuration_ends_a_run_and_not_the_next_one() -> None:
    by = limiter(cap("dollars", MICRO))
    first = await call(by, Run("a"), 600_000)
    error = await refusal(by, Run("a"), 600_000)

    assert "dollars=0.40" == first["x-edge-run-left"]
    assert "dollars of run a are limited to $1.00, and $0.40 are left" in error.message
    assert {"x-edge-run-left": "dollars=0.40", "x-should-retry": "false"} == dict(error.headers)
    assert (429, "run_limit_exceeded", None) == (error.status, error.code, error.retry_after)
    assert "dollars=0.40" == (await call(by, Run("b"), 600_000))["x-edge-run-left"]


async def test_what_was_not_used_is_given_back_to_the_run() -> None:
    by = limiter(cap("dollars", MICRO), cap("tokens", 1_000))
    await call(by, Run("a"), 900_000, 900, name="one")
    by.settle(used("one", "0.1", 50))

    assert "dollars=0.00, tokens=50" == (await call(by, Run("a"), 900_000, 900))["x-edge-run-left"]


async def test_the_narrowest_of_configuration_key_and_call_applies() -> None:
    by = limiter(cap("requests", 5), cap("requests", 3, level="key", name="acme-1"))
    left = [
        (await call(by, Run("a")))["x-edge-run-left"],
        (await call(by, Run("b", None, RunCaps(requests=2))))["x-edge-run-left"],
    ]
    wider = await call(by, Run("c", None, RunCaps(requests=9)))
    other = await call(by, Run("d"), who=Principal("acme", "acme-2"))

    assert ["requests=2", "requests=1"] == left
    assert ("requests=2", "requests=4") == (wider["x-edge-run-left"], other["x-edge-run-left"])


async def test_a_cap_that_one_call_states_holds_for_all_of_the_run_also_from_other_keys() -> None:
    by = limiter(runs=True)
    await call(by, Run("a", None, RunCaps(micro_dollars=300_000)))
    await call(by, Run("a"), who=Principal("acme", "acme-2"))
    await call(by, Run("a", None, RunCaps(micro_dollars=9 * MICRO)))

    assert (await refusal(by, Run("a"))).message.startswith("dollars of run a are limited to $0.30, and $0.00 are left")
    await call(by, Run("a"), who=Principal("umbrella", "u"))


async def test_a_child_uses_up_its_parent_and_has_a_cap_of_its_own() -> None:
    by = limiter(runs=True)
    await call(by, Run("root", None, RunCaps(micro_dollars=500_000)))
    for _ in range(2):
        await call(by, Run("child", "root", RunCaps(requests=2)))

    assert "requests of run child are limited to 2 requests" in (await refusal(by, Run("child", "root"))).message
    await call(by, Run("second", "root"))
    await call(by, Run("third", "second"))
    for run in (Run("fourth", "third"), Run("third"), Run("root")):
        assert "dollars of run root are limited to $0.50" in (await refusal(by, run)).message


async def test_a_run_has_one_parent() -> None:
    by = limiter(runs=True)
    await call(by, Run("child", "root"))

    with pytest.raises(BadRequest, match="it began with the parent 'root'"):
        await by.with_run(ANN, Run("child", "other"))


@pytest.mark.parametrize("first", [Run("task/b", "task/a"), Run("task/a", "task"), Run("task", "job")])
async def test_a_run_below_that_of_a_token_uses_that_one_up_whatever_is_named_first(store: Any, first: Run) -> None:
    who, task = Principal(f"acme-{uuid.uuid4().hex}", "jwt:agent", run="task", run_parent="job"), Run("task", "job")
    by = limiter(runs=True, store=store(), now=time.time)
    await call(by, Run("job", None, RunCaps(requests=3)), who=who)
    for run in (first, Run("task/b", "task/a")):
        await call(by, replace(run, bound=None if run == task else task), who=who)

    for run in (Run("task/b", "task/a", bound=task), Run("task/new", "task/other", bound=task), task):
        assert "requests of run job" in (await refusal(by, run, who=who)).message
    await by.close()


async def test_a_run_that_others_began_elsewhere_is_none_of_a_token(store: Any) -> None:
    who, task = Principal(f"acme-{uuid.uuid4().hex}", "k"), Run("task")
    by = limiter(runs=True, store=store(), now=time.time)
    await call(by, Run("task/a"), who=who)

    for run in (Run("task/a", "task", bound=task), Run("task/b", "task/a", bound=task)):
        with pytest.raises(BadRequest, match="cannot be used so"):
            await by.with_run(who, run)
    await by.close()


async def test_time_ends_a_run() -> None:
    now = Now()
    by = limiter(cap("seconds", 900), now=now)
    await call(by, Run("a"))
    now.at += 899
    assert "seconds=1" == (await call(by, Run("a")))["x-edge-run-left"]
    now.at += 1

    assert (
        "seconds of run a are limited to 900 seconds, and 0 seconds are left" in (await refusal(by, Run("a"))).message
    )


async def test_a_refused_call_does_not_begin_the_time_of_a_run() -> None:
    now = Now()
    by = limiter(cap("seconds", 900), cap("dollars", MICRO), now=now)
    await refusal(by, Run("a"), 2 * MICRO)
    now.at += 500

    assert "seconds=900" in (await call(by, Run("a")))["x-edge-run-left"]


async def test_other_limits_apply_beside_those_of_the_run_and_it_blocks_nobody() -> None:
    by = limiter(cap("requests", 1), rule("requests", 2), dollars(5))
    await call(by, Run("a"))
    await refusal(by, Run("a"))
    rules = by.rules(ANN)
    assert rules is not None
    by.raise_if_blocked(rules)
    told = await call(by, Run("b"))
    assert ("0", "requests=0") == (told["x-ratelimit-remaining-requests"], told["x-edge-run-left"])

    with pytest.raises(LimitReached) as found:
        await call(by, Run("c"))
    assert not isinstance(found.value, RunReached)


async def test_a_cached_reply_counts_as_a_request_of_the_run() -> None:
    by = limiter(cap("requests", 1), cap("dollars", MICRO))
    rules = await by.with_run(ANN, Run("a"))
    await by.count("one", rules)

    assert "requests of run a" in (await refusal(by, Run("a"))).message


async def test_a_model_without_a_price_counts_at_the_assumed_one() -> None:
    by = limiter(cap("dollars", MICRO), assumed=(MICRO, MICRO))
    rules = await by.with_run(ANN, Run("a"))
    told = await by.admit("one", rules, ReservationRequest(10, None, assumed=400_000))

    assert ("x-edge-run-left", "dollars=0.60") in told.headers


async def test_a_soft_cap_refuses_nothing() -> None:
    by = limiter(cap("requests", 1, hard=False))
    for _ in range(3):
        assert "x-edge-run-left" not in await call(by, Run("a"))


async def test_how_much_of_a_run_is_used_is_known_after_its_first_call(store: Any) -> None:
    by = limiter(cap("dollars", MICRO), store=store(), now=time.time)
    run, free = Run(uuid.uuid4().hex, "parent-of-it"), Run(uuid.uuid4().hex)
    rules, others = await by.with_run(ANN, run), await by.with_run(ANN, free)
    assert 0 == by.run_used(rules)
    await call(by, run, 900_000)

    assert (90, 0) == (by.run_used(rules), by.run_used(others))
    await by.close()


@pytest.fixture(params=["memory", "redis"])
def store(request: pytest.FixtureRequest) -> Callable[[], Any]:
    if request.param == "memory":
        return lambda: None
    valkey: RunningValkey = request.getfixturevalue("valkey")
    return lambda: registry.load("limits", "redis").build(LimitStoreSettings(valkey.url, 5.0))


async def test_a_cap_is_shared_by_workers(valkey: RunningValkey) -> None:
    tenant = f"acme-{uuid.uuid4().hex}"
    workers = [
        limiter(
            runs=True, store=registry.load("limits", "redis").build(LimitStoreSettings(valkey.url, 5.0)), now=time.time
        )
        for _ in range(2)
    ]
    who = Principal(tenant, "k")
    await call(workers[0], Run("root", None, RunCaps(requests=2)), who=who)
    await call(workers[1], Run("child", "root"), who=who)

    for by, run in zip(workers, (Run("child"), Run("root")), strict=True):
        assert "requests of run root" in (await refusal(by, run, who=who)).message
    await asyncio.gather(*(by.close() for by in workers))


async def test_without_its_store_a_run_goes_no_further(valkey: RunningValkey, tmp_path: Path) -> None:
    gone = registry.load("limits", "redis").build(LimitStoreSettings(f"unix://{tmp_path}/none", 0.5))
    by = limiter(runs=True, store=gone, now=time.time)

    with pytest.raises(PolicyUnavailable):
        await by.with_run(ANN, Run("a"))
    await by.close()


async def test_a_run_goes_on_after_a_restart_without_a_shared_store(tmp_path: Path) -> None:
    before, path = limiter(runs=True), tmp_path / "counted.json"
    await call(before, Run("a", None, RunCaps(2_000_000, 1_000, 3, 600)), 500_000, 100)
    file = CounterFile(path, lambda error: None)
    file.start(lambda: before.memory.counted(outlives_restart))
    await file.close()
    now = Now(MIDNIGHT + 60)
    after = limiter(runs=True, now=now)
    after.memory.put(CounterFile(path, lambda error: None).read())

    told = await call(after, Run("a"), 500_000, 100)
    assert "dollars=1.00, tokens=800, requests=1, seconds=540" == told["x-edge-run-left"]


async def test_a_change_of_rules_applies_to_runs() -> None:
    by, listener = limiter(cap("requests", 5)), RecordingListener()
    await call(by, Run("a"))
    by.replace_rules(limiter(cap("requests", 1), listener=listener)._rules)

    assert "limited to 1 requests" in (await refusal(by, Run("a"))).message


async def test_a_call_that_fails_gives_back_all_but_the_request() -> None:
    by = limiter(cap("requests", 2), cap("dollars", MICRO))
    await call(by, Run("a"), 900_000, name="one")
    by.settle(settlement("one", "refused", status=400))

    assert "dollars=0.10, requests=0" == (await call(by, Run("a"), 900_000))["x-edge-run-left"]
