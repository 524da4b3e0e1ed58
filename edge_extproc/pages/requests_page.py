"""The log of requests from the ledger, with filters, and the page of one request."""

from __future__ import annotations

from collections.abc import Mapping
from typing import get_args

from starlette.responses import Response

from ..model.settlement import Outcome
from .api_client import path_of
from .explanation import in_words
from .visit import Handler, Visit

FILTERS = (
    *("tenant", "team", "user", "key", "model", "response_model", "provider"),
    *("outcome", "status", "cache", "run", "session", "first_day", "last_day"),
)
"""The filters of the API, and of the form."""
OUTCOMES: tuple[str, ...] = get_args(Outcome)
CACHE_RESULTS = ("hit", "semantic", "miss", "bypass", "stale")
_PAGE = 50


async def requests(visit: Visit) -> Response:
    filters = {name: visit.query[name] for name in FILTERS if name in visit.query}
    before = visit.query.get("before")
    found = await visit.api.get("/requests", {**filters, "before": before, "limit": _PAGE})
    return visit.page(
        "requests.html",
        requests=found["requests"],
        next=found["next"],
        is_first=before is None,
        filters=filters,
        outcomes=OUTCOMES,
        cache_results=CACHE_RESULTS,
    )


async def request(visit: Visit) -> Response:
    found = await visit.api.get(f"/requests{path_of(visit.request.path_params['exchange'])}")
    return visit.page("request.html", request=found, words=in_words(found))


async def export(visit: Visit) -> Response:
    filters = {name: visit.query[name] for name in FILTERS if name in visit.query}
    return visit.api.forwarded("/usage/export", {**filters, "format": "csv"}, "requests.csv", visit.error)


PAGES: Mapping[tuple[str, str], Handler] = {
    ("GET", "/requests"): requests,
    ("GET", "/requests.csv"): export,
    ("GET", "/requests/{exchange}"): request,
}
