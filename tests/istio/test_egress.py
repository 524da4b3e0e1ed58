"""istio/egress through istiod's code: the sidecars of two services, an egress gateway, the agents with a sidecar of
their own, and a provider. In place of iptables, a connection says by the PROXY protocol which address it was meant
for."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import ssl
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fault_player
import gateway as gateways
import istiod_kit
import pytest
import yaml
from cryptography import x509
from istio_kit import lacking
from istiod_kit import Manifest
from mesh_calls import serving
from mesh_cluster import (
    HEALTHY,
    ISTIO,
    PROXY,
    around_a_pod,
    at_ports,
    egress_service,
    endpoints,
    shipped,
    sidecar,
    subdirectory,
)
from ports import free_port, free_ports
from replaying import Replaying
from running_envoy import RunningEnvoy
from running_valkey import RunningValkey

from edge_extproc.config import load
from edge_extproc.envoy_config import istio as render_istio

pytestmark = [pytest.mark.istio]

AGENT = "spiffe://cluster.local/ns/llm/sa/llm-edge-agent"
OPENAI, ANTHROPIC, OTHER, UNKNOWN = "api.openai.com", "api.anthropic.com", "other.example", "unknown.example"
# The addresses of the pods.
SERVICES = {"chat": "127.0.0.5", "reports": "127.0.0.6"}
CHAT = "/v1/chat/completions"
KEY_OF_A_PROVIDER = "sk-a-key-that-the-application-still-has"


@dataclass(frozen=True, slots=True)
class Reply:
    status: int
    text: str


@dataclass(frozen=True, slots=True)
class Mesh:
    player: fault_player.FaultPlayer
    plain: Replaying
    """The rest of the internet at port 80 …"""
    encrypted: Replaying
    """… and at port 443."""
    trust: ssl.SSLContext
    authority: istiod_kit.MeshAuthority
    gateway: int
    sidecars: dict[str, int]
    """The port at which each service's outgoing connections arrive."""
    log: Path
    """The agents' log."""

    def connect(self, service: str, port: int) -> socket.socket:
        """A connection that the sidecar has captured. It was meant for this port of some address, where all servers of
        the internet are."""
        found = socket.create_connection((SERVICES[service], self.sidecars[service]), timeout=30)
        found.sendall(f"PROXY TCP4 {SERVICES[service]} {PROXY} 4000 {port}\r\n".encode())
        return found

    def get(self, service: str, host: str) -> Reply:
        with self.connect(service, self.plain.port) as sock:
            return _exchange(sock, host, "GET", "/", None, {})

    def ask(
        self,
        service: str,
        host: str,
        path: str,
        model: str,
        headers: dict[str, str] | None = None,
        *,
        stream: bool = False,
        tokens: int = 50,
        port: int | None = None,
    ) -> Reply:
        """By plain HTTP, at port 80 or another."""
        asked = {
            "model": model,
            "messages": [{"role": "user", "content": "Hello"}],
            "max_tokens": tokens,
            "stream": stream,
        }
        written = {"content-type": "application/json", **(headers or {})}
        with self.connect(service, port or self.plain.port) as sock:
            return _exchange(sock, host, "POST", path, json.dumps(asked), written)

    def get_encrypted(self, service: str, host: str) -> Reply:
        """As an application does that begins TLS itself. Raises OSError."""
        with self.connect(service, self.encrypted.port) as sock:
            return _exchange(self.trust.wrap_socket(sock, server_hostname=host), host, "GET", "/", None, {})

    def identities(self) -> dict[str, tuple[str, str]]:
        """Tenant and identity of the last exchange with each model."""
        lines = [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]
        return {line["upstream_model"]: (line["tenant"], line["key"]) for line in lines if "exchange" in line}


def _exchange(
    sock: socket.socket, host: str, method: str, path: str, body: str | None, headers: dict[str, str]
) -> Reply:
    with contextlib.closing(http.client.HTTPConnection(host)) as connection:
        connection.sock = sock
        connection.request(method, path, body, headers)
        came = connection.getresponse()
        return Reply(came.status, came.read().decode())


# --- the manifests as they are


@pytest.fixture(scope="module")
def mesh() -> Iterator[Mesh]:
    with running(all_manifests()) as found:
        yield found


