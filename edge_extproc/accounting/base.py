"""The port of the price table.

A price is exact or it is not known. None is "unpriced", and nobody may take it for zero: who has no price for a reply
says so in log and metrics.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Protocol

from ..model.usage import Usage


class Prices(Protocol):
    def cost(self, provider: str, model: str, usage: Usage, *, host: str = "") -> Decimal | None:
        """US dollars, or None where any part of `usage` has no known price.

        `provider` is the name of a public price list (`Provider.price_list`), "" where the host has none. `host` is
        the provider's own name in config; only config's own prices look at it.
        """
        ...
