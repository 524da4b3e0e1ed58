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

from edge_extproc.config import load, render_istio
from edge_extproc.config.names import AGAIN, ONCE, ROUTE
from edge_extproc.config.schema import Config
from edge_extproc.config.validate import envoy_path, validate
from edge_extproc.errors import ConfigError
from edge_extproc.server.authz import METHOD as AUTHZ

ROOT = Path(__file__).parents[2]
ISTIO = ROOT / "istio"
GENERATE = runpy.run_path(str(ROOT / "envoy" / "generate.py"))
MESHES = GENERATE["MESHES"]


def config_of(name: str) -> Config:
    path = ISTIO / name / "edge.yaml"
    return load.parse(path.read_text(), str(path), environ=GENERATE["SECRETS"])


def documents(name: str) -> list[dict[str, Any]]:
    return [each for path in sorted((ISTIO / name).glob("*.yaml")) for each in yaml.safe_load_all(path.read_text())]


def of_kind(kind: str, name: str) -> list[dict[str, Any]]:
    return [each for each in documents(name) if each.get("kind") == kind]


# --- a proxy as Istio configures it, and Istio's patches


def proxy(port: int) -> dict[str, Any]:
    """The parts of a gateway's configuration that are patched."""
    types = "type.googleapis.com/envoy.extensions.filters"
    manager = {
        "@type": f"{types}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "outbound",
        "http_filters": [{"name": render_istio.ROUTER, "typed_config": {"@type": f"{types}.http.router.v3.Router"}}],
        "route_config": {
            "validate_clusters": False,
            "virtual_hosts": [
                {
                    "name": "llm.example.com",
                    "domains": ["llm.example.com"],
                    "routes": [
                        {
                            "name": "llm",
                            "match": {"prefix": "/"},
                            "route": {"cluster": "outbound|1||x", "timeout": "0s"},
                        },
                        *(
                            {
                                "name": f"llm-{manner}",
                                "match": {"prefix": "/", "headers": [{"name": "x", "string_match": {"exact": manner}}]},
                                "route": {"cluster": "outbound|1||x"},
                            }
                            for manner in (ONCE, AGAIN)
                        ),
                        {"name": "other", "match": {"prefix": "/o"}, "route": {"cluster": "outbound|2||y"}},
                    ],
                }
            ],
        },
    }
    listener = {
        "name": f"0.0.0.0_{port}",
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
        "filter_chains": [{"filters": [{"name": render_istio.MANAGER, "typed_config": manager}]}],
    }
    sds = {"name": "sds-grpc", "load_assignment": {"cluster_name": "sds-grpc"}, "connect_timeout": "1s"}
    return {
        "node": {"id": "router~10.0.0.1~gateway.istio-ingress~istio-ingress.svc.cluster.local", "cluster": "gateway"},
        # As in Istio's own bootstrap.
        "layered_runtime": {
            "layers": [{"name": "global", "static_layer": {"re2.max_program_size.error_level": "32768"}}]
        },
        "static_resources": {"listeners": [listener], "clusters": [sds]},
    }


def merge(base: Any, over: Any) -> Any:
    """As protobuf merges messages: fields one by one, lists one behind the other, and of a oneof the later member."""
    if isinstance(base, dict) and isinstance(over, dict):
        if "inline_cluster_specifier_plugin" in over:
            base = {key: value for key, value in base.items() if key != "cluster"}
        return {**base, **{key: merge(base[key], value) if key in base else value for key, value in over.items()}}
    if isinstance(base, list) and isinstance(over, list):
        return [*base, *over]
    return over


def patched(bootstrap: dict[str, Any], patches: list[dict[str, Any]], port: int) -> dict[str, Any]:
    static = bootstrap["static_resources"]
    (listener,) = static["listeners"]
    network = listener["filter_chains"][0]["filters"][0]
    for each in patches:
        value, match = each["patch"]["value"], each["match"]
        assert port == match.get("listener", {}).get("portNumber", port)
        manager = network["typed_config"]
        (host,) = manager["route_config"]["virtual_hosts"]
        match each["applyTo"], each["patch"]["operation"]:
            case "CLUSTER", "ADD":
                static["clusters"].append(value)
            case "LISTENER", "MERGE":
                listener.update(merge(listener, value))
            case "NETWORK_FILTER", "MERGE":
                network.update(merge(network, value))
            case "HTTP_FILTER", "INSERT_BEFORE":
                manager["http_filters"].insert(-1, value)
            case "HTTP_FILTER", "MERGE":
                manager["http_filters"][-1] = merge(manager["http_filters"][-1], value)
            case "VIRTUAL_HOST", "MERGE":
                host.update(merge(host, value))
            case "HTTP_ROUTE", "MERGE":
                name = match["routeConfiguration"]["vhost"]["route"]["name"]
                host["routes"] = [merge(r, value) if r["name"] == name else r for r in host["routes"]]
            case other:
                raise AssertionError(other)
    return bootstrap


