"""WebSocket sessions of the Responses API whose responses become requests, through Envoy: providers of another format,
failover, budgets, guardrails, and every end."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from typing import Any

import gateway as gateways
import pytest
from gateway import KEY, PATIENCE, RunningGateway, until
from openai import OpenAI
from providers import rehearsal_process
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Subprotocol

pytestmark = pytest.mark.envoy

POOR_KEY = "edge-test-key-of-tenant-poor"
PAGE = "https://app.example"
MORE = """
sockets: {responses: requests}
limits: {sockets: 3, request_body: 1MiB}
guardrails:
  rules:
    - {name: forbidden, detect: {words: {words: [forbidden-word]}}, action: block}
"""
MODELS = """
second: [{provider: openai, model: "rehearsal(status=503)"}, {provider: anthropic, model: claude-haiku-4-5}]
stalling: [{provider: anthropic, model: "rehearsal(stall=3)"}]
reset: [{provider: anthropic, model: "rehearsal(cut=4)"}]
ended: [{provider: anthropic, model: "rehearsal(end=4)"}]
"""
ENDS = {"response.completed", "response.failed", "response.cancelled", "error"}


def text(url: str, *, workers: int = 1) -> str:
    poor = f"- {{tenant: poor, keys: [{{id: poor-1, key: {POOR_KEY}, limits: {{dollars_per_day: 0.000001}}}}]}}"
    written = gateways.config(url, more=MORE, models=MODELS, workers=workers)
    written = written.replace("callers:\n", f"callers:\n  {poor}\n")
    return written.replace("listen: {", f"listen: {{cors: {{origins: ['{PAGE}']}}, ")


@pytest.fixture(scope="module")
def provider() -> Iterator[str]:
    with rehearsal_process() as url:
        yield url


@pytest.fixture(scope="module")
def running(provider: str) -> Iterator[RunningGateway]:
    with RunningGateway(text(provider)) as gateway:
        yield gateway


@pytest.fixture
def before(running: RunningGateway) -> int:
    """How many lines there are before a test."""
    running.all_settled()
    return len(running.access_lines())


def socket(gateway: RunningGateway, key: str = KEY, **more: Any) -> ClientConnection:
    url = gateway.url.replace("http", "ws") + "/v1/responses"
    return connect(url, additional_headers={"authorization": f"Bearer {key}"}, proxy=None, **more)


def ask(session: ClientConnection, model: str, **event: Any) -> None:
    session.send(json.dumps({"type": "response.create", "model": model, "input": "Hello", **event}))


def answer(session: ClientConnection) -> list[dict[str, Any]]:
    """The events of a response, to its end."""
    read = [json.loads(session.recv(timeout=PATIENCE))]
    while read[-1]["type"] not in ENDS:
        read.append(json.loads(session.recv(timeout=PATIENCE)))
    return read


@pytest.mark.filterwarnings("ignore:connect.. must be used as a context manager:DeprecationWarning")
def test_the_sdk_has_a_conversation_with_a_provider_of_another_format(running: RunningGateway, before: int) -> None:
    with OpenAI(base_url=f"{running.url}/v1", api_key=KEY) as client, client.responses.connect() as connection:
        texts, last = [], {}
        for said in ("One", "Two"):
            connection.response.create(model="claude-haiku-4-5", input=said, store=False, **last)
            for event in connection:
                if event.type == "response.completed":
                    texts.append(event.response.output_text)
                    last = {"previous_response_id": event.response.id}
                    break
    first, second, whole = running.settled(before + 3)[before:]

    assert "I see 1 message" in texts[0]
    assert "I see 3 messages" in texts[1]
    for line in (first, second):
        assert ("ok", "anthropic", "/v1/responses") == (line["outcome"], line["provider"], line["path"])
        assert "acme-1" == line["key"]
    assert first["request_id"] != second["request_id"]
    assert ("socket", 101, "ok", None, 0) == tuple(
        whole[name] for name in ("operation", "status", "outcome", "provider", "attempts")
    )


def test_a_response_fails_over(running: RunningGateway, before: int) -> None:
    with socket(running) as session:
        ask(session, "second")
        assert "response.completed" == answer(session)[-1]["type"]
    line, _ = running.settled(before + 2)[before:]

    assert ("ok", "anthropic", 2) == (line["outcome"], line["provider"], line["attempts"])


def test_refusals_are_error_events_and_the_session_goes_on(running: RunningGateway, before: int) -> None:
    with socket(running, POOR_KEY) as session:
        for _ in range(2):
            ask(session, "claude-haiku-4-5")
            (error,) = answer(session)
            assert ("error", 429) == (error["type"], error["status"])
    with socket(running) as session:
        ask(session, "claude-haiku-4-5", input="a forbidden-word")
        (error,) = answer(session)
        assert ("error", 400) == (error["type"], error["status"])
        ask(session, "claude-haiku-4-5")
        assert "response.completed" == answer(session)[-1]["type"]
    lines = running.settled(before + 6)[before:]

    assert ["rejected", "rejected"] == [line["outcome"] for line in lines if line["tenant"] == "poor"][:2]


def test_a_broken_response_is_an_error_and_the_session_goes_on(running: RunningGateway, before: int) -> None:
    with socket(running) as session:
        for model in ("ended", "reset"):
            ask(session, model)
            assert answer(session)[-1]["type"] in ("error", "response.failed")
        ask(session, "claude-haiku-4-5")
        assert "response.completed" == answer(session)[-1]["type"]
    first, *_ = running.settled(before + 4)[before:]

    assert "broken_stream" == first["outcome"]


@pytest.mark.parametrize("leaves", [False, True])
def test_a_response_ends_with_its_caller(running: RunningGateway, before: int, *, leaves: bool) -> None:
    with socket(running) as session:
        ask(session, "stalling")
        assert "response.created" == json.loads(session.recv(timeout=PATIENCE))["type"]
        if not leaves:
            session.send('{"type": "response.cancel"}')
            assert "response.cancelled" == answer(session)[-1]["type"]
    lines = running.settled(before + 2)[before:]

    assert {("chat", "caller_left"), ("socket", "ok")} == {(line["operation"], line["outcome"]) for line in lines}


def test_a_browser_gives_its_key_as_a_protocol(running: RunningGateway) -> None:
    protocols = [Subprotocol(p) for p in ("realtime", f"openai-insecure-api-key.{KEY}")]
    url = running.url.replace("http", "ws") + "/v1/responses"
    with connect(url, subprotocols=protocols, origin=PAGE, proxy=None) as session:  # type: ignore[arg-type]
        assert "realtime" == session.subprotocol
        ask(session, "claude-haiku-4-5")
        assert "response.completed" == answer(session)[-1]["type"]


def test_upgrades_that_are_refused(running: RunningGateway) -> None:
    def status(**more: Any) -> int:
        with pytest.raises(InvalidStatus) as refused, socket(running, **more):
            pass
        return refused.value.response.status_code

    assert 401 == status(key="wrong")
    assert 403 == status(origin="https://other.example")
    with socket(running), socket(running), socket(running):
        assert 429 == status()
    url = running.url.replace("http", "ws") + "/v1/realtime?model=claude-haiku-4-5"
    with pytest.raises(InvalidStatus) as refused, connect(url, additional_headers={"authorization": f"Bearer {KEY}"}):
        pass
    assert 426 == refused.value.response.status_code


def test_a_session_ends_with_its_worker_and_another_one_begins(provider: str) -> None:
    with RunningGateway(text(provider)) as gateway:
        with socket(gateway) as session:
            ask(session, "stalling")
            session.recv(timeout=PATIENCE)
            os.kill(gateway.processes()["worker 0"], signal.SIGKILL)
            with pytest.raises(ConnectionClosed):
                answer(session)

        def works() -> bool:
            try:
                with socket(gateway) as session:
                    ask(session, "claude-haiku-4-5")
                    return bool(answer(session)[-1]["type"] == "response.completed")
            except (InvalidStatus, ConnectionClosed):
                return False

        until(works)


def test_a_stopping_gateway_closes_sessions(provider: str) -> None:
    with RunningGateway(text(provider, workers=2)) as gateway, socket(gateway) as session:
        ask(session, "claude-haiku-4-5")
        answer(session)
        assert 0 == gateway.stop()
        with pytest.raises(ConnectionClosed):
            session.recv(timeout=PATIENCE)
