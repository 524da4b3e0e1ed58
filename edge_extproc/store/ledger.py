"""The usage ledger: a database table with exactly one row for each settled exchange.

`Ledger` is the table. `Ingest` moves the workers' journals (store/journal.py) into it. Both wait for the database, so
asynchronous code calls them in a thread.
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

from ..model.settlement import BATCH
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

# SQLite's sum fails beyond 64 bits. So the two halves of each number are summed: they stay below it up to 2^31 rows.
_HALF = 1 << 31
_TOKENS = ("input", "cache_read", "cache_write", "cache_write_1h", "output", "reasoning", "input_audio", "output_audio")
_PROMPT = ("input", "cache_read", "cache_write", "cache_write_1h", "input_audio")
_COMPLETION = ("output", "reasoning", "output_audio")
_PAGE = 1000
_MAX_REASON = 200


@dataclass(frozen=True, slots=True)
class UsageFilter:
    """Selects rows. None: any value. Days are UTC dates such as 2026-01-31, and both are included."""

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
    """The sums of a group of rows."""

    by: dict[str, str | None]
    """The values of the dimensions of this group."""
    requests: int
    failed: int
    """Requests whose outcome is not ok."""
    cache_hits: int
    tokens: dict[str, int]
    """By kind of token (model/usage.py)."""
    cost: Decimal
    """US dollars."""
    unpriced: int
    """Requests without a known price. They are not in `cost`."""
    saved_tokens: int
    saved_cost: Decimal


class AddResult(NamedTuple):
    new: int
    """The number of rows that were not in the ledger before."""
    refused: tuple[tuple[LedgerRow, str], ...]
    """The rows that the database refused, each with the reason."""


# Raised before a statement is sent: for a number over 64 bits, an impossible date, or text that is not valid Unicode.
_PYTHON_VALUE_ERRORS = (OverflowError, ValueError, TypeError)
# SQLSTATE classes of bad values: data exception, integrity violation, program limit exceeded.
_VALUE_SQLSTATES = ("22", "23", "54")


def _is_row_at_fault(error: Exception) -> bool:
    """Whether the row caused the error, and not the database or the connection."""
    if not isinstance(error, DBAPIError):
        # SQLAlchemy raises a StatementError for a value that it cannot send.
        return isinstance(error, (*_PYTHON_VALUE_ERRORS, StatementError))
    state = getattr(error.orig, "sqlstate", None)
    return state[:2] in _VALUE_SQLSTATES if state else isinstance(error, (DataError, IntegrityError))


def _reason(error: Exception) -> str:
    """The error's text without the statement and its values, which SQLAlchemy adds."""
    cause = error.orig if isinstance(error, StatementError) and error.orig is not None else error
    return f"{type(cause).__name__}: {str(cause).strip().partition(chr(10))[0][:_MAX_REASON]}"


