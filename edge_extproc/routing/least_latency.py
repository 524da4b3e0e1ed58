"""Least latency: orders candidates by a moving average of their latency.

Each candidate has two averages: the time to the first token, for streaming calls, and the time of the whole reply, for
the others. A failure counts as a slow reply, so that a candidate that fails fast is not preferred. A small share of
calls goes to another candidate than the fastest, so that one that has recovered is noticed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cachetools import FIFOCache

from ..model.plan import AttemptResult, Candidate
from .base import RoutingRequest, StrategySettings

# The weight of a new value in an average: about the last ten replies count.
_SMOOTHING = 0.2
# A failure counts as at least so many seconds, or as this multiple of the average.
_PENALTY = 10.0
_PENALTY_FACTOR = 4.0
_MAX_CACHED = 1024


@dataclass(slots=True)
class _Average:
    first_token: float | None = None
    total: float | None = None


class LeastLatency:
    """The strategy `least_latency`."""

    def __init__(self, settings: StrategySettings) -> None:
        self._chance = settings.chance
        self._exploration = settings.exploration
        self._averages: FIFOCache[tuple[str, str], _Average] = FIFOCache(_MAX_CACHED)
        self.scores: Sequence[float] = ()
        """The latency of each candidate of the last call, seconds; negative if it is not known."""

    def order(self, request: RoutingRequest, candidates: Sequence[Candidate]) -> Sequence[Candidate]:
        stream = request.call.stream
        speeds = self.scores = [self._speed(candidate, stream) for candidate in candidates]
        ordered = [candidates[place] for place in sorted(range(len(speeds)), key=speeds.__getitem__)]
        if len(ordered) > 1 and self._chance() < self._exploration:
            n = 1 + int(self._chance() * (len(ordered) - 1))
            ordered.insert(0, ordered.pop(n))
        return ordered

    def record(self, attempt: AttemptResult) -> None:
        if attempt.verdict == "unknown":
            return
        name = (attempt.candidate.provider, attempt.candidate.model)
        average = self._averages.get(name)
        if average is None:
            average = self._averages[name] = _Average()
        if attempt.verdict == "failed":
            average.first_token = _updated(average.first_token, _penalised(average.first_token, attempt.duration))
            average.total = _updated(average.total, _penalised(average.total, attempt.duration))
            return
        if attempt.first_token is not None:
            average.first_token = _updated(average.first_token, attempt.first_token)
        if attempt.duration is not None and not attempt.stream:
            average.total = _updated(average.total, attempt.duration)

    def _speed(self, candidate: Candidate, stream: bool) -> float:
        """Seconds. If the preferred average is missing, the other one is used. Candidates without any average come
        first, so that they get one."""
        average = self._averages.get((candidate.provider, candidate.model))
        if average is None:
            return -1.0
        preferred, other = (average.first_token, average.total) if stream else (average.total, average.first_token)
        if preferred is not None:
            return preferred
        return other if other is not None else -1.0


def _updated(before: float | None, now: float) -> float:
    return now if before is None else before + _SMOOTHING * (now - before)


def _penalised(usual: float | None, took: float | None) -> float:
    return max(_PENALTY, _PENALTY_FACTOR * (usual or 0.0), took or 0.0)


class _Kind:
    def build(self, settings: StrategySettings) -> LeastLatency:
        return LeastLatency(settings)


PLUGIN = _Kind()
