"""The manifests of istio/ through Istio's own code, and Envoys that istiod configures by them: a gateway, a sidecar and
a waypoint. The agents have a sidecar of their own that istiod configures too, so policies and certificates are those
of the mesh."""

from __future__ import annotations

import contextlib
import http.client
import json
import ssl
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fault_player
import gateway as gateways
import httpx2 as httpx
import istiod_kit
import pytest
from istio_kit import HOST, lacking
from istiod_kit import Manifest
from mesh_calls import KEY, CallsThroughAMesh, Proxy, config, serving
from mesh_cluster import (
    AGENTS,
    HEALTHY,
    PROXY,
    around,
    around_a_pod,
    around_the_manifests,
    at_ports,
    shipped,
    sidecar,
    subdirectory,
    ztunnel,
)
from ports import free_port, free_ports
from replaying import Replaying
from running_envoy import RunningEnvoy
from running_valkey import RunningValkey

from edge_extproc.config import load
from edge_extproc.envoy_config import istio as render_istio

pytestmark = pytest.mark.istio

DIRECTORIES: dict[render_istio.Target, tuple[str, ...]] = {
    "istio-gateway": ("gateway",),
    "istio-sidecar": ("sidecar",),
    "istio-waypoint": ("gateway", "waypoint"),
}
AGENT = "spiffe://cluster.local/ns/llm/sa/llm-edge-agent"
SERVICE = "llm.llm.svc.cluster.local"


# --- admission


EVERYTHING = ("gateway", "sidecar", "waypoint", "egress", "authz")


def test_istiod_admits_each_manifest_and_drops_no_field(tmp_path: Path) -> None:
    found = istiod_kit.run("validate", shipped(*EVERYTHING), tmp_path)

    assert [] == [(each["kind"], each["name"], each["errors"]) for each in found if each["errors"]]
    warnings = {warning for each in found for warning in each["warnings"]}
    assert all(warning.startswith("EnvoyFilter exposes internal implementation details") for warning in warnings)
    assert len(found) > 12


def test_a_field_that_istiod_does_not_know_is_an_error(tmp_path: Path) -> None:
    """So the test before sees such fields, also within an extension."""
    manifests = shipped("gateway")
    (found,) = [each for each in manifests if each["kind"] == "EnvoyFilter"]
    patch = next(each for each in found["spec"]["configPatches"] if each["applyTo"] == "NETWORK_FILTER")
    patch["patch"]["value"]["typed_config"]["no_such_field"] = True

    (refused,) = [each for each in istiod_kit.run("validate", manifests, tmp_path) if each["errors"]]

    assert "no_such_field" in refused["errors"][0]


def test_istioctl_analyze_has_nothing_to_say_but_that_it_is_an_envoyfilter(tmp_path: Path) -> None:
    gateway = around("istio-gateway", istiod_kit.MeshAuthority(tmp_path), 8443)
    manifests = [*shipped(*EVERYTHING), *around_the_manifests(), *gateway]
    found = istiod_kit.run("analyze", manifests, tmp_path)

    # The Service of the gateway's chart has a port with a name that is only for information.
    serious = [each for each in found["messages"] if not each.startswith("Info ")]
    messages = [each for each in serious if "[IST0133]" not in each or "EnvoyFilter exposes" not in each]
    assert [] == messages
    assert {"envoyfilter.EnvoyPatchAnalyzer", "applicationUID.Analyzer"} <= set(found["analyzers"])


# --- end to end


@dataclass(frozen=True, slots=True)
class IstioProxy(Proxy):
    patches: list[Manifest] | None = None
    """As istiod read them."""
    envoy: RunningEnvoy | None = None


@pytest.fixture(scope="module", params=DIRECTORIES)
def mesh(request: pytest.FixtureRequest) -> Iterator[IstioProxy]:
    with running(request.param, filtered=True) as found:
        yield found


