"""The page of the playground: with JavaScript it gets events, without a page with all of them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from admin_kit import Api, open_api
from pages_kit import AdminPort, Page

FIELDS = {"tenant": "acme", "model": "gpt-4o-mini", "format": "messages", "prompt": "<b>Hi</b>", "max_tokens": "5"}


@pytest.fixture
def api() -> Iterator[Api]:
    found = open_api()
    found.playground.status, found.playground.exchange = "200", ""
    yield found
    found.engine.dispose()


@pytest.fixture
def port(api: Api) -> AdminPort:
    return AdminPort(api)


async def test_without_javascript_the_whole_result_is_a_page(api: Api, port: AdminPort) -> None:
    api.settle("e1", provider="openai", cost=2 * 10**9)
    api.playground.exchange = "e1"
    browser = await port.signed_in("acme-admin")
    form = (await browser.page("/playground")).form("/ui/playground")
    page = Page((await browser.send(form, **FIELDS)).text)
    ((call, _, _),) = api.playground.sent

    assert ("messages", 5, True) == (call.format, call.max_tokens, call.stream)
    for text in ("Hello <b>Hi</b>", "to the provider", "from the provider", "curl gpt-4o-mini", "$0.002"):
        assert text in page.text
    assert "/ui/requests/e1" in page.links


async def test_with_javascript_the_events_are_passed_on(api: Api, port: AdminPort) -> None:
    browser = await port.signed_in("acme-admin")
    data = {**FIELDS, "csrf": await browser.csrf()}
    answer = await browser.client.post("/ui/playground", data=data, headers={"accept": "text/event-stream"})

    assert "text/event-stream" == answer.headers["content-type"].partition(";")[0]
    assert 2 == answer.text.count("event: data")
    assert "no-store" == answer.headers["cache-control"]


@pytest.mark.parametrize("accept", ["text/html", "text/event-stream"])
async def test_a_refusal_of_the_api_is_a_page_with_its_reason(port: AdminPort, accept: str) -> None:
    browser = await port.signed_in("root")
    data = {**FIELDS, "tenant": "none", "csrf": await browser.csrf()}
    answer = await browser.client.post("/ui/playground", data=data, headers={"accept": accept})

    assert (404, True) == (answer.status_code, "there is no tenant" in Page(answer.text).text)


async def test_it_is_off_without_a_listener_and_for_viewers(api: Api, port: AdminPort) -> None:
    viewers = await (await port.signed_in("eye")).page("/playground")
    api.playground.address = None
    off = await (await port.signed_in("root")).page("/playground")

    assert "It needs the role tenant admin" in viewers.text
    assert "The playground is off: this process has no listener of its own" in off.text
    assert ["/ui/sign-out"] == [form.action for form in off.forms]
