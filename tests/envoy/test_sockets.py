"""WebSocket sessions through Envoy, with a scripted provider: the upgrade, limits, settlements, and every end."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from socket import create_connection
from typing import Any

import gateway as gateways
import httpx2 as httpx
import pytest
from gateway import KEY, OTHER_KEY, RunningGateway, until
from openai import OpenAI
from ports import free_port
from scripted_sockets import ScriptedSockets, scripted_sockets
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Subprotocol

from edge_extproc.codecs.websocket import encode

pytestmark = pytest.mark.envoy

POOR_KEY = "edge-test-key-of-tenant-poor"
PAGE = "https://app.example"
PRICES = """
prices:
  - {provider: openai, model: "*", input: 4, cache_read: 0.4, input_audio: 32, output: 16, output_audio: 64}
"""
CREATE: dict[str, Any] = {"type": "response.create"}


def text(url: str, *, state: str = "") -> str:
    poor = f"- {{tenant: poor, keys: [{{id: poor-1, key: {POOR_KEY}, limits: {{dollars_per_day: 0.01}}}}]}}"
    models = """
    voice: [{provider: openai, model: gpt-realtime}]
    thinker: [{provider: openai, model: gpt-5-mini}]
    """
    written = gateways.config(url, more=PRICES + state, models=models)
    written = written.replace("sk-provider-openai}", "sk-provider-openai, sockets: true}")
    written = written.replace("callers:\n", f"callers:\n  {poor}\n")
    return written.replace("listen: {", f"listen: {{cors: {{origins: ['{PAGE}']}}, ")


@pytest.fixture(scope="module")
def provider() -> Iterator[tuple[ScriptedSockets, str]]:
    with scripted_sockets() as running:
        yield running


@pytest.fixture(scope="module")
def running(provider: tuple[ScriptedSockets, str]) -> Iterator[RunningGateway]:
    limits = "limits: {request_body: 1MiB}\n"
    with RunningGateway(text(provider[1], state=limits)) as gateway:
        yield gateway


@pytest.fixture
def scripted(provider: tuple[ScriptedSockets, str]) -> ScriptedSockets:
    played, _ = provider
    played.requests.clear()
    played.events.clear()
    played.closes.clear()
    return played


def socket(
    gateway: RunningGateway, path: str = "/v1/realtime?model=voice", key: str = KEY, **more: Any
) -> ClientConnection:
    headers = {"authorization": f"Bearer {key}", **more.pop("headers", {})}
    return connect(gateway.url.replace("http", "ws") + path, additional_headers=headers, proxy=None, **more)


def ask(session: ClientConnection, event: dict[str, Any]) -> None:
    session.send(json.dumps(event))


def events(session: ClientConnection, last: str) -> list[dict[str, Any]]:
    """All until one of this type."""
    read = [json.loads(session.recv(timeout=20))]
    while read[-1]["type"] != last:
        read.append(json.loads(session.recv(timeout=20)))
    return read


def new_lines(gateway: RunningGateway, before: int, count: int) -> list[dict[str, Any]]:
    return gateway.settled(before + count)[before:]


@pytest.fixture
def before(running: RunningGateway) -> int:
    """How many lines there are before a test."""
    running.all_settled()
    return len(running.access_lines())


@pytest.mark.parametrize("compression", ["deflate", None])
def test_a_realtime_session_is_passed_on_and_each_response_is_settled(
    running: RunningGateway, scripted: ScriptedSockets, before: int, compression: str | None
) -> None:
    with socket(running, compression=compression, headers={"x-edge-session": "s", "x-secret": "mine"}) as session:
        assert "session.created" == events(session, "session.created")[0]["type"]
        assert 1.0 == gauge(running, "edge_open_sockets")
        for _ in range(2):
            ask(session, CREATE)
            assert "completed" == events(session, "response.done")[-1]["response"]["status"]
        received = session.response.headers if session.response is not None else {}
    *responses, whole = new_lines(running, before, 3)

    (path, headers), *_ = scripted.requests
    assert "/v1/realtime?model=gpt-realtime" == path
    assert "Bearer sk-provider-openai" == headers["authorization"]
    assert not {"x-secret", "x-edge-session", "x-edge-route", "x-edge-cluster", "x-forwarded-for"} & headers.keys()
    assert ["edge"] == received.get_all("server")  # type: ignore[union-attr]
    for line in responses:
        assert ("ok", "voice", "gpt-realtime") == (line["outcome"], line["model"], line["upstream_model"])
        assert (58, 64, 10) == (line["tokens_input"], line["tokens_cache_read"], line["tokens_input_audio"])
        assert (30, 91) == (line["tokens_output"], line["tokens_output_audio"])
        # 58 × 4 + 64 × 0.4 + 10 × 32 + 30 × 16 + 91 × 64 dollars for a million.
        assert "0.0068816" == line["cost_usd"]
    assert ("socket", 101, "ok") == (whole["operation"], whole["status"], whole["outcome"])
    until(lambda: gauge(running, "edge_open_sockets") == 0.0)


def gauge(gateway: RunningGateway, name: str) -> float:
    lines = (line for line in gateway.metrics().splitlines() if line.startswith(f"{name} "))
    return float(next(lines).rpartition(" ")[2])


def test_messages_are_counted(running: RunningGateway, scripted: ScriptedSockets) -> None:
    with socket(running) as session:
        ask(session, CREATE)
        events(session, "response.done")

    metrics = running.metrics()
    assert 'edge_socket_messages_total{sender="caller"}' in metrics
    assert 'edge_socket_messages_total{sender="provider"}' in metrics


def test_a_browser_gives_its_key_as_a_protocol(running: RunningGateway, scripted: ScriptedSockets) -> None:
    protocols = [Subprotocol(p) for p in ("realtime", f"openai-insecure-api-key.{KEY}", "openai-organization.org-x")]
    url = running.url.replace("http", "ws") + "/v1/realtime?model=voice"
    with connect(url, subprotocols=protocols, origin=PAGE, proxy=None) as session:  # type: ignore[arg-type]
        events(session, "session.created")
        assert "realtime" == session.subprotocol

    _, headers = scripted.requests[0]
    assert "realtime" == headers["sec-websocket-protocol"]
    assert "origin" not in headers


def refusal(gateway: RunningGateway, path: str, key: str = KEY, **more: Any) -> tuple[int, Any]:
    with pytest.raises(InvalidStatus) as refused, socket(gateway, path, key, **more):
        pass
    response = refused.value.response
    return response.status_code, json.loads(response.body)["error"]["code"]


@pytest.mark.parametrize(
    ("path", "key", "expected"),
    [
        ("/v1/chat/completions", KEY, (426, "upgrade_not_supported")),
        ("/v1/realtime/client_secrets", KEY, (426, "upgrade_not_supported")),
        ("/v1/realtime?intent=transcription", KEY, (426, "upgrade_not_supported")),
        ("/v1/realtime?call_id=rtc_1", KEY, (426, "upgrade_not_supported")),
        ("/v1/realtime?model=claude-sonnet-4-5", KEY, (426, "upgrade_not_supported")),
        ("/v1/realtime", KEY, (400, "invalid_request")),
        ("/v1/realtime?model=voice", "wrong", (401, "invalid_api_key")),
        ("/v1/responses", "wrong", (401, "invalid_api_key")),
        ("/v1/realtime?model=voice", OTHER_KEY, (404, "model_not_found")),
    ],
)
def test_refused_upgrades(
    running: RunningGateway, scripted: ScriptedSockets, path: str, key: str, expected: tuple[int, Any]
) -> None:
    assert expected == refusal(running, path, key)
    assert [] == scripted.requests


def test_a_page_of_another_origin_is_refused(running: RunningGateway, scripted: ScriptedSockets) -> None:
    status, _ = refusal(running, "/v1/realtime?model=voice", origin="https://evil.example")

    assert 403 == status
    assert [] == scripted.requests


def closed(session: ClientConnection) -> tuple[list[dict[str, Any]], int | None]:
    """What still comes, and the code of the close."""
    rest: list[dict[str, Any]] = []
    with suppress(ConnectionClosed):
        rest.extend(json.loads(message) for message in session)
    return rest, session.close_code


def test_the_end_of_a_budget_ends_the_session(running: RunningGateway, scripted: ScriptedSockets, before: int) -> None:
    with socket(running, key=POOR_KEY) as session:
        events(session, "session.created")
        ask(session, CREATE)
        rest, code = closed(session)
    lines = new_lines(running, before, 2)

    assert 1008 == code
    assert ["error"] == [event["type"] for event in rest]
    assert "budget_exceeded" == rest[0]["error"]["code"]
    assert [] == scripted.events
    assert [("rejected", None)] * 2 == [(line["outcome"], line["cost_usd"]) for line in lines]
    assert ["budget_exceeded"] * 2 == [line["code"] for line in lines]


def test_a_response_that_nobody_asked_for_is_reserved_too(
    running: RunningGateway, scripted: ScriptedSockets, before: int
) -> None:
    item = {"type": "conversation.item.create", "item": {"type": "message", "content": "speak"}}
    with socket(running) as session:
        ask(session, item)
        events(session, "response.done")
    spoken, _ = new_lines(running, before, 2)
    with socket(running, key=POOR_KEY) as session:
        events(session, "session.created")
        ask(session, item)
        rest, code = closed(session)

    assert ("ok", 91) == (spoken["outcome"], spoken["tokens_output_audio"])
    assert (1008, ["error"]) == (code, [event["type"] for event in rest])


@pytest.mark.parametrize(
    "session_settings",
    [
        {"model": "gpt-5-mini"},
        {"type": "transcription"},
        {"audio": {"input": {"transcription": {"model": "whisper-1"}}}},
        {"input_audio_transcription": {"model": "whisper-1"}},
    ],
)
def test_settings_that_would_not_be_metered_end_the_session(
    running: RunningGateway, scripted: ScriptedSockets, session_settings: dict[str, Any]
) -> None:
    with socket(running) as session:
        events(session, "session.created")
        ask(session, {"type": "session.update", "session": session_settings})
        rest, code = closed(session)

    assert (1008, "invalid_request_error") == (code, rest[-1]["error"]["type"])
    assert [] == scripted.events


def test_the_sessions_own_model_has_the_providers_name(running: RunningGateway, scripted: ScriptedSockets) -> None:
    with socket(running) as session:
        ask(session, {"type": "session.update", "session": {"model": "voice", "instructions": "short"}})
        events(session, "session.updated")

    assert {"model": "gpt-realtime", "instructions": "short"} == scripted.events[0]["session"]


def test_a_session_of_the_responses_api(running: RunningGateway, scripted: ScriptedSockets, before: int) -> None:
    with socket(running, "/v1/responses") as session:
        for model in ("thinker", "gpt-4.1"):
            ask(session, {**CREATE, "model": model, "input": "Hello"})
            events(session, "response.completed")
    first, second, _ = new_lines(running, before, 3)

    assert ["gpt-5-mini", "gpt-4.1"] == [event["model"] for event in scripted.events]
    assert ("thinker", "gpt-5-mini") == (first["model"], first["upstream_model"])
    assert (32, 8, 8, 4) == tuple(first[f"tokens_{kind}"] for kind in ("input", "cache_read", "output", "reasoning"))
    assert "gpt-4.1" == second["upstream_model"]
    assert "/v1/responses" == scripted.requests[0][0]


@pytest.mark.parametrize(
    ("event", "key", "code"),
    [
        ({**CREATE, "input": "Hello"}, KEY, "invalid_request"),
        ({**CREATE, "model": "voice"}, OTHER_KEY, "model_not_found"),
        ({**CREATE, "model": "claude-sonnet-4-5", "input": "Hello"}, KEY, "invalid_request"),
        ({"type": "session.update", "session": {}}, KEY, "invalid_request"),
        ({**CREATE, "model": "thinker", "background": True}, KEY, "invalid_request"),
        ({**CREATE, "model": "thinker", "previous_response_id": "resp_of_umbrella"}, KEY, "object_not_found"),
    ],
)
def test_events_of_the_responses_api_that_are_refused(
    running: RunningGateway, scripted: ScriptedSockets, event: dict[str, Any], key: str, code: str
) -> None:
    with socket(running, "/v1/responses", key) as session:
        ask(session, event)
        rest, closing = closed(session)

    assert (1008, "error", code) == (closing, rest[-1]["type"], rest[-1]["error"]["code"])
    assert [] == scripted.events


def test_a_tenant_continues_its_own_response(running: RunningGateway, scripted: ScriptedSockets) -> None:
    with socket(running, "/v1/responses") as session:
        ask(session, {**CREATE, "model": "thinker", "input": "Hello"})
        previous = events(session, "response.completed")[-1]["response"]["id"]
        ask(session, {**CREATE, "model": "thinker", "input": "More", "previous_response_id": previous})
        events(session, "response.completed")

    assert previous == scripted.events[1]["previous_response_id"]


@pytest.mark.parametrize(("script", "outcome"), [("hang", "caller_left"), ("leave", "broken_stream")])
@pytest.mark.parametrize(
    ("path", "more"), [("/v1/realtime?model=voice", {}), ("/v1/responses", {"model": "thinker", "input": "Hello"})]
)
def test_a_response_in_progress_is_settled_when_a_side_leaves(
    running: RunningGateway,
    scripted: ScriptedSockets,
    before: int,
    path: str,
    more: dict[str, str],
    script: str,
    outcome: str,
) -> None:
    asked: dict[str, Any] = {"metadata": {"script": script}}
    event = {**CREATE, **more, **asked} if more else {**CREATE, "response": asked}
    with socket(running, path) as session:
        ask(session, event)
        events(session, "response.output_text.delta")
        if script == "leave":
            assert 1011 == closed(session)[1]
    response, _ = new_lines(running, before, 2)

    assert (outcome, True) == (response["outcome"], response["estimated"])
    assert float(response["cost_usd"]) > 0


@pytest.mark.parametrize(("script", "outcome"), [("refuse", "refused"), ("fail", "upstream_error")])
def test_a_response_that_fails(
    running: RunningGateway, scripted: ScriptedSockets, before: int, script: str, outcome: str
) -> None:
    with socket(running) as session:
        ask(session, {**CREATE, "response": {"metadata": {"script": script}}})
        events(session, "error" if script == "refuse" else "response.done")
        ask(session, CREATE)
        events(session, "response.done")
    failed, whole, _ = new_lines(running, before, 3)

    assert [outcome, "ok"] == [failed["outcome"], whole["outcome"]]
    assert (script == "fail") == (failed["cost_usd"] is not None)


def test_a_message_over_the_limit_ends_the_session(running: RunningGateway, scripted: ScriptedSockets) -> None:
    with socket(running, compression=None) as session:
        events(session, "session.created")
        ask(session, {"type": "input_audio_buffer.append", "audio": "A" * (2 << 20)})
        _, code = closed(session)

    assert 1009 == code
    assert [] == scripted.events


def test_a_large_message_passes_as_it_came(running: RunningGateway, scripted: ScriptedSockets) -> None:
    audio = "QUJD" * 200_000
    with socket(running) as session:
        ask(session, {"type": "input_audio_buffer.append", "audio": audio})
        ask(session, CREATE)
        events(session, "response.done")

    assert audio == scripted.events[0]["audio"]


def test_a_ping_reaches_the_provider(running: RunningGateway, scripted: ScriptedSockets) -> None:
    with socket(running) as session:
        events(session, "session.created")
        assert session.ping().wait(20)


# The SDK of this version calls websockets as its earlier versions were called.
@pytest.mark.filterwarnings("ignore:connect.. must be used as a context manager:DeprecationWarning")
def test_openais_sdk(running: RunningGateway, scripted: ScriptedSockets) -> None:
    client = OpenAI(base_url=f"{running.url}/v1", api_key=KEY)
    with client.realtime.connect(model="voice") as connection:
        connection.session.update(session={"type": "realtime", "instructions": "short"})
        connection.response.create()
        seen = []
        for event in connection:
            seen.append(event.type)
            if event.type == "response.done":
                break
    client.close()

    assert ["session.created", "session.updated", "response.created"] == seen[:3]


@pytest.mark.filterwarnings("ignore:connect.. must be used as a context manager:DeprecationWarning")
def test_openais_sdk_with_two_conversations_in_one_session(
    running: RunningGateway, scripted: ScriptedSockets, before: int
) -> None:
    client = OpenAI(base_url=f"{running.url}/v1", api_key=KEY)
    with client.responses.connect() as connection:
        for lane in ("a", "b"):
            connection.response.create(model="thinker", input="Hello", stream_id=lane)
        seen = []
        for event in connection:
            seen.append((event.type, getattr(event, "stream_id", None)))
            if len([kind for kind, _ in seen if kind == "response.completed"]) == 2:
                break
    client.close()
    first, second, _ = new_lines(running, before, 3)

    assert {("response.completed", "a"), ("response.completed", "b")} <= {*seen}
    assert ["a", "b"] == [event["stream_id"] for event in scripted.events]
    assert ["ok", "ok"] == [first["outcome"], second["outcome"]]


def test_other_requests_go_on_as_before(running: RunningGateway) -> None:
    reply = httpx.get(f"{running.url}/v1/models", headers={"authorization": f"Bearer {KEY}"})

    assert 200 == reply.status_code
    plain = httpx.get(f"{running.url}/v1/realtime?model=voice", headers={"authorization": f"Bearer {KEY}"})
    assert 404 == plain.status_code


def test_a_provider_that_is_not_there_is_an_error_of_the_provider() -> None:
    with RunningGateway(text(f"http://127.0.0.1:{free_port()}")) as gateway:
        status, code = refusal(gateway, "/v1/realtime?model=voice")
        (line,) = gateway.settled(1)

    assert (502, "upstream_error") == (status, code)
    assert "upstream_error" == line["outcome"]


def test_a_session_ends_with_its_worker(provider: tuple[ScriptedSockets, str]) -> None:
    """Without the agent, nothing of it would be checked or charged."""
    with RunningGateway(text(provider[1])) as gateway, socket(gateway) as session:
        events(session, "session.created")
        os.kill(gateway.processes()["worker 0"], signal.SIGKILL)
        with pytest.raises(ConnectionClosed):
            session.recv(timeout=20)


def test_a_session_that_the_gateway_has_ended_and_the_caller_has_not_is_reset(
    running: RunningGateway, scripted: ScriptedSockets, before: int
) -> None:
    """A caller that does not answer the close would let the provider go on."""
    port = int(running.url.rpartition(":")[2])
    head = (
        "GET /v1/realtime?model=voice HTTP/1.1\r\nhost: gateway\r\nconnection: upgrade\r\nupgrade: websocket\r\n"
        "sec-websocket-version: 13\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
        f"authorization: Bearer {POOR_KEY}\r\n\r\n"
    )
    with create_connection(("127.0.0.1", port), timeout=30) as raw:
        raw.sendall(head.encode())
        received = b""
        while b"session.created" not in received:
            received += raw.recv(65_536)
        raw.sendall(encode("text", json.dumps(CREATE).encode(), from_client=True))
        while b"budget_exceeded" not in received:
            part = raw.recv(65_536)
            assert part
            received += part
        with suppress(OSError):  # reset
            for _ in range(100):
                raw.sendall(encode("ping", b"", from_client=True))
                time.sleep(0.1)
            while raw.recv(65_536):
                pass
    until(lambda: scripted.closes)

    rejected, whole = new_lines(running, before, 2)
    assert ("rejected", "socket") == (rejected["outcome"], whole["operation"])


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/responses", "/"])
def test_a_caller_cannot_choose_the_route_of_sessions(
    running: RunningGateway, scripted: ScriptedSockets, path: str
) -> None:
    forged = {"x-edge-route": "socket", "x-edge-cluster": "socket_openai"}
    reply = httpx.post(f"{running.url}{path}", headers=forged, json={"model": "thinker"})
    status, _ = refusal(running, path, "wrong", headers=forged)

    assert reply.status_code in (401, 404)
    assert status in (401, 426)
    assert [] == scripted.requests


def test_a_worker_that_stops_settles_what_is_open(provider: tuple[ScriptedSockets, str]) -> None:
    with RunningGateway(text(provider[1])) as gateway:
        with socket(gateway) as session:
            ask(session, {**CREATE, "response": {"metadata": {"script": "hang"}}})
            events(session, "response.output_text.delta")
            gateway.stop()
        lines = gateway.access_lines()

    response = next(line for line in lines if line["operation"] == "chat")
    assert response["outcome"] in ("stopped", "caller_left", "broken_stream")
    assert response["estimated"]
    assert 2 == len(lines)
