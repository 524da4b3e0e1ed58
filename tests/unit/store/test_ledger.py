"""The ledger and the journals that feed it, on SQLite and, where there is one, on PostgreSQL."""

from __future__ import annotations

import csv
import io
import json
import os
import random
import resource
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import settlements
from hypothesis import given
from hypothesis import strategies as st
from settlements import settlement
from sqlalchemy import Engine, event

from edge_extproc.errors import ConfigError, StartError
from edge_extproc.model.usage import Usage
from edge_extproc.store.database import open_database, tables_of
from edge_extproc.store.journal import Journal, LedgerRow, dollars, encode_row, pico, read, row_of, segments
from edge_extproc.store.ledger import Ingest, Ledger, LedgerPosition, UsageFilter, as_csv, as_json_lines
from edge_extproc.store.quarantine import Quarantine

SETTLED = settlement(
    exchange_id="x1",
    started_at=1_800_000_000.0,
    duration=1.5,
    overhead=0.001,
    tenant="acme",
    team="search",
    user="ann",
    key_id="acme-1",
    operation="chat",
    dialect="openai_chat",
    model="small",
    provider="openai",
    upstream_model="gpt-small",
    attempts=1,
    usage=Usage(input=10, cache_read=5, output=7, reasoning=3),
    cost=Decimal("0.000018750000"),
)


def journal(directory: Path, **options: int) -> Journal:
    return Journal(directory, "worker-0", on_error=_fail, **options)


def ingest_of(directory: Path, engine: Engine) -> Ingest:
    return Ingest(directory, Ledger(engine), Quarantine(directory.parent / "quarantine.jsonl"))


def _fail(error: OSError) -> None:
    raise AssertionError from error


def test_a_settled_exchange_becomes_one_row_with_its_exact_cost(engine: Engine, tmp_path: Path) -> None:
    book, ledger = journal(tmp_path / "journal"), Ledger(engine)
    book.write(SETTLED)

    assert 1 == ingest_of(tmp_path / "journal", engine).run()
    (total,) = ledger.totals(["tenant", "model"], UsageFilter())
    assert {"tenant": "acme", "model": "small"} == total.by
    assert Decimal("0.00001875") == total.cost
    assert {"input": 10, "cache_read": 5, "output": 7, "reasoning": 3} == {n: c for n, c in total.tokens.items() if c}
    book.close()


def test_what_was_read_already_is_not_counted_twice(engine: Engine, tmp_path: Path) -> None:
    book, ledger = journal(tmp_path / "journal"), Ledger(engine)
    book.write(SETTLED)
    ingest_of(tmp_path / "journal", engine).run()
    book.write(replace(SETTLED, exchange_id="x2"))

    # A reader that was killed begins anew.
    assert 1 == ingest_of(tmp_path / "journal", engine).run()
    assert 2 == ledger.totals([], UsageFilter())[0].requests
    book.close()


def test_a_segment_goes_only_when_its_writer_is_done_and_all_of_it_is_kept(engine: Engine, tmp_path: Path) -> None:
    book = journal(tmp_path / "journal", segment_bytes=1)
    ingest = ingest_of(tmp_path / "journal", engine)
    for n in range(3):
        book.write(replace(SETTLED, exchange_id=f"x{n}"))

    assert 3 == len(segments(tmp_path / "journal"))
    assert 3 == ingest.run()
    assert 1 == len(segments(tmp_path / "journal"))
    book.close()
    ingest.run()
    assert [] == segments(tmp_path / "journal")


RUNS = [
    ("job", None, "acme"),
    ("task", "job", "acme"),
    ("sub", "task", "acme"),
    ("other", None, "acme"),
    (None, None, "acme"),
    ("task", None, "umbrella"),
    # These two are a part of each other.
    ("left", "right", "umbrella"),
    ("right", "left", "umbrella"),
]


