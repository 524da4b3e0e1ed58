"""Budgets that a store of limits has lost are rebuilt from the ledger."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import running_valkey as valkeys
from config_kit import read
from limits_kit import ANN, Now, limiter, until
from settlements import settlement
from sqlalchemy import Engine

from edge_extproc import registry
from edge_extproc.errors import PolicyUnavailable
from edge_extproc.gateway.limit_rebuild import LimitRebuilder
from edge_extproc.limits.base import (
    LimitStoreDown,
    LimitStoreSettings,
    ReservationRequest,
    WindowCounter,
    WindowCounters,
)
from edge_extproc.limits.counter_file import CounterFile
from edge_extproc.limits.limiter import PolicyLimiter
from edge_extproc.limits.merge import merge_rules
from edge_extproc.limits.rebuild import Spend, least_counters
from edge_extproc.limits.rule_table import RuleTable
from edge_extproc.limits.windows import Span, span
from edge_extproc.model.settlement import Settlement
from edge_extproc.model.usage import Usage
from edge_extproc.store.ingest_loop import IngestLoop
from edge_extproc.store.journal import Journal, row_of
from edge_extproc.store.ledger import CallerSpend, Ingest, Ledger
from edge_extproc.store.quarantine import Quarantine

# A day of Berlin begins two hours before one of UTC.
NOW = 1_814_400_000.0 + 3 * 3600
TEXT = """
callers:
  - tenant: acme
    limits: {dollars_per_month: 50, dollars_per_day: 9, time_zone: Europe/Berlin, requests_per_minute: 50}
    teams: [{name: research, limits: {dollars_per_day: 5}}]
    users: [{name: "*", limits: {dollars_per_hour: 20, unpriced: allow}}]
    keys: [{id: acme-1, key: {env: KEY}, team: research, user: ann}]
