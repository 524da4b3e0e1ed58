"""Renders the same configuration as bootstrap.py for an Envoy that is reconfigured while it runs: a bootstrap that
names files, and the content of these files.

Clusters (CDS), the listeners (LDS) and the routes of the first one (RDS) are resources in files, so a changed timeout
or retry policy drains none of its connections. Envoy takes one set of routes from a file: further listeners contain
theirs. A cluster never changes: a changed one is a new cluster with another name (see
`provider_<name>@<digest>`). What an operator adds by `envoy.raw` stays in its place: listeners in the listener's file,
because they may name rendered clusters; clusters in the bootstrap, because other parts of the bootstrap may name them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

from ..config.schema import Config
from ..model.envoy_names import AGENT, chain_name, cluster_name, mcp_cluster_name, pair_name, socket_cluster_name
from ..proxy import envoy_versions
from ..proxy.cluster_names import cluster_names, mcp_cluster_names
from .bootstrap import bootstrap, ensure_certificate
from .clusters import hedged_pairs
from .envoy_types import Json
from .listener import LISTENER

_TYPES = {
    "clusters": "type.googleapis.com/envoy.config.cluster.v3.Cluster",
    "listeners": "type.googleapis.com/envoy.config.listener.v3.Listener",
    "routes": "type.googleapis.com/envoy.config.route.v3.RouteConfiguration",
}


@dataclass(frozen=True, slots=True)
class DiscoveryFiles:
    """The directory in which Envoy watches the file of each kind of resource. A change must be a rename within this
    directory."""

    clusters: Path
    listeners: Path
    routes: Path

    @classmethod
    def of(cls, directory: Path) -> DiscoveryFiles:
        return cls(*(directory.absolute() / f"envoy-{kind}.json" for kind in ("clusters", "listeners", "routes")))


@dataclass(frozen=True, slots=True)
class DynamicResources:
    bootstrap: Json
    """The static part, which a running Envoy cannot change."""
    clusters: Mapping[str, Json]
    """The resources by name."""
    listeners: Sequence[Json]
    routes: Sequence[Json]
    whole: Json
    """The same as one static bootstrap, which Envoy can validate."""


def render(config: Config, files: DiscoveryFiles) -> DynamicResources:
    """Creates the configured certificate if it is to be generated. Raises ConfigError."""
    ensure_certificate(config)
    # Connections keep the filters that they began with, which must also be correct for a hedge that is configured
    # later.
    bootstrap_config = bootstrap(config, passes_over=True)
    static = bootstrap_config["static_resources"]
    names = _names(config, static["clusters"])
    clusters: dict[str, Json] = {}
    listeners: list[Json] = []
    routes: list[Json] = []
    for cluster in static["clusters"]:
        if (name := names.get(cluster["name"])) is not None:
            # Statistics and the access log keep the plain name.
            clusters[name] = {"alt_stat_name": cluster["name"], **_renamed({**cluster, "name": name}, names)}
    for configured in static["listeners"]:
        listener = _renamed(configured, names)
        if listener.get("name") == LISTENER:
            listener, routes = _with_rds(listener, files.routes)
        listeners.append(listener)
    others = {
        **{key: value for key, value in static.items() if key != "listeners"},
        "clusters": [cluster for cluster in static["clusters"] if cluster["name"] not in names],
    }
    own = {
        **bootstrap_config,
        "static_resources": others,
        "dynamic_resources": {"cds_config": _source(files.clusters), "lds_config": _source(files.listeners)},
    }
    return DynamicResources(own, clusters, listeners, routes, bootstrap_config)


def discovered(version: str, kind: str, resources: Sequence[Json]) -> str:
    """The content of the file of this kind."""
    return json.dumps({"version_info": version, "resources": [{"@type": _TYPES[kind], **each} for each in resources]})


def _source(path: Path) -> Json:
    return {"resource_api_version": "V3", "path_config_source": {"path": str(path)}}


def _names(config: Config, clusters: Sequence[Json]) -> dict[str, str]:
    """The versioned name of each cluster, by its plain name."""
    own = cluster_names(config, versioned=True)
    names = {cluster_name(provider): name for provider, name in own.items()}
    for provider in config.socket_providers():
        names[socket_cluster_name(cluster_name(provider))] = socket_cluster_name(own[provider])
    for server, name in mcp_cluster_names(config, versioned=True).items():
        names[mcp_cluster_name(server)] = name
    for pair in hedged_pairs(config):
        names[pair_name(*map(cluster_name, pair))] = pair_name(*(own[provider] for provider in pair))
    if envoy_versions.order_of(config) != "priority_group":
        for chain in envoy_versions.chains(config):
            names[chain_name(map(cluster_name, chain))] = chain_name(own[provider] for provider in chain)
    (agent,) = (cluster for cluster in clusters if cluster["name"] == AGENT)
    digest = blake2b(json.dumps(agent, sort_keys=True).encode(), digest_size=5).hexdigest()
    return {**names, AGENT: f"{AGENT}@{digest}"}


# The keys that contain names of clusters; `clusters` contains names, or objects with a name.
_NAMING = ("cluster", "cluster_name")
# Its keys are names of clusters.
_HEALTH_OF = "cluster_min_healthy_percentages"


def _renamed(value: Any, names: Mapping[str, str]) -> Any:
    """The resources with the new names of their clusters."""
    if isinstance(value, list):
        return [_renamed(each, names) for each in value]
    if not isinstance(value, Mapping):
        return value
    renamed: Json = {}
    for key, each in value.items():
        if key in _NAMING and isinstance(each, str):
            renamed[key] = names.get(each, each)
        elif key == _HEALTH_OF and isinstance(each, Mapping):
            renamed[key] = {names.get(name, name): percent for name, percent in each.items()}
        elif key == "clusters" and isinstance(each, list):
            renamed[key] = [_renamed_value(_renamed(one, names), names) for one in each]
        else:
            renamed[key] = _renamed(each, names)
    return renamed


def _renamed_value(one: Any, names: Mapping[str, str]) -> Any:
    if isinstance(one, str):
        return names.get(one, one)
    if isinstance(one, Mapping) and isinstance(one.get("name"), str):
        return {**one, "name": names.get(one["name"], one["name"])}
    return one


def _with_rds(listener: Json, path: Path) -> tuple[Json, list[Json]]:
    """Adds the routes of the previous configuration."""
    route_configs: dict[str, Json] = {}

    def moved(each: Json) -> Json:
        config = each.get("typed_config", {})
        routes = config.get("route_config")
        if routes is None or route_configs.setdefault(routes["name"], routes) != routes:
            return each
        rest = {key: value for key, value in config.items() if key != "route_config"}
        rds = {"route_config_name": routes["name"], "config_source": _source(path)}
        return {**each, "typed_config": {**rest, "rds": rds}}

    chains = [{**chain, "filters": [moved(each) for each in chain["filters"]]} for chain in listener["filter_chains"]]
    return {**listener, "filter_chains": chains}, list(route_configs.values())


def at_sampling(config: Config, percent: int) -> Config:
    """The configuration at another sampling. Envoy gets the sampling by its runtime, which drains no connection; the
    listener keeps the value that it began with."""
    otlp = config.telemetry.otlp
    if otlp is None:
        return config
    telemetry = config.telemetry.model_copy(update={"otlp": otlp.model_copy(update={"sampling": percent})})
    return config.model_copy(update={"telemetry": telemetry})