@pytest.fixture(autouse=True)
def _nothing_seen(request: pytest.FixtureRequest) -> None:
    if "mesh" in request.fixturenames:
        found: Mesh = request.getfixturevalue("mesh")
        for seen in (found.player.server.seen, found.plain.asked, found.encrypted.asked):
            seen.clear()


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("service", SERVICES)
def test_a_call_to_a_provider_goes_through_the_gateway_with_its_key(mesh: Mesh, service: str, stream: bool) -> None:
    own = {"authorization": f"Bearer {KEY_OF_A_PROVIDER}"}
    first = mesh.ask(service, OPENAI, CHAT, "gpt.good", own, stream=stream)
    second = mesh.ask(service, ANTHROPIC, "/v1/messages", "claude-.good", {"x-api-key": KEY_OF_A_PROVIDER})

    assert [200, 200] == [first.status, second.status], (first, second)
    assert "there" in first.text
    assert ("[DONE]" in first.text) is stream
    one, two = mesh.player.server.seen
    assert ("Bearer sk-of-openai", None) == (one.header("authorization"), one.header("x-api-key"))
    assert (None, "sk-of-anthropic") == (two.header("authorization"), two.header("x-api-key"))
    assert KEY_OF_A_PROVIDER not in str([one.headers, two.headers])
    assert [] == mesh.plain.asked


def test_a_service_is_identified_by_its_certificate(mesh: Mesh) -> None:
    forged = {
        "x-forwarded-client-cert": "URI=spiffe://cluster.local/ns/reports/sa/reports",
        "x-edge-tenant": "reports",
        "x-edge-identity": "9999999999.00.e30=",
    }
    assert 200 == mesh.ask("chat", OPENAI, CHAT, "gpt-for-chat.good", forged).status
    (seen,) = mesh.player.server.seen
    assert 200 == mesh.ask("reports", OPENAI, CHAT, "gpt-for-reports.good").status
    gateways.until(lambda: {"gpt-for-chat.good", "gpt-for-reports.good"} <= mesh.identities().keys())

    assert [(name, f"mtls:spiffe://cluster.local/ns/{name}/sa/{name}") for name in SERVICES] == [
        mesh.identities()[f"gpt-for-{name}.good"] for name in SERVICES
    ]
    assert not [name for name, _ in seen.headers if name.startswith(("x-edge-", "x-forwarded-", "x-envoy-"))]


def test_a_limit_of_one_service_does_not_limit_the_other(mesh: Mesh) -> None:
    assert 429 == mesh.ask("reports", OPENAI, CHAT, "gpt.good", tokens=LIMIT).status
    assert 200 == mesh.ask("chat", OPENAI, CHAT, "gpt.good", tokens=LIMIT).status
    assert 200 == mesh.ask("reports", OPENAI, CHAT, "gpt.good").status


def test_a_direct_call_to_a_provider_is_cut_off(mesh: Mesh) -> None:
    """By its name, by HTTPS with and without that name, and by its address."""
    for host in (OPENAI, ANTHROPIC, UNKNOWN):
        with pytest.raises(OSError, match=r"reset|EOF|closed"):
            mesh.get_encrypted("chat", host)
    with pytest.raises((OSError, http.client.RemoteDisconnected)):
        mesh.ask("chat", OPENAI, CHAT, "gpt.good", port=mesh.player.port)

    assert ([], [], []) == (mesh.player.server.seen, mesh.plain.asked, mesh.encrypted.asked)


def test_a_host_that_is_not_in_the_registry_is_not_reached(mesh: Mesh) -> None:
    assert 502 == mesh.get("chat", UNKNOWN).status
    assert [] == mesh.plain.asked


def test_a_host_with_a_service_entry_is_reached_without_the_gateway(mesh: Mesh) -> None:
    assert [200, 200] == [mesh.get("chat", OTHER).status, mesh.get_encrypted("chat", OTHER).status]
    assert (1, 1) == (len(mesh.plain.asked), len(mesh.encrypted.asked))
    assert [] == mesh.player.server.seen


def test_the_gateway_admits_workloads_of_the_mesh_and_serves_those_of_a_tenant(mesh: Mesh) -> None:
    assert 401 == through_the_gateway(mesh, mesh.authority.of_workload("monitoring", "prometheus"))
    assert 200 == through_the_gateway(mesh, mesh.authority.of_workload("chat", "another-account"))
    mesh.player.server.seen.clear()
    with pytest.raises((OSError, http.client.RemoteDisconnected)):
        through_the_gateway(mesh, None)
    assert [] == mesh.player.server.seen


def through_the_gateway(mesh: Mesh, certificate: Path | None) -> int:
    """The status for who connects to the gateway without a sidecar."""
    context = ssl.create_default_context(cafile=str(mesh.authority.pem))
    context.check_hostname = False
    if certificate is not None:
        context.load_cert_chain(certificate)
    asked = json.dumps({"model": "gpt.good", "messages": [{"role": "user", "content": "Hello"}]})
    with socket.create_connection((PROXY, mesh.gateway), timeout=30) as sock:
        encrypted = context.wrap_socket(sock, server_hostname="istio-egress")
        return _exchange(encrypted, OPENAI, "POST", CHAT, asked, {"content-type": "application/json"}).status


