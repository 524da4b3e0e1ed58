"""The usage and cost of one exchange."""

from __future__ import annotations

from decimal import Decimal
from typing import NamedTuple

from .usage import Usage


class Bill(NamedTuple):
    usage: Usage | None
    estimated: bool
    """Whether a part of the usage is estimated by the gateway."""
    cost: Decimal | None
    """US dollars; None if nothing was used or the price is unknown."""
    unpriced: bool
    """Whether a cost exists but the price is unknown."""
    search_cost: Decimal | None = None
    """The part of `cost` for web searches; None if there were none, or if `cost` is unknown."""
