"""Writes the part of genai-prices that we need as one small JSON file: `python compile_prices.py FILE`.

genai-prices with its data takes some 30 MiB and a third of a second to import, and it stays for as long as the process
lives. So a child process imports it, once per version, and the workers read what it wrote. That is why this file
imports nothing of ours and is run by its path.

What is kept: how a provider and a model are recognised, and what tokens and requests cost. What is left out: prices of
what `Usage` does not count (searches, pages, seconds of sound, images) and of batches and other service tiers.
The shape of the file is what `prices.py` declares; FORMAT is the same number there.
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

FORMAT = 1

Json: TypeAlias = str | int | float | Sequence["Json"] | dict[str, "Json"] | None

# The price of a million tokens (of a thousand requests) by its name there, and its name here. A bucket without a price
# of its own costs what the wider one costs; prices.py says which is wider.
KEPT: dict[str, str] = {
    "input_mtok": "input",
    "cache_read_mtok": "cache_read",
    "cache_write_mtok": "cache_write",
    "cache_write_5m_mtok": "cache_write_5m",
    "cache_write_1h_mtok": "cache_write_1h",
    "input_audio_mtok": "input_audio",
    "output_mtok": "output",
    "output_reasoning_mtok": "reasoning",
    "output_audio_mtok": "output_audio",
    "requests_kcount": "request",
}
_PER: dict[str, int] = {unit.get("price_key", name): unit["per"] for name, unit in unit_data.items()}


def table(source: Sequence[Provider] = providers) -> Json:
    """The whole file as JSON values."""
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
    """Names are matched in lower case, so the patterns are stored so; a regular expression has its own case."""
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
    """From a day on: Unix time. Every day between two times: seconds since midnight. Both in UTC."""
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
    """US dollars for one token (one request), as decimal text; with tiers: the base, then [more than, price] pairs."""
    kept: dict[str, Json] = {}
    for theirs, ours in KEPT.items():
        value = getattr(price, theirs)
        match value:
            case Decimal():
                kept[ours] = [_one(value, theirs), []]
            case TieredPrices():
                kept[ours] = [
                    _one(value.base, theirs),
                    [[tier.start, _one(tier.price, theirs)] for tier in value.tiers],
                ]
            case _:
                pass
    return kept


def _one(price: Decimal, key: str) -> str:
    # Exact: `per` is a power of ten, and no price has anything like 28 digits.
    return str(price / _PER[key])


# A child process runs this; what it writes is compared with `table()`.
if __name__ == "__main__":  # pragma: no cover
    Path(sys.argv[1]).write_text(json.dumps(table(), separators=(",", ":")), encoding="utf-8")
