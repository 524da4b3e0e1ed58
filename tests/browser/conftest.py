"""A real browser and a real gateway for the admin pages: Debian's chromium, Envoy, one worker and a ledger."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field

import providers
import pytest
from gateway import RunningGateway, config
from playwright.sync_api import Browser, BrowserContext, Page, Request, sync_playwright

# Debian's, and those of other distributions.
NAMES = ("chromium", "chromium-browser", "google-chrome")
TOKENS = {
    "root": ("admin", ""),
    "eye": ("viewer", ""),
    "acme-admin": ("tenant_admin", "acme"),
    "acme-eye": ("viewer", "acme"),
}
MORE = """
store: {every: 100ms}
cache: {}
guardrails:
  rules: [{name: secret-words, detect: {words: {words: [falcon]}}, action: block, mode: shadow}]
"""
UNREACHABLE = "http://127.0.0.1:1"
"""The address of the provider `away`."""
MODELS = """
over: [{provider: away, model: claude-haiku-4-5}, {provider: openai, model: gpt-4o-mini}]
"""


def token_of(name: str) -> str:
    return f"admin-token-of-{name}"


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """Not of the session: playwright's event loop runs until it is closed, and asynchronous tests have their own."""
    path = next(filter(None, map(shutil.which, NAMES)), None)
    if path is None:
        pytest.skip("there is no chromium; `make system-packages` installs it")
    with sync_playwright() as playwright:
        # The sandbox of chromium refuses root, and the pages are our own.
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def gateway(chromium: Browser) -> Iterator[RunningGateway]:
    """It is not started where there is no browser."""
    with providers.rehearsal_process() as url:
        away = f"  away: {{kind: anthropic, base_url: '{UNREACHABLE}/v1', api_key: x}}\n"
        text = config(url, more=MORE, models=MODELS).replace("providers:\n", f"providers:\n{away}", 1)
        line = next(each for each in text.splitlines() if each.startswith("admin:"))
        tokens = ", ".join(
            f"{{id: {name}, role: {role}, token: {token_of(name)}{f', tenant: {tenant}' if tenant else ''}}}"
            for name, (role, tenant) in TOKENS.items()
        )
        with RunningGateway(text.replace(line, f"{line[:-1]}, tokens: [{tokens}]}}")) as running:
            yield running


@dataclass
class Tab:
    """A page of the browser, and what must not happen on it."""

    page: Page
    root: str
    faults: list[str] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)

    def go(self, path: str) -> None:
        self.page.goto(f"{self.root}/ui{path}")

    def sign_in(self, name: str) -> None:
        self.go("/sign-in")
        self.page.get_by_label("Admin token").fill(token_of(name))
        self.page.get_by_role("button", name="Sign in").click()
        self.page.get_by_role("heading", name="Overview").wait_for()


@pytest.fixture
def context(chromium: Browser) -> Iterator[BrowserContext]:
    made = chromium.new_context()
    yield made
    made.close()


@pytest.fixture
def tab(context: BrowserContext, gateway: RunningGateway) -> Iterator[Tab]:
    page = context.new_page()
    tab = Tab(page, gateway.admin)

    def requested(request: Request) -> None:
        if not request.url.startswith(f"{gateway.admin}/ui"):
            tab.foreign.append(request.url)

    page.on("request", requested)
    page.on("pageerror", lambda error: tab.faults.append(str(error)))
    page.on("dialog", lambda dialog: (tab.faults.append(dialog.message), dialog.dismiss()))
    # A violation of the policy is an error of the console. So is a response with an error's status, which is none here.
    page.on(
        "console",
        lambda message: (
            tab.faults.append(message.text)
            if message.type == "error" and "Failed to load resource" not in message.text
            else None
        ),
    )
    yield tab
    assert ([], []) == (tab.faults, tab.foreign)