@pytest.mark.parametrize(
    ("where", "found"),
    [
        (UsageFilter(run="job"), {"job", "sub", "task"}),
        (UsageFilter(run="task", tenant="acme"), {"sub", "task"}),
        (UsageFilter(run="task", tenant="umbrella"), {"task"}),
        (UsageFilter(run="right"), {"left", "right"}),
        (UsageFilter(run="none"), set()),
        (UsageFilter(run="job", tenant="umbrella"), set()),
    ],
)
def test_a_report_of_a_run_has_the_runs_that_are_a_part_of_it(
    engine: Engine, where: UsageFilter, found: set[str]
) -> None:
    ledger = Ledger(engine)
    made = [
        row_of(replace(SETTLED, exchange_id=f"x{n}", run=run, run_parent=parent, tenant=tenant))
        for n, (run, parent, tenant) in enumerate(RUNS)
    ]
    ledger.add([row for row in made if row is not None])

    totals = ledger.totals(["run"], where)
    assert found == {total.by["run"] for total in totals}
    assert len(found) == sum(total.requests for total in totals)
    assert found == {row["run"] for row in ledger.rows(where)}


def test_usage_is_summed_by_run_and_by_its_parent(engine: Engine) -> None:
    ledger = Ledger(engine)
    made = [
        row_of(replace(SETTLED, exchange_id=f"x{n}", run=run, run_parent=parent))
        for n, (run, parent, _) in enumerate([*RUNS[:2], *RUNS[:2]])
    ]
    ledger.add([row for row in made if row is not None])

    sums = {
        (total.by["run"], total.by["run_parent"]): total.requests
        for total in ledger.totals(["run", "run_parent"], UsageFilter())
    }
    assert {("job", None): 2, ("task", "job"): 2} == sums


def test_requests_of_nobody_are_not_kept() -> None:
    assert row_of(replace(SETTLED, tenant=None)) is None


def test_unpriced_is_not_free(engine: Engine) -> None:
    ledger = Ledger(engine)
    rows = [row_of(SETTLED), row_of(replace(SETTLED, exchange_id="x2", cost=None, unpriced=True))]
    ledger.add([row for row in rows if row is not None])

    (total,) = ledger.totals([], UsageFilter())
    assert (2, 1, Decimal("0.00001875")) == (total.requests, total.unpriced, total.cost)


@pytest.mark.parametrize("operation", ["batch", "background"])
def test_the_rows_of_a_batch_add_up_and_are_no_requests(engine: Engine, operation: str) -> None:
    batch = replace(SETTLED, operation=operation, usage=None)
    charge, credit = (
        replace(batch, exchange_id="b.charge0", cost=Decimal(7), booking="charge"),
        replace(batch, exchange_id="b.credit0", cost=Decimal(-7), booking="credit"),
    )
    used = replace(SETTLED, operation=operation, exchange_id="b.usage0", cost=Decimal("2.5"), booking="usage")
    ledger = Ledger(engine)
    rows = [row for row in map(row_of, (charge, credit, used, used)) if row is not None]
    ledger.add(rows[:3])
    ledger.add(rows)

    (total,) = ledger.totals([], UsageFilter())
    assert (0, Decimal("2.5"), 25, 0) == (total.requests, total.cost, sum(total.tokens.values()), total.unpriced)
    assert [2_500_000] == [each.micro_dollars for each in ledger.spent(0, 2_000_000_000_000)]


def test_only_a_batch_has_a_negative_cost() -> None:
    row = row_of(replace(SETTLED, cost=Decimal(-7)))

    assert row is not None
    assert (None, True) == (row.cost, row.unpriced)


def test_sums_do_not_overflow(engine: Engine) -> None:
    row = row_of(replace(SETTLED, cost=Decimal(9_000_000)))
    assert row is not None
    ledger = Ledger(engine)
    ledger.add([_named(row, f"x{n}") for n in range(20)])

    assert Decimal(180_000_000) == ledger.totals([], UsageFilter())[0].cost


def _named(row: LedgerRow, exchange: str) -> LedgerRow:
    import msgspec

    return msgspec.structs.replace(row, exchange=exchange)


