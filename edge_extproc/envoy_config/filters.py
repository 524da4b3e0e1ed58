"""Renders Envoy's HTTP filters: the limit for each source address, ext_authz, and the levels of ext_proc."""

from __future__ import annotations

from datetime import timedelta

from ..config.quantities import MAX_MESSAGE_TIMEOUT
from ..config.schema import Config
from ..model.envoy_names import (
    AFFINITY,
    AGENT,
    ANSWERED_BY,
    AUTHZ_NAMESPACE,
    BRIDGE,
    CLUSTER,
    GUARD,
    NAMESPACE,
    OWN_WORKER,
    ROLE,
    ROUTE_NAMESPACE,
    WORKER,
    cluster_name,
    mcp_cluster_name,
    socket_cluster_name,
)
from ..proxy import envoy_versions
from .envoy_types import (
    Json,
    action,
    core,
    ext_authz,
    ext_proc,
    extension,
    filter_state,
    local_ratelimit,
    matcher,
    mutation_v3,
    network_inputs,
    ratelimit,
    route_v3,
    router,
    set_filter_state,
    type_v3,
    typed,
    upstream_codec,
)
from .headers import ATTEMPT_COUNT, last_headers

# --- the limit for each source address, before all other filters


def source_limit(config: Config) -> list[Json]:
    settings = config.envoy.source_limit
    if settings is None:
        return []
    always = core.RuntimeFractionalPercent(default_value=type_v3.FractionalPercent(numerator=100))
    return [
        extension(
            "envoy.filters.http.local_ratelimit",
            local_ratelimit.LocalRateLimit(
                stat_prefix="source_limit",
                filter_enabled=always,
                filter_enforced=always,
                # The bucket of requests without an address, which do not occur.
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
                        # Without a value, the descriptor matches each address, with a bucket for each.
                        entries=[ratelimit.RateLimitDescriptorEntry(key="masked_remote_address")],
                        token_bucket=_bucket(settings.bucket, settings.requests_per_second),
                    )
                ],
                always_consume_default_token_bucket=False,
                max_dynamic_descriptors=settings.addresses,
                response_headers_to_add=[core.HeaderValueOption(header=core.HeaderValue(key="retry-after", value="1"))],
            ),
        )
    ]


_UNBOUNDED = (1 << 32) - 1


def _bucket(most: int, a_second: int) -> type_v3.TokenBucket:
    return type_v3.TokenBucket(max_tokens=most, tokens_per_fill=a_second, fill_interval=timedelta(seconds=1))


# --- ext_authz, before ext_proc


def authorization(config: Config) -> list[Json]:
    """The ext_authz filter, if the configuration trusts it. It gets headers only, and does not wait for a body."""
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
        # Repeated headers must be visible as such.
        encode_raw_headers=True,
        validate_mutations=True,
    )
    return [extension("envoy.filters.http.ext_authz", check, **_client_span(config, emitted=False))]


def _client_span(config: Config, *, emitted: bool) -> Json:
    return {"emit_client_span": emitted} if envoy_versions.can(config, "client_span") else {}


# --- the levels of ext_proc


