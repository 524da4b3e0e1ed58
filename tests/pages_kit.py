"""The admin pages in memory's reach: the whole admin port, a browser without scripts, and what is on a page."""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Any

import httpx2
from admin_kit import Api, secret_of

from edge_extproc.pages.app import PagesSetup, build
from edge_extproc.pages.oidc import OidcFlow
from edge_extproc.pages.sessions import OneTimeLink
from edge_extproc.server import admin
from edge_extproc.server.admin_admission import AdmissionChecks

PORT = 10001
VOID = {"area", "br", "col", "hr", "img", "input", "link", "meta", "wbr"}


@dataclass
class Form:
    method: str
    action: str
    fields: dict[str, str] = field(default_factory=dict)


class Page(HTMLParser):
    """What is on a page. Raises ValueError if the elements are not nested."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.forms: list[Form] = []
        self.links: list[str] = []
        self.elements: list[tuple[str, dict[str, str]]] = []
        self._open: list[str] = []
        self._select = ""
        self.feed(text)
        self.close()
        if self._open:
            raise ValueError(f"not closed: {self._open}")

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.elements.append((tag, given))
        if tag not in VOID:
            self._open.append(tag)
        match tag:
            case "a":
                self.links.append(given["href"])
            case "form":
                self.forms.append(Form(given["method"], given["action"]))
            case "input" if self.forms and given.get("name"):
                self.forms[-1].fields[given["name"]] = given.get("value", "")
            case "select":
                self._select = given["name"]
            case "option" if self._select not in self.forms[-1].fields or "selected" in given:
                self.forms[-1].fields[self._select] = given["value"]

    def handle_endtag(self, tag: str) -> None:
        if not self._open or self._open.pop() != tag:
            raise ValueError(f"</{tag}> closes nothing")

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())

    def form(self, action: str, method: str = "post") -> Form:
        return next(form for form in self.forms if (form.action, form.method) == (action, method))


class Browser:
    """Keeps cookies, and follows no redirect by itself."""

    def __init__(self, app: Any, peer: str = "127.0.0.1", scheme: str = "http") -> None:
        transport = httpx2.ASGITransport(app=app, client=(peer, 50000))
        self.client = httpx2.AsyncClient(transport=transport, base_url=f"{scheme}://127.0.0.1:{PORT}")

    async def get(self, path: str, **options: Any) -> httpx2.Response:
        return await self.client.get(f"/ui{path}", **options)

    async def page(self, path: str) -> Page:
        answer = await self.get(path)
        assert 200 == answer.status_code, (path, answer.status_code, answer.text)
        return Page(answer.text)

    async def send(self, form: Form, **changes: str) -> httpx2.Response:
        return await self.client.post(form.action, data={**form.fields, **changes})

    async def sign_in(self, token: str) -> httpx2.Response:
        return await self.send((await self.page("/sign-in")).form("/ui/sign-in"), token=token)

    async def csrf(self) -> str:
        return (await self.page("/")).form("/ui/sign-out").fields["csrf"]

    async def post(self, path: str, **fields: str) -> httpx2.Response:
        """A form of ours, whether a page shows it or not."""
        return await self.send(Form("post", f"/ui{path}", {"csrf": await self.csrf()}), **fields)


class AdminPort:
    """The admin port with the API and the pages. `secure`: others than this machine reach it."""

    def __init__(self, api: Api, *, secure: bool = False, oidc: OidcFlow | None = None) -> None:
        self.api = api
        self.link = OneTimeLink(lambda: api.now / 1000)
        self.link.credential = secret_of("root")
        self.state: dict[str, object] = {
            "version": "v1",
            "file": "/etc/edge.yaml",
            "in_force_since": api.now / 1000,
            "last_reload": None,
        }
        pages = build(
            PagesSetup(
                api.app,
                PORT,
                secure,
                self.link,
                lambda: self.state,
                now=lambda: api.now / 1000,
                oidc=oidc,
                federated=api.federated,
            )
        )

        async def readiness() -> admin.Readiness:
            return admin.Readiness({})

        async def metrics(openmetrics: bool) -> bytes:
            return b""

        port = admin.build(readiness, metrics, api=api.app, pages=pages)
        linked = admin.LINKED if oidc is not None else ()
        self.app = AdmissionChecks(port, api.app.state.gate.admits, (), linked=linked)

    def browser(self, peer: str = "127.0.0.1", scheme: str = "http") -> Browser:
        return Browser(self.app, peer, scheme)

    async def signed_in(self, name: str) -> Browser:
        browser = self.browser()
        assert 303 == (await browser.sign_in(secret_of(name))).status_code
        return browser
