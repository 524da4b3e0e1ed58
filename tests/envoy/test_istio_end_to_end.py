"""The EnvoyFilter of a gateway and of a sidecar, merged into a proxy as Istio merges, and run by an Envoy that has only
what Istio builds: what a caller and a provider then see. The agents are real ones, started by `serve`."""

from __future__ import annotations

import json
import os
import random
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

import fault_player
import gateway as gateways
import httpx2 as httpx
import pytest
import yaml
from istio_kit import HOST, LISTENER, lacking, patched, proxy, routes_of
from running_envoy import RunningEnvoy
from running_valkey import RunningValkey

from edge_extproc.config import load
from edge_extproc.envoy_config import istio as render_istio
from edge_extproc.exchange.check import IDENTITY_HEADERS

pytestmark = pytest.mark.envoy

ISTIO = Path(__file__).parents[2] / "istio"
KEY, LIMITED = gateways.KEY, "edge-test-key-that-is-limited"
MANIFESTS: dict[render_istio.Target, str] = {"istio-gateway": "gateway", "istio-sidecar": "sidecar"}
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
    target: render_istio.Target


def free_ports(count: int) -> int:
    """The first of so many that follow each other. They are not among the ports that outgoing connections get."""
    chance = random.SystemRandom()
    return next(
        first
        for first in (chance.randrange(20_000, 32_000) for _ in range(100))
        if all(_is_free(first + n) for n in range(count))
    )


def _is_free(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) != 0