def test_totals_keep_to_the_filter_and_the_order(engine: Engine) -> None:
    ledger = Ledger(engine)
    settled = [
        replace(SETTLED, exchange_id="a", tenant="umbrella"),
        replace(SETTLED, exchange_id="b", outcome="upstream_error", cost=None, usage=None),
        replace(SETTLED, exchange_id="c", started_at=SETTLED.started_at + 86_400, cache="hit", saved=Usage(input=4)),
    ]
    ledger.add([row for each in settled if (row := row_of(each)) is not None])

    days = ledger.totals(["day"], UsageFilter(tenant="acme"))
    assert [("2027-01-15", 1, 1, 0), ("2027-01-16", 1, 0, 1)] == [
        (t.by["day"], t.requests, t.failed, t.cache_hits) for t in days
    ]
    assert 4 == days[1].saved_tokens
    assert [] == ledger.totals(["day"], UsageFilter(tenant="nobody"))
    assert 1 == ledger.totals([], UsageFilter(first_day="2027-01-16"))[0].requests
    with pytest.raises(ValueError, match="no dimension 'shoe_size'; have tenant"):
        ledger.totals(["shoe_size"], UsageFilter())  # type: ignore[list-item]


def test_old_rows_are_forgotten(engine: Engine) -> None:
    ledger = Ledger(engine)
    row = row_of(SETTLED)
    assert row is not None
    ledger.add([row])

    assert 0 == ledger.delete_before("2027-01-15")
    assert 1 == ledger.delete_before("2027-01-16")


