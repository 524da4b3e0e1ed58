"""Prints the ledger: sums or single requests, as a table, CSV or JSON lines."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence
from datetime import date
from typing import Any, Literal, TypeAlias, cast

from rich.console import Console
from rich.table import Table

from ..errors import ConfigError
from .database import open_database
from .ledger import DIMENSIONS, Dimension, Ledger, UsageFilter, as_csv, as_json_lines, as_row

Form: TypeAlias = Literal["table", "csv", "json"]


# The columns of single requests that fit into a terminal.
_ROW_COLUMNS = ("exchange", "day", "tenant", "team", "user", "key", "model", "response_model", "outcome", "cost")


def dimensions_of(text: str) -> tuple[Dimension, ...]:
    """Reads a comma-separated list. Raises ConfigError, whose text lists the valid dimensions."""
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    for name in names:
        if name not in DIMENSIONS:
            raise ConfigError(f"cannot sum by {name!r}; have {', '.join(DIMENSIONS)}")
    if not names:
        raise ConfigError(f"no dimension to sum by; have {', '.join(DIMENSIONS)}")
    return cast("tuple[Dimension, ...]", names)


def filter_of(
    *, tenant: str | None, first_day: str | None, last_day: str | None, run: str | None = None
) -> UsageFilter:
    """Raises ConfigError for an invalid day."""
    for day in (first_day, last_day):
        if day is not None:
            try:
                date.fromisoformat(day)
            except ValueError:
                raise ConfigError(f"{day!r} is not a valid day; write it as 2026-01-31") from None
    return UsageFilter(tenant=tenant, run=run, first_day=first_day, last_day=last_day)


def lines(url: str, where: UsageFilter, by: Sequence[Dimension], form: Form) -> Iterator[str]:
    """The report in parts. Without `by`: single requests. Raises ConfigError or StartError if the database cannot be
    used."""
    ledger = Ledger(open_database(url))
    try:
        if by:
            yield from _sums([as_row(total) for total in ledger.totals(by, where)], by, form)
        elif form == "csv":
            yield from as_csv(ledger.rows(where))
        elif form == "json":
            yield from as_json_lines(ledger.rows(where))
        else:
            yield _table(list(ledger.rows(where)), _ROW_COLUMNS)
    finally:
        ledger.close()


def _sums(rows: list[dict[str, Any]], by: Sequence[str], form: Form) -> Iterator[str]:
    match form:
        case "json":
            yield from (json.dumps(row) + "\n" for row in rows)
        case "csv":
            buffer = io.StringIO()
            writer = csv.DictWriter(buffer, list(rows[0]) if rows else list(by))
            writer.writeheader()
            writer.writerows(rows)
            yield buffer.getvalue()
        case "table":
            columns = ("requests", "failed", "cache_hits", "tokens", "cost", "unpriced", "saved_cost")
            yield _table(rows, (*by, *columns))


def _table(rows: Sequence[dict[str, Any]], columns: Sequence[str]) -> str:
    table = Table(*columns)
    for row in rows:
        table.add_row(*("" if row[name] is None else str(row[name]) for name in columns))
    buffer = io.StringIO()
    Console(file=buffer, width=160).print(table)
    return buffer.getvalue()
