"""Whom we try, in order."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Candidate:
    """One provider and the name under which it knows the model."""

    provider: str
    model: str
    dialect: str = ""
    """The wire format in which config wants it asked; empty: whichever fits the call best."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The candidates of one exchange, best first; never empty.

    Attempt N goes to candidate N, later ones to the last one.
    """

    candidates: tuple[Candidate, ...]

    def at(self, attempt: int) -> Candidate:
        """The candidate of the given attempt, counted from 1 as Envoy does."""
        return self.candidates[min(max(attempt, 1), len(self.candidates)) - 1]
