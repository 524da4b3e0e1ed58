"""How budgets of the admin API combine with the limits of the configuration."""

from __future__ import annotations

from config_kit import read

from edge_extproc.limits.base import LimitRule
from edge_extproc.limits.merge import merge_rules, tighter
from edge_extproc.model.managed import ManagedBudget

LIMITS = """
callers:
  - tenant: acme
    keys: [{id: a, key: {env: KEY}}]
    limits: {requests_per_minute: 10, mode: soft}
    users: [{name: "*", limits: {requests_per_minute: 5, dollars_per_day: 2}}]
"""


def rule(maximum: int, warn_at: int | None = None, *, hard: bool = True, local: bool = True) -> LimitRule:
    return LimitRule("acme", "tenant", "acme", "requests", "minute", maximum, warn_at=warn_at, hard=hard, local=local)


def test_a_rule_that_refuses_is_tighter_than_one_that_warns() -> None:
    assert rule(10, 3, local=False) == tighter(rule(10), rule(4, 3, hard=False, local=False))
    assert rule(4, 8) == tighter(rule(10, 8), rule(4))


def test_a_budget_adds_to_the_rules_of_everybody_and_never_widens_them() -> None:
    budget = ManagedBudget("acme", "user", "ann", {"requests_per_minute": 9, "dollars_per_day": 1})
    found = {(r.level, r.name, r.measure): r.maximum for r in merge_rules(read(LIMITS), (budget,))}

    assert {
        ("tenant", "acme", "requests"): 10,
        ("user", "*", "requests"): 5,
        ("user", "*", "dollars"): 2_000_000,
        ("user", "ann", "requests"): 5,
        ("user", "ann", "dollars"): 1_000_000,
    } == found