class TestAProxyOfIstiod(CallsThroughAMesh):
    """The same calls as of a proxy that is merged by these tests."""

    def test_what_istiod_read_of_each_patch_is_in_the_proxys_configuration(self, mesh: IstioProxy) -> None:
        assert mesh.envoy is not None
        assert mesh.patches
        dump = json.loads(mesh.envoy.admin("/config_dump?include_eds"))

        missing = [
            (each["applyTo"], each["value"].get("name"))
            for each in mesh.patches
            if not any(contains(part, each["value"]) for part in parts(dump))
        ]

        assert [] == missing


@pytest.mark.parametrize("target", DIRECTORIES)
def test_without_the_envoyfilter_every_path_is_503(target: render_istio.Target) -> None:
    with running(target, filtered=False) as mesh, mesh.client(("authorization", f"Bearer {KEY}")) as http:
        paths = ["/v1/chat/completions", "/metrics", "/config", "/healthz", "/"]
        found = [
            http.get(mesh.url + path, headers={"x-edge-route": route}, extensions=mesh.extensions).status_code
            for path in paths
            for route in ("", "once", "again")
        ]
        seen = list(mesh.player.server.seen)

    assert [503] * len(found) == found
    assert [] == seen


def parts(value: Any) -> Iterator[Any]:
    """All messages within a configuration."""
    yield value
    for each in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from parts(each)


def contains(whole: Any, part: Any) -> bool:
    """Whether all of a message is in another: fields, and elements of lists in any place."""
    if isinstance(part, dict) and isinstance(whole, dict):
        return all(key in whole and contains(whole[key], value) for key, value in part.items())
    if isinstance(part, list) and isinstance(whole, list):
        return all(any(contains(one, each) for one in whole) for each in part)
    return bool(whole == part)


# --- the admin port


ADMITTED = [("monitoring", "/metrics", 200), ("monitoring", "/config", 403), ("istio-ingress", "/metrics", 403)]


@pytest.mark.parametrize(("namespace", "path", "status"), ADMITTED)
def test_the_agents_sidecar_admits_monitoring_to_the_metrics_and_nobody_else(
    agents: Pod, namespace: str, path: str, status: int
) -> None:
    assert status == agents.get(path, namespace)


def test_the_agents_sidecar_admits_nobody_without_a_certificate(agents: Pod) -> None:
    with httpx.Client() as http, pytest.raises(httpx.TransportError):
        http.get(f"http://{AGENTS}:{agents.port}/metrics")


@pytest.mark.parametrize(("namespace", "path", "status"), ADMITTED)
def test_the_sidecar_of_an_application_with_an_agent_admits_the_same(
    application: Pod, namespace: str, path: str, status: int
) -> None:
    assert status == application.get(path, namespace)


def test_the_sidecar_of_an_application_with_an_agent_refuses_who_has_no_certificate(application: Pod) -> None:
    with httpx.Client() as http:
        assert 403 == http.get(f"http://{AGENTS}:{application.port}/metrics").status_code


@dataclass(frozen=True, slots=True)
class Pod:
    """A sidecar that istiod configures, at the address of AGENTS, and a server behind it."""

    port: int
    authority: istiod_kit.MeshAuthority
    server: Replaying

    def get(self, path: str, namespace: str, headers: dict[str, str] | None = None) -> int:
        """The status for a workload of this namespace."""
        context = ssl.create_default_context(cafile=str(self.authority.pem))
        # The identity of the server is a SPIFFE id.
        context.check_hostname = False
        context.load_cert_chain(self.authority.of_workload(namespace, "prometheus"))
        # By this, istiod tells the mesh's own connections from other TLS, where plain text is allowed too.
        context.set_alpn_protocols(["istio-http/1.1", "http/1.1"])
        with contextlib.closing(http.client.HTTPSConnection(AGENTS, self.port, context=context, timeout=30)) as mesh:
            mesh.request("GET", path, headers=headers or {})
            return mesh.getresponse().status


@contextlib.contextmanager
def pod(directory: str, namespace: str, account: str, app: str) -> Iterator[Pod]:
    server = Replaying()
    server.start()
    try:
        with tempfile.TemporaryDirectory(prefix="edge-") as short:
            authority, first = istiod_kit.MeshAuthority(Path(short)), free_ports(2)
            manifests = [*shipped(directory), *around_a_pod(namespace, app, first, server.port)]
            with istiod_kit.istiod(at_ports(manifests, first, server.port), Path(short)) as ports:
                with sidecar(ports, Path(short), namespace, account, app):
                    yield Pod(server.port, authority, server)
    finally:
        server.stop()


