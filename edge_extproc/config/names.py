"""Names that both the agent and Envoy's configuration must agree on."""

from __future__ import annotations

from collections.abc import Iterable


def cluster_name(provider: str) -> str:
    """The Envoy cluster of a provider."""
    return f"provider_{provider}"


ROUTE = "x-edge-route"
"""The header by which the agent chooses among Envoy's routes: how a request may be tried again."""
ONCE, AGAIN = "once", "again"
CLUSTER = "x-edge-cluster"
"""The header by which the agent names the cluster of a request, where Envoy is older than 1.40."""
NO_RETRY = "x-edge-no-retry"
"""The header by which a caller says that its call must never be sent twice."""
ANSWERED_BY = 'xds.upstream_host_metadata.filter_metadata["edge"]["provider"]'
"""The attribute that says whose endpoint answered."""


def pair_name(first: str, second: str) -> str:
    """The Envoy cluster in which the first try goes to one provider and the second to another."""
    return f"pair_{first}~{second}"


def chain_name(providers: Iterable[str]) -> str:
    """The Envoy cluster in which each try goes to the next of these providers."""
    return f"chain_{'~'.join(providers)}"