# --- and without parts of them


def test_without_the_default_of_sidecars_only_providers_are_denied() -> None:
    """ALLOW_ANY, as Istio is installed."""
    kept = [each for each in all_manifests() if (each["kind"], each["metadata"]["name"]) != ("Sidecar", "default")]
    with running(kept) as mesh:
        for host in (OPENAI, ANTHROPIC):
            with pytest.raises(OSError, match=r"reset|EOF|closed"):
                mesh.get_encrypted("chat", host)
        assert [] == mesh.encrypted.asked
        assert 200 == mesh.ask("chat", OPENAI, CHAT, "gpt.good").status
        assert 1 == len(mesh.player.server.seen)

        found = [mesh.get("chat", UNKNOWN), mesh.get_encrypted("chat", UNKNOWN)]
        assert [200, 200] == [each.status for each in found]
        assert (1, 1) == (len(mesh.plain.asked), len(mesh.encrypted.asked))
        # A call by the address of a provider, which REGISTRY_ONLY denies.
        assert 200 == mesh.ask("chat", OPENAI, CHAT, "gpt.good", port=mesh.player.port).status
        assert 2 == len(mesh.player.server.seen)


@pytest.mark.parametrize("missing", [("VirtualService", "llm-to-egress"), ("EnvoyFilter", "llm-edge")])
def test_without_a_part_no_call_reaches_a_provider(missing: tuple[str, str]) -> None:
    kept = [each for each in all_manifests() if (each["kind"], each["metadata"]["name"]) != missing]
    with running(kept) as mesh:
        found = [mesh.ask("chat", host, path, "gpt.good").status for host in (OPENAI, ANTHROPIC) for path in PATHS]

        assert [503] * len(found) == found
        assert ([], []) == (mesh.player.server.seen, mesh.plain.asked)


PATHS = (CHAT, "/metrics", "/config", "/")

# --- the mesh of these tests

LIMIT = 100_000
"""Tokens a minute: far more than all other calls of these tests need."""


def all_manifests() -> list[Manifest]:
    return shipped("gateway", "egress")


@contextlib.contextmanager
def running(manifests: list[Manifest]) -> Iterator[Mesh]:
    store = RunningValkey()
    with (
        fault_player.fault_player() as player,
        tempfile.TemporaryDirectory(prefix="edge-") as short,
        contextlib.ExitStack() as stack,
    ):
        directory, admin, first = Path(short), free_port(), free_ports(3 + len(SERVICES))
        gateway = first + 2
        outbound = dict(zip(SERVICES, range(first + 3, first + 3 + len(SERVICES)), strict=True))
        plain, encrypted, trust = internet(directory, stack)
        store.start()
        stack.callback(store.stop)
        path = directory / "edge.yaml"
        path.write_text(yaml.safe_dump(config(f"http://127.0.0.1:{player.port}", admin, store.url, first, directory)))
        stack.enter_context(serving(path, admin))
        place = render_istio.MeshResources("istio-egress", {"istio": "egress"}, gateway, agent_identity=AGENT)
        ours = render_istio.envoy_filter(load.load(path), "istio-gateway", place)
        filtered = any(each["kind"] == "EnvoyFilter" and each["metadata"] == ours["metadata"] for each in manifests)
        authority = istiod_kit.MeshAuthority(directory)
        kept = [each for each in manifests if each["kind"] != "EnvoyFilter"]
        kept = [*kept, *([ours] if filtered else []), *around(first, admin, gateway, outbound)]
        kept = with_one_sidecar_of_the_agents(
            at_ports(kept, first, admin, gateway, others={80: plain.port, 443: encrypted.port})
        )
        ports = stack.enter_context(istiod_kit.istiod(kept, directory))
        stack.enter_context(sidecar(ports, directory, "llm", "llm-edge-agent", "llm-edge-agent"))
        bootstraps = {
            "egress": istiod_kit.bootstrap(
                ports, "router", "istio-egress", "istio-egress", {"istio": "egress"}, ip=PROXY
            ),
            **{
                name: istiod_kit.bootstrap(ports, "sidecar", name, name, {"app": name}, ip=ip, capture=True)
                for name, ip in SERVICES.items()
            },
        }
        envoys = {}
        for name, bootstrap in bootstraps.items():
            envoys[name] = RunningEnvoy(
                bootstrap, subdirectory(directory, name), log_level="warning", without=lacking()
            )
            envoys[name].start()
            stack.callback(envoys[name].stop)
        if filtered:
            gateways.until(lambda: envoys["egress"].stats(HEALTHY) == {HEALTHY: 2})
        log = directory / "agent.log"
        yield Mesh(player, plain, encrypted, trust, authority, gateway, outbound, log)


