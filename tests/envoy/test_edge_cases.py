"""HTTP/1.0, requests for WebSockets, bodies over a limit, and replies that break off after their headers."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator

import gateway as gateways
import httpx2 as httpx
import pytest
from fault_player import fault_player
from gateway import KEY, RunningGateway
from replaying import Replaying, replaying

pytestmark = pytest.mark.envoy

ASKED = {"model": "chat", "messages": [{"role": "user", "content": "Hello"}]}
GOOD = {"authorization": f"Bearer {KEY}"}


@pytest.fixture(scope="module")
def plain(replay: Replaying) -> Iterator[RunningGateway]:
    with RunningGateway(gateways.config(replay.url)) as gateway:
        yield gateway


@pytest.fixture(scope="module")
def replay() -> Iterator[Replaying]:
    with replaying() as provider:
        yield provider


def raw(gateway: RunningGateway, request: bytes) -> bytes:
    """All that is answered until the gateway closes the connection."""
    host, port = gateway.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=20) as sock:
        sock.sendall(request)
        found = b""
        while part := sock.recv(65536):
            found += part
        return found


@pytest.mark.parametrize("host", [b"", b"Host: gateway.example\r\n"])
def test_http_1_0_is_answered(plain: RunningGateway, host: bytes) -> None:
    request = b"GET /v1/models HTTP/1.0\r\n" + host + b"Authorization: Bearer " + KEY.encode() + b"\r\n\r\n"
    head, _, body = raw(plain, request).partition(b"\r\n\r\n")

    assert b" 200 " in head.partition(b"\r\n")[0]
    assert "list" == json.loads(body)["object"]


def test_http_1_0_with_a_body_is_answered_whole(plain: RunningGateway, replay: Replaying) -> None:
    reply = {
        "id": "c1",
        "object": "chat.completion",
        "created": 1,
        "model": "m",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop"}],
    }
    replay.answers(json.dumps(reply).encode())
    body = json.dumps(ASKED).encode()
    head = f"POST /v1/chat/completions HTTP/1.0\r\nAuthorization: Bearer {KEY}\r\nContent-Length: {len(body)}\r\n\r\n"
    answer = raw(plain, head.encode() + body)

    assert b" 200 " in answer.partition(b"\r\n")[0]
    assert reply == json.loads(answer.partition(b"\r\n\r\n")[2])


@pytest.mark.parametrize("path", ["/v1/realtime", "/v1/chat/completions"])
def test_a_websocket_is_told_what_to_do_instead(plain: RunningGateway, path: str) -> None:
    headers = {**GOOD, "connection": "Upgrade", "upgrade": "websocket"}
    reply = httpx.get(f"{plain.url}{path}", headers=headers)

    assert (426, "upgrade_not_supported") == (reply.status_code, reply.json()["error"]["code"])
    assert "WebSockets" in reply.json()["error"]["message"]


@pytest.mark.parametrize(("path", "more"), [("/v1/chat/completions", {}), ("/v1/messages", {"max_tokens": 9})])
def test_a_reply_over_the_limit_names_the_limit(
    plain: RunningGateway, replay: Replaying, path: str, more: dict[str, int]
) -> None:
    replay.answers(json.dumps({"padding": "x" * 36_000_000}).encode())
    headers = {**GOOD, "x-request-id": "mine"}
    reply = httpx.post(f"{plain.url}{path}", json={**ASKED, **more}, headers=headers, timeout=60)

    assert 502 == reply.status_code
    assert "32MiB (limits.response_body)" in reply.json()["error"]["message"]
    assert ["mine"] == reply.headers.get_list("x-request-id")


@pytest.fixture(scope="module")
def small(replay: Replaying) -> Iterator[RunningGateway]:
    limits = "limits: {request_body: 128KiB, response_body: 64KiB}"
    with RunningGateway(gateways.config(replay.url, more=limits)) as gateway:
        yield gateway


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("size", [100_000, 4_000_000])
def test_a_reply_over_a_small_limit_is_refused_at_once(
    small: RunningGateway, replay: Replaying, size: int, chunked: bool
) -> None:
    replay.answers(json.dumps({"padding": "x" * size}).encode(), chunked=chunked)
    reply = httpx.post(f"{small.url}/v1/chat/completions", json=ASKED, headers=GOOD, timeout=60)

    assert (502, "response_too_large") == (reply.status_code, reply.json()["error"]["code"])
    assert "64KiB (limits.response_body)" in reply.json()["error"]["message"]


@pytest.mark.parametrize("chunked", [False, True])
def test_a_request_over_a_small_limit_is_refused(small: RunningGateway, replay: Replaying, chunked: bool) -> None:
    replay.answers()
    asked = json.dumps({**ASKED, "user": "x" * 200_000}).encode()
    content = iter([asked]) if chunked else asked
    reply = httpx.post(f"{small.url}/v1/chat/completions", content=content, headers=GOOD, timeout=60)

    assert (413, "request_too_large") == (reply.status_code, reply.json()["error"]["code"])
    assert "128KiB (limits.request_body)" in reply.json()["error"]["message"]
    assert [] == replay.asked


def test_a_provider_that_resets_after_its_headers_is_unreachable() -> None:
    """The reply is whole, so nothing guards it, and its headers still wait for the body."""
    with fault_player() as player, RunningGateway(gateways.config(f"http://127.0.0.1:{player.port}")) as found:
        asked = {**ASKED, "model": "reset-after-headers"}
        reply = httpx.post(f"{found.url}/v1/chat/completions", json=asked, headers=GOOD, timeout=60)

    assert (502, "provider_unreachable") == (reply.status_code, reply.json()["error"]["code"])
