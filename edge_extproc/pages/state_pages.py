"""The pages of the cache and the audit log."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from starlette.responses import Response

from .visit import Handler, Visit, go_to

_LINES, _DAYS = 100, 7


async def cache(visit: Visit) -> Response:
    first_day = (datetime.now(UTC).date() - timedelta(days=_DAYS - 1)).isoformat()
    rows = await visit.api.get("/usage", {"by": "model", "first_day": first_day})
    rows.sort(key=lambda row: (-Decimal(row["saved_cost"]), -row["cache_hits"], row["model"] or ""))
    overview = await visit.api.get("/overview")
    purged = visit.query.get("purged", "")
    return visit.page(
        "cache.html",
        state=overview["state"],
        rows=rows[:_LINES],
        days=_DAYS,
        tenants=await visit.api.get("/tenants"),
        purged=purged if purged.isdecimal() else None,
    )


async def purge(visit: Visit) -> Response:
    """Of all fields that are given. Without any, everything that the user may purge."""
    given = {name: value.strip() for name, value in visit.form.items() if name in ("tenant", "model", "key")}
    body: dict[str, object] = {name: value for name, value in given.items() if value}
    if visit.form.get("shared"):
        body["shared"] = True
    done = await visit.api.call("POST", "/cache/purge", body=body)
    return go_to(f"/cache?notice=cache-purged&purged={done['purged']}")


async def audit(visit: Visit) -> Response:
    query = {name: visit.query[name] for name in ("tenant", "before") if name in visit.query}
    lines = await visit.api.get("/audit", {**query, "limit": _LINES})
    return visit.page(
        "audit.html",
        lines=lines,
        tenant=query.get("tenant", ""),
        is_first="before" not in query,
        next=lines[-1]["number"] if len(lines) == _LINES else None,
    )


PAGES: Mapping[tuple[str, str], Handler] = {
    ("GET", "/cache"): cache,
    ("POST", "/cache/purge"): purge,
    ("GET", "/audit"): audit,
}