def router_level(config: Config) -> Json:
    return extension(
        "envoy.filters.http.ext_proc",
        ext_proc.ExternalProcessor(
            grpc_service=_agent("router"),
            processing_mode=ext_proc.ProcessingMode(
                request_header_mode=ext_proc.ProcessingModeHeaderSendMode.SEND,
                request_body_mode=ext_proc.ProcessingModeBodySendMode.BUFFERED,
                response_header_mode=(
                    ext_proc.ProcessingModeHeaderSendMode.SKIP
                    if config.response_phase_opt_in
                    else ext_proc.ProcessingModeHeaderSendMode.SEND
                ),
                # The agent enables the body phase if it must read the body.
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
        # The agent's span is a child of this one. If this one is not emitted, the agent is told that the trace is not
        # sampled.
        **_client_span(config, emitted=config.telemetry.otlp is not None),
    )


def socket_level() -> Json:
    """What routes of WebSockets change at the router level: bodies are streamed in both directions. A buffered body of
    an upgraded request would never end (envoyproxy/envoy#47081)."""
    streamed = ext_proc.ProcessingModeBodySendMode.STREAMED
    return _route_level("socket", streamed, streamed)


def mcp_level(config: Config) -> Json:
    """What routes of MCP servers change: the agent reads each message whole, and the response by its type."""
    mode = ext_proc.ProcessingModeBodySendMode
    # The agent enables the body phase for a response with a body.
    level = _route_level("mcp", mode.BUFFERED, mode.NONE)
    if config.auth.trust_ext_authz:  # it knows the paths of the APIs of models only
        level["envoy.filters.http.ext_authz"] = typed(ext_authz.ExtAuthzPerRoute(disabled=True))
    return level


def _route_level(
    role: str, request: ext_proc.ProcessingModeBodySendMode, response: ext_proc.ProcessingModeBodySendMode
) -> Json:
    """The router-level ext_proc of a route whose streams have another role and other body modes."""
    mode = ext_proc.ProcessingModeHeaderSendMode
    overrides = ext_proc.ExtProcOverrides(
        grpc_service=_agent(role),
        processing_mode=ext_proc.ProcessingMode(
            request_header_mode=mode.SEND,
            request_body_mode=request,
            response_header_mode=mode.SEND,
            response_body_mode=response,
            request_trailer_mode=mode.SKIP,
            response_trailer_mode=mode.SKIP,
        ),
    )
    return {"envoy.filters.http.ext_proc": typed(ext_proc.ExtProcPerRoute(overrides=overrides))}


def _upstream_level(config: Config, passes_over: bool) -> Json:
    """The upstream-level ext_proc. It is skipped on attempt 1, which the router level has already encoded, so that a
    request has one gRPC stream and not two. It is also skipped if the guard is active."""
    process = _upstream_process(config, "upstream", ext_proc.ProcessingModeBodySendMode.NONE, passes_over)
    first_try = {
        "single_predicate": {
            "input": extension("attempt", matcher.HttpRequestHeaderMatchInput(header_name=ATTEMPT_COUNT)),
            "value_match": {"exact": "1"},
        }
    }
    if passes_over:
        # Attempt 1 of a chain or a pair may skip a provider without an address. It must be encoded for the provider
        # that it reaches, or another provider would get the first one's credential.
        written: Json = {"and_matcher": {"predicate": [first_try, _to_one_provider(config)]}}
    else:
        written = first_try
    if envoy_versions.can_guard(config):
        written = {"or_matcher": {"predicate": [written, _guarded(config)]}}
    return _unless(written, "edge.upstream", process)


def _to_one_provider(config: Config) -> Json:
    if envoy_versions.order_of(config) != "priority_group":
        prefixes = [cluster_name(""), *([socket_cluster_name("")] if config.socket_providers() else [])]
        prefixes += [BRIDGE] if config.bridges_responses else []
        prefixes += [mcp_cluster_name("")] if config.mcp_servers() else []
        if len(prefixes) > 1:
            return {"or_matcher": {"predicate": [_cluster_begins(prefix) for prefix in prefixes]}}
        return _cluster_begins(cluster_name(""))
    # Only hedged calls set the header then.
    return {"not_matcher": _cluster_begins("pair_")}


def _cluster_begins(prefix: str) -> Json:
    return {
        "single_predicate": {
            "input": extension("cluster", matcher.HttpRequestHeaderMatchInput(header_name=CLUSTER)),
            "value_match": {"prefix": prefix},
        }
    }


def _guard(config: Config, passes_over: bool) -> list[Json]:
    """The guard, for guarded requests on every attempt: it holds back a response until its first token."""
    if not envoy_versions.can_guard(config):
        return []
    process = _upstream_process(config, "guard", ext_proc.ProcessingModeBodySendMode.FULL_DUPLEX_STREAMED, passes_over)
    return [_unless({"not_matcher": _guarded(config)}, "edge.guard", process)]


def _upstream_process(config: Config, role: str, body: ext_proc.ProcessingModeBodySendMode, passes_over: bool) -> Json:
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
                # In a chain, only the endpoint shows for certain which provider is called.
                *([ANSWERED_BY] if passes_over else []),
            ],
            metadata_options=_namespaces(),
        ),
        **_client_span(config, emitted=False),
    )


