"""The configuration in the admin API: what differs from the file, and what a change would do."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from admin_kit import Api, open_api

from edge_extproc.model.config_trial import ConfigTrialResult
from edge_extproc.server.admin_config import ConfigDifference

HOUR_MS = 3_600_000


@pytest.fixture
def api() -> Iterator[Api]:
    found = open_api()
    yield found
    found.engine.dispose()


async def test_a_text_is_checked_or_replayed_and_audited_without_its_content(api: Api) -> None:
    checked = await api.ask("root", "POST", "/config/check", json={"text": "a: secret"})
    replayed = await api.ask("root", "POST", "/config/replay", json={"text": "a: 2", "hours": 2})

    assert (200, 200) == (checked.status_code, replayed.status_code)
    assert [("a: secret", None), ("a: 2", api.now - 2 * HOUR_MS)] == api.configuration.tried
    lines = api.store.audit(None, None, 2)
    assert ["config.replay", "config.check"] == [line.action for line in lines]
    assert "secret" not in repr(lines)


@pytest.mark.parametrize("name", ["eye", "acme-admin", "acme-eye"])
@pytest.mark.parametrize(
    ("method", "path"), [("POST", "/config/check"), ("POST", "/config/replay"), ("GET", "/config/differences")]
)
async def test_only_admins_try_and_see_values(api: Api, name: str, method: str, path: str) -> None:
    options = {"json": {"text": "a: 1"}} if method == "POST" else {}

    assert 403 == (await api.ask(name, method, path, **options)).status_code
    assert [] == api.configuration.tried


async def test_one_trial_at_a_time_and_one_that_takes_too_long_are_refused(api: Api) -> None:
    api.configuration.is_busy = True
    busy = await api.ask("root", "POST", "/config/check", json={"text": "a: 1"})
    api.configuration.is_busy, api.configuration.result = False, None
    slow = await api.ask("root", "POST", "/config/check", json={"text": "a: 1"})

    assert [(429, "busy"), (503, "too_slow")] == [
        (each.status_code, each.json()["error"]["code"]) for each in (busy, slow)
    ]
    assert 1 == len(api.configuration.tried)


async def test_mistakes_and_differences_are_shown(api: Api) -> None:
    api.configuration.result = ConfigTrialResult(errors=["the pasted text:1:1: wrong"])
    api.configuration.found = ([ConfigDifference(key="listen.port", in_force="1", in_file="2")], ["bad"])
    trial = (await api.ask("root", "POST", "/config/check", json={"text": "a: 1"})).json()
    differing = (await api.ask("root", "GET", "/config/differences")).json()

    assert (["the pasted text:1:1: wrong"], None) == (trial["errors"], trial["replay"])
    assert {"differences": [{"key": "listen.port", "in_force": "1", "in_file": "2"}], "errors": ["bad"]} == differing


@pytest.mark.parametrize("body", [{"text": ""}, {"text": "a" * 200_001}, {"text": "a", "hours": 0}, {}])
async def test_a_body_out_of_bounds_is_refused(api: Api, body: dict[str, object]) -> None:
    assert 400 == (await api.ask("root", "POST", "/config/replay", json=body)).status_code
