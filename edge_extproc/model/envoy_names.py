"""Names that the agent and Envoy's configuration share: clusters, headers, metadata keys."""

from __future__ import annotations

from collections.abc import Iterable

_PROVIDER = "provider_"


def cluster_name(provider: str) -> str:
    """The Envoy cluster of a provider."""
    return f"{_PROVIDER}{provider}"


ROUTE = "x-edge-route"
"""The header by which the agent selects an Envoy route, and with it the retry policy of a request."""
ONCE, AGAIN = "once", "again"
SOCKET = "socket"
"""The value of ROUTE for a WebSocket."""
BRIDGE = "responses_bridge"
"""The cluster of the agent's own WebSocket servers, for sessions whose responses become requests."""
CLUSTER = "x-edge-cluster"
"""The header by which the agent names the cluster of a request, for Envoy before 1.40."""
CALLERS_ID = "x-edge-request-id"
"""The header in which Envoy keeps the caller's x-request-id, because it sets x-request-id to its own."""
REQUEST_ID = "request_id"
"""The metadata key, in NAMESPACE, of the caller's request id, if the agent has validated it."""
PROVIDERS_ID = "x-edge-provider-request-id"
"""The response header with the provider's own x-request-id."""
GUARDRAILS = "x-edge-guardrails"
"""The response header with the guardrail rules that found something, and what each did."""
NO_RETRY = "x-edge-no-retry"
"""The header by which a caller forbids sending its call twice."""
RUN, RUN_PARENT, RUN_LIMIT = "x-edge-run", "x-edge-run-parent", "x-edge-run-limit"
"""The headers by which a caller names the run of its call, the run that this one is a part of, and its cap."""
SESSION = "x-edge-session"
"""The header by which a caller names its session."""
EXPLAIN = "x-edge-explain"
"""The header by which a caller asks for an explanation: prompt-cache."""
PROMPT_CACHE = "x-edge-prompt-cache"
"""The response header with what of the prompt has changed since the turn before."""
CALLERS_HEADERS = ("x-edge-cache-ttl", "x-edge-cache-semantic", EXPLAIN, NO_RETRY, RUN, RUN_PARENT, RUN_LIMIT, SESSION)
"""The headers with an internal prefix that callers may send. None of them affects authentication."""
ANSWERED_BY = 'xds.upstream_host_metadata.filter_metadata["edge"]["provider"]'
"""The Envoy attribute with the provider whose endpoint answered."""


def socket_cluster_name(cluster: str) -> str:
    """The Envoy cluster for WebSockets to the provider of `cluster`."""
    return f"socket_{cluster.removeprefix(_PROVIDER)}"


def mcp_route(server: str) -> str:
    """The value of ROUTE for a request to an MCP server."""
    return f"mcp/{server}"


def mcp_cluster_name(server: str) -> str:
    """The Envoy cluster of an MCP server."""
    return f"mcp_{server}"


def pair_name(first: str, second: str) -> str:
    """The Envoy cluster whose first attempt goes to the cluster of one provider, and its second to another's."""
    return f"pair_{_joined((first, second))}"


def chain_name(clusters: Iterable[str]) -> str:
    """The Envoy cluster whose attempts go to these clusters of providers, in order."""
    return f"chain_{_joined(clusters)}"


def _joined(clusters: Iterable[str]) -> str:
    return "~".join(cluster.removeprefix(_PROVIDER) for cluster in clusters)


ROUTE_NAME = "llm"
"""The prefix of route names. The name of the retry policy follows it."""
AGENT = "agent"
"""The cluster of the workers."""
NAMESPACE = "edge"
"""The namespace of the agent's dynamic metadata: `exchange`, `content_length`, and values for the access log."""
ROUTE_NAMESPACE = "edge.route"
"""The namespace of dynamic metadata with the clusters to try, in order. The router-level filter sets it."""
ROLE = "x-edge-role"
"""gRPC metadata with the filter that calls the agent: router, upstream or guard; socket for a WebSocket, mcp for a
request to an MCP server."""
AFFINITY = "x-edge-affinity"
"""gRPC metadata by which Envoy sends all streams of a request to the same worker."""
WORKER = "x-edge-worker"
"""gRPC metadata with the address of the worker that holds the exchange, for the streams of its attempts."""
EXCHANGE = "exchange"
"""The metadata key, in NAMESPACE, of the exchange's id."""
OWN_WORKER = "worker"
"""The metadata key, in NAMESPACE, of that address."""
AUTHZ_DENIED = "ext_authz_denied"
"""Envoy's response code details after a denial by ext_authz. If the agent was unreachable, they are ext_authz_error."""
SOURCE_LIMITED = "local_rate_limited"
"""Envoy's response code details after a refusal by `envoy.source_limit`."""
OUR_DETAILS = "edge_"
"""The prefix of the response code details of the agent's own responses."""
AUTHZ_NAMESPACE = "envoy.filters.http.ext_authz"
"""The metadata namespace of the ext_authz filter. No other filter writes to it."""
CONTENT_LENGTH = "content_length"
TRACEPARENT = "traceparent"
GUARD = "guard"

EXTERNAL_PREFIXES = ("x-edge-", "x-envoy-", "x-forwarded-")
"""Request headers of the gateway and of proxies. No provider gets them."""
RESERVED_RESPONSE_PREFIXES = ("access-control-", "x-edge-", "x-envoy-", "x-ratelimit-")
"""Response headers of the gateway itself. No provider may fill them in."""