def test_exports_hold_every_row_once_in_order_and_no_formula(engine: Engine) -> None:
    ledger = Ledger(engine)
    rows = [
        row_of(replace(SETTLED, exchange_id=f"x{n:04}", user="=1+1", started_at=SETTLED.started_at + n // 7))
        for n in range(2100)
    ]
    ledger.add([row for row in rows if row is not None])

    lines = [json.loads(line) for line in as_json_lines(ledger.rows(UsageFilter()))]
    table = list(csv.DictReader(io.StringIO("".join(as_csv(ledger.rows(UsageFilter()))))))
    expected = [f"x{n:04}" for n in range(2100)]
    assert expected == [line["exchange"] for line in lines]
    assert expected == [line["exchange"] for line in table]
    assert "0.00001875" == lines[0]["cost"] == table[0]["cost"]
    assert "'=1+1" == table[0]["user"]


def test_a_torn_line_ends_its_segment_and_spoils_no_other(engine: Engine, tmp_path: Path) -> None:
    book = journal(tmp_path / "journal")
    book.write(SETTLED)
    book.close()
    (path,) = segments(tmp_path / "journal")
    with path.open("ab") as file:
        file.write(b'{"exchange":"x2","sta')
    ingest = ingest_of(tmp_path / "journal", engine)

    assert (1, 1) == (ingest.run(), ingest.quarantine.rows)
    assert ['{"exchange":"x2","sta'] == [each.line for each in ingest.quarantine.entries(None, 9)]
    assert [] == segments(tmp_path / "journal")


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """A write beyond this size fails, as on a full disk: it writes what fits, or nothing."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("room", [0, 20])
def test_rows_of_a_full_disk_wait_for_room(engine: Engine, tmp_path: Path, room: int) -> None:
    errors: list[OSError] = []
    book = Journal(tmp_path / "journal", "worker-0", on_error=errors.append)
    book.write(replace(SETTLED, exchange_id="x0"))
    with files_of_at_most(room):
        for n in (1, 2):
            book.write(replace(SETTLED, exchange_id=f"x{n}"))
    book.write(replace(SETTLED, exchange_id="x3"))
    book.close()
    ingest_of(tmp_path / "journal", engine).run()

    assert ["x0", "x1", "x2", "x3"] == sorted(str(row["exchange"]) for row in Ledger(engine).rows(UsageFilter()))
    assert 1 == len(errors)


def test_rows_that_wait_are_written_at_the_end(engine: Engine, tmp_path: Path) -> None:
    book = Journal(tmp_path / "journal", "worker-0", on_error=lambda _: None)
    with files_of_at_most(0):
        book.write(SETTLED)
    book.close()

    assert 1 == ingest_of(tmp_path / "journal", engine).run()


def test_the_oldest_rows_are_lost_and_reported_if_too_many_wait(engine: Engine, tmp_path: Path) -> None:
    errors: list[OSError] = []
    row = row_of(SETTLED)
    assert row is not None
    length = len(encode_row(row)) + 1
    book = Journal(tmp_path / "journal", "worker-0", on_error=errors.append, waiting_bytes=2 * length)
    with files_of_at_most(0):
        for n in range(5):
            book.write(replace(SETTLED, exchange_id=f"{SETTLED.exchange_id[:-1]}{n}"))
    book.close()
    ingest_of(tmp_path / "journal", engine).run()

    assert ["3", "4"] == sorted(str(row["exchange"])[-1] for row in Ledger(engine).rows(UsageFilter()))
    assert 1 + 3 == len(errors)


@given(st.lists(st.integers(1, 200), min_size=1, max_size=30), st.integers(1, 500))
def test_portions_do_not_matter(lengths: list[int], most: int) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as name:
        book = journal(Path(name))
        for n, length in enumerate(lengths):
            book.write(replace(SETTLED, exchange_id=f"x{n}", user="u" * length))
        book.close()
        (path,) = segments(Path(name))
        found, start, is_last = [], 0, False
        while not is_last:
            portion = read(path, start, most)
            found += [row.exchange for row in portion.rows]
            start, is_last = portion.end, portion.is_last

        assert [f"x{n}" for n in range(len(lengths))] == found


@given(st.decimals(min_value=0, max_value=10**6, places=12))
def test_money_is_exact_to_twelve_places(amount: Decimal) -> None:
    assert amount == dollars(pico(amount))


_WORKER = textwrap.dedent(
    """
    import sys
    from pathlib import Path
    from edge_extproc.store.journal import Journal
    from settlements import settlement

    def fail(error): raise error

    book = Journal(Path(sys.argv[1]), "worker-0", on_error=fail, segment_bytes=2000)
    n = 0
    while True:
        name = f"{sys.argv[2]}-{n}"
        book.write(settlement(exchange_id=name, started_at=1.8e9, tenant="acme"))
        sys.stdout.write(name + "\\n")
        sys.stdout.flush()
        n += 1
    """
)
_READER = textwrap.dedent(
    """
    import sys
    from pathlib import Path
    from edge_extproc.store.database import open_database
    from edge_extproc.store.ledger import Ingest, Ledger
    from edge_extproc.store.quarantine import Quarantine

    directory = Path(sys.argv[1])
    ingest = Ingest(directory, Ledger(open_database(sys.argv[2])), Quarantine(directory / "quarantine.jsonl"))
    print("up", flush=True)
    while True:
        ingest.run()
    """
)


def test_nothing_settled_is_lost_or_counted_twice_when_all_are_killed_at_any_moment(tmp_path: Path) -> None:
    directory, url = tmp_path / "journal", f"sqlite:///{tmp_path}/edge.db"
    chance = random.Random(7)
    told: set[str] = set()
    for life in range(4):
        reader = _run(_READER, str(directory), url)
        assert "up\n" == _line(reader)
        worker = _run(_WORKER, str(directory), str(life))
        lines = [_line(worker) for _ in range(chance.randrange(50, 400))]
        assert all(lines), "the worker ended by itself"
        for process in chance.sample((reader, worker), 2):
            process.send_signal(signal.SIGKILL)
        assert worker.stdout is not None
        # Its last line may be torn; what it wrote down before is not.
        told.update(line.strip() for line in (*lines, *worker.stdout) if line.endswith("\n"))
        for process in (reader, worker):
            process.wait()
            assert process.stdout is not None
            process.stdout.close()
    ledger = Ledger(open_database(url))
    Ingest(directory, ledger, Quarantine(tmp_path / "quarantine.jsonl")).run()

    kept = [row["exchange"] for row in ledger.rows(UsageFilter())]
    assert len(set(kept)) == len(kept)
    assert told <= set(kept)
    # One more a life at most: settled and killed before it could say so.
    assert len(kept) <= len(told) + 4
    assert [] == segments(directory)
    ledger.close()


def _run(program: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", program, *arguments],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(settlements.__file__).parent)},
    )


def _line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline()


def test_a_database_is_migrated_once_and_opened_again(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/edge.db"
    open_database(url).dispose()
    engine = open_database(url)

    assert {"alembic_version", "usage"} <= tables_of(engine)
    engine.dispose()


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("no url", "store.database is not a database URL"),
        ("mysql://u:hunter2@h/d", "'mysql' is not supported; use sqlite or postgresql"),
        ("sqlite:////no/such/directory/edge.db", "the database cannot be used: OperationalError"),
    ],
)
def test_a_database_that_cannot_be_used_is_told_without_its_password(url: str, told: str) -> None:
    with pytest.raises((ConfigError, StartError), match=told) as found:
        open_database(url)

    assert "hunter2" not in str(found.value)


def _at(exchange: str, started_ms: int, tenant: str = "acme", **fields: object) -> LedgerRow:
    return LedgerRow(exchange, started_ms, 1, "ok", tenant, **fields)  # type: ignore[arg-type]


def test_a_day_begins_and_ends_at_midnight_in_utc(engine: Engine) -> None:
    ledger = Ledger(engine)
    midnight, day = 1_800_057_600_000, 86_400_000  # 2027-01-16
    ledger.add([_at(str(n), at) for n, at in enumerate((midnight - 1, midnight, midnight + day - 1, midnight + day))])
    where = UsageFilter(first_day="2027-01-16", last_day="2027-01-16")

    assert ["1", "2"] == [row["exchange"] for row in ledger.rows(where)]
    assert [{"day": "2027-01-16"}] == [total.by for total in ledger.totals(["day"], where)]


def test_the_newest_rows_come_first_and_in_pages(engine: Engine) -> None:
    ledger = Ledger(engine)
    # Two of them began in the same millisecond.
    ledger.add([_at("a", 1), _at("b", 2), _at("c", 2, "umbrella"), _at("d", 3, status=418, cost=10**12)])

    def names(where: UsageFilter, before: LedgerPosition | None, most: int = 9) -> list[str]:
        return [row["exchange"] for row in ledger.newest(where, before, most)]

    assert ["d", "c", "b", "a"] == names(UsageFilter(), None)
    assert ["d", "c"] == names(UsageFilter(), None, 2)
    assert ["b", "a"] == names(UsageFilter(), LedgerPosition(2, "c"))
    assert ["a"] == names(UsageFilter(), LedgerPosition(2, "b"))
    assert [] == names(UsageFilter(), LedgerPosition(1, "a"))
    assert ["d", "b", "a"] == names(UsageFilter(tenant="acme"), None)
    assert ["d"] == names(UsageFilter(status=418), None)
    assert "1" == ledger.newest(UsageFilter(), None, 1)[0]["cost"]


def test_one_row_is_found_by_its_exchange(engine: Engine) -> None:
    ledger = Ledger(engine)
    ledger.add([_at("a", 1), _at("b", 2)])
    row = ledger.row("b")

    assert row is not None
    assert ("b", 2) == (row["exchange"], row["started_ms"])
    assert ledger.row("c") is None


@pytest.mark.parametrize("tenant", [None, "acme"])
def test_the_newest_rows_are_found_by_an_index(tmp_path: Path, tenant: str | None) -> None:
    engine = open_database(f"sqlite:///{tmp_path}/edge.db")
    statements: list[tuple[str, Any]] = []
    event.listen(engine, "before_cursor_execute", lambda *seen: statements.append((seen[2], seen[3])))
    where = UsageFilter(tenant=tenant, first_day="2027-01-16", last_day="2027-01-16")
    Ledger(engine).newest(where, LedgerPosition(1, "a"), 50)
    statement, parameters = statements[-1]
    with engine.connect() as connection:
        plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters).all()
    engine.dispose()

    index = "usage_by_time" if tenant is None else "usage_by_tenant_time"
    assert f"USING INDEX {index} (" in plan[0][3]
    assert "started_ms<" in plan[0][3]
