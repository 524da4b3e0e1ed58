"""Each strategy, alone."""

import itertools
import json
from collections import Counter
from collections.abc import MutableMapping
from dataclasses import replace
from decimal import Decimal

import pytest
from every_dialect import EVERY_NAME
from hypothesis import given
from hypothesis import strategies as st

from edge_extproc.model.call import Call
from edge_extproc.model.plan import AttemptResult, Candidate
from edge_extproc.model.usage import Usage
from edge_extproc.model.wire_names import WireNames
from edge_extproc.registry import load, names
from edge_extproc.routing.affinity import Affinity, PromptPrefix
from edge_extproc.routing.base import RoutingRequest, StrategySettings

A, B, C = (Candidate(name, "m") for name in "abc")
CALL = Call("openai_chat", "chat", "m", False, b"{}")
WISH = RoutingRequest(CALL, "acme")
STREAM = RoutingRequest(replace(CALL, stream=True), "acme")
PRICES = {"a": Decimal(3), "b": Decimal(1), "c": None}


def built(name, chance=lambda: 1.0, price=lambda candidate, usage: None, **more):
    return load("routing", name).build(StrategySettings(price, chance, lambda: 1.0, **more))


def order(strategy, *candidates, wish=WISH):
    return "".join(c.provider for c in strategy.order(wish, candidates))


def ok(candidate, **more):
    return AttemptResult(candidate, "ok", **more)


def test_every_strategy_gives_all_candidates_once_each():
    assert ("cheapest", "failover", "least_latency", "round_robin") == names("routing")
    for name in names("routing"):
        assert [A, B, C] == sorted(built(name).order(WISH, (A, B, C)), key=lambda c: c.provider)


def test_the_failover_chain_keeps_the_order_of_config():
    assert "bac" == order(built("failover"), B, A, C)


# --- round robin


def test_each_candidate_gets_its_share_and_no_run_of_calls():
    strategy = built("round_robin")
    weighted = (replace(A, weight=5), B, C)
    firsts = "".join(order(strategy, *weighted)[0] for _ in range(14))

    assert "aabacaa" * 2 == firsts


@given(st.lists(st.integers(1, 9), min_size=1, max_size=6))
def test_over_one_round_the_shares_are_exact(weights):
    strategy = built("round_robin")
    candidates = [Candidate(f"p{n}", "m", weight=weight) for n, weight in enumerate(weights)]
    firsts = Counter(strategy.order(WISH, candidates)[0] for _ in range(sum(weights)))

    assert {c: c.weight for c in candidates} == dict(firsts)


def test_who_comes_back_is_not_flooded():
    strategy = built("round_robin")
    for _ in range(50):
        order(strategy, A, B)

    firsts = Counter(order(strategy, A, B, C)[0] for _ in range(6))
    assert Counter("aabbcc") == firsts


def test_names_that_callers_make_up_are_not_kept_for_ever():
    for name in ("round_robin", "least_latency", "cheapest"):
        strategy = built(name)
        for n in range(3000):
            made_up = Candidate("a", f"made-up-{n}")
            strategy.order(WISH, (made_up, B))
            strategy.record(ok(made_up, duration=1.0, usage=Usage(input=1)))
        kept = [len(value) for value in vars(strategy).values() if isinstance(value, MutableMapping)]

        assert kept
        assert max(kept) < 1100


# --- least latency


def test_the_fastest_is_asked_first_and_the_unknown_before_it():
    strategy = built("least_latency")
    strategy.record(ok(A, duration=2.0))
    strategy.record(ok(B, duration=1.0))

    assert "cba" == order(strategy, A, B, C)


def test_streams_go_by_the_first_token_and_replies_by_the_whole_answer():
    strategy = built("least_latency")
    for tried in (ok(A, first_token=0.1, stream=True), ok(A, duration=9.0)):
        strategy.record(tried)
    for tried in (ok(B, first_token=0.5, stream=True), ok(B, duration=2.0)):
        strategy.record(tried)

    assert ("ab", "ba") == (order(strategy, A, B, wish=STREAM), order(strategy, A, B))


def test_who_fails_fast_is_not_the_fastest():
    strategy = built("least_latency")
    for candidate, seconds in ((A, 1.0), (B, 0.5)):
        strategy.record(ok(candidate, duration=seconds))
    strategy.record(AttemptResult(B, "failed", 503, duration=0.001))

    assert "ab" == order(strategy, A, B)


def test_what_nobody_can_tell_teaches_nothing():
    strategy = built("least_latency")
    for candidate, seconds in ((A, 1.0), (B, 0.5)):
        strategy.record(ok(candidate, duration=seconds))
    strategy.record(AttemptResult(B, "unknown", duration=99.0))

    assert "ba" == order(strategy, A, B)


def test_a_recovered_provider_is_found_again_by_exploration():
    draws = itertools.cycle([0.99] * 18 + [0.0, 0.5])
    strategy = built("least_latency", chance=lambda: next(draws), exploration=0.05)
    strategy.record(ok(A, duration=1.0))
    strategy.record(AttemptResult(B, "failed", 503))
    firsts = []
    for _ in range(300):
        first = strategy.order(WISH, (A, B))[0]
        firsts.append(first)
        strategy.record(ok(first, duration=1.0 if first == A else 0.2))

    assert A == firsts[0]
    assert {B} == set(firsts[-10:])


# --- cheapest


