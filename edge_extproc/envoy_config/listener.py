"""Renders Envoy's listener: its sockets and TLS, HTTP parsing, Envoy's own error replies, the access log."""

from __future__ import annotations

from typing import Any

from ..config.envoy import ANY_ADDRESS, ListenerConfig, TlsConfig
from ..config.quantities import write_size
from ..config.schema import Config
from ..model.envoy_names import AGENT, AUTHZ_DENIED, NAMESPACE, OUR_DETAILS, OWN_WORKER, SOURCE_LIMITED, WORKER
from ..proxy import envoy_versions
from . import certificate_files, direct
from . import tracing as render_tracing
from .envoy_types import (
    Json,
    cel,
    core,
    extension,
    fields,
    file_log,
    file_source,
    grpc_log,
    hcm,
    listener_v3,
    stream_log,
    tcp_address,
    tls,
    typed,
)
from .filters import authorization, guard_state, router_filter, router_level, source_limit
from .headers import request_id, request_id_added, strip_internal_headers
from .routes import routes

# Flow-control windows for callers. Envoy recommends 64 KiB and 1 MiB for an edge proxy. With these values a long prompt
# over a slow connection is four times faster.
_STREAM_WINDOW = 256 << 10
_CONNECTION_WINDOW = 1 << 20


LISTENER = "edge"
"""The name of the first listener and of its routes. The others have a number after it."""

_HTTP_INSPECTOR = "envoy.filters.listener.http_inspector"
_HTTP_INSPECTOR_TYPE = "type.googleapis.com/envoy.extensions.filters.listener.http_inspector.v3.HttpInspector"

# --- the listeners


def listeners(config: Config, *, passes_over: bool) -> list[Json]:
    """`passes_over`: whether an attempt can go to a cluster of several providers."""
    # Each is rendered as if it were the only one.
    alone = (config.model_copy(update={"listen": one}) for _, one in config.listen.listeners())
    return [_listener(one, f"{LISTENER}-{n}" if n else LISTENER, passes_over) for n, one in enumerate(alone)]


def _listener(config: Config, name: str, passes_over: bool) -> Json:
    chain: Json = {
        "filters": [
            {
                "name": "envoy.filters.network.http_connection_manager",
                "typed_config": _connection_manager(config, name, passes_over),
            }
        ]
    }
    socket = _listener_tls(config)
    if socket is not None:
        chain["transport_socket"] = socket
        # The time limit of the headers begins with a request, so it does not bound the handshake.
        chain |= fields(listener_v3.FilterChain(transport_socket_connect_timeout=config.timeouts.receive_headers))
    first_byte: Json = {}
    if socket is None:
        # A plain connection has no handshake. This filter waits for the first line of a request, with a time limit.
        first_byte = fields(listener_v3.Listener(listener_filters_timeout=config.timeouts.receive_headers))
        first_byte["listener_filters"] = [{"name": _HTTP_INSPECTOR, "typed_config": {"@type": _HTTP_INSPECTOR_TYPE}}]
    return {
        **first_byte,
        **fields(
            listener_v3.Listener(
                name=name,
                address=_address(config.listen),
                # Responses that Envoy passes on without ext_proc buffering. The route has a larger limit.
                per_connection_buffer_limit_bytes=config.limits.response_body,
            )
        ),
        "filter_chains": [chain],
    }


def _address(listen: ListenerConfig) -> core.Address:
    if listen.address != ANY_ADDRESS:
        return tcp_address(listen.address, listen.port)
    # Envoy's own default is IPv6 alone.
    both = core.SocketAddress(address=listen.address, port_value=listen.port, ipv4_compat=True)
    return core.Address(socket_address=both)


