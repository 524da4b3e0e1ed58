"""Failover: the candidates in the configured order."""

from __future__ import annotations

from collections.abc import Sequence

from ..model.plan import AttemptResult, Candidate
from .base import RoutingRequest, Strategy, StrategySettings


class FailoverChain:
    """The strategy `failover`."""

    def order(self, request: RoutingRequest, candidates: Sequence[Candidate]) -> Sequence[Candidate]:
        del request  # the order does not depend on the call
        return candidates

    def record(self, attempt: AttemptResult) -> None:
        """Nothing to record: the order is fixed."""


class _Kind:
    def build(self, settings: StrategySettings) -> Strategy:
        del settings
        return FailoverChain()


PLUGIN = _Kind()
