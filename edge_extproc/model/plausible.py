"""Bounds for the usage and cost of one exchange.

A provider can report any number. A number above these bounds or below zero is treated as unknown, so that it does not
corrupt sums, counters or database columns.
"""

from __future__ import annotations

from decimal import Decimal
from operator import attrgetter
from typing import TypeGuard

from .usage import BUCKETS, MOST_TOKENS, Usage

MOST_DOLLARS = Decimal(9_000_000)
"""US dollars for one exchange. A 64-bit column in millionths of a millionth of a dollar holds up to 9,223,372."""

_counts_of = attrgetter(*BUCKETS)


def is_plausible_count(value: object) -> TypeGuard[int]:
    """Whether the value is an integer from 0 to MOST_TOKENS. A boolean is not."""
    return type(value) is int and 0 <= value <= MOST_TOKENS


def plausible_or_none(usage: Usage | None) -> Usage | None:
    return usage if usage is not None and is_plausible(usage) else None


def is_plausible(usage: Usage) -> bool:
    """Whether all token counts are within the bounds."""
    for count in _counts_of(usage):  # noqa: SIM110 - a generator takes twice as long
        if type(count) is not int or not 0 <= count <= MOST_TOKENS:
            return False
    return True
