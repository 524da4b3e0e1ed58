"""Weighted round robin: each candidate gets its share of the calls, spread evenly (smooth weighted round robin).

For each call, every candidate's score grows by its weight. The highest score is first, and is reduced by the sum of all
weights. Weights 5, 1, 1 give a a b a c a a, and not five calls in a row. A candidate that is excluded for a while does
not gain meanwhile, so it gets no burst of calls when it is back.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..model.plan import AttemptResult, Candidate
from .base import RoutingRequest, Strategy, StrategySettings

# Models that match a glob have names that callers choose, so there may be any number.
_MAX_CACHED = 1024


class RoundRobin:
    """The strategy `round_robin`."""

    def __init__(self) -> None:
        self._scores: dict[tuple[str, str], int] = {}

    def order(self, request: RoutingRequest, candidates: Sequence[Candidate]) -> Sequence[Candidate]:
        del request
        scores = self._scores
        if len(scores) > _MAX_CACHED:
            scores.clear()
        # Pairs of strings, because hashing a candidate takes ten times as long.
        names = [(candidate.provider, candidate.model) for candidate in candidates]
        raised = [scores.get(name, 0) + candidate.weight for name, candidate in zip(names, candidates, strict=True)]
        scores.update(zip(names, raised, strict=True))
        # Sorting is stable: among equal scores, the configured order decides.
        places = sorted(range(len(raised)), key=raised.__getitem__, reverse=True)
        scores[names[places[0]]] -= sum([candidate.weight for candidate in candidates])
        return [candidates[place] for place in places]

    def record(self, attempt: AttemptResult) -> None:
        """Nothing to record: results do not change the order."""


class _Kind:
    def build(self, settings: StrategySettings) -> Strategy:
        del settings
        return RoundRobin()


PLUGIN = _Kind()
