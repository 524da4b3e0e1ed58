"""What stands in for a cluster around the manifests of istio/: addresses of this machine for pods, what Kubernetes and
Istio's controllers add, and the proxies of other pods."""

from __future__ import annotations

import base64
import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import istiod_kit
import yaml
from cryptography import x509
from istio_kit import HOST, lacking
from istiod_kit import Manifest
from running_envoy import RunningEnvoy

from edge_extproc.envoy_config import istio as render_istio

ISTIO = Path(__file__).parents[1] / "istio"
# Addresses of pods.
PROXY, AGENTS = "127.0.0.1", "127.0.0.2"


def shipped(*directories: str) -> list[Manifest]:
    paths = [path for directory in directories for path in sorted((ISTIO / directory).glob("*.yaml"))]
    found = [each for path in paths for each in yaml.safe_load_all(path.read_text())]
    return [each for each in found if each and "kind" in each]


HEALTHY = "cluster.agent.membership_healthy"


def subdirectory(directory: Path, name: str) -> Path:
    found = directory / name
    found.mkdir()
    return found


@contextlib.contextmanager
def sidecar(ports: Any, directory: Path, namespace: str, account: str, app: str) -> Iterator[None]:
    bootstrap = istiod_kit.bootstrap(ports, "sidecar", namespace, account, {"app": app}, ip=AGENTS)
    envoy = RunningEnvoy(bootstrap, subdirectory(directory, "pod"), log_level="warning", without=lacking())
    envoy.start()
    try:
        yield
    finally:
        envoy.stop()


@contextlib.contextmanager
def ztunnel(ports: Any, directory: Path, waypoint: int) -> Iterator[RunningEnvoy]:
    """In place of ztunnel: sends connections to the service's address through the waypoint, by HBONE."""
    bootstrap = istiod_kit.bootstrap(ports, "sidecar", "apps", "app", {}, ip="127.0.0.4")
    del bootstrap["dynamic_resources"]
    proxy = {
        "@type": "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
        "stat_prefix": "tunnel",
        "cluster": "waypoint",
        "tunneling_config": {"hostname": f"{VIP}:80"},
    }
    bootstrap["static_resources"] = {
        "listeners": [
            {
                "name": "tunnel",
                "address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}},
                "filter_chains": [{"filters": [{"name": "envoy.filters.network.tcp_proxy", "typed_config": proxy}]}],
            }
        ],
        "clusters": [
            {**istiod_kit.cluster("waypoint", waypoint), "transport_socket": istiod_kit.mesh_tls()},
            istiod_kit.cluster("sds-grpc", ports["sds"]),
        ],
    }
    envoy = RunningEnvoy(bootstrap, subdirectory(directory, "ztunnel"), log_level="warning")
    envoy.start()
    try:
        yield envoy
    finally:
        envoy.stop()


VIP, WAYPOINT_VIP = "10.96.0.20", "10.96.0.21"


def at_ports(
    manifests: list[Manifest],
    first: int,
    admin: int,
    port: int | None = None,
    *,
    others: Mapping[int, int] | None = None,
) -> list[Manifest]:
    """The manifests with ports that are free here: those of two workers, of the admin interface, of the proxy, and
    `others`."""
    changed = {9000: first, 9001: first + 1, 10001: admin, **(others or {})}
    if port is not None:
        changed |= {8443: port, 10000: port}
    words = {str(old): str(new) for old, new in changed.items()}

    def at(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: at(each) for key, each in value.items()}
        if isinstance(value, list):
            return [at(each) for each in value]
        if isinstance(value, str):
            return words.get(value, value)
        return changed.get(value, value) if type(value) is int else value

    kept = [each for each in manifests if each["kind"] != "EnvoyFilter"]
    found: list[Manifest] = at(kept) + [each for each in manifests if each["kind"] == "EnvoyFilter"]
    for each in found:
        if each["kind"] == "Gateway" and each["apiVersion"].startswith("networking.istio.io"):
            each["spec"]["servers"][0]["bind"] = PROXY
    for each in found:
        if (each["kind"], each["metadata"]["name"]) == ("Service", "llm"):
            each["spec"] |= {"clusterIP": VIP, "clusterIPs": [VIP]}
        if (each["kind"], each["metadata"]["name"]) == ("Gateway", "llm-edge") and "k8s" in each["apiVersion"]:
            each["status"] = {"addresses": [{"type": "Hostname", "value": "llm-edge.llm.svc.cluster.local"}]}
    return [each for each in found if each["kind"] not in _OF_KUBERNETES]


