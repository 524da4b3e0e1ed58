"""The usage ledger: one row a settled exchange, added once, whatever was killed in between.

`Ledger` is the table; `Ingest` brings the journals of the workers into it (store/journal.py). Both wait for the
database, so whoever serves requests calls them from a thread.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias, get_args

import msgspec
from sqlalchemy import ColumnElement, Engine, and_, case, delete, func, select, true
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, SQLAlchemyError, StatementError

from . import journal
from .journal import LedgerRow, dollars, encode_row
from .quarantine import Quarantine
from .tables import usage

Dimension: TypeAlias = Literal[
    "tenant",
    "team",
    "user",
    "key",
    "model",
    "upstream_model",
    "response_model",
    "provider",
    "day",
    "operation",
    "outcome",
]
DIMENSIONS: tuple[Dimension, ...] = get_args(Dimension)

# SQLite sums integers in 64 bits and fails beyond. Two halves of a 64-bit number cannot get there before 2^31 rows.
_HALF = 1 << 31
_TOKENS = ("input", "cache_read", "cache_write", "cache_write_1h", "output", "reasoning", "input_audio", "output_audio")
_PAGE = 1000
_LONGEST_REASON = 200


@dataclass(frozen=True, slots=True)
class UsageFilter:
    """Which rows; None is any. Days are UTC, as 2026-01-31, both included."""

    tenant: str | None = None
    team: str | None = None
    user: str | None = None
    key: str | None = None
    model: str | None = None
    response_model: str | None = None
    provider: str | None = None
    first_day: str | None = None
    last_day: str | None = None


@dataclass(frozen=True, slots=True)
class UsageTotal:
    by: dict[str, str | None]
    """What these rows have in common."""
    requests: int
    failed: int
    """Of them, those whose outcome was not ok."""
    cache_hits: int
    tokens: dict[str, int]
    """By bucket (model/usage.py)."""
    cost: Decimal
    """US dollars."""
    unpriced: int
    """Requests whose price is not known: their cost is not in `cost`."""
    saved_tokens: int
    saved_cost: Decimal


class AddResult(NamedTuple):
    new: int
    """How many rows were not there before."""
    refused: tuple[tuple[LedgerRow, str], ...]
    """Rows that the database does not take, and why."""


# Raised before the database is asked: a number over 64 bits, a time that no calendar has, text that is no Unicode.
_OF_PYTHON = (OverflowError, ValueError, TypeError)
# SQLSTATE classes that speak of values: data exception, integrity violation, a limit of the program exceeded.
_OF_VALUES = ("22", "23", "54")


def _blames_row(error: Exception) -> bool:
    """Whether the row is at fault, and not the database or the way to it."""
    if not isinstance(error, DBAPIError):
        # What SQLAlchemy raises itself around a value that it cannot send is a StatementError.
        return isinstance(error, (*_OF_PYTHON, StatementError))
    state = getattr(error.orig, "sqlstate", None)
    return state[:2] in _OF_VALUES if state else isinstance(error, (DataError, IntegrityError))


def _reason(error: Exception) -> str:
    """Without the statement and its values, which SQLAlchemy adds to its own text."""
    cause = error.orig if isinstance(error, StatementError) and error.orig is not None else error
    return f"{type(cause).__name__}: {str(cause).strip().partition(chr(10))[0][:_LONGEST_REASON]}"


class Ledger:
    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._insert: Any = postgresql.insert if engine.dialect.name == "postgresql" else sqlite.insert

    def close(self) -> None:
        self._engine.dispose()

    def add(self, rows: Sequence[LedgerRow]) -> int:
        """In one transaction. How many were new; an exchange that is there already stays as it is."""
        if not rows:
            return 0
        statement = self._insert(usage).on_conflict_do_nothing(index_elements=["exchange"]).returning(usage.c.exchange)
        with self._engine.begin() as connection:
            values = [{**msgspec.structs.asdict(row), "day": _day(row)} for row in rows]
            return len(connection.execute(statement, values).all())

    def add_valid(self, rows: Sequence[LedgerRow]) -> AddResult:
        """As `add`, but a row that the database refuses for what it holds does not keep the others out: the rows are
        halved until it stands alone. Raises SQLAlchemyError where the database itself is at fault."""
        try:
            return AddResult(self.add(rows), ())
        except (SQLAlchemyError, *_OF_PYTHON) as error:
            if not _blames_row(error):
                raise
            if len(rows) == 1:
                return AddResult(0, ((rows[0], _reason(error)),))
        half = len(rows) // 2
        first, second = self.add_valid(rows[:half]), self.add_valid(rows[half:])
        return AddResult(first.new + second.new, first.refused + second.refused)

    def totals(self, by: Sequence[Dimension], where: UsageFilter) -> list[UsageTotal]:
        """Sums over the rows that fit, one a combination of `by`, in the order of its values. Raises ValueError for
        a dimension that there is not."""
        for name in by:
            if name not in DIMENSIONS:
                raise ValueError(f"no dimension {name!r}; have {', '.join(DIMENSIONS)}")
        groups = [usage.c[name] for name in by]
        sums = [
            func.count().label("requests"),
            func.sum(_one_if(usage.c.outcome != "ok")).label("failed"),
            func.sum(_one_if(usage.c.cache == "hit")).label("cache_hits"),
            func.sum(_one_if(usage.c.unpriced)).label("unpriced"),
            *(half for name in (*_TOKENS, "saved_tokens", "cost", "saved_cost") for half in _halves(name)),
        ]
        statement = select(*groups, *sums).where(_fits(where)).group_by(*groups).order_by(*groups)
        with self._engine.connect() as connection:
            found = connection.execute(statement).mappings().all()
        # Without a dimension, SQL sums nothing into one row of nulls.
        return [_total(row, by) for row in found if row["requests"]]

    def rows(self, where: UsageFilter) -> Iterator[dict[str, Any]]:
        """The rows that fit, oldest first, a page at a time; money as text, in US dollars."""
        after: tuple[int, str] = (-1, "")
        while True:
            start, exchange = after
            later = (usage.c.started_ms > start) | ((usage.c.started_ms == start) & (usage.c.exchange > exchange))
            statement = (
                select(usage).where(_fits(where), later).order_by(usage.c.started_ms, usage.c.exchange).limit(_PAGE)
            )
            with self._engine.connect() as connection:
                page = connection.execute(statement).mappings().all()
            for row in page:
                yield _told(row)
            if len(page) < _PAGE:
                return
            after = (page[-1]["started_ms"], page[-1]["exchange"])

    def delete_before(self, day: str) -> int:
        """Deletes what is older. How many rows went."""
        with self._engine.begin() as connection:
            return connection.execute(delete(usage).where(usage.c.day < day)).rowcount


class Ingest:
    """Brings journals into the ledger. One for a directory: two would do each other's work twice, to no harm."""

    def __init__(self, directory: Path, ledger: Ledger, quarantine: Quarantine) -> None:
        self._directory = directory
        self._ledger = ledger
        self._read_to: dict[Path, int] = {}
        self.quarantine = quarantine
        """Has the lines that are no rows, and the rows that the database refuses."""
        self.refused = 0
        """How many were put there since the start."""

    def run(self) -> int:
        """All that lies there now; how many rows were new. Raises SQLAlchemyError where the database is out of reach,
        and OSError where a segment cannot be read, after the others: the journals keep what is not committed."""
        new = 0
        failed: OSError | None = None
        for path in journal.segments(self._directory):
            try:
                new += self._ingest_segment(path)
            except OSError as error:
                failed = failed or error
        if failed is not None:
            raise failed
        return new

    def _ingest_segment(self, path: Path) -> int:
        new = 0
        while True:
            start = self._read_to.get(path, 0)
            portion = journal.read(path, start)
            added = self._ledger.add_valid(portion.rows)
            new += added.new
            for line, reason in portion.unreadable:
                self.refused += self.quarantine.put(line, reason)
            for row, reason in added.refused:
                self.refused += self.quarantine.put(encode_row(row), reason, row.tenant)
            self._read_to[path] = portion.end
            if portion.is_last:
                path.unlink()
                del self._read_to[path]
                return new
            if portion.end == start:
                return new


