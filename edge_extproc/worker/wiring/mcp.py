"""Builds what an exchange knows of MCP servers from the configuration."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal

from ...auth.mcp_access import McpGrants
from ...auth.merge import mcp_entries
from ...config.mcp import McpServerConfig
from ...config.schema import Config
from ...exchange.mcp_session_ids import SessionSeal
from ...exchange.mcp_settings import McpServer, McpSettings
from ...limits.base import MICRO
from ...model.globs import is_glob
from ...proxy.cluster_names import mcp_cluster_names


def build_mcp(config: Config, *, versioned_clusters: bool) -> McpSettings:
    """`versioned_clusters`: clusters are named with a digest (proxy/cluster_names.py)."""
    clusters = mcp_cluster_names(config, versioned=versioned_clusters)
    return McpSettings(
        SessionSeal(config.auth.pepper.reveal().encode()),
        {name: _server(name, server, clusters[name]) for name, server in config.mcp_servers().items()},
        {caller.tenant: McpGrants(mcp_entries(caller.mcp)) for caller in config.callers},
        origins_of(config),
        config.mcp.url,
        tuple(issuer.issuer for issuer in config.auth.jwt),
    )


def _server(name: str, server: McpServerConfig, cluster: str) -> McpServer:
    key = server.api_key
    credentials = tuple((name, value.reveal()) for name, value in server.headers.items())
    if key is not None:
        credentials = (("authorization", f"Bearer {key.reveal()}"), *credentials)
    prices = tuple((tool, Decimal(micro) / MICRO) for tool, micro in server.prices.items())
    return McpServer(name, server.path, cluster, credentials, prices, server.audiences)


def origins_of(config: Config) -> frozenset[str]:
    """The web pages that may call from a browser."""
    listed = (each.cors.origins for _, each in config.listen.listeners() if each.cors is not None)
    return frozenset(origin for origins in listed for origin in origins)


def mcp_names(config: Config) -> Iterator[str]:
    """The tools that the configuration names, as metrics do: those that have a price, or that a tenant may use."""
    for server, settings in config.mcp_servers().items():
        grants = (caller.mcp.get(server) for caller in config.callers)
        tools = (*settings.prices, *(tool for access in grants if access is not None for tool in access.tools))
        yield from (f"{server}/{tool}" for tool in tools if not is_glob(tool))
