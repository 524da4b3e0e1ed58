"""The pages of providers, the cache, the configuration and the audit log."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from admin_kit import Api, open_api
from pages_kit import AdminPort

from edge_extproc.server.admin_api import Purge


@pytest.fixture
def api() -> Iterator[Api]:
    found = open_api()
    found.now = int(datetime.now(UTC).timestamp() * 1000)
    yield found
    found.engine.dispose()


@pytest.fixture
def port(api: Api) -> AdminPort:
    return AdminPort(api)


async def test_what_is_of_all_tenants_is_shown_to_those_who_see_all(port: AdminPort) -> None:
    everything = await (await port.signed_in("eye")).page("/providers")
    bound = await (await port.signed_in("acme-admin")).page("/providers")

    assert "openai in use no attempts 0 0 – – closed" in everything.text
    assert ("openai" in bound.text, "Only a user who is not bound" in bound.text) == (False, True)


@pytest.mark.parametrize(
    ("name", "fields", "expected"),
    [
        ("root", {"tenant": "", "model": "", "key": ""}, Purge(None, None)),
        ("root", {"tenant": "acme", "shared": "yes"}, Purge("acme", None, None, True)),
        ("root", {"model": " gpt-4o* "}, Purge(None, "gpt-4o*")),
        ("root", {"key": "0" * 64}, Purge(None, None, "0" * 64)),
        ("acme-admin", {}, Purge("acme", None)),
    ],
)
async def test_the_cache_is_purged_of_what_is_chosen(
    port: AdminPort, name: str, fields: dict[str, str], expected: Purge
) -> None:
    browser = await port.signed_in(name)
    answer = await browser.send((await browser.page("/cache")).form("/ui/cache/purge"), **{"shared": "", **fields})
    page = await browser.page(answer.headers["location"].removeprefix("/ui"))

    assert [expected] == port.api.purged
    assert "The cache was purged. Cache 3 replies were removed." in page.text


async def test_hits_are_shown_by_model(api: Api, port: AdminPort) -> None:
    api.settle("miss", model="chat", cache="miss")
    for n in range(3):
        api.settle(f"hit-{n}", model="chat", cache="hit", saved_tokens=20, saved_cost=5 * 10**11)
    page = await (await port.signed_in("acme-eye")).page("/cache")

    assert "chat 4 3 75.0 % 60 $1.50" in page.text
    assert ["/ui/sign-out"] == [form.action for form in page.forms]


async def test_the_configuration_says_whether_its_file_is_in_force(port: AdminPort) -> None:
    browser = await port.signed_in("eye")
    assert "The file is in force" in (await browser.page("/config")).text
    port.state["last_reload"] = {"outcome": "restart_needed", "at": 0.0, "error": "a restart is needed for listen"}
    changed = (await browser.page("/config")).text
    port.state["file"] = None

    assert "restart needed at 1970-01-01 00:00:00 UTC" in changed
    assert "The file is not in force: a restart is needed for listen" in changed
    assert "none: the built-in defaults" in (await browser.page("/config")).text


async def test_changes_are_listed_with_who_made_them_and_in_pages(port: AdminPort) -> None:
    browser = await port.signed_in("root")
    for n in range(120):
        await port.api.ask("acme-admin", "POST", "/keys", json={"tenant": "acme", "id": f"k-{n}", "models": ["a", "b"]})
    first = await browser.page("/audit?tenant=acme")
    (older,) = [link for link in first.links if "before=" in link]
    second = await browser.page(older.removeprefix("/ui"))

    assert "acme-admin tenant admin key.create acme k-119 models: a, b" in first.text
    assert "k-0 models" in second.text
    assert [] == [link for link in second.links if "before=" in link]
