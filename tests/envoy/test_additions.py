"""Providers and models that are added by the admin API while the gateway runs: through Envoy, and after a restart."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from typing import Any

import pytest
from admin_calls import ROOT, ask_admin_api, call
from gateway import KEY, RunningGateway, config

pytestmark = pytest.mark.envoy


@pytest.fixture
def text(rehearsal_url: str) -> str:
    """A configuration whose file has no model `fast`."""
    found = config(rehearsal_url, more="store: {every: 100ms}\n", workers=2)
    line = next(each for each in found.splitlines() if each.startswith("admin:"))
    more = (
        f"tokens: [{{id: root, role: admin, token: {ROOT}}}], additions: {{hosts: [127.0.0.1], keys: [EDGE_ADDED_*]}}"
    )
    found = found.replace('"*": [{provider: openai}]', "gpt-4o-mini: [{provider: openai}]")
    return found.replace(line, f"{line[:-1]}, {more}}}")


@pytest.fixture
def running(text: str) -> Iterator[RunningGateway]:
    with RunningGateway(text, environment={"EDGE_ADDED_KEY": "sk-added"}) as gateway:
        yield gateway


def test_an_added_provider_serves_added_models_until_they_are_removed(
    running: RunningGateway, rehearsal_url: str
) -> None:
    provider = {"kind": "openai", "base_url": f"{rehearsal_url}/v1", "api_key": {"env": "EDGE_ADDED_KEY"}}

    assert 404 == call(running, KEY, "fast")[0]
    assert 200 == ask_admin_api(running, "PUT", "/additions/providers/spare", provider)[0]
    assert (
        200
        == ask_admin_api(running, "PUT", "/additions/models/fast", [{"provider": "spare", "model": "gpt-4o-mini"}])[0]
    )
    assert {200} == {call(running, KEY, "fast")[0] for _ in range(8)}
    status, error = ask_admin_api(running, "DELETE", "/additions/providers/spare")
    assert (400, True) == (status, "models.fast" in error["error"]["message"])
    assert 204 == ask_admin_api(running, "DELETE", "/additions/models/fast")[0]
    assert {404} == {call(running, KEY, "fast")[0] for _ in range(8)}
    assert 204 == ask_admin_api(running, "DELETE", "/additions/providers/spare")[0]
    assert 200 == call(running, KEY, "gpt-4o-mini")[0]


def test_additions_survive_a_restart(running: RunningGateway, rehearsal_url: str) -> None:
    provider = {"kind": "openai", "base_url": f"{rehearsal_url}/v1", "api_key": {"env": "EDGE_ADDED_KEY"}}
    ask_admin_api(running, "PUT", "/additions/providers/spare", provider)
    ask_admin_api(running, "PUT", "/additions/models/fast", [{"provider": "spare", "model": "gpt-4o-mini"}])
    running.stop()
    again = RunningGateway(running.path.read_text(), environment={"EDGE_ADDED_KEY": "sk-added"})
    shutil.rmtree(again.directory)
    again.directory, again.path = running.directory, running.path
    with again:
        status = call(again, KEY, "fast")[0]
        (shown,) = ask_admin_api(again, "GET", "/additions")[1]["models"]

    assert (200, "fast", "in_force") == (status, shown["name"], shown["state"])


@pytest.mark.parametrize(
    "change",
    [
        {"base_url": "http://127.0.0.2:9/v1"},
        {"api_key": {"file": "/etc/hostname"}},
        {"api_key": {"env": "PATH"}},
    ],
)
def test_what_the_file_does_not_permit_is_refused_and_changes_nothing(
    running: RunningGateway, rehearsal_url: str, change: dict[str, Any]
) -> None:
    provider = {"kind": "openai", "base_url": f"{rehearsal_url}/v1", "api_key": {"env": "EDGE_ADDED_KEY"}, **change}
    status, error = ask_admin_api(running, "PUT", "/additions/providers/spare", provider)

    assert (400, "not_applied") == (status, error["error"]["code"])
    assert {"providers": [], "models": []} == ask_admin_api(running, "GET", "/additions")[1]
    assert 200 == call(running, KEY, "gpt-4o-mini")[0]
