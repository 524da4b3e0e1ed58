"""The overview: the traffic of the last minutes and the state of the gateway."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from starlette.responses import Response

from .charts import BarChart, bar_chart
from .rendering import moment, rate
from .visit import Handler, Visit

# Of the chart: five minutes of slots of five seconds, of which some take a little longer.
_SLOTS = 60


async def overview(visit: Visit) -> Response:
    found = await visit.api.get("/overview")
    return visit.page("overview.html", overview=found, chart=_chart(found["points"]), shares=_shares(found["outcomes"]))


def _chart(points: list[Mapping[str, Any]]) -> BarChart:
    values = []
    for point in points:
        requests, failed = point["requests"] / point["seconds"], point["failed"] / point["seconds"]
        label = f"{moment(point['at'])}: {rate(requests)} requests/s, {rate(failed)} failed/s"
        values.append((label, requests, failed))
    return bar_chart(values, _SLOTS, at_right=True)


def _shares(outcomes: Mapping[str, int]) -> list[tuple[str, int, float]]:
    whole = sum(outcomes.values())
    return [(outcome, count, 100 * count / whole) for outcome, count in outcomes.items() if count]


PAGES: Mapping[tuple[str, str], Handler] = {("GET", "/"): overview}
