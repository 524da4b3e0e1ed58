"""Reads how much of each limit is used now, for the admin API."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence

from ..model.limit_use import LimitUse
from .base import MICRO, LimitRule
from .counters import counter_of
from .rule_table import counter_key
from .windows import Windows

# Rules of one request to the store.
_BATCH = 500


async def uses_of(
    rules: Iterable[LimitRule],
    read: Callable[[Sequence[str]], Awaitable[Sequence[int]]],
    reserved: Mapping[str, int],
    now: float,
) -> list[LimitUse]:
    """`rules`: no caps of runs, and none of `*`. `read` returns the values of counters. `reserved`: by counter, what
    calls in progress in this worker have reserved."""
    windows, found = Windows(), list[LimitUse]()
    remaining_rules = iter(rules)
    while some := list(itertools.islice(remaining_rules, _BATCH)):
        spans = [windows.at(rule.window, rule.zone, now) if rule.window is not None else None for rule in some]
        counters = [counter_of(rule, counter_key(rule), at, now) for rule, at in zip(some, spans, strict=True)]
        keys = [key for counter in counters for key in (counter.key, counter.before) if key]
        values = dict(zip(keys, await read(keys), strict=True))
        for rule, at, counter in zip(some, spans, counters, strict=True):
            total = values[counter.key]
            if counter.before and at is not None:  # a minute is a sliding window
                total -= -values[counter.before] * int((at.end - now) * MICRO / 60) // MICRO
            limit = (rule.tenant, rule.level, rule.name, rule.measure, rule.window or "now")
            until = at.end if at is not None else None
            found.append(LimitUse(limit, rule.maximum, total, reserved.get(counter.key, 0), until))
        await asyncio.sleep(0)  # there can be ten thousands of rules, and calls must not wait for them
    return found
