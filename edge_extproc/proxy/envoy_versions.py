"""What is rendered for a proxy that cannot do all that Envoy 1.40 can, and what is refused there.

With priority groups the agent sends the order of providers with each request. Elsewhere an order is a cluster, which
the agent names in a header. Composite clusters choose by the count of tries, aggregate ones by priorities not yet
tried. capabilities.py says which proxy can do what.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import combinations
from typing import Literal, TypeAlias

from ..config.schema import Config
from ..errors import ConfigError
from .capabilities import CAPABILITIES, Capability, releases

VERSIONS = releases("envoy")
"""Envoys that we can render for, the oldest first."""

Order: TypeAlias = Literal["priority_group", "composite", "aggregate"]
"""How the order of tries reaches Envoy: with each request, or as a cluster of this kind."""

_ORDERS: tuple[Order, ...] = ("priority_group", "composite", "aggregate")

# Each is a load balancer in every thread of Envoy's.
_MOST_CHAINS = 500


def capabilities_of(config: Config) -> frozenset[Capability]:
    """Raises ConfigError where the version is none of ours."""
    envoy = config.envoy
    target = f"envoy-{envoy.version}" if envoy.istio is None else f"istio-{envoy.istio}"
    found = CAPABILITIES.get(target)
    if found is None and envoy.istio is not None:
        have = ", ".join(releases("istio"))
        raise ConfigError(f"envoy.istio: {envoy.istio!r} cannot be rendered for; have {have}")
    if found is None:
        raise ConfigError(f"envoy.version: {envoy.version!r} cannot be rendered for; have {', '.join(VERSIONS)}")
    return found


def can(config: Config, capability: Capability) -> bool:
    """Raises ConfigError where the version is none of ours."""
    return capability in capabilities_of(config)


def order_of(config: Config) -> Order:
    """Raises ConfigError where the version is none of ours."""
    found = capabilities_of(config)
    return next(order for order in _ORDERS if order in found)


def can_guard(config: Config) -> bool:
    """Whether the proxy can hold an answer back until its first token, and ask another provider where there is none."""
    found = capabilities_of(config)
    return "held_retry" in found and not found.isdisjoint({"metadata_matcher", "filter_state_matcher"})


def proxy_name(config: Config) -> str:
    """As messages name it."""
    return f"Envoy {config.envoy.version}" if config.envoy.istio is None else f"the proxy of Istio {config.envoy.istio}"


def at_version(config: Config, version: str | None) -> Config:
    """The same for another Envoy; None: for that of the configuration."""
    if version is None:
        return config
    return config.model_copy(update={"envoy": config.envoy.model_copy(update={"version": version, "istio": None})})


def at_istio(config: Config, version: str | None) -> Config:
    """The same for the proxy of this Istio; None: for that of the configuration."""
    if version is None:
        return config
    return config.model_copy(update={"envoy": config.envoy.model_copy(update={"istio": version})})


def plans_alike(one: Config, other: Config) -> bool:
    """Whether an agent plans requests for both proxies in the same way."""
    return (order_of(one), can_guard(one)) == (order_of(other), can_guard(other))


def lost(config: Config) -> tuple[str, ...]:
    """What is done less well with this proxy than with Envoy 1.40, a sentence each."""
    found = capabilities_of(config)
    chained = (
        "a strategy and affinity choose who is tried first; the others follow in the order of the configuration",
        "a call with more than one candidate takes one gRPC stream more",
    )
    unchanged = ("a call that fails for its length or its content cannot fall back to another model",)
    unhedged = ("a slow call cannot be hedged by a second provider",)
    unguarded = ("no answer is held back until its first token: what fails after its headers reaches the caller",)
    unhashed = ("a worker that has just died is found out by its health check alone",)
    unmasked = ("the access log does not tell the caller's network",)
    return (
        *(() if "priority_group" in found else chained + unchanged),
        *(() if found & {"priority_group", "composite"} else unhedged),
        *(() if can_guard(config) else unguarded),
        *(() if "hash_policy" in found else unhashed),
        # Istio writes its own access log.
        *(() if "masked_address" in found or config.envoy.istio is not None else unmasked),
    )


def check(config: Config) -> None:
    """Raises ConfigError where the configuration wants what this proxy cannot do."""
    found, order, proxy = capabilities_of(config), order_of(config), proxy_name(config)
    if order == "priority_group":
        return
    for name, model in config.models.items():
        where = f"models.{name}"
        if model.fallbacks.context_length is not None or model.fallbacks.content_filter is not None:
            raise ConfigError(
                f"{where}.fallbacks: {proxy} has no priority groups, which they need; Envoy has from 1.40 on"
            )
        if order == "aggregate" and model.hedge is not None:
            raise ConfigError(
                f"{where}.hedge: {proxy} has no composite clusters, which it needs; Envoy has from 1.37 on"
            )
        if model.guard == "on" and not can_guard(config):
            raise ConfigError(f"{where}.guard: {proxy} cannot hold an answer back; Envoy can from 1.37 on; write off")
    if "hash_policy" not in found and _workers(config) > 1:
        raise ConfigError(
            f"agent.workers: {proxy} cannot bring the streams of a request to one of several workers, as Envoy can "
            "from 1.37 on; write agent: {workers: 1}, with one host"
        )
    count = sum(_count(len(names), config.retries.attempts) for names in _lists(config))
    if count > _MOST_CHAINS:
        raise ConfigError(
            f"models: {proxy} needs a cluster for each order of candidates, {count} of them, and more than "
            f"{_MOST_CHAINS} are too many; name fewer candidates, or lower retries.attempts"
        )


def chains(config: Config) -> list[tuple[str, ...]]:
    """The providers of each order that a plan may come to: any candidate first, then others as the configuration has
    them, some perhaps left out, as many as there are tries."""
    found: dict[tuple[str, ...], None] = {}
    for names in _lists(config):
        found.update(dict.fromkeys(_orders(names, config.retries.attempts)))
    return list(found)


def _lists(config: Config) -> Iterator[tuple[str, ...]]:
    for model in config.models.values():
        for candidates in (model.candidates, *(rule.candidates for rule in model.rules if rule.candidates is not None)):
            yield tuple(candidate.provider for candidate in candidates)


def _orders(names: tuple[str, ...], attempts: int) -> Iterator[tuple[str, ...]]:
    for length in range(2, min(len(names), attempts) + 1):
        for n, name in enumerate(names):
            for others in combinations((*names[:n], *names[n + 1 :]), length - 1):
                yield (name, *others)


def _count(candidates: int, attempts: int) -> int:
    lengths = range(2, min(candidates, attempts) + 1)
    return sum(candidates * math.comb(candidates - 1, length - 1) for length in lengths)


def _workers(config: Config) -> int:
    tcp = config.agent.tcp
    return config.agent.workers * (len(tcp.hosts) if tcp is not None else 1)
