"""The same configuration for an Envoy that Istio runs: what the bootstrap says, as patches of one EnvoyFilter.

Everything is taken out of the bootstrap that render_envoy.py makes; nothing is said twice. What Istio owns stays its
own: the listener and its certificate, the route's host and path. What is added: the clusters of providers and agents,
the two levels of ext_proc, the order of providers on the one route, and the connection manager's bounds and error
bodies.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import yaml

from ..config.capabilities import releases
from ..config.schema import Config
from ..errors import ConfigError
from ..model.envoy_names import AGENT, ROUTE_NAME
from . import bootstrap as render_envoy
from .envoy_types import Json

Target: TypeAlias = Literal["istio-gateway", "istio-sidecar"]
TARGETS: tuple[Target, ...] = ("istio-gateway", "istio-sidecar")

# Relative patches want one (Istio warns with IST0151 otherwise): filters of other EnvoyFilters, at 0, come before ours.
_PRIORITY = 10

CONTEXT: dict[Target, str] = {"istio-gateway": "GATEWAY", "istio-sidecar": "SIDECAR_OUTBOUND"}
NAME = "llm-edge"
MANAGER = "envoy.filters.network.http_connection_manager"
ROUTER = "envoy.filters.http.router"

# What of the connection manager is ours. The rest (its routes, filters, access log, tracing, whom it believes about
# addresses) is Istio's.
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
    """Where in a mesh the patches apply."""

    namespace: str
    """Of the gateway, or of the application whose sidecar it is."""
    workload: Mapping[str, str]
    """Labels of the pods whose proxy is patched."""
    port: int
    """On which the proxy listens: a gateway's Service calls it targetPort. All HTTP on it is ours: give us a port of
    our own."""
    route: str = "llm"
    """The name of the VirtualService's HTTP route; two others, for the header x-edge-route with `once` and with
    `again`, have these words behind it."""
    agent_identity: str | None = None
    """SPIFFE id of the agents' workload: proxies then show each other the mesh's certificates."""


def labels(written: Iterable[str]) -> dict[str, str]:
    """Of NAME=VALUE each. Raises ConfigError."""
    found = {}
    for each in written:
        name, equals, value = each.partition("=")
        if not (name and equals and value):
            raise ConfigError(f"--workload: {each!r} is no label; write NAME=VALUE")
        found[name] = value
    return found


def render(config: Config, target: Target, mesh: MeshResources) -> str:
    """YAML, ready for kubectl. Raises ConfigError."""
    document = yaml.dump(envoy_filter(config, target, mesh), Dumper=_Plain, sort_keys=False, width=120)
    return f"# Rendered by `edge-extproc render --target {target}` for Istio {config.envoy.istio}.\n{document}"


class _Plain(yaml.SafeDumper):
    """Writes what is used twice twice: a reader of a patch should not have to look up an anchor."""

    def ignore_aliases(self, data: Any) -> bool:
        del data
        return True


def envoy_filter(config: Config, target: Target, mesh: MeshResources) -> Json:
    """Raises ConfigError where the agent cannot be reached from there, and where no release of Istio is named."""
    if config.envoy.istio is None:
        raise ConfigError(
            f"envoy.istio: which Istio is it? The order of providers depends on it, for the agent too; have "
            f'{", ".join(releases("istio"))}, as in envoy: {{istio: "{releases("istio")[0]}"}}'
        )
    if config.listen.cors is not None:
        raise ConfigError("listen.cors is of an Envoy of our own; in Istio, write corsPolicy in the VirtualService")
    tcp = config.agent.tcp
    if target == "istio-gateway" and tcp is None:
        raise ConfigError("a gateway of Istio reaches agents over TCP; give agent.tcp with the name of their Service")
    if mesh.agent_identity is not None and tcp is not None and tcp.tls is not None:
        raise ConfigError("both the mesh (by the agents' identity) and agent.tcp.tls would encrypt; leave one out")
    return {
        "apiVersion": "networking.istio.io/v1alpha3",
        "kind": "EnvoyFilter",
        "metadata": {"name": NAME, "namespace": mesh.namespace},
        "spec": {
            "priority": _PRIORITY,
            "workloadSelector": {"labels": dict(mesh.workload)},
            "configPatches": list(_patches(config, CONTEXT[target], mesh)),
        },
    }


def _patches(config: Config, context: str, mesh: MeshResources) -> Iterator[Json]:
    static = render_envoy.bootstrap(config)["static_resources"]
    (listener,) = static["listeners"]
    manager = listener["filter_chains"][0]["filters"][0]["typed_config"]
    (host,) = manager["route_config"]["virtual_hosts"]
    *before, router = manager["http_filters"]

    for cluster in static["clusters"]:
        if cluster["name"] == AGENT and mesh.agent_identity is not None:
            cluster = {**cluster, "transport_socket": _mesh_tls(mesh.agent_identity)}
        yield _patch("CLUSTER", {"context": context}, "ADD", cluster)
    at_listener = {"context": context, "listener": {"portNumber": mesh.port}}
    yield _patch(
        "LISTENER",
        at_listener,
        "MERGE",
        {"per_connection_buffer_limit_bytes": listener["per_connection_buffer_limit_bytes"]},
    )
    ours = {key: manager[key] for key in _OF_MANAGER if key in manager}
    changed = {"name": MANAGER, "typed_config": {"@type": manager["@type"], **ours}}
    yield _patch("NETWORK_FILTER", _at_filter(context, mesh), "MERGE", changed)
    for each in before:
        yield _patch("HTTP_FILTER", _at_filter(context, mesh, ROUTER), "INSERT_BEFORE", each)
    yield _patch("HTTP_FILTER", _at_filter(context, mesh, ROUTER), "MERGE", router)
    # The count tells the upstream level's matcher which try it is; the filter behind it takes it away.
    yield _patch(
        "VIRTUAL_HOST",
        {"context": context, "routeConfiguration": {"portNumber": mesh.port}},
        "MERGE",
        {"include_request_attempt_count": True},
    )
    for route in host["routes"]:
        # The one without a condition has the bare name; the manners of trying again have theirs behind it.
        name = mesh.route + route["name"].removeprefix(ROUTE_NAME)
        # `route` takes the place of the VirtualService's directResponse: both are of one oneof.
        named = {"context": context, "routeConfiguration": {"vhost": {"route": {"name": name}}}}
        yield _patch("HTTP_ROUTE", named, "MERGE", {key: route[key] for key in ("request_body_buffer_limit", "route")})


def _patch(apply_to: str, match: Json, operation: str, value: Any) -> Json:
    return {"applyTo": apply_to, "match": match, "patch": {"operation": operation, "value": value}}


def _at_filter(context: str, mesh: MeshResources, sub_filter: str | None = None) -> Json:
    found: Json = {"name": MANAGER}
    if sub_filter is not None:
        found["subFilter"] = {"name": sub_filter}
    return {"context": context, "listener": {"portNumber": mesh.port, "filterChain": {"filter": found}}}


def _mesh_tls(identity: str) -> Json:
    """As Istio's own clusters do it: the workload's certificate, and the mesh's authority, from the local agent."""
    return {
        "name": "envoy.transport_sockets.tls",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
            "common_tls_context": {
                # What a sidecar takes for mutual TLS of the mesh.
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
