"""Rows that no ledger can take, and amounts that no exchange can come to: they stop nothing and spoil no sum."""

from __future__ import annotations

import asyncio
import json
import tempfile
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from alembic import command
from alembic.config import Config as AlembicConfig
from hypothesis import given, settings
from hypothesis import strategies as st
from settlements import settlement
from sqlalchemy import Engine, column, insert, inspect, table, text
from sqlalchemy.exc import SQLAlchemyError
from thoroughness import examples

from edge_extproc.model.plausible import MOST_TOKENS
from edge_extproc.model.usage import Usage
from edge_extproc.store import database
from edge_extproc.store.database import open_database
from edge_extproc.store.ingest_loop import IngestLoop
from edge_extproc.store.journal import Journal, LedgerRow, read, row_of, segments
from edge_extproc.store.ledger import Dimension, Ingest, Ledger, UsageFilter
from edge_extproc.store.quarantine import Quarantine
from edge_extproc.store.tables import usage
from edge_extproc.telemetry.background import Background

GOOD = LedgerRow("good", 1_800_000_000_000, 5, "ok", "acme", model="small", input=10, output=2, cost=1_950_000)
SETTLED = settlement(
    exchange_id="x1",
    started_at=1_800_000_000.0,
    tenant="acme",
    provider="openai",
    usage=Usage(input=10),
    cost=Decimal("0.001"),
)

# Above MOST_TOKENS or below zero, and what is no count at all.
ABSURD: tuple[Any, ...] = (2**63, 2**64 - 1, 10**30, 10**400, 1e300, float("nan"), -1, -(2**63), "12", True, None)


def segment(directory: Path, *lines: bytes) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "00000000000000000001-worker-0.journal").write_bytes(b"".join(line + b"\n" for line in lines))


def line(**changes: Any) -> bytes:
    """As an earlier version wrote it."""
    return json.dumps({**{k: v for k, v in msgspec.structs.asdict(GOOD).items() if v is not None}, **changes}).encode()


def ingest(tmp_path: Path, engine: Engine) -> Ingest:
    return Ingest(tmp_path / "journal", Ledger(engine), Quarantine(tmp_path / "quarantine.jsonl"))


# --- amounts


@pytest.mark.parametrize("count", ABSURD, ids=repr)
def test_a_usage_that_cannot_be_is_written_as_unknown(count: Any) -> None:
    row = row_of(replace(SETTLED, usage=Usage(input=count, output=3)))

    assert row is not None
    assert (0, 0, None, True, True) == (row.input, row.output, row.cost, row.unpriced, row.estimated)


@pytest.mark.parametrize("cost", [Decimal(10) ** 30, Decimal("NaN"), Decimal("-Infinity"), Decimal(-1)], ids=repr)
def test_a_cost_that_cannot_be_is_written_as_unknown(cost: Decimal) -> None:
    row = row_of(replace(SETTLED, cost=cost, saved=Usage(input=5), saved_cost=cost))

    assert row is not None
    assert (None, True, 0, 0) == (row.cost, row.unpriced, row.saved_tokens, row.saved_cost)


def test_the_largest_usage_that_can_be_stays_as_it_is() -> None:
    row = row_of(replace(SETTLED, usage=Usage(input=MOST_TOKENS), cost=Decimal(9_000_000)))

    assert row is not None
    assert (MOST_TOKENS, 9 * 10**18, False) == (row.input, row.cost, row.unpriced)


@given(
    st.lists(
        st.one_of(st.integers(), st.integers(2**62, 2**65), st.floats(), st.none(), st.booleans(), st.text(max_size=3)),
        min_size=8,
        max_size=8,
    ),
    st.one_of(st.none(), st.decimals(), st.decimals(min_value=0, max_value=10**25, places=6)),
)
@settings(max_examples=examples(60), deadline=None)
def test_whatever_a_provider_says_the_row_lands_and_can_be_summed(counts: list[Any], cost: Decimal | None) -> None:
    with tempfile.TemporaryDirectory() as name:
        book = Journal(Path(name) / "journal", "worker-0", on_error=_fail)
        book.write(replace(SETTLED, usage=Usage(*counts), cost=cost))
        book.write(replace(SETTLED, exchange_id="x2", usage=Usage(input=7)))
        book.close()
        (path,) = segments(Path(name) / "journal")
        portion = read(path, 0)

        assert (["x1", "x2"], []) == ([row.exchange for row in portion.rows], portion.unreadable)
        assert all(0 <= getattr(row, bucket) <= MOST_TOKENS for row in portion.rows for bucket in ("input", "output"))
        assert all(row.cost is None or 0 <= row.cost < 2**63 for row in portion.rows)


