"""The bootstrap of Envoy for a configuration: one function a resource, made of typed objects where types exist.

envoy-data-plane knows Envoy up to 1.38, so a typo fails here; what is newer is merged in as plain fields, where
`newer` says so. Importing it takes half a second and 50 MiB: only the command line and tests do, never a worker.

The way of a request: listener → router-level ext_proc, one stream each → Router, which takes the order of providers
from dynamic metadata and tries them one after the other → from the second try on upstream-level ext_proc, which
writes the request anew for the provider that is tried.
"""

from __future__ import annotations

import ipaddress
import re
import warnings
from collections.abc import Iterable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeAlias

from . import certificate, envoy_versions, render_tracing
from .agent import MutualTls
from .envoy import Tls
from .names import AGAIN, ANSWERED_BY, CLUSTER, NO_RETRY, ONCE, ROUTE, chain_name, cluster_name, pair_name
from .provider import Endpoint, Pool, Provider
from .quantities import MAX_MESSAGE_TIMEOUT, write_size
from .schema import Config

with warnings.catch_warnings():
    # envoy-data-plane 2.2 writes validators in a way that pydantic deprecates.
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
    from envoy_data_plane.envoy.extensions.filters.http.ext_authz import v3 as ext_authz
    from envoy_data_plane.envoy.extensions.filters.http.ext_proc import v3 as ext_proc
    from envoy_data_plane.envoy.extensions.filters.http.header_mutation import v3 as header_mutation
    from envoy_data_plane.envoy.extensions.filters.http.local_ratelimit import v3 as local_ratelimit
    from envoy_data_plane.envoy.extensions.filters.http.router import v3 as router
    from envoy_data_plane.envoy.extensions.filters.http.upstream_codec import v3 as upstream_codec
    from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager import v3 as hcm
    from envoy_data_plane.envoy.extensions.http.early_header_mutation.header_mutation import v3 as early_mutation
    from envoy_data_plane.envoy.extensions.resource_monitors.downstream_connections import v3 as connections
    from envoy_data_plane.envoy.extensions.transport_sockets.tls import v3 as tls
    from envoy_data_plane.envoy.extensions.upstreams.http import v3 as upstreams
    from envoy_data_plane.envoy.type import v3 as type_v3
    from envoy_data_plane.envoy.type.matcher import v3 as matcher
    from envoy_data_plane.message_pool import default_message_pool

Json: TypeAlias = dict[str, Any]

ROUTE_NAME = "llm"
"""Of the route of a request; the manners of trying again have their names behind it."""
AGENT = "agent"
"""The cluster of the workers."""
NAMESPACE = "edge"
"""Dynamic metadata of ours: `exchange`, `content_length`, and what the access log shows."""
ROUTE_NAMESPACE = "edge.route"
"""Dynamic metadata in which the router level says which clusters are tried, and in what order."""
ROLE = "x-edge-role"
"""gRPC metadata that tells the agent which of the filters calls: router, upstream or guard."""
AFFINITY = "x-edge-affinity"
"""gRPC metadata by which Envoy brings all streams of a request to one worker."""
AUTHZ_DENIED = "ext_authz_denied"
"""The details of a refusal that the agent told by ext_authz; that it could not be asked is ext_authz_error."""
SOURCE_LIMITED = "local_rate_limited"
"""The details of a refusal by `envoy.source_limit`."""
OUR_DETAILS = "edge_"
"""How the response code details of a reply begin that the agent itself made."""

AUTHZ_NAMESPACE = "envoy.filters.http.ext_authz"
"""Where the ext_authz filter puts what its service tells; no other filter writes there."""

CONTENT_LENGTH = "content_length"
TRACEPARENT = "traceparent"
GUARD = "guard"
ATTEMPT_COUNT = "x-envoy-attempt-count"
# Only Envoy and we write these; what a caller sends under such a name could steer retries, timeouts or us.
INTERNAL_PREFIXES = ("x-edge-", "x-envoy-")
# What callers may say to us by such a name; nothing of it decides where a call goes or who is calling.
CALLERS_HEADERS = ("x-edge-cache-ttl", NO_RETRY)
# Not for a provider: where the caller is, and how Envoy counts.
NOT_UPSTREAM_PREFIXES = (*INTERNAL_PREFIXES, "x-forwarded-")

# Every open exchange is a stream of the agent's cluster, and so is every retry; Envoy's default is 1024.
_AGENT_STREAMS = 100_000
_AGENT_CONNECTIONS = 1024
# A worker that does not answer for this long is given no new streams.
_HEALTH_TIMEOUT = timedelta(seconds=1)
_HEALTH_INTERVAL = timedelta(seconds=2)
_AGENT_DNS_REFRESH = timedelta(seconds=5)
# Flow control windows for callers: Envoy's advice for an edge is 64 KiB and 1 MiB; a long prompt over a slow way back
# is four times faster with these.
_STREAM_WINDOW = 256 << 10
_CONNECTION_WINDOW = 1 << 20
_TCP_PROBES = 3
_REGEX_SIZE = 32768
_TCP_PROBE_INTERVAL = 10
_HTTP2_PING = timedelta(seconds=30)
_HTTP2_PING_TIMEOUT = timedelta(seconds=5)


def render(config: Config, version: str | None = None) -> Json:
    """The bootstrap for one version of Envoy, that of the configuration where none is given. Makes the certificate that
    it names, if that is to be generated. Raises ConfigError."""
    config = envoy_versions.at_version(config, version)
    if config.listen.tls is not None and config.listen.tls.generate:
        certificate.ensure(config.agent.state_dir, names=(*certificate.NAMES, config.listen.address))
    return bootstrap(config)


