"""Which limits refused a call, how long it must wait, and the error for its caller."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import BudgetReached, LimitReached
from .base import MICRO, LimitRule, Pairs, ReserveResult, WindowCounter, WindowCounters
from .rate_limit_headers import amount_text
from .windows import Span


def exceeds(counter: WindowCounter, amount: int, used: int, before: int) -> bool:
    """Whether a counter refused the amount. `before`: as in `ReserveResult`."""
    match counter.kind:
        case "window":
            return counter.hard and used + amount > counter.maximum
        case "run":
            return used + amount > before
        case "clock":
            return used >= before


def only_slots(counters: WindowCounters, amounts: Sequence[int], result: ReserveResult) -> bool:
    """Whether only concurrency limits refused."""
    return all(
        counter.slot
        for counter, amount, used, most in zip(counters.items, amounts, *result[1:], strict=True)
        if exceeds(counter, amount, used, most)
    )


def wait_for(rule: LimitRule, span: Span | None, room: int, used: int, before: int, weight: int, now: float) -> float:
    """Seconds until the counter has fallen to `room`, without further calls."""
    if span is None:
        return 1.0
    if rule.window != "minute":
        return max(0.0, span.end - now)
    current = used + -before * weight // MICRO
    if current <= room:  # when enough of the previous minute has left the window
        return max(0.05, span.end - 60 * (room - current) / max(1, before) - now)
    return max(0.05, span.end + 60 * (1 - room / current) - now)


def reached(rule: LimitRule, wait: float, headers: Pairs) -> LimitReached:
    kind = BudgetReached if rule.measure == "dollars" else LimitReached
    text = f"{rule.label} is limited to {amount_text(rule, rule.maximum)}; try again in {max(1, -int(-wait // 1))} s"
    return kind(text, retry_after=wait, headers=headers)


def never_fits(rule: LimitRule, amount: int) -> LimitReached:
    kind = BudgetReached if rule.measure == "dollars" else LimitReached
    return kind(
        f"this request could use up to {amount_text(rule, amount)}, more than {rule.label} allows "
        f"({amount_text(rule, rule.maximum)}); ask for fewer output tokens (max_tokens) or send a shorter prompt"
    )