def as_json_lines(rows: Iterator[dict[str, Any]]) -> Iterator[str]:
    return (json.dumps(row, separators=(",", ":")) + "\n" for row in rows)


def as_csv(rows: Iterator[dict[str, Any]]) -> Iterator[str]:
    """With a header line. A text that a spreadsheet would take for a formula gets an apostrophe before it."""
    names = [column.name for column in usage.columns]
    buffer = io.StringIO()
    writer = csv.writer(buffer)
    writer.writerow(names)
    for row in rows:
        writer.writerow([_harmless(row[name]) for name in names])
        yield buffer.getvalue()
        buffer.seek(0)
        buffer.truncate()
    yield buffer.getvalue()


def _harmless(value: object) -> object:
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r") else value


def _day(row: LedgerRow) -> str:
    return datetime.fromtimestamp(row.started_ms / 1000, UTC).date().isoformat()


def _one_if(condition: ColumnElement[bool]) -> ColumnElement[int]:
    return case((condition, 1), else_=0)


def _halves(name: str) -> tuple[ColumnElement[Any], ColumnElement[Any]]:
    column = usage.c[name]
    # SQLAlchemy's own / makes fractions of integers; SQL's does not.
    return func.sum(column.op("/")(_HALF)).label(f"{name}_high"), func.sum(column % _HALF).label(f"{name}_low")


def _fits(where: UsageFilter) -> ColumnElement[bool]:
    conditions = [
        usage.c[name] == value
        for name in ("tenant", "team", "user", "key", "model", "response_model", "provider")
        if (value := getattr(where, name)) is not None
    ]
    if where.first_day is not None:
        conditions.append(usage.c.day >= where.first_day)
    if where.last_day is not None:
        conditions.append(usage.c.day <= where.last_day)
    return and_(true(), *conditions)


def _total(row: Any, by: Sequence[str]) -> UsageTotal:
    return UsageTotal(
        by={name: row[name] for name in by},
        requests=int(row["requests"]),
        failed=int(row["failed"]),
        cache_hits=int(row["cache_hits"]),
        tokens={name: _sum(row, name) for name in _TOKENS},
        cost=dollars(_sum(row, "cost")),
        unpriced=int(row["unpriced"]),
        saved_tokens=_sum(row, "saved_tokens"),
        saved_cost=dollars(_sum(row, "saved_cost")),
    )


def _sum(row: Any, name: str) -> int:
    return int(row[f"{name}_high"] or 0) * _HALF + int(row[f"{name}_low"] or 0)


def _told(row: Any) -> dict[str, Any]:
    told = dict(row)
    for name in ("cost", "saved_cost"):
        told[name] = None if told[name] is None else format(dollars(told[name]).normalize(), "f")
    return told
