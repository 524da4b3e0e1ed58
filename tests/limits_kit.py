"""Helpers for tests of limits: rules, a listener that records its events, and settlements."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import settlements

from edge_extproc.limits.base import MICRO, LimitRule
from edge_extproc.limits.limiter import LimiterSettings, PolicyLimiter
from edge_extproc.limits.rule_table import RuleTable
from edge_extproc.limits.worker_count import WorkerCount
from edge_extproc.model.principal import Principal
from edge_extproc.model.settlement import Settlement
from edge_extproc.model.usage import Usage

ANN = Principal("acme", "acme-1", team="research", user="ann")
# A minute of the clock begins here, and a UTC day.
MIDNIGHT = 1_800_057_600.0


class RecordingListener:
    """A listener that records its events."""

    def __init__(self) -> None:
        self.refusals: list[LimitRule] = []
        self.warnings: list[tuple[LimitRule, int]] = []
        self.stores: list[bool] = []
        self.reasons: list[str] = []
        self.locals = 0

    def refused(self, rule: LimitRule) -> None:
        self.refusals.append(rule)

    def warned(self, rule: LimitRule, used: int) -> None:
        self.warnings.append((rule, used))

    def store(self, up: bool, reason: str = "") -> None:
        self.stores.append(up)
        self.reasons.append(reason)

    def local(self) -> None:
        self.locals += 1


class Now:
    """A clock that changes only if it is set."""

    def __init__(self, at: float = MIDNIGHT) -> None:
        self.at = at

    def __call__(self) -> float:
        return self.at


def rule(measure: Any, maximum: int, window: Any = "minute", **more: Any) -> LimitRule:
    wanted = {"tenant": "acme", "level": "tenant", "name": "acme", **more}
    return LimitRule(measure=measure, window=None if measure == "concurrent" else window, maximum=maximum, **wanted)


def dollars(amount: float, window: Any = "day", **more: Any) -> LimitRule:
    return rule("dollars", round(amount * MICRO), window, **more)


def limiter(
    *rules: LimitRule,
    store: Any = None,
    now: Any = None,
    listener: RecordingListener | None = None,
    workers: WorkerCount | None = None,
    **more: Any,
) -> PolicyLimiter:
    return PolicyLimiter(
        RuleTable(rules), store, listener or RecordingListener(), LimiterSettings(**more), now or Now(), workers
    )


def settlement(exchange_id: str, outcome: Any = "ok", **more: Any) -> Settlement:
    return settlements.settlement(exchange_id=exchange_id, outcome=outcome, started_at=0.0, duration=0.0, **more)


def used(exchange_id: str, cost: float | str, tokens: int = 0, **more: Any) -> Settlement:
    """A call that a provider answered."""
    return settlement(
        exchange_id, provider="p", lane="raw", usage=Usage(output=tokens), cost=Decimal(cost), operation="chat", **more
    )


async def until(condition: Callable[[], bool], patience: float = 10.0) -> None:
    """Waits for something that happens off the path; fails if it does not come true."""
    async with asyncio.timeout(patience):
        came_true = condition()
        while not came_true:
            await asyncio.sleep(0.01)
            came_true = condition()
