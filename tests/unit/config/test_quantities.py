"""Durations and sizes, both ways."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic_core import PydanticCustomError

from edge_extproc.config.quantities import (
    read_boolean,
    read_duration,
    read_instant,
    read_size,
    write_duration,
    write_size,
)


@given(st.integers(0, 365 * 24 * 3600 * 1000))
def test_a_duration_that_is_written_is_read_as_it_was(milliseconds: int) -> None:
    duration = timedelta(milliseconds=milliseconds)

    assert duration == read_duration(write_duration(duration))


@given(st.integers(1, (1 << 32) - 1))
def test_a_size_that_is_written_is_read_as_it_was(size: int) -> None:
    assert size == read_size(write_size(size))


@pytest.mark.parametrize(
    ("duration", "written"),
    [
        (timedelta(0), "0s"),
        (timedelta(hours=2), "2h"),
        (timedelta(seconds=90), "90s"),
        (timedelta(seconds=1.5), "1500ms"),
    ],
)
def test_a_duration_is_written_in_the_largest_unit_that_fits(duration: timedelta, written: str) -> None:
    assert written == write_duration(duration)


def test_parts_of_a_duration_add_up() -> None:
    assert timedelta(hours=1, minutes=2, seconds=3.5) == read_duration("1h2m3.5s")


def test_sizes_know_both_kinds_of_units() -> None:
    assert (10**6, 1 << 20, 512) == (read_size("1MB"), read_size("1 MiB"), read_size("0.5KiB"))


def test_a_date_without_a_zone_is_in_utc() -> None:
    assert datetime(2027, 1, 31, tzinfo=UTC) == read_instant("2027-01-31")
    assert datetime(2027, 1, 31, 17, tzinfo=UTC) == read_instant("2027-01-31T18:00:00+01:00")
    assert datetime(2027, 1, 31, tzinfo=UTC) == read_instant(datetime(2027, 1, 31, tzinfo=UTC))


def test_a_variable_may_spell_a_boolean() -> None:
    assert read_boolean("true")
    assert not read_boolean("false")
    with pytest.raises(PydanticCustomError, match="not true or false"):
        read_boolean("no")
