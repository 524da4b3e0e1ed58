"""Computes when a limit's window begins and ends: minutes of UTC, and hours, days and months of a time zone.

A day has 23 or 25 hours when clocks change. A window is identified by its first second, so the hour that occurs twice
is two windows.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import NamedTuple
from zoneinfo import ZoneInfo

from .base import Window

_HOUR = 3600


class Span(NamedTuple):
    """Unix time in whole seconds. `end` is the first second after the window."""

    start: int
    end: int


class Windows:
    """Caches the current window of each kind and zone: computing one takes a hundred times as long as a lookup."""

    def __init__(self) -> None:
        self._last: dict[tuple[Window, str], Span] = {}

    def at(self, window: Window, zone: str, now: float) -> Span:
        if window == "minute":
            start = int(now) // 60 * 60
            return Span(start, start + 60)
        last = self._last.get((window, zone))
        if last is None or not last.start <= now < last.end:
            last = self._last[window, zone] = span(window, zone, now)
        return last


def span(window: Window, zone: str, now: float) -> Span:
    """The window that contains `now`, Unix time in seconds. `zone`: a name of the IANA database."""
    if window == "minute":
        start = int(now) // 60 * 60
        return Span(start, start + 60)
    local = datetime.fromtimestamp(now, ZoneInfo(zone))
    if window == "hour":
        start = int(local.replace(minute=0, second=0, microsecond=0).timestamp())
        # An hour in which clocks change by half an hour is longer.
        return Span(start, start + _HOUR if now < start + _HOUR else start + 2 * _HOUR)
    midnight = local.replace(hour=0, minute=0, second=0, microsecond=0, fold=0)
    if window == "day":
        after = midnight + timedelta(days=1)
    else:
        midnight = midnight.replace(day=1)
        after = (midnight + timedelta(days=32)).replace(day=1)
    return Span(int(midnight.timestamp()), int(after.timestamp()))
