"""Envoy's types from envoy-data-plane, and their conversion to the plain fields of a bootstrap.

envoy-data-plane has the types of Envoy up to 1.38, so a typo fails when the configuration is rendered. Newer fields are
merged as plain fields, marked by `newer`. Importing the types takes half a second and 50 MiB: only the supervisor, the
command line and tests do, never a worker.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

with warnings.catch_warnings():
    # envoy-data-plane 2.2 declares validators in a form that pydantic deprecates.
    warnings.simplefilter("ignore", DeprecationWarning)
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
    from envoy_data_plane.message_pool import default_message_pool

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
    message_fields: Json = message.to_dict(casing=betterproto2.Casing.SNAKE)
    return message_fields


def typed(message: betterproto2.Message, **newer: Any) -> Json:
    """The JSON form of a google.protobuf.Any."""
    url = default_message_pool.type_to_url[type(message)]
    return {"@type": url, **fields(message), **newer}


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
        kept = [_merged(item, changes.pop(_name(item))) if _name(item) in changes else item for item in base]
        return [*kept, *changes.values()]
    return over


def _name(item: object) -> str | None:
    name = item.get("name") if isinstance(item, Mapping) else None
    return name if isinstance(name, str) else None


def tcp_address(address: str, port: int) -> core.Address:
    return core.Address(socket_address=core.SocketAddress(address=address, port_value=port))


def file_source(path: Path) -> core.DataSource:
    return core.DataSource(filename=str(path))
