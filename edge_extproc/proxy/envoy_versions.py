"""Chooses what to render for the target proxy, and refuses what it cannot do.

With priority groups, the agent sends the order of providers with each request. Without them, each order is a cluster
that the agent names in a header: a composite cluster chooses by the number of the attempt, an aggregate cluster by the
priorities that were not yet tried. capabilities.py has the capabilities of each target.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import combinations
from typing import Any, Literal, TypeAlias

from ..config.schema import Config
from ..errors import ConfigError
from .capabilities import CAPABILITIES, Capability, releases

VERSIONS = releases("envoy")
"""The supported releases of Envoy, the oldest first."""

Order: TypeAlias = Literal["priority_group", "composite", "aggregate"]
"""How the order of attempts reaches Envoy: with each request, or as a cluster of this kind."""

_ORDERS: tuple[Order, ...] = ("priority_group", "composite", "aggregate")

# Each needs a load balancer in every thread of Envoy.
_MOST_CHAINS = 500


def capabilities_of(config: Config) -> frozenset[Capability]:
    """Raises ConfigError if the version is not supported."""
    envoy = config.envoy
    if envoy.capabilities is not None:
        return _all_but(envoy.capabilities)
    target = f"envoy-{envoy.version}" if envoy.istio is None else f"istio-{envoy.istio}"
    capabilities = CAPABILITIES.get(target)
    if capabilities is None and envoy.istio is not None:
        have = ", ".join(releases("istio"))
        raise ConfigError(f"envoy.istio: {envoy.istio!r} cannot be rendered for; have {have}")
    if capabilities is None:
        raise ConfigError(f"envoy.version: {envoy.version!r} cannot be rendered for; have {', '.join(VERSIONS)}")
    return capabilities


def _all_but(names: tuple[str, ...]) -> frozenset[Capability]:
    known = frozenset[Capability]().union(*CAPABILITIES.values())
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ConfigError(f"envoy.capabilities: {unknown[0]!r} is not a capability; have {', '.join(sorted(known))}")
    if not set(_ORDERS) & set(names):
        raise ConfigError(f"envoy.capabilities: one of {', '.join(_ORDERS)} is needed, for the order of providers")
    return frozenset(each for each in known if each in names)


def can(config: Config, capability: Capability) -> bool:
    """Raises ConfigError if the version is not supported."""
    return capability in capabilities_of(config)


def order_of(config: Config) -> Order:
    """Raises ConfigError if the version is not supported."""
    capabilities = capabilities_of(config)
    return next(order for order in _ORDERS if order in capabilities)


def can_guard(config: Config) -> bool:
    """Whether the proxy can hold a response until its first token, and try another provider if there is none."""
    capabilities = capabilities_of(config)
    return "held_retry" in capabilities and not capabilities.isdisjoint({"metadata_matcher", "filter_state_matcher"})


def proxy_name(config: Config) -> str:
    """The proxy's name in messages."""
    if config.envoy.capabilities is not None:
        return "the custom proxy"
    return f"Envoy {config.envoy.version}" if config.envoy.istio is None else f"the proxy of Istio {config.envoy.istio}"


_ONE: dict[str, Any] = {"istio": None, "capabilities": None}


def at_version(config: Config, version: str | None) -> Config:
    """The configuration for another release of Envoy; None changes nothing."""
    if version is None:
        return config
    return config.model_copy(update={"envoy": config.envoy.model_copy(update=_ONE | {"version": version})})


def at_istio(config: Config, version: str | None) -> Config:
    """The configuration for the proxy of another Istio; None changes nothing."""
    if version is None:
        return config
    return config.model_copy(update={"envoy": config.envoy.model_copy(update=_ONE | {"istio": version})})


def at_capabilities(config: Config, capabilities: tuple[Capability, ...]) -> Config:
    """The configuration for a proxy with these capabilities."""
    return config.model_copy(
        update={"envoy": config.envoy.model_copy(update=_ONE | {"capabilities": tuple(capabilities)})}
    )


def plans_alike(one: Config, other: Config) -> bool:
    """Whether an agent plans requests for both proxies in the same way."""
    return (order_of(one), can_guard(one)) == (order_of(other), can_guard(other))


def lost(config: Config) -> tuple[str, ...]:
    """The limitations of this proxy compared with Envoy 1.40, a sentence each."""
    capabilities = capabilities_of(config)
    chained = (
        "strategies and affinity choose only the first candidate; the others follow in the configured order",
        "a call with several candidates needs one more gRPC stream",
    )
    unchanged = ("a call that is refused for its length or content cannot fall back to another model",)
    unhedged = ("a slow call cannot be hedged with a second provider",)
    unguarded = ("responses are not held until their first token: a failure after the headers reaches the caller",)
    unhashed = ("a worker that has died is detected only by its health check",)
    unmasked = ("the access log does not contain the caller's network",)
    return (
        *(() if "priority_group" in capabilities else chained + unchanged),
        *(() if capabilities & {"priority_group", "composite"} else unhedged),
        *(() if can_guard(config) else unguarded),
        *(() if "hash_policy" in capabilities else unhashed),
        # Istio writes its own access log.
        *(() if "masked_address" in capabilities or config.envoy.istio is not None else unmasked),
    )


def check(config: Config) -> None:
    """Raises ConfigError if the configuration needs what this proxy cannot do."""
    capabilities, order, proxy = capabilities_of(config), order_of(config), proxy_name(config)
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
            raise ConfigError(f"{where}.guard: {proxy} cannot hold a response; Envoy can from 1.37 on; set it to off")
    if "hash_policy" not in capabilities and _workers(config) > 1:
        raise ConfigError(
            f"agent.workers: {proxy} cannot send all streams of a request to the same worker, as Envoy can "
            "from 1.37 on; set agent: {workers: 1}, with one host"
        )
    count = sum(_count(len(names), config.retries.attempts) for names in _lists(config))
    if count > _MOST_CHAINS:
        raise ConfigError(
            f"models: {proxy} needs a cluster for each order of candidates, {count} of them, and more than "
            f"{_MOST_CHAINS} are too many; configure fewer candidates, or lower retries.attempts"
        )


def chains(config: Config) -> list[tuple[str, ...]]:
    """The providers of each order that a plan may have: any candidate first, then others in the configured order, some
    possibly left out, up to the number of attempts."""
    orders: dict[tuple[str, ...], None] = {}
    for names in _lists(config):
        orders.update(dict.fromkeys(_orders(names, config.retries.attempts)))
    return list(orders)


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
