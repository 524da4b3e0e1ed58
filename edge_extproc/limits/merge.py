"""Combines the limits of the configuration with the budgets of the admin API.

A budget can only narrow: of two rules for the same holder, measure and window, the tighter one counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import cast

from ..config.limits import MEASURED, AllowanceConfig
from ..config.schema import Config
from ..model.managed import ManagedBudget
from ..model.principal import Level
from .base import Holder, LimitRule, Measure, Window
from .rule_table import ANY


def merge_rules(config: Config, budgets: Sequence[ManagedBudget] = ()) -> list[LimitRule]:
    """All rules. `budgets`: those of the admin API."""
    by_holder: dict[Holder, dict[tuple[Measure, Window | None], LimitRule]] = {}
    for tenant, level, name, allowance in config.allowances():
        for rule in rules_of((tenant, level, name), allowance):
            by_holder.setdefault((tenant, level, name), {})[rule.measure, rule.window] = rule
    for budget in budgets:
        level = cast("Level", budget.level)
        holder = (budget.tenant, level, budget.name)
        # A holder without rules of its own has those of `*`. A budget must not replace them.
        defaults = by_holder.get((budget.tenant, level, ANY), {})
        own = by_holder.setdefault(holder, {key: replace(rule, name=budget.name) for key, rule in defaults.items()})
        for rule in rules_of(holder, AllowanceConfig.model_validate(budget.allowance)):
            key = (rule.measure, rule.window)
            own[key] = tighter(own[key], rule) if key in own else rule
    return [rule for rules in by_holder.values() for rule in rules.values()]


def tighter(one: LimitRule, other: LimitRule) -> LimitRule:
    """One rule that refuses and warns whenever one of the two does."""
    # A limit that refuses is tighter than any that only warns.
    base = min(one, other, key=lambda rule: (not rule.hard, rule.maximum))
    warn_at = min((rule.warn_at for rule in (one, other) if rule.warn_at is not None), default=None)
    return replace(
        base,
        warn_at=warn_at,
        local=one.local and other.local,
        allow_unpriced=one.allow_unpriced and other.allow_unpriced,
    )


def rules_of(holder: Holder, allowance: AllowanceConfig) -> list[LimitRule]:
    """One rule for each limit that is set."""
    tenant, level, name = holder
    hard = allowance.mode == "hard"
    rules = []
    for key, (measure, window) in MEASURED.items():
        value: int | timedelta | None = getattr(allowance, key)
        if value is None:
            continue
        maximum = max(1, round(value.total_seconds())) if isinstance(value, timedelta) else value
        rules.append(
            LimitRule(
                tenant,
                level,
                name,
                cast("Measure", measure),
                cast("Window | None", window),
                maximum,
                zone=allowance.time_zone,
                warn_at=_warn_at(maximum, window, allowance),
                hard=hard,
                local=allowance.fail == "local",
                allow_unpriced=allowance.unpriced == "allow",
            )
        )
    return rules


def _warn_at(maximum: int, window: str | None, allowance: AllowanceConfig) -> int | None:
    if window == "run":  # each response says what is left of the run
        return None
    if window is not None:
        return maximum * allowance.warn_at // 100
    # Concurrent calls: a hard limit gives no warning, a soft one warns when its maximum is reached.
    return None if allowance.mode == "hard" else maximum
