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

    def most(
        self,
        provider: str,
        model: str,
        prompt: int,
        completion: int,
        *,
        host: str = "",
        caches: bool = False,
        sounds: bool = False,
    ) -> Decimal | None:
        """What so many tokens cost if each falls into the dearest bucket that it could: of the prompt those written to
        a cache where it `caches`, of prompt and answer those of audio where it `sounds`. US dollars, or None where one
        of these buckets has no price."""
        ...
