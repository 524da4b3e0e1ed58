"""What Envoy itself must be told changes under traffic too: providers that come, go and move, timeouts, retries,
limits, the listener. No request is lost, and what is under way ends whole."""

from __future__ import annotations

import http.client
import http.server
import json
import os
import signal
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2 as httpx
import pytest
from gateway import KEY, RunningGateway, config, until
from running_envoy import ask_admin

pytestmark = [pytest.mark.envoy, pytest.mark.xdist_group("reload_of_envoy")]


class Holding:
    """A provider that holds a stream after its first event until it is let go; of a model `stuck`, before it too."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []
        """The model and the key of each request."""
        self.go = threading.Event()
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
                outer.asked.append((asked["model"], self.headers["authorization"]))
                if asked["model"] == "stuck":
                    outer.go.wait(60)
                self.send_response(200)
                if asked.get("stream"):
                    self._stream()
                    return
                message = {"role": "assistant", "content": "hello"}
                choice = {"index": 0, "message": message, "finish_reason": "stop"}
                body = json.dumps({"id": "c", "object": "chat.completion", "choices": [choice]}).encode()
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def _stream(self) -> None:
                self.send_header("content-type", "text/event-stream")
                self.send_header("connection", "close")
                self.end_headers()
                self._event({"role": "assistant", "content": "hello"}, None)
                outer.go.wait(60)
                self._event({"content": " again"}, "stop")
                self.wfile.write(b"data: [DONE]\n\n")

            def _event(self, delta: dict[str, str], end: str | None) -> None:
                choice = {"index": 0, "delta": delta, "finish_reason": end}
                event = {"id": "c", "object": "chat.completion.chunk", "choices": [choice]}
                self.wfile.write(f"data: {json.dumps(event)}\n\n".encode())
                self.wfile.flush()

            def log_message(self, *_: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def keys(self) -> set[str]:
        return {key for _, key in self.asked}

    def close(self) -> None:
        self.go.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def other() -> Iterator[Holding]:
    found = Holding()
    yield found
    found.close()


@pytest.fixture
def another() -> Iterator[Holding]:
    found = Holding()
    yield found
    found.close()


@pytest.fixture(scope="module")
def running(rehearsal_url: str) -> Iterator[RunningGateway]:
    with RunningGateway(config(rehearsal_url, workers=2)) as gateway:
        yield gateway


@pytest.fixture
def text(running: RunningGateway) -> Iterator[str]:
    """What the gateway began with; it goes back to it."""
    found = running.path.read_text()
    yield found
    if running.path.read_text() != found:
        reload(running, found)


def with_provider(text: str, name: str, url: str, more: str = "") -> str:
    """And models of its name."""
    line = f"  {name}: {{kind: openai, base_url: '{url}/v1', api_key: sk-of-{name}{more}}}\n"
    text = text.replace("providers:\n", "providers:\n" + line, 1)
    return text.replace("models:\n", f"models:\n  '{name}*': [{{provider: {name}}}]\n", 1)


def reload(gateway: RunningGateway, text: str, outcome: str = "applied") -> Any:
    fresh = gateway.path.with_suffix(".fresh")
    fresh.write_text(text)
    fresh.replace(gateway.path)
    before = shown(gateway)["last_reload"]
    assert gateway.process is not None
    gateway.process.send_signal(signal.SIGHUP)
    until(lambda: shown(gateway)["last_reload"] != before)
    found = shown(gateway)["last_reload"]
    assert outcome == found["outcome"], found
    return found


def shown(gateway: RunningGateway) -> Any:
    with urllib.request.urlopen(f"{gateway.admin}/config") as answer:
        return json.load(answer)


class Caller:
    """Over one connection, which it keeps."""

    def __init__(self, gateway: RunningGateway) -> None:
        at = urlsplit(gateway.url)
        self._connection = http.client.HTTPConnection(at.hostname or "", at.port, timeout=30)

    def ask(self, model: str = "rehearsal") -> int:
        body = json.dumps({"model": model, "max_tokens": 20, "messages": [{"role": "user", "content": "hello"}]})
        headers = {"authorization": f"Bearer {KEY}", "content-type": "application/json"}
        self._connection.request("POST", "/v1/chat/completions", body, headers)
        with self._connection.getresponse() as answer:
            answer.read()
            return answer.status

    def close(self) -> None:
        self._connection.close()


def ask(gateway: RunningGateway, model: str = "rehearsal") -> int:
    caller = Caller(gateway)
    try:
        return caller.ask(model)
    finally:
        caller.close()


@contextmanager
def load(gateway: RunningGateway, model: str = "rehearsal") -> Iterator[list[int | str]]:
    """Callers that ask all the time, with a connection for each call and with one for all; and what they got."""
    stop, seen = threading.Event(), []

    def keep_asking(*, keeps: bool) -> None:
        caller = Caller(gateway)
        while not stop.wait(0.01):
            try:
                seen.append(caller.ask(model))
            except (OSError, http.client.HTTPException) as error:
                seen.append(repr(error))
            if not keeps:
                caller.close()
        caller.close()

    askers = [threading.Thread(target=keep_asking, kwargs={"keeps": keeps}) for keeps in (True, False)]
    for each in askers:
        each.start()
    try:
        until(lambda: len(seen) > 4)
        yield seen
        count = len(seen)
        until(lambda: len(seen) > count + 8)
    finally:
        stop.set()
        for each in askers:
            each.join()


@contextmanager
def stream(gateway: RunningGateway, model: str) -> Iterator[Iterator[str]]:
    """A stream that has begun."""
    body = {"model": model, "stream": True, "messages": [{"role": "user", "content": "tell me a story"}]}
    headers = {"authorization": f"Bearer {KEY}"}
    with httpx.stream("POST", f"{gateway.url}/v1/chat/completions", json=body, headers=headers, timeout=60) as answer:
        assert 200 == answer.status_code
        parts = answer.iter_text()
        assert "hello" in next(parts)
        yield parts


def is_whole(rest: str) -> bool:
    return " again" in rest and rest.rstrip().endswith("data: [DONE]")


def envoy(gateway: RunningGateway) -> Path:
    return gateway.directory / ".edge" / "run" / "envoy-admin.sock"


def clusters(gateway: RunningGateway) -> set[str]:
    found = json.loads(ask_admin(envoy(gateway), "/clusters?format=json"))["cluster_statuses"]
    return {each["name"].partition("@")[0] for each in found}


def test_a_provider_that_comes_serves_and_one_that_goes_loses_nothing(
    running: RunningGateway, text: str, other: Holding
) -> None:
    with load(running) as seen:
        reload(running, with_provider(text, "late", other.url))
        assert {200} == {ask(running, "late") for _ in range(8)}
        assert 8 == len(other.asked)
        with stream(running, "late-stream") as parts:
            reload(running, text)
            # `*` takes them.
            assert {200} == {ask(running, "late") for _ in range(8)}
            other.go.set()
            assert is_whole("".join(parts))

    assert {200} == set(seen)
    assert 9 == len(other.asked)


def test_a_provider_that_moves_is_shown_no_key_that_was_not_meant_for_it(
    running: RunningGateway, text: str, other: Holding, another: Holding
) -> None:
    first = with_provider(text, "moving", other.url)
    with load(running) as others:
        reload(running, first)
        with load(running, "moving") as seen, stream(running, "moving-stream") as parts:
            reload(running, first.replace(f"'{other.url}/v1', api_key: sk-of", f"'{another.url}/v1', api_key: sk-new"))
            until(lambda: len(another.asked) > 4)
            other.go.set()
            assert is_whole("".join(parts))

    assert {200} == set(seen) == set(others)
    assert {"Bearer sk-of-moving"} == other.keys()
    assert {"Bearer sk-new-moving"} == another.keys()


@pytest.mark.parametrize(
    "more",
    [
        pytest.param("retries: {attempts: 2, on_status: [408]}\ntimeouts: {first_byte: 50s}\n", id="routes"),
        pytest.param("timeouts: {client_idle: 5m, receive: 20s}\nlimits: {request_headers: 8KiB}\n", id="filters"),
        pytest.param("limits: {request_body: 9MiB, response_body: 9MiB}\n", id="listener and agent"),
    ],
)
def test_routes_and_the_listener_change_under_traffic_and_cut_nothing(
    running: RunningGateway, text: str, other: Holding, more: str
) -> None:
    there = with_provider(text, "held", other.url)
    reload(running, there)
    with load(running) as seen, stream(running, "held-stream") as parts:
        reload(running, there + more)
        assert {200} == {ask(running) for _ in range(8)}
        reload(running, text)
        other.go.set()
        assert is_whole("".join(parts))

    assert {200} == set(seen)


def test_a_limit_of_envoys_holds_for_the_next_request(running: RunningGateway, text: str) -> None:
    def told() -> int:
        headers = {"authorization": f"Bearer {KEY}", "content-type": "application/json"}
        body = {"model": "rehearsal", "messages": [{"role": "user", "content": "x" * 100_000}]}
        return httpx.post(f"{running.url}/v1/chat/completions", json=body, headers=headers).status_code

    assert 200 == told()
    reload(running, text + "limits: {request_body: 64KiB, response_body: 64KiB}\n")
    assert 413 == told()
    reload(running, text)
    assert 200 == told()


def test_what_envoy_refuses_is_not_in_force(running: RunningGateway, text: str) -> None:
    authority = running.directory / "authority.pem"
    authority.write_text("this is not a certificate")
    there = clusters(running)
    bad = with_provider(text, "bad", "https://127.0.0.1:9", f", tls: {{ca: {authority}}}")
    found = reload(running, bad.replace("tenant: acme,", "tenant: acme-too,"), "rejected")

    assert "Envoy refuses" in found["error"]
    assert there == clusters(running)
    assert 200 == ask(running)


def test_a_worker_that_dies_comes_back_with_the_new_provider(
    running: RunningGateway, text: str, other: Holding
) -> None:
    reload(running, with_provider(text, "late", other.url))
    pid = running.processes()["worker 1"]
    os.kill(pid, signal.SIGKILL)
    until(lambda: not Path(f"/proc/{pid}").exists())
    until(lambda: httpx.get(f"{running.admin}/readyz").status_code == 200)

    assert {200} == {ask(running, "late") for _ in range(12)}
    assert 12 == len(other.asked)


def test_a_hedge_between_two_providers_that_came(
    running: RunningGateway, text: str, other: Holding, another: Holding
) -> None:
    both = with_provider(with_provider(text, "slow", other.url), "quick", another.url)
    hedged = "hedged: {candidates: [{provider: slow, model: stuck}, {provider: quick}], hedge: {at_least: 100ms}}"
    with load(running) as seen:
        reload(running, both.replace("models:\n", f"models:\n  {hedged}\n", 1))
        with stream(running, "hedged") as parts:
            reload(running, text)
            another.go.set()
            assert is_whole("".join(parts))

    assert {200} == set(seen)
    assert [("stuck", "Bearer sk-of-slow")] == other.asked
    assert [("hedged", "Bearer sk-of-quick")] == another.asked
