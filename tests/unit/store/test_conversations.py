"""Conversations in the ledger: the runs and sessions with the newest requests, page by page."""

from __future__ import annotations

from decimal import Decimal

import pytest
from sqlalchemy import Engine

from edge_extproc.store import conversations as conversations_file
from edge_extproc.store.conversations import Conversation, Conversations
from edge_extproc.store.journal import LedgerRow
from edge_extproc.store.ledger import Ledger, LedgerPosition, UsageFilter

NOW_MS = 1_800_000_000_000


def row(exchange: str, at: int, run: str | None = None, session: str | None = None, **more: object) -> LedgerRow:
    fields = {"outcome": "ok", "tenant": "acme", "cost": 1_000_000_000_000, **more}
    return LedgerRow(exchange, NOW_MS + at, 5, run=run, session=session, **fields)  # type: ignore[arg-type]


def pages(found: Conversations, most: int, tenant: str | None = None) -> list[list[str]]:
    names, before = [], None
    while True:
        some, before = found.newest("run", tenant, before, most)
        names.append([each.id for each in some])
        if before is None:
            return names


def test_a_conversation_has_the_sums_of_its_requests(engine: Engine) -> None:
    Ledger(engine).add(
        [
            row("1", 1, "a", input=5, cache_read=2),
            row("2", 3, "a", outcome="caller_left", output=7, unpriced=True, cost=None),
            row("3", 2, "b", session="s"),
            row("4", 9),
        ]
    )
    found, last = Conversations(engine).newest("run", None, None, 10)
    (by_session,), _ = Conversations(engine).newest("session", None, None, 10)

    assert ["a", "b"] == [each.id for each in found]
    assert None is last
    tokens = {**dict.fromkeys(found[0].tokens, 0), "input": 5, "cache_read": 2, "output": 7}
    assert Conversation("run", "a", "acme", NOW_MS + 1, NOW_MS + 3, 2, 1, tokens, Decimal(1), 1) == found[0]
    assert ("session", "s", 1) == (by_session.kind, by_session.id, by_session.requests)


@pytest.mark.parametrize("most", [1, 2, 3, 50])
def test_each_conversation_is_on_one_page(engine: Engine, most: int) -> None:
    # Five conversations whose requests alternate; some begin in the same millisecond.
    Ledger(engine).add([row(f"{n:03}", n // 3, f"run-{n % 5}") for n in range(100)])
    found = pages(Conversations(engine), most)

    assert ["run-4", "run-3", "run-2", "run-1", "run-0"] == [name for page in found for name in page]
    assert all(len(page) <= most for page in found)


def test_a_page_reads_a_bounded_number_of_rows(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conversations_file, "_MOST_SCANNED", 10)
    Ledger(engine).add([row(f"{n:03}", n, "long" if n < 25 else f"run-{n}") for n in range(28)])
    found = pages(Conversations(engine), 50)

    assert [["run-27", "run-26", "run-25", "long"], [], []] == found


def test_a_tenant_has_its_own_runs(engine: Engine) -> None:
    Ledger(engine).add(
        [row("1", 1, "same"), row("2", 2, "same", tenant="umbrella"), row("3", 3, "b", tenant="umbrella")]
    )
    everybody, _ = Conversations(engine).newest("run", None, None, 10)
    own, _ = Conversations(engine).newest("run", "acme", None, 10)

    assert [("b", "umbrella", 1), ("same", "umbrella", 1), ("same", "acme", 1)] == [
        (each.id, each.tenant, each.requests) for each in everybody
    ]
    assert [("same", "acme")] == [(each.id, each.tenant) for each in own]
    assert [] == Conversations(engine).newest("run", "nobody", None, 10)[0]
    assert ([], None) == Conversations(engine).newest("run", None, LedgerPosition(NOW_MS, "0"), 10)


def test_requests_are_filtered_and_summed_by_session(engine: Engine) -> None:
    ledger = Ledger(engine)
    ledger.add([row("1", 1, session="s"), row("2", 2, session="t"), row("3", 3)])

    assert ["1"] == [each["exchange"] for each in ledger.rows(UsageFilter(session="s"))]
    assert {("s", 1), ("t", 1), (None, 1)} == {
        (each.by["session"], each.requests) for each in ledger.totals(["session"], UsageFilter())
    }
