"""Shows how much of a budget is used, for the admin API."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from decimal import Decimal

from ..config.limits import MEASURED, AllowanceConfig
from ..limits.base import MICRO
from ..limits.rule_table import ANY
from ..model.limit_use import LimitKey, LimitUse
from ..model.managed import ManagedBudget
from .admin_models import ShownLimit


def shown_limits(
    budget: ManagedBudget, uses: Mapping[LimitKey, LimitUse], named: Collection[tuple[str, str, str]]
) -> list[ShownLimit]:
    """`uses`: what the workers report. `named`: the holders that have a budget under their own name, which `*` does not
    stand for."""
    allowance = AllowanceConfig.model_validate(budget.allowance)
    shown = []
    for key, (measure, window) in MEASURED.items():
        maximum = getattr(allowance, key)
        if maximum is None or window == "run":
            continue
        of = (budget.tenant, budget.level, budget.name, measure, window or "now")
        use = _of_others(of, uses, named) if budget.name == ANY else uses.get(of)
        unit = MICRO if measure == "dollars" else 1
        shown.append(_shown(key, maximum, use, unit))
    return shown


def _of_others(
    of: LimitKey, uses: Mapping[LimitKey, LimitUse], named: Collection[tuple[str, str, str]]
) -> LimitUse | None:
    """Of the holders for which `*` stands: the one that has used the largest share."""
    tenant, level, _, *rest = of
    able = [
        use
        for limit, use in uses.items()
        if (*limit[:2], *limit[3:]) == (tenant, level, *rest) and limit[:3] not in named
    ]
    return max(able, key=lambda use: use.total / max(1, use.maximum), default=None)


def _shown(key: str, maximum: int, use: LimitUse | None, unit: int) -> ShownLimit:
    def amount(value: int) -> str | int:
        return format(Decimal(value) / unit, "f") if unit != 1 else value

    if use is None:
        return ShownLimit(limit=key, maximum=amount(maximum), used=None, reserved=None, left=None, until=None)
    reserved = min(use.reserved, use.total)
    return ShownLimit(
        limit=key,
        maximum=amount(maximum),
        used=amount(use.total - reserved),
        reserved=amount(reserved),
        left=amount(max(0, maximum - use.total)),
        until=datetime.fromtimestamp(use.until, UTC) if use.until is not None else None,
    )
