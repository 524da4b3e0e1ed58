"""The limiter's data: a caller's rules in the current windows (`WindowFrame`), and one call in progress."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from .base import (
    CallerLimits,
    Charged,
    LimitRule,
    Measure,
    Reservation,
    ReservationRequest,
    ReserveResult,
    SettleResult,
    WindowCounter,
    WindowCounters,
)
from .windows import Span

COSTS_NOTHING = ReservationRequest(0, 0)
NO_HEADERS = Reservation(())
# The index of each measure in the tuples of a call's amounts (requests, tokens, dollars, concurrent, seconds).
KINDS: dict[Measure, int] = {"requests": 0, "tokens": 1, "dollars": 2, "concurrent": 3, "seconds": 4}


@dataclass(slots=True)
class LastCount:
    """The value of a counter that the store last reported. All callers who share the counter share this object."""

    rule: LimitRule
    counter: WindowCounter | None = None
    """The window that `total` is of. None: the store has not reported yet."""
    total: int = 0
    """The counter's value, with the weighted part of the previous window."""
    at: float = 0.0
    """When it was reported. Unix time, seconds."""
    run_maximum: int | None = None
    """For a run: the maximum that applied to the last call."""


class HeaderFields(NamedTuple):
    """The constant part of a rule's rate limit headers in one window."""

    limit: tuple[str, str]
    """Name and value of the limit header."""
    left: str
    """Name of the header of the remaining amount."""
    reset: str
    """Name of the header of the time until the reset."""
    rule: LimitRule
    ends: float | None
    """When the window ends, Unix time in seconds. None: no window."""


@dataclass(slots=True)
class WindowFrame:
    """All that the limiter needs of one caller's rules in the current windows. It is constant until one of the windows
    ends, so it is computed once and not for each call."""

    rules: CallerLimits
    until: float
    """When it must be computed again. Unix time, seconds."""
    spans: tuple[Span | None, ...]
    counters: WindowCounters
    kinds: tuple[int, ...]
    last_counts: tuple[LastCount, ...]
    least: tuple[tuple[int, LimitRule], ...]
    """For each measure, its index in `KINDS` and the hard rule with the smallest maximum."""
    by_measure: tuple[tuple[int, ...], ...]
    """For each measure, the indexes of its rules."""
    header_fields: tuple[HeaderFields, ...]
    warnings: tuple[tuple[int, int], ...]
    """For each rule that warns, its index and `warn_at`."""
    strict: LimitRule | None
    """A budget that refuses models without a known price. None: there is none."""
    slides: int | None
    """The end of the current minute, for a sliding window. None: no rule is by the minute."""
    runs: tuple[int, ...]
    """The indexes of the rules of runs."""


@dataclass(slots=True)
class OpenReservation:
    """The reservation of one exchange in progress."""

    frame: WindowFrame
    amounts: Sequence[int]
    """For each counter of the frame."""
    shared: bool
    """Whether it is in the shared store. False: in this process's own counters."""


class FinishedCall(NamedTuple):
    """A settlement that is still to be written to the shared store."""

    settled: SettleResult
    reservation: OpenReservation | None
    """None: it is not known whether the reservation was made."""


def by_measures(rules: CallerLimits) -> tuple[tuple[tuple[int, LimitRule], ...], tuple[tuple[int, ...], ...]]:
    """`least` and `by_measure` of a frame, without the rules of runs: the store knows the maximum that applies."""
    least: dict[int, LimitRule] = {}
    places: dict[str, list[int]] = {}
    for place, rule in enumerate(rules.rules):
        if rule.level == "run":
            continue
        places.setdefault(rule.measure, []).append(place)
        kind = KINDS[rule.measure]
        if rule.hard and (kind not in least or rule.maximum < least[kind].maximum):
            least[kind] = rule
    return tuple(least.items()), tuple(map(tuple, places.values()))


def counts_minute(rule: LimitRule) -> bool:
    """Whether the rule counts the tokens of a minute, which those of a batch do not belong to."""
    return rule.measure == "tokens" and rule.window == "minute"


def without_minutes(frame: WindowFrame, amounts: Sequence[int]) -> list[int]:
    """The amounts of a batch."""
    return [0 if counts_minute(rule) else amount for rule, amount in zip(frame.rules.rules, amounts, strict=True)]


def charged_by(reservation: OpenReservation) -> tuple[Charged, ...]:
    """The counters of tokens and dollars with the reserved amounts."""
    frame = reservation.frame
    return tuple(
        Charged(counter.key, rule.measure == "dollars", amount, counter.expires)
        for rule, counter, amount in zip(frame.rules.rules, frame.counters.items, reservation.amounts, strict=True)
        if rule.measure in ("tokens", "dollars") and not counts_minute(rule)
    )


def local_counters(frame: WindowFrame, shares: int) -> WindowCounters:
    """The counters of a frame with a worker's share of what was left when the store last reported."""
    counters = []
    for last, counter in zip(frame.last_counts, frame.counters.items, strict=True):
        used = last.total if last.counter is not None and last.counter.key == counter.key else 0
        counters.append(counter._replace(maximum=max(0, counter.maximum - used) // shares))
    return WindowCounters(counters)


def record_counts(frame: WindowFrame, amounts: Sequence[int], result: ReserveResult, now: float) -> None:
    """Keeps the counts that the store has reported with a reservation."""
    for last, counter, amount, used in zip(frame.last_counts, frame.counters.items, amounts, result.used, strict=True):
        last.counter = counter
        last.total = used + amount if result.ok else used
        last.at = now


def update_counts(reservation: OpenReservation, used: Sequence[int], now: float) -> None:
    """Applies a settlement to the last reported counts, which saves a read."""
    frame = reservation.frame
    for last, counter, amount, spent in zip(
        frame.last_counts, frame.counters.items, reservation.amounts, used, strict=True
    ):
        if spent >= 0 and last.counter is not None and last.counter.key == counter.key:
            last.total = max(0, last.total + spent - amount)
            last.at = now
