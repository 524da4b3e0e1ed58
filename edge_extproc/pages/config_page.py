"""The configuration: what is in force, what differs from the file, what was added while running, and what
a pasted change would do."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from starlette.responses import Response

from .api_client import ApiRefused, path_of
from .visit import Handler, Visit, go_to, whole_number

_MOST_ROWS = 100
# Additions, and characters of the value of each.
_MOST_ADDED, _MOST_SHOWN = 30, 200


async def configuration(visit: Visit) -> Response:
    return await _page(visit)


async def _page(visit: Visit, status: int = 200, **more: Any) -> Response:
    overview = await visit.api.get("/overview")
    differing = None
    if visit.user.may("GET", "/config/differences"):
        differing = await visit.api.get("/config/differences")
    added = None
    # Only for users who are not bound to a tenant, who see no provider.
    if visit.user.tenant is None:
        added = await _additions(visit)
    return visit.page(
        "config.html",
        status,
        configuration=visit.configuration(),
        state=overview["state"],
        differing=differing,
        most=_MOST_ROWS,
        trial=more.get("trial"),
        error=more.get("error"),
        added=added,
        most_added=_MOST_ADDED,
        add_error=more.get("add_error"),
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


async def _additions(visit: Visit) -> list[dict[str, Any]] | None:
    """The added providers and models, each with its section. None: the database is down."""
    try:
        found = await visit.api.get("/additions")
    except ApiRefused as refused:
        if refused.status != 503:
            raise
        return None
    listed = [{**each, "section": section} for section in ("providers", "models") for each in found[section]]
    return [{**each, "text": json.dumps(each["value"])[:_MOST_SHOWN]} for each in listed]


async def add(visit: Visit) -> Response:
    path = _addition(visit)
    try:
        value = json.loads(visit.form.get("value", ""))
    except ValueError:
        return await _page(visit, 400, add_error="the value is not JSON; write it as in the configuration, as JSON")
    return await _changed(visit, "PUT", path, value, "addition-made")


async def remove(visit: Visit) -> Response:
    return await _changed(visit, "DELETE", _addition(visit), None, "addition-removed")


def _addition(visit: Visit) -> str:
    """The path of the API for the addition that a form names. Raises ApiRefused."""
    section, name = visit.form.get("section", ""), visit.form.get("name", "").strip()
    if section not in ("providers", "models"):
        raise ApiRefused(400, "invalid", "choose a provider or a model")
    if section == "models" and name:
        return f"/additions/models/{quote(name)}"
    return f"/additions/{section}{path_of(name)}"


async def _changed(visit: Visit, method: str, path: str, value: object, notice: str) -> Response:
    try:
        await visit.api.call(method, path, body=value)
    except ApiRefused as refused:
        if refused.status not in (400, 409):
            raise
        return await _page(visit, refused.status, add_error=refused.message)
    return go_to(f"/config?notice={notice}")


PAGES: Mapping[tuple[str, str], Handler] = {
    ("GET", "/config"): configuration,
    ("POST", "/config/check"): check,
    ("POST", "/config/replay"): replay,
    ("POST", "/config/add"): add,
    ("POST", "/config/remove"): remove,
}
