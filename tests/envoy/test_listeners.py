"""Several listeners, IPv6, and both versions of IP on one port."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
from collections.abc import Iterator

import gateway as gateways
import httpx2 as httpx
import pytest
from gateway import KEY, PATIENCE, RunningGateway, until
from ports import free_port
from replaying import Replaying, replaying

from edge_extproc.envoy_config import certificate

pytestmark = pytest.mark.envoy

GOOD = {"authorization": f"Bearer {KEY}"}
ASKED = {"model": "gpt-5-mini", "messages": [{"role": "user", "content": "Hello"}]}
PREFLIGHT = {"origin": "https://app.example", "access-control-request-method": "POST"}


@pytest.fixture(scope="module")
def provider() -> Iterator[Replaying]:
    with replaying() as found:
        found.answers(json.dumps({"id": "c1", "object": "chat.completion", "created": 1, "choices": []}).encode())
        yield found


class TwoListeners(RunningGateway):
    """The first one at every address, the second one with TLS and for web pages."""

    def __init__(self, provider: Replaying) -> None:
        self.port, self.second = free_port(), free_port()
        text = gateways.config(provider.url)
        listen = next(line for line in text.splitlines() if line.startswith("listen:"))
        more = f"{{port: {self.second}, tls: {{generate: true}}, cors: {{origins: ['https://app.example']}}}}"
        wanted = f"listen: {{port: {self.port}, address: '::', more: [{more}]}}"
        super().__init__(text.replace(listen, f"{wanted}\ntimeouts: {{receive_headers: 4s}}"))

    @property
    def addresses(self) -> list[str]:
        return [f"http://127.0.0.1:{self.port}", f"http://[::1]:{self.port}", f"https://localhost:{self.second}"]

    def ask(self, method: str, url: str, **more: object) -> httpx.Response:
        trust = ssl.create_default_context(cafile=str(certificate.files(self.directory / ".edge").ca))
        with httpx.Client(verify=trust, timeout=60) as http:
            return http.request(method, url, **more)  # type: ignore[arg-type]  # as the test gives them


@pytest.fixture(scope="module")
def two(provider: Replaying) -> Iterator[TwoListeners]:
    with TwoListeners(provider) as found:
        yield found


def test_each_address_serves(two: TwoListeners) -> None:
    answers = [two.ask("POST", f"{url}/v1/chat/completions", json=ASKED, headers=GOOD) for url in two.addresses]

    assert [200, 200, 200] == [answer.status_code for answer in answers], [answer.text for answer in answers]


def test_each_listener_has_its_own_rules_for_web_pages(two: TwoListeners) -> None:
    first, _, second = [two.ask("OPTIONS", f"{url}/v1/models", headers=PREFLIGHT) for url in two.addresses]

    assert (403, "origin_not_allowed") == (first.status_code, first.json()["error"]["code"])
    assert (200, "https://app.example") == (second.status_code, second.headers["access-control-allow-origin"])


def test_up_tells_all_addresses(two: TwoListeners) -> None:
    assert [f"Gateway   http://127.0.0.1:{two.port} ", f"          https://127.0.0.1:{two.second}"] == [
        line.partition("  (OpenAI")[0] for line in two.lines if line.startswith(("Gateway", "          http"))
    ]


def test_a_changed_configuration_reaches_both_without_a_restart(two: TwoListeners) -> None:
    text = two.path.read_text()
    two.path.write_text(text.replace("timeouts: {", "timeouts: {stream_idle: 77s, ", 1))

    def applied() -> list[bool]:
        with httpx.Client(transport=httpx.HTTPTransport(uds=str(two.directory / ".edge/run/envoy-admin.sock"))) as http:
            dumps = [
                http.get(f"http://envoy/config_dump?resource={kind}&name_regex={name}").text
                for kind, name in (("dynamic_route_configs", "edge"), ("dynamic_listeners", "edge-1"))
            ]
        return ["77s" in dump for dump in dumps]

    until(lambda: [True, True] == applied())
    for url in two.addresses:
        assert 200 == two.ask("POST", f"{url}/v1/chat/completions", json=ASKED, headers=GOOD).status_code


def test_a_connection_without_a_handshake_is_closed(two: TwoListeners) -> None:
    with socket.create_connection(("127.0.0.1", two.second), timeout=PATIENCE) as connection:
        assert connection.recv(1) == b""  # raises TimeoutError if it stays open

    assert 200 == two.ask("POST", f"{two.addresses[2]}/v1/chat/completions", json=ASKED, headers=GOOD).status_code


@pytest.mark.parametrize("sent", [b"", b"POST /v1/chat"])
def test_a_plain_connection_without_a_request_line_is_closed(two: TwoListeners, sent: bytes) -> None:
    with socket.create_connection(("127.0.0.1", two.port), timeout=PATIENCE) as connection:
        connection.sendall(sent)
        with contextlib.suppress(ConnectionResetError):
            assert connection.recv(1) == b""  # raises TimeoutError if it stays open

    assert 200 == two.ask("POST", f"{two.addresses[0]}/v1/chat/completions", json=ASKED, headers=GOOD).status_code
