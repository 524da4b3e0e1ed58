"""Windows of the calendar, where days have 23, 24 or 25 hours."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_extproc.limits.windows import Windows, span

ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Asia/Kathmandu", "Australia/Lord_Howe", "America/Santiago")
KINDS = ("minute", "hour", "day", "month")


def at(text: str, zone: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp()


@pytest.mark.parametrize(
    ("window", "zone", "now", "start", "end"),
    [
        ("minute", "UTC", "2026-11-24T10:20:30", "2026-11-24T10:20:00", "2026-11-24T10:21:00"),
        ("hour", "UTC", "2026-11-24T10:20:30", "2026-11-24T10:00:00", "2026-11-24T11:00:00"),
        ("hour", "Asia/Kathmandu", "2026-11-24T10:20:30", "2026-11-24T10:00:00", "2026-11-24T11:00:00"),
        ("day", "Europe/Berlin", "2026-11-24T10:20:30", "2026-11-24T00:00:00", "2026-11-25T00:00:00"),
        ("month", "America/New_York", "2026-12-31T23:59:59", "2026-12-01T00:00:00", "2027-01-01T00:00:00"),
        ("month", "UTC", "2028-02-29T00:00:00", "2028-02-01T00:00:00", "2028-03-01T00:00:00"),
    ],
)
def test_a_window_is_that_of_its_zone(window: str, zone: str, now: str, start: str, end: str) -> None:
    found = span(window, zone, at(now, zone))  # type: ignore[arg-type]

    assert (at(start, zone), at(end, zone)) == found


@pytest.mark.parametrize(("day", "hours"), [("2026-03-29", 23), ("2026-10-25", 25), ("2026-10-26", 24)])
def test_a_day_has_the_hours_that_its_clocks_give_it(day: str, hours: int) -> None:
    found = span("day", "Europe/Berlin", at(f"{day}T12:00:00", "Europe/Berlin"))

    assert hours * 3600 == found.end - found.start


def test_the_hour_that_comes_twice_is_two_windows() -> None:
    first = at("2026-10-25T02:30:00", "Europe/Berlin")
    one, two = span("hour", "Europe/Berlin", first), span("hour", "Europe/Berlin", first + 3600)

    assert (one.end, 3600) == (two.start, two.end - two.start)


@given(st.sampled_from(KINDS), st.sampled_from(ZONES), st.floats(1.6e9, 2.2e9))
def test_now_lies_in_its_window_and_the_next_one_begins_at_its_end(window: str, zone: str, now: float) -> None:
    found = span(window, zone, now)  # type: ignore[arg-type]
    after = span(window, zone, found.end)  # type: ignore[arg-type]

    assert found.start <= now < found.end
    assert found.start < after.start <= found.end


def test_a_window_that_is_remembered_ends_when_it_ends() -> None:
    windows = Windows()
    now = at("2026-11-24T23:59:59", "UTC")
    first = windows.at("day", "UTC", now)

    assert first == windows.at("day", "UTC", now - 5)
    assert first.end == windows.at("day", "UTC", now + 1).start
    assert span("minute", "UTC", now) == windows.at("minute", "UTC", now)