def test_the_cheapest_for_this_call_is_first_and_the_unpriced_last():
    def price(candidate, usage):
        each = PRICES[candidate.provider]
        return None if each is None else each * usage.total

    assert "bac" == order(built("cheapest", price=price), C, A, B)


def test_a_short_answer_and_a_long_one_may_have_different_cheapest_providers():
    def price(candidate, usage):
        return Decimal(usage.input * (1 if candidate == A else 3) + usage.output * (5 if candidate == A else 1))

    strategy = built("cheapest", price=price)
    long_prompt = RoutingRequest(replace(CALL, raw=b"x" * 40_000, max_output_tokens=10), "acme")
    long_answer = RoutingRequest(replace(CALL, max_output_tokens=10_000), "acme")

    assert ("ab", "ba") == (order(strategy, A, B, wish=long_prompt), order(strategy, A, B, wish=long_answer))


def test_what_is_read_from_a_warm_prompt_cache_is_priced_as_such():
    def price(candidate, usage):
        return Decimal(usage.input * (4 if candidate == A else 3) + usage.cache_read)

    strategy = built("cheapest", price=price)
    wish = RoutingRequest(replace(CALL, raw=b"x" * 4_000, max_output_tokens=1), "acme")
    before = order(strategy, A, B, wish=wish)
    for _ in range(20):
        strategy.record(ok(A, usage=Usage(input=100, cache_read=900, output=5)))

    assert ("ba", "ab") == (before, order(strategy, A, B, wish=wish))


# --- affinity


def wishing(body, tenant="acme", **headers):
    return RoutingRequest(
        replace(CALL, raw=json.dumps(body).encode()),
        tenant,
        headers={k.replace("_", "-"): v for k, v in headers.items()},
    )


def turns(*texts, **more):
    return {"model": "m", **more, "messages": [{"role": "user", "content": text} for text in texts]}


MANY = [Candidate(f"p{n}", "m") for n in range(10)]


PREFIX = PromptPrefix(EVERY_NAME)


def preferred(wish, candidates=MANY, affinity=Affinity(PREFIX)):  # noqa: B008 - frozen
    return affinity.prefer(wish, candidates)[0]


def test_a_conversation_stays_where_it_began():
    first = preferred(wishing(turns("Hello")))

    assert {first} == {preferred(wishing(turns("Hello", *["more"] * n), stream=True)) for n in range(5)}
    assert 1 < len({preferred(wishing(turns(f"Hello {n}"))) for n in range(20)})


def test_a_session_in_a_header_counts_more_than_the_prompt():
    affinity = Affinity(PREFIX, "x-session")
    told = {preferred(wishing(turns(f"Hello {n}"), x_session="s1"), affinity=affinity) for n in range(20)}

    assert 1 == len(told)
    assert 1 < len({preferred(wishing(turns("Hello"), x_session=f"s{n}"), affinity=affinity) for n in range(20)})


def test_the_same_prompt_of_another_tenant_may_go_elsewhere():
    assert 1 < len({preferred(wishing(turns("Hello"), tenant=f"t{n}")) for n in range(20)})


def test_the_rest_keeps_the_strategys_order():
    ordered = Affinity(PREFIX).prefer(wishing(turns("Hello")), MANY)

    assert [c for c in MANY if c != ordered[0]] == ordered[1:]
    assert [A] == Affinity(PREFIX).prefer(WISH, [A])


def test_when_a_candidate_goes_only_its_own_calls_move():
    wishes = [wishing(turns(f"Hello {n}")) for n in range(200)]
    before = [preferred(wish) for wish in wishes]
    after = [preferred(wish, MANY[1:]) for wish in wishes]

    assert {MANY[0]} == {was for was, now in zip(before, after, strict=True) if was != now}


def test_a_heavier_candidate_draws_more():
    heavy = [replace(A, weight=9), B]
    drawn = Counter(preferred(wishing(turns(f"Hello {n}")), heavy).provider for n in range(500))

    assert 400 < drawn["a"] < 490


@pytest.mark.parametrize(
    "body",
    [
        {"system": "S", "messages": ["u1", "u2"]},
        {"systemInstruction": "S", "contents": ["u1", "u2"]},
        {"system_instruction": "S", "contents": ["u1", "u2"]},
        {"instructions": "S", "input": "u1"},
        {"instructions": "S", "input": ["u1", "u2"]},
        {"tools": ["T"], "messages": ["u1"]},
    ],
)
def test_the_beginning_is_found_in_every_format(body):
    raw = json.dumps(body).encode()

    assert b"u1" in PREFIX.of(raw)
    assert b"u2" not in PREFIX.of(raw)
    assert b"S" in PREFIX.of(raw) or b"T" in PREFIX.of(raw)


def test_the_beginning_is_the_same_in_all_turns():
    first, second = (PREFIX.of(json.dumps({"input": ["u1", "a1", "u2"][:n]}).encode()) for n in (1, 3))

    assert first == second


def test_the_beginning_is_found_by_the_names_of_the_dialects():
    """A dialect from another distribution has names of its own."""
    raw = json.dumps({"rules": "S", "talk": ["u1", "u2"], "messages": ["x"]}).encode()

    assert PromptPrefix(WireNames(messages=frozenset({"talk"}), prefix=frozenset({"rules"}))).of(raw) == b'"S"\0"u1"'


def test_what_is_no_json_is_its_own_beginning():
    assert b"{" == PREFIX.of(b"{")
