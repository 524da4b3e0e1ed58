"""One request of a signed-in user for a page: who asks, the form that was sent, and the admin API for this user."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias
from urllib.parse import parse_qsl

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from ..server.admin_api import NEEDS
from ..server.admin_errors import RANK, Role
from .api_client import ApiClient
from .rendering import ROOT, Renderer
from .sessions import PageSession

Configuration: TypeAlias = Callable[[], Mapping[str, object]]
_MOST_FIELDS = 50
# Of a number, below 64 bits. Python refuses to read one of thousands.
_MOST_DIGITS = 18


@dataclass(frozen=True, slots=True)
class PageUser:
    """As the API knows the user."""

    id: str
    role: Role
    tenant: str | None

    def may(self, method: str, route: str) -> bool:
        """Whether the API accepts this route from the user's role."""
        return RANK[self.role] >= RANK[NEEDS[method, route]]


@dataclass(frozen=True, slots=True)
class Visit:
    request: Request
    session: PageSession
    user: PageUser
    api: ApiClient
    form: Mapping[str, str]
    csrf: str
    renderer: Renderer
    configuration: Configuration

    @property
    def query(self) -> Mapping[str, str]:
        """The parameters that are given. A form sends its empty fields too."""
        return {name: value for name, value in self.request.query_params.items() if value}

    def page(self, template: str, status: int = 200, **values: Any) -> Response:
        return self.renderer.page(
            template,
            status,
            **values,
            user=self.user,
            csrf=self.csrf,
            here=self.request.url.path,
            notice=self.query.get("notice"),
        )

    def error(self, status: int, message: str) -> Response:
        return self.renderer.error(status, message)


Handler: TypeAlias = Callable[[Visit], Awaitable[Response]]


def go_to(path: str) -> Response:
    """After a form: the browser gets the page, so that a reload does not send the form again."""
    return RedirectResponse(f"{ROOT}{path}", 303)


def whole_number(text: str) -> int | str:
    """The number that a user has typed. The API names what is wrong with any other text."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= _MOST_DIGITS else text


async def read_form(request: Request) -> dict[str, str]:
    """The fields of an urlencoded form, whose size the port limits. Empty if it is none."""
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/x-www-form-urlencoded":
        return {}
    body = (await request.body()).decode("utf-8", "replace")
    try:
        return dict(parse_qsl(body, keep_blank_values=True, max_num_fields=_MOST_FIELDS))
    except ValueError:  # more fields than any form has
        return {}
