"""A large request of a caller without a free slot is answered before its body is sent."""

from __future__ import annotations

import json
import socket

import gateway as gateways
import pytest
from gateway import KEY, RunningGateway, until

pytestmark = pytest.mark.envoy

PATIENCE = 20.0


def connected(running: RunningGateway) -> socket.socket:
    host, port = running.url.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=PATIENCE)


def head(length: int) -> bytes:
    return (
        f"POST /v1/chat/completions HTTP/1.1\r\nhost: gateway\r\nauthorization: Bearer {KEY}\r\n"
        f"content-type: application/json\r\ncontent-length: {length}\r\n\r\n"
    ).encode()


def test_a_large_body_is_not_read_while_all_slots_are_in_use() -> None:
    small = json.dumps({"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hello"}]}).encode()
    with socket.create_server(("127.0.0.1", 0)) as silent:  # a provider that never answers
        text = gateways.config(f"http://127.0.0.1:{silent.getsockname()[1]}")
        text = text.replace(f"key: {KEY}}}", f"key: {KEY}, limits: {{concurrent: 1}}}}")
        with RunningGateway(text) as running, connected(running) as first:
            first.sendall(head(len(small)) + small)
            silent.settimeout(PATIENCE)
            provider, _ = silent.accept()  # so the slot is in use
            with provider, connected(running) as second:
                second.sendall(head(20 << 20))  # and nothing of the body
                answer = b""
                while b"\r\n\r\n" not in answer and (part := second.recv(65536)):
                    answer += part
            assert b" 429 " in answer.partition(b"\r\n")[0]

            first.close()

            def has_a_slot() -> bool:
                with connected(running) as third:
                    third.sendall(head(20 << 20))
                    third.settimeout(0.5)
                    try:
                        return b" 429 " not in third.recv(65536)
                    except TimeoutError:  # it waits for the body
                        return True

            until(has_a_slot)


def test_large_bodies_on_their_way_are_no_more_than_the_slots() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        text = gateways.config(f"http://127.0.0.1:{silent.getsockname()[1]}")
        text = text.replace(f"key: {KEY}}}", f"key: {KEY}, limits: {{concurrent: 1}}}}")
        with RunningGateway(text) as running, connected(running) as first:
            first.sendall(head(20 << 20) + b" " * (1 << 20))

            def is_refused() -> bool:
                with connected(running) as other:
                    other.sendall(head(20 << 20))
                    other.settimeout(0.5)
                    try:
                        return b" 429 " in other.recv(65536)
                    except TimeoutError:
                        return False

            until(is_refused)
            first.close()
            until(lambda: not is_refused())
