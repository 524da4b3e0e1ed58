"""Providers in the admin API: their state, a probe, taking one out and putting it back."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from admin_kit import Api, open_api

from edge_extproc.model.managed import TakenOutProvider


@pytest.fixture
def api() -> Iterator[Api]:
    found = open_api()
    yield found
    found.engine.dispose()


async def test_a_provider_is_taken_out_and_put_back_for_all_workers(api: Api) -> None:
    out = await api.ask("root", "PUT", "/providers/openai/taken-out", json={"note": "it is slow"})
    managed, published = api.store.snapshot(), api.published
    listed = (await api.ask("eye", "GET", "/providers")).json()
    back = await api.ask("root", "DELETE", "/providers/openai/taken-out")

    assert (200, (TakenOutProvider("openai", None),), 1) == (out.status_code, managed.taken_out, published)
    assert ["it is slow", None] == [each["taken_out"] and each["taken_out"]["note"] for each in listed]
    assert (204, (), 2) == (back.status_code, api.store.snapshot().taken_out, api.published)
    assert 404 == (await api.ask("root", "DELETE", "/providers/openai/taken-out")).status_code
    lines = [(line.actor, line.action, line.target) for line in api.store.audit(None, None, 9)]
    assert [("root", "provider.put_back", "openai"), ("root", "provider.take_out", "openai")] == lines


async def test_its_time_ends(api: Api) -> None:
    await api.ask("root", "PUT", "/providers/openai/taken-out", json={"seconds": 60})
    assert (TakenOutProvider("openai", api.now + 60_000),) == api.store.snapshot().taken_out
    api.now += 60_000

    assert () == api.store.snapshot().taken_out
    assert all(each["taken_out"] is None for each in (await api.ask("eye", "GET", "/providers")).json())


async def test_a_probe_is_shown_audited_and_limited(api: Api) -> None:
    first = await api.ask("root", "POST", "/providers/openai/probe")
    again = await api.ask("root", "POST", "/providers/openai/probe")
    other = await api.ask("root", "POST", "/providers/spare/probe")
    api.now += 10_000
    later = await api.ask("root", "POST", "/providers/openai/probe")
    (shown, _) = (await api.ask("eye", "GET", "/providers")).json()

    assert (200, 429, 200, 200) == tuple(each.status_code for each in (first, again, other, later))
    assert ["openai", "spare", "openai"] == api.probed
    assert ("ok", 200, "root") == tuple(shown["last_probe"][name] for name in ("state", "status", "by"))
    assert ["provider.probe"] * 3 == [line.action for line in api.store.audit(None, None, 9)]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/providers"),
        ("POST", "/providers/openai/probe"),
        ("PUT", "/providers/openai/taken-out"),
        ("DELETE", "/providers/openai/taken-out"),
    ],
)
async def test_a_user_of_one_tenant_neither_sees_nor_changes_them(api: Api, method: str, path: str) -> None:
    body = {"json": {}} if method == "PUT" else {}
    assert 403 == (await api.ask("acme-admin", method, path, **body)).status_code
    assert [] == api.probed


async def test_a_provider_that_the_configuration_lacks_is_unknown(api: Api) -> None:
    probe = await api.ask("root", "POST", "/providers/none/probe")
    out = await api.ask("root", "PUT", "/providers/none/taken-out", json={})

    assert (404, 404) == (probe.status_code, out.status_code)


async def test_errors_of_the_last_hour_are_counted_by_kind_and_prices_shown(api: Api) -> None:
    api.settle("old", provider="openai", outcome="upstream_error", status=502)
    api.now += 3_600_000
    for n in range(3):
        api.settle(f"failed-{n}", provider="openai", outcome="upstream_error", status=503, code="overloaded")
    api.settle("other", provider="openai", outcome="broken_stream", status=200)
    api.settle("good", provider="openai")
    api.settle("ours", outcome="rejected", status=429)
    (openai, spare) = (await api.ask("eye", "GET", "/providers")).json()

    assert [("upstream_error", 503, "overloaded", 3), ("broken_stream", 200, None, 1)] == [
        tuple(each[name] for name in ("outcome", "status", "code", "requests")) for each in openai["errors"]
    ]
    assert [("gpt-4o-mini", "0.15", "0.6"), ("new", None, None)] == [tuple(each.values()) for each in openai["prices"]]
    assert ([], [], "key in a file") == (spare["errors"], spare["prices"], spare["credential"])
