"""A strategy: the last candidate first."""

from __future__ import annotations

from collections.abc import Sequence

from edge_extproc.model.plan import AttemptResult, Candidate
from edge_extproc.routing.base import RoutingRequest, StrategySettings


class LastFirst:
    def order(self, wish: RoutingRequest, candidates: Sequence[Candidate]) -> Sequence[Candidate]:
        del wish
        return tuple(reversed(candidates))

    def record(self, tried: AttemptResult) -> None:
        """The order does not depend on results."""


class LastFirstKind:
    def build(self, settings: StrategySettings) -> LastFirst:
        del settings
        return LastFirst()


PLUGIN = LastFirstKind()
