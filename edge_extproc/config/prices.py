"""The section `prices`: prices of a contract, or of a host that the public price lists do not contain."""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer, WithJsonSchema, model_validator

from .limits import Dollars
from .part import ConfigSection, Text, frozen, thawed
from .wrong import wrong

_MOST_FACTOR = 100


def _factor(value: object) -> Decimal:
    text = f"{Decimal(str(value)):f}" if isinstance(value, float) else str(value)
    if isinstance(value, bool) or not re.fullmatch(r"\d{1,3}(\.\d{1,6})?", text) or Decimal(text) > _MOST_FACTOR:
        raise wrong("this is not a factor", f"write a number from 0 to {_MOST_FACTOR}, such as 0.5")
    return Decimal(text)


Factor = Annotated[
    Decimal,
    BeforeValidator(_factor),
    PlainSerializer(lambda factor: f"{factor:f}", return_type=str, when_used="json"),
    WithJsonSchema({"anyOf": [{"type": "number", "minimum": 0, "maximum": _MOST_FACTOR}, {"type": "string"}]}),
]


class PriceConfig(ConfigSection):
    """US dollars for a million tokens. The first matching row counts, before the public lists. A kind of token without
    a price of its own costs the general price: cached tokens, audio and images in prompts cost `input`; reasoning,
    audio and images in replies cost `output`. Without `output`, replies have no known price. A row of zeros is free. A
    row that has `search` alone is about searches: tokens have the price of the next row or of the public lists."""

    provider: Text
    """The provider's name in `providers`."""
    model: Text
    """The provider's name of the model, or a glob with * and ?."""
    input: Dollars | None = None
    """Prompt tokens."""
    output: Dollars | None = None
    """Output tokens."""
    cache_read: Dollars | None = None
    """Prompt tokens that the provider read from its cache."""
    cache_write: Dollars | None = None
    """Prompt tokens that the provider wrote to its cache."""
    cache_write_1h: Dollars | None = None
    """The same, if the provider keeps them for an hour."""
    reasoning: Dollars | None = None
    """Reasoning tokens."""
    input_audio: Dollars | None = None
    """Tokens of audio in prompts."""
    output_audio: Dollars | None = None
    """Tokens of audio in replies."""
    input_image: Dollars | None = None
    """Tokens of images in prompts."""
    output_image: Dollars | None = None
    """Tokens of images in replies."""
    search: Dollars | None = None
    """A thousand web searches that the provider executes. Without it, they have the price of the public lists."""
    tiers: Annotated[Mapping[Text, Factor], AfterValidator(frozen), PlainSerializer(thawed)] = Field(
        default_factory=dict, validate_default=True
    )
    """Factors of this row's prices, by the value of service_tier (or speed, or inference_geo) in the request, such as
    {flex: 0.5, priority: 2}. A tier without a factor here has the highest one that is known of it, or 1. `batch` is the
    factor of the requests in a batch."""

    @model_validator(mode="after")
    def _says_something(self) -> PriceConfig:
        set_prices = self.model_dump(exclude={"provider", "model", "tiers"}, exclude_none=True)
        if set_prices.keys() == {"search"} and not self.tiers:
            return self
        if self.input is None and self.output is None:
            raise wrong("this row has no price", "give input: and output:, dollars for a million tokens")
        return self