def _listener_tls(config: Config) -> Json | None:
    settings = config.listen.tls
    if settings is None:
        return None
    if settings.certificate is not None and settings.private_key is not None:
        chain, key = settings.certificate, settings.private_key
    else:
        own = certificate_files.files(config.agent.state_dir)
        chain, key = own.certificate, own.private_key
    return extension(
        "envoy.transport_sockets.tls",
        tls.DownstreamTlsContext(
            common_tls_context=tls.CommonTlsContext(
                alpn_protocols=["h2", "http/1.1"],
                tls_params=tls.TlsParameters(
                    tls_minimum_protocol_version=tls.TlsParametersTlsProtocol.TLSv1_2,
                ),
                tls_certificates=[
                    tls.TlsCertificate(certificate_chain=file_source(chain), private_key=file_source(key))
                ],
                validation_context=_client_authorities(settings),
            ),
            require_client_certificate=True if settings.client_certificate == "required" else None,
        ),
    )


def _client_authorities(settings: TlsConfig) -> tls.CertificateValidationContext | None:
    """A client certificate of any other authority ends the handshake."""
    if settings.client_ca is None:
        return None
    return tls.CertificateValidationContext(trusted_ca=file_source(settings.client_ca))


def _connection_manager(config: Config, name: str, passes_over: bool) -> Json:
    limits, timeouts = config.limits, config.timeouts
    tracing = render_tracing.tracing(config)
    return typed(
        hcm.HttpConnectionManager(
            # AUTO accepts HTTP/1.1, HTTP/2 by ALPN, and HTTP/2 without TLS by its preface.
            codec_type=hcm.HttpConnectionManagerCodecType.AUTO,
            stat_prefix="edge",
            server_name="edge",
            server_header_transformation=hcm.HttpConnectionManagerServerHeaderTransformation.OVERWRITE,
            # Envoy is the edge proxy: it does not trust a caller's statements about its address or about retries.
            use_remote_address=True,
            **_client_certificate(config),
            # No address: Envoy treats an empty list as all private networks, so the list has one unused address.
            internal_address_config=hcm.HttpConnectionManagerInternalAddressConfig(
                cidr_ranges=[core.CidrRange(address_prefix="255.255.255.255", prefix_len=32)]
            ),
            normalize_path=True,
            merge_slashes=True,
            # A model name in a path may contain a slash, as %2F. There is one route, and the agent matches whole
            # segments, so no rule can be bypassed by another spelling.
            path_with_escaped_slashes_action=(hcm.HttpConnectionManagerPathWithEscapedSlashesAction.KEEP_UNCHANGED),
            common_http_protocol_options=core.HttpProtocolOptions(
                idle_timeout=timeouts.client_idle,
                max_headers_count=limits.request_header_count,
                # No API has headers with underscores, and some servers confuse them with those with hyphens.
                headers_with_underscores_action=core.HttpProtocolOptionsHeadersWithUnderscoresAction.DROP_HEADER,
            ),
            # Old proxies and load testers use HTTP/1.0. They may omit the host, which no route needs.
            http_protocol_options=core.Http1ProtocolOptions(accept_http_10=True, default_host_for_http_10="gateway"),
            http2_protocol_options=core.Http2ProtocolOptions(
                max_concurrent_streams=limits.streams_per_connection,
                initial_stream_window_size=_STREAM_WINDOW,
                initial_connection_window_size=_CONNECTION_WINDOW,
            ),
            max_request_headers_kb=-(-limits.request_headers // 1024),
            request_headers_timeout=timeouts.receive_headers,
            request_timeout=timeouts.receive,
            stream_idle_timeout=timeouts.stream_idle,
        ),
        early_header_mutation_extensions=[strip_internal_headers(config)],
        local_reply_config={"mappers": _local_replies(config)},
        access_log=[*_access_log(config), *_reports_of_ends(config)],
        route_config=routes(config, name),
        http_filters=[
            request_id(),
            *direct.filters(config),
            *source_limit(config),
            *authorization(config),
            router_level(config),
            *guard_state(config),
            router_filter(config, passes_over),
        ],
        **({"tracing": tracing} if tracing is not None else {}),
    )


def _client_certificate(config: Config) -> dict[str, Any]:
    """Sends the verified certificate's identity to the agent in x-forwarded-client-cert. Envoy removes the caller's own
    header of this name, with or without a certificate."""
    if config.listen.tls is None or config.listen.tls.client_ca is None:
        return {}
    return {
        "forward_client_cert_details": hcm.HttpConnectionManagerForwardClientCertDetails.SANITIZE_SET,
        "set_current_client_cert_details": hcm.HttpConnectionManagerSetCurrentClientCertDetails(subject=True, uri=True),
    }


# --- Envoy's own replies


def _local_replies(config: Config) -> list[Json]:
    """Envoy's own errors in a form that the SDKs of OpenAI and Anthropic read. The agent's replies are also local
    replies; they are recognized by their details and not changed. Invalid HTTP and too large headers get no reply: with
    ext_proc in the chain, Envoy 1.40 closes the connection before the reply is sent."""
    # Condition; type and code for the caller; message. The first match is used.
    replies = (
        (
            "response.code_details.startsWith('ext_proc')"
            + (" || response.code_details == 'ext_authz_error'" if config.auth.trust_ext_authz else ""),
            ("overloaded_error", "policy_unavailable", "the gateway's policy server does not answer; try again"),
        ),
        *(
            [
                (
                    f"response.code_details == '{SOURCE_LIMITED}'",
                    ("rate_limit_error", "rate_limit_exceeded", "too many requests come from this address; try again"),
                )
            ]
            if config.envoy.source_limit is not None
            else []
        ),
        *direct.replies(config),
        (
            "response.code_details == 'overload'",
            ("overloaded_error", "overloaded", "the gateway has no memory left for this request; try again"),
        ),
        (
            "response.code == 413",
            (
                "invalid_request_error",
                "request_too_large",
                f"the request body is over the limit of {write_size(config.limits.request_body)} (limits.request_body)",
            ),
        ),
        (
            "response.code == 408",
            ("timeout_error", "request_timeout", "the request did not arrive in time"),
        ),
        (
            "response.code_details == 'response_payload_too_large'",
            (
                "api_error",
                "response_too_large",
                f"the provider's reply is over the limit of {write_size(config.limits.response_body)} "
                "(limits.response_body)",
            ),
        ),
        (
            # Also after its headers, where they still wait for the agent.
            "response.code >= 500 && response.code_details.startsWith('upstream_reset')",
            ("api_error", "provider_unreachable", "the provider could not be reached, or closed the connection"),
        ),
        (
            "response.code_details == 'upgrade_failed'",
            (
                "invalid_request_error",
                "upgrade_not_supported",
                (
                    "this path has no WebSockets here; send the request without Upgrade"
                    if config.has_sockets
                    else "this gateway does not support WebSockets; send the request without Upgrade"
                ),
            ),
        ),
        ("response.code < 500", ("invalid_request_error", "bad_request", "the gateway cannot read this request")),
        ("response.code == 504", ("timeout_error", "provider_timeout", "the provider did not answer in time")),
        ("response.code >= 500", ("api_error", "gateway_error", "the gateway could not pass this request on")),
    )
    return [_local_reply(config, condition, *words) for condition, words in replies]


# Envoy's own status differs: 500 for a response over the limit, 403 for a WebSocket, 503 for a preflight request.
_STATUS = {"response_too_large": 502, "upgrade_not_supported": 426, "origin_not_allowed": 403}


def _local_reply(config: Config, condition: str, kind: str, code: str, message: str) -> Json:
    ours = f"response.code_details.startsWith('{OUR_DETAILS}')"
    if config.auth.trust_ext_authz:
        ours, condition = f"({ours} || response.code_details == '{AUTHZ_DENIED}')", f"({condition})"
    expression = f"response.code >= 400 && !{ours} && {condition}"
    error = {"message": message, "type": kind, "param": None, "code": code}
    return {
        "filter": {
            "extension_filter": extension(
                "envoy.access_loggers.extension_filters.cel", cel.ExpressionFilter(expression=expression)
            )
        },
        **({"status_code": _STATUS[code]} if code in _STATUS else {}),
        "headers_to_add": request_id_added(),
        "body_format_override": {
            "content_type": "application/json",
            "json_format": {"type": "error", "error": error},
        },
    }


# --- the access log

# The access log has no paths, queries, headers or bodies, whose content callers choose. It has only the network of the
# caller's address. `edge` has the values from the agent: tenant, key, route, model, provider, tokens, cost, cache,
# outcome.
_LOGGED = {
    "time": "%START_TIME%",
    "request_id": "%REQ(X-REQUEST-ID)%",
    "trace_id": "%TRACE_ID%",
    "method": "%REQ(:METHOD)%",
    "protocol": "%PROTOCOL%",
    "client": "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT(24)%",
    "status": "%RESPONSE_CODE%",
    "flags": "%RESPONSE_FLAGS%",
    "details": "%RESPONSE_CODE_DETAILS%",
    "cluster": "%UPSTREAM_CLUSTER%",
    "attempts": "%UPSTREAM_REQUEST_ATTEMPT_COUNT%",
    "bytes_received": "%BYTES_RECEIVED%",
    "bytes_sent": "%BYTES_SENT%",
    "duration_ms": "%DURATION%",
    "first_byte_ms": "%RESPONSE_DURATION%",
    "edge": f"%DYNAMIC_METADATA({NAMESPACE})%",
}


# The flags of a response that has ended early: the provider's connection was reset, closed, or broke HTTP's rules; the
# caller has left.
_ENDED_EARLY = ["UR", "UC", "UPE", "DC", "DR"]


def _reports_of_ends(config: Config) -> list[Json]:
    """An entry for each exchange that has ended early, to the worker that holds it (server/stream_ends.py). It goes to
    the worker's address, as the streams of attempts do, and thus over the same connection. It is not buffered, so it
    is sent before Envoy closes the ext_proc stream of the exchange."""
    addresses = config.agent.envoys_addresses() if config.reports_ends else None
    return [_report_of_ends(address) for address in addresses or ()]


def _report_of_ends(worker: str) -> Json:
    log = extension(
        "envoy.access_loggers.http_grpc",
        grpc_log.HttpGrpcAccessLogConfig(
            common_config=grpc_log.CommonGrpcAccessLogConfig(
                log_name=worker,  # Envoy has one stream for each name
                grpc_service=core.GrpcService(
                    envoy_grpc=core.GrpcServiceEnvoyGrpc(cluster_name=AGENT),
                    initial_metadata=[core.HeaderValue(key=WORKER, value=worker)],
                ),
                transport_api_version=core.ApiVersion.V3,
                buffer_size_bytes=0,
            )
        ),
    )
    own = {
        "filter": NAMESPACE,
        "path": [{"key": OWN_WORKER}],
        "value": {"string_match": {"exact": worker}},
    }
    conditions = [
        {"response_flag_filter": {"flags": _ENDED_EARLY}},
        {"metadata_filter": {"matcher": own, "match_if_key_not_found": False}},
    ]
    return {**log, "filter": {"and_filter": {"filters": conditions}}}


def _access_log(config: Config) -> list[Json]:
    settings = config.envoy.access_log
    without = () if envoy_versions.can(config, "masked_address") else ("client",)
    log_format = {"json_format": {name: command for name, command in _LOGGED.items() if name not in without}}
    match settings:
        case "off":
            return []
        case "stdout":
            log = extension("envoy.access_loggers.stdout", stream_log.StdoutAccessLog(), log_format=log_format)
        case path:
            log = extension("envoy.access_loggers.file", file_log.FileAccessLog(path=path), log_format=log_format)
    return [{**log, "filter": {"not_health_check_filter": {}}}]
