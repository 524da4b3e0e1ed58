"""What one exchange used and cost."""

from __future__ import annotations

from decimal import Decimal
from typing import NamedTuple

from .usage import Usage


class Bill(NamedTuple):
    usage: Usage | None
    estimated: bool
    """A part of the usage is our estimate."""
    cost: Decimal | None
    """US dollars."""
    unpriced: bool
    """There would be a cost, if the price were known."""