def bootstrap(config: Config) -> Json:
    """Raises ConfigError where the system has no trust store, and where this version of Envoy cannot do what is
    wanted."""
    envoy_versions.check(config)
    collector = render_tracing.cluster(config)
    process = bootstrap_v3.Bootstrap(node=core.Node(id="edge", cluster="edge"), admin=_admin(config))
    rendered = {
        **fields(process),
        # Of a regular expression; Envoy's default of 100 is for those of strangers. Istio's proxies have the same.
        "layered_runtime": {
            "layers": [
                {"name": "edge", "static_layer": {"re2": {"max_program_size": {"error_level": _REGEX_SIZE}}}},
                {"name": "admin", "admin_layer": {}},
            ]
        },
        "overload_manager": {"resource_monitors": [_connection_monitor(config)]},
        "static_resources": {
            "listeners": [_listener(config)],
            "clusters": [
                agent_cluster(config),
                *(_provider_cluster(config, name, provider) for name, provider in config.providers.items()),
                *([collector] if collector is not None else []),
                *(_composite_cluster(config, pair_name(*pair), pair) for pair in _hedged_pairs(config)),
                *_chain_clusters(config),
            ],
        },
    }
    return merged(rendered, config.envoy.raw)


# --- typed objects and plain fields


def fields(message: betterproto2.Message) -> Json:
    found: Json = message.to_dict(casing=betterproto2.Casing.SNAKE)
    return found


def typed(message: betterproto2.Message, **newer: Any) -> Json:
    """As a google.protobuf.Any is written in JSON."""
    url = default_message_pool.type_to_url[type(message)]
    return {"@type": url, **fields(message), **newer}


def extension(name: str, message: betterproto2.Message, **newer: Any) -> Json:
    return {"name": name, "typed_config": typed(message, **newer)}


def merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> Json:
    """Objects key by key, lists of things with a name by name, all else replaced."""
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


# --- the process


def _admin(config: Config) -> bootstrap_v3.Admin:
    socket = config.envoy_admin_socket()
    if socket is None:
        return bootstrap_v3.Admin(address=_tcp("127.0.0.1", config.envoy.admin.port or 0))
    # Its owner alone: whoever reaches it may stop Envoy.
    return bootstrap_v3.Admin(address=core.Address(pipe=core.Pipe(path=str(socket), mode=0o600)))


def _connection_monitor(config: Config) -> Json:
    return extension(
        "envoy.resource_monitors.global_downstream_max_connections",
        connections.DownstreamConnectionsConfig(max_active_downstream_connections=config.limits.connections),
    )


def _tcp(address: str, port: int) -> core.Address:
    return core.Address(socket_address=core.SocketAddress(address=address, port_value=port))


# --- the door


def _listener(config: Config) -> Json:
    chain: Json = {
        "filters": [
            {"name": "envoy.filters.network.http_connection_manager", "typed_config": _connection_manager(config)}
        ]
    }
    socket = _listener_tls(config)
    if socket is not None:
        chain["transport_socket"] = socket
    return {
        **fields(
            listener_v3.Listener(
                name="edge",
                address=_tcp(config.listen.address, config.listen.port),
                # The one bound of a reply that the agent wants whole; the route states that of a request.
                per_connection_buffer_limit_bytes=config.limits.response_body,
            )
        ),
        "filter_chains": [chain],
    }


def _listener_tls(config: Config) -> Json | None:
    wanted = config.listen.tls
    if wanted is None:
        return None
    if wanted.certificate is not None and wanted.private_key is not None:
        chain, key = wanted.certificate, wanted.private_key
    else:
        own = certificate.files(config.agent.state_dir)
        chain, key = own.certificate, own.private_key
    return extension(
        "envoy.transport_sockets.tls",
        tls.DownstreamTlsContext(
            common_tls_context=tls.CommonTlsContext(
                alpn_protocols=["h2", "http/1.1"],
                tls_params=tls.TlsParameters(
                    tls_minimum_protocol_version=tls.TlsParametersTlsProtocol.TLSv1_2,
                ),
                tls_certificates=[tls.TlsCertificate(certificate_chain=_file(chain), private_key=_file(key))],
                validation_context=_client_authorities(wanted),
            ),
            require_client_certificate=True if wanted.client_certificate == "required" else None,
        ),
    )


def _client_authorities(wanted: Tls) -> tls.CertificateValidationContext | None:
    """A certificate that none of them has signed ends the handshake."""
    if wanted.client_ca is None:
        return None
    return tls.CertificateValidationContext(trusted_ca=_file(wanted.client_ca))


def _file(path: Path) -> core.DataSource:
    return core.DataSource(filename=str(path))