limiter: {assumed_price: {input: 1, output: 2}}
store: {}
"""


def fail(error: OSError) -> None:
    raise AssertionError from error


def spent(name: str, at: float, cost: str | None, **more: Any) -> Settlement:
    who = {"tenant": "acme", "team": "research", "user": "ann", "key_id": "acme-1", **more}
    return settlement(
        exchange_id=name,
        started_at=at,
        operation="chat",
        dialect="openai_chat",
        lane="raw",
        usage=Usage(input=600_000, cache_read=400_000, output=400_000, reasoning=100_000),
        cost=Decimal(cost) if cost is not None else None,
        unpriced=cost is None,
        **who,
    )


def test_the_ledger_sums_what_each_caller_has_spent_in_a_time(engine: Engine) -> None:
    ledger = Ledger(engine)
    rows = [
        spent("before", 999.999, "100"),
        spent("one", 1_000.0, "9000000"),
        spent("two", 1_999.999, "8999999.000000000001"),
        spent("unpriced", 1_500.0, None),
        spent("other", 1_500.0, "1", team=None, user="bob", key_id="acme-2"),
        spent("after", 2_000.0, "100"),
    ]
    ledger.add([row for row in map(row_of, rows) if row is not None])

    assert {
        # Budgets round each request up to a micro-dollar.
        CallerSpend("acme", "research", "ann", "acme-1", 17_999_999_000_001, 1_000_000, 500_000, 1),
        CallerSpend("acme", None, "bob", "acme-2", 1_000_000, 0, 0, 0),
    } == set(ledger.spent(1_000_000, 2_000_000))


def test_each_budget_gets_what_was_spent_in_its_window_by_those_it_is_for() -> None:
    table = RuleTable(merge_rules(read(TEXT)))
    asked: list[Span] = []

    def ledger(at: Span) -> list[Spend]:
        asked.append(at)
        return [
            Spend("acme", "research", "ann", "acme-1", at.end - at.start),
            Spend("acme", None, "bob", "acme-2", 1),
            Spend("other", None, None, None, 5),
        ]

    found = {key: amount for key, amount, _ in least_counters(table, ledger, NOW)}
    day, hour, here, month = (
        span("day", "UTC", NOW),
        span("hour", "UTC", NOW),
        span("day", "Europe/Berlin", NOW),
        span("month", "Europe/Berlin", NOW),
    )

    assert {day, hour, here, month} == set(asked)
    assert 4 == len(asked)
    assert {
        f"acme:tenant:acme:dollars:month:{month.start}": month.end - month.start + 1,
        f"acme:tenant:acme:dollars:day:{here.start}": here.end - here.start + 1,
        f"acme:team:research:dollars:day:{day.start}": 86_400,
        f"acme:user:ann:dollars:hour:{hour.start}": 3_600,
        f"acme:user:bob:dollars:hour:{hour.start}": 1,
    } == found


SEARCHED = Usage(input=1, output=1, searches=2)
UNSEEN = {"usage": Usage(input=5, output=5), "unseen": True, "estimated": True}
SETTLED: dict[str, dict[str, Any]] = {
    "priced": {"cost": Decimal("0.2500001")},
    "priced, whole": {"cost": Decimal("0.25")},
    "free": {"cost": Decimal(0)},
    "nothing was sent": {"lane": None, "usage": None, "cost": None},
    "nothing was seen": {**UNSEEN, "outcome": "caller_left", "cost": Decimal("0.1")},
    "nothing was seen, unpriced": {**UNSEEN, "outcome": "caller_left", "cost": None, "unpriced": True},
    "the usage is not known": {"usage": None, "cost": None, "unpriced": True},
    "the provider timed out": {"usage": None, "cost": None, "outcome": "upstream_error", "status": 504},
    "the usage is not plausible": {"usage": Usage(input=2**70), "cost": None, "unpriced": True},
    "searches without a price": {"usage": SEARCHED, "cost": None, "unpriced": True},
    "an assumed price": {"usage": Usage(input=333, output=333), "cost": None, "unpriced": True},
}


@pytest.mark.parametrize("how", SETTLED)
async def test_a_rebuilt_budget_is_what_it_was(tmp_path: Path, how: str) -> None:
    """A call that reserved a dollar, and ended in one of the ways in which budgets do not count its cost."""
    config = read(f"{TEXT}agent: {{state_dir: {tmp_path}, workers: 1}}\n")
    price = config.limiter.assumed_price
    by = limiter(*merge_rules(config), now=Now(NOW), assumed=(price.input, price.output))
    rules = by.rules(ANN)
    assert rules is not None
    with contextlib.closing(_ingest(tmp_path)) as ingest:
        ledger = ingest.ledger
        for number in range(3):
            await by.admit(str(number), rules, ReservationRequest(10, 1_000_000))
            who = {"tenant": "acme", "team": "research", "user": "ann", "key_id": "acme-1"}
            fields = {"operation": "chat", "lane": "raw", "usage": Usage(input=1, output=1)} | who | SETTLED[how]
            ended = settlement(exchange_id=str(number), started_at=NOW, **fields)
            held = by.held(ended)
            row = row_of(replace(ended, held=Decimal(held) / 1_000_000 if held is not None else None))
            assert row is not None
            ledger.add([row])
            by.settle(ended)
        rebuilder = LimitRebuilder(lambda: config, ingest, lambda: NOW)
        found = {key: amount for key, amount, _ in rebuilder.least() if amount}

    live = {key: amount for key, amount, _ in by.memory.counted(lambda key: ":dollars:" in key)() if amount}
    if how == "an assumed price":  # rounded up for each request
        assert live.keys() == found.keys()
        assert all(amount <= found[key] <= amount + 3 for key, amount in live.items())
    else:
        assert live == found
    assert bool(live) == (how not in ("free", "nothing was sent"))


# --- with a journal, a ledger and a Valkey


@pytest.fixture(scope="module")
def valkey() -> Iterator[valkeys.RunningValkey]:
    with valkeys.running() as server:
        yield server


@dataclass
class Gateway:
    """What a gateway has of these."""

    rebuilder: LimitRebuilder
    journal: Journal
    limiter: PolicyLimiter
    store: Any
    valkey: valkeys.RunningValkey

    async def call(self, cost: str, *, settle: bool = True) -> str:
        """A call that reserves a dollar. Returns its id."""
        name, rules = uuid.uuid4().hex, self.limiter.rules(ANN)
        assert rules is not None
        await self.limiter.admit(name, rules, ReservationRequest(10, 1_000_000))
        if settle:
            self.end(name, cost)
        return name

    def end(self, name: str, cost: str) -> None:
        ended = spent(name, NOW, cost)
        self.journal.write(ended)
        self.limiter.settle(ended)

    async def used(self) -> dict[str, int]:
        """Micro-dollars of each budget."""
        await until(lambda: self.limiter.unsettled == 0)
        return {f"{u.limit[1]} {u.limit[4]}": u.total for u in await self.limiter.uses() if u.limit[3] == "dollars"}

    def flush(self) -> None:
        self.valkey.command("FLUSHALL")


@pytest.fixture
async def gateway(valkey: valkeys.RunningValkey, tmp_path: Path) -> AsyncIterator[Gateway]:
    url = f"unix://{valkey.socket}"
    valkey.command("FLUSHALL")
    config = read(f"{TEXT}agent: {{state_dir: {tmp_path}}}\n".replace("assumed_price", f"url: '{url}', assumed_price"))
    journal = Journal(tmp_path / "journal", "worker-0", on_error=fail)
    with contextlib.closing(_ingest(tmp_path)) as ingest:
        stop = asyncio.Event()
        keeping = asyncio.create_task(ingest.run(stop))
        store = registry.load("limits", "redis").build(LimitStoreSettings(url, 5.0, rebuilt=True))
        by = limiter(*merge_rules(config), store=store, now=Now(NOW), down_seconds=0.01)
        by.start()
        yield Gateway(LimitRebuilder(lambda: config, ingest, lambda: NOW), journal, by, store, valkey)
        await by.close()
        stop.set()
        await keeping
    journal.close()


def _ingest(directory: Path) -> IngestLoop:
    from edge_extproc.store.database import open_database

    ledger = Ledger(open_database(f"sqlite:///{directory}/edge.db"))
    ingest = Ingest(directory / "journal", ledger, Quarantine(directory / "quarantine.jsonl"))
    return IngestLoop(ingest, ledger, every=timedelta(hours=1), keep=timedelta(days=400))


async def test_after_a_flush_nothing_is_admitted_until_the_budgets_are_what_they_were(gateway: Gateway) -> None:
    with pytest.raises(PolicyUnavailable):
        await gateway.call("1")
    await gateway.rebuilder.check(gateway.store)
    await until_admitted(gateway)
    for _ in range(3):
        await gateway.call("0.25")
    before = await gateway.used()
    gateway.flush()
    with pytest.raises(PolicyUnavailable):
        await gateway.call("1")
    with pytest.raises(LimitStoreDown, match="were lost"):
        await gateway.store.check_writable()
    await gateway.rebuilder.check(gateway.store)

    assert before == await gateway.used()
    assert 750_000 < before["tenant month"] <= 1_000_000
    await until_admitted(gateway)


async def until_admitted(gateway: Gateway) -> None:
    """One call that costs the quarter of a dollar."""
    async with asyncio.timeout(10):
        while True:
            try:
                await gateway.call("0.25")
            except PolicyUnavailable:
                await asyncio.sleep(0.01)
            else:
                return


async def test_a_call_that_was_in_progress_at_the_loss_is_counted_by_a_repetition(gateway: Gateway) -> None:
    await gateway.rebuilder.check(gateway.store)
    await until_admitted(gateway)
    name = await gateway.call("", settle=False)
    await gateway.used()
    gateway.flush()
    await gateway.rebuilder.check(gateway.store)
    gateway.end(name, "0.5")
    lost = await gateway.used()
    gateway.rebuilder._check_times = [0.0]
    await gateway.rebuilder.check(gateway.store)

    assert (250_000, 750_000) == (lost["tenant month"], (await gateway.used())["tenant month"])


async def test_counters_are_raised_and_never_lowered(gateway: Gateway) -> None:
    high, low = uuid.uuid4().hex, uuid.uuid4().hex
    later = 4_000_000_000
    await gateway.store.add([(high, 10, later), (low, 3, later)])
    await gateway.store.complete([(high, 5, later), (low, 5, later), ("new" + low, 7, later)])
    counters = [WindowCounter(key, "", 100, True, later, False) for key in (high, low, "new" + low)]
    found = await gateway.store.reserve("", WindowCounters(counters), [0, 0, 0], 0, 0, "charge")

    assert (10, 5, 7) == found.used


async def test_the_file_of_the_only_worker_is_made_again(gateway: Gateway, tmp_path: Path) -> None:
    config = read(f"{TEXT}agent: {{state_dir: {tmp_path}, workers: 1}}\n")
    alone = LimitRebuilder(lambda: config, gateway.rebuilder._ingest, lambda: NOW)
    await alone.restore_file()
    assert not config.counted_file.exists()
    gateway.journal.write(spent("one", NOW, "0.5"))
    await alone.restore_file()
    counted = CounterFile(config.counted_file, lambda error: None).read()

    assert {500_000} == {amount for _, amount, _ in counted}
    assert {"month", "day", "hour"} == {key.split(":")[4] for key, _, _ in counted}
    config.counted_file.write_bytes(b"kept")
    await alone.restore_file()
    assert b"kept" == config.counted_file.read_bytes()
