"""Renders the templates. Every value is escaped."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from importlib import resources
from typing import Any
from urllib.parse import quote, urlencode

from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.responses import HTMLResponse, Response

ROOT = "/ui"
# For each name the media type. The version in a URL changes with the content.
_STATIC = {
    "style.css": "text/css; charset=utf-8",
    "live.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
}
_YEAR = 365 * 24 * 3600


class Renderer:
    """The templates and the static files. A process reads and compiles them once."""

    def __init__(self) -> None:
        self._environment = _environment()
        self._files = _files()

    def page(self, template: str, status: int = 200, **values: Any) -> Response:
        return HTMLResponse(self._environment.get_template(template).render(values), status)

    def error(self, status: int, message: str) -> Response:
        return self.page("error.html", status, error_status=status, message=message)

    def static(self, name: str) -> Response | None:
        content = self._files.get(name)
        if content is None:
            return None
        headers = {"cache-control": f"private, max-age={_YEAR}, immutable", "content-type": _STATIC[name]}
        return Response(content, headers=headers)


@functools.cache
def _environment() -> Environment:
    found = Environment(
        loader=PackageLoader(__package__ or "", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters.update(
        money=money, number=number, ms=milliseconds, seconds=seconds, moment=moment, rate=rate, segment=segment
    )
    found.globals.update(root=ROOT, static=_url, query=query)
    return found


@functools.cache
def _files() -> dict[str, bytes]:
    folder = resources.files(__package__ or "") / "static"
    return {name: (folder / name).read_bytes() for name in _STATIC}


def _url(name: str) -> str:
    return f"{ROOT}/static/{name}?v={hashlib.sha256(_files()[name]).hexdigest()[:12]}"


def query(values: Mapping[str, object], **changes: object) -> str:
    """A query string without empty values, with its question mark."""
    given = {name: value for name, value in {**values, **changes}.items() if value not in (None, "")}
    return f"?{urlencode(given)}" if given else ""


def segment(text: str) -> str:
    """A segment of a URL's path."""
    return quote(text, safe="")


def money(dollars: str | float | None) -> str:
    """US dollars, with at least two and at most six decimals."""
    if dollars is None:
        return "–"
    amount = Decimal(str(dollars))
    text = f"{amount:,.6f}".rstrip("0")
    whole, _, decimals = text.partition(".")
    return f"${whole}.{decimals:0<2}"


def number(value: float | None) -> str:
    return "–" if value is None else f"{value:,}"


def rate(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def milliseconds(value: float | None) -> str:
    return "–" if value is None else seconds(value / 1000)


def seconds(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value * 1000:,.0f} ms" if value < 1 else f"{value:,.2f} s"


def moment(value: str | float | None) -> str:
    """A time of the API (RFC 3339) or a Unix time, in UTC."""
    if value is None:
        return "–"
    at = datetime.fromtimestamp(value, UTC) if isinstance(value, float | int) else datetime.fromisoformat(value)
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S}"
