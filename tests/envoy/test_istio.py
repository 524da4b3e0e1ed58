"""What an operator of Istio takes from istio/: well-formed, made by this code, and taken by the real Envoy once it is
merged into a proxy as Istio says that it merges. Istio itself is not run."""

from __future__ import annotations

import re
import runpy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from config_kit import read
from istio_kit import lacking, patched, proxy, routes_of, waypoint_routes

from edge_extproc.config import load
from edge_extproc.config.schema import Config
from edge_extproc.envoy_config import istio as render_istio
from edge_extproc.envoy_config.bootstrap import render
from edge_extproc.envoy_config.validate import envoy_path, validate
from edge_extproc.errors import ConfigError
from edge_extproc.model.envoy_names import AGAIN, ONCE, ROUTE
from edge_extproc.proxy.capabilities import releases
from edge_extproc.proxy.envoy_versions import at_istio
from edge_extproc.server.authz import METHOD as AUTHZ

ROOT = Path(__file__).parents[2]
ISTIO = ROOT / "istio"
GENERATE = runpy.run_path(str(ROOT / "envoy" / "generate.py"))
MESHES = GENERATE["MESHES"]
VIRTUAL_SERVICES = ("gateway", "egress", "sidecar")
WITH_AGENTS = ("gateway", "sidecar")


def config_of(name: str) -> Config:
    path = ISTIO / name / "edge.yaml"
    return load.parse(path.read_text(), str(path), environ=GENERATE["SECRETS"])


def documents(name: str) -> list[dict[str, Any]]:
    return [each for path in sorted((ISTIO / name).glob("*.yaml")) for each in yaml.safe_load_all(path.read_text())]


def of_kind(kind: str, name: str) -> list[dict[str, Any]]:
    return [each for each in documents(name) if each.get("kind") == kind]


def virtual_service(name: str) -> dict[str, Any]:
    """The one whose routes are patched."""
    (found,) = [each for each in of_kind("VirtualService", name) if "llm" in [r["name"] for r in each["spec"]["http"]]]
    return found


OTHER = {"name": "other", "match": {"prefix": "/o"}, "route": {"cluster": "outbound|2||y"}}


def merged(name: str, istio: str | None = None) -> dict[str, Any]:
    target, mesh = MESHES[name]
    found = render_istio.envoy_filter(at_istio(config_of(name), istio), target, mesh)
    routes = waypoint_routes() if name == "waypoint" else routes_of(virtual_service(name))
    base = proxy([*routes, OTHER], render_istio.CONTEXT[target])
    return patched(base, found["spec"]["configPatches"], mesh.port)


# --- tests


@pytest.mark.parametrize("path", sorted(GENERATE["mesh_files"]()), ids=lambda path: "/".join(path.parts[-2:]))
def test_a_file_is_what_the_code_renders(path: Path) -> None:
    assert GENERATE["mesh_files"]()[path] == path.read_text(), "say `make examples`"


@pytest.mark.envoy
@pytest.mark.parametrize("istio", releases("istio"))
@pytest.mark.parametrize("name", MESHES)
def test_an_envoy_that_has_only_what_istio_builds_takes_what_istio_would_make_of_it(name: str, istio: str) -> None:
    validate(merged(name, istio), envoy_path(), without=lacking())


@pytest.mark.parametrize("name", MESHES)
def test_the_patches_are_the_same_for_every_release(name: str) -> None:
    """So that one of them stands for all where they are run (test_istio_end_to_end.py)."""
    first, *others = (merged(name, istio) for istio in releases("istio"))

    assert [first] * len(others) == others


@pytest.mark.envoy
@pytest.mark.parametrize("version", releases("envoy"))
def test_such_an_envoy_refuses_what_is_rendered_for_an_envoy_of_ones_own(version: str) -> None:
    """So the list of what Istio lacks is in force."""
    text = "agent: {workers: 1}\nproviders: {a: {kind: openai, api_key: x}, b: {kind: openai, api_key: x}}\n"
    text += "models: {m: [{provider: a}, {provider: b}]}\n"
    bootstrap = render(read(text), version)
    validate(bootstrap, envoy_path())
    if version == "1.36":
        # It has aggregate clusters, and no guard.
        validate(bootstrap, envoy_path(), without=lacking())
        return
    with pytest.raises(ConfigError, match=r"metadata_matcher|priority_group|composite"):
        validate(bootstrap, envoy_path(), without=lacking())


