"""HTTP/1.0, requests for WebSockets, bodies over a limit, and replies that break off after their headers."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator

import gateway as gateways
import httpx2 as httpx
import pytest
from fault_player import fault_player
from gateway import KEY, RunningGateway, until
from replaying import Replaying, replaying

pytestmark = pytest.mark.envoy

ASKED = {"model": "chat", "messages": [{"role": "user", "content": "Hello"}]}
GOOD = {"authorization": f"Bearer {KEY}"}


@pytest.fixture(scope="module")
def plain(replay: Replaying) -> Iterator[RunningGateway]:
    # Its providers answer badly again and again.
    with fault_player() as player:
        models = "reset-after-headers: [{provider: faulty}]"
        text = gateways.config(replay.url, more="routing: {breaker: {enabled: false}}", models=models)
        faulty = f"  faulty: {{kind: openai, base_url: 'http://127.0.0.1:{player.port}/v1', api_key: x}}\n"
        with RunningGateway(text.replace("providers:\n", f"providers:\n{faulty}", 1)) as gateway:
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


REPLY = {
    "id": "c1",
    "object": "chat.completion",
    "created": 1,
    "model": "m",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
}


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages", "/v1/images/generations"])
@pytest.mark.parametrize("status", [0, 99, 600, 999])
def test_a_status_that_http_does_not_have_is_a_502(
    plain: RunningGateway, replay: Replaying, status: int, path: str
) -> None:
    replay.answers(json.dumps(REPLY).encode(), status=status)
    reply = httpx.post(f"{plain.url}{path}", json={**ASKED, "max_tokens": 9}, headers=GOOD, timeout=60)

    assert 502 == reply.status_code, reply.text
    assert "error" in reply.json()


def test_a_caller_that_expects_a_100_gets_one_and_its_answer(plain: RunningGateway, replay: Replaying) -> None:
    replay.answers(json.dumps(REPLY).encode())
    body = json.dumps(ASKED).encode()
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\nExpect: 100-continue\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    host, port = plain.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=20) as sock:
        sock.sendall(head.encode())
        interim = sock.recv(65536)
        sock.sendall(body)
        found = b""
        while part := sock.recv(65536):
            found += part

    assert interim.startswith(b"HTTP/1.1 100 Continue\r\n\r\n")
    assert b" 200 " in (interim.partition(b"\r\n\r\n")[2] + found).partition(b"\r\n")[0]
    assert "expect" not in replay.asked[0].headers


@pytest.mark.parametrize("chunked", [False, True])
def test_a_large_body_reaches_the_provider_byte_for_byte(
    plain: RunningGateway, replay: Replaying, chunked: bool
) -> None:
    """Nothing of it changes, so the agent does not send it back to Envoy."""
    replay.answers(json.dumps(REPLY).encode())
    sent = json.dumps({"model": "chat", "messages": [{"role": "user", "content": "a long text " * 50_000}]}).encode()
    content = iter([sent[:1000], sent[1000:]]) if chunked else sent
    reply = httpx.post(f"{plain.url}/v1/chat/completions", content=content, headers=GOOD)

    assert 200 == reply.status_code
    (asked,) = replay.asked
    assert sent == asked.body
    assert str(len(asked.body)) == asked.headers["content-length"]


def test_trailers_of_a_request_are_read_and_go_no_further(plain: RunningGateway, replay: Replaying) -> None:
    replay.answers(json.dumps(REPLY).encode())
    body = json.dumps(ASKED).encode()
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\nTrailer: x-edge-tenant\r\n"
        "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
    )
    chunked = b"%x\r\n%s\r\n0\r\nx-edge-tenant: umbrella\r\nauthorization: Bearer other\r\n\r\n" % (len(body), body)
    answer = raw(plain, head.encode() + chunked)

    assert b" 200 " in answer.partition(b"\r\n")[0]
    (asked,) = replay.asked
    assert ASKED["messages"] == asked.json["messages"]
    assert not {"x-edge-tenant", "trailer"} & asked.headers.keys()


def test_a_caller_gets_no_limits_and_no_account_of_the_operator(plain: RunningGateway, replay: Replaying) -> None:
    told = {"x-ratelimit-remaining-requests": "5", "openai-organization": "acme", "set-cookie": "a=b", "x-other": "1"}
    replay.answers(json.dumps(REPLY).encode(), headers={**told, "openai-processing-ms": "7", "x-request-id": "theirs"})
    reply = httpx.post(f"{plain.url}/v1/chat/completions", json=ASKED, headers=GOOD, timeout=60)

    assert {} == {name: reply.headers[name] for name in told if name in reply.headers}
    assert ("7", "theirs") == (reply.headers["openai-processing-ms"], reply.headers["x-edge-provider-request-id"])


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


def test_a_provider_that_resets_after_its_headers_is_unreachable(plain: RunningGateway) -> None:
    """The reply is whole, so nothing guards it, and its headers still wait for the body."""
    asked = {**ASKED, "model": "reset-after-headers"}
    reply = httpx.post(f"{plain.url}/v1/chat/completions", json=asked, headers=GOOD, timeout=60)

    assert (502, "provider_unreachable") == (reply.status_code, reply.json()["error"]["code"])


def test_an_envoy_without_memory_says_so() -> None:
    """Its heap is larger than the limit from the start."""
    with replaying() as provider:
        provider.answers(json.dumps(REPLY).encode())
        full = gateways.config(provider.url, more="envoy: {memory: 1MiB}")
        with RunningGateway(full) as gateway:

            def refused() -> bool:
                reply = httpx.post(f"{gateway.url}/v1/chat/completions", json=ASKED, headers=GOOD, timeout=60)
                return 503 == reply.status_code and "overloaded" == reply.json()["error"]["code"]

            until(refused)
