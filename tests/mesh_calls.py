"""What a caller and a provider see of any proxy: one set of tests for the proxies of Istio that are configured by our
own merge, for those that istiod configures, and for the Envoy of the Helm chart."""

from __future__ import annotations

import contextlib
import json
import os
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import fault_player
import fork_server
import gateway as gateways
import httpx2 as httpx
import pytest
from istio_kit import HOST
from ports import free_ports

from edge_extproc.envoy_config import istio as render_istio

KEY, LIMITED = gateways.KEY, "edge-test-key-that-is-limited"
MODELS = """
  "one.*": [{provider: a}]
  "translated.*": [{provider: b}]
  "two.*": [{provider: a}, {provider: b, model: b.good}]
  "three.*": [{provider: a}, {provider: b, model: b.503}, {provider: c, model: c.good}]
  "nowhere.*": [{provider: lost}, {provider: b, model: b.good}]
"""


@dataclass(frozen=True, slots=True)
class Proxy:
    url: str
    admin: int
    player: fault_player.FaultPlayer
    target: render_istio.Target | None = None
    """None: an Envoy of its own."""
    host: str = HOST
    trust: ssl.SSLContext | None = None

    def client(self, *headers: tuple[str, str]) -> httpx.Client:
        trust = {} if self.trust is None else {"verify": self.trust}
        return httpx.Client(headers=[("host", self.host), *headers], timeout=30, **trust)

    @property
    def extensions(self) -> dict[str, str]:
        return {"sni_hostname": self.host.partition(":")[0]}


def config(
    target: render_istio.Target,
    provider: str,
    admin: int,
    store: str,
    *,
    port: int | None = None,
    host: str = "127.0.0.1",
) -> str:
    """`port` of the first of two workers, and the host by which the proxy reaches them."""
    tcp = f"{{address: 127.0.0.1, port: {port or free_ports(2)}, hosts: [{host}], allow_plaintext: true}}"
    over_tcp = f"workers: 2, tcp: {tcp}"
    reached = {
        "istio-gateway": over_tcp,
        "istio-waypoint": over_tcp,
        "istio-sidecar": "workers: 2, socket_access: group",
    }[target]
    callers = [
        f"{{tenant: acme, keys: [{{id: acme-1, key: {KEY}}}]}}",
        f"{{tenant: small, limits: {{requests_per_minute: 1}}, keys: [{{id: small-1, key: {LIMITED}}}]}}",
    ]
    return (
        f"admin: {{port: {admin}}}\n"
        f"agent: {{{reached}, shutdown_grace: 2s}}\n"
        'envoy: {istio: "1.30"}\n'
        f"auth: {{pepper: '{gateways.PEPPER}'}}\n"
        f"limiter: {{url: '{store}'}}\n"
        f"callers: [{', '.join(callers)}]\n"
        "retries: {attempts: 3, back_off: {base: 5ms, max: 10ms}}\n"
        "routing: {breaker: {enabled: false}}\n"
        "providers:\n"
        f"  a: {{kind: openai, base_url: '{provider}/v1', api_key: sk-of-a}}\n"
        f"  b: {{kind: anthropic, base_url: '{provider}/v1', api_key: sk-of-b}}\n"
        f"  c: {{kind: openai, base_url: '{provider}/v1', api_key: sk-of-c}}\n"
        "  lost: {kind: openai, base_url: 'http://no-such-host.invalid/v1', api_key: x, allow_plaintext: true}\n"
        f"models:{MODELS}"
    )


def is_ready(admin: int) -> bool:
    try:
        with urlopen(f"http://127.0.0.1:{admin}/readyz") as answer:
            return bool(answer.status == 200)
    except (URLError, ConnectionError):
        return False


@contextlib.contextmanager
def serving(path: Path, admin: int) -> Iterator[None]:
    """The agent of a configuration, ready."""
    log_path = path.with_name("agent.log")
    agent = fork_server.start(["serve", "--config", str(path)], path.parent, os.environ, log_path)
    try:
        gateways.until(lambda: agent.poll() is not None or is_ready(admin), gateways.START_SECONDS)
        assert agent.poll() is None, log_path.read_text()
        yield
    finally:
        agent.terminate()
        agent.wait(30)