def _connection_manager(config: Config) -> Json:
    limits, timeouts = config.limits, config.timeouts
    tracing = render_tracing.tracing(config)
    return typed(
        hcm.HttpConnectionManager(
            # AUTO takes HTTP/1.1, HTTP/2 by ALPN, and HTTP/2 without TLS by its preface.
            codec_type=hcm.HttpConnectionManagerCodecType.AUTO,
            stat_prefix="edge",
            server_name="edge",
            server_header_transformation=hcm.HttpConnectionManagerServerHeaderTransformation.OVERWRITE,
            # We are the edge: what a caller says of where it comes from, or of how to retry, is not believed.
            use_remote_address=True,
            **_client_certificate(config),
            # Nobody: Envoy takes an empty list for all private networks. This address is no one's.
            internal_address_config=hcm.HttpConnectionManagerInternalAddressConfig(
                cidr_ranges=[core.CidrRange(address_prefix="255.255.255.255", prefix_len=32)]
            ),
            normalize_path=True,
            merge_slashes=True,
            # A model's name in a path may hold a slash, as %2F. There is one route, and the agent matches whole
            # segments: no rule could be passed by another spelling.
            path_with_escaped_slashes_action=(hcm.HttpConnectionManagerPathWithEscapedSlashesAction.KEEP_UNCHANGED),
            common_http_protocol_options=core.HttpProtocolOptions(
                idle_timeout=timeouts.client_idle,
                max_headers_count=limits.request_header_count,
                # No API of ours has such a header, and some servers take it for its twin with a hyphen.
                headers_with_underscores_action=core.HttpProtocolOptionsHeadersWithUnderscoresAction.DROP_HEADER,
            ),
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
        early_header_mutation_extensions=[_strip_internal_headers(config)],
        local_reply_config={"mappers": _local_replies(config)},
        access_log=_access_log(config),
        route_config=_routes(config),
        http_filters=[*_source_limit(config), *_authorization(config), _router_level(config), _router(config)],
        **({"tracing": tracing} if tracing is not None else {}),
    )


def _client_certificate(config: Config) -> dict[str, Any]:
    """What a verified certificate says goes to the agent in x-forwarded-client-cert; Envoy takes away whatever the
    caller sent under that name, with a certificate or without."""
    if config.listen.tls is None or config.listen.tls.client_ca is None:
        return {}
    return {
        "forward_client_cert_details": hcm.HttpConnectionManagerForwardClientCertDetails.SANITIZE_SET,
        "set_current_client_cert_details": hcm.HttpConnectionManagerSetCurrentClientCertDetails(subject=True, uri=True),
    }


def _strip_internal_headers(config: Config) -> Json:
    """Before anything reads them. Route-level removal would come after the retry headers were believed."""
    permitted = (*CALLERS_HEADERS, *config.routing.caller_headers(config.models))
    return extension(
        "envoy.http.early_header_mutation.header_mutation",
        early_mutation.HeaderMutation(mutations=[_remove(_all_but(prefix, permitted)) for prefix in INTERNAL_PREFIXES]),
    )


def _all_but(prefix: str, names: Iterable[str]) -> matcher.StringMatcher:
    """What begins with `prefix` and is none of `names`. Envoy's regular expressions cannot look ahead, so the names
    are spelled out as what each next character is not."""
    rest = frozenset(name.removeprefix(prefix) for name in names if name.startswith(prefix))
    if not rest:
        return matcher.StringMatcher(prefix=prefix, ignore_case=True)
    return matcher.StringMatcher(safe_regex=matcher.RegexMatcher(regex="(?i)" + prefix + _none_of(rest)))


def _none_of(words: frozenset[str]) -> str:
    """A regular expression of all texts but these."""
    firsts = sorted({word[0] for word in words if word})
    if not firsts:
        return ".+" if "" in words else ".*"
    others = [re.escape(c) + _none_of(frozenset(w[1:] for w in words if w.startswith(c))) for c in firsts]
    classed = "".join(re.escape(c) for c in firsts)
    return f"(?:[^{classed}].*|{'|'.join(others)})" + ("" if "" in words else "?")


def _remove(names: matcher.StringMatcher) -> mutation_v3.HeaderMutation:
    return mutation_v3.HeaderMutation(remove_on_match=mutation_v3.HeaderMutationRemoveOnMatch(key_matcher=names))


# --- Envoy's own replies


def _local_replies(config: Config) -> list[Json]:
    """Envoy's own errors as a caller's SDK reads them, both OpenAI's and Anthropic's. The agent's replies are local
    ones too: they are left alone, and known by their details. What is no HTTP at all, or has too large headers, gets no
    answer: with ext_proc in the chain, Envoy 1.40 closes the connection before the reply has passed."""
    # Condition; type and code for the caller; message. The first that fits counts.
    told = (
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
        (
            "response.code == 413",
            (
                "invalid_request_error",
                "request_too_large",
                f"the request body is over the limit of {write_size(config.limits.request_body)}",
            ),
        ),
        (
            "response.code == 408",
            ("timeout_error", "request_timeout", "the request did not arrive in time"),
        ),
        ("response.code < 500", ("invalid_request_error", "bad_request", "this is no request that the gateway reads")),
        ("response.code == 504", ("timeout_error", "provider_timeout", "the provider did not answer in time")),
        ("response.code >= 500", ("api_error", "gateway_error", "the gateway could not pass this request on")),
    )
    return [_local_reply(config, condition, *words) for condition, words in told]


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
        "body_format_override": {
            "content_type": "application/json",
            "json_format": {"type": "error", "error": error},
        },
    }


# --- the access log

# Neither paths, queries nor headers, which a caller fills with what he likes, nor bodies. Of the caller's address the
# network alone. `edge` is what the agent told: tenant, key, route, model, provider, tokens, cost, cache, outcome.
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


def _access_log(config: Config) -> list[Json]:
    wanted = config.envoy.access_log
    without = () if envoy_versions.masks_addresses(config) else ("client",)
    log_format = {"json_format": {name: told for name, told in _LOGGED.items() if name not in without}}
    match wanted:
        case "off":
            return []
        case "stdout":
            return [extension("envoy.access_loggers.stdout", stream_log.StdoutAccessLog(), log_format=log_format)]
        case path:
            return [extension("envoy.access_loggers.file", file_log.FileAccessLog(path=path), log_format=log_format)]


# --- the routes


def _routes(config: Config) -> Json:
    """One way, in three manners: the agent names one in a header when it has planned a request."""
    return {
        # One group of the order names a cluster that does not exist, and is meant to.
        **fields(route_v3.RouteConfiguration(name="edge", validate_clusters=False)),
        "virtual_hosts": [
            {
                # The count tells the upstream level's matcher which try this is; the filter behind it takes it away.
                **fields(route_v3.VirtualHost(name="llm", domains=["*"], include_request_attempt_count=True)),
                "routes": [
                    _route(config, ONCE, _once(config)),
                    _route(config, AGAIN, _again(config)),
                    _route(config, None, _next(config)),
                ],
            }
        ],
    }


def _route(config: Config, manner: str | None, retry: Json) -> Json:
    wanted = [
        route_v3.HeaderMatcher(name=ROUTE, string_match=matcher.StringMatcher(exact=exact))
        for exact in ([manner] if manner is not None else [])
    ]
    return {
        **fields(
            route_v3.Route(
                name=ROUTE_NAME if manner is None else f"{ROUTE_NAME}-{manner}",
                match=route_v3.RouteMatch(prefix="/", headers=wanted),
                # Of what is held for ext_proc and for retries.
                request_body_buffer_limit=config.limits.request_body,
            )
        ),
        "route": _route_action(config, retry),
    }


