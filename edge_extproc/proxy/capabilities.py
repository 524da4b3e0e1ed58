"""The capabilities of each target proxy, as data. envoy_versions.py uses them to choose what is rendered.

A target is a release of Envoy (`envoy-1.40`) or the proxy of a release of Istio (`istio-1.30`). Istio builds its own
Envoy with fewer extensions, so the version of that Envoy does not determine its capabilities.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, TypeAlias

Capability: TypeAlias = Literal[
    # The ways to try several providers in order, the best first. priority_group: the order is in the dynamic metadata
    # of each request (envoy.router.cluster_specifier_plugin.priority_group). composite: one cluster for each order,
    # which selects by the attempt count (envoy.clusters.composite). aggregate: the same by priority
    # (envoy.clusters.aggregate with
    # envoy.retry_priorities.previous_priorities).
    "priority_group",
    "composite",
    "aggregate",
    # HttpProtocolOptions of a cluster has hash_policy and retry_policy: all streams of a request reach one worker.
    "hash_policy",
    # The router retries a 5xx response that an upstream filter holds.
    "held_retry",
    # A matcher of filters can read dynamic metadata (envoy.matching.matchers.metadata_matcher with
    # envoy.matching.inputs.dynamic_metadata) …
    "metadata_matcher",
    # … or filter state (envoy.filters.http.set_filter_state with envoy.matching.inputs.filter_state).
    "filter_state_matcher",
    # ext_proc and ext_authz have the field emit_client_span.
    "client_span",
    # Access logs can contain the network of an address instead of the address (a prefix length in
    # %DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%).
    "masked_address",
]

# Envoy: changelogs/1.36.0.yaml to 1.40.0.yaml of envoyproxy/envoy. held_retry is the fix of 1.37 for "upstream filters
# that stop iteration"; a test failed with the binary of 1.36.4 and passed with 1.37.0.
_ENVOY_1_36: frozenset[Capability] = frozenset({"aggregate", "metadata_matcher", "filter_state_matcher"})
_ENVOY_1_37: frozenset[Capability] = _ENVOY_1_36 | {"composite", "hash_policy", "held_retry"}
_ENVOY_1_38: frozenset[Capability] = _ENVOY_1_37 | {"masked_address"}
_ENVOY_1_39: frozenset[Capability] = _ENVOY_1_38
_ENVOY_1_40: frozenset[Capability] = _ENVOY_1_39 | {"priority_group", "client_span"}

# Istio: bazel/extension_config/extensions_build_config.bzl of istio/proxy, release-1.29 to release-1.31 and master,
# lists the included extensions: neither priority_group, composite nor metadata_matcher. The filter state input is
# included, although its name is not listed: it is in the same build target as destination_ip, which is listed
# (//source/extensions/matching/network/common:inputs_lib). client_span: istiod silently drops fields that its
# go-control-plane does not know.
_NOT_OF_ISTIO: frozenset[Capability] = frozenset({"priority_group", "composite", "metadata_matcher", "client_span"})

CAPABILITIES: Mapping[str, frozenset[Capability]] = {
    "envoy-1.36": _ENVOY_1_36,
    "envoy-1.37": _ENVOY_1_37,
    "envoy-1.38": _ENVOY_1_38,
    "envoy-1.39": _ENVOY_1_39,
    "envoy-1.40": _ENVOY_1_40,
    # ENVOY_SHA in WORKSPACE of istio/proxy, by branch: 1.37.6, 1.38.4, 1.39.1, and 1.40 before its release.
    "istio-1.29": _ENVOY_1_37 - _NOT_OF_ISTIO,
    "istio-1.30": _ENVOY_1_38 - _NOT_OF_ISTIO,
    "istio-1.31": _ENVOY_1_39 - _NOT_OF_ISTIO,
    "istio-1.32": _ENVOY_1_40 - _NOT_OF_ISTIO,
}
"""The capabilities by target, the oldest release first."""


def releases(family: Literal["envoy", "istio"]) -> tuple[str, ...]:
    """The releases of one family, the oldest first: 1.36, 1.37 and so on."""
    return tuple(name.removeprefix(f"{family}-") for name in CAPABILITIES if name.startswith(f"{family}-"))
