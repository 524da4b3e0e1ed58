"""What one worker has counted outlives it."""

from __future__ import annotations

from pathlib import Path

import pytest
import structlog
from limits_kit import ANN, MIDNIGHT, Now, dollars, limiter, rule, until, used
from prometheus_client import CollectorRegistry

from edge_extproc.config.load import load
from edge_extproc.errors import LimitReached, StartError
from edge_extproc.limits.base import ReservationRequest
from edge_extproc.limits.counter_file import CounterFile
from edge_extproc.limits.limiter import PolicyLimiter
from edge_extproc.limits.rule_table import outlives_restart
from edge_extproc.worker.wiring.limits import build_limits

RULES = (
    dollars(1),
    dollars(3, "month", level="key", name="acme-1"),
    dollars(1, level="user", name="*"),
    rule("concurrent", 1),
    rule("tokens", 1_000),
)


def asking(micro_dollars: int, tokens: int = 0) -> ReservationRequest:
    return ReservationRequest(tokens, micro_dollars)


async def admit(by: PolicyLimiter, name: str, ask: ReservationRequest) -> dict[str, str]:
    rules = by.rules(ANN)
    assert rules is not None
    return dict((await by.admit(name, rules, ask)).headers)


def watched(path: Path, by: PolicyLimiter, every: float = 60.0) -> CounterFile:
    kept = CounterFile(path, lambda error: pytest.fail(f"reported {error!r}"), every)
    by.memory.put(kept.read())
    kept.start(lambda: by.memory.counted(outlives_restart))
    return kept


async def left(by: PolicyLimiter) -> str:
    return (await admit(by, "asks", asking(0)))["x-ratelimit-remaining-dollars"]


async def test_dollars_that_were_spent_are_spent_after_a_restart(tmp_path: Path) -> None:
    path, now = tmp_path / "counted.json", Now()
    by = limiter(*RULES, now=now)
    kept = watched(path, by)
    await admit(by, "a", asking(800_000))
    by.settle(used("a", "0.3", tokens=900))
    await kept.close()
    after = limiter(*RULES, now=now)
    again = watched(path, after)

    assert "0.70" == await left(after)
    await again.close()
    now.at = MIDNIGHT + 86_400
    next_day = limiter(*RULES, now=now)
    third = watched(path, next_day)
    # A new day, and of the same month 2.70 of 3 dollars are left.
    assert "2.70" == await left(next_day)
    await third.close()


async def test_of_calls_under_way_at_a_sudden_end_the_worst_case_is_spent_and_no_slot_is_taken(tmp_path: Path) -> None:
    path, now = tmp_path / "counted.json", Now()
    by = limiter(*RULES, now=now)
    kept = watched(path, by, every=0.01)
    await admit(by, "a", asking(400_000))
    await until(lambda: path.exists() and b"400000" in path.read_bytes())
    after = limiter(*RULES, now=now)
    again = watched(path, after)

    assert "0.60" == await left(after)
    await kept.close()
    await again.close()


async def test_of_calls_whose_loss_releases_nothing_is_spent(tmp_path: Path) -> None:
    path, now = tmp_path / "counted.json", Now()
    by = limiter(*RULES, now=now, lost="release")
    kept = watched(path, by)
    await admit(by, "a", asking(400_000))
    await kept.close()
    after = limiter(*RULES, now=now)
    again = watched(path, after)

    assert "1.00" == await left(after)
    await again.close()


async def test_what_is_kept_is_for_its_owner_alone_and_names_only_dollars(tmp_path: Path) -> None:
    path = tmp_path / "counted.json"
    by = limiter(*RULES)
    kept = watched(path, by)
    await admit(by, "a", asking(400_000, tokens=10))
    await kept.close()

    assert 0o600 == path.stat().st_mode & 0o777
    assert {"dollars"} == {key.split(":")[3] for key, _, _ in kept.read()}
    assert 3 == len(kept.read())


@pytest.mark.parametrize("text", ["", "{", '{"format":2,"counted":[]}', '{"format":1,"counted":[["k","x",1]]}'])
def test_a_file_that_says_nothing_begins_no_budget_anew(tmp_path: Path, text: str) -> None:
    path = tmp_path / "counted.json"
    path.write_text(text)
    with pytest.raises(StartError, match=r"counted\.json .*remove it to restart budgets from zero"):
        CounterFile(path, print).read()


async def test_a_disk_that_takes_nothing_is_told_once_and_stops_nobody(tmp_path: Path) -> None:
    told: list[BaseException] = []
    by = limiter(*RULES)
    kept = CounterFile(tmp_path / "missing" / "counted.json", told.append, 0.001)
    kept.start(lambda: by.memory.counted(outlives_restart))
    await until(lambda: bool(told))
    (tmp_path / "missing").mkdir()
    await until((tmp_path / "missing" / "counted.json").exists)
    await kept.close()

    assert 1 == len(told)


async def test_the_log_names_the_file_that_cannot_be_written(tmp_path: Path) -> None:
    path = tmp_path / "edge.yaml"
    path.write_text(
        "agent: {state_dir: missing}\nauth: {pepper: a pepper of the tests}\n"
        "callers: [{tenant: a, limits: {dollars_per_day: 1}, keys: [{id: k, key: edge-key-of-the-tests}]}]\n"
        "providers: {p: {kind: openai, api_key: x}}\nmodels: {m: [{provider: p}]}\n"
    )
    limits = build_limits(load(path, {}), CollectorRegistry(), print)
    assert limits is not None
    with structlog.testing.capture_logs() as logs:
        limits.start()
        await until(lambda: bool(logs))
        await limits.close()

    reported = {key: logs[0][key] for key in ("event", "reason", "path")}
    assert {
        "event": "counters_not_saved",
        "reason": "No such file or directory",
        "path": str(tmp_path / "missing" / "counted.json"),
    } == reported


async def test_a_budget_that_was_reached_is_reached_after_a_restart(tmp_path: Path) -> None:
    path, now = tmp_path / "counted.json", Now()
    by = limiter(*RULES, now=now)
    kept = watched(path, by)
    await admit(by, "a", asking(1_000_000))
    by.settle(used("a", 1))
    await kept.close()
    after = limiter(*RULES, now=now)
    again = watched(path, after)
    with pytest.raises(LimitReached):
        await admit(after, "b", asking(1))
    await again.close()