class Ledger:
    """The table of settled exchanges."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._insert: Any = postgresql.insert if engine.dialect.name == "postgresql" else sqlite.insert

    def close(self) -> None:
        self._engine.dispose()

    def add(self, rows: Sequence[LedgerRow]) -> int:
        """Adds rows in one transaction, and returns how many were new. An exchange that is already there stays as
        it is. Raises SQLAlchemyError, and ValueError or similar for values that cannot be sent."""
        if not rows:
            return 0
        statement = self._insert(usage).on_conflict_do_nothing(index_elements=["exchange"]).returning(usage.c.exchange)
        with self._engine.begin() as connection:
            values = [{**msgspec.structs.asdict(row), "day": _day(row)} for row in rows]
            return len(connection.execute(statement, values).all())

    def add_valid(self, rows: Sequence[LedgerRow]) -> AddResult:
        """Adds all rows that the database accepts. If it refuses a value, the rows are halved until the bad row is
        found. Raises SQLAlchemyError if the database itself is at fault."""
        try:
            return AddResult(self.add(rows), ())
        except (SQLAlchemyError, *_PYTHON_VALUE_ERRORS) as error:
            if not _is_row_at_fault(error):
                raise
            if len(rows) == 1:
                return AddResult(0, ((rows[0], _reason(error)),))
        half = len(rows) // 2
        first, second = self.add_valid(rows[:half]), self.add_valid(rows[half:])
        return AddResult(first.new + second.new, first.refused + second.refused)

    def totals(self, by: Sequence[Dimension], where: UsageFilter) -> list[UsageTotal]:
        """The sums of the selected rows, one for each combination of values of `by`, in their order. Raises ValueError
        for an unknown dimension."""
        for name in by:
            if name not in DIMENSIONS:
                raise ValueError(f"no dimension {name!r}; have {', '.join(DIMENSIONS)}")
        groups = [usage.c[name] for name in by]
        sums = [
            func.count().label("rows"),
            func.sum(_one_if(usage.c.operation.is_distinct_from(BATCH))).label("requests"),
            func.sum(_one_if(usage.c.outcome != "ok")).label("failed"),
            func.sum(_one_if(usage.c.cache == "hit")).label("cache_hits"),
            func.sum(_one_if(usage.c.unpriced)).label("unpriced"),
            *(half for name in (*_TOKENS, "saved_tokens", "cost", "saved_cost") for half in _halves(name)),
        ]
        statement = select(*groups, *sums).where(_fits(where)).group_by(*groups).order_by(*groups)
        with self._engine.connect() as connection:
            rows = connection.execute(statement).mappings().all()
        # Without a dimension, SQL returns one row of nulls for no rows.
        return [_total(row, by) for row in rows if row["rows"]]

    def spent(self, start_ms: int, end_ms: int) -> list[CallerSpend]:
        """What each caller has spent with requests that began from `start_ms` until before `end_ms`, Unix time in
        milliseconds."""
        callers = [usage.c[name] for name in ("tenant", "team", "user", "key")]
        unpriced = [
            func.sum(
                case((usage.c.unpriced, sum((usage.c[name] for name in names[1:]), usage.c[names[0]])), else_=0)
            ).label(label)
            for label, names in (("unpriced_prompt", _PROMPT), ("unpriced_completion", _COMPLETION))
        ]
        statement = (
            select(*callers, *_halves("cost"), *unpriced)
            .where(usage.c.started_ms >= start_ms, usage.c.started_ms < end_ms)
            .group_by(*callers)
        )
        with self._engine.connect() as connection:
            rows = connection.execute(statement).mappings().all()
        return [
            CallerSpend(
                row["tenant"],
                row["team"],
                row["user"],
                row["key"],
                dollars(_sum(row, "cost")),
                int(row["unpriced_prompt"]),
                int(row["unpriced_completion"]),
            )
            for row in rows
        ]

    def rows(self, where: UsageFilter) -> Iterator[dict[str, Any]]:
        """The selected rows, oldest first, read page by page. Money is text, in US dollars."""
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
                yield _as_json_row(row)
            if len(page) < _PAGE:
                return
            after = (page[-1]["started_ms"], page[-1]["exchange"])

    def delete_before(self, day: str) -> int:
        """Deletes the rows before a UTC day (2026-01-31), and returns their number."""
        with self._engine.begin() as connection:
            return connection.execute(delete(usage).where(usage.c.day < day)).rowcount


class CallerSpend(NamedTuple):
    """What one caller has spent."""

    tenant: str
    team: str | None
    user: str | None
    key: str | None
    cost: Decimal
    """US dollars."""
    unpriced_prompt: int
    unpriced_completion: int
    """Tokens of models without a price."""


class Ingest:
    """Moves journals into the ledger. One for each directory: two would do the same work twice, but no harm."""

    def __init__(self, directory: Path, ledger: Ledger, quarantine: Quarantine) -> None:
        self._directory = directory
        self._ledger = ledger
        self._read_to: dict[Path, int] = {}
        self.quarantine = quarantine
        """Gets the lines that are not valid rows, and the rows that the database refuses."""
        self.refused = 0
        """The number of rows put into quarantine since the start."""

    def run(self) -> int:
        """Ingests all segments, and returns the number of new rows. Raises SQLAlchemyError if the database cannot be
        reached; and, after the other segments, OSError if a segment cannot be read. Rows that are not committed stay in
        the journals."""
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
    """CSV with a header line. A text that a spreadsheet would run as a formula gets an apostrophe before it."""
    names = [column.name for column in usage.columns]
    buffer = io.StringIO()
    writer = csv.writer(buffer)
    writer.writerow(names)
    for row in rows:
        writer.writerow([_without_formula(row[name]) for name in names])
        yield buffer.getvalue()
        buffer.seek(0)
        buffer.truncate()
    yield buffer.getvalue()


def _without_formula(value: object) -> object:
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r") else value


def _day(row: LedgerRow) -> str:
    return datetime.fromtimestamp(row.started_ms / 1000, UTC).date().isoformat()


def _one_if(condition: ColumnElement[bool]) -> ColumnElement[int]:
    return case((condition, 1), else_=0)


def _halves(name: str) -> tuple[ColumnElement[Any], ColumnElement[Any]]:
    column = usage.c[name]
    # SQLAlchemy's / is a true division; SQL's is an integer division.
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


def _as_json_row(row: Any) -> dict[str, Any]:
    fields = dict(row)
    for name in ("cost", "saved_cost"):
        fields[name] = None if fields[name] is None else format(dollars(fields[name]).normalize(), "f")
    return fields