# --- how a request is tried again; how often, the agent says for each


def _next(config: Config) -> Json:
    """By the next provider of the order. A Retry-After is the last one's affair, and not waited for."""
    return fields(_retry_policy(config))


def _again(config: Config) -> Json:
    """By the same provider, there being no other: not before it permits."""
    policy = _retry_policy(config)
    policy.rate_limited_retry_back_off = route_v3.RetryPolicyRateLimitedRetryBackOff(
        reset_headers=[
            route_v3.RetryPolicyResetHeader(name="retry-after", format=route_v3.RetryPolicyResetHeaderFormat.SECONDS)
        ],
        max_interval=config.retries.retry_after,
    )
    return fields(policy)


def _once(config: Config) -> Json:
    """A call that must not be sent twice: only where it cannot have been sent at all."""
    policy = _retry_policy(config)
    policy.retry_on = "connect-failure,refused-stream"
    policy.retriable_status_codes = []
    return fields(policy)


def _retry_policy(config: Config) -> route_v3.RetryPolicy:
    retries = config.retries
    return route_v3.RetryPolicy(
        retry_on="5xx,reset,connect-failure,refused-stream,retriable-status-codes",
        retriable_status_codes=list(retries.on_status),
        num_retries=retries.attempts - 1,
        # Ends when response headers go to the caller, so it does not cut a stream.
        per_try_timeout=config.timeouts.first_byte,
        retry_back_off=route_v3.RetryPolicyRetryBackOff(
            base_interval=retries.back_off.base, max_interval=retries.back_off.max
        ),
        # Each try takes the next group of the order.
        refresh_cluster_on_retry=envoy_versions.order_of(config) == "told",
    )


def _next_priority(config: Config) -> Json:
    """Of an aggregate cluster, each provider is a priority."""
    if envoy_versions.order_of(config) != "aggregate":
        return {}
    kind = "type.googleapis.com/envoy.extensions.retry.priority.previous_priorities.v3.PreviousPrioritiesConfig"
    chosen = {"@type": kind, "update_frequency": 1}
    return {"retry_priority": {"name": "envoy.retry_priorities.previous_priorities", "typed_config": chosen}}


def _route_action(config: Config, retry: Json) -> Json:
    return {
        **fields(
            route_v3.RouteAction(
                # Envoy's default of 15 s cuts streams.
                timeout=config.timeouts.request,
                idle_timeout=config.timeouts.stream_idle,
                auto_host_rewrite=True,
            )
        ),
        "retry_policy": {**retry, **_next_priority(config)},
        **_cluster_choice(config),
    }


def _cluster_choice(config: Config) -> Json:
    """What the agent did not route goes nowhere."""
    if envoy_versions.order_of(config) != "told":
        return {"cluster_header": CLUSTER}
    return {
        "inline_cluster_specifier_plugin": {
            # 1.40; no type of envoy-data-plane yet.
            "extension": {
                "name": "envoy.router.cluster_specifier_plugin.priority_group",
                "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.router.cluster_specifiers.priority_group.v3."
                    "PriorityGroupClusterSpecifier",
                    "override_metadata_namespace": ROUTE_NAMESPACE,
                    # There is no such cluster.
                    "priority_groups": [{"name": "none", "clusters": [{"cluster_name": "none", "weight": 1}]}],
                },
            }
        },
    }


# --- how much one address may send, before anything is asked


def _source_limit(config: Config) -> list[Json]:
    wanted = config.envoy.source_limit
    if wanted is None:
        return []
    always = core.RuntimeFractionalPercent(default_value=type_v3.FractionalPercent(numerator=100))
    return [
        extension(
            "envoy.filters.http.local_ratelimit",
            local_ratelimit.LocalRateLimit(
                stat_prefix="source_limit",
                filter_enabled=always,
                filter_enforced=always,
                # Of requests without an address, of which there are none.
                token_bucket=_bucket(_UNBOUNDED, _UNBOUNDED),
                rate_limits=[
                    route_v3.RateLimit(
                        actions=[
                            route_v3.RateLimitAction(
                                masked_remote_address=route_v3.RateLimitActionMaskedRemoteAddress(
                                    v4_prefix_mask_len=32, v6_prefix_mask_len=64
                                )
                            )
                        ]
                    )
                ],
                descriptors=[
                    ratelimit.LocalRateLimitDescriptor(
                        # Without a value it stands for each address, with a bucket of its own.
                        entries=[ratelimit.RateLimitDescriptorEntry(key="masked_remote_address")],
                        token_bucket=_bucket(wanted.bucket, wanted.requests_per_second),
                    )
                ],
                always_consume_default_token_bucket=False,
                max_dynamic_descriptors=wanted.addresses,
                response_headers_to_add=[core.HeaderValueOption(header=core.HeaderValue(key="retry-after", value="1"))],
            ),
        )
    ]


_UNBOUNDED = (1 << 32) - 1


def _bucket(most: int, a_second: int) -> type_v3.TokenBucket:
    return type_v3.TokenBucket(max_tokens=most, tokens_per_fill=a_second, fill_interval=timedelta(seconds=1))


# --- who is calling, before ext_proc


def _authorization(config: Config) -> list[Json]:
    """Where config says that ext_authz finds out who is calling. Headers alone: a body is not waited for."""
    if not config.auth.trust_ext_authz:
        return []
    check = ext_authz.ExtAuthz(
        grpc_service=core.GrpcService(
            envoy_grpc=core.GrpcServiceEnvoyGrpc(cluster_name=AGENT),
            timeout=config.limits.message_timeout,
            initial_metadata=[core.HeaderValue(key=AFFINITY, value="%REQ(x-request-id)%")],
        ),
        transport_api_version=core.ApiVersion.V3,
        failure_mode_allow=False,
        status_on_error=type_v3.HttpStatus(code=type_v3.StatusCode.ServiceUnavailable),
        # A header that was sent twice must be seen twice.
        encode_raw_headers=True,
        validate_mutations=True,
    )
    return [extension("envoy.filters.http.ext_authz", check, **_client_span(config, emitted=False))]


