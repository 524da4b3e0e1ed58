"""How long the admin pages take with a large ledger: `python -m bench.pages [--rows N] [--database URL ...] [--flat]`.

It fills a new SQLite database, and the databases that are named (PostgreSQL, empty), with N rows of 30 days, and prints
the time of each page and of each filter and grouping with a rare and with a frequent value. The pages are rendered by
the application of the admin port in this process, so a time is that of the API, the database and the templates.

    usual    10,000 users of whom some 1,500 make some 20 requests a day
    --flat   each user makes some requests each day: sums of users have nearly as many groups as the ledger has rows

--settle compares the time to add rows with that of another checkout: `--settle DIRECTORY`, in alternating rounds.

For each page: the least, the median and the largest of some runs in milliseconds, and the median of this process's
processor time. SQLite runs in this process; PostgreSQL does not. Other work on the machine adds to all but the last.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx2
from sqlalchemy import make_url

from edge_extproc.pages.app import PAGES
from edge_extproc.store.database import open_database, reach
from edge_extproc.store.journal import LedgerRow, encode_row
from edge_extproc.store.ledger import Ledger

# The tests have the admin port in a process, and so it is made as the pages need it.
sys.path.append(str(Path(__file__).parents[1] / "tests"))
from admin_kit import Api, secret_of
from pages_kit import AdminPort

DAYS = 30
DAY_MS = 86_400_000
USERS, KEYS, TEAMS, TENANTS, MODELS, PROVIDERS = 10_000, 500, 40, 8, 12, 6
ACTIVE = 1_500
BATCH = 2_000
RUNS = 5
FAULTS = ((429, "rejected"), (500, "upstream_error"), (503, "upstream_error"), (499, "cancelled"))
# One row of the whole ledger has this value in the column of each filter.
RARE = "rare"
RARE_STATUS = 418
FILTERS = ("tenant", "team", "user", "key", "model", "response_model", "provider", "outcome", "status", "cache", "run")


def rows(count: int, *, is_flat: bool, last_day: date) -> Iterator[LedgerRow]:
    """The oldest first. The same for each call."""
    chance = random.Random(7)  # noqa: S311 - no secret
    start = int(datetime.combine(last_day, datetime.min.time(), UTC).timestamp() * 1000) - (DAYS - 1) * DAY_MS
    active: list[int] = []
    for number in range(count):
        if number % max(1, count // DAYS) == 0:
            # Some users are there each day, most on some days.
            active = [int(USERS * chance.random() ** 2.5) for _ in range(USERS * 3 if is_flat else ACTIVE)]
        user = active[int(len(active) * chance.random() ** 1.5)]
        model = (user + int(3 * chance.random() ** 2)) % MODELS if chance.random() < 0.6 else 0
        is_ok = chance.random() < 0.95
        status, outcome = (200, "ok") if is_ok else chance.choice(FAULTS)
        yield LedgerRow(
            exchange=f"{chance.getrandbits(128):032x}",
            started_ms=start + DAYS * DAY_MS * number // count,
            duration_ms=chance.randrange(200, 9000),
            outcome=outcome,
            tenant=f"tenant-{user % TENANTS}",
            status=status,
            team=f"team-{user % TEAMS}",
            user=f"user-{user:05}@example.com",
            # One key has a third of all requests.
            key="key-of-a-service" if user % 3 == 0 else f"key-{user % KEYS}",
            operation="chat",
            dialect="openai_chat",
            model=f"model-{model}",
            provider=f"provider-{model % PROVIDERS}",
            upstream_model=f"vendor/model-{model}",
            response_model=f"model-{model}-2027-01-01" if is_ok else None,
            attempts=1,
            stream=chance.random() < 0.5,
            cache=chance.choice(("hit", "miss", "miss", "bypass")),
            input=chance.randrange(100, 20_000),
            cache_read=chance.randrange(0, 5_000),
            output=chance.randrange(10, 2_000),
            cost=chance.randrange(10**8, 10**11),
            trace_id=f"{chance.getrandbits(128):032x}",
            run=f"run-{number // 100}" if number % 5 == 0 else None,
        )


def rare_row(last_day: date) -> LedgerRow:
    """It is among the oldest."""
    start = int(datetime.combine(last_day, datetime.min.time(), UTC).timestamp() * 1000) - (DAYS - 1) * DAY_MS
    values: dict[str, Any] = {name: RARE for name in FILTERS if name not in ("status", "tenant", "outcome")}
    return LedgerRow("rare", start + 1, 9, RARE, RARE, status=RARE_STATUS, **values)


def fill(url: str, count: int, *, is_flat: bool, last_day: date) -> float:
    """Returns the seconds."""
    engine = open_database(url)
    ledger = Ledger(engine)
    began = time.perf_counter()
    ledger.add([rare_row(last_day)])
    waiting: list[LedgerRow] = []
    for row in rows(count, is_flat=is_flat, last_day=last_day):
        waiting.append(row)
        if len(waiting) == BATCH:
            ledger.add(waiting)
            waiting.clear()
    ledger.add(waiting)
    seconds = time.perf_counter() - began
    if engine.dialect.name == "postgresql":
        # As autovacuum does soon.
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql("VACUUM ANALYZE")
    engine.dispose()
    return seconds


# --- the pages


def application(url: str) -> Any:
    """That of the tests: the whole admin port, without workers."""
    return AdminPort(Api(url)).app


def plain_pages() -> list[str]:
    """Each page without a filter, from the list of the pages themselves."""
    known = (path.replace("{exchange}", RARE) for method, path in PAGES if method == "GET")
    return [path for path in known if "{" not in path and not path.endswith(".csv")]


def questions(last_day: date) -> dict[str, list[str]]:
    """Paths by what they are about."""
    month = f"first_day={last_day - timedelta(days=DAYS - 1)}&last_day={last_day}"
    frequent = {
        "tenant": "tenant-0",
        "team": "team-0",
        "user": "user-00000@example.com",
        "key": "key-of-a-service",
        "model": "model-0",
        "response_model": "model-0-2027-01-01",
        "provider": "provider-0",
        "outcome": "ok",
        "status": "200",
        "cache": "miss",
        "run": "run-4999",
    }
    rare = dict.fromkeys(frequent, RARE) | {"status": str(RARE_STATUS)}
    of_tenant = [f"/requests?tenant=tenant-0&{name}={frequent[name]}" for name in FILTERS[1:]]
    dimensions = ("tenant", "team", "user", "key", "model", "response_model", "provider", "day", "outcome", "run")
    return {
        "each page": plain_pages(),
        "requests, rare": [f"/requests?{name}={value}" for name, value in rare.items()],
        "requests, frequent": [f"/requests?{name}={value}" for name, value in frequent.items()],
        "requests, of a tenant": of_tenant,
        "requests, no match": ["/requests?tenant=rare&model=model-0", "/requests?outcome=ok&status=418"],
        "money, 7 days": [f"/money?by={by}" for by in dimensions],
        "money, 30 days": [f"/money?by={by}&{month}" for by in dimensions],
        "money, 30 days, frequent": [
            f"/money?by={by}&{name}={frequent[name]}&{month}"
            for name in ("tenant", "team", "user", "key", "model", "provider")
            for by in ("user", "model")
        ],
        "money, 30 days, rare": [
            f"/money?by={by}&{name}={rare[name]}&{month}"
            for name in ("tenant", "user", "key", "model", "run")
            for by in ("user", "model")
        ],
    }


async def measure(url: str, last_day: date, runs: int) -> dict[str, dict[str, list[tuple[float, float]]]]:
    """Milliseconds of each run and of the processor, by group and path."""
    transport = httpx2.ASGITransport(app=application(url), client=("127.0.0.1", 50000))
    found: dict[str, dict[str, list[tuple[float, float]]]] = {}
    async with httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1:10001/ui", timeout=60) as client:
        form = await client.get("/sign-in")
        csrf = form.text.partition('name="csrf" value="')[2].partition('"')[0]
        answer = await client.post("/sign-in", data={"csrf": csrf, "token": secret_of("root")})
        assert answer.status_code == 303, answer.text
        for about, paths in questions(last_day).items():
            for path in paths:
                for _ in range(runs + 1):
                    began, used = time.perf_counter(), time.process_time()
                    answer = await client.get(path)
                    took = ((time.perf_counter() - began) * 1000, (time.process_time() - used) * 1000)
                    assert answer.status_code == 200, (path, answer.status_code, answer.text[:500])
                    found.setdefault(about, {}).setdefault(path, []).append(took)
                # The first run reads from the disk.
                del found[about][path][0]
    return found


# --- adding rows

_ADD = """
import sys, time
sys.path.insert(0, sys.argv[1])
from edge_extproc.store.database import open_database, reach
from edge_extproc.store.journal import LedgerRow, encode_row
from edge_extproc.store.ledger import Ledger
import msgspec
rows = [msgspec.json.decode(line, type=LedgerRow) for line in open(sys.argv[3], "rb")]
ledger = Ledger(open_database(sys.argv[2]))
size = int(sys.argv[4])
wall, cpu = time.perf_counter(), time.process_time()
for start in range(0, len(rows), size):
    ledger.add(rows[start : start + size])
