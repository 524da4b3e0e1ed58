"""The usage ledger: a database table with exactly one row for each settled exchange.

`Ledger` is the table. `Ingest` moves the workers' journals (store/journal.py) into it. Both wait for the database, so
asynchronous code calls them in a thread.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from itertools import compress
from operator import attrgetter
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import Connection, Engine, case, delete, func, select
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, SQLAlchemyError, StatementError

from ..model.explanation import Explanation
from . import journal, usage_reports
from .bulk import changing, insert_many, present
from .journal import LedgerRow, dollars, encode_row
from .quarantine import Quarantine
from .tables import explanations, usage, usage_sums
from .upkeep import Upkeep
from .usage_index import search
from .usage_query import DIMENSIONS as DIMENSIONS
from .usage_query import TOKENS as TOKENS
from .usage_query import Dimension as Dimension
from .usage_query import UsageFilter as UsageFilter
from .usage_query import UsageRanking as UsageRanking
from .usage_query import UsageTotal as UsageTotal
from .usage_query import fits, one_if, started
from .usage_sums import PARTS, add_to_sums, can_be_summed

_PROMPT = ("input", "cache_read", "cache_write", "cache_write_1h", "input_audio", "input_image")
_COMPLETION = ("output", "reasoning", "output_audio", "output_image")
_PAGE = 1000
_MICRO = 1_000_000
"""Pico-dollars of a micro-dollar."""
# Ways in which requests failed at providers.
_OF_PROVIDERS = ("refused", "upstream_error", "broken_stream")
_MOST_KINDS = 200
_MAX_REASON = 200
# The columns of a row, as reports of single requests show them.
_SHOWN = tuple(column for column in usage.columns if column.name not in ("summed", "held"))
_WRITTEN = tuple(column.name for column in usage.columns if column.name not in ("summed", "day"))
_written_values = attrgetter(*_WRITTEN)
_summed_values = attrgetter(*PARTS[1:])


class LedgerPosition(NamedTuple):
    """The place of a row among all rows, by time."""

    started_ms: int
    exchange: str


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
        self.engine = self._engine = engine
        self._upkeep = Upkeep(engine)

    def close(self) -> None:
        self._engine.dispose()

    def add(self, rows: Sequence[LedgerRow]) -> int:
        """Adds rows and their sums in one transaction, and returns how many were new. An exchange that is already there
        stays as it is. Raises SQLAlchemyError, and ValueError or similar for values that cannot be sent."""
        if not rows:
            return 0
        by_exchange: dict[str, LedgerRow] = {}
        for row in rows:
            by_exchange.setdefault(row.exchange, row)
        with changing(self._engine) as connection:
            new = self._add(connection, list(by_exchange.values()))
            explained = [(row.exchange, row.started_ms, row.explanation) for row in new if row.explanation is not None]
            if explained:
                names = ("exchange", "started_ms", "explanation")
                insert_many(connection, explanations, names, explained, "ON CONFLICT (exchange) DO NOTHING")
            return len(new)

    def _add(self, connection: Connection, rows: Sequence[LedgerRow]) -> Sequence[LedgerRow]:
        """Returns the new ones. No two rows are of one exchange."""
        is_sqlite = connection.dialect.name == "sqlite"
        if is_sqlite:
            known = present(connection, usage.c.exchange, [row.exchange for row in rows])
            rows = [row for row in rows if row.exchange not in known]
            if not rows:
                return []
        parts = [(_day(row), *_summed_values(row)) for row in rows]
        are_summed = list(map(can_be_summed, parts))
        values = [
            (*_written_values(row), part[0], is_summed)
            for row, part, is_summed in zip(rows, parts, are_summed, strict=True)
        ]
        conflict = "" if is_sqlite else "ON CONFLICT (exchange) DO NOTHING RETURNING exchange"
        new = insert_many(connection, usage, (*_WRITTEN, "day", "summed"), values, conflict)
        if not is_sqlite and len(new) < len(rows):
            added = {exchange for (exchange,) in new}
            kept = [row.exchange in added for row in rows]
            rows, parts = list(compress(rows, kept)), list(compress(parts, kept))
            are_summed = list(compress(are_summed, kept))
        add_to_sums(connection, compress(parts, are_summed))
        return rows

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
        return usage_reports.totals(self._engine, by, where)

    def ranking(self, by: Dimension, where: UsageFilter, most: int) -> UsageRanking:
        """The `most` dearest groups; or the last days. With the sums of all groups."""
        return usage_reports.ranking(self._engine, by, where, most)

    def guardrail_counts(self, where: UsageFilter) -> list[GuardrailCount]:
        """How often each rule found something in the selected rows, in the order of the rules' names."""
        statement = (
            select(usage.c.guardrails, func.count().label("calls"))
            .where(fits(where), usage.c.guardrails.is_not(None))
            .group_by(usage.c.guardrails)
        )
        totals: dict[tuple[str, ...], tuple[int, int]] = {}
        with self._engine.connect() as connection:
            for text, calls in connection.execute(statement):
                for hit in json.loads(text):
                    key = tuple(hit[name] for name in GUARDRAIL_FIELDS)
                    before = totals.get(key, (0, 0))
                    totals[key] = (before[0] + calls, before[1] + calls * hit["count"])
        return [
            GuardrailCount(rule, label, action, mode, direction, calls, findings)
            for (rule, label, action, mode, direction), (calls, findings) in sorted(totals.items())
        ]

    def guardrail_days(self, where: UsageFilter) -> list[GuardrailDay]:
        """How often each rule found something on each UTC day of the selected rows, in the order of the days."""
        statement = (
            select(usage.c.day, usage.c.guardrails, func.count().label("calls"))
            .where(fits(where), usage.c.guardrails.is_not(None))
            .group_by(usage.c.day, usage.c.guardrails)
        )
        totals: dict[tuple[str, str, str, str], tuple[int, int]] = {}
        with self._engine.connect() as connection:
            for day, text, calls in connection.execute(statement):
                # A rule with several labels counts a call once.
                counts: dict[tuple[str, str, str, str], int] = {}
                for hit in json.loads(text):
                    key = (day, hit["rule"], hit["action"], hit["mode"])
                    counts[key] = counts.get(key, 0) + hit["count"]
                for of, findings in counts.items():
                    before = totals.get(of, (0, 0))
                    totals[of] = (before[0] + calls, before[1] + calls * findings)
        return [GuardrailDay(*key, *counts) for key, counts in sorted(totals.items())]

    def provider_errors(self, since_ms: int) -> list[ProviderErrors]:
        """The failed requests since a Unix time in milliseconds that have reached a provider, the most frequent kind
        first."""
        kinds = [usage.c[name] for name in ("provider", "outcome", "status", "code")]
        count = func.count().label("requests")
        statement = (
            select(*kinds, count)
            .where(usage.c.started_ms >= since_ms, usage.c.provider.is_not(None), usage.c.outcome.in_(_OF_PROVIDERS))
            .group_by(*kinds)
            .order_by(count.desc(), *kinds)
            .limit(_MOST_KINDS)
        )
        with self._engine.connect() as connection:
            return [ProviderErrors._make(row) for row in connection.execute(statement)]

    def spent(self, start_ms: int, end_ms: int) -> list[CallerSpend]:
        """What each caller has spent with requests that began from `start_ms` until before `end_ms`, Unix time in
        milliseconds."""
        callers = [usage.c[name] for name in ("tenant", "team", "user", "key")]
        counted = func.coalesce(usage.c.held, usage.c.cost, 0)
        # Rounded up for each request, as budgets count it. Negative amounts are whole micro-dollars.
        micro = case((counted > 0, (counted + _MICRO - 1) // _MICRO), else_=counted // _MICRO)
        is_assumed = usage.c.unpriced & usage.c.held.is_(None)
        unpriced = [
            func.sum(case((is_assumed, sum((usage.c[name] for name in names[1:]), usage.c[names[0]])), else_=0))
            for names in (_PROMPT, _COMPLETION)
        ]
        statement = (
            select(*callers, func.sum(micro), *unpriced, func.sum(one_if(is_assumed)))
            .where(usage.c.started_ms >= start_ms, usage.c.started_ms < end_ms)
            .group_by(*callers)
        )
        with self._engine.connect() as connection:
            return [CallerSpend(*row[:4], *map(int, row[4:])) for row in connection.execute(statement)]

    def rows(self, where: UsageFilter) -> Iterator[dict[str, Any]]:
        """The selected rows, oldest first, read page by page. Money is text, in US dollars."""
        after: tuple[int, str] = (-1, "")
        while True:
            start, exchange = after
            later = (usage.c.started_ms > start) | (usage.c.exchange > exchange)
            with self._engine.connect() as connection:
                # The first of the other conditions selects a part of the index.
                statement = select(*_SHOWN).where(search(connection, where), started(where) >= start, later)
                statement = statement.order_by(started(where), usage.c.exchange).limit(_PAGE)
                page = connection.execute(statement).mappings().all()
            for row in page:
                yield _as_json_row(row)
            if len(page) < _PAGE:
                return
            after = (page[-1]["started_ms"], page[-1]["exchange"])

    def newest(self, where: UsageFilter, before: LedgerPosition | None, most: int) -> list[dict[str, Any]]:
        """The newest `most` of the selected rows, newest first. `before`: only rows older than this place. Money is
        text, in US dollars."""
        with self._engine.connect() as connection:
            statement = select(*_SHOWN).where(search(connection, where))
            if before is not None:
                older = (usage.c.started_ms < before.started_ms) | (usage.c.exchange < before.exchange)
                # The first condition selects a part of the index.
                statement = statement.where(started(where) <= before.started_ms, older)
            statement = statement.order_by(started(where).desc(), usage.c.exchange.desc()).limit(most)
            return [_as_json_row(row) for row in connection.execute(statement).mappings()]

    def explanations(self, exchanges: Sequence[str]) -> dict[str, Explanation]:
        """Why some requests went as they did."""
        statement = select(explanations.c.exchange, explanations.c.explanation)
        with self._engine.connect() as connection:
            rows = connection.execute(statement.where(explanations.c.exchange.in_(exchanges))).all()
        read = ((exchange, _explanation_in(text)) for exchange, text in rows)
        return {exchange: found for exchange, found in read if found is not None}

    def since(self, start_ms: int, most: int) -> list[dict[str, Any]]:
        """The newest `most` rows since a Unix time in milliseconds, oldest first. Money is text, in US dollars."""
        statement = (
            select(*_SHOWN)
            .where(usage.c.started_ms >= start_ms)
            .order_by(usage.c.started_ms.desc(), usage.c.exchange.desc())
            .limit(most)
        )
        with self._engine.connect() as connection:
            rows = [_as_json_row(row) for row in connection.execute(statement).mappings()]
        return rows[::-1]

    def row(self, exchange: str) -> dict[str, Any] | None:
        """One row, as `newest` returns it."""
        with self._engine.connect() as connection:
            row = connection.execute(select(*_SHOWN).where(usage.c.exchange == exchange)).mappings().first()
        return None if row is None else _as_json_row(row)

    def explanation(self, exchange: str) -> Explanation | None:
        """Why a request went as it did. None: it is not known."""
        return self.explanations([exchange]).get(exchange)

    def delete_explanations_before(self, milliseconds: int) -> int:
        """Deletes the explanations of requests that began before a Unix time, and returns their number."""
        with self._engine.begin() as connection:
            return connection.execute(delete(explanations).where(explanations.c.started_ms < milliseconds)).rowcount

    def keep_up(self) -> bool:
        """One step of what is made beside the work (upkeep.py). Returns whether there may be more to do."""
        return self._upkeep.step()

    def delete_before(self, day: str) -> int:
        """Deletes the rows before a UTC day (2026-01-31), and returns their number."""
        with self._engine.begin() as connection:
            connection.execute(delete(usage_sums).where(usage_sums.c.day < day))
            return connection.execute(delete(usage).where(usage.c.day < day)).rowcount


GUARDRAIL_FIELDS = ("rule", "label", "action", "mode", "direction")


class GuardrailCount(NamedTuple):
    """What one rule found."""

    rule: str
    label: str
    action: str
    mode: str
    direction: str
    calls: int
    findings: int


class GuardrailDay(NamedTuple):
    """What one rule found on one UTC day."""

    day: str
    rule: str
    action: str
    mode: str
    calls: int
    findings: int


class ProviderErrors(NamedTuple):
    """How many requests have failed in one way. The provider is that of the last attempt."""

    provider: str
    outcome: str
    status: int | None
    code: str | None
    requests: int


class CallerSpend(NamedTuple):
    """What one caller has spent."""

    tenant: str
    team: str | None
    user: str | None
    key: str | None
    micro_dollars: int
    """What budgets have counted."""
    unpriced_prompt: int
    unpriced_completion: int
    """Tokens of models without a price, which budgets count with an assumed one."""
    unpriced_requests: int
    """The requests with these tokens."""


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


def as_row(total: UsageTotal) -> dict[str, Any]:
    """The sums as one flat row. Money is text, in US dollars."""
    return {
        **total.by,
        "requests": total.requests,
        "failed": total.failed,
        "cache_hits": total.cache_hits,
        "tokens": sum(total.tokens.values()),
        **{f"tokens_{name}": count for name, count in total.tokens.items()},
        "cost": format(total.cost.normalize(), "f"),
        "unpriced": total.unpriced,
        "saved_tokens": total.saved_tokens,
        "saved_cost": format(total.saved_cost.normalize(), "f"),
        "searches": total.searches,
        "search_cost": format(total.search_cost.normalize(), "f"),
    }


def as_json_lines(rows: Iterator[dict[str, Any]]) -> Iterator[str]:
    return (json.dumps(row, separators=(",", ":")) + "\n" for row in rows)


def as_csv(rows: Iterator[dict[str, Any]]) -> Iterator[str]:
    """CSV with a header line. A text that a spreadsheet would run as a formula gets an apostrophe before it."""
    names = [column.name for column in _SHOWN]
    buffer = io.StringIO()
    writer = csv.writer(buffer)
    writer.writerow(names)
    for row in rows:
        writer.writerow([without_formula(row[name]) for name in names])
        yield buffer.getvalue()
        buffer.seek(0)
        buffer.truncate()
    yield buffer.getvalue()


def without_formula(value: object) -> object:
    """A cell of a CSV file. A text that a spreadsheet would run as a formula gets an apostrophe before it."""
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r") else value


_read_explanation = msgspec.json.Decoder(Explanation).decode


def _explanation_in(text: str) -> Explanation | None:
    try:
        return _read_explanation(text)
    except msgspec.DecodeError:  # of a later version
        return None


def _day(row: LedgerRow) -> str:
    return datetime.fromtimestamp(row.started_ms / 1000, UTC).date().isoformat()


def _as_json_row(row: Any) -> dict[str, Any]:
    fields = dict(row)
    for name in ("cost", "saved_cost", "search_cost"):
        fields[name] = None if fields[name] is None else format(dollars(fields[name]).normalize(), "f")
    return fields
