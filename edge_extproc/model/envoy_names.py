"""Names that both the agent and Envoy's configuration must agree on."""

from __future__ import annotations

from collections.abc import Iterable

_PROVIDER = "provider_"


def cluster_name(provider: str) -> str:
    """The Envoy cluster of a provider."""
    return f"{_PROVIDER}{provider}"


ROUTE = "x-edge-route"
"""The header by which the agent chooses among Envoy's routes: how a request may be tried again."""
ONCE, AGAIN = "once", "again"
CLUSTER = "x-edge-cluster"
"""The header by which the agent names the cluster of a request, where Envoy is older than 1.40."""
CALLERS_ID = "x-edge-request-id"
"""The header in which Envoy keeps the x-request-id that the caller sent; its own takes that name."""
REQUEST_ID = "request_id"
"""The key, in the metadata of NAMESPACE, of a caller's request id that the agent found valid."""
PROVIDERS_ID = "x-edge-provider-request-id"
"""The response header in which the caller is told the provider's own x-request-id."""
NO_RETRY = "x-edge-no-retry"
"""The header by which a caller says that its call must never be sent twice."""
ANSWERED_BY = 'xds.upstream_host_metadata.filter_metadata["edge"]["provider"]'
"""The attribute that says whose endpoint answered."""


def pair_name(first: str, second: str) -> str:
    """The Envoy cluster in which the first try goes to one provider's cluster and the second to another's."""
    return f"pair_{_joined((first, second))}"


def chain_name(clusters: Iterable[str]) -> str:
    """The Envoy cluster in which each try goes to the next of these clusters of providers."""
    return f"chain_{_joined(clusters)}"


def _joined(clusters: Iterable[str]) -> str:
    return "~".join(cluster.removeprefix(_PROVIDER) for cluster in clusters)


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