def ask(mesh: Proxy, model: str, *headers: tuple[str, str], key: str = KEY, stream: bool = False) -> httpx.Response:
    asked = {"model": model, "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 50, "stream": stream}
    authorization = [("authorization", f"Bearer {key}")] if key else []
    with mesh.client(*authorization, *headers) as http:
        return http.post(f"{mesh.url}/v1/chat/completions", json=asked, extensions=mesh.extensions)


def is_whole(came: httpx.Response, *, stream: bool) -> bool:
    text = came.text
    return came.status_code == 200 and "there" in text and ("[DONE]" in text) is stream


def seen_by(mesh: Proxy) -> list[tuple[str | None, str | None, str]]:
    """Of each request, the credentials as either dialect sends them, and the model."""
    return [
        (one.header("authorization"), one.header("x-api-key"), json.loads(one.body)["model"])
        for one in mesh.player.server.seen
    ]


class CallsThroughAMesh:
    """With a fixture `mesh`, a Proxy."""

    @pytest.fixture(autouse=True)
    def _nothing_seen(self, mesh: Proxy) -> None:
        mesh.player.server.seen.clear()

    @pytest.mark.parametrize("key", ["", "edge-nobodys"])
    def test_who_has_no_key_is_refused_and_no_provider_is_asked(self, mesh: Proxy, key: str) -> None:
        came = ask(mesh, "one.good", key=key)

        assert (401, "authentication_error") == (came.status_code, came.json()["error"]["type"])
        assert [] == mesh.player.server.seen

    @pytest.mark.parametrize("stream", [False, True])
    def test_a_call_goes_to_its_provider_with_that_ones_key(self, mesh: Proxy, stream: bool) -> None:
        assert is_whole(ask(mesh, "one.good", stream=stream), stream=stream)
        assert [("Bearer sk-of-a", None, "one.good")] == seen_by(mesh)

    @pytest.mark.parametrize("stream", [False, True])
    def test_a_call_is_translated(self, mesh: Proxy, stream: bool) -> None:
        assert is_whole(ask(mesh, "translated.good", stream=stream), stream=stream)
        assert [(None, "sk-of-b", "translated.good")] == seen_by(mesh)
        assert "POST /v1/messages HTTP/1.1" == mesh.player.server.seen[0].line

    @pytest.mark.parametrize("stream", [False, True])
    def test_each_try_goes_to_the_next_provider_in_its_dialect_with_its_key(self, mesh: Proxy, stream: bool) -> None:
        assert is_whole(ask(mesh, "two.503", stream=stream), stream=stream)
        assert [("Bearer sk-of-a", None, "two.503"), (None, "sk-of-b", "b.good")] == seen_by(mesh)

        mesh.player.server.seen.clear()

        assert is_whole(ask(mesh, "three.503", stream=stream), stream=stream)
        assert [
            ("Bearer sk-of-a", None, "three.503"),
            (None, "sk-of-b", "b.503"),
            ("Bearer sk-of-c", None, "c.good"),
        ] == seen_by(mesh)

    def test_a_provider_without_an_address_is_passed_over_and_its_key_with_it(self, mesh: Proxy) -> None:
        assert is_whole(ask(mesh, "nowhere.good"), stream=False)
        assert [(None, "sk-of-b", "b.good")] == seen_by(mesh)

    def test_a_stream_that_fails_before_its_first_token_is_tried_elsewhere(self, mesh: Proxy) -> None:
        """The guard, whose matcher reads filter state here."""
        assert is_whole(ask(mesh, "two.error-first", stream=True), stream=True)
        assert [("Bearer sk-of-a", None, "two.error-first"), (None, "sk-of-b", "b.good")] == seen_by(mesh)

    def test_all_streams_of_a_request_find_one_of_the_workers(self, mesh: Proxy) -> None:
        """A second try that reached the other worker would be refused there: it knows no such exchange."""
        assert [200] * 40 == [ask(mesh, "two.503").status_code for _ in range(40)]

    def test_an_unknown_path_and_an_unknown_model_are_404(self, mesh: Proxy) -> None:
        with mesh.client(("authorization", f"Bearer {KEY}")) as http:
            nowhere = http.post(f"{mesh.url}/v1/nothing", json={}, extensions=mesh.extensions)

        assert (404, 404) == (nowhere.status_code, ask(mesh, "nobody-has-it").status_code)
        assert nowhere.json()["error"]["message"]
        assert [] == mesh.player.server.seen

    def test_who_is_over_a_limit_is_told_when_to_come_again(self, mesh: Proxy) -> None:
        found = [ask(mesh, "one.good", key=LIMITED) for _ in range(2)]

        assert [200, 429] == [came.status_code for came in found]
        assert int(found[1].headers["retry-after"]) >= 1
        assert 1 == len(mesh.player.server.seen)

    def test_what_a_caller_writes_under_our_names_and_envoys_is_not_believed_and_goes_nowhere(
        self, mesh: Proxy
    ) -> None:
        forged = (
            ("x-edge-cluster", "provider_c"),
            ("x-edge-route", "again"),
            ("x-edge-tenant", "small"),
            ("x-envoy-max-retries", "0"),
            ("x-envoy-upstream-alt-stat-name", "forged"),
        )
        came = ask(mesh, "two.503", *forged)

        assert is_whole(came, stream=False)
        assert [("Bearer sk-of-a", None, "two.503"), (None, "sk-of-b", "b.good")] == seen_by(mesh)
        internal = ("x-edge-", "x-envoy-", "x-forwarded-")
        assert not [name for one in mesh.player.server.seen for name, _ in one.headers if name.startswith(internal)]
