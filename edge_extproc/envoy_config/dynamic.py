"""The same as render_envoy.py makes, for an Envoy that is told of changes while it runs: a bootstrap that names files,
and what is in them.

Clusters and the listener are resources of files (CDS, LDS), and so are the routes (RDS), so that another timeout or
another way of trying again drains no connection. No cluster ever changes: what would change is another cluster, of
another name (editions.py). What an operator adds by `envoy.raw` stays where it was: its listeners are in the file of
ours, since they may name our clusters, its clusters in the bootstrap, since other parts of the bootstrap may name them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

from ..config import envoy_versions
from ..config.cluster_names import cluster_names
from ..config.schema import Config
from ..model.envoy_names import AGENT, chain_name, cluster_name, pair_name
from .bootstrap import bootstrap, ensure_certificate
from .clusters import hedged_pairs
from .envoy_types import Json

_TYPES = {
    "clusters": "type.googleapis.com/envoy.config.cluster.v3.Cluster",
    "listeners": "type.googleapis.com/envoy.config.listener.v3.Listener",
    "routes": "type.googleapis.com/envoy.config.route.v3.RouteConfiguration",
}


@dataclass(frozen=True, slots=True)
class DiscoveryFiles:
    """Where Envoy looks for each kind of resource. A change must come by a rename within this directory."""

    clusters: Path
    listeners: Path
    routes: Path

    @classmethod
    def of(cls, directory: Path) -> DiscoveryFiles:
        return cls(*(directory.absolute() / f"envoy-{kind}.json" for kind in ("clusters", "listeners", "routes")))


@dataclass(frozen=True, slots=True)
class DynamicResources:
    bootstrap: Json
    """What an Envoy that runs cannot be told anew."""
    clusters: Mapping[str, Json]
    """By name."""
    listeners: Sequence[Json]
    routes: Sequence[Json]
    whole: Json
    """The same as one static bootstrap, which Envoy can check."""


def render(config: Config, files: DiscoveryFiles) -> DynamicResources:
    """Makes the certificate that it names, if that is to be generated. Raises ConfigError."""
    ensure_certificate(config)
    # Connections that began before a change keep their filters: those must be right for a hedge that comes later.
    whole = bootstrap(config, passes_over=True)
    static = whole["static_resources"]
    names = _names(config, static["clusters"])
    clusters: dict[str, Json] = {}
    listeners: list[Json] = []
    routes: list[Json] = []
    for cluster in static["clusters"]:
        if (name := names.get(cluster["name"])) is not None:
            # Statistics and the access log go on under the plain name.
            clusters[name] = {"alt_stat_name": cluster["name"], **_renamed({**cluster, "name": name}, names)}
    for found in static["listeners"]:
        listener = _renamed(found, names)
        if listener.get("name") == "edge":
            listener, routes = _with_rds(listener, files.routes)
        listeners.append(listener)
    others = {
        **{key: value for key, value in static.items() if key != "listeners"},
        "clusters": [cluster for cluster in static["clusters"] if cluster["name"] not in names],
    }
    own = {
        **whole,
        "static_resources": others,
        "dynamic_resources": {"cds_config": _source(files.clusters), "lds_config": _source(files.listeners)},
    }
    return DynamicResources(own, clusters, listeners, routes, whole)


def discovered(version: str, kind: str, resources: Sequence[Json]) -> str:
    """The content of a file of this kind."""
    return json.dumps({"version_info": version, "resources": [{"@type": _TYPES[kind], **each} for each in resources]})


def _source(path: Path) -> Json:
    return {"resource_api_version": "V3", "path_config_source": {"path": str(path)}}


def _names(config: Config, clusters: Sequence[Json]) -> dict[str, str]:
    """Plain name to the name that says what it is."""
    own = cluster_names(config, editions=True)
    found = {cluster_name(provider): name for provider, name in own.items()}
    for pair in hedged_pairs(config):
        found[pair_name(*map(cluster_name, pair))] = pair_name(*(own[provider] for provider in pair))
    if envoy_versions.order_of(config) != "priority_group":
        for chain in envoy_versions.chains(config):
            found[chain_name(map(cluster_name, chain))] = chain_name(own[provider] for provider in chain)
    (agent,) = (cluster for cluster in clusters if cluster["name"] == AGENT)
    digest = blake2b(json.dumps(agent, sort_keys=True).encode(), digest_size=5).hexdigest()
    return {**found, AGENT: f"{AGENT}@{digest}"}


# Under which keys a cluster is named; `clusters` holds names, or things with a name.
_NAMING = ("cluster", "cluster_name")
# Its keys are names of clusters.
_HEALTH_OF = "cluster_min_healthy_percentages"


def _renamed(value: Any, names: Mapping[str, str]) -> Any:
    """With the clusters that it names under their new names."""
    if isinstance(value, list):
        return [_renamed(each, names) for each in value]
    if not isinstance(value, Mapping):
        return value
    found: Json = {}
    for key, each in value.items():
        if key in _NAMING and isinstance(each, str):
            found[key] = names.get(each, each)
        elif key == _HEALTH_OF and isinstance(each, Mapping):
            found[key] = {names.get(name, name): percent for name, percent in each.items()}
        elif key == "clusters" and isinstance(each, list):
            found[key] = [_named(_renamed(one, names), names) for one in each]
        else:
            found[key] = _renamed(each, names)
    return found


def _named(one: Any, names: Mapping[str, str]) -> Any:
    if isinstance(one, str):
        return names.get(one, one)
    if isinstance(one, Mapping) and isinstance(one.get("name"), str):
        return {**one, "name": names.get(one["name"], one["name"])}
    return one


def _with_rds(listener: Json, path: Path) -> tuple[Json, list[Json]]:
    """And the routes that it had."""
    found: dict[str, Json] = {}

    def moved(each: Json) -> Json:
        config = each.get("typed_config", {})
        routes = config.get("route_config")
        if routes is None or found.setdefault(routes["name"], routes) != routes:
            return each
        rest = {key: value for key, value in config.items() if key != "route_config"}
        rds = {"route_config_name": routes["name"], "config_source": _source(path)}
        return {**each, "typed_config": {**rest, "rds": rds}}

    chains = [{**chain, "filters": [moved(each) for each in chain["filters"]]} for chain in listener["filter_chains"]]
    return {**listener, "filter_chains": chains}, list(found.values())


def at_sampling(config: Config, percent: int) -> Config:
    """What Envoy samples is told by its runtime, which drains nothing: the listener keeps what it began with."""
    otlp = config.telemetry.otlp
    if otlp is None:
        return config
    telemetry = config.telemetry.model_copy(update={"otlp": otlp.model_copy(update={"sampling": percent})})
    return config.model_copy(update={"telemetry": telemetry})
