"""The configuration: what is in force, what differs from the file, and what a pasted change would do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from starlette.responses import Response

from .api_client import ApiRefused
from .visit import Handler, Visit, whole_number

_MOST_ROWS = 100


async def configuration(visit: Visit) -> Response:
    return await _page(visit)


async def _page(visit: Visit, status: int = 200, **more: Any) -> Response:
    overview = await visit.api.get("/overview")
    differing = None
    if visit.user.may("GET", "/config/differences"):
        differing = await visit.api.get("/config/differences")
    return visit.page(
        "config.html",
        status,
        configuration=visit.configuration(),
        state=overview["state"],
        differing=differing,
        most=_MOST_ROWS,
        trial=more.get("trial"),
        error=more.get("error"),
        given=visit.form,
    )


async def _tried(visit: Visit, path: str, body: Mapping[str, Any]) -> Response:
    try:
        trial = await visit.api.call("POST", path, body=body)
    except ApiRefused as error:
        if error.status not in (400, 429, 503):
            raise
        return await _page(visit, error.status, error=error.message)
    return await _page(visit, trial=trial)


async def check(visit: Visit) -> Response:
    return await _tried(visit, "/config/check", {"text": visit.form.get("text", "")})


async def replay(visit: Visit) -> Response:
    hours = whole_number(visit.form.get("hours", "").strip() or "24")
    return await _tried(visit, "/config/replay", {"text": visit.form.get("text", ""), "hours": hours})


PAGES: Mapping[tuple[str, str], Handler] = {
    ("GET", "/config"): configuration,
    ("POST", "/config/check"): check,
    ("POST", "/config/replay"): replay,
}