def _client_span(config: Config, *, emitted: bool) -> Json:
    """1.40."""
    return {"emit_client_span": emitted} if envoy_versions.order_of(config) == "told" else {}


# --- the two levels of ext_proc


def _router_level(config: Config) -> Json:
    return extension(
        "envoy.filters.http.ext_proc",
        ext_proc.ExternalProcessor(
            grpc_service=_agent("router"),
            processing_mode=ext_proc.ProcessingMode(
                request_header_mode=ext_proc.ProcessingModeHeaderSendMode.SEND,
                request_body_mode=ext_proc.ProcessingModeBodySendMode.BUFFERED,
                response_header_mode=(
                    ext_proc.ProcessingModeHeaderSendMode.SKIP
                    if config.asks_for_responses
                    else ext_proc.ProcessingModeHeaderSendMode.SEND
                ),
                # The agent asks for the body where it must read it.
                response_body_mode=ext_proc.ProcessingModeBodySendMode.NONE,
                request_trailer_mode=ext_proc.ProcessingModeHeaderSendMode.SKIP,
                response_trailer_mode=ext_proc.ProcessingModeHeaderSendMode.SKIP,
            ),
            allow_mode_override=True,
            failure_mode_allow=False,
            status_on_error=type_v3.HttpStatus(code=type_v3.StatusCode.ServiceUnavailable),
            message_timeout=config.limits.message_timeout,
            max_message_timeout=max(MAX_MESSAGE_TIMEOUT, config.limits.message_timeout),
            mutation_rules=_mutation_rules(),
            response_attributes=[ANSWERED_BY, "upstream.request_attempt_count", "response.code_details"],
            metadata_options=_namespaces(*((AUTHZ_NAMESPACE,) if config.auth.trust_ext_authz else ())),
        ),
        # The agent's span is a child of this one: of a span that is not emitted, the agent is told as unsampled.
        **_client_span(config, emitted=config.telemetry.otlp is not None),
    )


def _upstream_level(config: Config) -> Json:
    """Skipped on the first try, which the router level has already written: one gRPC stream a request, not two. And
    skipped where the guard does its work."""
    process = _upstream_process(config, "upstream", ext_proc.ProcessingModeBodySendMode.NONE)
    first_try = {
        "single_predicate": {
            "input": extension("attempt", matcher.HttpRequestHeaderMatchInput(header_name=ATTEMPT_COUNT)),
            "value_match": {"exact": "1"},
        }
    }
    if _passes_over(config):
        # The first try of a chain or a pair may pass over a provider that has no address: it must be written for
        # whom it reaches, or the first one's credential would go to another.
        written: Json = {"and_matcher": {"predicate": [first_try, _to_one_provider(config)]}}
    else:
        written = first_try
    return _unless({"or_matcher": {"predicate": [written, _guarded()]}}, "edge.upstream", process)


def _passes_over(config: Config) -> bool:
    """Whether there are clusters of several providers."""
    return envoy_versions.order_of(config) != "told" or bool(_hedged_pairs(config))


def _to_one_provider(config: Config) -> Json:
    if envoy_versions.order_of(config) != "told":
        return _cluster_begins(cluster_name(""))
    # Only a hedged call is told by the header then.
    return {"not_matcher": _cluster_begins("pair_")}


def _cluster_begins(prefix: str) -> Json:
    return {
        "single_predicate": {
            "input": extension("cluster", matcher.HttpRequestHeaderMatchInput(header_name=CLUSTER)),
            "value_match": {"prefix": prefix},
        }
    }


def _guard(config: Config) -> Json:
    """Of guarded requests, on every try: it holds an answer back until its first token."""
    process = _upstream_process(config, "guard", ext_proc.ProcessingModeBodySendMode.FULL_DUPLEX_STREAMED)
    return _unless({"not_matcher": _guarded()}, "edge.guard", process)


def _upstream_process(config: Config, role: str, body: ext_proc.ProcessingModeBodySendMode) -> Json:
    mode = ext_proc.ProcessingModeHeaderSendMode
    response = mode.SKIP if body is ext_proc.ProcessingModeBodySendMode.NONE else mode.SEND
    return extension(
        "envoy.filters.http.ext_proc",
        ext_proc.ExternalProcessor(
            grpc_service=_agent(role),
            processing_mode=ext_proc.ProcessingMode(
                request_header_mode=mode.SEND,
                request_body_mode=ext_proc.ProcessingModeBodySendMode.NONE,
                response_header_mode=response,
                response_body_mode=body,
                request_trailer_mode=mode.SKIP,
                response_trailer_mode=response,
            ),
            failure_mode_allow=False,
            status_on_error=type_v3.HttpStatus(code=type_v3.StatusCode.ServiceUnavailable),
            message_timeout=config.limits.message_timeout,
            mutation_rules=_mutation_rules(),
            request_attributes=[
                "xds.cluster_name",
                "upstream.request_attempt_count",
                # Of a chain, the endpoint alone says for certain who is asked.
                *([ANSWERED_BY] if _passes_over(config) else []),
            ],
            metadata_options=_namespaces(),
        ),
        **_client_span(config, emitted=False),
    )


def _guarded() -> Json:
    """Whether the agent wants this request guarded. It says so in metadata: a header would have to be taken away before
    the provider, and so be gone on the next try."""
    return {
        "single_predicate": {
            "input": {
                "name": "guard",
                "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.matching.common_inputs.network.v3."
                    "DynamicMetadataInput",
                    "filter": NAMESPACE,
                    "path": [{"key": GUARD}],
                },
            },
            "custom_match": {
                "name": "envoy.matching.matchers.metadata_matcher",
                "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.matching.input_matchers.metadata.v3.Metadata",
                    "value": {"bool_match": True},
                },
            },
        }
    }


