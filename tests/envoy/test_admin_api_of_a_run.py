"""The admin API of a running gateway: what it changes holds at once, with all workers, without a restart."""

from __future__ import annotations

import json
import os
import signal
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from admin_calls import ROOT, ask_admin_api, call, response_of
from gateway import KEY, RunningGateway, config, until

pytestmark = pytest.mark.envoy

MORE = """
store: {every: 100ms}
roles: {watchers: {admin: [viewer]}}
"""


class FailingProvider:
    """A provider that is overloaded. `before` is called before each answer."""

    def __init__(self) -> None:
        self.before: Callable[[], object] = list
        self.asked = 0
        failing = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["content-length"]))
                failing.asked += 1
                failing.before()
                self.send_response(503)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture(scope="module")
def failing() -> Iterator[FailingProvider]:
    found = FailingProvider()
    yield found
    found.close()


@pytest.fixture(scope="module")
def managed(rehearsal_url: str, failing: FailingProvider) -> Iterator[RunningGateway]:
    both = "both: [{provider: failing, model: gpt-4o-mini}, {provider: openai, model: gpt-4o-mini}]"
    text = config(rehearsal_url, more=MORE, models=both, workers=2)
    first = f'providers:\n  failing: {{kind: openai, base_url: "{failing.url}/v1", api_key: sk-failing, api: chat}}\n'
    text = text.replace("providers:\n", first)
    line = next(each for each in text.splitlines() if each.startswith("admin:"))
    tokens = f"{line[:-1]}, tokens: [{{id: root, role: admin, token: {ROOT}}}]}}"
    with RunningGateway(text.replace(line, tokens)) as gateway:
        yield gateway


def _statuses(gateway: RunningGateway, key: str, count: int = 12) -> set[int]:
    """Of enough calls that every worker had some."""
    return {call(gateway, key)[0] for _ in range(count)}


def test_a_key_is_good_when_it_is_told_and_no_more_when_it_is_revoked(managed: RunningGateway) -> None:
    status, made = ask_admin_api(managed, "POST", "/keys", {"tenant": "acme", "id": "ci"})

    assert 201 == status
    assert {200} == _statuses(managed, made["key"])
    ask_admin_api(managed, "DELETE", "/keys/ci")
    assert {401} == _statuses(managed, made["key"])


def test_a_rotated_key_is_replaced(managed: RunningGateway) -> None:
    _, made = ask_admin_api(managed, "POST", "/keys", {"tenant": "acme", "id": "turning"})
    _, kept = ask_admin_api(managed, "POST", "/keys/turning/rotate", {"overlap_seconds": 600})

    assert ({200}, {200}) == (_statuses(managed, made["key"]), _statuses(managed, kept["key"]))
    _, last = ask_admin_api(managed, "POST", "/keys/turning/rotate")
    assert {401} == _statuses(managed, made["key"])
    assert ({401}, {200}) == (_statuses(managed, kept["key"]), _statuses(managed, last["key"]))


def test_a_key_reaches_only_the_models_that_it_and_its_tenant_may(managed: RunningGateway) -> None:
    _, made = ask_admin_api(managed, "POST", "/keys", {"tenant": "acme", "id": "narrow", "models": ["gpt-4o*"]})
    _, wide = ask_admin_api(managed, "POST", "/keys", {"tenant": "umbrella", "id": "wide", "models": ["*"]})

    assert 200 == call(managed, made["key"], "gpt-4o-mini")[0]
    assert call(managed, made["key"], "gpt-3.5-turbo")[0] in (403, 404)
    assert call(managed, wide["key"], "gpt-4o-mini")[0] in (403, 404)


def test_a_caller_with_an_admins_role_is_anask_admin_api(managed: RunningGateway) -> None:
    _, made = ask_admin_api(managed, "POST", "/keys", {"tenant": "acme", "id": "watcher", "roles": ["watchers"]})

    def ask(method: str, path: str) -> int:
        headers = {"authorization": f"Bearer {made['key']}"}
        return response_of(urllib.request.Request(f"{managed.admin}/admin/v1{path}", None, headers, method=method))[0]

    assert 200 == ask("GET", "/keys?tenant=acme")
    assert 403 == ask("GET", "/keys?tenant=umbrella")
    assert 403 == ask("DELETE", "/keys/watcher")


def test_a_budget_holds_from_the_next_request_on_and_until_it_is_taken_away(managed: RunningGateway) -> None:
    _, made = ask_admin_api(managed, "POST", "/keys", {"tenant": "acme", "id": "poor"})
    status, _ = ask_admin_api(managed, "PUT", "/budgets/acme/key/poor", {"requests_per_minute": 1})

    assert 200 == status
    assert {200, 429} == _statuses(managed, made["key"], 3)
    (limit,) = next(
        b["limits"] for b in ask_admin_api(managed, "GET", "/budgets?tenant=acme")[1] if b["name"] == "poor"
    )
    assert ("requests_per_minute", 1, 1, 0, 0) == tuple(
        limit[k] for k in ("limit", "maximum", "used", "reserved", "left")
    )
    ask_admin_api(managed, "DELETE", "/budgets/acme/key/poor")
    assert {200} == _statuses(managed, made["key"], 4)


