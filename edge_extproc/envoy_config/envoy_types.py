"""Envoy's message types for the functions that render, and the plain fields of their messages.

The type checker sees the types of envoy-data-plane, which has those of Envoy up to 1.38. A running process uses
descriptions with the same names instead (descriptions.py), because importing the types takes longer than starting
Envoy and a worker. The tests compare both (typed_messages.py). Newer fields are merged as plain fields, marked by
`newer`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from .descriptions import Description, Package, announce, json_form, type_url

if TYPE_CHECKING:
    import betterproto2
    from envoy_data_plane.envoy.config.bootstrap import v3 as bootstrap_v3
    from envoy_data_plane.envoy.config.cluster import v3 as cluster_v3
    from envoy_data_plane.envoy.config.common.mutation_rules import v3 as mutation_v3
    from envoy_data_plane.envoy.config.core import v3 as core
    from envoy_data_plane.envoy.config.endpoint import v3 as endpoint_v3
    from envoy_data_plane.envoy.config.listener import v3 as listener_v3
    from envoy_data_plane.envoy.config.route import v3 as route_v3
    from envoy_data_plane.envoy.extensions.access_loggers.file import v3 as file_log
    from envoy_data_plane.envoy.extensions.access_loggers.filters.cel import v3 as cel
    from envoy_data_plane.envoy.extensions.access_loggers.grpc import v3 as grpc_log
    from envoy_data_plane.envoy.extensions.access_loggers.stream import v3 as stream_log
    from envoy_data_plane.envoy.extensions.clusters.common.dns import v3 as common_dns
    from envoy_data_plane.envoy.extensions.clusters.dns import v3 as dns
    from envoy_data_plane.envoy.extensions.common.ratelimit import v3 as ratelimit
    from envoy_data_plane.envoy.extensions.filters.common.matcher.action import v3 as action
    from envoy_data_plane.envoy.extensions.filters.common.set_filter_state import v3 as filter_state
    from envoy_data_plane.envoy.extensions.filters.http.cors import v3 as cors
    from envoy_data_plane.envoy.extensions.filters.http.ext_authz import v3 as ext_authz
    from envoy_data_plane.envoy.extensions.filters.http.ext_proc import v3 as ext_proc
    from envoy_data_plane.envoy.extensions.filters.http.header_mutation import v3 as header_mutation
    from envoy_data_plane.envoy.extensions.filters.http.health_check import v3 as health_check
    from envoy_data_plane.envoy.extensions.filters.http.local_ratelimit import v3 as local_ratelimit
    from envoy_data_plane.envoy.extensions.filters.http.router import v3 as router
    from envoy_data_plane.envoy.extensions.filters.http.set_filter_state import v3 as set_filter_state
    from envoy_data_plane.envoy.extensions.filters.http.upstream_codec import v3 as upstream_codec
    from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager import v3 as hcm
    from envoy_data_plane.envoy.extensions.http.early_header_mutation.header_mutation import v3 as early_mutation
    from envoy_data_plane.envoy.extensions.matching.common_inputs.network import v3 as network_inputs
    from envoy_data_plane.envoy.extensions.resource_monitors.downstream_connections import v3 as connections
    from envoy_data_plane.envoy.extensions.transport_sockets.tls import v3 as tls
    from envoy_data_plane.envoy.extensions.upstreams.http import v3 as upstreams
    from envoy_data_plane.envoy.type import v3 as type_v3
    from envoy_data_plane.envoy.type.matcher import v3 as matcher
else:
    bootstrap_v3 = Package("envoy.config.bootstrap.v3")
    cluster_v3 = Package("envoy.config.cluster.v3")
    mutation_v3 = Package("envoy.config.common.mutation_rules.v3")
    core = Package("envoy.config.core.v3")
    endpoint_v3 = Package("envoy.config.endpoint.v3")
    listener_v3 = Package("envoy.config.listener.v3")
    route_v3 = Package("envoy.config.route.v3")
    file_log = Package("envoy.extensions.access_loggers.file.v3")
    cel = Package("envoy.extensions.access_loggers.filters.cel.v3")
    grpc_log = Package("envoy.extensions.access_loggers.grpc.v3")
    stream_log = Package("envoy.extensions.access_loggers.stream.v3")
    common_dns = Package("envoy.extensions.clusters.common.dns.v3")
    dns = Package("envoy.extensions.clusters.dns.v3")
    ratelimit = Package("envoy.extensions.common.ratelimit.v3")
    action = Package("envoy.extensions.filters.common.matcher.action.v3")
    filter_state = Package("envoy.extensions.filters.common.set_filter_state.v3")
    cors = Package("envoy.extensions.filters.http.cors.v3")
    ext_authz = Package("envoy.extensions.filters.http.ext_authz.v3")
    ext_proc = Package("envoy.extensions.filters.http.ext_proc.v3")
    header_mutation = Package("envoy.extensions.filters.http.header_mutation.v3")
    health_check = Package("envoy.extensions.filters.http.health_check.v3")
    local_ratelimit = Package("envoy.extensions.filters.http.local_ratelimit.v3")
    router = Package("envoy.extensions.filters.http.router.v3")
    set_filter_state = Package("envoy.extensions.filters.http.set_filter_state.v3")
    upstream_codec = Package("envoy.extensions.filters.http.upstream_codec.v3")
    hcm = Package("envoy.extensions.filters.network.http_connection_manager.v3")
    early_mutation = Package("envoy.extensions.http.early_header_mutation.header_mutation.v3")
    network_inputs = Package("envoy.extensions.matching.common_inputs.network.v3")
    connections = Package("envoy.extensions.resource_monitors.downstream_connections.v3")
    tls = Package("envoy.extensions.transport_sockets.tls.v3")
    upstreams = Package("envoy.extensions.upstreams.http.v3")
    type_v3 = Package("envoy.type.v3")
    matcher = Package("envoy.type.matcher.v3")

__all__ = [
    "Json",
    "action",
    "bootstrap_v3",
    "cel",
    "cluster_v3",
    "common_dns",
    "connections",
    "core",
    "cors",
    "dns",
    "early_mutation",
    "endpoint_v3",
    "ext_authz",
    "ext_proc",
    "extension",
    "fields",
    "file_log",
    "file_source",
    "filter_state",
    "grpc_log",
    "hcm",
    "header_mutation",
    "health_check",
    "listener_v3",
    "local_ratelimit",
    "matcher",
    "merged",
    "mutation_v3",
    "network_inputs",
    "ratelimit",
    "route_v3",
    "router",
    "set_filter_state",
    "stream_log",
    "tcp_address",
    "tls",
    "type_v3",
    "typed",
    "upstream_codec",
    "upstreams",
]

Json: TypeAlias = dict[str, Any]


def fields(message: betterproto2.Message) -> Json:
    description = cast("Description", message)
    announce(description, None)
    return json_form(description)


def typed(message: betterproto2.Message, **newer: Any) -> Json:
    """The JSON form of a google.protobuf.Any."""
    description = cast("Description", message)
    url = type_url(description)
    announce(description, url)
    return {"@type": url, **json_form(description), **newer}


def extension(name: str, message: betterproto2.Message, **newer: Any) -> Json:
    return {"name": name, "typed_config": typed(message, **newer)}


def merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> Json:
    """Merges objects by key and lists of named objects by name. All other values are replaced."""
    return {**base, **{key: _merged(base[key], value) if key in base else value for key, value in over.items()}}


def _merged(base: Any, over: Any) -> Any:
    if isinstance(base, Mapping) and isinstance(over, Mapping):
        return merged(base, over)
    if isinstance(base, list) and isinstance(over, list) and over and all(_name(item) for item in [*base, *over]):
        changes = {_name(item): item for item in over}
        merged_items = [_merged(item, changes.pop(_name(item))) if _name(item) in changes else item for item in base]
        return [*merged_items, *changes.values()]
    return over


def _name(item: object) -> str | None:
    name = item.get("name") if isinstance(item, Mapping) else None
    return name if isinstance(name, str) else None


def tcp_address(address: str, port: int) -> core.Address:
    return core.Address(socket_address=core.SocketAddress(address=address, port_value=port))


def file_source(path: Path) -> core.DataSource:
    return core.DataSource(filename=str(path))
