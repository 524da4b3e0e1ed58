"""Names that both the agent and Envoy's configuration must agree on."""

from __future__ import annotations


def cluster_name(provider: str) -> str:
    """The Envoy cluster of a provider."""
    return f"provider_{provider}"
