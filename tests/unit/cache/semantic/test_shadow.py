"""Shadow mode: replies are compared, the share of false hits is estimated, and the tier is off above a bound."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from semantic_kit import SemanticGateway

from edge_extproc.cache.semantic.shadow import (
    FalseHitEstimates,
    ShadowSettings,
    are_equal,
    have_other_numbers,
    wilson,
)
from edge_extproc.exchange.commands import ImmediateResponse

CAPITAL, SAME = "What is the capital of France?", "Could you tell me what the capital of France is?"
ALWAYS = {"share": 1.0}


@pytest.mark.parametrize(
    ("count", "total", "low", "high"),
    # Values of the usual tables of the Wilson interval.
    [(0, 10, 0.0, 0.2775), (1, 10, 0.0179, 0.4042), (5, 10, 0.2366, 0.7634), (10, 10, 0.7225, 1.0), (0, 0, 0.0, 1.0)],
)
def test_the_interval_is_that_of_wilson(count: int, total: int, low: float, high: float) -> None:
    estimate = wilson(count, total)

    assert (low, high) == (pytest.approx(estimate.low, abs=1e-4), pytest.approx(estimate.high, abs=1e-4))


@given(st.integers(1, 10_000), st.data())
def test_the_interval_contains_the_estimate(total: int, data: st.DataObject) -> None:
    estimate = wilson(data.draw(st.integers(0, total)), total)

    assert 0 <= estimate.low <= estimate.rate + 1e-9
    assert estimate.rate - 1e-9 <= estimate.high <= 1


def test_it_is_off_above_the_bound_and_on_again_only_with_more_evidence() -> None:
    estimates = FalseHitEstimates(ShadowSettings(1.0, 0.9, max_false_hits=0.1, min_compared=10, window=50))
    for number in range(9):
        estimates.add("m", "t", agreed=number > 2)
    assert not estimates.is_off("m", "t")  # too few comparisons
    estimates.add("m", "t", agreed=True)
    assert estimates.is_off("m", "t")
    assert not estimates.is_off("m", "another")
    assert not estimates.is_off("another", "t")

    while estimates.is_off("m", "t"):
        estimate, _ = estimates.add("m", "t", agreed=True)
    assert estimate.high <= 0.1
    assert estimate.rate == 0.0


def test_only_the_last_comparisons_count() -> None:
    estimates = FalseHitEstimates(ShadowSettings(1.0, 0.9, 0.5, 10, window=10))
    for _ in range(10):
        estimates.add("m", "t", agreed=False)
    for _ in range(10):
        estimate, _ = estimates.add("m", "t", agreed=True)

    assert 0.0 == estimate.rate


def test_the_number_of_estimates_is_bounded() -> None:
    estimates = FalseHitEstimates(ShadowSettings(1.0, 0.9, 0.1, 1, 10))
    for number in range(5000):
        estimates.add(f"model {number}", "t", agreed=False)

    assert not estimates.is_off("model 0", "t")
    assert estimates.is_off("model 4999", "t")


def test_replies_are_compared_without_case_and_white_space() -> None:
    assert are_equal("Paris\n", " paris")
    assert not are_equal("Paris", "Paris.")


def test_short_replies_need_the_same_numbers() -> None:
    assert have_other_numbers("It is 42.", "It is 43.")
    assert not have_other_numbers("It is 42.", "42, I think")
    assert not have_other_numbers("a 1 " * 60, "b 2 " * 60)


async def test_the_provider_is_called_and_the_caller_gets_its_reply() -> None:
    stage = SemanticGateway().with_semantic(shadow=ALWAYS)
    await stage.ask(CAPITAL, answer="Paris")
    command, settlement = await stage.ask(SAME, answer="Paris")

    assert not isinstance(command, ImmediateResponse)
    assert "miss" == settlement.cache
    assert ["miss", "shadowed"] == stage.events.results
    assert [(True, "exact")] == stage.events.compared
    assert [] == stage.events.hits
    (estimate,) = stage.events.estimates
    assert (0.0, 0.0, False) == (estimate[0], estimate[1], estimate[3])
    assert 0.79 == pytest.approx(estimate[2], abs=0.01)


async def test_near_replies_agree_and_others_do_not() -> None:
    stage = SemanticGateway().with_semantic(shadow=ALWAYS)
    await stage.ask(CAPITAL, answer="The capital is Paris.")
    await stage.ask(SAME, answer="The capital is Paris!")
    await stage.ask("Tell me the capital of France", answer="zzzz qqqq xxxx")

    assert [(True, "embedding"), (False, "embedding")] == stage.events.compared


async def test_a_reply_with_another_number_does_not_agree() -> None:
    stage = SemanticGateway().with_semantic(shadow=ALWAYS)
    await stage.ask(CAPITAL, answer="It has 2100000 people")
    await stage.ask(SAME, answer="It has 2100001 people")

    assert [(False, "embedding")] == stage.events.compared


async def test_only_the_configured_share_is_compared() -> None:
    stage = SemanticGateway().with_semantic(shadow={"share": 0.4})
    await stage.ask(CAPITAL)
    assert "semantic" == await stage.result(SAME)
    stage.drawn = 0.39
    assert "miss" == await stage.result(SAME)
    assert ["miss", "hit", "shadowed"] == stage.events.results


async def test_a_reply_that_is_not_whole_is_not_compared() -> None:
    stage = SemanticGateway().with_semantic(shadow=ALWAYS)
    await stage.ask(CAPITAL)
    await stage.ask(SAME, finish="length")

    assert [] == stage.events.compared


async def test_too_many_false_hits_turn_it_off_for_the_model_and_tenant() -> None:
    stage = SemanticGateway().with_semantic(shadow={**ALWAYS, "min_compared": 3, "max_false_hits": 0.2})
    await stage.ask(CAPITAL, answer="Paris")
    for number in range(3):
        await stage.ask(SAME, ("x-edge-cache-ttl", "1"), answer=f"qqqq {number} zzzz")
        stage.now += 2
    assert stage.tier.estimates.is_off("chat", "acme")
    assert stage.events.estimates[-1][3]

    stage.drawn = 1.0
    stage.tier.settings.shadow.share = 0.5  # type: ignore[misc]
    assert "miss" == await stage.result(SAME)
    assert "off" == stage.events.results[-1]
    claude = {"model": "claude", "messages": [{"role": "user", "content": CAPITAL}], "temperature": 0}
    await stage.ask(claude)
    asked = {**claude, "messages": [{"role": "user", "content": SAME}]}
    assert "semantic" == await stage.result(asked)
