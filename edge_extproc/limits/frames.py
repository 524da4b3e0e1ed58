"""What the limiter remembers of one caller in the windows of now, and of one call that is under way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from .base import (
    CallerLimits,
    LimitRule,
    Measure,
    Reservation,
    ReservationRequest,
    SettleResult,
    WindowCounter,
    WindowCounters,
)
from .windows import Span

COSTS_NOTHING = ReservationRequest(0, 0)
NOTHING_LEFT_TO_TELL = Reservation(())
# What a rule counts, as an index into what a call asks for and into what it has used.
KINDS: dict[Measure, int] = {"requests": 0, "tokens": 1, "dollars": 2, "concurrent": 3}


@dataclass(slots=True)
class SeenCounter:
    """A counter when the shared store last told of it. One for all callers who share it."""

    rule: LimitRule
    counter: WindowCounter | None = None
    """None: not yet."""
    total: int = 0
    """What the counter had come to, with what counts of the window before."""
    at: float = 0.0


class ToldAmounts(NamedTuple):
    """What headers say of a rule, as far as it stays the same."""

    limit: tuple[str, str]
    left: str
    reset: str
    rule: LimitRule
    ends: float | None


@dataclass(slots=True)
class WindowFrame:
    """The rules of one caller in the windows of now. Nothing of it changes until one of them ends, so that a call costs
    no more than what is its own."""

    rules: CallerLimits
    until: float
    """When it must be made anew."""
    spans: tuple[Span | None, ...]
    counters: WindowCounters
    kinds: tuple[int, ...]
    seen: tuple[SeenCounter, ...]
    least: tuple[tuple[int, LimitRule], ...]
    """Of each kind the narrowest rule that refuses."""
    told: tuple[tuple[int, ...], ...]
    """The rules of each measure, by their places."""
    tells: tuple[ToldAmounts, ...]
    warns: tuple[tuple[int, int], ...]
    """Places of rules that warn, and from how much on."""
    strict: LimitRule | None
    """A budget that wants a known price."""
    slides: int | None
    """When the minute ends, whose part before the call counts."""


@dataclass(slots=True)
class OpenReservation:
    """What one exchange took."""

    frame: WindowFrame
    amounts: Sequence[int]
    shared: bool


class FinishedCall(NamedTuple):
    """To be written."""

    settled: SettleResult
    taken: OpenReservation | None
    """None: whether it was taken at all is not known."""
