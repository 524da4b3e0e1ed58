"""Renders Envoy's tracing: a span of Envoy for each request, sent to the same collector as the agent's spans.

It uses plain fields, which `envoy --mode validate` checks. Envoy's configuration contains no secrets. If the collector
needs headers, Envoy makes no span, and the agent's spans are the first of their traces.
"""

from __future__ import annotations

from typing import Any, TypeAlias
from urllib.parse import urlsplit

from ..config.schema import Config
from ..config.telemetry import OtlpConfig
from . import certificate_files

Json: TypeAlias = dict[str, Any]

CLUSTER = "otlp"
_TYPE = "type.googleapis.com/"
_CALLERS_TAGS = ("http.url", "user_agent", "peer.address", "guid:x-client-trace-id")
_EXPORT_TIMEOUT = "5s"
# By default Envoy sends five spans at a time, and the remaining ones after five seconds. With every request traced,
# half of the cost of tracing was this.
_SPANS_TOGETHER = 512
_LONGEST_WAIT_MS = 1_000


def _settings(config: Config) -> OtlpConfig | None:
    otlp = config.telemetry.otlp
    return otlp if otlp is not None and not otlp.headers else None


def tracing(config: Config) -> Json | None:
    """The tracing of the HTTP connection manager."""
    settings = _settings(config)
    if settings is None:
        return None
    tracer: Json = {
        "@type": f"{_TYPE}envoy.config.trace.v3.OpenTelemetryConfig",
        "service_name": f"{settings.service}-envoy",
    }
    if settings.protocol == "grpc":
        tracer["grpc_service"] = {"envoy_grpc": {"cluster_name": CLUSTER}, "timeout": _EXPORT_TIMEOUT}
    else:
        uri = {"uri": f"{settings.endpoint}/v1/traces", "cluster": CLUSTER, "timeout": _EXPORT_TIMEOUT}
        tracer["http_service"] = {"http_uri": uri}
    if settings.environment is not None:
        name = "envoy.tracers.opentelemetry.resource_detectors.static_config"
        detector = {
            "@type": f"{_TYPE}envoy.extensions.tracers.opentelemetry.resource_detectors.v3"
            ".StaticConfigResourceDetectorConfig",
            "attributes": {"deployment.environment.name": settings.environment},
        }
        tracer["resource_detectors"] = [{"name": name, "typed_config": detector}]
    return {
        "provider": {"name": "envoy.tracers.opentelemetry", "typed_config": tracer},
        # The share of traces that begin here. For a caller's trace, the caller decides.
        "random_sampling": {"value": settings.sampling},
        # Callers choose these values: a path can contain a name, a query a key, and an address identifies a person.
        "custom_tags": [{"tag": tag, "literal": {"value": "-"}} for tag in _CALLERS_TAGS],
        # The agent's span reports the attempts.
        "spawn_upstream_span": False,
    }


def runtime(config: Config) -> Json:
    """Envoy's runtime keys for batching spans."""
    if _settings(config) is None:
        return {}
    together = {"min_flush_spans": _SPANS_TOGETHER, "flush_interval_ms": _LONGEST_WAIT_MS}
    return {"tracing": {"opentelemetry": together}}


def cluster(config: Config) -> Json | None:
    """The cluster of the collector."""
    settings = _settings(config)
    if settings is None:
        return None
    url = urlsplit(settings.endpoint)
    tls = url.scheme == "https"
    port = url.port or (443 if tls else 4317 if settings.protocol == "grpc" else 4318)
    address = {"socket_address": {"address": url.hostname, "port_value": port}}
    result: Json = {
        "name": CLUSTER,
        "type": "STRICT_DNS",
        "connect_timeout": "2s",
        "load_assignment": {
            "cluster_name": CLUSTER,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address}}]}],
        },
    }
    if settings.protocol == "grpc":
        result["typed_extension_protocol_options"] = {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": f"{_TYPE}envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": {"http2_protocol_options": {}},
            }
        }
    if tls:
        result["transport_socket"] = _tls(url.hostname or "")
    return result


def _tls(host: str) -> Json:
    return {
        "name": "envoy.transport_sockets.tls",
        "typed_config": {
            "@type": f"{_TYPE}envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
            "sni": host,
            "auto_sni_san_validation": True,
            "common_tls_context": {
                "tls_params": {"tls_minimum_protocol_version": "TLSv1_2"},
                "validation_context": {"trusted_ca": {"filename": str(certificate_files.system_trust_store())}},
            },
        },
    }