def _fail(error: OSError) -> None:
    raise AssertionError from error


def test_sums_of_the_largest_numbers_of_an_old_ledger_do_not_overflow(engine: Engine) -> None:
    largest = 2**63 - 1
    values = {**msgspec.structs.asdict(GOOD), "day": "2027-01-15", "input": largest, "saved_tokens": largest}
    values |= {"cost": largest, "saved_cost": -largest}
    with engine.begin() as connection:
        connection.execute(insert(usage), [{**values, "exchange": f"x{n}"} for n in range(3)])

    (total,) = Ledger(engine).totals(["tenant"], UsageFilter())
    assert (3 * largest, 3 * largest) == (total.tokens["input"], total.saved_tokens)
    assert Decimal(3 * largest) / 10**12 == total.cost == -total.saved_cost


# --- journals that an earlier version could not bring in


def test_a_poisoned_journal_of_an_earlier_version_is_taken_in(engine: Engine, tmp_path: Path) -> None:
    poison = [
        line(exchange="p1", input=10**30, cost=25 * 10**35),
        line(exchange="p2", output=2**64 - 1),
        line(exchange="p3", input=-5),
        line(exchange="p4", output=10**305, cost=10**310),
    ]
    segment(tmp_path / "journal", line(), *poison, line(exchange="last"))
    found = ingest(tmp_path, engine)

    assert (6, 0) == (found.run(), found.quarantine.rows)
    assert [] == segments(tmp_path / "journal")
    (total,) = Ledger(engine).totals(["tenant"], UsageFilter())
    assert (6, 4, 20, 4) == (total.requests, total.unpriced, total.tokens["input"], total.tokens["output"])
    assert Decimal("0.0000039") == total.cost


def test_lines_that_are_no_rows_are_set_aside_with_their_reason(engine: Engine, tmp_path: Path) -> None:
    wrong = [
        line(exchange="w1", input=1e300),
        line(exchange="w2", output="12"),
        line(exchange="w3", input=None),
        b"\xff\xfe{",
        b"[" * 100_000,
        b'{"exchange":"w4","input":' + b"9" * 5000 + b"}",
    ]
    segment(tmp_path / "journal", line(), *wrong, line(exchange="last"))
    found = ingest(tmp_path, engine)

    assert (2, len(wrong)) == (found.run(), found.quarantine.rows)
    reasons = {each.line[:20]: each.reason for each in found.quarantine.entries(None, 99)}
    assert len(wrong) == len(reasons)
    assert all(reason.startswith("it is not a row: ") for reason in reasons.values())


# --- rows that the database refuses

# A row of a valid form that a database, or its driver, does not take.
REFUSED = {
    "no calendar has this time": {"started_ms": 10**18},
    "no 64 bits": {"status": 2**70},
    "no 64 bits either": {"duration_ms": 10**30},
}


@pytest.mark.parametrize("changes", REFUSED.values(), ids=REFUSED)
def test_a_row_that_the_database_refuses_is_set_aside_and_the_rest_goes_on(
    engine: Engine, tmp_path: Path, changes: dict[str, Any]
) -> None:
    before, after = [line(exchange=f"a{n}") for n in range(70)], [line(exchange=f"b{n}") for n in range(29)]
    bad = [line(exchange="r1", **changes), line(exchange="r2", tenant="umbrella", **changes)]
    segment(tmp_path / "journal", *before, *bad, *after)
    found = ingest(tmp_path, engine)

    assert (99, 2) == (found.run(), found.quarantine.rows)
    assert 99 == Ledger(engine).totals([], UsageFilter())[0].requests
    assert [] == segments(tmp_path / "journal")
    (refused,) = found.quarantine.entries("umbrella", 9)
    assert "r2" == json.loads(refused.line)["exchange"]
    assert refused.reason.partition(":")[0].endswith(("Error", "OutOfRange"))
    assert ["umbrella", "acme"] == [each.tenant for each in found.quarantine.entries(None, 9)]


def test_a_row_is_set_aside_once_however_often_it_is_read(engine: Engine, tmp_path: Path) -> None:
    bad = line(exchange="r1", started_ms=10**18)
    for _ in range(3):  # a supervisor that is killed before it deletes the segment
        segment(tmp_path / "journal", bad, line())
        ingest(tmp_path, engine).run()

    assert 1 == ingest(tmp_path, engine).quarantine.rows


