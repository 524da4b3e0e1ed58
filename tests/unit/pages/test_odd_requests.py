"""What odd queries, odd forms and a database that is down lead to: a page that says what is wrong."""

from __future__ import annotations

from collections.abc import Iterator

import httpx2
import pytest
from admin_kit import Api, open_api
from pages_kit import AdminPort, Browser, Page
from sqlalchemy import text

from edge_extproc.model.managed import ManagedBudget
from edge_extproc.pages.app import PAGES
from edge_extproc.store.managed import Actor

NINES = "9" * 5000


@pytest.fixture
def api() -> Iterator[Api]:
    found = open_api()
    yield found
    found.engine.dispose()


@pytest.fixture
def port(api: Api) -> AdminPort:
    return AdminPort(api)


@pytest.mark.parametrize("number", [NINES, "1e3", "-1", ""])
async def test_a_form_with_an_odd_number_is_refused_with_the_reason(port: AdminPort, number: str) -> None:
    browser = await port.signed_in("root")
    await browser.post("/keys", tenant="acme", id="turning")
    budget = {"tenant": "acme", "level": "team", "name": "search", "limit": "requests_per_minute", "maximum": number}
    for answer in (
        await browser.post("/budgets/set", **budget),
        await browser.post("/keys/turning/rotate", overlap_seconds=number),
    ):
        assert 400 == answer.status_code
        assert "write" in Page(answer.text).text


@pytest.mark.parametrize(
    ("tenant", "level", "name"), [("acme/team", "search", ""), ("acme", "team", "a/b"), ("", "", "")]
)
async def test_a_name_does_not_change_the_path_of_the_api(
    api: Api, port: AdminPort, tenant: str, level: str, name: str
) -> None:
    api.store.set_budget(Actor("root", "admin"), ManagedBudget("acme", "team", "search", {"requests_per_minute": 5}))
    browser = await port.signed_in("root")
    answer = await browser.post("/budgets/delete", tenant=tenant, level=level, name=name)

    assert 400 == answer.status_code
    assert "a name is not empty and has no slash" in Page(answer.text).text


async def test_a_file_that_the_api_refuses_is_a_page_with_the_reason(port: AdminPort) -> None:
    answer = await (await port.signed_in("eye")).get("/requests.csv?status=many")

    assert (400, "text/html; charset=utf-8") == (answer.status_code, answer.headers["content-type"])
    assert "content-disposition" not in answer.headers
    assert "query.status: this is not a whole number" in Page(answer.text).text


@pytest.mark.parametrize("path", [path for method, path in PAGES if method == "GET"])
async def test_a_page_says_that_the_database_is_down(api: Api, port: AdminPort, path: str) -> None:
    browser = await port.signed_in("root")
    with api.engine.begin() as connection:
        for table in ("usage", "keys", "budgets", "audit", "revocations", "taken_out"):
            connection.execute(text(f"DROP TABLE IF EXISTS {table}"))
    answer = await browser.get(path.format(exchange="any", key_id="any"))

    needs_none = path in ("/", "/providers", "/playground", "/config")
    assert (200 if needs_none else 503) == answer.status_code
    assert needs_none or "the database cannot be reached now" in Page(answer.text).text


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/ui/keys", {"host": "<script>alert(1)</script>"}, 421),
        ("/ui/keys", {"origin": "https://evil.example"}, 403),
        ("/ui/keys/a%0ab", {}, 404),
        ("/ui/none", {}, 404),
        ("/ui/keys?after=%00", {"cookie": "none"}, 303),
    ],
)
async def test_every_answer_has_a_policy_and_is_stored_nowhere(
    port: AdminPort, path: str, headers: dict[str, str], status: int
) -> None:
    answer = await port.browser().client.get(path, headers=headers)

    assert status == answer.status_code
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
    assert ("nosniff", "no-store") == (answer.headers["x-content-type-options"], answer.headers["cache-control"])


async def test_a_page_that_fails_is_an_error_page_with_the_policy(port: AdminPort) -> None:
    signed_in = await port.signed_in("root")
    browser = Browser(port.app)
    transport = httpx2.ASGITransport(app=port.app, raise_app_exceptions=False)
    browser.client = httpx2.AsyncClient(
        transport=transport, base_url=signed_in.client.base_url, cookies=signed_in.client.cookies
    )
    port.state.clear()
    answer = await browser.get("/config")

    assert 500 == answer.status_code
    assert "Its log has the reason" in Page(answer.text).text
    assert "default-src 'none'" in answer.headers["content-security-policy"]
