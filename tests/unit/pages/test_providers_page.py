"""The page of providers: its bounds, and what its buttons do."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from admin_kit import Api, open_api
from pages_kit import AdminPort, Page
from sqlalchemy import text

from edge_extproc.server.admin_providers import ProviderFacts

LARGEST = 150 * 1024


@pytest.fixture
def api() -> Iterator[Api]:
    found = open_api()
    yield found
    found.engine.dispose()


@pytest.fixture
def port(api: Api) -> AdminPort:
    return AdminPort(api)


async def test_many_providers_are_on_several_pages(api: Api, port: AdminPort) -> None:
    names = [f"provider-{n:03}" for n in range(60)]
    api.facts = {name: ProviderFacts("openai", f"{name}.example:443", "key") for name in names}
    browser = await port.signed_in("root")
    seen: list[str] = []
    path = "/providers"
    while path:
        answer = await browser.get(path)
        assert len(answer.content) <= LARGEST
        page = Page(answer.text)
        seen += [given["value"] for tag, given in page.elements if given.get("name") == "provider" and tag == "input"]
        path = next((link.removeprefix("/ui") for link in page.links if "after=" in link), "")

    # Each has a form to be probed and one to be taken out.
    assert sorted(2 * names) == sorted(seen)


async def test_a_provider_is_probed_taken_out_and_put_back(api: Api, port: AdminPort) -> None:
    browser = await port.signed_in("root")
    await browser.post("/providers/probe", provider="openai")
    probed = await browser.page("/providers")
    limited = await browser.post("/providers/probe", provider="openai")
    await browser.post("/providers/take-out", provider="openai", seconds="3600", note="it is slow")
    out = await browser.page("/providers")
    actions = [form.action for form in out.forms if form.fields.get("provider") == "openai"]
    await browser.post("/providers/put-back", provider="openai")

    assert "openai answers in 40 ms and accepts the key (40 ms)" in probed.text
    assert (429, True) == (limited.status_code, "was probed just now" in Page(limited.text).text)
    assert re.search(r"taken out by root at \S+ \S+ UTC, until \S+ \S+ UTC: it is slow", out.text)
    assert ["/ui/providers/probe", "/ui/providers/put-back"] == actions
    assert () == api.store.snapshot().taken_out


async def test_errors_and_prices_are_shown(api: Api, port: AdminPort) -> None:
    for n in range(3):
        api.settle(f"failed-{n}", provider="openai", outcome="upstream_error", status=503, code="overloaded")
    page = await (await port.signed_in("eye")).page("/providers")

    assert "upstream_error 503 overloaded 3" in page.text
    assert "gpt-4o-mini $0.15 in, $0.60 out ; new – in, – out" in page.text.replace("out;", "out ;")
    assert "/ui/requests?provider=openai&outcome=upstream_error&status=503" in page.links


async def test_health_is_shown_while_the_database_is_down(api: Api, port: AdminPort) -> None:
    browser = await port.signed_in("root")
    with api.engine.begin() as connection:
        connection.execute(text("DROP TABLE taken_out"))
    page = await browser.page("/providers")

    assert "the database cannot be reached now" in page.text
    assert "openai unknown no attempts 0 0" in page.text
    assert ["/ui/sign-out"] == [form.action for form in page.forms]
