"""Cheapest: by what this very call is expected to cost at each candidate.

The prompt is estimated by its length, and the share of it that the candidate will read from its prompt cache by what it
has read of late; the answer is as long as the call permits, or as answers have been of late. Who has no known price
comes last: unpriced is not free.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from cachetools import FIFOCache

from ..model.plan import AttemptResult, Candidate
from ..model.usage import Usage
from .base import RoutingRequest, StrategySettings

_SHARE = 0.2
# Before any answer was seen, and where the call does not say: the length of a page.
_USUAL_OUTPUT = 500.0
_MAX_REMEMBERED = 1024
# Prices change by the hour at most.
_PRICES_LAST = 60.0
# A model's price may step up with the length of a prompt; within a factor of two it is taken for one price.
_PROBE = 1_000_000


@dataclass(slots=True)
class _Habit:
    cached: float = 0.0
    """Of the prompt, which share was read from the cache."""
    output: float = _USUAL_OUTPUT
    """Tokens of an answer."""


_NO_HABIT = _Habit()


class _Tariff(NamedTuple):
    """US dollars: for a call, and for a token of each kind."""

    call: float
    input: float
    cache_read: float
    output: float


class Cheapest:
    def __init__(self, settings: StrategySettings) -> None:
        self._price = settings.price
        self._clock = settings.clock
        self._habits: FIFOCache[tuple[str, str], _Habit] = FIFOCache(_MAX_REMEMBERED)
        self._tariffs: dict[tuple[str, str, int], _Tariff | None] = {}
        self._tariffs_until = 0.0

    def order(self, wish: RoutingRequest, candidates: Sequence[Candidate]) -> Sequence[Candidate]:
        now = self._clock()
        if now > self._tariffs_until or len(self._tariffs) > _MAX_REMEMBERED:
            self._tariffs.clear()
            self._tariffs_until = now + _PRICES_LAST
        call = wish.call
        prompt, limit, choices = wish.prompt_estimate, call.max_output_tokens, call.choices
        costs = [self._cost(candidate, prompt, limit, choices) for candidate in candidates]
        return [candidates[place] for place in sorted(range(len(costs)), key=costs.__getitem__)]

    def record(self, tried: AttemptResult) -> None:
        usage = tried.usage
        if tried.verdict != "ok" or usage is None or not usage.prompt:
            return
        name = (tried.candidate.provider, tried.candidate.model)
        habit = self._habits.get(name)
        if habit is None:
            habit = self._habits[name] = _Habit(output=float(usage.completion))
        habit.cached += _SHARE * (usage.cache_read / usage.prompt - habit.cached)
        habit.output += _SHARE * (usage.completion - habit.output)

    def _cost(self, candidate: Candidate, prompt: int, limit: int | None, choices: int) -> float:
        name = (candidate.provider, candidate.model)
        size = (*name, prompt.bit_length())
        tariff = self._tariffs[size] if size in self._tariffs else self._look_up(candidate, size)
        if tariff is None:
            return math.inf
        habit = self._habits.get(name, _NO_HABIT)
        read = prompt * habit.cached
        output = (limit if limit is not None else habit.output) * choices
        return tariff.call + (prompt - read) * tariff.input + read * tariff.cache_read + output * tariff.output

    def _look_up(self, candidate: Candidate, size: tuple[str, str, int]) -> _Tariff | None:
        """What a token of each kind costs in a prompt of this size."""
        prompt = 3 << max(0, size[2] - 2)  # the middle of those that have as many bits

        def cost(usage: Usage) -> float:
            found = self._price(candidate, usage)
            return math.nan if found is None else float(found)

        call, all_new = cost(Usage()), cost(Usage(input=prompt))
        tariff = _Tariff(
            call,
            input=(all_new - call) / prompt,
            cache_read=(cost(Usage(cache_read=prompt)) - call) / prompt,
            output=(cost(Usage(input=prompt, output=_PROBE)) - all_new) / _PROBE,
        )
        found = self._tariffs[size] = None if math.isnan(tariff.call + sum(tariff[1:])) else tariff
        return found


class _Kind:
    def build(self, settings: StrategySettings) -> Cheapest:
        return Cheapest(settings)


PLUGIN = _Kind()
