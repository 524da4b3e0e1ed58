"""The keys of callers: list, create, rotate and revoke. A new key is shown once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from starlette.responses import Response

from .api_client import ApiRefused, path_of
from .visit import Handler, Visit, go_to, whole_number

_PAGE = 100
_OVERLAPS = ((0, "at once"), (3600, "in an hour"), (24 * 3600, "in a day"), (7 * 24 * 3600, "in a week"))


async def keys(visit: Visit) -> Response:
    tenant = visit.query.get("tenant")
    after = visit.query.get("after", "")
    found = await visit.api.get("/keys", {"tenant": tenant, "after": after, "limit": _PAGE})
    return await _keys_page(visit, found, tenant)


async def _keys_page(visit: Visit, found: list[Any], tenant: str | None, **problem: Any) -> Response:
    return visit.page(
        "keys.html",
        problem.get("status", 200),
        keys=found,
        next=found[-1]["id"] if len(found) == _PAGE else None,
        tenant=tenant,
        tenants=await visit.api.get("/tenants"),
        error=problem.get("error"),
        given=visit.form,
    )


async def create(visit: Visit) -> Response:
    form = visit.form
    body: dict[str, Any] = {"tenant": form.get("tenant", "")}
    body |= {name: value for name in ("id", "team", "user", "note") if (value := form.get(name, "").strip())}
    for name in ("models", "roles"):
        names = [each.strip() for each in form.get(name, "").split(",") if each.strip()]
        body |= {name: names} if names else {}
    if expires := form.get("expires", "").strip():
        # A browser sends the local time of its field without a zone; the label says that it is UTC.
        body["expires"] = expires if expires.endswith("Z") else f"{expires}Z"
    try:
        made = await visit.api.call("POST", "/keys", body=body)
    except ApiRefused as error:
        if error.status not in (400, 404, 409):
            raise
        found = await visit.api.get("/keys", {"limit": _PAGE})
        return await _keys_page(visit, found, None, status=error.status, error=error.message)
    return visit.page("new_key.html", 201, key=made, is_new=True)


async def key(visit: Visit) -> Response:
    found = await visit.api.get(f"/keys{path_of(visit.request.path_params['key_id'])}")
    return visit.page("key.html", key=found, overlaps=_OVERLAPS)


async def rotate(visit: Visit) -> Response:
    path = path_of(visit.request.path_params["key_id"])
    body = {"overlap_seconds": whole_number(visit.form.get("overlap_seconds", "0"))}
    made = await visit.api.call("POST", f"/keys{path}/rotate", body=body)
    return visit.page("new_key.html", key=made, is_new=False)


async def revoke(visit: Visit) -> Response:
    key_id = path_of(visit.request.path_params["key_id"])
    await visit.api.call("DELETE", f"/keys{key_id}")
    return go_to(f"/keys{key_id}?notice=key-revoked")


PAGES: Mapping[tuple[str, str], Handler] = {
    ("GET", "/keys"): keys,
    ("POST", "/keys"): create,
    ("GET", "/keys/{key_id}"): key,
    ("POST", "/keys/{key_id}/rotate"): rotate,
    ("POST", "/keys/{key_id}/revoke"): revoke,
}
