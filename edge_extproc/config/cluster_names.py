"""What the clusters of the providers are called.

An Envoy of someone else's knows each by its provider's name. An Envoy of ours can be given others while it runs, and
requests that were planned before must not reach what is there now: another host would be told the credential of the
first. So there a name also holds a digest of what the cluster is: a provider that changes its host has another cluster,
and the old one stays until nobody is on the way to it. Both sides work the name out from the configuration alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import blake2b

from ..model.envoy_names import cluster_name
from .schema import Config

_DIGEST_SIZE = 5


def can_change(config: Config) -> bool:
    """Whether an Envoy of ours is told of changes: not where `envoy.raw` says itself where its resources come from, or
    may leave out the statistics that tell what it has taken."""
    raw = config.envoy.raw
    stats = raw.get("stats_config")
    return "dynamic_resources" not in raw and not (isinstance(stats, Mapping) and "stats_matcher" in stats)


def cluster_names(config: Config, *, editions: bool) -> dict[str, str]:
    """By provider. Everything that render_clusters.py makes a provider's cluster of is in the digest; what two clusters
    of one name differ in, a reload does not bring to Envoy."""
    if not editions:
        return {name: cluster_name(name) for name in config.providers}
    shared = (config.timeouts.connect, config.retries.budget)
    return {
        name: f"{cluster_name(name)}@{_digest((provider.endpoint, provider.pool, provider.tls, shared))}"
        for name, provider in config.providers.items()
    }


def _digest(value: object) -> str:
    return blake2b(repr(value).encode(errors="surrogateescape"), digest_size=_DIGEST_SIZE).hexdigest()