# istiod does not read them.
_OF_KUBERNETES = frozenset({"ConfigMap", "Deployment", "NetworkPolicy", "PodDisruptionBudget"})


def around_a_pod(namespace: str, app: str, first: int, admin: int) -> list[Manifest]:
    """The pods of a Deployment are one, at an address of this machine. Without iptables, their sidecar listens at that
    address, and what is behind it at another."""
    ports = [
        ("grpc-worker-0", first, "GRPC"),
        ("grpc-worker-1", first + 1, "GRPC"),
        ("http-admin", admin, "HTTP"),
    ]
    ingress = [
        {
            "port": {"number": number, "name": name, "protocol": protocol},
            "bind": AGENTS,
            "captureMode": "NONE",
            "defaultEndpoint": f"127.0.0.1:{number}",
        }
        for name, number, protocol in ports
    ]
    # Nothing outgoing: its listeners would share the ports of other proxies of these tests.
    spec = {"workloadSelector": {"labels": {"app": app}}, "ingress": ingress, "egress": [{"hosts": ["~/*"]}]}
    return [
        {
            "apiVersion": "networking.istio.io/v1",
            "kind": "Sidecar",
            "metadata": {"name": app, "namespace": namespace},
            "spec": spec,
        },
        *(
            endpoints("llm", service, AGENTS, [ports[n] for n in chosen])
            for service, chosen in (("llm-edge-agents", (0, 1)), ("llm-edge-admin", (2,)))
        ),
    ]


def agents_pod() -> Manifest:
    """A pod with a sidecar. Other proxies use mutual TLS with it."""
    labels = {"app": "llm-edge-agent", "security.istio.io/tlsMode": "istio"}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "llm-edge-agent-1", "namespace": "llm", "labels": labels},
        "spec": {
            "serviceAccountName": "llm-edge-agent",
            "containers": [{"name": "agent", "image": "edge-extproc"}],
        },
        "status": {"phase": "Running", "podIP": AGENTS, "podIPs": [{"ip": AGENTS}]},
    }


def endpoints(
    namespace: str, service: str, ip: str, ports: list[tuple[str, int, str]], *, pod: str | None = None
) -> Manifest:
    """`pod`: the name of its pod, if there is a manifest of it."""
    target = {} if pod is None else {"targetRef": {"kind": "Pod", "name": pod, "namespace": namespace}}
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": service, "namespace": namespace, "labels": {"kubernetes.io/service-name": service}},
        "addressType": "IPv4",
        "endpoints": [{"addresses": [ip], "conditions": {"ready": True}, **target}],
        "ports": [{"name": name, "port": number, "protocol": "TCP"} for name, number, _ in ports],
    }


def around(target: render_istio.Target, authority: istiod_kit.MeshAuthority, port: int) -> list[Manifest]:
    if target == "istio-gateway":
        values = yaml.safe_load((ISTIO / "gateway" / "gateway-values.yaml").read_text())
        return [
            tls_secret(authority),
            {
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": {"name": "istio-ingress", "namespace": "istio-ingress"},
                "spec": {"selector": {"istio": "ingress"}, "clusterIP": "10.96.0.10", **values["service"]},
            },
            endpoints("istio-ingress", "istio-ingress", PROXY, [("https-llm", port, "HTTPS")]),
        ]
    if target == "istio-sidecar":
        return [
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"name": "default", "namespace": "search", "labels": {"app": "search"}},
                "spec": {"serviceAccountName": "default", "containers": [{"name": "search", "image": "search"}]},
                "status": {"phase": "Running", "podIP": PROXY, "podIPs": [{"ip": PROXY}]},
            }
        ]
    return [*around_a_waypoint(port), left_out_of_a_waypoint(port)]


