"""The page of guardrails: what rules have found, by rule and by day, within the user's tenant."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from admin_kit import Api, open_api
from pages_kit import AdminPort
from settlements import settlement

from edge_extproc.model.rule_hit import RuleHit
from edge_extproc.store.journal import row_of

DAY = 24 * 3600


@pytest.fixture
def api() -> Iterator[Api]:
    found = open_api()
    yield found
    found.engine.dispose()


def hit(api: Api, name: str, tenant: str, *hits: RuleHit, days_ago: int = 0) -> None:
    at = time.time() - days_ago * DAY
    row = row_of(settlement(exchange_id=name, tenant=tenant, started_at=at, guardrails=hits))
    assert row is not None
    api.ledger.add([row])


async def test_findings_are_counted_by_rule_and_shadow_results_apart(api: Api) -> None:
    hit(api, "a", "acme", RuleHit("pii", "email", "mask", "enforce", "request", 2))
    hit(api, "b", "acme", RuleHit("pii", "email", "mask", "enforce", "request", 1))
    hit(api, "c", "acme", RuleHit("words", "falcon", "block", "shadow", "request", 1), days_ago=1)
    hit(api, "old", "acme", RuleHit("old", "email", "mask", "enforce", "request", 1), days_ago=20)
    page = await (await AdminPort(api).signed_in("eye")).page("/guards")

    assert "pii email mask enforce request 2 3" in page.text
    assert "words falcon block shadow : nothing was done request 1 1" in page.text
    assert "old email" not in page.text
    bars = [given for tag, given in page.elements if tag == "rect" and given["class"] == "bar"]
    parts = [given for tag, given in page.elements if tag == "rect" and given["class"] == "part"]
    # One call yesterday, in shadow mode, and two today.
    assert ([60.0, 120.0], [60.0]) == ([float(b["height"]) for b in bars], [float(p["height"]) for p in parts])


async def test_a_tenant_sees_its_findings_and_its_rules(api: Api) -> None:
    for tenant in ("acme", "umbrella"):
        hit(api, tenant, tenant, RuleHit(f"of-{tenant}", "email", "mask", "enforce", "request", 1))
    page = await (await AdminPort(api).signed_in("acme-eye")).page("/guards")

    assert ("of-acme email" in page.text, "umbrella" in page.text) == (True, False)
    assert "rule-of-all words request block shadow all tenants" in page.text
    assert "rule-of-acme words request block shadow acme" in page.text


async def test_history_has_each_day_and_counts_a_call_of_several_labels_once(api: Api) -> None:
    labels = [RuleHit("pii", label, "mask", "enforce", "request", 2) for label in ("email", "phone")]
    hit(api, "a", "acme", *labels)
    hit(api, "b", "acme", labels[0], days_ago=1)
    days = (await api.ask("acme-eye", "GET", "/guardrails/history")).json()

    assert [("pii", 1, 2), ("pii", 1, 4)] == [(each["rule"], each["calls"], each["findings"]) for each in days]
    assert days[0]["day"] < days[1]["day"]
    assert 403 == (await api.ask("acme-eye", "GET", "/guardrails/rules?tenant=umbrella")).status_code
