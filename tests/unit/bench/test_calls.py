"""How much one exchange costs, counted in calls of functions, so that a slow machine changes nothing."""

from __future__ import annotations

import asyncio

import pytest

from bench import calls


@pytest.fixture(scope="module")
def counted() -> dict[str, float]:
    return asyncio.run(calls.count_all())


@pytest.mark.parametrize("way", ["pass", "cross", "stream", "hit", "tries"])
def test_an_exchange_calls_no_more_functions_than_before(way: str, counted: dict[str, float]) -> None:
    told = calls.risen({way: counted[way]}, calls.committed())

    assert told == [], f"if this is meant, run `python -m bench.calls --write` and say why: {told}"


def test_each_way_has_a_committed_count(counted: dict[str, float]) -> None:
    assert calls.committed().keys() == counted.keys()


def test_a_rise_of_more_than_a_twentieth_is_told() -> None:
    assert calls.risen({"pass": 105.0, "hit": 50.0}, {"pass": 100.0, "hit": 60.0}) == []
    assert calls.risen({"pass": 105.1, "hit": 50.0}, {"pass": 100.0, "hit": 60.0}) == [
        "pass: 105.1 calls, 100.0 before"
    ]
