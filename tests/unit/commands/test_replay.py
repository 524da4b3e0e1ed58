"""A replay of the ledger against a configuration: who would be refused or routed elsewhere, and what it would cost."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from edge_extproc.accounting import prices as price_table
from edge_extproc.commands.replay import ConfigJudge, ReplayReport, replay
from edge_extproc.config.load import parse
from edge_extproc.model.managed import EMPTY, ManagedBudget, ManagedKey, ManagedState, TakenOutProvider

START_MS = 1_800_000_000_000
CONFIG = """
auth: {pepper: a pepper for tests alone}
store: {}
callers:
  - tenant: acme
    keys: [{id: acme-1, key: edge-test-key-of-tenant-acme, team: search}]
  - {tenant: umbrella, models: [small], keys: [{id: umbrella-1, key: edge-test-key-of-tenant-umbrella}]}
providers:
  openai: {kind: openai, api_key: sk-1}
  anthropic: {kind: anthropic, api_key: sk-2}
prices:
  - {provider: openai, model: "*", input: 1, output: 2}
  - {provider: anthropic, model: "*", input: 10, output: 20}
models:
  small: [{provider: openai, model: gpt-4o-mini}]
  two: [{provider: openai, model: gpt-4o-mini}, {provider: anthropic, model: claude-haiku-4-5}]
  "gpt-*": [{provider: openai}]
