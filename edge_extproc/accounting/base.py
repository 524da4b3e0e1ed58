"""The port of the price table.

A price is exact, or it is not known (None, "unpriced"). Unpriced is never treated as zero: it is logged and counted in
metrics.
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import Protocol

from ..model.usage import Usage


class Prices(Protocol):
    """What tokens cost."""

    def cost(
        self, provider: str, model: str, usage: Usage, *, host: str = "", tiers: Iterable[str] = ()
    ) -> Decimal | None:
        """US dollars. None: a part of `usage` has no known price.

        `provider`: the name of a public price list (`Provider.price_list`); "": there is none. `host`: the provider's
        name in the configuration, which only the configured prices use. `tiers`: the values in the request that select
        another price than the usual one (service_tiers.py).
        """
        ...

    def costs(
        self, provider: str, model: str, usage: Usage, *, host: str = "", tiers: Iterable[str] = ()
    ) -> dict[str, Decimal]:
        """The parts of `cost` by the name of the bucket in `Usage`, without searches and the price of the call itself.
        A bucket without a known price is missing."""
        ...

    def search_cost(self, provider: str, model: str, searches: int, *, host: str = "") -> Decimal | None:
        """The part of a cost for so many web searches. None: they have no known price."""
        ...

    def batch_factor(self, provider: str, model: str, *, host: str = "") -> Decimal:
        """What a request in a batch costs, as a factor of its usual price."""
        ...

    def max_cost(
        self,
        provider: str,
        model: str,
        prompt: int,
        completion: int,
        *,
        host: str = "",
        caches: bool = False,
        audio: bool = False,
        tiers: Iterable[str] = (),
    ) -> Decimal | None:
        """The most that so many tokens can cost, US dollars: each token is priced as its most expensive possible kind.
        Prompt tokens may be cache writes if `caches`; prompt and output tokens may be audio if `audio`, and
        images in each case. None: one of these kinds has no price."""
        ...