print((time.perf_counter() - wall) / len(rows) * 1e6, (time.process_time() - cpu) / len(rows) * 1e6)
"""


def settle(other: Path, servers: Sequence[str], last_day: date, *, count: int, rounds: int) -> None:
    """Prints the time of a row, of this checkout and of the other one. Each run has a database of its own."""
    here = Path(__file__).parents[1]
    took: dict[tuple[str, int, str], list[tuple[float, float]]] = {}
    with tempfile.TemporaryDirectory(prefix="edge-bench-") as directory:
        file = Path(directory) / "rows"
        with file.open("wb") as lines:
            # As dense as a million in the days.
            for row in itertools.islice(rows(1_000_000, is_flat=False, last_day=last_day), count):
                lines.write(encode_row(row) + b"\n")
        for number in range(rounds):
            for size in (BATCH, 20):
                for name, checkout in (("this", here), ("other", other))[:: 1 if number % 2 else -1]:
                    new = f"settle_{number}_{size}_{name}"
                    for url in (f"sqlite:///{directory}/{new}.db", *(new_database(server, new) for server in servers)):
                        command = [sys.executable, "-c", _ADD, str(checkout), url, str(file), str(size)]
                        printed = subprocess.run(command, check=True, capture_output=True, text=True, cwd=checkout)
                        wall, cpu = map(float, printed.stdout.split())
                        took.setdefault((url.partition(":")[0], size, name), []).append((wall, cpu))
    for (kind, size, name), each in sorted(took.items()):
        walls, cpus = zip(*each, strict=True)
        print(
            f"{kind:<12} {size:>5} rows a transaction  {name:<6}"
            f"{statistics.median(walls):6.0f} µs a row, at least {min(walls):5.0f};"
            f"{statistics.median(cpus):6.0f} µs of its own processor time, at least {min(cpus):5.0f}"
        )


def new_database(server: str, name: str) -> str:
    engine = reach(server)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql(f"DROP DATABASE IF EXISTS {name}")
        connection.exec_driver_sql(f"CREATE DATABASE {name}")
    engine.dispose()
    return str(make_url(server).set(database=name))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--runs", type=int, default=RUNS)
    parser.add_argument("--database", action="append", default=[], help="the URL of an empty database")
    parser.add_argument("--directory", type=Path, help="where SQLite's database stays; one with rows is used")
    parser.add_argument("--flat", action="store_true")
    parser.add_argument("--settle", type=Path, help="another checkout")
    parser.add_argument("--json", type=Path, help="where the numbers go")
    options = parser.parse_args()
    last_day = datetime.now(UTC).date()
    if options.settle is not None:
        settle(
            options.settle.resolve(), options.database, last_day, count=min(options.rows, 20_000), rounds=options.runs
        )
        return
    with tempfile.TemporaryDirectory(prefix="edge-bench-") as temporary:
        directory = options.directory or Path(temporary)
        directory.mkdir(exist_ok=True, parents=True)
        results = {}
        for url in (f"sqlite:///{directory}/pages.db", *options.database):
            kind = url.partition(":")[0].partition("+")[0]
            engine = open_database(url)
            is_empty = Ledger(engine).row("rare") is None
            engine.dispose()
            if is_empty:
                seconds = fill(url, options.rows, is_flat=options.flat, last_day=last_day)
                print(f"{kind}: {options.rows:,} rows in {seconds:.0f} s")
            results[kind] = asyncio.run(measure(url, last_day, options.runs))
            show(kind, results[kind])
    if options.json is not None:
        options.json.write_text(json.dumps(results, indent=1) + "\n")


def show(kind: str, found: dict[str, dict[str, list[tuple[float, float]]]]) -> None:
    for about, paths in found.items():
        print(f"\n{kind}: {about}\n   least  median largest     CPU")
        for path, took in paths.items():
            walls, cpus = zip(*took, strict=True)
            shown = (min(walls), statistics.median(walls), max(walls), statistics.median(cpus))
            print("".join(f"{each:8.0f}" for each in shown), f" {path}")


if __name__ == "__main__":
    main()
