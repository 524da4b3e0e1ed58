"""The rate limit headers of a response: for each measure, the tightest limit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import get_args

from .base import MICRO, LimitRule, Measure, Pairs, ReserveResult
from .frames import WindowFrame


def _left(frame: WindowFrame, amounts: Sequence[int], taken: ReserveResult, now: float) -> Pairs:
    """Of each measure, the rule of which the least is left."""
    told: list[tuple[str, str]] = []
    tells, used, ok = frame.tells, taken.used, taken.ok
    for places in frame.told:
        chosen, least = places[0], 2.0
        if len(places) > 1:
            for place in places:
                maximum = tells[place].rule.maximum
                share = (maximum - used[place] - (amounts[place] if ok else 0)) / (maximum or 1)
                if share < least:
                    chosen, least = place, share
        limit, left_name, reset_name, rule, ends = tells[chosen]
        left = rule.maximum - used[chosen] - (amounts[chosen] if ok else 0)
        reset = 1 if ends is None else -int(-(ends - now) // 1)
        told += (
            limit,
            (left_name, number(rule, left if left > 0 else 0)),
            (reset_name, f"{reset if reset > 1 else 1}s"),
        )
    return tuple(told)


HEADERS = {
    measure: tuple(f"x-ratelimit-{what}-{measure}" for what in ("limit", "remaining", "reset"))
    for measure in get_args(Measure)
}


def number(rule: LimitRule, amount: int) -> str:
    if rule.measure != "dollars":
        return str(amount)
    whole, rest = divmod(amount, MICRO)
    digits = f"{rest:06d}".rstrip("0")
    return f"{whole}.{digits:0<2}"


def _amount(rule: LimitRule, amount: int) -> str:
    if rule.measure == "dollars":
        return f"${number(rule, amount)}"
    return f"{amount} {'requests' if rule.measure in ('requests', 'concurrent') else 'tokens'}"
