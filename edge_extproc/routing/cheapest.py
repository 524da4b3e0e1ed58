"""Cheapest: orders candidates by the expected cost of this call.

The prompt's tokens are estimated from its length. The share of them that the candidate reads from its prompt cache is
a moving average. The output is as long as the call allows, or a moving average. A candidate without a known price comes
last.
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

_SMOOTHING = 0.2
# Tokens of about a page. Used before the first reply, if the call has no limit.
_DEFAULT_OUTPUT_TOKENS = 500.0
_MAX_CACHED = 1024
# Seconds. Prices change once an hour at most.
_PRICES_LAST = 60.0
# Output tokens from which the price of one is computed.
_PROBE = 1_000_000


@dataclass(slots=True)
class _Averages:
    cached: float = 0.0
    """The share of the prompt that was read from the provider's cache, 0 to 1."""
    output: float = _DEFAULT_OUTPUT_TOKENS
    """Output tokens of a reply."""


_NO_AVERAGES = _Averages()


class _Tariff(NamedTuple):
    """US dollars for a call, and for one token of each kind."""

    call: float
    input: float
    cache_read: float
    output: float


class Cheapest:
    """The strategy `cheapest`."""

    def __init__(self, settings: StrategySettings) -> None:
        self._price = settings.price
        self._clock = settings.clock
        self._averages: FIFOCache[tuple[str, str], _Averages] = FIFOCache(_MAX_CACHED)
        self._tariffs: dict[tuple[str, str, int], _Tariff | None] = {}
        self._tariffs_until = 0.0
        self.scores: Sequence[float] = ()
        """The expected cost of the last call at each of its candidates, US dollars."""

    def order(self, request: RoutingRequest, candidates: Sequence[Candidate]) -> Sequence[Candidate]:
        now = self._clock()
        if now > self._tariffs_until or len(self._tariffs) > _MAX_CACHED:
            self._tariffs.clear()
            self._tariffs_until = now + _PRICES_LAST
        call = request.call
        prompt, limit, choices = request.prompt_estimate, call.max_output_tokens, call.choices
        costs = self.scores = [self._cost(candidate, prompt, limit, choices) for candidate in candidates]
        return [candidates[place] for place in sorted(range(len(costs)), key=costs.__getitem__)]

    def record(self, attempt: AttemptResult) -> None:
        usage = attempt.usage
        if attempt.verdict != "ok" or usage is None or not usage.prompt:
            return
        name = (attempt.candidate.provider, attempt.candidate.model)
        averages = self._averages.get(name)
        if averages is None:
            averages = self._averages[name] = _Averages(output=float(usage.completion))
        averages.cached += _SMOOTHING * (usage.cache_read / usage.prompt - averages.cached)
        averages.output += _SMOOTHING * (usage.completion - averages.output)

    def _cost(self, candidate: Candidate, prompt: int, limit: int | None, choices: int) -> float:
        name = (candidate.provider, candidate.model)
        size = (*name, prompt.bit_length())
        tariff = self._tariffs[size] if size in self._tariffs else self._look_up(candidate, size)
        if tariff is None:
            return math.inf
        averages = self._averages.get(name, _NO_AVERAGES)
        read = prompt * averages.cached
        output = (limit if limit is not None else averages.output) * choices
        return tariff.call + (prompt - read) * tariff.input + read * tariff.cache_read + output * tariff.output

    def _look_up(self, candidate: Candidate, size: tuple[str, str, int]) -> _Tariff | None:
        """The prices for prompts of this size. Some models cost more for long prompts; prompts within a factor of two
        count as one size. None: a price is not known."""
        prompt = 3 << max(0, size[2] - 2)  # the middle of the numbers with this many bits

        def cost(usage: Usage) -> float:
            price = self._price(candidate, usage)
            return math.nan if price is None else float(price)

        call, all_new = cost(Usage()), cost(Usage(input=prompt))
        tariff = _Tariff(
            call,
            input=(all_new - call) / prompt,
            cache_read=(cost(Usage(cache_read=prompt)) - call) / prompt,
            output=(cost(Usage(input=prompt, output=_PROBE)) - all_new) / _PROBE,
        )
        price = self._tariffs[size] = None if math.isnan(tariff.call + sum(tariff[1:])) else tariff
        return price


class _Kind:
    def build(self, settings: StrategySettings) -> Cheapest:
        return Cheapest(settings)


PLUGIN = _Kind()
