"""Failover chain: the candidates in the order in which config names them."""

from __future__ import annotations

from collections.abc import Sequence

from ..model.plan import Candidate, Tried
from .base import Strategy, StrategySettings, Wish


class FailoverChain:
    def order(self, wish: Wish, candidates: Sequence[Candidate]) -> Sequence[Candidate]:
        del wish  # the order does not depend on what is asked
        return candidates

    def learn(self, tried: Tried) -> None:
        """Nothing: config has said it all."""


class _Kind:
    def build(self, settings: StrategySettings) -> Strategy:
        del settings
        return FailoverChain()


PLUGIN = _Kind()
