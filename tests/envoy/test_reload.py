"""A configuration file that changes under a running gateway: what is good is in force at once, what is not never is."""

from __future__ import annotations

import json
import os
import signal
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest
from gateway import KEY, OTHER_KEY, RunningGateway, config, until

pytestmark = pytest.mark.envoy

NEW_KEY = "edge-test-key-that-came-later"


@pytest.fixture(scope="module")
def running(rehearsal_url: str) -> Iterator[RunningGateway]:
    # Nothing is sampled, and nobody listens there.
    more = "telemetry: {otlp: {endpoint: 'http://127.0.0.1:9', sampling: 0, metrics: false}}"
    with RunningGateway(config(rehearsal_url, more=more, workers=2)) as gateway:
        yield gateway


@pytest.fixture
def text(running: RunningGateway) -> Iterator[str]:
    """What the gateway began with; it goes back to it."""
    found = running.path.read_text()
    yield found
    _write(running, found)
    _reread(running, "applied")


def _write(gateway: RunningGateway, text: str) -> None:
    """At once: others read the ports in it meanwhile."""
    fresh = gateway.path.with_suffix(".fresh")
    fresh.write_text(text)
    fresh.replace(gateway.path)


def _shown(gateway: RunningGateway) -> Any:
    with urllib.request.urlopen(f"{gateway.admin}/config") as answer:
        return json.load(answer)


def _reread(gateway: RunningGateway, outcome: str) -> Any:
    """By SIGHUP, so that no test waits for the clock."""
    before = _count(gateway)
    process = gateway.process
    assert process is not None
    process.send_signal(signal.SIGHUP)
    until(lambda: _count(gateway) > before)
    found = _shown(gateway)["last_reload"]
    assert outcome == found["outcome"], found
    return found


def _count(gateway: RunningGateway) -> float:
    return sum(_samples(gateway, "edge_config_reloads_total").values())


def _samples(gateway: RunningGateway, name: str) -> dict[str, float]:
    lines = [line for line in gateway.metrics().splitlines() if line.split("{")[0].split(" ")[0] == name]
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines}


def _ask(gateway: RunningGateway, key: str = KEY, model: str = "rehearsal") -> int:
    body = {"model": model, "max_tokens": 20, "messages": [{"role": "user", "content": "hello"}]}
    headers = {"authorization": f"Bearer {key}", "content-type": "application/json"}
    # A client of httpx takes longer to be made than all the rest.
    request = urllib.request.Request(f"{gateway.url}/v1/chat/completions", json.dumps(body).encode(), headers)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            answer.read()
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def _statuses(gateway: RunningGateway, ask: Callable[[RunningGateway], int]) -> set[int]:
    """Of enough calls that every worker had some."""
    return {ask(gateway) for _ in range(12)}


def test_keys_limits_and_models_change_under_traffic_and_nothing_is_dropped(running: RunningGateway, text: str) -> None:
    stop = threading.Event()
    seen: list[int | str] = []

    def keep_asking() -> None:
        while not stop.wait(0.01):
            try:
                seen.append(_ask(running))
            except OSError as error:
                seen.append(repr(error))

    askers = [threading.Thread(target=keep_asking) for _ in range(2)]
    for each in askers:
        each.start()
    try:
        assert {401} == _statuses(running, lambda g: _ask(g, NEW_KEY))
        limited = "  - {tenant: late, limits: {requests_per_minute: 5}, keys: [{id: late-1, key: " + NEW_KEY + "}]}\n"
        changed = text.replace("providers:\n", limited + "providers:\n", 1)
        changed = changed.replace(
            '"*": [{provider: openai}]', '"*": [{provider: openai}]\n  "new": [{provider: anthropic}]'
        )
        _write(running, changed)
        _reread(running, "applied")

        # Two workers share one count, kept by a store that nobody had asked for at the start.
        late = [_ask(running, NEW_KEY, "new") for _ in range(8)]
        assert [200] * 5 + [429] * 3 == late
        _write(running, changed.replace("requests_per_minute: 5", "requests_per_minute: 7"))
        _reread(running, "applied")
        # What was used stays used.
        assert 2 == sum(_ask(running, NEW_KEY, "new") == 200 for _ in range(4))
        _write(running, changed.replace(f"key: {KEY}", f"key: {KEY}, disabled: false, policy: {{models: [x]}}"))
        _reread(running, "applied")
        assert {403} == _statuses(running, _ask) or {404} == _statuses(running, _ask)
    finally:
        stop.set()
        for each in askers:
            each.join()

    # The last change forbids what they ask; before it, not one call was lost.
    assert {200} <= set(seen) <= {200, 403, 404}
    assert 200 == seen[0]


