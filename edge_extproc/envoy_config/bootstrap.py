"""Renders Envoy's bootstrap for a configuration, with one function for each resource.

This module has the process and the whole bootstrap. Its parts are in listener.py, routes.py, filters.py, headers.py,
clusters.py and tracing.py.

The path of a request is: listener → router-level ext_proc, one stream for each request → Router, which reads the order
of providers from dynamic metadata and tries them in turn → from attempt 2 on, upstream-level ext_proc, which encodes
the request for the provider of that attempt.
"""

from __future__ import annotations

from ..config.schema import Config
from ..model.envoy_names import cluster_name, pair_name
from ..proxy import envoy_versions
from . import tracing as render_tracing
from .clusters import (
    agent_cluster,
    bridge_cluster,
    chain_clusters,
    composite_cluster,
    has_several,
    hedged_pairs,
    mcp_cluster,
    provider_cluster,
    socket_cluster,
)
from .envoy_types import Json, bootstrap_v3, connections, core, extension, fields, merged, tcp_address
from .listener import listeners

_REGEX_SIZE = 32768


def render(config: Config, version: str | None = None) -> Json:
    """The bootstrap for one version of Envoy, by default the configured one. Creates the configured certificate if it
    is to be generated. Raises ConfigError."""
    config = envoy_versions.at_version(config, version)
    ensure_certificate(config)
    return bootstrap(config)


def ensure_certificate(config: Config) -> None:
    """Raises ConfigError."""
    generated = [each for _, each in config.listen.listeners() if each.tls is not None and each.tls.generate]
    if generated:
        from . import certificate  # imports what creates certificates

        addresses = dict.fromkeys(each.address for each in generated)
        certificate.ensure(config.agent.state_dir, names=(*certificate.NAMES, *addresses))


def bootstrap(config: Config, *, passes_over: bool | None = None) -> Json:
    """`passes_over`: whether clusters of several providers are possible; None: whether the configuration has any.
    Raises ConfigError if the system has no trust store, or this version of Envoy lacks a required function."""
    envoy_versions.check(config)
    collector = render_tracing.cluster(config)
    process = bootstrap_v3.Bootstrap(node=core.Node(id="edge", cluster="edge"), admin=_admin(config))
    # The size limit of compiled regular expressions. Envoy's default of 100 is for untrusted ones. Istio's proxies use
    # the same value.
    regex = {"re2": {"max_program_size": {"error_level": _REGEX_SIZE}}}
    rendered = {
        **fields(process),
        "layered_runtime": {
            "layers": [
                {"name": "edge", "static_layer": {**regex, **render_tracing.runtime(config)}},
                {"name": "admin", "admin_layer": {}},
            ]
        },
        "overload_manager": _overload_manager(config),
        "static_resources": {
            "listeners": listeners(config, passes_over=has_several(config) if passes_over is None else passes_over),
            "clusters": [
                agent_cluster(config),
                *(provider_cluster(config, name, provider) for name, provider in config.providers.items()),
                *(socket_cluster(config, name) for name in config.socket_providers()),
                *([bridge_cluster(config)] if config.bridges_responses else []),
                *(mcp_cluster(config, name, server) for name, server in config.mcp_servers().items()),
                *([collector] if collector is not None else []),
                *(
                    composite_cluster(config, pair_name(*map(cluster_name, pair)), pair)
                    for pair in hedged_pairs(config)
                ),
                *chain_clusters(config),
            ],
        },
    }
    return merged(rendered, config.envoy.raw)


# --- the process


def _admin(config: Config) -> bootstrap_v3.Admin:
    socket = config.envoy_admin_socket()
    if socket is None:
        return bootstrap_v3.Admin(address=tcp_address("127.0.0.1", config.envoy.admin.port or 0))
    # Only its owner has access, because the admin interface can stop Envoy.
    return bootstrap_v3.Admin(address=core.Address(pipe=core.Pipe(path=str(socket), mode=0o600)))


# The shares of the heap that Envoy's documentation recommends for an edge proxy.
_SHRINK_AT, _REFUSE_AT = 0.9, 0.95
_HEAP = "envoy.resource_monitors.fixed_heap"
_HEAP_TYPE = "type.googleapis.com/envoy.extensions.resource_monitors.fixed_heap.v3.FixedHeapConfig"


def _overload_manager(config: Config) -> Json:
    memory = config.envoy.memory
    if memory is None:
        return {"resource_monitors": [_connection_monitor(config)]}
    heap = {"name": _HEAP, "typed_config": {"@type": _HEAP_TYPE, "max_heap_size_bytes": str(memory)}}
    return {
        "refresh_interval": "0.25s",
        "resource_monitors": [heap, _connection_monitor(config)],
        "actions": [
            {"name": f"envoy.overload_actions.{action}", "triggers": [{"name": _HEAP, "threshold": {"value": value}}]}
            for action, value in (("shrink_heap", _SHRINK_AT), ("stop_accepting_requests", _REFUSE_AT))
        ],
    }


def _connection_monitor(config: Config) -> Json:
    return extension(
        "envoy.resource_monitors.global_downstream_max_connections",
        connections.DownstreamConnectionsConfig(max_active_downstream_connections=config.limits.connections),
    )
