"""Renders Envoy's routes: one route in three variants, with different retry policies."""

from __future__ import annotations

from datetime import timedelta

from ..config.mcp import McpServerConfig
from ..config.schema import Config
from ..model.envoy_names import (
    AGAIN,
    CLUSTER,
    ONCE,
    ROUTE,
    ROUTE_NAME,
    ROUTE_NAMESPACE,
    SOCKET,
    mcp_route,
)
from ..proxy import envoy_versions
from . import direct
from .envoy_types import Json, fields, matcher, route_v3
from .filters import mcp_level, socket_level


def routes(config: Config, name: str) -> Json:
    """The three variants of the route. The agent selects one by a header after it has planned the request."""
    return {
        # A group of the order names a cluster that intentionally does not exist.
        **fields(route_v3.RouteConfiguration(name=name, validate_clusters=False)),
        "virtual_hosts": [
            {
                # The matcher of the upstream level reads the attempt number from this count; the filter after it
                # removes it.
                **fields(route_v3.VirtualHost(name="llm", domains=["*"], include_request_attempt_count=True)),
                **direct.host_policy(config),
                "routes": [
                    *direct.routes(config),
                    *_sockets(config),
                    *_mcp(config),
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
                request_body_buffer_limit=buffer_limit(config),
            )
        ),
        "route": _route_action(config, retry),
    }


# The paths with WebSockets, in each of their spellings (exchange/path_router.py). Envoy matches without the query.
_SOCKET_PATHS = (
    "(?:/openai)?(?:/v1)?/(?:realtime|responses)"
    r"|/ws/google\.ai\.generativelanguage\.v1(?:alpha|beta)?\.GenerativeService\.BidiGenerateContent"
)


def _sockets(config: Config) -> list[Json]:
    """The routes of WebSockets: before the agent has chosen the provider, and after it."""
    if not config.has_sockets:
        return []
    upgrade = route_v3.HeaderMatcher(
        name="upgrade", string_match=matcher.StringMatcher(exact="websocket", ignore_case=True)
    )
    chosen = route_v3.HeaderMatcher(name=ROUTE, string_match=matcher.StringMatcher(exact=SOCKET))
    return [
        _socket(config, f"{ROUTE_NAME}-{SOCKET}", route_v3.RouteMatch(prefix="/", headers=[chosen])),
        _socket(
            config,
            f"{ROUTE_NAME}-{SOCKET}-upgrade",
            route_v3.RouteMatch(safe_regex=matcher.RegexMatcher(regex=_SOCKET_PATHS), headers=[upgrade]),
        ),
    ]


def _socket(config: Config, name: str, match: route_v3.RouteMatch) -> Json:
    return {
        **fields(route_v3.Route(name=name, match=match)),
        "route": {
            **fields(
                route_v3.RouteAction(
                    cluster_header=CLUSTER,
                    timeout=timedelta(0),
                    idle_timeout=config.timeouts.socket_idle,
                    max_stream_duration=route_v3.RouteActionMaxStreamDuration(
                        max_stream_duration=config.timeouts.socket
                    ),
                    auto_host_rewrite=True,
                    upgrade_configs=[route_v3.RouteActionUpgradeConfig(upgrade_type="websocket")],
                )
            )
        },
        "typed_per_filter_config": socket_level(),
    }


def _mcp(config: Config) -> list[Json]:
    """The routes of MCP servers: before the agent has read the request, and after it. And those of the metadata by
    which OAuth clients find the issuers of tokens, which the agent answers itself."""
    routes: list[Json] = []
    for name, server in config.mcp_servers().items():
        chosen = route_v3.HeaderMatcher(name=ROUTE, string_match=matcher.StringMatcher(exact=mcp_route(name)))
        matches = {
            f"mcp-{name}": route_v3.RouteMatch(prefix="/", headers=[chosen]),
            f"mcp-{name}-request": route_v3.RouteMatch(path=f"/mcp/{name}"),
        }
        if config.auth.jwt:
            path = f"/.well-known/oauth-protected-resource/mcp/{name}"
            matches[f"mcp-{name}-metadata"] = route_v3.RouteMatch(path=path)
        routes += [_mcp_route(config, server, route, match) for route, match in matches.items()]
    return routes


def _mcp_route(config: Config, server: McpServerConfig, name: str, match: route_v3.RouteMatch) -> Json:
    action = route_v3.RouteAction(
        # The agent names the cluster to which the credential belongs: the configuration may change meanwhile.
        cluster_header=CLUSTER,
        # It would end streams. `max_stream_duration` bounds them.
        timeout=timedelta(0),
        idle_timeout=server.idle_timeout,
        max_stream_duration=route_v3.RouteActionMaxStreamDuration(max_stream_duration=server.timeout),
        auto_host_rewrite=True,
    )
    route = route_v3.Route(name=name, match=match, request_body_buffer_limit=buffer_limit(config))
    return {**fields(route), "route": fields(action), "typed_per_filter_config": mcp_level(config)}


# The default of the limits. A reply over the buffer that arrives before the agent has answered its headers stops: Envoy
# 1.40 reads on only when the buffer is drained, and a body that the agent wants whole is drained at its end.
_LEAST_BUFFER = 32 << 20


def buffer_limit(config: Config) -> int:
    """The size of Envoy's buffer for ext_proc and for retries, in bytes. One buffer serves both directions; the agent
    checks the exact limit of each."""
    return max(config.limits.request_body, config.limits.response_body, _LEAST_BUFFER)


# The status codes with which a provider refuses a key or its account.
_OF_THE_KEY = frozenset({401, 402, 403})

# --- retry policies; the agent sets the number of attempts for each request


def _next(config: Config) -> Json:
    """Retries with the next provider of the order. A Retry-After is ignored; it concerns the provider before."""
    return fields(_retry_policy(config))


def _again(config: Config) -> Json:
    """Retries with the same provider, because there is no other. Waits for its Retry-After. The same key would be
    refused again."""
    policy = _retry_policy(config)
    policy.retriable_status_codes = [status for status in config.retries.on_status if status not in _OF_THE_KEY]
    policy.rate_limited_retry_back_off = route_v3.RetryPolicyRateLimitedRetryBackOff(
        reset_headers=[
            route_v3.RetryPolicyResetHeader(name="retry-after", format=route_v3.RetryPolicyResetHeaderFormat.SECONDS)
        ],
        max_interval=config.retries.retry_after,
    )
    return fields(policy)


def _once(config: Config) -> Json:
    """For a call that must not be sent twice: retries only if it cannot have been sent."""
    policy = _retry_policy(config)
    policy.retry_on = "connect-failure,refused-stream"
    policy.retriable_status_codes = []
    return fields(policy)


def _retry_policy(config: Config) -> route_v3.RetryPolicy:
    retries = config.retries
    policy = route_v3.RetryPolicy(
        retry_on="5xx,reset,connect-failure,refused-stream,retriable-status-codes",
        retriable_status_codes=list(retries.on_status),
        num_retries=retries.attempts - 1,
        # This timeout ends when response headers go to the caller, so it does not cut a stream.
        per_try_timeout=config.timeouts.first_byte,
        retry_back_off=route_v3.RetryPolicyRetryBackOff(
            base_interval=retries.back_off.base, max_interval=retries.back_off.max
        ),
    )
    if envoy_versions.order_of(config) == "priority_group":
        # Each attempt uses the next group of the order. Older Envoys do not have the field.
        policy.refresh_cluster_on_retry = True
    return policy


def _next_priority(config: Config) -> Json:
    """In an aggregate cluster, each provider is a priority."""
    if envoy_versions.order_of(config) != "aggregate":
        return {}
    kind = "type.googleapis.com/envoy.extensions.retry.priority.previous_priorities.v3.PreviousPrioritiesConfig"
    settings = {"@type": kind, "update_frequency": 1}
    return {"retry_priority": {"name": "envoy.retry_priorities.previous_priorities", "typed_config": settings}}


def _route_action(config: Config, retry: Json) -> Json:
    return {
        **fields(
            route_v3.RouteAction(
                # Envoy's default of 15 s would cut streams.
                timeout=config.timeouts.request,
                idle_timeout=config.timeouts.stream_idle,
                auto_host_rewrite=True,
            )
        ),
        "retry_policy": {**retry, **_next_priority(config)},
        **_cluster_choice(config),
    }


def _cluster_choice(config: Config) -> Json:
    """The route for requests that the agent did not route: an error reply."""
    if envoy_versions.order_of(config) != "priority_group":
        return {"cluster_header": CLUSTER}
    return {
        "inline_cluster_specifier_plugin": {
            # New in Envoy 1.40; envoy-data-plane has no type for it.
            "extension": {
                "name": "envoy.router.cluster_specifier_plugin.priority_group",
                "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.router.cluster_specifiers.priority_group.v3."
                    "PriorityGroupClusterSpecifier",
                    "override_metadata_namespace": ROUTE_NAMESPACE,
                    # This cluster does not exist.
                    "priority_groups": [{"name": "none", "clusters": [{"cluster_name": "none", "weight": 1}]}],
                },
            }
        },
    }
