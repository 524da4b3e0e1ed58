"""What a settled call has used of each measure."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import ROUND_CEILING, Decimal

from ..model.plausible import is_plausible
from ..model.settlement import Settlement
from .base import MAX_AMOUNT, MICRO


def spent_by(settlement: Settlement, assumed_input: int, assumed_output: int) -> tuple[int, int, int, int, int]:
    """The used amount for each index of `KINDS`, in whole units. -1: the reserved amount. `assumed_…`: micro-dollars
    for a million tokens of a model without a price."""
    usage = settlement.usage
    if usage is None or settlement.unseen or not is_plausible(usage):
        # Unknown usage counts as the whole reservation, so that a budget is never exceeded.
        assumed = -1 if settlement.may_have_been_used else 0
        return (-1, assumed, assumed, 0, 0)
    if settlement.cost is not None:
        dollars = micro_dollars(settlement.cost)
    elif settlement.unpriced and usage.searches:
        # The model can have a price, and its web searches none: the call had the price that a budget needs.
        dollars = -1
    else:
        dollars = 0
        if settlement.unpriced:
            dollars = assumed_micro(usage.prompt, usage.completion, assumed_input, assumed_output)
    return (-1, usage.total, min(dollars, MAX_AMOUNT), 0, 0)


def held_of(settlement: Settlement, reserved: Sequence[int], assumed_input: int, assumed_output: int) -> int | None:
    """Micro-dollars that budgets keep of a reservation, because the cost of the call is not known. None: they count its
    cost. `reserved`: the amount for each budget."""
    if not reserved or spent_by(settlement, assumed_input, assumed_output)[2] >= 0:
        return None
    return max(reserved)


def assumed_micro(prompt: int, completion: int, assumed_input: int, assumed_output: int) -> int:
    """Micro-dollars of so many tokens of a model without a price."""
    return -(-(prompt * assumed_input + completion * assumed_output) // MICRO)


def micro_dollars(dollars: Decimal) -> int:
    """Whole micro-dollars, rounded up, at most MAX_AMOUNT. Infinity and NaN give MAX_AMOUNT."""
    if not dollars.is_finite():
        return MAX_AMOUNT
    return min(MAX_AMOUNT, max(0, int((dollars * MICRO).to_integral_value(ROUND_CEILING))))
