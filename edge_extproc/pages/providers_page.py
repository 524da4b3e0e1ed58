"""The providers: their health, prices and errors; a probe, taking one out and putting it back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from starlette.responses import Response

from .api_client import ApiRefused, path_of
from .visit import Handler, Visit, go_to, whole_number

_TIMES = (("", "until put back"), ("3600", "for an hour"), ("86400", "for a day"), ("604800", "for a week"))
# Providers of a page, and what is shown of each; the API has all.
_PAGE, _MOST_PRICES, _MOST_ERRORS = 25, 20, 10


async def providers(visit: Visit) -> Response:
    return await _page(visit)


async def _page(visit: Visit, status: int = 200, error: str | None = None) -> Response:
    found: list[dict[str, Any]] = []
    state = None
    if visit.user.tenant is None:
        state = (await visit.api.get("/overview"))["state"]
        after = visit.query.get("after", "")
        try:
            listed_by_api = await visit.api.get("/providers")
        except ApiRefused as refused:
            if refused.status != 503:
                raise
            # Their health is known without the database.
            error = error or refused.message
            listed_by_api = [_unknown(each["provider"]) for each in state["providers"]]
        found = [each for each in listed_by_api if each["provider"] > after]
    traffic = {each["provider"]: each for each in state["providers"]} if state else {}
    listed = [
        {
            "is_known": True,
            **each,
            "traffic": traffic.get(each["provider"]),
            "shown_prices": each["prices"][:_MOST_PRICES],
            "shown_errors": each["errors"][:_MOST_ERRORS],
        }
        for each in found[:_PAGE]
    ]
    following = listed[-1]["provider"] if len(found) > _PAGE else None
    return visit.page(
        "providers.html", status, state=state, providers=listed, times=_TIMES, error=error, next=following
    )


def _unknown(provider: str) -> dict[str, Any]:
    """A provider of which the API says nothing now."""
    nothing = dict.fromkeys(("kind", "host", "credential"), "–")
    empty: dict[str, Any] = {"taken_out": None, "last_probe": None, "prices": [], "errors": []}
    return {"provider": provider, "is_known": False, **nothing, **empty}


async def probe(visit: Visit) -> Response:
    path = path_of(visit.form.get("provider", ""))
    try:
        await visit.api.call("POST", f"/providers{path}/probe")
    except ApiRefused as refused:
        if refused.status != 429:
            raise
        return await _page(visit, refused.status, refused.message)
    return go_to("/providers")


async def take_out(visit: Visit) -> Response:
    path = path_of(visit.form.get("provider", ""))
    body: dict[str, Any] = {"note": visit.form.get("note", "").strip()}
    if seconds := visit.form.get("seconds", ""):
        body["seconds"] = whole_number(seconds)
    await visit.api.call("PUT", f"/providers{path}/taken-out", body=body)
    return go_to("/providers?notice=provider-taken-out")


async def put_back(visit: Visit) -> Response:
    path = path_of(visit.form.get("provider", ""))
    await visit.api.call("DELETE", f"/providers{path}/taken-out")
    return go_to("/providers?notice=provider-put-back")


PAGES: Mapping[tuple[str, str], Handler] = {
    ("GET", "/providers"): providers,
    ("POST", "/providers/probe"): probe,
    ("POST", "/providers/take-out"): take_out,
    ("POST", "/providers/put-back"): put_back,
}
