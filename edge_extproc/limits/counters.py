"""Makes the counter of a rule in its current window, and the constant part of its headers."""

from __future__ import annotations

from typing import Literal

from .base import LimitRule, WindowCounter
from .frames import HeaderFields
from .rate_limit_headers import HEADERS, amount_value
from .windows import Span

KEEP_AFTER = 2 * 86_400
"""Seconds that a counter outlives its window. It is longer than any call, so that late settlements find the counter. A
run is forgotten so long after its last call."""


def counter_of(rule: LimitRule, key: str, span: Span | None, now: float) -> WindowCounter:
    if rule.level == "run":
        kind: Literal["run", "clock"] = "clock" if rule.measure == "seconds" else "run"
        stated = rule.stated if rule.stated is not None else -1
        return WindowCounter(key, "", rule.maximum, True, int(now) + KEEP_AFTER, False, kind, stated)
    if span is None:
        return WindowCounter(key, "", rule.maximum, rule.hard, int(now) + KEEP_AFTER, slot=True)
    before = f"{key}{span.start - 60}" if rule.window == "minute" else ""
    return WindowCounter(f"{key}{span.start}", before, rule.maximum, rule.hard, span.end + KEEP_AFTER, slot=False)


def header_fields(rule: LimitRule, span: Span | None) -> HeaderFields:
    limit, remaining, reset = HEADERS[rule.measure]
    ends = span.end if span is not None else None
    return HeaderFields((limit, amount_value(rule, rule.maximum)), remaining, reset, rule, ends)


def remaining_total(rule: LimitRule, counter: WindowCounter, total: int, now: float) -> int:
    """The part of `total`, reported in the window of `counter`, that counts now."""
    over = now - (counter.expires - KEEP_AFTER)
    if counter.slot or over < 0:
        return total
    # A minute counts less and less during the next one.
    return int(total * (1 - over / 60)) if rule.window == "minute" and over < 60 else 0
