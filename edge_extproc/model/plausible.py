"""The largest amounts that one exchange can come to.

A provider's usage may be any number. What is larger than these bounds, or below zero, is an error of whoever wrote it:
it is treated as unknown, so that no sum, no counter and no column is spoiled by it.
"""

from __future__ import annotations

from decimal import Decimal
from typing import TypeGuard

from .usage import BUCKETS, MOST_TOKENS, Usage

MOST_DOLLARS = Decimal(9_000_000)
"""Of one exchange: what a 64-bit column holds in millionths of a millionth of a dollar (9,223,372)."""


def is_plausible_count(value: object) -> TypeGuard[int]:
    """An integer from 0 to MOST_TOKENS; a boolean is none."""
    return type(value) is int and 0 <= value <= MOST_TOKENS


def is_plausible(usage: Usage) -> bool:
    return all(is_plausible_count(getattr(usage, name)) for name in BUCKETS)


def is_plausible_cost(cost: Decimal) -> bool:
    return cost.is_finite() and 0 <= cost <= MOST_DOLLARS