def test_a_stream_under_way_ends_as_it_began(running: RunningGateway, text: str) -> None:
    body = {
        "model": "rehearsal",
        "stream": True,
        "messages": [{"role": "user", "content": '[[rehearsal: {"delay_ms": 100}]] tell me a story'}],
    }
    headers = {"authorization": f"Bearer {KEY}"}
    with httpx.stream("POST", f"{running.url}/v1/chat/completions", json=body, headers=headers, timeout=30) as answer:
        parts = answer.iter_text()
        first = next(parts)
        _write(running, text.replace(f"key: {KEY}", f"key: {NEW_KEY}"))
        _reread(running, "applied")
        whole = first + "".join(parts)

    assert 200 == answer.status_code
    assert whole.rstrip().endswith("data: [DONE]")
    assert {401} == _statuses(running, _ask)


def test_a_bad_file_is_told_and_never_in_force(running: RunningGateway, text: str) -> None:
    version = _shown(running)["version"]
    _write(running, text.replace("callers:", "calers:"))
    found = _reread(running, "rejected")

    assert "did you mean callers?" in found["error"]
    assert str(running.path) in found["error"]
    assert version == _shown(running)["version"]
    assert {200} == _statuses(running, _ask)
    assert {"edge_config_last_reload_successful": 0.0} == _samples(running, "edge_config_last_reload_successful")
    assert any("config_rejected" in line and "did you mean callers?" in line for line in running.lines)


def test_a_worker_that_dies_over_a_bad_file_comes_back_with_the_good_one(running: RunningGateway, text: str) -> None:
    _write(running, text.replace(f"key: {KEY}", f"key: {NEW_KEY}"))
    _reread(running, "applied")
    _write(running, text + "nonsense: [\n")
    _reread(running, "rejected")
    pid = running.processes()["worker 0"]
    os.kill(pid, signal.SIGKILL)

    until(lambda: not Path(f"/proc/{pid}").exists())
    until(lambda: httpx.get(f"{running.admin}/readyz").status_code == 200)
    assert {200} == _statuses(running, lambda g: _ask(g, NEW_KEY))
    assert {401} == _statuses(running, _ask)


def test_what_needs_a_restart_is_named_and_nothing_of_the_file_is_in_force(running: RunningGateway, text: str) -> None:
    changed = text.replace(f"key: {KEY}", f"key: {NEW_KEY}").replace("workers: 2", "workers: 1")
    _write(running, changed + "limits: {connections: 9}\n")
    found = _reread(running, "restart_needed")

    assert "agent.workers, limits.connections" in found["error"]
    assert {200} == _statuses(running, _ask)
    assert {401} == _statuses(running, lambda g: _ask(g, NEW_KEY))


def test_envoy_samples_as_the_new_file_says(running: RunningGateway, text: str) -> None:
    def sampling() -> Any:
        transport = httpx.HTTPTransport(uds=str(running.directory / ".edge" / "run" / "envoy-admin.sock"))
        with httpx.Client(transport=transport) as client:
            entries = client.get("http://envoy/runtime").json()["entries"]
        return entries.get("tracing.random_sampling", {}).get("final_value")

    _write(running, text.replace("sampling: 0", "sampling: 7"))
    _reread(running, "applied")

    assert "7" == sampling()


def test_a_config_map_that_is_swapped_is_seen_without_being_told(running: RunningGateway, text: str) -> None:
    """As kubelet does it: the file is a link into ..data, and that a link to a directory that is replaced at once."""
    directory = running.directory
    path = running.path
    for name, content in (("..1", text), ("..2", text.replace(f"key: {KEY}", f"key: {NEW_KEY}"))):
        (directory / name).mkdir()
        (directory / name / "edge.yaml").write_text(content)
    (directory / "..data").symlink_to("..1")
    path.unlink()
    path.symlink_to("..data/edge.yaml")
    try:
        assert {200} == _statuses(running, _ask)
        (directory / "..data_tmp").symlink_to("..2")
        (directory / "..data_tmp").replace(directory / "..data")
        until(lambda: _ask(running, NEW_KEY) == 200)
        until(lambda: _ask(running) == 401)
        assert {401} == _statuses(running, _ask)
    finally:
        _write(running, text)


def test_what_the_open_admin_port_shows_holds_no_secret(running: RunningGateway, text: str) -> None:
    shown = json.dumps(_shown(running))

    assert KEY not in shown
    assert OTHER_KEY not in shown
    assert str(running.path) in shown
