"""Why a request went as it did, as the ledger gets it."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
from limits_kit import Now, RecordingListener, dollars
from player import ADollarPerToken, Stage, answered, body, headers, planner, talk, tried, whole

from edge_extproc import registry
from edge_extproc.auth.policy import AccessPolicies, AccessPolicy
from edge_extproc.cache.memory import MemoryTier
from edge_extproc.cache.policy import CachePolicies, CachePolicy
from edge_extproc.cache.tiered import CacheBounds, TieredCache
from edge_extproc.exchange.account_access import AccountAccess
from edge_extproc.exchange.object_access import ObjectAccess
from edge_extproc.exchange.object_ids import NamedObject
from edge_extproc.exchange.worst_case import OutputBounds
from edge_extproc.limits.limiter import PolicyLimiter
from edge_extproc.limits.rule_table import RuleTable
from edge_extproc.model.call import Call
from edge_extproc.model.explanation import MOST_ENTRIES, MOST_TEXT, Explanation
from edge_extproc.model.plan import AttemptResult, Candidate
from edge_extproc.model.settlement import Settlement
from edge_extproc.records.memory import MemoryRecords
from edge_extproc.records.owners import ObjectOwners
from edge_extproc.routing.base import ModelTable, RoutingRequest, StrategySettings
from edge_extproc.routing.breaker import BreakerSettings, Circuits, LocalCircuitTable
from edge_extproc.routing.planner import HedgeSettings, ModelRoute, RoutingRule, RuleCondition
from edge_extproc.store.journal import MOST_EXPLAINED, write_explanation

SECRET = "nobody may read this sentence"
HELLO = [{"role": "user", "content": SECRET}]
REPLY = {
    "id": "c",
    "object": "chat.completion",
    "created": 1,
    "model": "m",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop"}],
    "usage": {
        "prompt_tokens": 50,
        "completion_tokens": 20,
        "total_tokens": 70,
        "prompt_tokens_details": {"cached_tokens": 30},
        "completion_tokens_details": {"reasoning_tokens": 5},
    },
}


class Explaining(Stage):
    """A gateway with a ledger that takes explanations."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.ledger: list[tuple[Settlement, Explanation | None]] = []
        self.having(ledger=lambda *each: self.ledger.append(each), explains=True)

    @property
    def last(self) -> Explanation:
        explanation = self.ledger[-1][1]
        assert explanation is not None, self.bugs
        return explanation


def exchange(stage: Stage, *events: Any, model: str = "chat", why: Any = "done", **more: Any) -> list[Any]:
    found = stage.exchange()
    commands = talk(found, headers(), body({"model": model, "messages": HELLO, "max_tokens": 10, **more}), *events)
    found.closed(why)
    assert [] == stage.bugs
    return commands


def test_a_call_that_was_passed_on() -> None:
    stage = Explaining()
    exchange(stage, answered(), whole(REPLY))
    settlement, last = stage.ledger[-1][0], stage.last

    assert ("key", "raw", "failover", "model", 0) == (last.caller, last.lane, last.strategy, last.chosen_by, last.rule)
    assert [("openai", "gpt-4o-mini")] == [(each.provider, each.model) for each in last.candidates]
    (attempt,) = last.attempts
    assert ("openai", "ok", 200, "") == (attempt.provider, attempt.verdict, attempt.status, attempt.reason)
    assert attempt.began is not None
    assert attempt.first_byte is not None
    assert attempt.ended is not None
    assert 0 < attempt.began < attempt.first_byte < attempt.ended
    assert {"input": "20", "cache_read": "30", "output": "15", "reasoning": "5"} == last.costs
    assert settlement.cost == sum(map(Decimal, last.costs.values()))
    assert stage.settled == [settlement]
    assert SECRET not in write_explanation(last)


def test_without_a_ledger_nothing_is_explained() -> None:
    stage = Explaining().having(explains=False)
    exchange(stage, answered(), whole(REPLY))

    assert [None] == [explanation for _, explanation in stage.ledger]  # type: ignore[attr-defined]


def test_an_unknown_caller_has_no_explanation() -> None:
    stage = Explaining()
    found = stage.exchange()
    talk(found, headers(key="edge-key-of-nobody"))
    found.closed("done")

    assert [None] == [explanation for _, explanation in stage.ledger]


def test_a_call_that_failed_over_has_both_attempts_with_their_times() -> None:
    stage = Explaining()
    found = stage.exchange()
    talk(found, headers(), body({"model": "both", "messages": HELLO, "seed": 5, "max_tokens": 10}))
    talk(stage.attempt(), tried(2))
    reply = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "claude-haiku-4-5",
        "content": [{"type": "text", "text": "Hi"}],
        "stop_reason": "end_turn",
        "usage": {"input_tokens": 5, "output_tokens": 2},
    }
    talk(found, answered(attempt=2), whole(reply))
    found.closed("done")
    first, second = stage.last.attempts

    assert ("openai", "failed", "retried") == (first.provider, first.verdict, first.reason)
    assert ("anthropic", "ok", 200) == (second.provider, second.verdict, second.status)
    assert first.ended == second.began
    assert None is first.first_byte
    assert "cross" == stage.last.lane
    assert {"seed"} <= set(stage.last.dropped)


