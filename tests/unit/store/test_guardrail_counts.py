"""What guardrail rules did is in the ledger, and is counted by rule."""

from __future__ import annotations

from pathlib import Path

import pytest
from databases import sqlite_engine
from settlements import settlement

from edge_extproc.model.rule_hit import RuleHit
from edge_extproc.store.journal import row_of
from edge_extproc.store.ledger import GuardrailCount, Ledger, UsageFilter


def hit(rule: str, count: int, **more: str) -> RuleHit:
    settings = {"label": "email", "action": "mask", "mode": "enforce", "direction": "request", **more}
    return RuleHit(rule=rule, count=count, **settings)  # type: ignore[arg-type]  # literals of the test


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(sqlite_engine(tmp_path))


def add(ledger: Ledger, number: int, *hits: RuleHit, tenant: str = "acme") -> None:
    row = row_of(settlement(exchange_id=f"e{number}", tenant=tenant, guardrails=hits))
    assert row is not None
    ledger.add([row])


def test_the_counts_are_sums_by_rule_label_and_action(ledger: Ledger) -> None:
    add(ledger, 1, hit("pii", 2), hit("keys", 1, label="aws", action="block", mode="shadow"))
    add(ledger, 2, hit("pii", 2), hit("keys", 1, label="aws", action="block", mode="shadow"))
    add(ledger, 3, hit("pii", 1), hit("pii", 1, direction="reply"))
    add(ledger, 4)
    add(ledger, 5, hit("pii", 7), tenant="umbrella")

    assert ledger.guardrail_counts(UsageFilter(tenant="acme")) == [
        GuardrailCount("keys", "aws", "block", "shadow", "request", 2, 2),
        GuardrailCount("pii", "email", "mask", "enforce", "reply", 1, 1),
        GuardrailCount("pii", "email", "mask", "enforce", "request", 3, 5),
    ]
    ledger.close()


def test_a_row_has_the_hits_and_none_without_any(ledger: Ledger) -> None:
    add(ledger, 1, hit("b", 1), hit("a", 2))
    add(ledger, 2)

    rows = [row["guardrails"] for row in ledger.rows(UsageFilter())]
    assert rows[0] == (
        '[{"rule":"a","label":"email","action":"mask","mode":"enforce","direction":"request","count":2},'
        '{"rule":"b","label":"email","action":"mask","mode":"enforce","direction":"request","count":1}]'
    )
    assert rows[1] is None
    ledger.close()
