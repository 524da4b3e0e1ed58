"""What a configuration may say of prices: a contract of one's own, or a host that no public list knows."""

from __future__ import annotations

from pydantic import model_validator

from .limits import Dollars
from .part import ConfigSection, Text
from .wrong import wrong


class PriceConfig(ConfigSection):
    """US dollars for a million tokens. Rows are asked in their order, and before the public lists. A kind of token
    without a price costs what the wider kind costs: what is read from or written to a cache, and sound, as `input`;
    thoughts, and sound, as `output`. A row without `output` leaves answers unpriced; one of zeros is free."""

    provider: Text
    """By its name in `providers`."""
    model: Text
    """As the provider knows it, or a glob with * and ?."""
    input: Dollars | None = None
    output: Dollars | None = None
    cache_read: Dollars | None = None
    cache_write: Dollars | None = None
    cache_write_1h: Dollars | None = None
    reasoning: Dollars | None = None
    input_audio: Dollars | None = None
    output_audio: Dollars | None = None

    @model_validator(mode="after")
    def _says_something(self) -> PriceConfig:
        if self.input is None and self.output is None:
            raise wrong("this row has no price", "give input: and output:, dollars for a million tokens")
        return self