def _unless(predicate: Json, name: str, process: Json) -> Json:
    """The filter, skipped where the predicate holds."""
    skip = {"action": extension("skip", action.SkipFilter())}
    return {
        "name": name,
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.common.matching.v3.ExtensionWithMatcher",
            "xds_matcher": {"matcher_list": {"matchers": [{"predicate": predicate, "on_match": skip}]}},
            "extension_config": process,
        },
    }


def _agent(role: str) -> core.GrpcService:
    return core.GrpcService(
        envoy_grpc=core.GrpcServiceEnvoyGrpc(cluster_name=AGENT),
        initial_metadata=[
            core.HeaderValue(key=ROLE, value=role),
            core.HeaderValue(key=AFFINITY, value="%REQ(x-request-id)%"),
        ],
    )


def _mutation_rules() -> mutation_v3.HeaderMutationRules:
    """The agent writes the whole request (path and host, for signatures) and takes Envoy's headers away. A mutation
    that Envoy refuses fails the request: without it a credential could be missing, or still be there."""
    return mutation_v3.HeaderMutationRules(allow_all_routing=True, allow_envoy=True, disallow_is_error=True)


def _namespaces(*heard: str) -> ext_proc.MetadataOptions:
    """`heard`: those of other filters, which the agent is told of and may not write."""
    ours = [NAMESPACE, ROUTE_NAMESPACE]
    return ext_proc.MetadataOptions(
        forwarding_namespaces=ext_proc.MetadataOptionsMetadataNamespaces(untyped=[*ours, *heard]),
        receiving_namespaces=ext_proc.MetadataOptionsMetadataNamespaces(untyped=ours),
    )


def _router(config: Config) -> Json:
    """The upstream filters stand here once, for every cluster that has none of its own; no cluster has."""
    return extension(
        "envoy.filters.http.router",
        router.Router(suppress_envoy_headers=True),
        upstream_http_filters=[
            _upstream_level(config),
            _guard(config),
            _last_headers(traced=config.telemetry.otlp is not None),
            extension("envoy.filters.http.upstream_codec", upstream_codec.UpstreamCodec()),
        ],
    )


def _last_headers(*, traced: bool) -> Json:
    """The last word before a provider. A replaced request has lost its content-length, which the agent tells in
    metadata; where it traces, its span is the provider's parent, whatever Envoy's tracer wrote; and nothing internal
    leaves, whatever the agent forgot."""
    restore = mutation_v3.HeaderMutation(
        append=core.HeaderValueOption(
            append_action=core.HeaderValueOptionHeaderAppendAction.ADD_IF_ABSENT,
            header=core.HeaderValue(key="content-length", value=f"%DYNAMIC_METADATA({NAMESPACE}:{CONTENT_LENGTH})%"),
        )
    )
    parent = mutation_v3.HeaderMutation(
        append=core.HeaderValueOption(
            append_action=core.HeaderValueOptionHeaderAppendAction.OVERWRITE_IF_EXISTS_OR_ADD,
            header=core.HeaderValue(key="traceparent", value=f"%DYNAMIC_METADATA({NAMESPACE}:{TRACEPARENT})%"),
        )
    )
    return extension(
        "envoy.filters.http.header_mutation",
        header_mutation.HeaderMutation(
            mutations=header_mutation.Mutations(
                request_mutations=[
                    restore,
                    *([parent] if traced else []),
                    *(_remove(_all_but(prefix, ())) for prefix in NOT_UPSTREAM_PREFIXES),
                ]
            )
        ),
    )


# --- clusters


def agent_cluster(config: Config) -> Json:
    """The workers, wherever they are: each is an endpoint of its own, so that Envoy and not the kernel chooses."""
    cluster = cluster_v3.Cluster(
        name=AGENT,
        connect_timeout=timedelta(seconds=1),
        # A retry must find the worker that holds its exchange.
        lb_policy=cluster_v3.ClusterLbPolicy.MAGLEV,
        # As long as one worker is well, only well ones are asked; with none, all are.
        common_lb_config=cluster_v3.ClusterCommonLbConfig(healthy_panic_threshold=type_v3.Percent(value=1)),
        per_connection_buffer_limit_bytes=max(config.limits.request_body, config.limits.response_body),
        circuit_breakers=cluster_v3.CircuitBreakers(
            thresholds=[
                cluster_v3.CircuitBreakersThresholds(
                    max_connections=_AGENT_CONNECTIONS,
                    max_pending_requests=_AGENT_STREAMS,
                    max_requests=_AGENT_STREAMS,
                    max_retries=_AGENT_STREAMS,
                )
            ]
        ),
        health_checks=[
            core.HealthCheck(
                timeout=_HEALTH_TIMEOUT,
                interval=_HEALTH_INTERVAL,
                # Of a cluster that was not used yet: a worker that started after Envoy is found at once.
                no_traffic_interval=_HEALTH_INTERVAL,
                unhealthy_threshold=2,
                healthy_threshold=1,
                grpc_health_check=core.HealthCheckGrpcHealthCheck(),
            )
        ],
        load_assignment=endpoint_v3.ClusterLoadAssignment(
            cluster_name=AGENT,
            endpoints=[
                endpoint_v3.LocalityLbEndpoints(
                    lb_endpoints=[
                        endpoint_v3.LbEndpoint(endpoint=endpoint_v3.Endpoint(address=address))
                        for address in _worker_addresses(config)
                    ]
                )
            ],
        ),
    )
    protocol = upstreams.HttpProtocolOptions(
        explicit_http_config=upstreams.HttpProtocolOptionsExplicitHttpConfig(http2_protocol_options=_http2()),
    )
    # 1.37; before, there is one worker, so that there is nothing to choose.
    chosen = envoy_versions.order_of(config) != "aggregate"
    if chosen:
        by_header = route_v3.RouteActionHashPolicyHeader(header_name=AFFINITY)
        protocol.hash_policy = [route_v3.RouteActionHashPolicy(header=by_header)]
    rendered = {
        **fields(cluster),
        **_agent_discovery(config),
        "typed_extension_protocol_options": _protocol(protocol, **({"retry_policy": _next_worker()} if chosen else {})),
    }
    if config.agent.tcp is not None and config.agent.tcp.tls is not None:
        rendered["transport_socket"] = _agent_tls(config.agent.tcp.tls)
    return rendered


