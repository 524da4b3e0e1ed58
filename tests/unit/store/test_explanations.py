"""Explanations of requests in the ledger: apart from the rows, and for a shorter time."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from settlements import settlement
from sqlalchemy import Engine, insert

from edge_extproc.model.explanation import ExplainedCandidate, Explanation
from edge_extproc.store.ingest_loop import IngestLoop
from edge_extproc.store.journal import Journal, LedgerRow, row_of, write_explanation
from edge_extproc.store.ledger import Ingest, Ledger, UsageFilter
from edge_extproc.store.quarantine import Quarantine
from edge_extproc.store.tables import explanations

DAY_MS = 24 * 3600 * 1000
NOW_MS = 1_800_000_000_000
SETTLEMENT = settlement(tenant="acme")
WHY = Explanation("token", strategy="failover", candidates=(ExplainedCandidate("openai", 'a "model" ☃'),))


@pytest.fixture
def ledger(engine: Engine) -> Iterator[Ledger]:
    return Ledger(engine)


def row(exchange: str, started_ms: int = NOW_MS, explanation: Explanation | None = WHY) -> LedgerRow:
    text = None if explanation is None else write_explanation(explanation)
    return LedgerRow(exchange, started_ms, 5, "ok", "acme", explanation=text)


def test_an_explanation_goes_through_the_journal_into_the_ledger(ledger: Ledger, tmp_path: Path) -> None:
    errors: list[OSError] = []
    journal = Journal(tmp_path / "journal", "worker-0", on_error=errors.append)
    journal.write(SETTLEMENT, WHY)
    journal.close()
    ingest = Ingest(tmp_path / "journal", ledger, Quarantine(tmp_path / "quarantine"))

    assert 1 == ingest.run()
    assert WHY == ledger.explanation(SETTLEMENT.exchange_id)
    assert ([], 0) == (errors, ingest.refused)
    assert [] == [each for each in ledger.rows(UsageFilter()) if "explanation" in each]


def test_a_row_without_an_explanation_has_none(ledger: Ledger) -> None:
    ledger.add([row("plain", explanation=None), row("why")])

    assert [None, WHY, None] == [ledger.explanation(name) for name in ("plain", "why", "nothing")]
    first = row_of(SETTLEMENT)
    assert first is not None
    assert first.explanation is None


def test_a_row_that_is_added_again_changes_nothing(ledger: Ledger) -> None:
    ledger.add([row("a"), row("b", explanation=None)])
    other = Explanation("key")

    assert 0 == ledger.add([row("a", explanation=other), row("b", explanation=other)])
    assert [WHY, None] == [ledger.explanation(name) for name in ("a", "b")]


def test_one_of_a_later_version_is_read_as_far_as_it_is_known(ledger: Ledger, engine: Engine) -> None:
    with engine.begin() as connection:
        for name, text in (("more", '{"caller": "key", "tomorrow": [1]}'), ("other", '{"caller": {"by": "key"}}')):
            connection.execute(insert(explanations).values(exchange=name, started_ms=1, explanation=text))

    assert [Explanation("key"), None] == [ledger.explanation(name) for name in ("more", "other")]


def test_explanations_are_deleted_before_their_rows(ledger: Ledger, tmp_path: Path) -> None:
    ledger.add([row(f"day-{n}", NOW_MS - n * DAY_MS) for n in range(10)])
    loop = IngestLoop(
        Ingest(tmp_path, ledger, Quarantine(tmp_path / "quarantine")),
        ledger,
        every=timedelta(seconds=1),
        keep=timedelta(days=400),
        keep_explanations=timedelta(days=3, hours=1),
        now=lambda: NOW_MS / 1000,
    )
    loop.run_once()

    assert [True] * 4 + [False] * 6 == [ledger.explanation(f"day-{n}") is not None for n in range(10)]
    assert 10 == len(list(ledger.rows(UsageFilter())))
