"""Least latency: the candidate that has answered fastest of late is asked first.

Two moving averages a candidate: time to the first token, by which streams are placed, and time of the whole answer, by
which replies are. A failure counts as a slow answer, so that one who fails fast is not the fastest. Who was never
asked, or not for long, is asked now and then whatever its average says: one that has recovered is found again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..model.plan import Candidate, Tried
from .base import StrategySettings, Wish

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
        self._known: dict[Candidate, _Average] = {}

    def order(self, wish: Wish, candidates: Sequence[Candidate]) -> Sequence[Candidate]:
        speeds = self._speeds(wish.call.stream)
        # Unknown ones first: there is no other way to know them.
        ordered = sorted(candidates, key=lambda candidate: speeds.get(candidate, -1.0))
        if len(ordered) > 1 and self._chance() < self._exploration:
            n = 1 + int(self._chance() * (len(ordered) - 1))
            ordered.insert(0, ordered.pop(n))
        return ordered

    def learn(self, tried: Tried) -> None:
        if tried.verdict == "unknown":
            return
        known = self._known.get(tried.candidate)
        if known is None:
            if len(self._known) >= _MAX_REMEMBERED:
                del self._known[next(iter(self._known))]
            known = self._known[tried.candidate] = _Average()
        if tried.verdict == "failed":
            known.first_token = _mixed(known.first_token, _slow(known.first_token, tried.duration))
            known.total = _mixed(known.total, _slow(known.total, tried.duration))
            return
        if tried.first_token is not None:
            known.first_token = _mixed(known.first_token, tried.first_token)
        if tried.duration is not None and not tried.stream:
            known.total = _mixed(known.total, tried.duration)

    def _speeds(self, stream: bool) -> dict[Candidate, float]:
        """Where only the other average is known, it stands in."""
        found: dict[Candidate, float] = {}
        for candidate, average in self._known.items():
            wanted, other = (average.first_token, average.total) if stream else (average.total, average.first_token)
            speed = wanted if wanted is not None else other
            if speed is not None:
                found[candidate] = speed
        return found


def _mixed(before: float | None, now: float) -> float:
    return now if before is None else before + _SHARE * (now - before)


def _slow(usual: float | None, took: float | None) -> float:
    return max(_PENALTY, _PENALTY_FACTOR * (usual or 0.0), took or 0.0)


class _Kind:
    def build(self, settings: StrategySettings) -> LeastLatency:
        return LeastLatency(settings)


PLUGIN = _Kind()
