"""The EnvoyFilter of a gateway and of a sidecar, merged into a proxy as Istio merges, and run by an Envoy that has only
what Istio builds: what a caller and a provider then see. The agents are real ones, started by `serve`."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fault_player
import gateway as gateways
import httpx2 as httpx
import pytest
import yaml
from istio_kit import HOST, LISTENER, lacking, patched, proxy, routes_of
from mesh_calls import KEY, CallsThroughAMesh, Proxy, config, serving
from ports import free_port
from running_envoy import RunningEnvoy
from running_valkey import RunningValkey

from edge_extproc.config import load
from edge_extproc.envoy_config import istio as render_istio
from edge_extproc.exchange.check import IDENTITY_HEADERS

pytestmark = pytest.mark.envoy

ISTIO = Path(__file__).parents[2] / "istio"
MANIFESTS: dict[render_istio.Target, str] = {"istio-gateway": "gateway", "istio-sidecar": "sidecar"}
HEALTHY = "cluster.agent.membership_healthy"


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
        directory, admin = Path(short), free_port()
        store.start()
        text = config(target, f"http://127.0.0.1:{player.port}", admin, store.url)
        path = directory / "edge.yaml"
        path.write_text(text)
        envoy = None
        agent = contextlib.ExitStack()
        try:
            agent.enter_context(serving(path, admin))
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
            agent.close()
            store.stop()


class TestAProxyThatIsMergedHere(CallsThroughAMesh):
    """What the patches do, by the rules that Istio documents."""


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/metrics", "/config", "/healthz", "/"])
def test_a_proxy_without_the_envoyfilter_answers_503_whatever_it_is_asked(
    mesh: Proxy, path: str, tmp_path: Path
) -> None:
    unpatched = base(mesh.target)
    mesh.player.server.seen.clear()
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
    (found,) = [each for each in policy if each["metadata"]["name"] == "llm-edge-identity"]
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
