"""HTTP/1.0, requests for WebSockets, and replies over the limit."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator

import gateway as gateways
import httpx2 as httpx
import pytest
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

    assert (502, "response_too_large") == (reply.status_code, reply.json()["error"]["code"])
    assert "32MiB (limits.response_body)" in reply.json()["error"]["message"]
    assert ["mine"] == reply.headers.get_list("x-request-id")
