"""The extensions of Envoy that a rendered configuration uses, by the types of its messages.

A message in an Any belongs to an extension, whose name is another one. A type without a row is taken for the name of an
extension: no proxy has it, so it is refused, and the tests find it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

_URL = "type.googleapis.com/"

# Envoy's `/server_info` has these pairs. tests/envoy/test_custom_proxy.py compares them.
EXTENSION_OF_TYPE: Mapping[str, str] = {
    "envoy.config.trace.v3.OpenTelemetryConfig": "envoy.tracers.opentelemetry",
    "envoy.extensions.access_loggers.file.v3.FileAccessLog": "envoy.access_loggers.file",
    "envoy.extensions.access_loggers.filters.cel.v3.ExpressionFilter": "envoy.access_loggers.extension_filters.cel",
    "envoy.extensions.access_loggers.grpc.v3.HttpGrpcAccessLogConfig": "envoy.access_loggers.http_grpc",
    "envoy.extensions.access_loggers.stream.v3.StdoutAccessLog": "envoy.access_loggers.stdout",
    "envoy.extensions.clusters.aggregate.v3.ClusterConfig": "envoy.clusters.aggregate",
    "envoy.extensions.clusters.composite.v3.ClusterConfig": "envoy.clusters.composite",
    "envoy.extensions.clusters.dns.v3.DnsCluster": "envoy.cluster.dns",
    "envoy.extensions.common.matching.v3.ExtensionWithMatcher": "envoy.filters.http.match_delegate",
    "envoy.extensions.filters.http.cors.v3.Cors": "envoy.filters.http.cors",
    "envoy.extensions.filters.http.cors.v3.CorsPolicy": "envoy.filters.http.cors",
    "envoy.extensions.filters.http.ext_authz.v3.ExtAuthz": "envoy.filters.http.ext_authz",
    "envoy.extensions.filters.http.ext_authz.v3.ExtAuthzPerRoute": "envoy.filters.http.ext_authz",
    "envoy.extensions.filters.http.ext_proc.v3.ExtProcPerRoute": "envoy.filters.http.ext_proc",
    "envoy.extensions.filters.http.ext_proc.v3.ExternalProcessor": "envoy.filters.http.ext_proc",
    "envoy.extensions.filters.http.header_mutation.v3.HeaderMutation": "envoy.filters.http.header_mutation",
    "envoy.extensions.filters.http.health_check.v3.HealthCheck": "envoy.filters.http.health_check",
    "envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit": "envoy.filters.http.local_ratelimit",
    "envoy.extensions.filters.http.router.v3.Router": "envoy.filters.http.router",
    "envoy.extensions.filters.http.set_filter_state.v3.Config": "envoy.filters.http.set_filter_state",
    "envoy.extensions.filters.http.upstream_codec.v3.UpstreamCodec": "envoy.filters.http.upstream_codec",
    "envoy.extensions.filters.listener.http_inspector.v3.HttpInspector": "envoy.filters.listener.http_inspector",
    "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager": (
        "envoy.filters.network.http_connection_manager"
    ),
    "envoy.extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation": (
        "envoy.http.early_header_mutation.header_mutation"
    ),
    "envoy.extensions.load_balancing_policies.maglev.v3.Maglev": "envoy.load_balancing_policies.maglev",
    "envoy.extensions.load_balancing_policies.override_host.v3.OverrideHost": (
        "envoy.load_balancing_policies.override_host"
    ),
    "envoy.extensions.matching.common_inputs.network.v3.DynamicMetadataInput": "envoy.matching.inputs.dynamic_metadata",
    "envoy.extensions.matching.common_inputs.network.v3.FilterStateInput": "envoy.matching.inputs.filter_state",
    "envoy.extensions.matching.input_matchers.metadata.v3.Metadata": "envoy.matching.matchers.metadata_matcher",
    "envoy.extensions.resource_monitors.fixed_heap.v3.FixedHeapConfig": "envoy.resource_monitors.fixed_heap",
    "envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate": (
        "envoy.retry_host_predicates.previous_hosts"
    ),
    "envoy.extensions.retry.priority.previous_priorities.v3.PreviousPrioritiesConfig": (
        "envoy.retry_priorities.previous_priorities"
    ),
    "envoy.extensions.router.cluster_specifiers.priority_group.v3.PriorityGroupClusterSpecifier": (
        "envoy.router.cluster_specifier_plugin.priority_group"
    ),
    "envoy.extensions.tracers.opentelemetry.resource_detectors.v3.StaticConfigResourceDetectorConfig": (
        "envoy.tracers.opentelemetry.resource_detectors.static_config"
    ),
    "envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext": "envoy.transport_sockets.tls",
    "envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext": "envoy.transport_sockets.tls",
    "envoy.type.matcher.v3.HttpRequestHeaderMatchInput": "envoy.matching.inputs.request_headers",
}

# Envoy names no extension for these in `/server_info`, or each build has it.
WITHOUT_AN_EXTENSION = frozenset(
    {
        "envoy.extensions.filters.common.matcher.action.v3.SkipFilter",
        "envoy.extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig",
        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
    }
)

# Extensions that a field selects, with any value or with this one.
EXTENSION_OF_FIELD: Mapping[tuple[str, str | None], str] = {
    ("type", "STATIC"): "envoy.cluster.static",
    ("lb_policy", "CLUSTER_PROVIDED"): "envoy.load_balancing_policies.cluster_provided",
    ("grpc_health_check", None): "envoy.health_checkers.grpc",
}


def used_by(rendering: Any) -> frozenset[str]:
    """The names of the extensions that a rendered configuration uses."""
    return frozenset(_names(rendering))


def _names(value: Any) -> Iterator[str]:
    if isinstance(value, list):
        for each in value:
            yield from _names(each)
    if not isinstance(value, dict):
        return
    for key, each in value.items():
        for selected in (None, each if isinstance(each, str) else None):
            if (key, selected) in EXTENSION_OF_FIELD:
                yield EXTENSION_OF_FIELD[key, selected]
        if key == "@type":
            kind = str(each).removeprefix(_URL)
            if kind not in WITHOUT_AN_EXTENSION:
                yield EXTENSION_OF_TYPE.get(kind, kind)
        else:
            yield from _names(each)
