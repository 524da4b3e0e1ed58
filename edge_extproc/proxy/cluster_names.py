"""The names of the providers' clusters.

An Envoy that others configure names each cluster after its provider. An Envoy that the gateway starts can get other
clusters while it runs. A request that was planned before the change must not reach the new cluster: another host would
receive the old host's credential. So there a cluster's name also holds a digest of its settings. A provider that moves
to another host gets another cluster, and the old cluster stays until its last request has ended. The worker and the
renderer both compute the name from the configuration alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import blake2b

from ..config.schema import Config
from ..model.envoy_names import cluster_name

_DIGEST_SIZE = 5


def can_change(config: Config) -> bool:
    """Whether an Envoy of ours is told of changes: not where `envoy.raw` says itself where its resources come from, or
    may leave out the statistics that tell what it has taken."""
    raw = config.envoy.raw
    stats = raw.get("stats_config")
    return "dynamic_resources" not in raw and not (isinstance(stats, Mapping) and "stats_matcher" in stats)


def cluster_names(config: Config, *, editions: bool) -> dict[str, str]:
    """Cluster names by provider. The digest covers all that envoy_config/clusters.py reads of a provider: a
    change that leaves the name as it was would not reach Envoy."""
    if not editions:
        return {name: cluster_name(name) for name in config.providers}
    shared = (config.timeouts.connect, config.retries.budget)
    return {
        name: f"{cluster_name(name)}@{_digest((provider.endpoint, provider.pool, provider.tls, shared))}"
        for name, provider in config.providers.items()
    }


def _digest(value: object) -> str:
    return blake2b(repr(value).encode(errors="surrogateescape"), digest_size=_DIGEST_SIZE).hexdigest()
