"""Least latency: the candidate that has answered fastest of late is asked first.

Two moving averages a candidate: time to the first token, by which streams are placed, and time of the whole answer, by
which replies are. A failure counts as a slow answer, so that one who fails fast is not the fastest. Who was never
asked, or not for long, is asked now and then whatever its average says: one that has recovered is found again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cachetools import FIFOCache

from ..model.plan import AttemptResult, Candidate
from .base import RoutingRequest, StrategySettings

# The last ten answers or so are what "of late" means.
_SHARE = 0.2
# Seconds as which a failure counts at least, or four times what was usual.
_PENALTY = 10.0
_PENALTY_FACTOR = 4.0
_MAX_REMEMBERED = 1024


@dataclass(slots=True)
class _Average:
    first_token: float | None = None
    total: float | None = None


class LeastLatency:
    def __init__(self, settings: StrategySettings) -> None:
        self._chance = settings.chance
        self._exploration = settings.exploration
        self._known: FIFOCache[tuple[str, str], _Average] = FIFOCache(_MAX_REMEMBERED)

    def order(self, wish: RoutingRequest, candidates: Sequence[Candidate]) -> Sequence[Candidate]:
        stream = wish.call.stream
        speeds = [self._speed(candidate, stream) for candidate in candidates]
        ordered = [candidates[place] for place in sorted(range(len(speeds)), key=speeds.__getitem__)]
        if len(ordered) > 1 and self._chance() < self._exploration:
            n = 1 + int(self._chance() * (len(ordered) - 1))
            ordered.insert(0, ordered.pop(n))
        return ordered

    def record(self, tried: AttemptResult) -> None:
        if tried.verdict == "unknown":
            return
        name = (tried.candidate.provider, tried.candidate.model)
        known = self._known.get(name)
        if known is None:
            known = self._known[name] = _Average()
        if tried.verdict == "failed":
            known.first_token = _mixed(known.first_token, _slow(known.first_token, tried.duration))
            known.total = _mixed(known.total, _slow(known.total, tried.duration))
            return
        if tried.first_token is not None:
            known.first_token = _mixed(known.first_token, tried.first_token)
        if tried.duration is not None and not tried.stream:
            known.total = _mixed(known.total, tried.duration)

    def _speed(self, candidate: Candidate, stream: bool) -> float:
        """Seconds. Where only the other average is known, it stands in; unknown ones come first, since there is no
        other way to know them."""
        known = self._known.get((candidate.provider, candidate.model))
        if known is None:
            return -1.0
        wanted, other = (known.first_token, known.total) if stream else (known.total, known.first_token)
        if wanted is not None:
            return wanted
        return other if other is not None else -1.0


def _mixed(before: float | None, now: float) -> float:
    return now if before is None else before + _SHARE * (now - before)


def _slow(usual: float | None, took: float | None) -> float:
    return max(_PENALTY, _PENALTY_FACTOR * (usual or 0.0), took or 0.0)


class _Kind:
    def build(self, settings: StrategySettings) -> LeastLatency:
        return LeastLatency(settings)


PLUGIN = _Kind()
