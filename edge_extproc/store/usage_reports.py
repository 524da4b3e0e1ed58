"""Answers reports of usage, from the sums of days where there are some for it, and else from the rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Engine, Select, and_, collate, func, literal, not_, null, select, union_all

from .bulk import snapshot
from .tables import SUMMED, usage, usage_sums
from .usage_query import (
    DIMENSIONS,
    HALF,
    MONEY,
    TOKENS,
    Dimension,
    UsageFilter,
    UsageRanking,
    UsageTotal,
    added,
    dearest,
    equals,
    fits,
    half_sum,
    in_days,
    is_of_run,
    merged,
    ordered,
    summed_rows,
    total_of,
)
from .usage_sums import Grouping, grouping_of

_SUMS = ("rows", *SUMMED)
_PLAIN = (*TOKENS, "saved_tokens", "searches")


def totals(engine: Engine, by: Sequence[Dimension], where: UsageFilter) -> list[UsageTotal]:
    """The sums of the selected rows, one for each combination of values of `by`, in their order. Raises ValueError
    for an unknown dimension."""
    for name in by:
        if name not in DIMENSIONS:
            raise ValueError(f"no dimension {name!r}; have {', '.join(DIMENSIONS)}")
    with snapshot(engine) as connection:
        return _totals(connection, by, where)


def ranking(engine: Engine, by: Dimension, where: UsageFilter, most: int) -> UsageRanking:
    """The `most` dearest groups; or the last days."""
    with snapshot(engine) as connection:
        grouping = grouping_of([by], where)
        if grouping is None or by == "day" or _has_more_rows(connection, where):
            groups = _totals(connection, [by], where)
            top = groups[-most:] if by == "day" else dearest(groups)[:most]
            return UsageRanking(top, len(groups), added(groups, []))
        return _ranking(connection, grouping, by, where, most)


def _totals(connection: Connection, by: Sequence[Dimension], where: UsageFilter) -> list[UsageTotal]:
    grouping = grouping_of(by, where)
    if grouping is None:
        return ordered(summed_rows(connection, by, fits(where)))
    found = _sums(connection, grouping, by, where)
    if _has_more_rows(connection, where):
        found += summed_rows(connection, by, and_(fits(where), not_(usage.c.summed)))
        found = merged(found, by)
    return ordered(found)


def _has_more_rows(connection: Connection, where: UsageFilter) -> bool:
    """Whether the days have rows that are not in the sums."""
    days = UsageFilter(first_day=where.first_day, last_day=where.last_day)
    statement = select(1).where(not_(usage.c.summed), *in_days(days)).limit(1)
    return connection.execute(statement).first() is not None


def _sums(connection: Connection, grouping: Grouping, by: Sequence[Dimension], where: UsageFilter) -> list[UsageTotal]:
    rows = connection.execute(_groups(grouping, by, where)).mappings()
    return [_total(row, by) for row in rows if row["rows"]]


def _groups(grouping: Grouping, by: Sequence[Dimension], where: UsageFilter) -> Select[Any]:
    names = [usage_sums.c[name] for name in by]
    sums = [func.sum(usage_sums.c[name]).label(name) for name in _SUMS]
    conditions = [usage_sums.c.kind == grouping.number, *equals(usage_sums, where)]
    if where.first_day is not None:
        conditions.append(usage_sums.c.day >= where.first_day)
    if where.last_day is not None:
        conditions.append(usage_sums.c.day <= where.last_day)
    if where.run is not None:
        conditions.append(is_of_run(usage_sums, where))
    return select(*names, *sums).where(*conditions).group_by(*names)


def _total(row: Any, by: Sequence[Dimension]) -> UsageTotal:
    amounts = {name: int(row[name]) for name in _PLAIN} | {name: half_sum(row, name) for name in MONEY}
    return total_of(row, by, amounts)


def _ranking(connection: Connection, grouping: Grouping, by: Dimension, where: UsageFilter, most: int) -> UsageRanking:
    """It reads the sums once, for the groups of the page and for the sum of all."""
    is_sqlite = connection.dialect.name == "sqlite"
    groups = _groups(grouping, [by], where).cte("groups")
    high, low = groups.c.cost_high, groups.c.cost_low
    # The halves of a sum with credits need not be those of the sum, and SQLite has no number for the whole of it.
    rest = (low % HALF + HALF) % HALF
    cost = ((high + (low - rest) // HALF).desc(), rest.desc()) if is_sqlite else ((high * HALF + low).desc(),)
    tokens = sum((groups.c[name] for name in TOKENS[1:]), groups.c[TOKENS[0]])
    name = func.coalesce(groups.c[by], "")
    columns = [groups.c[each] for each in (by, *_SUMS)]
    top = select(literal(-1).label("groups"), *columns)
    top = top.order_by(*cost, tokens.desc(), name if is_sqlite else collate(name, "C")).limit(most)
    whole = select(func.count(), null(), *(func.sum(groups.c[each]) for each in _SUMS))
    rows = connection.execute(union_all(select(top.subquery()), whole)).mappings().all()
    shown = [_total(row, [by]) for row in rows if row["groups"] < 0]
    (last,) = (row for row in rows if row["groups"] >= 0)
    return UsageRanking(dearest(shown), last["groups"], _total(last, []) if last["groups"] else added([], []))
