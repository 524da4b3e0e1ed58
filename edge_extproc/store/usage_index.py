"""Chooses the index by which SQLite finds the newest rows of several filters.

Without statistics, SQLite takes all values of a column as equally common. It may then walk all rows of a large tenant
for a user with one request. PostgreSQL has statistics.
"""

from __future__ import annotations

from sqlalchemy import ColumnElement, Connection, and_, func, select
from sqlalchemy.sql.expression import UnaryExpression
from sqlalchemy.sql.operators import custom_op

from .tables import usage
from .usage_query import COMPARED, UsageFilter, fits, in_days, is_uncommon

# Entries of an index, of which a search reads some thousands in a millisecond.
_MOST_COUNTED = 2000
# Most rows have this value, and no index has it.
_COMMON = {"outcome": "ok", "status": 200}


def search(connection: Connection, where: UsageFilter) -> ColumnElement[bool]:
    """What selects the rows of a filter."""
    names = [name for name in COMPARED if getattr(where, name) not in (None, _COMMON.get(name))]
    if connection.dialect.name != "sqlite" or len(names) < 2 or where.run is not None:
        return fits(where)
    rarest = min(names, key=lambda name: _count(connection, where, name))
    conditions: list[ColumnElement[bool]] = []
    for name in COMPARED:
        value = getattr(where, name)
        if value is not None:
            column = usage.c[name]
            # With a sign, SQLite does not look for an index of the column.
            conditions.append((column if name == rarest else _unindexed(column)) == value)
    return and_(*conditions, *is_uncommon(where), *in_days(where))


def _count(connection: Connection, where: UsageFilter, name: str) -> int:
    """How many rows have the filter's value in a column, up to a bound."""
    only = UsageFilter(**{name: getattr(where, name)}, first_day=where.first_day, last_day=where.last_day)
    rows = select(usage.c.started_ms).where(fits(only)).limit(_MOST_COUNTED)
    return connection.scalar(select(func.count()).select_from(rows.subquery())) or 0


def _unindexed(column: ColumnElement[object]) -> ColumnElement[object]:
    return UnaryExpression(column, operator=custom_op("+"))