def guard_state(config: Config) -> list[Json]:
    """Copies the guard flag from metadata to filter state, for proxies whose matchers read only filter state. It
    follows the router level, which writes the metadata."""
    if not envoy_versions.can_guard(config) or envoy_versions.can(config, "metadata_matcher"):
        return []
    copied = filter_state.FilterStateValue(
        object_key=_GUARD_STATE,
        factory_key="envoy.string",
        format_string=core.SubstitutionFormatString(
            text_format_source=core.DataSource(inline_string=f"%DYNAMIC_METADATA({NAMESPACE}:{GUARD})%"),
        ),
    )
    return [extension("envoy.filters.http.set_filter_state", set_filter_state.Config(on_request_headers=[copied]))]


_GUARD_STATE = f"{NAMESPACE}.{GUARD}"


def _guarded(config: Config) -> Json:
    """Whether the agent wants this request guarded. The flag is metadata: a header would have to be removed before the
    provider, and would be missing on the next attempt."""
    if not envoy_versions.can(config, "metadata_matcher"):
        return {
            "single_predicate": {
                "input": extension("guard", network_inputs.FilterStateInput(key=_GUARD_STATE)),
                "value_match": {"exact": "true"},
            }
        }
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
    """The filter, skipped if the predicate matches."""
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
    # The router level begins the exchange, so no worker holds it yet.
    own_worker = core.HeaderValue(key=WORKER, value=f"%DYNAMIC_METADATA({NAMESPACE}:{OWN_WORKER})%")
    return core.GrpcService(
        envoy_grpc=core.GrpcServiceEnvoyGrpc(cluster_name=AGENT),
        initial_metadata=[
            core.HeaderValue(key=ROLE, value=role),
            core.HeaderValue(key=AFFINITY, value="%REQ(x-request-id)%"),
            *([own_worker] if role not in ("router", "socket", "mcp") else []),
        ],
    )


def _mutation_rules() -> mutation_v3.HeaderMutationRules:
    """Permits the agent to write the whole request (path and host, for signatures) and to remove Envoy's headers. A
    mutation that Envoy refuses fails the request; otherwise a credential could be missing, or be sent by mistake."""
    return mutation_v3.HeaderMutationRules(allow_all_routing=True, allow_envoy=True, disallow_is_error=True)


def _namespaces(*readable: str) -> ext_proc.MetadataOptions:
    """`readable`: the metadata namespaces of other filters, which the agent can read but not write."""
    ours = [NAMESPACE, ROUTE_NAMESPACE]
    return ext_proc.MetadataOptions(
        forwarding_namespaces=ext_proc.MetadataOptionsMetadataNamespaces(untyped=[*ours, *readable]),
        receiving_namespaces=ext_proc.MetadataOptionsMetadataNamespaces(untyped=ours),
    )


def router_filter(config: Config, passes_over: bool) -> Json:
    """The upstream filters are defined here once, for every cluster without its own; no cluster has any."""
    return extension(
        "envoy.filters.http.router",
        router.Router(suppress_envoy_headers=True),
        upstream_http_filters=[
            _upstream_level(config, passes_over),
            *_guard(config, passes_over),
            last_headers(traced=config.telemetry.otlp is not None),
            extension("envoy.filters.http.upstream_codec", upstream_codec.UpstreamCodec()),
        ],
    )
