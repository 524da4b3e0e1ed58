"""What a report of the ledger is asked for, what it answers, and how the rows are summed that it needs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Literal, TypeAlias, get_args

from sqlalchemy import (
    ColumnElement,
    Connection,
    FromClause,
    and_,
    case,
    func,
    literal_column,
    select,
    true,
)

from ..model.settlement import BOOKED, HITS
from .journal import dollars
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
    "run",
    "run_parent",
    "session",
]
DIMENSIONS: tuple[Dimension, ...] = get_args(Dimension)

# SQLite's sum fails beyond 64 bits. So the two halves of each number are summed: they stay below it up to 2^31 rows.
HALF = 1 << 31
TOKENS = (
    "input",
    "cache_read",
    "cache_write",
    "cache_write_1h",
    "output",
    "reasoning",
    "input_audio",
    "output_audio",
    "input_image",
    "output_image",
)
MONEY = ("cost", "saved_cost", "search_cost")
AMOUNTS = (*TOKENS, "saved_tokens", "searches", *MONEY)
COMPARED = (
    *("tenant", "team", "user", "key", "model", "response_model", "provider"),
    *("outcome", "status", "cache", "session"),
)
_DAY_MS = 24 * 3600 * 1000


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
    run: str | None = None
    """With the runs that are a part of it."""
    session: str | None = None
    outcome: str | None = None
    status: int | None = None
    cache: str | None = None
    first_day: str | None = None
    last_day: str | None = None

    @property
    def given(self) -> frozenset[str]:
        """The names of the columns with a value, besides the days."""
        return frozenset(name for name in (*COMPARED, "run") if getattr(self, name) is not None)


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
    searches: int
    """Web searches of the providers."""
    search_cost: Decimal
    """The part of `cost` for them."""


@dataclass(frozen=True, slots=True)
class UsageRanking:
    """The groups of a report by one dimension."""

    top: list[UsageTotal]
    """The dearest first; or the last days, in their order."""
    groups: int
    """The number of all groups."""
    total: UsageTotal
    """The sums of all groups."""


def summed_rows(connection: Connection, by: Sequence[Dimension], where: ColumnElement[bool]) -> list[UsageTotal]:
    """The sums of the selected rows of the ledger, one for each combination of values of `by`."""
    groups = [usage.c[name] for name in by]
    sums = [
        func.count().label("rows"),
        func.sum(one_if(func.coalesce(usage.c.operation, "").not_in(BOOKED))).label("requests"),
        func.sum(one_if(usage.c.outcome != "ok")).label("failed"),
        func.sum(one_if(usage.c.cache.in_(HITS))).label("cache_hits"),
        func.sum(one_if(usage.c.unpriced)).label("unpriced"),
        *(half for name in AMOUNTS for half in halves(name)),
    ]
    rows = connection.execute(select(*groups, *sums).where(where).group_by(*groups)).mappings()
    # Without a dimension, SQL returns one row of nulls for no rows.
    return [total_of(row, by, {name: half_sum(row, name) for name in AMOUNTS}) for row in rows if row["rows"]]


def total_of(row: Any, by: Sequence[str], amounts: dict[str, int]) -> UsageTotal:
    """`row`: the values of `by`, and the counts. Money of `amounts` is in pico-dollars."""
    return UsageTotal(
        by={name: row[name] for name in by},
        requests=int(row["requests"]),
        failed=int(row["failed"]),
        cache_hits=int(row["cache_hits"]),
        tokens={name: amounts[name] for name in TOKENS},
        cost=dollars(amounts["cost"]),
        unpriced=int(row["unpriced"]),
        saved_tokens=amounts["saved_tokens"],
        saved_cost=dollars(amounts["saved_cost"]),
        searches=amounts["searches"],
        search_cost=dollars(amounts["search_cost"]),
    )


def added(totals: Iterable[UsageTotal], by: Sequence[str]) -> UsageTotal:
    """The sum of some totals, of which all have the same values of `by`."""
    each = list(totals)
    return UsageTotal(
        by={name: each[0].by[name] for name in by},
        requests=sum(one.requests for one in each),
        failed=sum(one.failed for one in each),
        cache_hits=sum(one.cache_hits for one in each),
        tokens={name: sum(one.tokens[name] for one in each) for name in TOKENS},
        cost=sum((one.cost for one in each), Decimal()),
        unpriced=sum(one.unpriced for one in each),
        saved_tokens=sum(one.saved_tokens for one in each),
        saved_cost=sum((one.saved_cost for one in each), Decimal()),
        searches=sum(one.searches for one in each),
        search_cost=sum((one.search_cost for one in each), Decimal()),
    )


def merged(totals: Iterable[UsageTotal], by: Sequence[str]) -> list[UsageTotal]:
    """The totals, of which those of one group become one."""
    groups: dict[tuple[str | None, ...], list[UsageTotal]] = {}
    for total in totals:
        groups.setdefault(tuple(total.by.values()), []).append(total)
    return [each[0] if len(each) == 1 else added(each, by) for each in groups.values()]


def ordered(totals: Iterable[UsageTotal]) -> list[UsageTotal]:
    """By the values of their dimensions; a missing value is the first."""
    return sorted(totals, key=lambda total: [(value is not None, value or "") for value in total.by.values()])


def dearest(totals: Iterable[UsageTotal]) -> list[UsageTotal]:
    """Groups of one dimension, the dearest first."""
    return sorted(totals, key=lambda total: (-total.cost, -sum(total.tokens.values()), *map(_text, total.by.values())))


def _text(value: str | None) -> str:
    return value or ""


def halves(name: str) -> tuple[ColumnElement[Any], ColumnElement[Any]]:
    column = usage.c[name]
    # SQLAlchemy's / is a true division; SQL's is an integer division.
    return func.sum(column.op("/")(HALF)).label(f"{name}_high"), func.sum(column % HALF).label(f"{name}_low")


def half_sum(row: Any, name: str) -> int:
    return int(row[f"{name}_high"] or 0) * HALF + int(row[f"{name}_low"] or 0)


def one_if(condition: ColumnElement[bool]) -> ColumnElement[int]:
    return case((condition, 1), else_=0)


# --- conditions


def fits(where: UsageFilter) -> ColumnElement[bool]:
    """Of rows of the ledger."""
    conditions = [*equals(usage, where), *is_uncommon(where)]
    if where.run is not None:
        conditions.append(is_of_run(usage, where))
    return and_(true(), *conditions, *in_days(where))


def equals(table: FromClause, where: UsageFilter) -> Iterable[ColumnElement[bool]]:
    for name in COMPARED:
        value = getattr(where, name)
        # The runs of a filter are those of its tenant. SQLite would look for the tenant's rows first.
        if value is not None and (name != "tenant" or where.run is None):
            yield table.c[name] == value


def is_uncommon(where: UsageFilter) -> Iterable[ColumnElement[bool]]:
    """What follows from the filter, in the words of the indexes of rows with another outcome or status than most."""
    if where.outcome not in (None, "ok"):
        yield usage.c.outcome != literal_column("'ok'")
    if where.status not in (None, 200):
        yield usage.c.status != literal_column("200")


def in_days(where: UsageFilter) -> Iterable[ColumnElement[bool]]:
    """The day of a row follows from its start, which has an index for each tenant and for all."""
    if where.first_day is not None:
        yield started(where) >= _start_ms(where.first_day)
    if where.last_day is not None:
        yield started(where) < _start_ms(where.last_day) + _DAY_MS


def started(where: UsageFilter) -> ColumnElement[int]:
    """When a row began, for a condition. The rows of a run are found by the run, and not by their time: SQLite would
    use an index of times."""
    return usage.c.started_ms + 0 if where.run is not None else usage.c.started_ms


def _start_ms(day: str) -> int:
    """Of a UTC date."""
    return int(datetime.fromisoformat(day).replace(tzinfo=UTC).timestamp()) * 1000


def is_of_run(table: FromClause, where: UsageFilter) -> ColumnElement[bool]:
    """Whether a row is of the run, or of a run that is a part of it. Each tenant has its own runs."""
    rows = usage.alias()
    is_of_tenant = rows.c.tenant == where.tenant if where.tenant is not None else rows.c.tenant.in_(_tenants())
    # Two indexed searches: PostgreSQL and SQLite read the whole table for one condition with an OR.
    found = select(rows.c.tenant, rows.c.run).where(is_of_tenant, rows.c.run == where.run).cte("found", recursive=True)
    # UNION without ALL ends also where two runs are a part of each other.
    found = found.union(
        # Apart from the first, since one condition with an OR would read the whole table.
        select(rows.c.tenant, rows.c.run).where(is_of_tenant, rows.c.run_parent == where.run),
        select(rows.c.tenant, rows.c.run).where(rows.c.tenant == found.c.tenant, rows.c.run_parent == found.c.run),
    )
    # A join: SQLite looks up `IN` of a pair by the tenant alone.
    return and_(table.c.tenant == found.c.tenant, table.c.run == found.c.run)


def _tenants() -> Any:
    """The tenants of all rows. Each is one search of an index; DISTINCT would read the whole index."""
    first = select(func.min(usage.c.tenant).label("tenant")).cte("tenants", recursive=True)
    later = usage.alias()
    following = select(func.min(later.c.tenant)).where(later.c.tenant > first.c.tenant).scalar_subquery()
    every = first.union_all(select(following).where(first.c.tenant.is_not(None)))
    return select(every.c.tenant).where(every.c.tenant.is_not(None))
