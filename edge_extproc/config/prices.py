"""The section `prices`: prices of a contract, or of a host that the public price lists do not contain."""

from __future__ import annotations

from pydantic import model_validator

from .limits import Dollars
from .part import ConfigSection, Text
from .wrong import wrong


class PriceConfig(ConfigSection):
    """US dollars for a million tokens. The first matching row counts, before the public lists. A kind of token without
    a price of its own costs the general price: cached and audio prompts cost `input`, reasoning and audio replies cost
    `output`. Without `output`, replies have no known price. A row of zeros is free."""

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

    @model_validator(mode="after")
    def _says_something(self) -> PriceConfig:
        if self.input is None and self.output is None:
            raise wrong("this row has no price", "give input: and output:, dollars for a million tokens")
        return self
