"""What a request in a batch costs, as a factor of the price of the same request alone.

A row of `prices` can give a contract's own factor, as the tier `batch`. A host that is not in the table charges the
full price: an estimate must not be below the bill.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from types import MappingProxyType

TIER = "batch"
"""The name of the factor in a row of `prices`."""

_HALF = Decimal("0.5")

# By the id of the price list. Each host charges half of its price for input and output:
#   openai     platform.openai.com/docs/guides/batch
#   azure      learn.microsoft.com/azure/ai-services/openai/how-to/batch
#   anthropic  docs.anthropic.com/en/docs/build-with-claude/batch-processing (cache reads and writes too)
#   google     ai.google.dev/gemini-api/docs/batch-api
#   groq       console.groq.com/docs/batch
#   mistral    docs.mistral.ai/capabilities/batch
KNOWN: Mapping[str, Decimal] = MappingProxyType(
    dict.fromkeys(("openai", "azure", "anthropic", "google", "groq", "mistral"), _HALF)
)


def batch_factor(price_list: str, own: Mapping[str, Decimal] = MappingProxyType({})) -> Decimal:
    """`own`: the factors of a row of the configuration."""
    return own.get(TIER, KNOWN.get(price_list, Decimal(1)))
