"""Transactions and statements of many rows, in the way that each database does them fastest."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, Engine, String, Table, select, text

# SQLite takes 32,766 parameters in a statement.
_MOST_PARAMETERS = 10_000


@contextmanager
def changing(engine: Engine) -> Iterator[Connection]:
    """A transaction that reads what it then changes."""
    with engine.begin() as connection:
        if engine.dialect.name == "sqlite":
            # Otherwise another one could write between a read and a write of this one.
            connection.execute(text("BEGIN IMMEDIATE"))
        yield connection


@contextmanager
def snapshot(engine: Engine) -> Iterator[Connection]:
    """A connection whose statements all read the same state."""
    if engine.dialect.name == "sqlite":
        with engine.connect() as connection:
            connection.execute(text("BEGIN"))
            yield connection
    else:
        with engine.connect().execution_options(isolation_level="REPEATABLE READ") as connection:
            yield connection


def insert_many(
    connection: Connection, table: Table, names: Sequence[str], rows: Sequence[tuple[Any, ...]], conflict: str
) -> list[tuple[Any, ...]]:
    """Inserts rows with the values of `names`. `conflict`: the clause for a row that is there. Returns what the clause
    says to return, in PostgreSQL."""
    quote = connection.dialect.identifier_preparer.quote
    into = f"INSERT INTO {quote(table.name)} ({', '.join(map(quote, names))})"
    if connection.dialect.name == "sqlite":
        values = ", ".join("?" * len(names))
        connection.exec_driver_sql(f"{into} VALUES ({values}) {conflict}", list(rows))
        return []
    # One array for each column: the statement stays the same for any number of rows.
    arrays = ", ".join(f"%s::{_array_type(connection, table, name)}" for name in names)
    columns = tuple(map(list, zip(*rows, strict=True)))
    statement = f"{into} SELECT * FROM unnest({arrays}) {conflict}"  # noqa: S608 - names of our own columns
    found = connection.exec_driver_sql(statement, columns)
    return [tuple(row) for row in found] if found.returns_rows else []


def _array_type(connection: Connection, table: Table, name: str) -> str:
    kind = table.c[name].type
    # A cast to a shorter text would cut it without an error.
    return "text[]" if isinstance(kind, String) else f"{kind.compile(dialect=connection.dialect)}[]"


def present(connection: Connection, column: Any, values: Sequence[str]) -> set[str]:
    """Those of the values that a column has."""
    found: set[str] = set()
    for start in range(0, len(values), _MOST_PARAMETERS):
        part = values[start : start + _MOST_PARAMETERS]
        found.update(connection.execute(select(column).where(column.in_(part))).scalars())
    return found