@pytest.mark.parametrize("name", MESHES)
def test_the_named_routes_and_no_other_ask_the_cluster_that_the_agent_names(name: str) -> None:
    found = merged(name)["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]
    *ours, other = found["route_config"]["virtual_hosts"][0]["routes"]
    if name == "waypoint":
        default = ours.pop()
        assert "default" == default["name"]

    assert 3 == len(ours)
    assert ["x-edge-cluster"] * 3 == [each["route"]["cluster_header"] for each in ours]
    assert not any("direct_response" in each for each in ours)
    once = next(each for each in ours if each["name"] == "llm-once")
    assert "connect-failure,refused-stream" == once["route"]["retry_policy"]["retry_on"]
    assert "outbound|2||y" == other["route"]["cluster"]
    assert [render_istio.ROUTER] == [each["name"] for each in found["http_filters"]][-1:]
    assert "upstream_http_filters" in found["http_filters"][-1]["typed_config"]
    assert "early_header_mutation_extensions" in found


@pytest.mark.parametrize("name", MESHES)
def test_every_document_says_what_it_is_and_where(name: str) -> None:
    for each in documents(name):
        if "kind" in each:
            assert {"apiVersion", "kind", "metadata"} <= each.keys()
            assert each["kind"] == "Namespace" or each["metadata"]["namespace"]


def test_a_proxy_shows_the_meshs_certificate_and_wants_that_of_the_agents() -> None:
    _, mesh = MESHES["gateway"]
    agent = next(c for c in merged("gateway")["static_resources"]["clusters"] if c["name"] == "agent")
    (name,) = agent["transport_socket"]["typed_config"]["common_tls_context"]["combined_validation_context"][
        "default_validation_context"
    ]["match_typed_subject_alt_names"]
    (account,) = of_kind("ServiceAccount", "gateway")
    where = account["metadata"]

    assert {"exact": f"spiffe://cluster.local/ns/{where['namespace']}/sa/{where['name']}"} == name["matcher"]
    assert mesh.agent_identity == name["matcher"]["exact"]


@pytest.mark.parametrize("name", VIRTUAL_SERVICES)
def test_the_manners_of_trying_again_are_routes_of_their_own_before_the_plain_one(name: str) -> None:
    service = virtual_service(name)
    routes = service["spec"]["http"]
    asked = [(each["name"], each.get("match", [{}])[0].get("headers", {})) for each in routes]

    assert [
        ("llm-once", {ROUTE: {"exact": ONCE}}),
        ("llm-again", {ROUTE: {"exact": AGAIN}}),
        ("llm", {}),
    ] == asked


@pytest.mark.parametrize("name", VIRTUAL_SERVICES)
def test_no_route_of_a_manifest_leads_anywhere_without_the_envoyfilter(name: str) -> None:
    service = virtual_service(name)

    assert [503] * 3 == [each["directResponse"]["status"] for each in service["spec"]["http"]]
    assert not any("route" in each for each in service["spec"]["http"])


def test_a_waypoints_service_has_no_endpoints_of_its_own_so_that_it_answers_503_without_the_envoyfilter() -> None:
    (service,), (gateway,) = of_kind("Service", "waypoint"), of_kind("Gateway", "waypoint")
    (found,) = of_kind("EnvoyFilter", "waypoint")
    _, mesh = MESHES["waypoint"]
    where = service["metadata"]

    assert "selector" not in service["spec"]
    assert gateway["metadata"]["name"] == where["labels"]["istio.io/use-waypoint"] == mesh.waypoint
    assert f"{where['name']}.{where['namespace']}.svc.cluster.local" == mesh.service
    assert [mesh.port] == [each["port"] for each in service["spec"]["ports"]]
    assert [mesh.waypoint] == [each["name"] for each in found["spec"]["targetRefs"]]
    assert not of_kind("VirtualService", "waypoint")
    # Its agents are those of the gateway.
    assert config_of("gateway") == config_of("waypoint")


def containers(name: str) -> Iterator[dict[str, Any]]:
    for deployment in of_kind("Deployment", name):
        for each in deployment["spec"]["template"]["spec"]["containers"]:
            if "edge-extproc" in each["image"]:
                yield each


def test_three_agents_are_found_one_by_one_on_the_ports_of_their_workers() -> None:
    config = config_of("gateway")
    tcp = config.agent.tcp
    (service, admin), (deployment,) = of_kind("Service", "gateway"), of_kind("Deployment", "gateway")
    ports = [tcp.port_of(n) for n in range(config.agent.workers)]
    meta = service["metadata"]

    assert "None" == service["spec"]["clusterIP"]
    assert (f"{meta['name']}.{meta['namespace']}.svc.cluster.local",) == tcp.hosts
    assert ports == [each["port"] for each in service["spec"]["ports"]]
    assert [config.admin.port] == [each["port"] for each in admin["spec"]["ports"]]
    assert [*ports, config.admin.port] == [
        each["containerPort"] for container in containers("gateway") for each in container["ports"]
    ]
    assert (3, "auto") == (deployment["spec"]["replicas"], config.limiter.replicas)
    assert service["spec"]["selector"].items() <= deployment["spec"]["template"]["metadata"]["labels"].items()
    policy = of_kind("NetworkPolicy", "gateway")[0]["spec"]["ingress"][0]
    assert ports == [each["port"] for each in policy["ports"]]


def test_a_pod_that_goes_has_time_for_its_open_streams() -> None:
    (deployment,) = of_kind("Deployment", "gateway")
    pod = deployment["spec"]["template"]["spec"]
    (agent,) = containers("gateway")
    before = int(agent["lifecycle"]["preStop"]["exec"]["command"][-1])

    assert pod["terminationGracePeriodSeconds"] > before + config_of("gateway").agent.shutdown_grace.total_seconds() + 2


@pytest.mark.parametrize("name", WITH_AGENTS)
def test_an_agent_may_nothing_that_it_does_not_need(name: str) -> None:
    (agent,) = containers(name)
    context = agent["securityContext"]

    assert (False, True) == (context["allowPrivilegeEscalation"], context["readOnlyRootFilesystem"])
    assert ["ALL"] == context["capabilities"]["drop"]
    assert {"readinessProbe", "startupProbe", "resources"} <= agent.keys()


def test_a_sidecar_opens_sockets_that_the_application_cannot() -> None:
    config = config_of("sidecar")
    (agent,) = containers("sidecar")
    (deployment,) = of_kind("Deployment", "sidecar")
    template = deployment["spec"]["template"]
    mount = yaml.safe_load(template["metadata"]["annotations"]["sidecar.istio.io/userVolumeMount"])
    (application,) = [c for c in template["spec"]["containers"] if c is not agent and c["name"] != "llm-edge-agent"]

    assert [str(config.agent.socket_dir)] == [each["mountPath"] for each in mount]
    # The sockets' group is the sidecar's; the agent's user is not, or the mesh would not see its traffic.
    assert ("group", 1337) == (config.agent.socket_access, template["spec"]["securityContext"]["fsGroup"])
    assert 1337 not in (agent["securityContext"]["runAsUser"], application["securityContext"]["runAsUser"])
    assert "volumeMounts" not in application


def test_no_file_holds_a_secret() -> None:
    for path in ISTIO.rglob("*.yaml"):
        assert not any(secret in path.read_text() for secret in GENERATE["SECRETS"].values())
        assert not re.search(r"kind: Secret\b", path.read_text())


def test_a_gateway_needs_agents_that_it_can_reach() -> None:
    target, mesh = MESHES["gateway"]
    with pytest.raises(ConfigError, match="name of their Service"):
        render_istio.render(config_of("sidecar"), target, mesh)


def test_the_admin_port_is_for_monitoring_and_its_metrics_alone() -> None:
    port = [str(config_of("gateway").admin.port)]
    (allowed,) = of_kind("AuthorizationPolicy", "gateway")
    (admin,) = [rule for rule in allowed["spec"]["rules"] if rule["to"][0]["operation"]["ports"] == port]
    (peers,) = of_kind("PeerAuthentication", "gateway")
    (denied,) = of_kind("AuthorizationPolicy", "sidecar")
    strangers, other_paths = denied["spec"]["rules"]

    assert "ALLOW" == allowed["spec"]["action"]
    assert {"namespaces": ["monitoring"]} == admin["from"][0]["source"]
    assert ["/metrics"] == admin["to"][0]["operation"]["paths"]
    assert {"mtls": {"mode": "STRICT"}}.items() <= peers["spec"].items()
    assert "portLevelMtls" not in peers["spec"]
    assert "DENY" == denied["spec"]["action"]
    assert {"notNamespaces": ["monitoring"]} == strangers["from"][0]["source"]
    assert {"ports": port, "notPaths": ["/metrics"]} == other_paths["to"][0]["operation"]


def test_what_istio_calls_its_gateway_is_what_every_file_calls_it() -> None:
    """Of the chart's release `istio-ingress`: label istio: ingress, service account istio-ingress."""
    _, mesh = MESHES["gateway"]
    (door,) = of_kind("Gateway", "gateway")
    (network,) = of_kind("NetworkPolicy", "gateway")
    (allowed,) = of_kind("AuthorizationPolicy", "gateway")
    (values,) = [each for each in documents("gateway") if "service" in each]
    (asking,) = [pod["podSelector"] for pod in network["spec"]["ingress"][0]["from"]]

    assert {"istio": "ingress"} == mesh.workload == door["spec"]["selector"] == asking["matchLabels"]
    assert ["cluster.local/ns/istio-ingress/sa/istio-ingress"] == (
        allowed["spec"]["rules"][0]["from"][0]["source"]["principals"]
    )
    assert mesh.port == door["spec"]["servers"][0]["port"]["number"]
    assert mesh.port in [each["targetPort"] for each in values["service"]["ports"]]


def test_the_egress_gateway_and_its_providers_have_the_same_names_in_every_file() -> None:
    """Of the chart's release `istio-egress`: label istio: egress, service account and Service istio-egress."""
    _, mesh = MESHES["egress"]
    (door,), (network,) = of_kind("Gateway", "egress"), of_kind("NetworkPolicy", "egress")
    (entry,), (rule,) = of_kind("ServiceEntry", "egress"), of_kind("DestinationRule", "egress")
    capture, served = of_kind("VirtualService", "egress")
    (values,) = [each for each in documents("egress") if "service" in each]
    (asking,) = [pod["podSelector"] for pod in network["spec"]["ingress"][0]["from"]]
    (to,) = capture["spec"]["http"][0]["route"]
    host = f"istio-egress.{mesh.namespace}.svc.cluster.local"
    principals = [each["spec"]["rules"][0]["from"][0]["source"] for each in of_kind("AuthorizationPolicy", "egress")]

    assert {"istio": "egress"} == mesh.workload == door["spec"]["selector"] == asking["matchLabels"]
    assert {"principals": [f"cluster.local/ns/{mesh.namespace}/sa/istio-egress"]} in principals
    assert (host, host) == (rule["spec"]["host"], to["destination"]["host"])
    assert mesh.port == door["spec"]["servers"][0]["port"]["number"] == to["destination"]["port"]["number"]
    assert mesh.port in [each["targetPort"] for each in values["service"]["ports"]]
    assert entry["spec"]["hosts"] == capture["spec"]["hosts"] == served["spec"]["hosts"]
    assert ["mesh"] == capture["spec"]["gateways"]
    assert "endpoints" not in entry["spec"]
    # Its agents are those of the gateway.
    assert config_of("gateway").agent == config_of("egress").agent


def test_the_sidecar_answers_for_a_name_that_no_dns_has() -> None:
    (deployment,) = of_kind("Deployment", "sidecar")
    said = yaml.safe_load(deployment["spec"]["template"]["metadata"]["annotations"]["proxy.istio.io/config"])

    assert {"ISTIO_META_DNS_CAPTURE": "true"} == said["proxyMetadata"]


@pytest.mark.parametrize("name", [*MESHES, "authz"])
def test_every_envoyfilter_has_a_priority(name: str) -> None:
    found = of_kind("EnvoyFilter", name)

    assert found
    assert all(each["spec"]["priority"] for each in found)


def test_a_rendering_for_istio_wants_to_know_which() -> None:
    target, mesh = MESHES["gateway"]
    config = config_of("gateway")
    unknown = config.model_copy(update={"envoy": config.envoy.model_copy(update={"istio": None})})

    with pytest.raises(ConfigError, match=r"envoy\.istio is missing.* have 1\.29, 1\.30"):
        render_istio.render(unknown, target, mesh)


def test_the_mesh_asks_the_agents_who_calls_and_may_ask_nothing_else() -> None:
    service, allowed, _, asking, *_ = documents("authz")[1:]
    (provider,) = documents("authz")[0]["extensionProviders"]
    asked = provider["envoyExtAuthzGrpc"]
    where = service["metadata"]
    config = config_of("gateway")

    assert provider["name"] == asking["spec"]["provider"]["name"]
    assert f"{where['name']}.{where['namespace']}.svc.cluster.local" == asked["service"]
    assert [asked["port"]] == [each["port"] for each in service["spec"]["ports"]] == [config.agent.tcp.port_of(0)]
    assert not asked["failOpen"]
    (rule,) = allowed["spec"]["rules"]
    assert [AUTHZ] == rule["to"][0]["operation"]["paths"]
    (agents,) = of_kind("Deployment", "gateway")
    assert service["spec"]["selector"].items() <= agents["spec"]["template"]["metadata"]["labels"].items()
