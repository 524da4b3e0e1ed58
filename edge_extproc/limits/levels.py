"""Chooses the limits that get metric series of their own."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from ..telemetry.limit_metrics import LimitLevel
from .base import MICRO, Holder, LimitLevelName, LimitStatus, Measure, Window
from .rule_table import ANY

MAX_NAMED = 1000
"""Holders with series of their own. Each has four series, and every worker exports them at every scrape."""


def metric_levels(named: Collection[Holder], statuses: Iterable[LimitStatus]) -> list[LimitLevel]:
    """The levels to export. `named`: the holders that the configuration names.

    All holders that the configuration does not name are exported together as `*`; of more than MAX_NAMED named holders,
    those that have used the least of their limits are too. A tenant that the configuration does not name is not
    exported. It takes milliseconds for ten thousand holders: call it in a thread."""
    tenants = {tenant for tenant, _, _ in named}
    own: list[LimitStatus] = []
    grouped: dict[tuple[str, LimitLevelName, Measure, Window | None], list[LimitStatus]] = {}

    def group(status: LimitStatus) -> None:
        rule = status.rule
        grouped.setdefault((rule.tenant, rule.level, rule.measure, rule.window), []).append(status)

    for status in statuses:
        rule = status.rule
        if (rule.tenant, rule.level, rule.name) in named:
            own.append(status)
        elif rule.tenant in tenants:
            group(status)
    if len(own) > MAX_NAMED:
        own.sort(key=_share_used, reverse=True)
        for status in own[MAX_NAMED:]:
            group(status)
    # No time for a group: another worker may know a holder that has used more, and the larger value must win when the
    # workers' metrics are merged, not the newer one.
    return [_level(each, each.rule.name, each.reserved, each.at) for each in own[:MAX_NAMED]] + [
        _level(max(each, key=_share_used), ANY, sum(one.reserved for one in each), None) for each in grouped.values()
    ]


def _share_used(status: LimitStatus) -> float:
    return status.used / max(1, status.maximum)


def _level(status: LimitStatus, name: str, reserved: int, at: float | None) -> LimitLevel:
    rule = status.rule
    unit = MICRO if rule.measure == "dollars" else 1
    return LimitLevel(
        (rule.tenant, rule.level, name, rule.measure, rule.window or "now"),
        status.maximum / unit,
        status.used / unit,
        reserved / unit,
        at,
    )