def config(provider: str, admin: int, store: str, first: int, directory: Path) -> dict[str, Any]:
    """istio/egress/edge.yaml with addresses of this machine, and a low limit."""
    found: dict[str, Any] = yaml.safe_load((ISTIO / "egress" / "edge.yaml").read_text())
    found["admin"] = {"port": admin}
    found["agent"] |= {"state_dir": str(directory / "state"), "shutdown_grace": "2s"}
    found["agent"]["tcp"] |= {"address": "127.0.0.1", "port": first, "hosts": ["127.0.0.2"]}
    found["limiter"]["url"] = store
    found["auth"]["pepper"] = gateways.PEPPER
    for name, each in found["providers"].items():
        each |= {"base_url": f"{provider}/v1", "api_key": f"sk-of-{name}"}
    found["callers"][1]["limits"] = {"tokens_per_minute": LIMIT}
    found["prices"] = [{"provider": name, "model": "*", "input": 1, "output": 1} for name in found["providers"]]
    return found


def internet(directory: Path, stack: contextlib.ExitStack) -> tuple[Replaying, Replaying, ssl.SSLContext]:
    """A server at port 80 and one at port 443, which stand for all hosts, and what trusts the second."""
    authority = istiod_kit.MeshAuthority(subdirectory(directory, "internet"))
    pair = authority.directory / "internet.pem"
    pair.write_bytes(b"".join(authority.issue(x509.DNSName("internet"))))
    front = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    front.load_cert_chain(pair)
    trust = ssl.create_default_context(cafile=str(authority.pem))
    trust.check_hostname = False
    plain, encrypted = Replaying(), Replaying(front)
    for server in (plain, encrypted):
        server.start()
        stack.callback(server.stop)
    return plain, encrypted, trust


def with_one_sidecar_of_the_agents(manifests: list[Manifest]) -> list[Manifest]:
    """istiod takes one Sidecar for a pod: that of the manifests, with the ports that stand in for iptables."""
    ours, added = (
        each for each in manifests if (each["kind"], each["metadata"]["name"]) == ("Sidecar", "llm-edge-agent")
    )
    ours["spec"] |= added["spec"]
    return [each for each in manifests if each is not added]


def around(first: int, admin: int, gateway: int, outbound: dict[str, int]) -> list[Manifest]:
    other = {
        "apiVersion": "networking.istio.io/v1",
        "kind": "ServiceEntry",
        "metadata": {"name": "other", "namespace": "chat"},
        "spec": {
            "hosts": [OTHER],
            "location": "MESH_EXTERNAL",
            "resolution": "STATIC",
            "ports": [
                {"number": 80, "name": "http", "protocol": "HTTP"},
                {"number": 443, "name": "tls", "protocol": "TLS"},
            ],
            "endpoints": [{"address": PROXY}],
        },
    }
    return [
        *around_a_pod("llm", "llm-edge-agent", first, admin),
        egress_service(),
        endpoints("istio-egress", "istio-egress", PROXY, [("https-llm", gateway, "HTTPS")]),
        other,
        *(captured(name, ip, outbound[name]) for name, ip in SERVICES.items()),
    ]


def captured(service: str, ip: str, port: int) -> Manifest:
    """In place of iptables: the listener for all outgoing connections, at an address of this machine."""
    protocol = "type.googleapis.com/envoy.extensions.filters.listener.proxy_protocol.v3.ProxyProtocol"
    moved = {
        "address": {"socket_address": {"address": ip, "port_value": port}},
        "listener_filters": [{"name": "envoy.filters.listener.proxy_protocol", "typed_config": {"@type": protocol}}],
    }
    at = {"virtualOutbound": ("MERGE", {"value": moved}), "virtualInbound": ("REMOVE", {})}
    patches = [
        {
            "applyTo": "LISTENER",
            "match": {"listener": {"name": name}},
            "patch": {"operation": operation, **value},
        }
        for name, (operation, value) in at.items()
    ]
    return {
        "apiVersion": "networking.istio.io/v1alpha3",
        "kind": "EnvoyFilter",
        "metadata": {"name": "of-these-tests", "namespace": service},
        "spec": {"configPatches": patches},
    }
