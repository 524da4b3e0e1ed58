"""What Envoy is told of tracing: its own span of each request, sent to the same collector as ours.

As plain fields, for render_envoy.py; `envoy --mode validate` reads them. Envoy's configuration holds no secret, so
where the collector wants headers, Envoy makes no span, and ours are the first of their trace.
"""

from __future__ import annotations

from typing import Any, TypeAlias
from urllib.parse import urlsplit

from ..config.schema import Config
from ..config.telemetry import OtlpConfig
from . import certificate

Json: TypeAlias = dict[str, Any]

CLUSTER = "otlp"
_TYPE = "type.googleapis.com/"
_CALLERS_TAGS = ("http.url", "user_agent", "peer.address", "guid:x-client-trace-id")
_EXPORT_TIMEOUT = "5s"
# Unasked, Envoy sends each five spans by themselves, and what is left after five seconds: with every request traced,
# half of what tracing cost it went there.
_SPANS_TOGETHER = 512
_LONGEST_WAIT_MS = 1_000


def _wanted(config: Config) -> OtlpConfig | None:
    wanted = config.telemetry.otlp
    return wanted if wanted is not None and not wanted.headers else None


def tracing(config: Config) -> Json | None:
    """For the HTTP connection manager."""
    wanted = _wanted(config)
    if wanted is None:
        return None
    tracer: Json = {
        "@type": f"{_TYPE}envoy.config.trace.v3.OpenTelemetryConfig",
        "service_name": f"{wanted.service}-envoy",
    }
    if wanted.protocol == "grpc":
        tracer["grpc_service"] = {"envoy_grpc": {"cluster_name": CLUSTER}, "timeout": _EXPORT_TIMEOUT}
    else:
        uri = {"uri": f"{wanted.endpoint}/v1/traces", "cluster": CLUSTER, "timeout": _EXPORT_TIMEOUT}
        tracer["http_service"] = {"http_uri": uri}
    if wanted.environment is not None:
        name = "envoy.tracers.opentelemetry.resource_detectors.static_config"
        detector = {
            "@type": f"{_TYPE}envoy.extensions.tracers.opentelemetry.resource_detectors.v3"
            ".StaticConfigResourceDetectorConfig",
            "attributes": {"deployment.environment.name": wanted.environment},
        }
        tracer["resource_detectors"] = [{"name": name, "typed_config": detector}]
    return {
        "provider": {"name": "envoy.tracers.opentelemetry", "typed_config": tracer},
        # Of traces that begin here; one that a caller began is followed as the caller says.
        "random_sampling": {"value": wanted.sampling},
        # A caller fills these: a path may hold a name, its query a key, an address tells who it is.
        "custom_tags": [{"tag": tag, "literal": {"value": "-"}} for tag in _CALLERS_TAGS],
        # Our own span tells of the tries.
        "spawn_upstream_span": False,
    }


def runtime(config: Config) -> Json:
    """Envoy's runtime keys: how spans are put together on their way out."""
    if _wanted(config) is None:
        return {}
    together = {"min_flush_spans": _SPANS_TOGETHER, "flush_interval_ms": _LONGEST_WAIT_MS}
    return {"tracing": {"opentelemetry": together}}


def cluster(config: Config) -> Json | None:
    """Of the collector."""
    wanted = _wanted(config)
    if wanted is None:
        return None
    url = urlsplit(wanted.endpoint)
    tls = url.scheme == "https"
    port = url.port or (443 if tls else 4317 if wanted.protocol == "grpc" else 4318)
    address = {"socket_address": {"address": url.hostname, "port_value": port}}
    found: Json = {
        "name": CLUSTER,
        "type": "STRICT_DNS",
        "connect_timeout": "2s",
        "load_assignment": {
            "cluster_name": CLUSTER,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address}}]}],
        },
    }
    if wanted.protocol == "grpc":
        found["typed_extension_protocol_options"] = {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": f"{_TYPE}envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": {"http2_protocol_options": {}},
            }
        }
    if tls:
        found["transport_socket"] = _tls(url.hostname or "")
    return found


def _tls(host: str) -> Json:
    return {
        "name": "envoy.transport_sockets.tls",
        "typed_config": {
            "@type": f"{_TYPE}envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
            "sni": host,
            "auto_sni_san_validation": True,
            "common_tls_context": {
                "tls_params": {"tls_minimum_protocol_version": "TLSv1_2"},
                "validation_context": {"trusted_ca": {"filename": str(certificate.system_trust_store())}},
            },
        },
    }
