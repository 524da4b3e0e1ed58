"""Renders the configuration for Istio: the bootstrap's content as patches of one EnvoyFilter.

All parts are taken from the bootstrap of bootstrap.py, so nothing is defined twice. Istio keeps the listener, its
certificate, and the route's host and path. The patches add the clusters of providers and agents, the levels of
ext_proc, the order of providers on the one route, and the limits and error bodies of the connection manager.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import yaml

from ..config.schema import Config
from ..errors import ConfigError
from ..model.envoy_names import AGENT, ROUTE_NAME
from ..proxy.capabilities import releases
from . import bootstrap as render_envoy
from .envoy_types import Json

Target: TypeAlias = Literal["istio-gateway", "istio-sidecar", "istio-waypoint"]
TARGETS: tuple[Target, ...] = ("istio-gateway", "istio-sidecar", "istio-waypoint")

# Relative patches need a priority (otherwise Istio warns with IST0151). The filters of other EnvoyFilters, with
# priority 0, come first.
_PRIORITY = 10

# istiod builds a waypoint as the inbound side of a sidecar: its only patches of a waypoint have this context.
CONTEXT: dict[Target, str] = {
    "istio-gateway": "GATEWAY",
    "istio-sidecar": "SIDECAR_OUTBOUND",
    "istio-waypoint": "SIDECAR_INBOUND",
}
# The listener of a waypoint that dispatches to its services. Each service has a filter chain and a route there.
WAYPOINT_LISTENER = "main_internal"
NAME = "llm-edge"
MANAGER = "envoy.filters.network.http_connection_manager"
ROUTER = "envoy.filters.http.router"

# The fields of the connection manager that are patched. Istio keeps the others: routes, filters, access log, tracing,
# trusted addresses.
_OF_MANAGER = (
    "common_http_protocol_options",
    "early_header_mutation_extensions",
    "local_reply_config",
    "max_request_headers_kb",
    "request_headers_timeout",
    "request_timeout",
    "stream_idle_timeout",
)


@dataclass(frozen=True, slots=True)
class MeshResources:
    """The place in a mesh where the patches apply."""

    namespace: str
    """The namespace of the gateway, of the waypoint, or of the application with the sidecar."""
    workload: Mapping[str, str]
    """The labels of the pods whose proxies are patched. For a waypoint, its Gateway is named instead."""
    port: int
    """The port of the proxy, which a gateway's Service calls targetPort. All HTTP on this port is patched: use a port
    of its own. For a waypoint: the port of the service."""
    route: str = "llm"
    """The name of the VirtualService's HTTP route. Two other routes, for the header x-edge-route with `once` and
    `again`, have these words appended."""
    agent_identity: str | None = None
    """The SPIFFE id of the agents' workload. With it, the proxy and the agents use the mesh's certificates."""
    waypoint: str = "llm-edge"
    """For a waypoint: the name of its Gateway."""
    service: str = "llm.llm.svc.cluster.local"
    """For a waypoint: the host name of the service that callers use."""

    @property
    def chain(self) -> str:
        """istiod's name of a service's filter chain and route configuration in a waypoint."""
        return f"inbound-vip|{self.port}|http|{self.service}"


def labels(written: Iterable[str]) -> dict[str, str]:
    """Parses labels as NAME=VALUE. Raises ConfigError."""
    parsed = {}
    for each in written:
        name, equals, value = each.partition("=")
        if not (name and equals and value):
            raise ConfigError(f"--workload: {each!r} is not a label; write NAME=VALUE")
        parsed[name] = value
    return parsed


def render(config: Config, target: Target, mesh: MeshResources) -> str:
    """The EnvoyFilter as YAML for kubectl. Raises ConfigError."""
    document = yaml.dump(envoy_filter(config, target, mesh), Dumper=_DumperWithoutAnchors, sort_keys=False, width=120)
    return f"# Rendered by `edge-extproc render --target {target}` for Istio {config.envoy.istio}.\n{document}"


if TYPE_CHECKING:
    from yaml import SafeDumper
else:
    # libyaml takes a fifth of the time of the dumper in Python. All wheels of PyYAML have it.
    SafeDumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


class _DumperWithoutAnchors(SafeDumper):
    """A YAML dumper without anchors, so that each patch can be read alone."""

    def ignore_aliases(self, data: Any) -> bool:
        del data
        return True


def envoy_filter(config: Config, target: Target, mesh: MeshResources) -> Json:
    """Raises ConfigError if the agent is unreachable from the proxy, or if no release of Istio is configured."""
    if config.envoy.istio is None:
        raise ConfigError(
            f"envoy.istio is missing: the order of providers depends on the release of Istio; have "
            f'{", ".join(releases("istio"))}, as in envoy: {{istio: "{releases("istio")[0]}"}}'
        )
    if config.listen.cors is not None:
        raise ConfigError("listen.cors is not supported with Istio; set corsPolicy in the VirtualService")
    if config.listen.more:
        raise ConfigError("listen.more is not supported with Istio; its Gateway has the listeners")
    tcp = config.agent.tcp
    if target != "istio-sidecar" and tcp is None:
        raise ConfigError(
            f"a {target.removeprefix('istio-')} of Istio reaches agents over TCP; "
            "give agent.tcp with the name of their Service"
        )
    if mesh.agent_identity is not None and tcp is not None and tcp.tls is not None:
        raise ConfigError("both the mesh (by the agents' identity) and agent.tcp.tls would encrypt; leave one out")
    return {
        "apiVersion": "networking.istio.io/v1alpha3",
        "kind": "EnvoyFilter",
        "metadata": {"name": NAME, "namespace": mesh.namespace},
        "spec": {
            "priority": _PRIORITY,
            **_selection(target, mesh),
            "configPatches": list(_patches(config, target, mesh)),
        },
    }


def _selection(target: Target, mesh: MeshResources) -> Json:
    if target != "istio-waypoint":
        return {"workloadSelector": {"labels": dict(mesh.workload)}}
    # A waypoint ignores policies that select it by labels.
    return {"targetRefs": [{"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": mesh.waypoint}]}


def _patches(config: Config, target: Target, mesh: MeshResources) -> Iterator[Json]:
    context = CONTEXT[target]
    static = render_envoy.bootstrap(config)["static_resources"]
    (listener,) = static["listeners"]
    manager = listener["filter_chains"][0]["filters"][0]["typed_config"]
    (host,) = manager["route_config"]["virtual_hosts"]
    *before, router = manager["http_filters"]

    for cluster in static["clusters"]:
        if cluster["name"] == AGENT and mesh.agent_identity is not None:
            cluster = {**cluster, "transport_socket": _mesh_tls(mesh.agent_identity)}
        yield _patch("CLUSTER", {"context": context}, "ADD", cluster)
    yield _patch(
        "LISTENER",
        {"context": context, "listener": _listener(target, mesh)},
        "MERGE",
        {"per_connection_buffer_limit_bytes": listener["per_connection_buffer_limit_bytes"]},
    )
    ours = {key: manager[key] for key in _OF_MANAGER if key in manager}
    changed = {"name": MANAGER, "typed_config": {"@type": manager["@type"], **ours}}
    yield _patch("NETWORK_FILTER", _at_filter(target, mesh), "MERGE", changed)
    at_router = _at_filter(target, mesh, ROUTER)
    for each in before:
        yield _patch("HTTP_FILTER", at_router, "INSERT_BEFORE", each)
    yield _patch("HTTP_FILTER", at_router, "MERGE", router)
    # The matcher of the upstream level reads the attempt number from this count; the filter after it removes it.
    counted = {"include_request_attempt_count": True}
    yield _patch("VIRTUAL_HOST", _at_routes(target, mesh), "MERGE", counted)
    yield from _routes(target, mesh, host["routes"])


def _routes(target: Target, mesh: MeshResources, routes: list[Json]) -> Iterator[Json]:
    if target == "istio-waypoint":
        # istiod patches no route of a waypoint that a VirtualService makes, but the default one. Ours come before it,
        # the last one first.
        at_default = _at_routes(target, mesh, "default")
        for route in reversed(routes):
            yield _patch("HTTP_ROUTE", at_default, "INSERT_FIRST", {**route, "name": _route_name(mesh, route)})
        return
    for route in routes:
        # `route` replaces the VirtualService's directResponse: both are in one oneof.
        match = {"context": CONTEXT[target], "routeConfiguration": _virtual_host_route(_route_name(mesh, route))}
        yield _patch("HTTP_ROUTE", match, "MERGE", {key: route[key] for key in ("request_body_buffer_limit", "route")})


def _route_name(mesh: MeshResources, route: Json) -> str:
    """The route without a condition has the plain name; those of the retry policies have theirs appended."""
    return mesh.route + str(route["name"]).removeprefix(ROUTE_NAME)


def _patch(apply_to: str, match: Json, operation: str, value: Any) -> Json:
    return {"applyTo": apply_to, "match": match, "patch": {"operation": operation, "value": value}}


def _listener(target: Target, mesh: MeshResources) -> Json:
    return {"name": WAYPOINT_LISTENER} if target == "istio-waypoint" else {"portNumber": mesh.port}


def _at_filter(target: Target, mesh: MeshResources, sub_filter: str | None = None) -> Json:
    network_filter: Json = {"name": MANAGER}
    if sub_filter is not None:
        network_filter["subFilter"] = {"name": sub_filter}
    chain = {"name": mesh.chain} if target == "istio-waypoint" else {}
    listener = {**_listener(target, mesh), "filterChain": {**chain, "filter": network_filter}}
    return {"context": CONTEXT[target], "listener": listener}


def _at_routes(target: Target, mesh: MeshResources, route: str | None = None) -> Json:
    at: Json = {"name": mesh.chain} if target == "istio-waypoint" else {"portNumber": mesh.port}
    if route is not None:
        at |= _virtual_host_route(route)
    return {"context": CONTEXT[target], "routeConfiguration": at}


def _virtual_host_route(name: str) -> Json:
    return {"vhost": {"route": {"name": name}}}


def _mesh_tls(identity: str) -> Json:
    """The same as in Istio's own clusters: the workload's certificate and the mesh's authority, from the local
    agent."""
    return {
        "name": "envoy.transport_sockets.tls",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
            "common_tls_context": {
                # The ALPN value by which a sidecar detects mutual TLS of the mesh.
                "alpn_protocols": ["istio-h2", "istio", "h2"],
                "tls_certificate_sds_secret_configs": [_secret("default")],
                "combined_validation_context": {
                    "default_validation_context": {
                        "match_typed_subject_alt_names": [{"san_type": "URI", "matcher": {"exact": identity}}]
                    },
                    "validation_context_sds_secret_config": _secret("ROOTCA"),
                },
            },
        },
    }


def _secret(name: str) -> Json:
    return {
        "name": name,
        "sds_config": {
            "api_config_source": {
                "api_type": "GRPC",
                "grpc_services": [{"envoy_grpc": {"cluster_name": "sds-grpc"}}],
                "set_node_on_first_message_only": True,
                "transport_api_version": "V3",
            },
            "initial_fetch_timeout": "0s",
            "resource_api_version": "V3",
        },
    }
