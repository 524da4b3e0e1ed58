"""A proxy as Istio configures it from the manifests, EnvoyFilters merged into it by the rules of Istio, and what
Istio's build of Envoy lacks. Istio itself is not here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edge_extproc.envoy_config import istio as render_istio

LACKS = Path(__file__).parent / "envoy" / "istio_lacks.txt"
HOST = "llm.example.com"
LISTENER = "mesh"
_TYPES = "type.googleapis.com/envoy.extensions"


def lacking() -> str:
    """As `envoy --disable-extensions` takes it."""
    lines = (line.strip() for line in LACKS.read_text().splitlines())
    return ",".join(line for line in lines if line and not line.startswith("#"))


def routes_of(virtual_service: dict[str, Any]) -> list[dict[str, Any]]:
    """As istiod translates the HTTP routes of a VirtualService."""
    read_routes = []
    for rule in virtual_service["spec"]["http"]:
        match: dict[str, Any] = {"prefix": "/"}
        for one in rule.get("match", []):
            headers = [{"name": name, "string_match": pattern} for name, pattern in one["headers"].items()]
            match = {**match, "headers": headers}
        route: dict[str, Any] = {"name": rule["name"], "match": match}
        if (refusal := rule.get("directResponse")) is not None:
            route["direct_response"] = {
                "status": refusal["status"],
                "body": {"inline_string": refusal["body"]["string"]},
            }
        else:
            (to,) = rule["route"]
            where = to["destination"]
            route["route"] = {"cluster": f"outbound|{where['port']['number']}||{where['host']}", "timeout": "0s"}
        read_routes.append(route)
    return read_routes


def waypoint_routes() -> list[dict[str, Any]]:
    """istiod's own route of a service in a waypoint that has no VirtualService."""
    cluster = "inbound-vip|80|http|llm.llm.svc.cluster.local"
    return [{"name": "default", "match": {"prefix": "/"}, "route": {"cluster": cluster, "timeout": "0s"}}]


def proxy(routes: list[dict[str, Any]], context: str, port: int = 0) -> dict[str, Any]:
    """The bootstrap of a gateway, or of a sidecar's outbound listener."""
    gateway = context == "GATEWAY"
    manager = {
        "@type": f"{_TYPES}.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "outbound_0.0.0.0",
        "use_remote_address": gateway,
        "normalize_path": True,
        "server_name": "istio-envoy",
        "stream_idle_timeout": "0s",
        **({"forward_client_cert_details": "SANITIZE_SET"} if gateway else {}),
        "http_filters": [
            {"name": "envoy.filters.http.grpc_stats", "typed_config": {"@type": _http("grpc_stats", "FilterConfig")}},
            {"name": "envoy.filters.http.fault", "typed_config": {"@type": _http("fault", "HTTPFault")}},
            {"name": "envoy.filters.http.cors", "typed_config": {"@type": _http("cors", "Cors")}},
            {"name": render_istio.ROUTER, "typed_config": {"@type": _http("router", "Router")}},
        ],
        "route_config": {
            "name": "mesh",
            "validate_clusters": False,
            "virtual_hosts": [
                {
                    "name": f"{HOST}:{port}",
                    "domains": [HOST, f"{HOST}:*"],
                    "include_request_attempt_count": True,
                    "routes": routes,
                }
            ],
        },
    }
    listener = {
        "name": LISTENER,
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


def _http(package: str, name: str) -> str:
    return f"{_TYPES}.filters.http.{package}.v3.{name}"


# Members of one oneof: setting one takes the others away.
_ONEOFS = (
    frozenset({"route", "redirect", "direct_response"}),
    frozenset({"cluster", "cluster_header", "weighted_clusters", "inline_cluster_specifier_plugin"}),
)


def merge(base: Any, over: Any) -> Any:
    """As protobuf merges messages: fields one by one, lists one behind the other, and of a oneof the later member."""
    if isinstance(base, dict) and isinstance(over, dict):
        gone = {key for oneof in _ONEOFS if oneof & over.keys() for key in oneof - over.keys()}
        base = {key: value for key, value in base.items() if key not in gone}
        return {**base, **{key: merge(base[key], value) if key in base else value for key, value in over.items()}}
    if isinstance(base, list) and isinstance(over, list):
        return [*base, *over]
    return over


def patched(bootstrap: dict[str, Any], patches: list[dict[str, Any]], port: int | None) -> dict[str, Any]:
    """`port`: which listener this is; None where the patches name none."""
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
                merged = merge(host, value)
                host.clear()
                host.update(merged)
            case "HTTP_ROUTE", "INSERT_FIRST":
                assert match["routeConfiguration"]["vhost"]["route"]["name"] in [r["name"] for r in host["routes"]]
                host["routes"].insert(0, value)
            case "HTTP_ROUTE", "MERGE":
                name = match["routeConfiguration"]["vhost"]["route"]["name"]
                host["routes"] = [merge(r, value) if r["name"] == name else r for r in host["routes"]]
            case other:
                raise AssertionError(other)
    return bootstrap
