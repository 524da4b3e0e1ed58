"""Shows how much of a budget is used, for the admin API."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from decimal import Decimal

from ..config.limits import MEASURED, AllowanceConfig
from ..limits.base import MICRO, Window
from ..limits.rule_table import ANY
from ..limits.windows import span
from ..model.limit_use import LimitKey, LimitUse
from ..model.managed import ManagedBudget
from .admin_models import ShownLimit

# In the first minutes of a window, one call decides its forecast.
_LEAST_SHARE = 0.05
_FORECAST: tuple[Window, ...] = ("hour", "day", "month")


def shown_limits(
    budget: ManagedBudget, uses: Mapping[LimitKey, LimitUse], named: Collection[tuple[str, str, str]], now: float
) -> list[ShownLimit]:
    """`uses`: what the workers report. `named`: the holders that have a budget under their own name, which `*` does not
    stand for. `now`: Unix time."""
    allowance = AllowanceConfig.model_validate(budget.allowance)
    views = []
    for key, (measure, window) in MEASURED.items():
        maximum = getattr(allowance, key)
        if maximum is None or window == "run":
            continue
        of = (budget.tenant, budget.level, budget.name, measure, window or "now")
        use = _of_others(of, uses, named) if budget.name == ANY else uses.get(of)
        unit = MICRO if measure == "dollars" else 1
        views.append(_view(key, maximum, use, unit, _elapsed(window, allowance.time_zone, use, now)))
    return views


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


def _elapsed(window: str | None, zone: str, use: LimitUse | None, now: float) -> float | None:
    """The share of the window that has passed. None: it is no basis of a forecast."""
    known = next((each for each in _FORECAST if each == window), None)
    if use is None or use.until is None or known is None:
        return None
    start = span(known, zone, use.until - 1).start
    share = (now - start) / (use.until - start)
    return share if _LEAST_SHARE <= share <= 1 else None


def _view(key: str, maximum: int, use: LimitUse | None, unit: int, elapsed: float | None) -> ShownLimit:
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
        forecast=amount(round((use.total - reserved) / elapsed)) if elapsed is not None else None,
    )
