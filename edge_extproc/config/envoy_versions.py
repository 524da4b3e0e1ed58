"""What an Envoy older than 1.40 can do of what we ask of it, and which clusters stand in for what it cannot.

From 1.40 on the agent tells the order of providers with each request. Before, an order is a cluster: the agent names
one in a header. Composite clusters (1.37) choose by the count of tries, aggregate ones by priorities not yet tried.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import combinations
from typing import Literal, TypeAlias

from ..errors import ConfigError
from .schema import Config

VERSIONS = ("1.36", "1.37", "1.38", "1.39", "1.40")
"""Envoys that we can render for, the oldest first."""

Order: TypeAlias = Literal["told", "composite", "aggregate"]
"""How the order of tries reaches Envoy: with each request, or as a cluster of this kind."""

_ORDERS: dict[str, Order] = {"1.36": "aggregate", "1.37": "composite", "1.38": "composite", "1.39": "composite"}

# Each is a load balancer in every thread of Envoy's.
_MOST_CHAINS = 500


def order_of(config: Config) -> Order:
    """Raises ConfigError where the version is none of ours."""
    version = config.envoy.version
    if version not in VERSIONS:
        raise ConfigError(f"envoy.version: {version!r} cannot be rendered for; have {', '.join(VERSIONS)}")
    return _ORDERS.get(version, "told")


def at_version(config: Config, version: str | None) -> Config:
    """The same for another Envoy; None: for that of the configuration."""
    if version is None or version == config.envoy.version:
        return config
    return config.model_copy(update={"envoy": config.envoy.model_copy(update={"version": version})})


def masks_addresses(config: Config) -> bool:
    """Whether the access log can tell a caller's network without telling his address. 1.38."""
    return VERSIONS.index(config.envoy.version) >= VERSIONS.index("1.38")


def lost(config: Config) -> tuple[str, ...]:
    """What is done less well with this version than with 1.40, a sentence each."""
    order = order_of(config)
    if order == "told":
        return ()
    chained = (
        "a strategy and affinity choose who is tried first; the others follow in the order of the configuration",
        "a call with more than one candidate takes one gRPC stream more",
    )
    unmasked = () if masks_addresses(config) else ("the access log does not tell the caller's network",)
    unguarded = (
        "no answer is held back until its first token: what fails after its headers reaches the caller",
        "a worker that has just died is found out by its health check alone",
    )
    return (*chained, *unmasked, *(unguarded if order == "aggregate" else ()))


def check(config: Config) -> None:
    """Raises ConfigError where the configuration wants what this version cannot do."""
    order, version = order_of(config), config.envoy.version
    if order == "told":
        return
    for name, model in config.models.items():
        where = f"models.{name}"
        if model.fallbacks.context_length is not None or model.fallbacks.content_filter is not None:
            raise ConfigError(f"{where}.fallbacks: they need Envoy 1.40, and envoy.version is {version}")
        if order == "aggregate" and model.hedge is not None:
            raise ConfigError(f"{where}.hedge: it needs Envoy 1.37, and envoy.version is {version}")
        if order == "aggregate" and model.guard == "on":
            raise ConfigError(f"{where}.guard: it needs Envoy 1.37, and envoy.version is {version}; write off")
    if order == "aggregate" and _workers(config) > 1:
        raise ConfigError(
            f"agent.workers: Envoy {version} cannot bring the streams of a request to one of several workers, as 1.37 "
            "can; write agent: {workers: 1}, with one host"
        )
    count = sum(_count(len(names), config.retries.attempts) for names in _lists(config))
    if count > _MOST_CHAINS:
        raise ConfigError(
            f"models: Envoy {version} needs a cluster for each order of candidates, {count} of them, and more than "
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