def _next_worker() -> Json:
    """Where a worker has just died, and its health check does not know yet: nothing was sent, so another one is asked.
    The worker that a hash is then given is the same each time, so that a request still keeps to one."""
    return {
        "retry_on": "connect-failure,refused-stream,reset-before-request",
        "num_retries": 2,
        "retry_back_off": {"base_interval": "0.005s", "max_interval": "0.02s"},
        "retry_host_predicate": [
            {
                "name": "envoy.retry_host_predicates.previous_hosts",
                "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"
                },
            }
        ],
        "host_selection_retry_max_attempts": 5,
    }


def _worker_addresses(config: Config) -> list[core.Address]:
    tcp = config.agent.tcp
    if tcp is None:
        return [core.Address(pipe=core.Pipe(path=socket)) for socket in config.agent.worker_sockets()]
    return [_tcp(host, tcp.port_of(worker)) for host in tcp.hosts for worker in range(config.agent.workers)]


def _agent_discovery(config: Config) -> Json:
    tcp = config.agent.tcp
    if tcp is None or all(map(_is_ip, tcp.hosts)):
        return {"type": "STATIC"}
    # Each address that a name has is an agent of its own (a headless Service of Kubernetes): asked often, so that one
    # that went is given nothing new.
    resolve = dns.DnsCluster(
        dns_refresh_rate=_AGENT_DNS_REFRESH,
        dns_failure_refresh_rate=dns.DnsClusterRefreshRate(
            base_interval=timedelta(seconds=1), max_interval=_AGENT_DNS_REFRESH
        ),
        dns_lookup_family=common_dns.DnsLookupFamily.V4_PREFERRED,
    )
    return {"cluster_type": extension("envoy.cluster.dns", resolve)}


