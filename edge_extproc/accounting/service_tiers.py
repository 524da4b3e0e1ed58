"""What a service tier costs more than the price lists say, as a factor by the value that a request has.

A row of `prices` can give a contract's own factors. A tier that is cheaper has a factor only there: a host that ignores
the field charges the full price.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal
from types import MappingProxyType

# The highest factor of any model, by the providers' price lists: OpenAI's priority processing costs 1.67 (gpt-4o) to
# 2.5 times (gpt-5.5), Google's and Amazon's 1.8 and 1.75. Anthropic's fast mode costs 6 times, and inference in the US
# alone 1.1 times. Amazon's latency-optimized inference costs 1.25 times.
KNOWN: Mapping[str, Decimal] = MappingProxyType(
    {
        "priority": Decimal("2.5"),
        "fast": Decimal(6),
        "us": Decimal("1.1"),
        "optimized": Decimal("1.25"),
    }
)
_ONE = Decimal(1)


def factor_of(tiers: Iterable[str], own: Mapping[str, Decimal] = MappingProxyType({})) -> Decimal:
    """The product of the factors of these values. `own`: those of a row of the configuration."""
    product = _ONE
    for tier in tiers:
        product *= own.get(tier, KNOWN.get(tier, _ONE))
    return product
