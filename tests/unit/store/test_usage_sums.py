"""The sums of days say what the rows say: for each grouping and filter, however the rows have come and gone."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, delete, func, select, text, update
from thoroughness import examples

from edge_extproc.model.settlement import BOOKED
from edge_extproc.store.database import open_database
from edge_extproc.store.journal import LedgerRow, dollars
from edge_extproc.store.ledger import Ledger
from edge_extproc.store.tables import FILTER_INDEXES, NOT_SUMMED, usage, usage_sums
from edge_extproc.store.upkeep import Upkeep
from edge_extproc.store.usage_query import DIMENSIONS, TOKENS, Dimension, UsageFilter, UsageTotal, dearest, ordered
from edge_extproc.store.usage_sums import CALLS, GROUPINGS, grouping_of

DAY = 86_400_000
MIDNIGHT = 1_800_057_600_000  # 2027-01-16
DAYS = ("2027-01-14", "2027-01-15", "2027-01-16", "2027-01-17", "2027-01-18")

_names = st.sampled_from([None, "", "a", "B", "ä", "='x"])
_counts = st.sampled_from([0, 0, 1, 7, 100_000_000])
_money = st.sampled_from([0, 1, (1 << 31) - 1, 1 << 31, 9_000_000 * 10**12])


@st.composite
def ledger_rows(draw: st.DrawFn) -> LedgerRow:
    operation = draw(st.sampled_from([None, "chat", "batch", "background"]))
    cost = draw(st.one_of(st.none(), _money))
    return LedgerRow(
        exchange="",
        started_ms=MIDNIGHT + draw(st.sampled_from([-DAY - 1, -DAY, -1, 0, 1, DAY - 1, DAY])),
        duration_ms=1,
        outcome=draw(st.sampled_from(["ok", "ok", "rejected"])),
        tenant=draw(st.sampled_from(["acme", "umbrella"])),
        status=draw(st.sampled_from([None, 200, 429])),
        team=draw(_names),
        user=draw(_names),
        key=draw(_names),
        operation=operation,
        model=draw(_names),
        provider=draw(_names),
        upstream_model=draw(_names),
        response_model=draw(_names),
        cache=draw(st.sampled_from([None, "hit", "miss"])),
        # A booking may be a credit.
        cost=-cost if cost is not None and operation in BOOKED and draw(st.booleans()) else cost,
        unpriced=cost is None,
        saved_cost=draw(_money),
        search_cost=draw(_money),
        run=draw(st.sampled_from([None, "job", "task"])),
        run_parent=draw(st.sampled_from([None, "job"])),
        **{name: draw(_counts) for name in (*TOKENS, "saved_tokens", "searches")},
    )


@st.composite
def filters(draw: st.DrawFn) -> UsageFilter:
    where = UsageFilter(first_day=draw(st.sampled_from((None, *DAYS))), last_day=draw(st.sampled_from((None, *DAYS))))
    values: dict[str, st.SearchStrategy[Any]] = {
        "tenant": st.just("acme"),
        "outcome": st.just("ok"),
        "status": st.just(429),
        "cache": st.just("hit"),
        "run": st.just("job"),
        **dict.fromkeys(
            ("team", "user", "key", "model", "response_model", "provider"), st.sampled_from(["a", "B", ""])
        ),
    }
    for name in draw(st.sets(st.sampled_from(sorted(values)), max_size=2)):
        where = replace(where, **{name: draw(values[name])})
    return where


def value(row: LedgerRow, name: str) -> Any:
    return (
        datetime.fromtimestamp(row.started_ms / 1000, UTC).date().isoformat() if name == "day" else getattr(row, name)
    )


def selected(rows: Iterable[LedgerRow], where: UsageFilter) -> list[LedgerRow]:
    rows = list(rows)
    runs: set[tuple[str, str | None]] = set()
    before = -1
    while len(runs) > before:
        before = len(runs)
        for row in rows:
            is_of_tenant = where.tenant in (None, row.tenant)
            is_named = is_of_tenant and where.run in (row.run, row.run_parent)
            if row.run is not None and (is_named or (row.tenant, row.run_parent) in runs):
                runs.add((row.tenant, row.run))
    return [
        row
        for row in rows
        if all(value(row, name) == getattr(where, name) for name in where.given - {"run"})
        and (where.run is None or (row.tenant, row.run) in runs)
        and (where.first_day or "") <= value(row, "day") <= (where.last_day or "9999")
    ]


def summed(rows: Iterable[LedgerRow], by: Sequence[Dimension], where: UsageFilter) -> list[UsageTotal]:
    groups: dict[tuple[str | None, ...], list[LedgerRow]] = {}
    for row in selected(rows, where):
        groups.setdefault(tuple(value(row, name) for name in by), []).append(row)
    return ordered(
        UsageTotal(
            by=dict(zip(by, key, strict=True)),
            requests=sum(row.operation not in BOOKED for row in group),
            failed=sum(row.outcome != "ok" for row in group),
            cache_hits=sum(row.cache == "hit" for row in group),
            tokens={name: sum(getattr(row, name) for row in group) for name in TOKENS},
            cost=dollars(sum(row.cost or 0 for row in group)),
            unpriced=sum(row.unpriced for row in group),
            saved_tokens=sum(row.saved_tokens for row in group),
            saved_cost=dollars(sum(row.saved_cost for row in group)),
            searches=sum(row.searches for row in group),
            search_cost=dollars(sum(row.search_cost for row in group)),
        )
        for key, group in groups.items()
    )


def write_as_an_older_version(engine: Engine, rows: Sequence[LedgerRow]) -> None:
    """It knows no sums."""
    known = {column.name for column in usage.columns} - {"summed"}
    values = [
        {name: part for name, part in msgspec.structs.asdict(row).items() if name in known} | {"day": value(row, "day")}
        for row in rows
    ]
    if values:
        with engine.begin() as connection:
            connection.execute(usage.insert(), values)


def clear(engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(delete(usage))
        connection.execute(delete(usage_sums))


@settings(max_examples=examples(60), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.lists(ledger_rows(), max_size=8), max_size=4),
    st.lists(ledger_rows(), max_size=4),
    st.integers(0, 2),
    st.sampled_from([None, *DAYS]),
    st.lists(st.tuples(st.lists(st.sampled_from(DIMENSIONS), max_size=3, unique=True), filters()), max_size=4),
)
def test_reports_of_sums_are_those_of_rows(
    engine: Engine,
    batches: list[list[LedgerRow]],
    older: list[LedgerRow],
    steps: int,
    deleted: str | None,
    asked: list[tuple[list[Dimension], UsageFilter]],
) -> None:
    clear(engine)
    ledger = Ledger(engine)
    numbers = itertools.count()
    *batches, older = (
        [msgspec.structs.replace(row, exchange=f"x{next(numbers)}") for row in batch] for batch in (*batches, older)
    )
    for batch in batches:
        # Each comes twice, as after a crash of the reader.
        assert len(batch) == ledger.add([*batch, *batch])
        assert 0 == ledger.add(batch)
    write_as_an_older_version(engine, older)
    for _ in range(steps):
        ledger.keep_up()
    rows = [*(row for batch in batches for row in batch), *older]
    if deleted is not None:
        ledger.delete_before(deleted)
        rows = [row for row in rows if value(row, "day") >= deleted]

    for by in (*([name] for name in DIMENSIONS), []):
        assert summed(rows, by, UsageFilter()) == ledger.totals(by, UsageFilter())
    for by, where in asked:
        expected = summed(rows, by, where)
        assert expected == ledger.totals(by, where)
        for name in by:
            groups = summed(rows, [name], where)
            found = ledger.ranking(name, where, 2)
            assert (groups[-2:] if name == "day" else dearest(groups)[:2]) == found.top
            assert len(groups) == found.groups
            whole = summed(rows, [], where)
            assert whole == ([found.total] if groups else [])


@pytest.mark.parametrize("name", sorted({name for grouping in GROUPINGS for name in grouping.names} | {"day"}))
def test_each_dimension_is_reported_from_sums(name: Dimension) -> None:
    for by_name in (set(), {"tenant"}):
        where = UsageFilter(tenant="acme" if by_name else None, first_day=DAYS[0])
        assert grouping_of([name], where) is not None
    # Sessions are in the rows alone: an index finds those of one, and a report by all of them reads all rows.
    assert set(DIMENSIONS) - {"session"} == {name for grouping in GROUPINGS for name in grouping.names} | {"day"}


def test_a_report_of_models_reads_no_group_of_a_user() -> None:
    assert CALLS is grouping_of(["model"], UsageFilter(team="a", provider="b"))
    assert not {"user", "key", "run"} & set(CALLS.names)


def test_a_report_reads_no_row_that_is_in_the_sums(engine: Engine) -> None:
    """The rows are falsified behind the back of the sums, and the reports do not change."""
    ledger = Ledger(engine)
    ledger.add([LedgerRow(str(n), MIDNIGHT, 1, "ok", "acme", user="ann", model="m", cost=5) for n in range(3)])
    with engine.begin() as connection:
        connection.execute(update(usage).values(cost=10**12, user="bob"))

    where = UsageFilter(first_day=DAYS[2], last_day=DAYS[2])
    assert [("ann", dollars(15))] == [(each.by["user"], each.cost) for each in ledger.totals(["user"], where)]
    assert [{"user": "ann"}] == [each.by for each in ledger.ranking("user", where, 5).top]


def test_rows_of_an_older_version_are_summed_in_steps(engine: Engine) -> None:
    ledger = Ledger(engine)
    rows = [LedgerRow(str(n), MIDNIGHT, 1, "ok", "acme", model=f"m{n % 3}", cost=n) for n in range(4100)]
    write_as_an_older_version(engine, rows)
    expected = summed(rows, ["model"], UsageFilter())
    steps = 0
    more = True
    while more:
        # The reports are right at each moment.
        assert expected == ledger.totals(["model"], UsageFilter())
        more = ledger.keep_up()
        steps += 1

    assert steps <= 3
    with engine.connect() as connection:
        assert 4100 == connection.scalar(select(func.sum(usage_sums.c.rows)).where(usage_sums.c.kind == CALLS.number))
    assert expected == ledger.totals(["model"], UsageFilter())
    assert not ledger.keep_up()


def test_a_row_with_a_number_that_is_too_large_for_a_sum_is_read_as_a_row(engine: Engine) -> None:
    ledger = Ledger(engine)
    rows = [LedgerRow(str(n), MIDNIGHT, 1, "ok", "acme", model="m", input=(1 << 62), output=5) for n in range(4)]
    ledger.add(rows)
    write_as_an_older_version(engine, [msgspec.structs.replace(rows[0], exchange="older")])
    assert not ledger.keep_up()

    (total,) = ledger.totals(["model"], UsageFilter())
    assert (5 << 62, 25) == (total.tokens["input"], total.tokens["output"])
    assert [total] == ledger.ranking("model", UsageFilter(), 1).top


def test_sums_of_money_may_be_larger_than_a_row_can_be(engine: Engine) -> None:
    ledger = Ledger(engine)
    largest = 9_000_000 * 10**12
    for n in range(4):
        ledger.add([LedgerRow(f"{n}-{m}", MIDNIGHT, 1, "ok", f"tenant-{m}", cost=largest - m) for m in range(3)])

    found = ledger.ranking("tenant", UsageFilter(), 2)
    assert [f"tenant-{n}" for n in range(2)] == [each.by["tenant"] for each in found.top]
    assert Decimal(9_000_000) * 12 - dollars(12) == found.total.cost


@settings(max_examples=examples(60), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.lists(st.integers(-(1 << 33), 1 << 33), max_size=4), max_size=12), st.integers(1, 12))
def test_the_dearest_groups_are_exactly_the_dearest(engine: Engine, costs: list[list[int]], most: int) -> None:
    """With credits, the halves of a sum are not those of its parts."""
    clear(engine)
    ledger = Ledger(engine)
    for user, parts in enumerate(costs):
        for part, cost in enumerate(parts):
            row = LedgerRow(f"{user}-{part}", MIDNIGHT, 1, "ok", "acme", user=str(user), operation="batch", cost=cost)
            ledger.add([row])

    whole = sorted(((-sum(parts), str(user)) for user, parts in enumerate(costs) if parts))
    found = ledger.ranking("user", UsageFilter(), most)
    assert [(dollars(-cost), user) for cost, user in whole[:most]] == [
        (each.cost, each.by["user"]) for each in found.top
    ]
    assert len(whole) == found.groups


def test_a_large_ledger_is_migrated_without_its_indexes_and_gets_them_while_it_runs(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/edge.db"
    engine = open_database(url)
    with engine.begin() as connection:
        for index in (NOT_SUMMED, *FILTER_INDEXES):
            connection.execute(text(f"DROP INDEX {index.name}"))
    upkeep = Upkeep(engine)
    steps = 0
    while upkeep.step():
        steps += 1

    assert 1 + len(FILTER_INDEXES) == steps
    with engine.connect() as connection:
        names = set(connection.scalars(text("SELECT name FROM sqlite_master WHERE type = 'index'")))
    assert {index.name for index in (NOT_SUMMED, *FILTER_INDEXES)} <= names
    assert not Upkeep(engine).step()
    engine.dispose()


def test_sums_go_with_the_rows_of_their_day(engine: Engine) -> None:
    ledger = Ledger(engine)
    ledger.add([LedgerRow(str(n), MIDNIGHT + n * DAY, 1, "ok", "acme") for n in range(3)])

    assert 2 == ledger.delete_before(DAYS[4])
    assert [{"day": DAYS[4]}] == [each.by for each in ledger.totals(["day"], UsageFilter())]
    with engine.connect() as connection:
        assert len(GROUPINGS) == connection.scalar(select(func.count()).select_from(usage_sums))
