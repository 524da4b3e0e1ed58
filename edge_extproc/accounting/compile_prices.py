"""Writes the needed part of genai-prices as one small JSON file: `python compile_prices.py FILE`.

Importing genai-prices with its data takes about 30 MiB and a third of a second, and the memory is never released. So a
child process imports it, once for each version, and the workers read the file. For this reason the script imports
nothing of this package, and is run by its path.

The file has the patterns of providers and models, and the prices of tokens, requests and web searches. It leaves out
the prices of things that `Usage` does not count (other searches, pages, seconds of audio, whole images), of batches and
of other service tiers.
`prices.py` declares the format of the file; FORMAT is the same number there.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from datetime import UTC, date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import TypeAlias, assert_never

from genai_prices import __version__
from genai_prices.data import providers
from genai_prices.data_units import unit_data
from genai_prices.types import (
    ClauseAnd,
    ClauseContains,
    ClauseEndsWith,
    ClauseEquals,
    ClauseOr,
    ClauseRegex,
    ClauseStartsWith,
    ConditionalPrice,
    MatchLogic,
    ModelPrice,
    Provider,
    StartDateConstraint,
    TieredPrices,
    TimeOfDateConstraint,
)

FORMAT = 3

Json: TypeAlias = str | int | float | Sequence["Json"] | dict[str, "Json"] | None

# The name of each price (of a million tokens, or of a thousand requests) in genai-prices, and its name in the file. A
# kind of token without a price has the price of a more general kind, which prices.py declares.
KEPT: dict[str, str] = {
    "input_mtok": "input",
    "cache_read_mtok": "cache_read",
    "cache_write_mtok": "cache_write",
    "cache_write_5m_mtok": "cache_write_5m",
    "cache_write_1h_mtok": "cache_write_1h",
    "input_audio_mtok": "input_audio",
    "input_image_mtok": "input_image",
    "output_mtok": "output",
    "output_reasoning_mtok": "reasoning",
    "output_audio_mtok": "output_audio",
    "output_image_mtok": "output_image",
    "requests_kcount": "request",
    "web_searches_kcount": "search",
}
_PER: dict[str, int] = {unit.get("price_key", name): unit["per"] for name, unit in unit_data.items()}


def table(source: Sequence[Provider] = providers) -> Json:
    """The content of the file, as JSON values."""
    return {
        "format": FORMAT,
        "source": f"genai-prices {__version__}",
        "lists": [_price_list(provider) for provider in source],
    }


def _price_list(provider: Provider) -> Json:
    return {
        "id": provider.id,
        "match": None if provider.provider_match is None else clause(provider.provider_match),
        "fallbacks": provider.fallback_model_providers or [],
        "models": [
            {"match": clause(model.match), "prices": [_dated(price) for price in _alternatives(model.prices)]}
            for model in provider.models
        ],
    }


def clause(logic: MatchLogic) -> Json:
    """A pattern as a JSON list. Names are matched in lower case, so the patterns are in lower case. Regular expressions
    are unchanged."""
    match logic:
        case ClauseStartsWith():
            return ["starts", logic.starts_with.lower()]
        case ClauseEndsWith():
            return ["ends", logic.ends_with.lower()]
        case ClauseContains():
            return ["contains", logic.contains.lower()]
        case ClauseEquals():
            return ["equals", logic.equals.lower()]
        case ClauseRegex():
            return ["regex", logic.regex]
        case ClauseOr():
            return ["or", [clause(each) for each in logic.or_]]
        case ClauseAnd():
            return ["and", [clause(each) for each in logic.and_]]
        case _:
            assert_never(logic)


def _alternatives(prices: ModelPrice | list[ConditionalPrice]) -> list[ConditionalPrice]:
    return [ConditionalPrice(None, prices=prices)] if isinstance(prices, ModelPrice) else prices


def _dated(price: ConditionalPrice) -> Json:
    return {"when": when(price.constraint), "rates": rates(price.prices)}


def when(constraint: StartDateConstraint | TimeOfDateConstraint | None) -> Json:
    """When a price applies. From a day on: Unix time. Daily between two times: seconds since midnight. Both in UTC."""
    match constraint:
        case None:
            return None
        case StartDateConstraint():
            return ["from", int(datetime.combine(constraint.start_date, time(), UTC).timestamp())]
        case TimeOfDateConstraint():
            return ["daily", _second_of_day(constraint.start_time), _second_of_day(constraint.end_time)]
        case _:
            assert_never(constraint)


def _second_of_day(value: time) -> int:
    aware = value if value.tzinfo is not None else value.replace(tzinfo=UTC)
    utc = datetime.combine(date(1970, 1, 2), aware).astimezone(UTC)
    return utc.hour * 3600 + utc.minute * 60 + utc.second


def rates(price: ModelPrice) -> Json:
    """US dollars for one token or one request, as decimal text: the base, then the tiers as [more than, price]."""
    rates_json: dict[str, Json] = {}
    for theirs, ours in KEPT.items():
        value = getattr(price, theirs)
        match value:
            case Decimal():
                rates_json[ours] = [_unit_price(value, theirs), []]
            case TieredPrices():
                rates_json[ours] = [
                    _unit_price(value.base, theirs),
                    [[tier.start, _unit_price(tier.price, theirs)] for tier in value.tiers],
                ]
            case _:
                pass
    return rates_json


def _unit_price(price: Decimal, key: str) -> str:
    # Exact: `per` is a power of ten, and no price has nearly 28 digits.
    return str(price / _PER[key])


# A child process runs this. A test compares its output with `table()`.
if __name__ == "__main__":  # pragma: no cover
    Path(sys.argv[1]).write_text(json.dumps(table(), separators=(",", ":")), encoding="utf-8")
