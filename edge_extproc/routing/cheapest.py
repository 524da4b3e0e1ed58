"""Cheapest: by what this very call is expected to cost at each candidate.

The prompt is estimated by its length, and the share of it that the candidate will read from its prompt cache by what it
has read of late; the answer is as long as the call permits, or as answers have been of late. Who has no known price
comes last: unpriced is not free.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..model.plan import Candidate, Tried
from ..model.usage import Usage
from .base import StrategySettings, Wish

_SHARE = 0.2
# Before any answer was seen, and where the call does not say: the length of a page.
_USUAL_OUTPUT = 500.0
_MAX_REMEMBERED = 1024


@dataclass(slots=True)
class _Habit:
    cached: float = 0.0
    """Of the prompt, which share was read from the cache."""
    output: float = _USUAL_OUTPUT
    """Tokens of an answer."""


_NO_HABIT = _Habit()


class Cheapest:
    def __init__(self, settings: StrategySettings) -> None:
        self._price = settings.price
        self._habits: dict[Candidate, _Habit] = {}

    def order(self, wish: Wish, candidates: Sequence[Candidate]) -> Sequence[Candidate]:
        prompt, limit = wish.prompt_estimate, wish.call.max_output_tokens
        return sorted(candidates, key=lambda candidate: self._cost(candidate, prompt, limit, wish.call.choices))

    def learn(self, tried: Tried) -> None:
        usage = tried.usage
        if tried.verdict != "ok" or usage is None or not usage.prompt:
            return
        habit = self._habits.get(tried.candidate)
        if habit is None:
            if len(self._habits) >= _MAX_REMEMBERED:
                del self._habits[next(iter(self._habits))]
            habit = self._habits[tried.candidate] = _Habit(output=float(usage.completion))
        habit.cached += _SHARE * (usage.cache_read / usage.prompt - habit.cached)
        habit.output += _SHARE * (usage.completion - habit.output)

    def _cost(self, candidate: Candidate, prompt: int, limit: int | None, choices: int) -> tuple[bool, float]:
        habit = self._habits.get(candidate, _NO_HABIT)
        read = int(prompt * habit.cached)
        output = limit if limit is not None else int(habit.output)
        cost = self._price(candidate, Usage(input=prompt - read, cache_read=read, output=output * choices))
        return (True, 0.0) if cost is None else (False, float(cost))


class _Kind:
    def build(self, settings: StrategySettings) -> Cheapest:
        return Cheapest(settings)


PLUGIN = _Kind()