"""


@pytest.fixture(scope="module")
def prices(tmp_path_factory: pytest.TempPathFactory) -> price_table.PriceTable:
    return price_table.load(price_table.compiled(tmp_path_factory.mktemp("prices")))


def judge(prices: price_table.PriceTable, *changes: tuple[str, str], managed: ManagedState = EMPTY) -> ConfigJudge:
    text = CONFIG
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    return ConfigJudge(parse(text, "edge.yaml", base=Path()), managed, prices)


def row(number: int = 0, **changes: Any) -> dict[str, Any]:
    """A million input tokens at openai: one dollar."""
    plain: dict[str, Any] = {
        **dict.fromkeys(("team", "user", "code", "cache", "run", "search_cost")),
        **dict.fromkeys(("cache_read", "cache_write", "cache_write_1h", "output", "reasoning"), 0),
        **dict.fromkeys(("input_audio", "output_audio", "input_image", "output_image"), 0),
        "exchange": f"e{number}",
        "started_ms": START_MS + number,
        "outcome": "ok",
        "tenant": "acme",
        "key": "acme-1",
        "operation": "chat",
        "dialect": "openai_chat",
        "model": "small",
        "provider": "openai",
        "upstream_model": "gpt-4o-mini",
        "attempts": 1,
        "stream": False,
        "input": 1_000_000,
        "cost": "1",
    }
    return plain | changes


def details(report: ReplayReport) -> list[tuple[str, str, int]]:
    return [(each.change, each.detail, each.requests) for each in report.groups]


def test_the_same_configuration_changes_nothing(prices: price_table.PriceTable) -> None:
    rows = [
        row(0),
        row(1, tenant="umbrella", key="umbrella-1"),
        row(2, model="two", provider="anthropic", upstream_model="claude-haiku-4-5", cost="10", attempts=2),
        row(3, model="gpt-*", upstream_model="gpt-5"),
        row(4, cache="hit", cost=None, provider=None, upstream_model=None),
        row(5, model=None, operation="passed"),
    ]
    report = replay(rows, judge(prices), judge(prices))

    assert (6, 6, 0, []) == (report.requests, report.replayed, report.unclear, report.groups)
    assert ("14", "14") == (report.cost_before, report.cost_after)


@pytest.mark.parametrize(
    ("change", "detail"),
    [
        (("tenant: acme", "tenant: other"), "there is no tenant acme"),
        (("id: acme-1", "id: acme-2"), "there is no key acme-1"),
        (("team: search}", "team: search, disabled: true}"), "the key acme-1 is disabled or revoked"),
        (("team: search}", "team: search, expires: 2020-01-01T00:00:00Z}"), "the key acme-1 has expired"),
        (("  small: [", "  tiny: ["), "the model small is not configured, or not for this caller"),
        (("tenant: acme\n", "tenant: acme\n    models: [two]\n"), "the model small is not configured"),
        (("team: search}", "team: search, policy: {models: [two]}}"), "small"),
        (("team: search}", "team: search, policy: {providers: [anthropic]}}"), "small"),
        (("team: search}", "team: search, limits: {dollars_per_day: 0.5}}"), "the limit dollars per day of key acme-1"),
    ],
)
def test_who_would_be_refused_is_named_with_the_reason(
    prices: price_table.PriceTable, change: tuple[str, str], detail: str
) -> None:
    report = replay([row()], judge(prices, change), judge(prices))
    (group,) = report.groups

    assert ("refused", "acme", "acme-1", "small", 1) == (*(group.change, group.tenant, group.key, group.model), 1)
    assert detail in group.detail
    assert (1, "1", "0", "1") == (report.refused, report.cost_before, report.cost_after, report.saved_by_refusals)


def test_a_budget_refuses_what_is_over_it_and_begins_anew_with_its_window(prices: price_table.PriceTable) -> None:
    hour = 3_600_000
    rows = [row(n * hour // 2) for n in range(4)]
    changed = judge(prices, ("team: search}", "team: search, limits: {dollars_per_hour: 1}}"))
    # 1_800_000_000 is the beginning of an hour.
    report = replay(rows, changed, judge(prices))

    assert [("refused", "the limit dollars per hour of key acme-1", 2)] == details(report)


def test_limits_of_star_and_of_the_keys_team_count_each_holder(prices: price_table.PriceTable) -> None:
    teams = "tenant: acme\n    teams: [{name: '*', limits: {requests_per_minute: 2}}]\n"
    rows = [row(n, team="of before") for n in range(3)]
    report = replay(rows, judge(prices, ("tenant: acme\n", teams)))

    assert [("refused", "the limit requests per minute of team search", 1)] == details(report)


def test_a_soft_limit_refuses_nothing(prices: price_table.PriceTable) -> None:
    soft = ("team: search}", "team: search, limits: {dollars_per_day: 0.5, mode: soft}}")

    assert 0 == replay([row()], judge(prices, soft)).refused


def test_other_candidates_move_requests_and_change_their_cost(prices: price_table.PriceTable) -> None:
    moved = (
        "small: [{provider: openai, model: gpt-4o-mini}]",
        "small: [{provider: anthropic, model: claude-haiku-4-5}]",
    )
    report = replay([row(n) for n in range(3)], judge(prices, moved), judge(prices))

    assert [("elsewhere", "openai (gpt-4o-mini) → anthropic (claude-haiku-4-5)", 3)] == details(report)
    assert ("3", "30") == (report.cost_before, report.cost_after)


def test_a_new_order_moves_what_the_first_candidate_served(prices: price_table.PriceTable) -> None:
    pair = ("{provider: openai, model: gpt-4o-mini}, {provider: anthropic, model: claude-haiku-4-5}",) * 2
    turned = (pair[0], "{provider: anthropic, model: claude-haiku-4-5}, {provider: openai, model: gpt-4o-mini}")
    rows = [
        row(0, model="two"),
        # After a failure of the first candidate: nobody knows whether the new first one would have failed.
        row(1, model="two", provider="anthropic", upstream_model="claude-haiku-4-5", cost="10", attempts=2),
    ]
    report = replay(rows, judge(prices, turned), judge(prices))

    assert [("elsewhere", "openai (gpt-4o-mini) → anthropic (claude-haiku-4-5)", 1)] == details(report)
    assert ("11", "20") == (report.cost_before, report.cost_after)


def test_a_strategy_by_chance_moves_only_what_has_no_candidate_any_more(prices: price_table.PriceTable) -> None:
    pair = "  two: [{provider: openai, model: gpt-4o-mini}, {provider: anthropic, model: claude-haiku-4-5}]"
    spread = pair.replace("two: [", "two: {strategy: round_robin, candidates: [") + "}"
    rows = [row(n, model="two") for n in range(4)]

    assert 0 == replay(rows, judge(prices, (pair, spread)), judge(prices)).elsewhere


def test_other_prices_and_unknown_ones(prices: price_table.PriceTable) -> None:
    dearer = judge(prices, ('openai, model: "*", input: 1,', 'openai, model: "*", input: 3,'))
    moved = (
        ("small: [{provider: openai, model: gpt-4o-mini}]", "small: [{provider: own, model: secret-model}]"),
        (
            "providers:\n",
            "providers:\n  own: {kind: openai_compatible, base_url: 'https://own.example/v1', api_key: k}\n",
        ),
    )
    unpriced = replay([row()], judge(prices, *moved), judge(prices))

    assert "3" == replay([row()], dearer, judge(prices)).cost_after
    assert (1, 1, "0") == (unpriced.unpriced, unpriced.elsewhere, unpriced.cost_after)


def test_what_the_configuration_in_force_would_refuse_too_is_unclear(prices: price_table.PriceTable) -> None:
    rows = [row(0, key="gone"), row(1, model="gpt-*", upstream_model=None), row(2, outcome="rejected")]
    report = replay(rows, judge(prices), judge(prices))

    assert (2, 0, 2, []) == (report.requests, report.replayed, report.unclear, report.groups)
    assert 1 == replay(rows[:1], judge(prices)).refused


def test_keys_budgets_and_providers_of_the_api_count(prices: price_table.PriceTable) -> None:
    key = ManagedKey("made", "0" * 64, "acme", None, None, ("two",), (), None)
    managed = ManagedState(
        keys=(key,),
        revoked=("umbrella-1",),
        budgets=(ManagedBudget("acme", "key", "acme-1", {"requests_per_minute": 1}),),
        taken_out=(TakenOutProvider("anthropic", None),),
    )
    rows = [
        row(0, key="made"),
        row(1, key="made", model="two"),
        row(2, tenant="umbrella", key="umbrella-1"),
        row(3),
        row(4),
    ]
    found = {each.detail for each in replay(rows, judge(prices, managed=managed)).groups}

    assert 3 == len(found)
    assert {"the key umbrella-1 is disabled or revoked", "the limit requests per minute of key acme-1"} < found


def test_many_changes_are_cut_and_say_so(prices: price_table.PriceTable) -> None:
    report = replay([row(n, key=f"gone-{n}") for n in range(210)], judge(prices), cut=True)

    assert (200, 10, True, 210) == (len(report.groups), report.hidden_groups, report.cut, report.refused)
    assert report.unknown
    assert Decimal(report.saved_by_refusals) == 210
