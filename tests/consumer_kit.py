"""An Envoy with no more than what other control planes can render around ext_proc: no gRPC metadata, no upstream
filters, no rules for mutations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

_TYPES = "type.googleapis.com/envoy.extensions"
_CLUSTER = "httproute/llm/{}/rule/0"
HTTP2 = {
    "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
        "@type": f"{_TYPES}.upstreams.http.v3.HttpProtocolOptions",
        "explicit_http_config": {"http2_protocol_options": {}},
    }
}


def cluster_of(provider: str) -> str:
    return _CLUSTER.format(provider)


def process(
    request: str, response: str, *, attribute: str = "xds.cluster_name", server: str = "policy", **more: Any
) -> dict[str, Any]:
    """One ext_proc filter with its body modes."""
    duplex = "FULL_DUPLEX_STREAMED"
    return {
        "@type": f"{_TYPES}.filters.http.ext_proc.v3.ExternalProcessor",
        "grpc_service": {"envoy_grpc": {"cluster_name": server}, "timeout": "10s"},
        "processing_mode": {
            "request_header_mode": "SEND",
            "response_header_mode": "SEND" if response != "SKIP" else "SKIP",
            "request_body_mode": request,
            "response_body_mode": response if response != "SKIP" else "NONE",
            "request_trailer_mode": "SEND" if request == duplex else "SKIP",
            "response_trailer_mode": "SEND" if response == duplex else "SKIP",
        },
        "message_timeout": "10s",
        **({"request_attributes": [attribute]} if attribute else {}),
        **more,
    }


def in_composite(filter_: dict[str, Any]) -> dict[str, Any]:
    """As kgateway renders ext_proc: a filter that a matcher runs, unless metadata say no."""
    action = {"name": "envoy.filters.http.ext_proc", "typed_config": filter_}
    disabled = "dev.kgateway.disable_ext_proc"
    types = f"{_TYPES}.matching"
    return {
        "@type": f"{_TYPES}.common.matching.v3.ExtensionWithMatcher",
        "extension_config": {
            "name": "composite_ext_proc",
            "typed_config": {"@type": f"{_TYPES}.filters.http.composite.v3.Composite"},
        },
        "xds_matcher": {
            "matcher_list": {
                "matchers": [
                    {
                        "predicate": {
                            "single_predicate": {
                                "input": {
                                    "name": "disable",
                                    "typed_config": {
                                        "@type": f"{types}.common_inputs.network.v3.DynamicMetadataInput",
                                        "filter": disabled,
                                        "path": [{"key": "disable"}],
                                    },
                                },
                                "custom_match": {
                                    "name": "envoy.matching.matchers.metadata_matcher",
                                    "typed_config": {
                                        "@type": f"{types}.input_matchers.metadata.v3.Metadata",
                                        "value": {"bool_match": True},
                                        "invert": True,
                                    },
                                },
                            }
                        },
                        "on_match": {
                            "action": {
                                "name": "composite-action",
                                "typed_config": {
                                    "@type": f"{_TYPES}.filters.http.composite.v3.ExecuteFilterAction",
                                    "typed_config": action,
                                },
                            }
                        },
                    }
                ]
            }
        },
    }


def route(provider: str, path: str = "/", **headers: str) -> dict[str, Any]:
    matched = [{"name": name.replace("_", "-"), "string_match": {"exact": value}} for name, value in headers.items()]
    return {
        "name": f"{cluster_of(provider)}/match/0/*",
        "match": {"prefix": path, **({"headers": matched} if matched else {})},
        "route": {"cluster": cluster_of(provider), "timeout": "0s"},
        # The default rules of ext_proc do not let a server remove it.
        "request_headers_to_remove": ["x-envoy-external-address"],
    }


def listener(name: str, *filters: dict[str, Any], hosts: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    manager = {
        "@type": f"{_TYPES}.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": name,
        "use_remote_address": True,
        "http_filters": [
            *({"name": f"ext_proc/{n}", "typed_config": each} for n, each in enumerate(filters)),
            {
                "name": "router",
                "typed_config": {"@type": f"{_TYPES}.filters.http.router.v3.Router", "suppress_envoy_headers": True},
            },
        ],
        "route_config": {
            "virtual_hosts": [
                {"name": host, "domains": [host, f"{host}:*"], "routes": routes} for host, routes in hosts.items()
            ]
        },
    }
    return {
        "name": name,
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}},
        "filter_chains": [{"filters": [{"name": "http", "typed_config": manager}]}],
    }


def bootstrap(listeners: list[dict[str, Any]], worker: Path, clusters: dict[str, int]) -> dict[str, Any]:
    """`clusters`: name and port of each further cluster."""
    policy = cluster("policy", {"pipe": {"path": str(worker)}}, typed_extension_protocol_options=HTTP2)
    others = [
        cluster(name, {"socket_address": {"address": "127.0.0.1", "port_value": port}})
        for name, port in clusters.items()
    ]
    return {"static_resources": {"listeners": listeners, "clusters": [policy, *others]}}


def cluster(name: str, address: dict[str, Any], **more: Any) -> dict[str, Any]:
    endpoints = [{"lb_endpoints": [{"endpoint": {"address": address}}]}]
    return {
        "name": name,
        "type": "STATIC",
        "load_assignment": {"cluster_name": name, "endpoints": endpoints},
        **more,
    }
