"""What was spent by whom, as a table, a chart and CSV; and the budgets with what is left of them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any

from starlette.responses import Response

from ..config.limits import MEASURED
from ..store.ledger import DIMENSIONS
from .api_client import path_of
from .charts import BarChart, bar_chart
from .rendering import money
from .visit import Handler, Visit, go_to, whole_number

_DAYS = 7
"""Without a first day, the report is of so many days."""
# Bars that can be told apart, and rows that fit on a page.
_MOST_BARS, _MOST_ROWS, _MOST_BUDGETS = 40, 100, 50
_FILTERS = ("tenant", "team", "user", "key", "model", "provider", "run", "first_day", "last_day")


async def spending(visit: Visit) -> Response:
    by, filters = _chosen(visit)
    report = await visit.api.get("/usage/report", {**filters, "by": by, "limit": _MOST_ROWS})
    rows = report["rows"]
    # One more shows whether there are more.
    budgets = await visit.api.get("/budgets", {"tenant": filters.get("tenant"), "limit": _MOST_BUDGETS + 1})
    return visit.page(
        "money.html",
        by=by,
        dimensions=DIMENSIONS,
        filters=filters,
        rows=rows,
        hidden=report["groups"] - len(rows),
        total=report["total"],
        chart=_chart(by, rows),
        budgets=budgets[:_MOST_BUDGETS],
        has_more_budgets=len(budgets) > _MOST_BUDGETS,
        limits=[name for name, (_, window) in MEASURED.items() if window != "run"],
        tenants=await visit.api.get("/tenants"),
    )


async def export(visit: Visit) -> Response:
    by, filters = _chosen(visit)
    # The API refuses another dimension, and the name of the file is then not used.
    return visit.api.forwarded(
        "/usage/report", {**filters, "by": by, "format": "csv"}, f"spending-by-{by}.csv", visit.error
    )


def _chosen(visit: Visit) -> tuple[str, dict[str, str]]:
    """The dimension and the filters."""
    by = visit.query.get("by", "tenant")
    filters = {name: visit.query[name] for name in _FILTERS if name in visit.query}
    filters.setdefault("first_day", (_today() - timedelta(days=_DAYS - 1)).isoformat())
    return by, filters


def _today() -> date:
    return datetime.now(UTC).date()


def _chart(by: str, rows: list[dict[str, Any]]) -> BarChart:
    """Days in their order, and the largest of other dimensions."""
    shown = rows[-_MOST_BARS:] if by == "day" else rows[:_MOST_BARS]
    return bar_chart(
        [(f"{row[by] or '–'}: {money(row['cost'])}", float(row["cost"]), 0.0) for row in shown], min(12, _MOST_BARS)
    )


# --- budgets


async def set_budget(visit: Visit) -> Response:
    """The form has one limit. The API's budget of this holder keeps its other limits."""
    form = visit.form
    tenant, level, name = (form.get(key, "").strip() for key in ("tenant", "level", "name"))
    name = tenant if level == "tenant" else name
    limit, maximum = form.get("limit", ""), form.get("maximum", "").strip()
    budgets = await visit.api.get("/budgets", {"level": level, "name": name})
    allowance: dict[str, Any] = next(
        (
            budget["allowance"]
            for budget in budgets
            if tuple(budget[key] for key in ("source", "tenant", "level", "name")) == ("api", tenant, level, name)
        ),
        {},
    )
    body = {**allowance, limit: whole_number(maximum)}
    await visit.api.call("PUT", f"/budgets{path_of(tenant, level, name)}", body=body)
    return go_to("/money?notice=budget-set#budgets")


async def delete_budget(visit: Visit) -> Response:
    path = path_of(*(visit.form.get(key, "") for key in ("tenant", "level", "name")))
    await visit.api.call("DELETE", f"/budgets{path}")
    return go_to("/money?notice=budget-deleted#budgets")


PAGES: Mapping[tuple[str, str], Handler] = {
    ("GET", "/money"): spending,
    ("GET", "/money.csv"): export,
    ("POST", "/budgets/set"): set_budget,
    ("POST", "/budgets/delete"): delete_budget,
}