def _is_ip(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _agent_tls(wanted: MutualTls) -> Json:
    exact = tls.SubjectAltNameMatcher(
        san_type=tls.SubjectAltNameMatcherSanType.DNS, matcher=matcher.StringMatcher(exact=wanted.server_name)
    )
    return extension(
        "envoy.transport_sockets.tls",
        tls.UpstreamTlsContext(
            sni=wanted.server_name,
            common_tls_context=tls.CommonTlsContext(
                alpn_protocols=["h2"],
                tls_params=tls.TlsParameters(
                    tls_minimum_protocol_version=tls.TlsParametersTlsProtocol.TLSv1_2,
                ),
                tls_certificates=[
                    tls.TlsCertificate(
                        certificate_chain=_file(wanted.certificate), private_key=_file(wanted.private_key)
                    )
                ],
                validation_context=tls.CertificateValidationContext(
                    trusted_ca=_file(wanted.ca), match_typed_subject_alt_names=[exact]
                ),
            ),
        ),
    )


def _provider_cluster(config: Config, name: str, provider: Provider) -> Json:
    endpoint, pool = provider.endpoint, provider.pool
    cluster = cluster_v3.Cluster(
        name=cluster_name(name),
        connect_timeout=config.timeouts.connect,
        circuit_breakers=_bounds(config, pool),
        upstream_connection_options=cluster_v3.UpstreamConnectionOptions(
            tcp_keepalive=core.TcpKeepalive(
                keepalive_time=max(1, int(pool.keepalive.total_seconds())),
                keepalive_interval=_TCP_PROBE_INTERVAL,
                keepalive_probes=_TCP_PROBES,
            )
        ),
        load_assignment=_provider_endpoint(name, endpoint),
    )
    rendered = {
        **fields(cluster),
        **_discovery(provider, endpoint),
        "outlier_detection": _outliers(),
        "typed_extension_protocol_options": _protocol(_provider_protocol(provider, endpoint)),
    }
    (locality,) = rendered["load_assignment"]["endpoints"]
    for each in locality["lb_endpoints"]:
        each["metadata"] = {"filter_metadata": {NAMESPACE: {"provider": name}}}
    if endpoint.tls:
        rendered["transport_socket"] = _provider_tls(provider, endpoint)
    return rendered


def _bounds(config: Config, pool: Pool) -> cluster_v3.CircuitBreakers:
    return cluster_v3.CircuitBreakers(
        thresholds=[
            cluster_v3.CircuitBreakersThresholds(
                max_connections=pool.max_connections,
                max_pending_requests=pool.max_pending,
                max_requests=pool.max_requests,
                retry_budget=cluster_v3.CircuitBreakersThresholdsRetryBudget(
                    budget_percent=type_v3.Percent(value=config.retries.budget.percent),
                    min_retry_concurrency=config.retries.budget.min_concurrency,
                ),
            )
        ]
    )


def _hedged_pairs(config: Config) -> list[tuple[str, str]]:
    """Any two candidates of a hedged model, in either order."""
    pairs: dict[tuple[str, str], None] = {}
    for model in config.models.values():
        lists = [model.candidates, *(rule.candidates for rule in model.rules if rule.candidates is not None)]
        for candidates in lists if model.hedge is not None else ():
            names = [candidate.provider for candidate in candidates]
            pairs.update(dict.fromkeys((a, b) for a in names for b in names if a != b))
    return list(pairs)


def _composite_cluster(config: Config, name: str, providers: tuple[str, ...]) -> Json:
    """A second try by a hedge does not take the next group of the order; the count of tries, which decides here, it
    does raise."""
    clusters = [{"name": cluster_name(provider)} for provider in providers]
    return _cluster_of_clusters(config, name, providers, "composite", clusters)


def _chain_clusters(config: Config) -> list[Json]:
    """Where the order of tries cannot be told with each request."""
    match envoy_versions.order_of(config):
        case "told":
            return []
        case "composite":
            return [_composite_cluster(config, chain_name(chain), chain) for chain in envoy_versions.chains(config)]
        case "aggregate":
            return [
                _cluster_of_clusters(config, chain_name(chain), chain, "aggregate", [cluster_name(p) for p in chain])
                for chain in envoy_versions.chains(config)
            ]


def _cluster_of_clusters(config: Config, name: str, providers: tuple[str, ...], kind: str, clusters: list[Any]) -> Json:
    cluster = cluster_v3.Cluster(
        name=name,
        connect_timeout=config.timeouts.connect,
        lb_policy=cluster_v3.ClusterLbPolicy.CLUSTER_PROVIDED,
        # A retry counts against this one, and Envoy's default would let three of them be at one time.
        circuit_breakers=_bounds(config, config.providers[providers[0]].pool),
    )
    return {
        **fields(cluster),
        "cluster_type": {
            "name": f"envoy.clusters.{kind}",
            "typed_config": {
                "@type": f"type.googleapis.com/envoy.extensions.clusters.{kind}.v3.ClusterConfig",
                "clusters": clusters,
            },
        },
    }


def _outliers() -> Json:
    """Counted, not ejected. A provider is one endpoint here: without it there is nobody to ask, and Envoy's panic mode
    would ask it all the same. Which provider to leave out is decided when the order is made."""
    detection = cluster_v3.OutlierDetection(
        consecutive_gateway_failure=5,
        enforcing_consecutive_gateway_failure=0,
        enforcing_success_rate=0,
        max_ejection_percent=0,
    )
    # betterproto2 spells this one with an underscore too many.
    return {**fields(detection), "enforcing_consecutive_5xx": 0}


def _provider_endpoint(name: str, endpoint: Endpoint) -> endpoint_v3.ClusterLoadAssignment:
    return endpoint_v3.ClusterLoadAssignment(
        cluster_name=cluster_name(name),
        endpoints=[
            endpoint_v3.LocalityLbEndpoints(
                lb_endpoints=[
                    endpoint_v3.LbEndpoint(
                        endpoint=endpoint_v3.Endpoint(
                            # What auto_host_rewrite writes into the Host header.
                            hostname=endpoint.authority,
                            address=_tcp(endpoint.host, endpoint.port),
                        ),
                    )
                ]
            )
        ],
    )


def _discovery(provider: Provider, endpoint: Endpoint) -> Json:
    if endpoint.ip is not None:
        return {"type": "STATIC"}
    resolve = dns.DnsCluster(
        dns_refresh_rate=provider.pool.dns_refresh,
        dns_failure_refresh_rate=dns.DnsClusterRefreshRate(
            base_interval=timedelta(seconds=1), max_interval=timedelta(seconds=10)
        ),
        respect_dns_ttl=True,
        dns_lookup_family=common_dns.DnsLookupFamily.V4_PREFERRED,
        # One endpoint whatever DNS answers: big hosts answer differently each time, and connections should outlive
        # that. Where one address refuses, the next one is tried.
        all_addresses_in_single_endpoint=True,
    )
    return {"cluster_type": extension("envoy.cluster.dns", resolve)}


def _provider_protocol(provider: Provider, endpoint: Endpoint) -> upstreams.HttpProtocolOptions:
    common = core.HttpProtocolOptions(idle_timeout=provider.pool.idle)
    http1, http2 = core.Http1ProtocolOptions(), _http2()
    if provider.pool.http2 == "auto" and endpoint.tls:
        return upstreams.HttpProtocolOptions(
            common_http_protocol_options=common,
            auto_config=upstreams.HttpProtocolOptionsAutoHttpConfig(
                http_protocol_options=http1, http2_protocol_options=http2
            ),
        )
    explicit = upstreams.HttpProtocolOptionsExplicitHttpConfig
    return upstreams.HttpProtocolOptions(
        common_http_protocol_options=common,
        explicit_http_config=(
            explicit(http2_protocol_options=http2)
            if provider.pool.http2 is True
            else explicit(http_protocol_options=http1)
        ),
    )


# What to offer, by `pool.http2`.
_ALPN: dict[bool | str, list[str]] = {"auto": ["h2", "http/1.1"], True: ["h2"], False: ["http/1.1"]}


def _provider_tls(provider: Provider, endpoint: Endpoint) -> Json:
    ca = provider.tls.ca or certificate.system_trust_store()
    server_name = provider.tls.server_name
    context = tls.CertificateValidationContext(trusted_ca=_file(ca))
    # An address is no name that SNI could carry; the certificate must hold it as an address.
    by_address = endpoint.ip is not None and server_name is None
    if by_address:
        context.match_typed_subject_alt_names = [
            tls.SubjectAltNameMatcher(
                san_type=tls.SubjectAltNameMatcherSanType.IP_ADDRESS,
                matcher=matcher.StringMatcher(exact=str(endpoint.ip)),
            )
        ]
    return extension(
        "envoy.transport_sockets.tls",
        tls.UpstreamTlsContext(
            sni="" if by_address else server_name or endpoint.host,
            auto_sni_san_validation=not by_address,
            common_tls_context=tls.CommonTlsContext(
                alpn_protocols=_ALPN[provider.pool.http2],
                tls_params=tls.TlsParameters(
                    tls_minimum_protocol_version=tls.TlsParametersTlsProtocol.TLSv1_2,
                ),
                validation_context=context,
            ),
        ),
    )


def _http2() -> core.Http2ProtocolOptions:
    return core.Http2ProtocolOptions(
        connection_keepalive=core.KeepaliveSettings(interval=_HTTP2_PING, timeout=_HTTP2_PING_TIMEOUT)
    )


def _protocol(options: upstreams.HttpProtocolOptions, **newer: Any) -> Json:
    return {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": typed(options, **newer)}
