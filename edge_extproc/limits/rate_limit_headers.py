"""The rate limit headers of a response: for each measure, the tightest limit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import get_args

from .base import MICRO, LimitRule, Measure, Pairs, ReserveResult
from .frames import WindowFrame


def limit_headers(frame: WindowFrame, amounts: Sequence[int], result: ReserveResult, now: float) -> Pairs:
    """For each measure, the headers of the rule with the smallest remaining share. `result`: of the reservation of
    `amounts`. `now`: Unix time, seconds."""
    pairs: list[tuple[str, str]] = []
    fields, used, ok = frame.header_fields, result.used, result.ok
    for indexes in frame.by_measure:
        tightest, smallest_share = indexes[0], 2.0
        if len(indexes) > 1:
            for index in indexes:
                maximum = fields[index].rule.maximum
                share = (maximum - used[index] - (amounts[index] if ok else 0)) / (maximum or 1)
                if share < smallest_share:
                    tightest, smallest_share = index, share
        limit, left_name, reset_name, rule, ends = fields[tightest]
        remaining = rule.maximum - used[tightest] - (amounts[tightest] if ok else 0)
        reset = 1 if ends is None else -int(-(ends - now) // 1)
        pairs += (
            limit,
            (left_name, amount_value(rule, remaining if remaining > 0 else 0)),
            (reset_name, f"{reset if reset > 1 else 1}s"),
        )
    return tuple(pairs)


HEADERS = {
    measure: tuple(f"x-ratelimit-{what}-{measure}" for what in ("limit", "remaining", "reset"))
    for measure in get_args(Measure)
}


def amount_value(rule: LimitRule, amount: int) -> str:
    if rule.measure != "dollars":
        return str(amount)
    units, rest = divmod(amount, MICRO)
    digits = f"{rest:06d}".rstrip("0")
    return f"{units}.{digits:0<2}"


def amount_text(rule: LimitRule, amount: int) -> str:
    if rule.measure == "dollars":
        return f"${amount_value(rule, amount)}"
    return f"{amount} {'requests' if rule.measure == 'concurrent' else rule.measure}"
