"""The page of the configuration: what differs from the file, and what a pasted change would do."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import pytest
from admin_kit import Api, open_api
from pages_kit import AdminPort, Page

from edge_extproc.commands.replay import UNKNOWN, ReplayGroup, ReplayReport
from edge_extproc.model.config_trial import ConfigTrialResult
from edge_extproc.server.admin_config import ConfigDifference
from edge_extproc.store.managed import Actor

MARKUP = "<script>alert(1)</script>"
ROOT = Actor("root", "admin")


@pytest.fixture
def api() -> Iterator[Api]:
    found = open_api()
    yield found
    found.engine.dispose()


@pytest.fixture
def port(api: Api) -> AdminPort:
    return AdminPort(api)


async def test_an_admin_sees_what_differs_and_a_viewer_does_not(api: Api, port: AdminPort) -> None:
    api.configuration.found = ([ConfigDifference(key="listen.port", in_force="10000", in_file="12345")], [])
    admin = await (await port.signed_in("root")).page("/config")
    viewer = await (await port.signed_in("eye")).page("/config")

    assert "listen.port 10000 12345" in admin.text
    assert ("listen.port" in viewer.text, "Try a change" in viewer.text) == (False, False)


async def test_errors_of_a_pasted_text_are_shown_and_the_text_stays(api: Api, port: AdminPort) -> None:
    api.configuration.result = ConfigTrialResult(errors=[f"the pasted text:1:1: {MARKUP}"])
    page = Page((await (await port.signed_in("root")).post("/config/check", text=f"a: {MARKUP}")).text)

    assert [(f"a: {MARKUP}", None)] == api.configuration.tried
    assert f"the pasted text:1:1: {MARKUP}" in page.text
    assert f"a: {MARKUP}" in page.text


async def test_a_replay_is_shown_with_what_it_cannot_know(api: Api, port: AdminPort) -> None:
    group = ReplayGroup("refused", "acme", MARKUP, None, "there is no key", 3, "1.5", "0")
    report = ReplayReport(9, 8, 1, 3, 0, 0, "2", "0.5", "1.5", True, [group], 7, list(UNKNOWN))
    api.configuration.result = ConfigTrialResult(
        rendering="valid", needs_restart=["listen.port"], report=msgspec.to_builtins(report)
    )
    answer = await (await port.signed_in("root")).post("/config/replay", text="a: 1", hours="48")
    page = Page(answer.text)

    assert [("a: 1", api.now - 48 * 3_600_000)] == api.configuration.tried
    assert f"refused acme {MARKUP} – there is no key 3 $1.50 $0.00" in page.text
    for text in ("9 1 unclear", "A restart is needed for listen.port", "7 more changes", "these are the newest"):
        assert text in page.text
    assert all(each in page.text for each in UNKNOWN)


async def test_a_refusal_is_shown_on_the_page(api: Api, port: AdminPort) -> None:
    api.configuration.is_busy = True
    browser = await port.signed_in("root")
    busy = await browser.post("/config/check", text="a: 1")
    hours = await browser.post("/config/replay", text="a: 1", hours="many")

    assert (429, 400) == (busy.status_code, hours.status_code)
    assert "another configuration is being tried" in Page(busy.text).text


async def test_what_was_added_is_shown_and_removed(api: Api, port: AdminPort) -> None:
    browser = await port.signed_in("root")
    sent = {"section": "models", "name": "team/fast", "value": '[{"provider": "openai", "model": "<b>"}]'}
    await browser.post("/config/add", **sent)
    added = await browser.page("/config")
    seen = (await (await port.signed_in("eye")).page("/config")).text
    await browser.post("/config/remove", section="models", name="team/fast")

    assert 'team/fast model [{"provider": "openai", "model": "<b>"}] in force' in added.text
    assert ("team/fast" in seen, "Add or replace" in seen) == (True, False)
    assert [] == api.store.additions()
    assert "team/fast" not in (await browser.page("/config")).text


@pytest.mark.parametrize(
    ("fields", "status", "why"),
    [
        ({"section": "models", "name": "fast", "value": "{"}, 400, "the value is not JSON"),
        ({"section": "models", "name": "gpt-4o", "value": "[]"}, 409, "in the configuration file"),
        ({"section": "models", "name": "", "value": "[]"}, 400, "is no name"),
        ({"section": "tenants", "name": "acme", "value": "{}"}, 400, "choose a provider or a model"),
        ({"section": "providers", "name": "a/b", "value": "{}"}, 400, "is no name"),
    ],
)
async def test_why_nothing_was_added_is_shown(
    api: Api, port: AdminPort, fields: dict[str, str], status: int, why: str
) -> None:
    answer = await (await port.signed_in("root")).post("/config/add", **fields)

    assert (status, True) == (answer.status_code, why in Page(answer.text).text)
    assert [] == api.store.additions()


async def test_many_additions_are_on_a_small_page(api: Api, port: AdminPort) -> None:
    for n in range(120):
        api.store.add(ROOT, "models", f"{n:03}" + '"' * 200, [{"provider": '"' * 60, "model": '"' * 200}])
    answer = await (await port.signed_in("root")).get("/config")

    assert len(answer.content) <= 150 * 1024
    assert "90 more are not shown" in Page(answer.text).text
