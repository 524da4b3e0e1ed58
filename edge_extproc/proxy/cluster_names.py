"""The names of the clusters of providers and of MCP servers.

An Envoy that others configure names each cluster after its provider. An Envoy that the gateway starts can get other
clusters while it runs. A request that was planned before the change must not reach the new cluster: another host would
receive the old host's credential. So there a cluster's name also holds a digest of its settings. A provider that moves
to another host gets another cluster, and the old cluster stays until its last request has ended. The worker and the
renderer both compute the name from the configuration alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import blake2b

from ..config.mcp import McpServerConfig
from ..config.provider import ProviderConfig
from ..config.schema import Config
from ..model.envoy_names import cluster_name, mcp_cluster_name

_DIGEST_SIZE = 5


def can_change(config: Config) -> bool:
    """Whether the gateway's own Envoy can get changes while it runs. It cannot if `envoy.raw` configures other sources
    of resources, or may leave out the statistics that show which resources Envoy has accepted."""
    raw = config.envoy.raw
    stats = raw.get("stats_config")
    return "dynamic_resources" not in raw and not (isinstance(stats, Mapping) and "stats_matcher" in stats)


def cluster_names(config: Config, *, versioned: bool) -> dict[str, str]:
    """Cluster names by provider. The digest covers all that envoy_config/clusters.py reads of a provider: a
    change that leaves the name as it was would not reach Envoy."""
    if not versioned:
        return {name: cluster_name(name) for name in config.providers}
    return {name: f"{cluster_name(name)}@{_digest_of(config, provider)}" for name, provider in config.providers.items()}


def mcp_cluster_names(config: Config, *, versioned: bool) -> dict[str, str]:
    """The same for MCP servers."""
    servers = config.mcp_servers()
    if not versioned:
        return {name: mcp_cluster_name(name) for name in servers}
    return {name: f"{mcp_cluster_name(name)}@{_digest_of(config, server)}" for name, server in servers.items()}


def _digest_of(config: Config, upstream: ProviderConfig | McpServerConfig) -> str:
    shared = (config.timeouts.connect, config.retries.budget)
    return _digest((upstream.endpoint, upstream.pool, upstream.tls, shared))


def _digest(value: object) -> str:
    return blake2b(repr(value).encode(errors="surrogateescape"), digest_size=_DIGEST_SIZE).hexdigest()
