"""The databases read no whole table for a page: how they plan its queries, in SQLite and PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cells import each_cell
from databases import sqlite_engine
from sqlalchemy import Engine, event

from edge_extproc.store.journal import LedgerRow
from edge_extproc.store.ledger import Ledger, LedgerPosition
from edge_extproc.store.usage_query import COMPARED, DIMENSIONS, Dimension, UsageFilter

VALUES: dict[str, Any] = {
    **dict.fromkeys((*COMPARED, "run"), "rare"),
    "outcome": "rejected",
    "status": 418,
    "cache": "hit",
}
INDEXES = {
    "tenant": "usage_by_tenant_time",
    "outcome": "usage_not_ok",
    "status": "usage_not_200",
    "run": "usage_by_run",
    **{
        name: f"usage_of_{name}"
        for name in ("team", "user", "key", "model", "response_model", "provider", "cache", "session")
    },
}
WEEK = UsageFilter(first_day="2027-01-10", last_day="2027-01-16")
# What most requests have.
COMMON = ({"outcome": "ok"}, {"status": 200})


@pytest.fixture
def sqlite(tmp_path: Path) -> Iterator[Engine]:
    engine = sqlite_engine(tmp_path)
    yield engine
    engine.dispose()


def plans(engine: Engine, use: Callable[[Ledger], object]) -> list[list[str]]:
    """Of each statement that `use` sends."""
    sent: list[tuple[str, Any]] = []

    def keep(connection: Any, cursor: Any, statement: str, parameters: Any, *others: Any) -> None:
        if statement.startswith(("SELECT", "WITH")):
            sent.append((statement, parameters))

    event.listen(engine, "before_cursor_execute", keep)
    try:
        use(Ledger(engine))
    finally:
        event.remove(engine, "before_cursor_execute", keep)
    found = []
    with engine.connect() as connection:
        for statement, parameters in sent:
            if engine.dialect.name == "sqlite":
                rows = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)
                found.append([row[3] for row in rows])
            else:
                # The table is small: PostgreSQL would read the whole of it if it could do so.
                connection.exec_driver_sql("SET LOCAL enable_seqscan = off")
                rows = connection.exec_driver_sql(f"EXPLAIN (COSTS OFF) {statement}", parameters)
                found.append([row[0].strip() for row in rows])
    assert found
    return found


def whole_reads(plan: list[str]) -> list[str]:
    """The steps that read a whole table or index, and not the first rows by time or one row that is in no sum."""
    return [
        step
        for step in plan
        if "Seq Scan on usage" in step
        or (step.startswith("SCAN usage") and not step.endswith(("INDEX usage_by_time", "INDEX usage_not_summed")))
    ]


@each_cell("name", VALUES)
@each_cell("where", [UsageFilter(), WEEK], ids=["always", "week"])
def test_the_newest_requests_of_a_filter_are_found_by_its_index(engine: Engine, name: str, where: UsageFilter) -> None:
    where = replace(where, **{name: VALUES[name]})
    found = plans(engine, lambda ledger: ledger.newest(where, LedgerPosition(5, "x"), 51))

    assert [] == [step for plan in found for step in whole_reads(plan)]
    # PostgreSQL chooses by its statistics, which are of the tests before.
    assert engine.dialect.name != "sqlite" or any(INDEXES[name] in step for step in found[-1])
    # Rows of a run are sorted; others are read in the order of the index.
    assert name == "run" or "USE TEMP B-TREE FOR ORDER BY" not in found[-1]


@each_cell("common", COMMON)
@each_cell("position", [None, LedgerPosition(5, "x")])
def test_requests_that_are_as_most_are_found_by_time(
    engine: Engine, common: dict[str, Any], position: LedgerPosition | None
) -> None:
    (plan,) = plans(engine, lambda ledger: ledger.newest(UsageFilter(**common), position, 51))

    assert any("usage_by_time" in step for step in plan)
    assert [] == whole_reads(plan)


# Runs and sessions have an index with the tenant.
@each_cell("name", [name for name in VALUES if name not in ("tenant", "run", "session")])
def test_of_several_filters_sqlite_looks_up_the_rarest_value(sqlite: Engine, name: str) -> None:
    """PostgreSQL has statistics."""
    ledger = Ledger(sqlite)
    common = {each: value for each, value in VALUES.items() if each not in ("tenant", "run", "outcome")}
    # A large tenant with one row of the value; and a large value with one row of a small tenant.
    ledger.add([LedgerRow(f"large-{n}", n, 1, "ok", "large", **common) for n in range(30)])
    ledger.add([LedgerRow(f"failed-{n}", n, 1, VALUES["outcome"], "large") for n in range(30)])
    ledger.add([LedgerRow("one", 99, 1, "ok", "small")])
    expected = {("large", "unusual"): INDEXES[name], ("small", VALUES[name]): INDEXES["tenant"]}
    for (tenant, value), index in expected.items():
        unusual = 499 if name == "status" else value
        where = UsageFilter(**{"tenant": tenant, name: unusual if value == "unusual" else value})  # type: ignore[arg-type]
        found = plans(sqlite, lambda ledger: ledger.newest(where, None, 51))  # noqa: B023 - it is called at once
        assert any(index in step for step in found[-1])


@each_cell("by", DIMENSIONS)
@each_cell("name", ["", "tenant", "team", "user", "key", "model", "provider", "run"])
def test_a_report_reads_no_whole_table(engine: Engine, by: Dimension, name: str) -> None:
    where = replace(WEEK, **{name: VALUES[name]}) if name else WEEK
    found = plans(engine, lambda ledger: ledger.ranking(by, where, 100))
    found += plans(engine, lambda ledger: ledger.totals([by, "tenant"], where))

    assert [] == [step for plan in found for step in whole_reads(plan)]


def test_the_counts_of_guardrails_read_the_rows_with_findings_alone(engine: Engine) -> None:
    (plan,) = plans(engine, lambda ledger: ledger.guardrail_counts(WEEK))

    assert any("usage_guarded" in step for step in plan)


def test_an_export_continues_where_its_last_part_ended(engine: Engine) -> None:
    ledger = Ledger(engine)
    ledger.add([LedgerRow(str(n), n, 1, "ok", "acme", user="ann") for n in range(1001)])
    found = plans(engine, lambda ledger: list(ledger.rows(UsageFilter(user="ann"))))

    assert 2 == len(found)
    for plan in found:
        step = next(step for step in plan if "started_ms" in step and ("SEARCH" in step or "Index Cond" in step))
        assert "user" in step
