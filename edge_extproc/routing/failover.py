"""Failover chain: the candidates in the order in which config names them."""

from __future__ import annotations

from collections.abc import Sequence

from ..model.plan import AttemptResult, Candidate
from .base import RoutingRequest, Strategy, StrategySettings


class FailoverChain:
    def order(self, wish: RoutingRequest, candidates: Sequence[Candidate]) -> Sequence[Candidate]:
        del wish  # the order does not depend on what is asked
        return candidates

    def record(self, tried: AttemptResult) -> None:
        """Nothing: config has said it all."""


class _Kind:
    def build(self, settings: StrategySettings) -> Strategy:
        del settings
        return FailoverChain()


PLUGIN = _Kind()