def config(target: render_istio.Target, provider: str, admin: int, store: str) -> str:
    reached = {
        "istio-gateway": f"workers: 2, tcp: {{address: 127.0.0.1, port: {free_ports(2)}, hosts: [127.0.0.1]}}",
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


def base(target: render_istio.Target) -> dict[str, Any]:
    """Without the EnvoyFilter."""
    paths = (ISTIO / MANIFESTS[target]).glob("*.yaml")
    found = [each for path in paths for each in yaml.safe_load_all(path.read_text())]
    (service,) = [each for each in found if each.get("kind") == "VirtualService"]
    return proxy(routes_of(service), render_istio.CONTEXT[target])


@pytest.fixture(scope="module", params=MANIFESTS)
def mesh(request: pytest.FixtureRequest) -> Iterator[Proxy]:
    target: render_istio.Target = request.param
    store = RunningValkey()
    with fault_player.fault_player() as player, tempfile.TemporaryDirectory(prefix="edge-") as short:
        directory, admin = Path(short), gateways.free_port()
        store.start()
        text = config(target, f"http://127.0.0.1:{player.port}", admin, store.url)
        path = directory / "edge.yaml"
        path.write_text(text)
        with (directory / "agent.log").open("wb") as log:
            agent = subprocess.Popen(
                [sys.executable, "-m", "edge_extproc", "serve", "--config", str(path)],
                cwd=directory,
                env=dict(os.environ),
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        envoy = None
        try:
            gateways.until(lambda: agent.poll() is not None or is_ready(admin), gateways.START_SECONDS)
            assert agent.poll() is None, (directory / "agent.log").read_text()
            where = render_istio.MeshResources("istio-ingress", {"istio": "ingress"}, 8443)
            found = render_istio.envoy_filter(load.load(path), target, where)
            bootstrap = patched(base(target), found["spec"]["configPatches"], where.port)
            envoy = RunningEnvoy(bootstrap, directory, log_level="warning", without=lacking())
            envoy.start()
            gateways.until(lambda: envoy.stats("cluster.agent.membership_healthy") == {HEALTHY: 2})
            yield Proxy(f"http://127.0.0.1:{envoy.port(LISTENER)}", admin, player, target)
        finally:
            if envoy is not None:
                envoy.stop()
            agent.terminate()
            agent.wait(30)
            store.stop()


HEALTHY = "cluster.agent.membership_healthy"


@pytest.fixture(autouse=True)
def _nothing_seen(request: pytest.FixtureRequest) -> None:
    if "mesh" in request.fixturenames:
        request.getfixturevalue("mesh").player.server.seen.clear()


def ask(mesh: Proxy, model: str, *headers: tuple[str, str], key: str = KEY, stream: bool = False) -> httpx.Response:
    asked = {"model": model, "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 50, "stream": stream}
    authorization = [("authorization", f"Bearer {key}")] if key else []
    with httpx.Client(headers=[("host", HOST), *authorization, *headers], timeout=30) as http:
        return http.post(f"{mesh.url}/v1/chat/completions", json=asked)


def is_whole(came: httpx.Response, *, stream: bool) -> bool:
    text = came.text
    return came.status_code == 200 and "there" in text and ("[DONE]" in text) is stream


def seen_by(mesh: Proxy) -> list[tuple[str | None, str | None, str]]:
    """Of each request, the credentials as either dialect sends them, and the model."""
    return [
        (one.header("authorization"), one.header("x-api-key"), json.loads(one.body)["model"])
        for one in mesh.player.server.seen
    ]


@pytest.mark.parametrize("key", ["", "edge-nobodys"])
def test_who_has_no_key_is_refused_and_no_provider_is_asked(mesh: Proxy, key: str) -> None:
    came = ask(mesh, "one.good", key=key)

    assert (401, "authentication_error") == (came.status_code, came.json()["error"]["type"])
    assert [] == mesh.player.server.seen


@pytest.mark.parametrize("stream", [False, True])
def test_a_call_goes_to_its_provider_with_that_ones_key(mesh: Proxy, stream: bool) -> None:
    assert is_whole(ask(mesh, "one.good", stream=stream), stream=stream)
    assert [("Bearer sk-of-a", None, "one.good")] == seen_by(mesh)


@pytest.mark.parametrize("stream", [False, True])
def test_a_call_is_translated(mesh: Proxy, stream: bool) -> None:
    assert is_whole(ask(mesh, "translated.good", stream=stream), stream=stream)
    assert [(None, "sk-of-b", "translated.good")] == seen_by(mesh)
    assert "POST /v1/messages HTTP/1.1" == mesh.player.server.seen[0].line


@pytest.mark.parametrize("stream", [False, True])
def test_each_try_goes_to_the_next_provider_in_its_dialect_with_its_key(mesh: Proxy, stream: bool) -> None:
    assert is_whole(ask(mesh, "two.503", stream=stream), stream=stream)
    assert [("Bearer sk-of-a", None, "two.503"), (None, "sk-of-b", "b.good")] == seen_by(mesh)

    mesh.player.server.seen.clear()

    assert is_whole(ask(mesh, "three.503", stream=stream), stream=stream)
    assert [
        ("Bearer sk-of-a", None, "three.503"),
        (None, "sk-of-b", "b.503"),
        ("Bearer sk-of-c", None, "c.good"),
    ] == seen_by(mesh)


def test_a_provider_without_an_address_is_passed_over_and_its_key_with_it(mesh: Proxy) -> None:
    assert is_whole(ask(mesh, "nowhere.good"), stream=False)
    assert [(None, "sk-of-b", "b.good")] == seen_by(mesh)


def test_a_stream_that_fails_before_its_first_token_is_tried_elsewhere(mesh: Proxy) -> None:
    """The guard, whose matcher reads filter state here."""
    assert is_whole(ask(mesh, "two.error-first", stream=True), stream=True)
    assert [("Bearer sk-of-a", None, "two.error-first"), (None, "sk-of-b", "b.good")] == seen_by(mesh)


def test_all_streams_of_a_request_find_one_of_the_workers(mesh: Proxy) -> None:
    """A second try that reached the other worker would be refused there: it knows no such exchange."""
    assert [200] * 40 == [ask(mesh, "two.503").status_code for _ in range(40)]


def test_an_unknown_path_and_an_unknown_model_are_404(mesh: Proxy) -> None:
    with httpx.Client(headers={"host": HOST, "authorization": f"Bearer {KEY}"}) as http:
        nowhere = http.post(f"{mesh.url}/v1/nothing", json={})

    assert (404, 404) == (nowhere.status_code, ask(mesh, "nobody-has-it").status_code)
    assert nowhere.json()["error"]["message"]
    assert [] == mesh.player.server.seen


def test_who_is_over_a_limit_is_told_when_to_come_again(mesh: Proxy) -> None:
    found = [ask(mesh, "one.good", key=LIMITED) for _ in range(2)]

    assert [200, 429] == [came.status_code for came in found]
    assert int(found[1].headers["retry-after"]) >= 1
    assert 1 == len(mesh.player.server.seen)


def test_what_a_caller_writes_under_our_names_and_envoys_is_not_believed_and_goes_nowhere(mesh: Proxy) -> None:
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


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/metrics", "/config", "/healthz", "/"])
def test_a_proxy_without_the_envoyfilter_answers_503_whatever_it_is_asked(
    mesh: Proxy, path: str, tmp_path: Path
) -> None:
    unpatched = base(mesh.target)
    # Wherever a route of the manifest would lead, the agents' admin port is.
    unpatched["static_resources"]["clusters"] += _leading_to(mesh.admin, unpatched)
    envoy = RunningEnvoy(unpatched, tmp_path, log_level="warning", without=lacking())
    envoy.start()
    try:
        with httpx.Client(headers={"host": HOST, "authorization": f"Bearer {KEY}"}) as http:
            url = f"http://127.0.0.1:{envoy.port(LISTENER)}{path}"
            found = [http.get(url), http.get(url, headers={"x-edge-route": "once"})]
    finally:
        envoy.stop()

    assert [503, 503] == [came.status_code for came in found]
    assert "policy_unavailable" == found[0].json()["error"]["code"]
    assert [] == mesh.player.server.seen


def _leading_to(port: int, bootstrap: dict[str, Any]) -> list[dict[str, Any]]:
    manager = bootstrap["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]
    routes = manager["route_config"]["virtual_hosts"][0]["routes"]
    address = {"socket_address": {"address": "127.0.0.1", "port_value": port}}
    endpoints = [{"lb_endpoints": [{"endpoint": {"address": address}}]}]
    names = {each["route"]["cluster"] for each in routes if "route" in each}
    return [{"name": name, "load_assignment": {"cluster_name": name, "endpoints": endpoints}} for name in names]


# --- keys for other services: what an excluded path tells them


def inbound(application: int) -> dict[str, Any]:
    """A sidecar before an application, with a filter that says who is calling as ext_authz does."""
    route = {"name": "default", "match": {"prefix": "/"}, "route": {"cluster": "inbound|8080||"}}
    found = proxy([route], "SIDECAR_INBOUND")
    manager = found["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]
    mutation = "type.googleapis.com/envoy.extensions.filters.http.header_mutation.v3.HeaderMutation"
    told = {"append": {"header": {"key": "x-edge-key", "value": "told"}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}}
    filter_config = {"@type": mutation, "mutations": {"request_mutations": [told]}}
    manager["http_filters"].insert(0, {"name": "as ext_authz", "typed_config": filter_config})
    address = {"socket_address": {"address": "127.0.0.1", "port_value": application}}
    endpoints = [{"lb_endpoints": [{"endpoint": {"address": address}}]}]
    cluster = {"name": "inbound|8080||", "load_assignment": {"cluster_name": "app", "endpoints": endpoints}}
    found["static_resources"]["clusters"].append(cluster)
    return found


@pytest.mark.parametrize("filtered", [True, False])
def test_an_identity_that_a_caller_forged_does_not_pass_a_path_that_is_not_checked(
    filtered: bool, tmp_path: Path
) -> None:
    policy = yaml.safe_load_all((ISTIO / "authz" / "policy.yaml").read_text())
    (found,) = [each for each in policy if each["kind"] == "EnvoyFilter"]
    with fault_player.fault_player() as application:
        patches = found["spec"]["configPatches"] if filtered else []
        envoy = RunningEnvoy(patched(inbound(application.port), patches, None), tmp_path, without=lacking())
        envoy.start()
        try:
            headers = {"host": HOST, **dict.fromkeys(IDENTITY_HEADERS, "forged")}
            with httpx.Client(headers=headers) as http:
                http.post(f"http://127.0.0.1:{envoy.port(LISTENER)}/healthz", json={"model": "a.good"})
        finally:
            envoy.stop()
        (seen,) = application.server.seen

    forged = [] if filtered else [name for name in IDENTITY_HEADERS if name != "x-edge-key"]
    assert forged == [name for name in IDENTITY_HEADERS if seen.header(name) == "forged"]
    assert "told" == seen.header("x-edge-key")