def merged(name: str) -> dict[str, Any]:
    target, mesh = MESHES[name]
    found = render_istio.envoy_filter(config_of(name), target, mesh)
    return patched(proxy(mesh.port), found["spec"]["configPatches"], mesh.port)


# --- tests


@pytest.mark.parametrize("path", sorted(GENERATE["mesh_files"]()), ids=lambda path: "/".join(path.parts[-2:]))
def test_a_file_is_what_the_code_renders(path: Path) -> None:
    assert GENERATE["mesh_files"]()[path] == path.read_text(), "say `make examples`"


@pytest.mark.envoy
@pytest.mark.parametrize("name", MESHES)
def test_envoy_takes_what_istio_would_make_of_it(name: str) -> None:
    validate(merged(name), envoy_path())


@pytest.mark.parametrize("name", MESHES)
def test_the_named_route_and_no_other_asks_providers_in_the_agents_order(name: str) -> None:
    found = merged(name)["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]
    *ours, other = found["route_config"]["virtual_hosts"][0]["routes"]

    assert 3 == len(ours)
    assert all("inline_cluster_specifier_plugin" in each["route"] for each in ours)
    assert all("cluster" not in each["route"] for each in ours)
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


@pytest.mark.parametrize("name", MESHES)
def test_the_manners_of_trying_again_are_routes_of_their_own_before_the_plain_one(name: str) -> None:
    (service,) = of_kind("VirtualService", name)
    routes = service["spec"]["http"]
    asked = [(each["name"], each.get("match", [{}])[0].get("headers", {})) for each in routes]

    assert [
        ("llm-once", {ROUTE: {"exact": ONCE}}),
        ("llm-again", {ROUTE: {"exact": AGAIN}}),
        ("llm", {}),
    ] == asked
    assert all({"attempts": 0} == each["retries"] for each in routes)


def containers(name: str) -> Iterator[dict[str, Any]]:
    for deployment in of_kind("Deployment", name):
        for each in deployment["spec"]["template"]["spec"]["containers"]:
            if "edge-extproc" in each["image"]:
                yield each


def test_three_agents_are_found_one_by_one_on_the_ports_of_their_workers() -> None:
    config = config_of("gateway")
    tcp = config.agent.tcp
    (service,), (deployment,) = of_kind("Service", "gateway"), of_kind("Deployment", "gateway")
    ports = [tcp.port_of(n) for n in range(config.agent.workers)]
    meta = service["metadata"]

    assert "None" == service["spec"]["clusterIP"]
    assert (f"{meta['name']}.{meta['namespace']}.svc.cluster.local",) == tcp.hosts
    assert [*ports, config.admin.port] == [each["port"] for each in service["spec"]["ports"]]
    assert [*ports, config.admin.port] == [
        each["containerPort"] for container in containers("gateway") for each in container["ports"]
    ]
    assert 3 == deployment["spec"]["replicas"] == config.limiter.replicas
    assert service["spec"]["selector"].items() <= deployment["spec"]["template"]["metadata"]["labels"].items()
    policy = of_kind("NetworkPolicy", "gateway")[0]["spec"]["ingress"][0]
    assert ports == [each["port"] for each in policy["ports"]]


def test_a_pod_that_goes_has_time_for_its_open_streams() -> None:
    (deployment,) = of_kind("Deployment", "gateway")
    pod = deployment["spec"]["template"]["spec"]
    (agent,) = containers("gateway")
    before = int(agent["lifecycle"]["preStop"]["exec"]["command"][-1])

    assert pod["terminationGracePeriodSeconds"] > before + config_of("gateway").agent.shutdown_grace.total_seconds() + 2


@pytest.mark.parametrize("name", MESHES)
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
    assert 1337 == agent["securityContext"]["runAsUser"] != application["securityContext"]["runAsUser"]
    assert "volumeMounts" not in application


def test_no_file_holds_a_secret() -> None:
    for path in ISTIO.rglob("*.yaml"):
        assert not any(secret in path.read_text() for secret in GENERATE["SECRETS"].values())
        assert not re.search(r"kind: Secret\b", path.read_text())


def test_a_gateway_needs_agents_that_it_can_reach() -> None:
    target, mesh = MESHES["gateway"]
    with pytest.raises(ConfigError, match="name of their Service"):
        render_istio.render(config_of("sidecar"), target, mesh)


def test_the_mesh_asks_the_agents_who_calls_and_may_ask_nothing_else() -> None:
    service, allowed, _, asking = documents("authz")[1:]
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
