"""Reads how much of each limit is used now, for the admin API."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence

from ..model.limit_use import LimitUse
from .base import MICRO, LimitRule
from .counters import counter_of
from .rule_table import counter_key
from .windows import Windows

# Counters of one request to the store.
_BATCH = 500


async def uses_of(
    rules: Iterable[LimitRule],
    read: Callable[[Sequence[str]], Awaitable[Sequence[int]]],
    reserved: Mapping[str, int],
    now: float,
) -> list[LimitUse]:
    """`rules`: no caps of runs, and none of `*`. `read` returns the values of counters. `reserved`: by counter, what
    calls in progress in this worker have reserved."""
    windows, counters = Windows(), []
    for rule in rules:
        at = windows.at(rule.window, rule.zone, now) if rule.window is not None else None
        counters.append((rule, at, counter_of(rule, counter_key(rule), at, now)))
    values: dict[str, int] = {}
    keys = [key for _, _, counter in counters for key in (counter.key, counter.before) if key]
    for n in range(0, len(keys), _BATCH):
        some = keys[n : n + _BATCH]
        values.update(zip(some, await read(some), strict=True))
    found = []
    for rule, at, counter in counters:
        total = values[counter.key]
        if counter.before and at is not None:  # a minute is a sliding window
            total -= -values[counter.before] * int((at.end - now) * MICRO / 60) // MICRO
        limit = (rule.tenant, rule.level, rule.name, rule.measure, rule.window or "now")
        until = at.end if at is not None else None
        found.append(LimitUse(limit, rule.maximum, total, reserved.get(counter.key, 0), until))
    return found
