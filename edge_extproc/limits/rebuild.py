"""Computes the counters of budgets from what the ledger has, for a store that has lost them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeAlias

from ..model.principal import Principal
from .base import MAX_COUNT
from .counters import counter_of
from .rule_table import RuleTable, counter_key
from .windows import Span, Windows


class Spend(NamedTuple):
    """What one caller has spent in a window."""

    tenant: str
    team: str | None
    user: str | None
    key: str | None
    micro_dollars: int


Spent: TypeAlias = Callable[[Span], Sequence[Spend]]
"""Reads the ledger."""


def least_counters(table: RuleTable, spent: Spent, now: float) -> list[tuple[str, int, int]]:
    """Key, least value and expiry of the counter of each budget in its current window. It waits for `spent`."""
    windows, found = Windows(), dict[str, tuple[int, int]]()
    spans = {windows.at(window, zone, now) for window, zone in table.spending_windows()}
    for span in spans:
        for spend in spent(span):
            limits = table.rules(Principal(spend.tenant, spend.key or "", team=spend.team, user=spend.user))
            for rule in limits.rules if limits is not None else ():
                if rule.measure != "dollars" or rule.window is None or windows.at(rule.window, rule.zone, now) != span:
                    continue
                counter = counter_of(rule, counter_key(rule), span, now)
                before, _ = found.get(counter.key, (0, 0))
                found[counter.key] = (min(before + spend.micro_dollars, MAX_COUNT), counter.expires)
    return [(key, amount, expires) for key, (amount, expires) in found.items()]