def test_the_limits_that_applied_are_named_with_what_was_reserved_and_settled() -> None:
    stage = Explaining()
    limiter = PolicyLimiter(RuleTable((dollars(5_000),)), None, RecordingListener(), clock=Now())
    bounds = OutputBounds((("*", 100),), 10, 2_000, 0, 0)
    stage.having(limiter=limiter, bounds=bounds, sinks=(limiter.settle,), prices=ADollarPerToken())
    exchange(stage, answered(), whole(REPLY))
    (first,) = stage.last.limits
    exchange(stage, answered(), whole(REPLY))
    (second,) = stage.last.limits

    assert ("dollars", 5_000_000_000, 0) == (first.measure, first.maximum, first.used)
    assert 70_000_000 == first.settled < first.reserved
    assert 70_000_000 == second.used


def test_a_refusal_names_the_limit() -> None:
    stage = Explaining()
    limiter = PolicyLimiter(RuleTable((dollars(1),)), None, RecordingListener(), clock=Now())
    stage.having(limiter=limiter, bounds=OutputBounds((("*", 100),), 10, 2_000, 0, 0), sinks=(limiter.settle,))
    exchange(stage)

    assert (None, (), ()) == (stage.last.strategy, stage.last.attempts, stage.last.limits)
    assert "dollars per" in (stage.last.refusal or "")


def test_a_text_of_the_gateway_that_can_quote_the_request_is_not_kept() -> None:
    stage = Explaining()
    exchange(stage, temperature=SECRET, model="both")
    exchange(stage, answered(400), whole({"error": {"message": SECRET}}))
    texts = [write_explanation(each) for _, each in stage.ledger if each is not None]

    assert [] == [text for text in texts if SECRET in text]
    assert None is stage.last.refusal


def routed(strategy: str, *, circuits: Circuits | None = None, **route: Any) -> Explaining:
    rows = [Candidate("openai", "gpt-4o-mini"), Candidate("anthropic", "claude-haiku-4-5", weight=3)]
    models = ModelTable({"chat": rows})
    settings = StrategySettings(
        price=lambda candidate, usage: Decimal(usage.total) * (2 if candidate.provider == "openai" else 1),
        chance=lambda: 0.5,
        clock=lambda: 0.0,
    )
    stage = Explaining()
    stage.having(
        models=models,
        planner=planner(
            models,
            rows={"chat": ModelRoute(strategy, **route)},
            build=lambda name: registry.load("routing", name).build(settings),
            circuits=circuits,
            strategy_header="x-strategy",
        ),
    )
    return stage


def test_the_order_has_the_numbers_that_made_it() -> None:
    stage = routed("cheapest")
    exchange(stage)
    first, second = stage.last.candidates

    assert "cheapest" == stage.last.strategy
    assert ("anthropic", "openai", 3) == (first.provider, second.provider, first.weight)
    assert first.score is not None
    assert second.score is not None
    assert pytest.approx(first.score * 2) == second.score


def test_a_candidate_that_was_not_measured_has_no_score() -> None:
    stage = routed("least_latency")
    exchange(stage)

    assert [None, None] == [each.score for each in stage.last.candidates]


def test_the_rule_or_the_header_that_chose_the_strategy_is_named() -> None:
    always = RoutingRule(RuleCondition(stream=False), strategy="round_robin")
    stage = routed("failover", rules=(RoutingRule(RuleCondition(stream=True)), always))
    exchange(stage)
    by_rule = stage.last
    found = stage.exchange()
    talk(found, headers("/v1/chat/completions", ("x-strategy", "cheapest")), body({"model": "chat", "messages": HELLO}))
    found.closed("done")

    assert ("round_robin", "rule", 2) == (by_rule.strategy, by_rule.chosen_by, by_rule.rule)
    assert ("cheapest", "header", 2) == (stage.last.strategy, stage.last.chosen_by, stage.last.rule)


def test_candidates_that_were_left_out_have_a_reason() -> None:
    circuits = Circuits(LocalCircuitTable(), BreakerSettings(failures=1), lambda: 100.0, lambda _: None)
    for tenant in ("acme", "umbrella"):
        circuits.record(AttemptResult(Candidate("openai", "gpt-4o-mini"), "failed"), tenant, probe=False)
    stage = routed("failover", circuits=circuits)
    exchange(stage)
    (by_circuit,) = stage.last.left_out
    stage = Explaining()
    exchange(stage, model="both", n=2)
    (by_format,) = stage.last.left_out

    assert ("openai", "circuit", True) == (by_circuit.provider, by_circuit.why, int(by_circuit.detail) > 0)
    assert ("anthropic", "capability", "n") == (by_format.provider, by_format.why, by_format.detail)


def cached() -> Explaining:
    cache = TieredCache(
        CachePolicies(CachePolicy(), {}, {}),
        CacheBounds(1 << 20, 0.0, 0.0),
        MemoryTier(100, 1 << 22, 300),
        None,
        RecordingCache(),
        lambda: 1_700_000_000.0,
    )
    stage = Explaining()
    stage.having(cache=cache)
    return stage