def egress_service() -> Manifest:
    """As Istio's chart makes it from the values of istio/egress."""
    values = yaml.safe_load((ISTIO / "egress" / "gateway-values.yaml").read_text())
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "istio-egress", "namespace": "istio-egress"},
        "spec": {"selector": {"istio": "egress"}, "clusterIP": "10.96.0.11", **values["service"]},
    }


def tls_secret(authority: istiod_kit.MeshAuthority) -> Manifest:
    certificate, key = authority.issue(x509.DNSName(HOST))
    data = {"tls.crt": base64.b64encode(certificate).decode(), "tls.key": base64.b64encode(key).decode()}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "llm-edge-tls", "namespace": "istio-ingress"},
        "type": "kubernetes.io/tls",
        "data": data,
    }


def around_a_waypoint(port: int) -> list[Manifest]:
    """What Istio's controllers and Kubernetes add to the manifests."""
    name = {"gateway.networking.k8s.io/gateway-name": "llm-edge"}
    return [
        {
            "apiVersion": "gateway.networking.k8s.io/v1",
            "kind": "GatewayClass",
            "metadata": {"name": "istio-waypoint"},
            "spec": {"controllerName": "istio.io/mesh-controller"},
        },
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "llm-edge", "namespace": "llm", "labels": name},
            "spec": {
                "selector": name,
                "clusterIP": WAYPOINT_VIP,
                "clusterIPs": [WAYPOINT_VIP],
                "ports": [{"name": "mesh", "port": 15008, "appProtocol": "all"}],
            },
        },
        endpoints("llm", "llm-edge", PROXY, [("mesh", port, "HBONE")]),
    ]


def left_out_of_a_waypoint(port: int) -> Manifest:
    """Filters of Istio's build alone, and a port of this machine instead of 15008."""
    manager = "envoy.filters.network.http_connection_manager"
    telemetry = [
        {
            "applyTo": "HTTP_FILTER",
            "match": {
                "context": "SIDECAR_INBOUND",
                "listener": {"filterChain": {"filter": {"name": manager, "subFilter": {"name": name}}}},
            },
            "patch": {"operation": "REMOVE"},
        }
        for name in ("waypoint_downstream_peer_metadata", "waypoint_upstream_peer_metadata")
    ]
    address = {"address": {"socket_address": {"address": PROXY, "port_value": port}}}
    moved = {
        "applyTo": "LISTENER",
        "match": {"context": "SIDECAR_INBOUND", "listener": {"name": "connect_terminate"}},
        "patch": {"operation": "MERGE", "value": address},
    }
    return {
        "apiVersion": "networking.istio.io/v1alpha3",
        "kind": "EnvoyFilter",
        "metadata": {"name": "of-these-tests", "namespace": "llm"},
        "spec": {
            "targetRefs": [{"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "llm-edge"}],
            "configPatches": [*telemetry, moved],
        },
    }


def around_the_manifests() -> list[Manifest]:
    """Namespaces and pods that the manifests name and do not make."""
    return [
        *(
            {
                "apiVersion": "v1",
                "kind": "Namespace",
                "metadata": {"name": name, "labels": {"istio-injection": "enabled"}},
            }
            for name in ("monitoring", "internal", "billing", "search", "istio-ingress", "istio-egress", "istio-system")
        ),
        *(
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"name": f"{value}-1", "namespace": namespace, "labels": {key: value}},
                "spec": {"containers": [{"name": "istio-proxy", "image": "proxy"}]},
            }
            for namespace, key, value in (
                ("internal", "app", "internal-api"),
                ("internal", "llm-edge-authz", "enabled"),
                ("search", "app", "search"),
                ("llm", "app", "llm-edge-agent"),
                ("istio-ingress", "istio", "ingress"),
                ("istio-egress", "istio", "egress"),
            )
        ),
        egress_service(),
    ]
