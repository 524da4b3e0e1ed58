"""The application of the admin pages: the routes, signing in and out, and the headers of every response."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Literal, cast

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..server.admin_access import FederatedAdmins
from . import (
    config_page,
    conversations_page,
    guards_page,
    keys_page,
    money_page,
    overview_page,
    playground_page,
    providers_page,
    requests_page,
    state_pages,
)
from .api_client import ApiClient, ApiRefused
from .oidc import CALLBACK, START, STATE_SECONDS, OidcFlow, OidcRefused
from .rendering import ROOT, Renderer, query
from .sessions import LIFETIME, OneTimeLink, PageSession, Sessions, SignInAttempts
from .visit import Configuration, Handler, PageUser, Visit, read_form

# No inline script or style, no other host, in no frame. A form can be sent only to this port.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)
_HEADERS: Mapping[str, str] = {
    "content-security-policy": _POLICY,
    "x-content-type-options": "nosniff",
    # Without an origin, browsers would send `Origin: null` with forms, which the port refuses.
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
}
_PRIVATE = "no-store"
_LONGEST_TOKEN = 512

PAGES: Mapping[tuple[str, str], Handler] = {
    **overview_page.PAGES,
    **requests_page.PAGES,
    **conversations_page.PAGES,
    **money_page.PAGES,
    **keys_page.PAGES,
    **providers_page.PAGES,
    **guards_page.PAGES,
    **playground_page.PAGES,
    **config_page.PAGES,
    **state_pages.PAGES,
}
"""By method and path below /ui."""


@dataclass(frozen=True, slots=True)
class PagesSetup:
    """`api`: the admin API. `secure`: browsers reach the port by TLS or on their own machine. `link`: what signs one
    user in without a token. `now`: Unix time."""

    api: ASGIApp
    port: int
    secure: bool
    link: OneTimeLink | None
    configuration: Configuration
    now: Callable[[], float]
    oidc: OidcFlow | None = None
    """None: users sign in with tokens and keys alone."""
    federated: FederatedAdmins | None = None
    """Those who have signed in with `oidc`, for the API."""


def build(setup: PagesSetup) -> ASGIApp:
    """The application, for /ui of the admin port."""
    pages = _Pages(setup)
    routes = [
        Route("/static/{name}", pages.static),
        Route("/sign-in", pages.sign_in, methods=["GET", "POST"]),
        Route("/sign-in/{token}", pages.sign_in_by_link, methods=["GET"]),
        Route(START, pages.sign_in_elsewhere, methods=["GET"]),
        Route(CALLBACK, pages.signed_in_elsewhere, methods=["GET"]),
        *(
            Route(path, pages.signed_in(handler), methods=[method])
            for (method, path), handler in {**PAGES, ("POST", "/sign-out"): pages.sign_out}.items()
        ),
    ]
    return _WithHeaders(
        Starlette(routes=routes, exception_handlers={HTTPException: pages.http_error, Exception: pages.failed})
    )


class _Pages:
    def __init__(self, setup: PagesSetup) -> None:
        self._setup = setup
        self._renderer = Renderer()
        self._sessions = Sessions(setup.port, secure=setup.secure, now=setup.now)
        self._attempts = SignInAttempts(setup.now)

    async def static(self, request: Request) -> Response:
        response = self._renderer.static(request.path_params["name"])
        return response if response is not None else self._error(404, "There is no such page.")

    # --- signing in and out

    async def sign_in(self, request: Request) -> Response:
        if request.method != "POST":
            return self._sign_in_form(request, 200, None)
        form = await read_form(request)
        cookie = request.cookies.get(self._sessions.sign_in_cookie, "")
        if not self._sessions.is_sign_in_token(cookie, form.get("csrf", "")):
            error = "The form was not from this page or is too old. Try again."
            return self._sign_in_form(request, 403, error, form.get("next", ""))
        return await self._begin(request, form.get("token", "").strip(), form.get("next", ""))

    async def sign_in_by_link(self, request: Request) -> Response:
        """A HEAD of a program that looks at links does not use it."""
        link = self._setup.link
        if self._session(request) is not None:
            # The link in the terminal was followed again.
            return RedirectResponse(f"{ROOT}/", 303)
        if self._wait(request):
            return self._sign_in_form(request, 429, self._too_many(request))
        if request.method != "GET":
            return self._sign_in_form(request, 200, None)
        if link is None or not link.use(request.path_params["token"]):
            self._attempts.add_failure(_peer(request))
            return self._sign_in_form(
                request, 403, "The link is wrong, too old or has been used. A restart of the gateway prints a new one."
            )
        return await self._begin(request, link.credential, "")

    async def _begin(self, request: Request, credential: str, next_page: str) -> Response:
        if self._wait(request):
            return self._sign_in_form(request, 429, self._too_many(request), next_page)
        try:
            await ApiClient(self._setup.api, _as_header(credential)).get("/whoami")
        except ApiRefused as error:
            if error.status != 401:
                return self._error(error.status, error.message)
            self._attempts.add_failure(_peer(request))
            return self._sign_in_form(request, 403, "This is not an admin token of this gateway.", next_page)
        if (before := self._session(request)) is not None:
            self._end(before)
        _, value = self._sessions.begin(credential)
        response = RedirectResponse(_own_page(next_page), 303)
        self._set_cookie(response, self._sessions.cookie, value, LIFETIME)
        response.delete_cookie(self._sessions.sign_in_cookie, path="/", secure=self._sessions.secure, httponly=True)
        return response

    async def sign_in_elsewhere(self, request: Request) -> Response:
        """To the identity provider."""
        oidc = self._setup.oidc
        if oidc is None:
            return self._error(404, "There is no such page.")
        if self._wait(request):
            return self._sign_in_form(request, 429, self._too_many(request))
        try:
            target, cookie = await oidc.begin(_own_page(request.query_params.get("next", "")))
        except OidcRefused as refused:
            return self._sign_in_form(request, 502, str(refused))
        response = RedirectResponse(target, 303)
        # Lax: the browser sends it when the provider leads back to this port.
        self._set_cookie(response, self._sessions.oidc_cookie, cookie, int(STATE_SECONDS), "lax")
        return response

    async def signed_in_elsewhere(self, request: Request) -> Response:
        """From the identity provider."""
        oidc, federated = self._setup.oidc, self._setup.federated
        if oidc is None or federated is None:
            return self._error(404, "There is no such page.")
        if self._wait(request):
            return self._sign_in_form(request, 429, self._too_many(request))
        try:
            user = await oidc.finish(request.query_params, request.cookies.get(self._sessions.oidc_cookie, ""))
        except OidcRefused as refused:
            self._attempts.add_failure(_peer(request))
            return self._sign_in_form(request, 403, str(refused))
        if (before := self._session(request)) is not None:
            self._end(before)
        _, value = self._sessions.begin(federated.begin(user.identity, LIFETIME), user.id_token)
        # The browser does not send the new cookie with a redirect that another site began: a page goes on.
        response = self._renderer.page("go_on.html", title="Signed in", target=_own_page(user.next_page))
        self._set_cookie(response, self._sessions.cookie, value, LIFETIME)
        response.delete_cookie(self._sessions.oidc_cookie, path="/", secure=self._sessions.secure, httponly=True)
        return response

    async def sign_out(self, visit: Visit) -> Response:
        self._end(visit.session)
        id_token, oidc = visit.session.id_token, self._setup.oidc
        target = await oidc.sign_out_address(id_token) if oidc is not None and id_token is not None else None
        if target is None:
            return self._to_sign_in("")
        # The policy of the pages lets no form lead to another host: a page goes on.
        response = self._renderer.page("go_on.html", title="Signed out here", target=target)
        response.delete_cookie(self._sessions.cookie, path="/", secure=self._sessions.secure, httponly=True)
        return response

    def _end(self, session: PageSession) -> None:
        self._sessions.end(session)
        if self._setup.federated is not None:
            self._setup.federated.end(session.credential)

    def _wait(self, request: Request) -> int:
        return self._attempts.wait(_peer(request))

    def _too_many(self, request: Request) -> str:
        return f"There were too many wrong attempts. Try again in {self._wait(request)} s."

    def _sign_in_form(self, request: Request, status: int, error: str | None, next_page: str = "") -> Response:
        cookie = secrets.token_urlsafe(32)
        response = self._renderer.page(
            "sign_in.html",
            status,
            csrf=self._sessions.sign_in_token(cookie),
            next=_own_page(next_page or request.query_params.get("next", "")),
            error=error,
            has_oidc=self._setup.oidc is not None,
            start=START,
        )
        self._set_cookie(response, self._sessions.sign_in_cookie, cookie, 3600)
        if status == 429:
            response.headers["retry-after"] = str(self._wait(request))
        return response

    def _set_cookie(
        self, response: Response, name: str, value: str, seconds: int, same: Literal["strict", "lax"] = "strict"
    ) -> None:
        response.set_cookie(
            name, value, max_age=seconds, path="/", secure=self._sessions.secure, httponly=True, samesite=same
        )

    # --- the pages

    def signed_in(self, handler: Handler) -> Callable[[Request], Awaitable[Response]]:
        async def answer(request: Request) -> Response:
            session = self._session(request)
            if session is None:
                return self._to_sign_in(_location(request) if request.method == "GET" else "")
            form = await read_form(request) if request.method == "POST" else {}
            if request.method == "POST" and not self._sessions.is_csrf_token(session, form.get("csrf", "")):
                return self._error(403, "The form was not from a page of this session. Go back, reload and try again.")
            try:
                return await handler(await self._visit(request, session, form))
            except ApiRefused as error:
                if error.status != 401:
                    return self._error(error.status, error.message)
                self._sessions.end(session)
                return self._to_sign_in("")

        return answer

    def _session(self, request: Request) -> PageSession | None:
        return self._sessions.find(request.cookies.get(self._sessions.cookie, ""))

    async def _visit(self, request: Request, session: PageSession, form: Mapping[str, str]) -> Visit:
        api = ApiClient(self._setup.api, _as_header(session.credential))
        user = PageUser(**await api.get("/whoami"))
        csrf = self._sessions.csrf_token(session)
        return Visit(request, session, user, api, form, csrf, self._renderer, self._setup.configuration)

    def _to_sign_in(self, next_page: str) -> Response:
        target = f"{ROOT}/sign-in{query({'next': next_page})}"
        response = RedirectResponse(target, 303)
        response.delete_cookie(self._sessions.cookie, path="/", secure=self._sessions.secure, httponly=True)
        return response

    def _error(self, status: int, message: str) -> Response:
        return self._renderer.error(status, message)

    async def http_error(self, request: Request, error: Exception) -> Response:
        del request
        status = cast(HTTPException, error).status_code  # the handler is registered for this class only
        return self._error(status, "There is no such page." if status == 404 else "This page cannot be used this way.")

    async def failed(self, request: Request, error: Exception) -> Response:
        """The server logs the error."""
        del request, error
        return self._error(500, "The gateway could not make this page. Its log has the reason.")


class _WithHeaders:
    """Adds the headers of every response."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def protected(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = list(message.get("headers", []))
                headers += [(name.encode(), value.encode()) for name, value in _HEADERS.items()]
                if not any(name == b"cache-control" for name, _ in headers):
                    headers.append((b"cache-control", _PRIVATE.encode()))
                message = {**message, "headers": headers}
            await send(message)

        await self._app(scope, receive, protected)


def _as_header(credential: str) -> str:
    """A credential that can be in a header; other texts are no credential."""
    is_printable = credential.isascii() and credential.isprintable() and len(credential) <= _LONGEST_TOKEN
    return credential if is_printable else ""


def _own_page(target: str) -> str:
    """A page of ours to go to, whatever a link says."""
    is_ours = target.startswith(f"{ROOT}/") and "\\" not in target and target.isprintable()
    return target if is_ours else f"{ROOT}/"


def _location(request: Request) -> str:
    url = request.url
    return f"{url.path}?{url.query}" if url.query else url.path


def _peer(request: Request) -> str:
    return request.client.host if request.client is not None else ""
