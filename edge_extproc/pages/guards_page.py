"""What the guardrail rules have found: by rule, label and action, and by day."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from starlette.responses import Response

from .charts import BarChart, bar_chart
from .visit import Handler, Visit

_DAYS = 14
_MOST_ROWS = 100
_FILTERS = ("tenant", "model", "first_day", "last_day")


async def guards(visit: Visit) -> Response:
    filters = {name: visit.query[name] for name in _FILTERS if name in visit.query}
    filters.setdefault("first_day", (datetime.now(UTC).date() - timedelta(days=_DAYS - 1)).isoformat())
    counts = await visit.api.get("/guardrails", filters)
    days = await visit.api.get("/guardrails/history", filters)
    rules = await visit.api.get("/guardrails/rules", {"tenant": filters.get("tenant")})
    counts.sort(key=lambda row: (-row["calls"], row["rule"], row["label"]))
    return visit.page(
        "guards.html",
        filters=filters,
        counts=counts[:_MOST_ROWS],
        hidden=max(0, len(counts) - _MOST_ROWS),
        rules=rules[:_MOST_ROWS],
        hidden_rules=max(0, len(rules) - _MOST_ROWS),
        chart=_chart(days),
        tenants=await visit.api.get("/tenants"),
    )


def _chart(days: Sequence[Mapping[str, Any]]) -> BarChart:
    """All calls with a finding by day, and the part of rules in shadow mode."""
    sums: dict[str, tuple[int, int]] = {}
    for each in days:
        calls, shadow = sums.get(each["day"], (0, 0))
        sums[each["day"]] = (calls + each["calls"], shadow + (each["calls"] if each["mode"] == "shadow" else 0))
    values = [
        (f"{day}: {calls} calls, {shadow} in shadow mode", calls, shadow) for day, (calls, shadow) in sums.items()
    ]
    return bar_chart(values[-_DAYS * 4 :], _DAYS)


PAGES: Mapping[tuple[str, str], Handler] = {("GET", "/guards"): guards}