def test_a_database_that_is_at_fault_is_blamed_on_no_row(engine: Engine, tmp_path: Path) -> None:
    segment(tmp_path / "journal", line(), line(exchange="x2"))
    found = ingest(tmp_path, engine)
    with engine.begin() as connection:
        connection.execute(text("ALTER TABLE usage RENAME TO usage_away"))
    try:
        with pytest.raises(SQLAlchemyError):
            found.run()
    finally:
        with engine.begin() as connection:
            connection.execute(text("ALTER TABLE usage_away RENAME TO usage"))

    assert 0 == found.quarantine.rows
    assert 2 == found.run()


# --- the file


def test_a_quarantine_that_was_moved_away_begins_anew(tmp_path: Path) -> None:
    quarantine = Quarantine(tmp_path / "quarantine.jsonl")
    assert quarantine.put(b"one", "a reason")
    assert not quarantine.put(b"one", "a reason")
    assert quarantine.put(b"two", "a reason")
    assert 2 == quarantine.rows
    quarantine.path.rename(tmp_path / "seen.jsonl")

    assert 0 == quarantine.rows
    assert quarantine.put(b"one", "a reason")
    assert 0o600 == quarantine.path.stat().st_mode & 0o777


def test_a_full_quarantine_counts_on(tmp_path: Path) -> None:
    quarantine = Quarantine(tmp_path / "quarantine.jsonl", most_bytes=300)
    for n in range(20):
        quarantine.put(b"row %d" % n, "a reason")

    assert 20 == quarantine.rows
    assert quarantine.path.stat().st_size <= 300


# --- the task that keeps the ledger


async def test_no_exception_ends_the_ledgers_task(tmp_path: Path) -> None:
    engine = open_database(f"sqlite:///{tmp_path}/edge.db")
    failures: list[BaseException] = []

    class Stumbling(Ingest):
        def run(self) -> int:
            if len(failures) < 3:
                raise ZeroDivisionError
            return super().run()

    directory = tmp_path / "journal"
    segment(directory, line())
    ledger = Ledger(engine)
    stumbling = Stumbling(directory, ledger, Quarantine(tmp_path / "quarantine.jsonl"))
    loop, done = asyncio.get_running_loop(), asyncio.Event()
    keeper = IngestLoop(
        stumbling,
        ledger,
        every=timedelta(milliseconds=1),
        keep=timedelta(days=10**6),  # before the calendar
        report_reachable=lambda up: loop.call_soon_threadsafe(done.set),
    )
    background, stop = Background(failures.append, pauses=(0.0,)), asyncio.Event()
    task = background.start("ledger", lambda: keeper.run(stop), stop)
    await done.wait()
    stop.set()
    await task

    assert 1 == ledger.totals([], UsageFilter())[0].requests
    assert 3 == len(failures) == background.states["ledger"].failures
    assert background.states["ledger"].is_running
    engine.dispose()


# --- a ledger of an earlier version

RUN = ("run", "run_parent")
SEARCHES = ("searches", "search_cost")
LATER = ("guardrails", "session", "explanation", "held", "input_image", "output_image")


@pytest.mark.parametrize(
    ("version", "absent", "name"),
    [
        ("0002", ("response_model", *RUN, *SEARCHES, *LATER), "response_model"),
        ("0003", (*RUN, *SEARCHES, *LATER), "run"),
        ("0004", (*SEARCHES, *LATER), "run_parent"),
    ],
)
def test_a_ledger_of_an_earlier_version_gets_its_columns(
    tmp_path: Path, version: str, absent: tuple[str, ...], name: Dimension
) -> None:
    url = f"sqlite:///{tmp_path}/edge.db"
    engine = database.reach(url)
    config = AlembicConfig()
    config.set_main_option("script_location", str(Path(database.__file__).parent / "migrations"))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, version)
        values = {n: v for n, v in msgspec.structs.asdict(GOOD).items() if n not in absent}
        old = table("usage", *map(column, (*values, "day")))
        connection.execute(insert(old), {**values, "day": "2027-01-15"})
    engine.dispose()
    ledger = Ledger(open_database(url))
    searched = {"searches": 3, "search_cost": 30_000_000_000}
    ledger.add([msgspec.structs.replace(GOOD, exchange="new", **searched, **{name: "a name"})])
    (total,) = ledger.totals([], UsageFilter())

    assert (3, Decimal("0.03")) == (total.searches, total.search_cost)
    assert [(None, 1), ("a name", 1)] == [
        (total.by[name], total.requests) for total in ledger.totals([name], UsageFilter())
    ]
    ledger.close()


def test_the_migrations_make_the_tables_of_the_code(engine: Engine) -> None:
    """An index of the code that no migration makes would exist only in tests."""
    found = inspect(engine)

    assert {c.name for c in usage.columns} == {c["name"] for c in found.get_columns("usage")}
    assert {i.name for i in usage.indexes} == {i["name"] for i in found.get_indexes("usage")}
