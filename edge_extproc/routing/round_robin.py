"""Round robin by weight: each candidate gets its share of the calls, spread as evenly as can be.

Each turn every candidate gains its weight, the richest is first and pays the weight of all; of weights 5, 1, 1 that
gives a a b a c a a and not five calls in a row. A candidate that is left out for a while does not gain meanwhile, so it
is not flooded when it comes back.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..model.plan import AttemptResult, Candidate
from .base import RoutingRequest, Strategy, StrategySettings

# Models that pass through a glob have whatever name a caller gives them.
_MAX_REMEMBERED = 1024


class RoundRobin:
    def __init__(self) -> None:
        self._wealth: dict[tuple[str, str], int] = {}

    def order(self, wish: RoutingRequest, candidates: Sequence[Candidate]) -> Sequence[Candidate]:
        del wish
        wealth = self._wealth
        if len(wealth) > _MAX_REMEMBERED:
            wealth.clear()
        # Pairs of texts are hashed ten times faster than candidates.
        names = [(candidate.provider, candidate.model) for candidate in candidates]
        rich = [wealth.get(name, 0) + candidate.weight for name, candidate in zip(names, candidates, strict=True)]
        wealth.update(zip(names, rich, strict=True))
        # Sorting is stable: among equals, config's order decides.
        places = sorted(range(len(rich)), key=rich.__getitem__, reverse=True)
        wealth[names[places[0]]] -= sum([candidate.weight for candidate in candidates])
        return [candidates[place] for place in places]

    def record(self, tried: AttemptResult) -> None:
        """Nothing: a turn is a turn."""


class _Kind:
    def build(self, settings: StrategySettings) -> Strategy:
        del settings
        return RoundRobin()


PLUGIN = _Kind()
