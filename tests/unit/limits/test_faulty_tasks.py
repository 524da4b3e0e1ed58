"""No exception, of whatever kind and in whichever background task, ends the limiter's work."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from limits_kit import ANN, Now, dollars, limiter, rule, until, used

from edge_extproc.limits.base import ReservationRequest
from edge_extproc.limits.counter_file import CounterFile
from edge_extproc.limits.memory import MemoryLimitStore
from edge_extproc.limits.rule_table import outlives_restart

KINDS: tuple[type[Exception], ...] = (RuntimeError, ValueError, KeyError, OSError, ZeroDivisionError, TypeError)


class FaultyStore(MemoryLimitStore):
    """The methods of the background tasks raise any exception, so many times each."""

    def __init__(self, seed: int, times: int) -> None:
        super().__init__(Now())
        self.left = dict.fromkeys(("settle", "renew", "check_writable", "add", "join"), times)
        self.calls = dict.fromkeys(self.left, 0)
        self._chance = random.Random(seed)

    def _maybe(self, name: str) -> None:
        self.calls[name] += 1
        if self.left[name]:
            self.left[name] -= 1
            raise self._chance.choice(KINDS)("on purpose")

    async def settle(self, settled: Any) -> None:
        self._maybe("settle")
        await super().settle(settled)

    async def renew(self, leases: Any, seconds: int) -> None:
        self._maybe("renew")
        await super().renew(leases, seconds)

    async def check_writable(self) -> None:
        self._maybe("check_writable")

    async def add(self, amounts: Any) -> None:
        self._maybe("add")
        await super().add(amounts)

    async def join(self, worker: str, milliseconds: int) -> int:
        self._maybe("join")
        return await super().join(worker, milliseconds)


@pytest.mark.parametrize("seed", [1])
async def test_settlements_leases_and_probes_go_on_after_any_exception(seed: int) -> None:
    store = FaultyStore(seed, 1)
    by = limiter(dollars(5), rule("concurrent", 2), store=store, lease_seconds=1, down_seconds=0.01)
    by.start()
    rules = by.rules(ANN)
    assert rules is not None
    await by.admit("one", rules, ReservationRequest(10, 2_000_000))
    await by.admit("two", rules, ReservationRequest(10, 2_000_000))
    by.settle(used("one", "0.5"))

    await until(lambda: store.calls["renew"] > 1 and store.calls["check_writable"] > 1, 60.0)
    await until(lambda: by.unsettled == 0, 60.0)
    await until(lambda: by.workers.counted == 1, 60.0)
    day = next(status for status in by.statuses() if status.rule.measure == "dollars")
    assert 2_500_000 == day.used
    await by.close()


async def test_the_file_of_counters_is_written_after_any_exception(tmp_path: Path) -> None:
    by, calls = limiter(dollars(5)), [0]
    rules = by.rules(ANN)
    assert rules is not None
    await by.admit("one", rules, ReservationRequest(10, 2_000_000))

    def counted() -> Any:
        calls[0] += 1
        if calls[0] <= 2:
            raise KINDS[calls[0]]("on purpose")
        return by.memory.counted(outlives_restart)

    file = CounterFile(tmp_path / "counted.json", lambda error: None, every=0.001)
    file.start(counted)
    await until((tmp_path / "counted.json").exists, 60.0)
    await file.close()

    assert [2_000_000] == [amount for _, amount, _ in file.read()]
