"""The health of each provider as one number: the share of successful attempts in the last minutes.

The supervisor derives it from the attempt counters of all workers.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TypeAlias

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from .merge import Totals

WINDOW = 300.0
"""Seconds over which the share is computed."""

_Tries: TypeAlias = Mapping[str, tuple[float, float]]
"""By provider: the number of successful and of failed attempts."""


class ProviderHealth(Collector):
    """Call `look` at each scrape, before `collect`."""

    def __init__(
        self, providers: Callable[[], Iterable[str]] = tuple, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`providers`: the names in the applied configuration."""
        self._providers = providers
        self._clock = clock
        self._attempts: deque[tuple[float, _Tries]] = deque()
        """The counts at each scrape within the window, and at the last scrape before it."""
        self._open: Mapping[str, float] = {}

    def look(self, totals: Totals) -> None:
        """Records the totals of this scrape."""
        now = self._clock()
        outcomes: dict[str, tuple[float, float]] = {}
        for labels, count in totals.values("edge_provider_tries", "edge_provider_tries_total"):
            good, failed = outcomes.get(labels["provider"], (0.0, 0.0))
            match labels["verdict"]:
                case "ok":
                    outcomes[labels["provider"]] = (good + count, failed)
                case "failed":
                    outcomes[labels["provider"]] = (good, failed + count)
        self._attempts.append((now, outcomes))
        while len(self._attempts) > 2 and self._attempts[1][0] <= now - WINDOW:
            self._attempts.popleft()
        self._open = {each["provider"]: n for each, n in totals.values("edge_circuits_open", "edge_circuits_open")}

    def collect(self) -> Iterator[GaugeMetricFamily]:
        health = GaugeMetricFamily(
            "edge_provider_health",
            "Share of a provider's attempts that succeeded in the last five minutes, 0 to 1. Without attempts: 0 while "
            "one of its circuits is open, else 1.",
            labels=("provider",),
        )
        for provider in self._providers():
            health.add_metric((provider,), self._of(provider))
        yield health

    def _of(self, provider: str) -> float:
        if self._attempts:
            good, failed = self._attempts[-1][1].get(provider, (0.0, 0.0))
            before = self._attempts[0][1].get(provider, (0.0, 0.0)) if len(self._attempts) > 1 else (0.0, 0.0)
            good, failed = good - before[0], failed - before[1]
            if good + failed > 0:
                return good / (good + failed)
        return 0.0 if self._open.get(provider, 0.0) > 0 else 1.0
