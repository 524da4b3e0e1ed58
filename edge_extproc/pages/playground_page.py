"""The playground: one call with the user's test key, with the bytes to the provider and back.

With JavaScript the reply is shown as it comes; without, when it has ended.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from starlette.responses import Response

from .api_client import ApiRefused
from .visit import Handler, Visit, whole_number

_FIELDS = ("tenant", "model", "format", "prompt")
_DEFAULTS = {"format": "chat_completions", "prompt": "Say hello.", "max_tokens": "256", "stream": "yes"}


async def playground(visit: Visit) -> Response:
    return await _page(visit, _DEFAULTS, {})


async def _page(
    visit: Visit, given: Mapping[str, str], shown: Mapping[str, str], status: int = 200, error: str | None = None
) -> Response:
    return visit.page(
        "playground.html",
        status,
        state=await visit.api.get("/playground"),
        tenants=await visit.api.get("/tenants"),
        given=given,
        shown=shown,
        error=error,
    )


async def send(visit: Visit) -> Response:
    body: dict[str, Any] = {name: visit.form.get(name, "").strip() for name in _FIELDS}
    body["stream"] = bool(visit.form.get("stream"))
    body["max_tokens"] = whole_number(visit.form.get("max_tokens", "").strip() or "256")
    if "text/event-stream" in visit.request.headers.get("accept", ""):
        return visit.api.streamed("/playground", body, visit.error)
    try:
        events = await visit.api.events("/playground", body)
    except ApiRefused as error:
        if error.status not in (400, 404, 409, 429):
            raise
        return await _page(visit, visit.form, {}, error.status, error.message)
    shown: dict[str, str] = {}
    for name, texts in events:
        for field, text in texts.items():
            at = f"{name}.{field}"
            shown[at] = shown.get(at, "") + text if name == "data" else text
    return await _page(visit, visit.form, shown)


PAGES: Mapping[tuple[str, str], Handler] = {
    ("GET", "/playground"): playground,
    ("POST", "/playground"): send,
}