class RecordingCache:
    def cache_looked_up(self, tier: str, seconds: float, *, found: bool) -> None: ...

    def cache_wrote(self, tier: str) -> None: ...

    def cache_failed(self, tier: str, why: str) -> None: ...

    def cache_is_down(self, tier: str, *, down: bool) -> None: ...


def test_a_miss_of_the_cache_has_a_reason() -> None:
    stage = cached()
    reasons = []
    for more, control in (
        ({"temperature": 0}, ""),
        ({"temperature": 0}, ""),
        ({}, ""),
        ({"temperature": 0}, "no-store"),
        ({"temperature": 0}, "no-cache"),
        ({"temperature": 0, "previous_response_id": "r"}, ""),
    ):
        found = stage.exchange()
        asked = {"model": "chat", "messages": HELLO, **more}
        events = [headers("/v1/chat/completions", ("cache-control", control)), body(asked)]
        _, command = talk(found, *events)
        if not hasattr(command, "status"):
            talk(found, answered(), whole(REPLY))
        found.closed("done")
        reasons.append((stage.ledger[-1][0].cache, stage.last.cache_reason, stage.last.cache_tier))

    assert [
        ("miss", "absent", None),
        ("hit", None, "memory"),
        ("bypass", "temperature", None),
        ("bypass", "no_store", None),
        ("bypass", "no_cache", None),
        ("bypass", "no_key", None),
    ] == reasons


@pytest.mark.parametrize("letter", ["x", "\0", "\ud800", "\u2028", '"', "☃"])
def test_a_hostile_caller_cannot_make_it_long(letter: str) -> None:
    stage = Explaining()
    exchange(stage, model=f"gpt-{letter * 100_000}", **{f"{letter}{n}": 1 for n in range(5_000)})
    found = stage.exchange()
    many = {f"{letter * 300}{n}": 1 for n in range(500)}
    talk(found, headers(), body({"model": "claude", "messages": HELLO, "max_tokens": 10, **many}))
    talk(found, answered(400), whole({"error": {"message": letter * 100_000, "code": letter * 100_000}}))
    found.closed("done")

    for _, each in stage.ledger:
        assert each is not None
        text = write_explanation(each)
        text.encode()
        assert len(text) <= MOST_EXPLAINED
        assert all(len(name) <= MOST_TEXT for name in each.dropped)
        assert len(each.dropped) <= MOST_ENTRIES


def test_what_is_too_long_only_by_its_escapes_is_written_without_lists() -> None:
    long = Explanation("key", dropped=("\x00" * 3_000,) * 3, strategy="failover")
    found = json.loads(write_explanation(long))

    assert {"caller": "key", "strategy": "failover", "more": 3} == found


def test_a_candidate_that_the_caller_may_not_use_is_left_out_by_its_rights() -> None:
    stage = Explaining()
    only = AccessPolicy(providers=("openai",))
    stage.having(access=AccessPolicies([("acme", "tenant", "acme", only)], {}, {}, stage.gateway.wire_names))
    exchange(stage, model="both")

    assert ["openai"] == [each.provider for each in stage.last.candidates]
    assert [("anthropic", "rights")] == [(each.provider, each.why) for each in stage.last.left_out]


def test_a_candidate_whose_account_lacks_an_object_is_left_out() -> None:
    lacking: dict[str, tuple[NamedObject, ...]] = {"openai": (NamedObject("file-1", "input"),), "anthropic": ()}
    objects = ObjectAccess(
        ObjectOwners(MemoryRecords(), {}),
        "acme",
        Call("openai_chat", "chat", "both", stream=False, raw=b""),
        None,
        lacking,
        lambda candidate: True,
    )
    access = AccountAccess(objects, None, None, None)
    able = access.able((Candidate("openai", "a"), Candidate("anthropic", "b")))

    assert ["anthropic"] == [each.provider for each in able]
    assert [("openai", "account")] == [(each.candidate.provider, each.why) for each in access.left_out]


def test_a_hedged_call_leaves_further_candidates_out_and_keeps_the_scores_of_two() -> None:
    models = ModelTable({"chat": [Candidate(name, "m") for name in ("openai", "anthropic", "google")]})
    settings = StrategySettings(
        price=lambda candidate, usage: Decimal(usage.total) * len(candidate.provider),
        chance=lambda: 0.5,
        clock=lambda: 0.0,
    )
    found = planner(
        models,
        rows={"chat": ModelRoute("cheapest", hedge=HedgeSettings())},
        build=lambda name: registry.load("routing", name).build(settings),
    )
    call = Call("openai_chat", "chat", "chat", stream=True, raw=b"x" * 100)
    plan = found.plan(RoutingRequest(call, "acme"), models.candidates("chat"))

    assert ["openai", "google"] == [each.provider for each in plan.candidates]
    assert plan.scores[0] == plan.scores[1] > 0
    assert [("anthropic", "hedge")] == [(each.candidate.provider, each.why) for each in plan.left_out]