@pytest.fixture(scope="module")
def agents() -> Iterator[Pod]:
    with pod("gateway", "llm", "llm-edge-agent", "llm-edge-agent") as found:
        yield found


@pytest.fixture(scope="module")
def application() -> Iterator[Pod]:
    with pod("sidecar", "search", "default", "search") as found:
        yield found


# --- a proxy with agents and a provider


@contextlib.contextmanager
def running(target: render_istio.Target, *, filtered: bool) -> Iterator[IstioProxy]:
    """A proxy that istiod configures, agents, and a provider."""
    store = RunningValkey()
    with (
        fault_player.fault_player() as player,
        tempfile.TemporaryDirectory(prefix="edge-") as short,
        contextlib.ExitStack() as stack,
    ):
        directory, admin, first = Path(short), free_port(), free_ports(3)
        port = first + 2
        authority = istiod_kit.MeshAuthority(directory)
        store.start()
        stack.callback(store.stop)
        path = directory / "edge.yaml"
        provider = f"http://127.0.0.1:{player.port}"
        path.write_text(config(target, provider, admin, store.url, port=first, host=AGENTS))
        stack.enter_context(serving(path, admin))
        identity = None if target == "istio-sidecar" else AGENT
        place = {
            "istio-gateway": render_istio.MeshResources("istio-ingress", {"istio": "ingress"}, port),
            "istio-sidecar": render_istio.MeshResources("search", {"app": "search"}, port),
            "istio-waypoint": render_istio.MeshResources("llm", {}, 80),
        }[target]
        place = render_istio.MeshResources(
            place.namespace, place.workload, place.port, agent_identity=identity, service=SERVICE
        )
        ours = render_istio.envoy_filter(load.load(path), target, place)
        manifests = [each for each in shipped(*DIRECTORIES[target]) if each["kind"] != "EnvoyFilter"]
        manifests += [
            *([ours] if filtered else []),
            *around(target, authority, port),
            *around_a_pod("llm", "llm-edge-agent", first, admin),
        ]
        manifests = at_ports(manifests, first, admin, port)
        (admitted,) = istiod_kit.run("validate", [ours], directory)
        assert [] == admitted["errors"]
        ports = stack.enter_context(istiod_kit.istiod(manifests, directory))
        if target != "istio-sidecar":
            stack.enter_context(sidecar(ports, directory, "llm", "llm-edge-agent", "llm-edge-agent"))
        kind, namespace, account, labels = {
            "istio-gateway": ("router", "istio-ingress", "istio-ingress", {"istio": "ingress"}),
            "istio-sidecar": ("sidecar", "search", "default", {"app": "search"}),
            "istio-waypoint": (
                "waypoint",
                "llm",
                "llm-edge",
                {
                    "gateway.networking.k8s.io/gateway-name": "llm-edge",
                    "gateway.istio.io/managed": "istio.io-mesh-controller",
                },
            ),
        }[target]
        bootstrap = istiod_kit.bootstrap(ports, kind, namespace, account, labels, ip=PROXY)
        envoy = RunningEnvoy(bootstrap, subdirectory(directory, kind), log_level="warning", without=lacking())
        envoy.start()
        stack.callback(envoy.stop)
        if filtered:
            gateways.until(lambda: envoy.stats(HEALTHY) == {HEALTHY: 2})
        url, host, trust = f"http://{PROXY}:{port}", f"llm.internal:{port}", None
        if target == "istio-gateway":
            url, host, trust = f"https://{PROXY}:{port}", HOST, ssl.create_default_context(cafile=str(authority.pem))
        if target == "istio-waypoint":
            tunnel = stack.enter_context(ztunnel(ports, directory, port))
            url, host = f"http://127.0.0.1:{tunnel.port('tunnel')}", SERVICE
        yield IstioProxy(url, admin, player, target, host, trust, admitted["patches"], envoy)