def _versions(gateway: RunningGateway) -> dict[str, str]:
    """How many workers run each."""
    lines = [line for line in gateway.metrics().splitlines() if line.startswith("edge_config_info{")]
    return {line.partition('"')[2].partition('"')[0]: line.rpartition(" ")[2] for line in lines}


def test_a_change_is_another_version_that_all_workers_run(managed: RunningGateway) -> None:
    until(lambda: len(_versions(managed)) == 1)
    before = _versions(managed)
    ask_admin_api(managed, "POST", "/keys", {"tenant": "acme", "id": "versioned"})
    after = _versions(managed)

    assert ["2.0"] == list(after.values())
    assert before.keys() != after.keys()
    assert {name.partition("+")[0] for name in before} == {name.partition("+")[0] for name in after}


def test_a_worker_that_is_started_again_knows_what_is_managed(managed: RunningGateway) -> None:
    _, made = ask_admin_api(managed, "POST", "/keys", {"tenant": "acme", "id": "lasting"})
    first = managed.processes()["worker 0"]
    os.kill(first, signal.SIGKILL)

    until(lambda: not Path(f"/proc/{first}").exists())
    until(lambda: response_of(urllib.request.Request(f"{managed.admin}/readyz"))[0] == 200)
    assert {200} == _statuses(managed, made["key"])


def test_a_provider_that_is_taken_out_gets_nothing_from_any_worker_until_it_is_put_back(
    managed: RunningGateway,
) -> None:
    def in_force() -> float:
        return json.loads(urllib.request.urlopen(f"{managed.admin}/config").read())["in_force_since"]

    assert {200} == _statuses(managed, KEY)
    status, _ = ask_admin_api(managed, "PUT", "/providers/openai/taken-out", {"note": "maintenance"})
    assert (200, {503}) == (status, _statuses(managed, KEY))
    assert 200 == call(managed, KEY, "claude-haiku-4-5")[0]
    before = in_force()
    fresh = managed.path.with_suffix(".fresh")
    fresh.write_text(managed.path.read_text() + "# changed\n")
    fresh.replace(managed.path)
    assert managed.process is not None
    managed.process.send_signal(signal.SIGHUP)
    until(lambda: in_force() > before)
    assert {503} == _statuses(managed, KEY)
    shown = {each["provider"]: each["taken_out"] for each in ask_admin_api(managed, "GET", "/providers")[1]}
    assert ("maintenance", None) == (shown["openai"]["note"], shown["anthropic"])
    ask_admin_api(managed, "DELETE", "/providers/openai/taken-out")

    assert {200} == _statuses(managed, KEY)


def test_a_request_that_has_begun_still_reaches_a_provider_that_is_taken_out_meanwhile(
    managed: RunningGateway, failing: FailingProvider
) -> None:
    """Envoy has the order of its candidates, and an agent cannot choose another one for a later attempt."""
    failing.before = lambda: ask_admin_api(managed, "PUT", "/providers/openai/taken-out", {"note": "maintenance"})
    status, reply = call(managed, KEY, "both")
    failing.before = list
    asked = failing.asked

    assert (200, "chat.completion") == (status, reply["object"])
    assert asked > 0
    assert 503 == call(managed, KEY, "both")[0]  # a new one does not reach it
    assert failing.asked > asked
    ask_admin_api(managed, "DELETE", "/providers/openai/taken-out")
    assert 200 == call(managed, KEY, "both")[0]


def test_a_probe_asks_the_provider_and_prices_are_those_of_the_list(managed: RunningGateway) -> None:
    status, probe = ask_admin_api(managed, "POST", "/providers/openai/probe")

    assert (200, "ok") == (status, probe["state"]), probe
    assert probe["seconds"] > 0
    (openai,) = [each for each in ask_admin_api(managed, "GET", "/providers")[1] if each["provider"] == "openai"]
    assert probe == openai["last_probe"]


def test_usage_can_be_asked_for_by_tenant_and_exported(managed: RunningGateway) -> None:
    call(managed, KEY)
    until(lambda: any(row["key"] == "acme-1" for row in ask_admin_api(managed, "GET", "/usage?by=key&tenant=acme")[1]))
    request = urllib.request.Request(
        f"{managed.admin}/admin/v1/usage/export?format=json&key=acme-1", headers={"authorization": f"Bearer {ROOT}"}
    )
    with urllib.request.urlopen(request) as answer:
        rows = [json.loads(line) for line in answer.read().splitlines()]

    assert rows
    assert {"acme-1"} == {row["key"] for row in rows}
