"""Providers and models that are added by the admin API while the gateway runs: through Envoy, and after a restart."""

from __future__ import annotations

import json
import shutil
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
from gateway import KEY, RunningGateway, config

pytestmark = pytest.mark.envoy

ROOT = "admin-token-of-root"


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

    assert 404 == _call(running, "fast")[0]
    assert 200 == _admin(running, "PUT", "/additions/providers/spare", provider)[0]
    assert 200 == _admin(running, "PUT", "/additions/models/fast", [{"provider": "spare", "model": "gpt-4o-mini"}])[0]
    assert {200} == {_call(running, "fast")[0] for _ in range(8)}
    status, error = _admin(running, "DELETE", "/additions/providers/spare")
    assert (400, True) == (status, "models.fast" in error["error"]["message"])
    assert 204 == _admin(running, "DELETE", "/additions/models/fast")[0]
    assert {404} == {_call(running, "fast")[0] for _ in range(8)}
    assert 204 == _admin(running, "DELETE", "/additions/providers/spare")[0]
    assert 200 == _call(running, "gpt-4o-mini")[0]


def test_additions_survive_a_restart(running: RunningGateway, rehearsal_url: str) -> None:
    provider = {"kind": "openai", "base_url": f"{rehearsal_url}/v1", "api_key": {"env": "EDGE_ADDED_KEY"}}
    _admin(running, "PUT", "/additions/providers/spare", provider)
    _admin(running, "PUT", "/additions/models/fast", [{"provider": "spare", "model": "gpt-4o-mini"}])
    running.stop()
    again = RunningGateway(running.path.read_text(), environment={"EDGE_ADDED_KEY": "sk-added"})
    shutil.rmtree(again.directory)
    again.directory, again.path = running.directory, running.path
    with again:
        status = _call(again, "fast")[0]
        (shown,) = _admin(again, "GET", "/additions")[1]["models"]

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
    status, error = _admin(running, "PUT", "/additions/providers/spare", provider)

    assert (400, "not_applied") == (status, error["error"]["code"])
    assert {"providers": [], "models": []} == _admin(running, "GET", "/additions")[1]
    assert 200 == _call(running, "gpt-4o-mini")[0]


def _admin(gateway: RunningGateway, method: str, path: str, body: Any = None) -> tuple[int, Any]:
    data = json.dumps(body).encode() if body is not None else None
    headers = {"authorization": f"Bearer {ROOT}", "content-type": "application/json"}
    return _answer(urllib.request.Request(f"{gateway.admin}/admin/v1{path}", data, headers, method=method))


def _call(gateway: RunningGateway, model: str) -> tuple[int, Any]:
    body = {"model": model, "max_tokens": 50, "messages": [{"role": "user", "content": "hello"}]}
    headers = {"content-type": "application/json", "authorization": f"Bearer {KEY}"}
    return _answer(urllib.request.Request(f"{gateway.url}/v1/chat/completions", json.dumps(body).encode(), headers))


def _answer(request: urllib.request.Request) -> tuple[int, Any]:
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            text = answer.read()
            return answer.status, json.loads(text) if text else None
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.loads(error.read())
