"""Whom a hit costs what, and whose it is: limits, rights and rules of routing in the story with a cache."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from limits_kit import Now, RecordingListener, dollars, rule
from player import ADollarPerToken, Stage, answered, body, headers, planner, talk, whole

from edge_extproc.auth.policy import AccessPolicies, AccessPolicy
from edge_extproc.cache.base import CacheEntry
from edge_extproc.cache.memory import MemoryTier
from edge_extproc.cache.policy import CachePolicies, CachePolicy
from edge_extproc.cache.tiered import CacheBounds, TieredCache
from edge_extproc.errors import Unavailable
from edge_extproc.exchange.commands import Continue, ImmediateResponse
from edge_extproc.exchange.worst_case import OutputBounds as WorstCase
from edge_extproc.limits.base import MICRO
from edge_extproc.limits.base import LimitRule as Limit
from edge_extproc.limits.limiter import PolicyLimiter
from edge_extproc.limits.rule_table import RuleTable
from edge_extproc.model.plan import Candidate, Fallback
from edge_extproc.model.settlement import Settlement
from edge_extproc.routing.base import ModelTable
from edge_extproc.routing.planner import ModelRoute, RoutingRule, RuleCondition

HELLO = [{"role": "user", "content": "Hello"}]
REPLY = {
    "id": "c",
    "object": "chat.completion",
    "created": 1,
    "model": "m",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7},
}
NOW = 1_700_000_000.0


class Heard:
    def cache_looked_up(self, tier: str, seconds: float, *, found: bool) -> None: ...
    def cache_wrote(self, tier: str) -> None: ...
    def cache_failed(self, tier: str, why: str) -> None: ...
    def cache_is_down(self, tier: str, *, down: bool) -> None: ...


def cached(stage: Stage, stale: float = 0.0, clock: Callable[[], float] = lambda: NOW) -> TieredCache:
    book = CachePolicies(CachePolicy(stale=stale), {}, {})
    cache = TieredCache(book, CacheBounds(1 << 20, 5.0, 5.0), MemoryTier(100, 1 << 22, 300), None, Heard(), clock)
    stage.having(cache=cache)
    return cache


def limited(*limits: Limit) -> tuple[Stage, PolicyLimiter]:
    stage = Stage()
    limiter = PolicyLimiter(RuleTable(limits), None, RecordingListener(), clock=Now())

    def settle(settlement: Settlement) -> None:
        stage.settled.append(settlement)
        limiter.settle(settlement)

    bounds = WorstCase((("*", 100),), 10, 2_000, 0, 0)
    stage.having(limiter=limiter, bounds=bounds, sinks=(settle,), prices=ADollarPerToken())
    cached(stage)
    return stage, limiter


def ask(stage: Stage, *more: tuple[str, str], text: str = "Hello", model: str = "chat") -> tuple[Any, Settlement]:
    """One call to its end, and how it was answered: by us, or by the provider that was asked."""
    exchange = stage.exchange()
    messages = [{"role": "user", "content": text}]
    asked = {"model": model, "messages": messages, "temperature": 0, "max_tokens": 10}
    command = talk(exchange, headers("/v1/chat/completions", *more), body(asked))[1]
    if isinstance(command, Continue):
        talk(exchange, answered(), whole(REPLY))
    exchange.closed("done")
    return command, stage.settled[-1]


# --- what it costs


def test_who_has_nothing_left_to_spend_still_gets_what_costs_nothing() -> None:
    worst = _worst()
    stage, _ = limited(dollars(worst + 5))
    _, first = ask(stage)
    refused, _ = ask(stage, text="Another question")
    hit, settled = ask(stage)

    assert ("miss", 7) == (first.cache, first.cost)
    assert (429, 200) == (refused.status, hit.status)
    assert ("hit", "ok", 0) == (settled.cache, settled.outcome, settled.cost)


def _worst() -> float:
    """Dollars that the call is reserved."""
    stage, limiter = limited(dollars(100_000))
    exchange = stage.exchange()
    asked = {"model": "chat", "messages": HELLO, "temperature": 0, "max_tokens": 10}
    talk(exchange, headers(), body(asked))
    (status,) = limiter.statuses()
    return status.reserved / MICRO


def test_a_hit_counts_as_a_request_and_nothing_else() -> None:
    stage, _ = limited(rule("requests", 3), rule("tokens", 100_000), rule("concurrent", 1))
    missed, _ = ask(stage)
    hit, _ = ask(stage)
    told = dict(hit.headers)

    assert isinstance(missed, Continue)
    assert "1" == told["x-ratelimit-remaining-requests"]
    assert "x-ratelimit-remaining-tokens" not in told


def test_a_hit_needs_no_place_among_the_calls_under_way() -> None:
    stage, _ = limited(rule("concurrent", 1))
    ask(stage)
    running = stage.exchange()
    talk(running, headers(), body({"model": "chat", "messages": HELLO}))

    assert "hit" == ask(stage)[1].cache
    running.closed("done")


def test_too_many_requests_are_refused_whether_or_not_they_would_hit() -> None:
    stage, _ = limited(rule("requests", 1))
    ask(stage)
    refused, settled = ask(stage)

    assert isinstance(refused, ImmediateResponse)
    assert 429 == refused.status
    assert ("miss", "rejected", None) == (settled.cache, settled.outcome, settled.saved)


def test_who_waits_for_an_equal_call_has_reserved_nothing() -> None:
    stage, limiter = limited(dollars(100_000))
    running = stage.exchange()
    talk(running, headers(), body({"model": "chat", "messages": HELLO, "temperature": 0, "max_tokens": 10}))
    (reserved,) = [status.reserved for status in limiter.statuses()]
    ask(stage)
    running.closed("done")

    assert reserved > 0
    assert {0} == {status.reserved for status in limiter.statuses()}


# --- whose it is


RULES = (RoutingRule(RuleCondition(headers=(("x-tier", "gold"),)), candidates=(Candidate("openai", "gpt-gold"),)),)


def test_a_rule_of_routing_has_replies_of_its_own() -> None:
    stage = Stage()
    stage.having(planner=planner(stage.gateway.models, rows={"chat": ModelRoute(rules=RULES)}))
    cached(stage)
    gold = ("x-tier", "gold")
    ask(stage)
    asked, by_rule = ask(stage, gold)
    _, again = ask(stage, gold)
    _, plain = ask(stage)

    assert b"gpt-gold" in asked.body
    assert ("miss", "gpt-gold") == (by_rule.cache, by_rule.upstream_model)
    assert ("hit", "gpt-gold") == (again.cache, again.upstream_model)
    assert ("hit", False) == (plain.cache, plain.upstream_model == "gpt-gold")


def test_a_rule_leads_nobody_where_he_may_not_go() -> None:
    stage = Stage().having(
        access=AccessPolicies([("acme", "tenant", "acme", AccessPolicy(providers=("anthropic",)))], {}, {})
    )
    stage.having(planner=planner(stage.gateway.models, rows={"both": ModelRoute(rules=RULES)}))
    refused, _ = ask(stage, ("x-tier", "gold"), model="both")
    sent, _ = ask(stage, model="both")

    assert 403 == refused.status
    assert ("provider_anthropic",) == sent.order


def test_a_fallback_leads_nobody_where_he_may_not_go() -> None:
    fallback = Fallback(context_length=(Candidate("anthropic", "claude"), Candidate("openai", "gpt-long")))
    stage = Stage().having(
        access=AccessPolicies([("acme", "tenant", "acme", AccessPolicy(providers=("openai",)))], {}, {})
    )
    stage.having(
        planner=planner(ModelTable({"chat": [Candidate("openai", "m")]}), rows={"chat": ModelRoute(fallback=fallback)})
    )
    exchange = stage.exchange()
    talk(exchange, headers(), body({"model": "chat", "messages": HELLO}))
    found = stage.open.find(exchange.id)

    assert found is not None
    assert (Candidate("openai", "gpt-long"),) == found.plan.fallback.context_length
    assert () == found.plan.fallback.content_filter


def test_who_may_not_ask_a_provider_does_not_get_its_replies() -> None:
    stage = Stage()
    cache = cached(stage)
    ask(stage)
    (key,) = cache.l1._index  # type: ignore[attr-defined]  # what lies there, whoever gave it
    by_fallback = CacheEntry("openai_chat", json.dumps(REPLY).encode(), "anthropic", "claude", NOW)
    cache.l1.put(key, by_fallback, NOW)
    _, before = ask(stage)
    stage.having(access=AccessPolicies([("acme", "tenant", "acme", AccessPolicy(providers=("openai",)))], {}, {}))
    _, after = ask(stage)

    assert ("hit", "anthropic") == (before.cache, before.provider)
    assert ("miss", "openai") == (after.cache, after.provider)


# --- past its time, where no provider can answer


class Old(Stage):
    """It has a reply that is 400 s old, of 300 that it may live."""

    def __init__(self, stale: float = 3600.0) -> None:
        super().__init__()
        self.now = NOW
        cached(self, stale, lambda: self.now)
        ask(self)
        self.now = NOW + 400

    def ask(self, *came: Any, more: tuple[tuple[str, str], ...] = (), **asked: Any) -> tuple[list[Any], Settlement]:
        exchange = self.exchange()
        wanted = {"model": "chat", "messages": HELLO, "temperature": 0, "max_tokens": 10, **asked}
        commands = talk(exchange, headers("/v1/chat/completions", *more), body(wanted), *came)
        exchange.closed("done")
        return commands, self.settled[-1]


ERROR = whole({"error": {"message": "no"}})


@pytest.mark.parametrize(
    "failed",
    [
        answered(500),
        answered(503, end=True),
        answered(529),
        answered(429),
        answered(504, details="upstream_response_timeout", end=True),
        answered(503, details="no_healthy_upstream", end=True),
        answered(503, details="upstream_reset_before_response_started{connection_failure}", end=True),
    ],
)
def test_an_old_reply_stands_in_where_no_provider_can_answer(failed: Any) -> None:
    commands, settled = Old().ask(failed)
    given = commands[-1]

    assert isinstance(given, ImmediateResponse)
    assert (200, "edge_cache_stale") == (given.status, given.details)
    assert "stale" == dict(given.headers)["x-edge-cache"]
    assert "age" in dict(given.headers)
    assert "Hi" == json.loads(given.body)["choices"][0]["message"]["content"]
    assert ("ok", 200, "stale", None, 0) == (
        settled.outcome,
        settled.status,
        settled.cache,
        settled.cache_tier,
        settled.cost,
    )
    assert settled.saved is not None
    assert ["failed"] == [tried.verdict for tried in settled.attempt_results]


def test_an_old_reply_comes_as_the_stream_that_was_asked_for() -> None:
    commands, _ = Old().ask(answered(500), stream=True)

    assert "text/event-stream" in dict(commands[-1].headers)["content-type"]
    assert commands[-1].body.endswith(b"data: [DONE]\n\n")


def test_an_old_reply_stands_in_where_every_candidate_is_left_alone() -> None:
    class AllOpen:
        def __getattr__(self, name: str) -> Any:
            return getattr(planner(ModelTable({})), name)

        def plan(self, *_: Any) -> Any:
            raise Unavailable("every provider of this model has failed of late", retry_after=1.0)

    stage = Old()
    stage.having(planner=AllOpen())
    commands, settled = stage.ask()

    assert ("stale", "ok") == (settled.cache, settled.outcome)
    assert 200 == commands[-1].status


@pytest.mark.parametrize(
    "came",
    [
        (answered(400), ERROR),
        (answered(401), ERROR),
        (answered(404), ERROR),
        (answered(413, details="request_payload_too_large", end=True),),
        (answered(), whole(REPLY)),
    ],
)
def test_no_old_reply_is_given_where_a_provider_answers(came: tuple[Any, ...]) -> None:
    commands, settled = Old().ask(*came)

    assert not any(isinstance(command, ImmediateResponse) and command.status == 200 for command in commands)
    assert "miss" == settled.cache


@pytest.mark.parametrize("said", ["no-cache", "no-store", "max-age=60"])
def test_nobody_gets_an_old_reply_who_has_said_that_he_wants_none(said: str) -> None:
    _, settled = Old().ask(answered(500), ERROR, more=(("cache-control", said),))

    assert "upstream_error" == settled.outcome


def test_an_old_reply_is_not_given_where_config_does_not_say_so_or_after_that_time() -> None:
    never, late = Old(stale=0.0), Old(stale=100.0)
    late.now = NOW + 401

    assert "upstream_error" == never.ask(answered(500), ERROR)[1].outcome
    assert "upstream_error" == late.ask(answered(500), ERROR)[1].outcome


def test_an_old_reply_is_nobody_elses() -> None:
    stage = Old()
    stage.having(models=ModelTable({"claude": [Candidate("openai", "gpt-4o-mini")]}))
    stage.ask(model="claude")
    exchange = stage.exchange()
    asked = {"model": "claude", "messages": HELLO, "temperature": 0, "max_tokens": 10}
    talk(exchange, headers(key="edge-key-of-umbrella"), body(asked), answered(500), ERROR)
    exchange.closed("done")

    assert ("miss", "upstream_error") == (stage.settled[-1].cache, stage.settled[-1].outcome)


def test_what_failed_is_not_charged_because_an_old_reply_was_given() -> None:
    stage, limiter = limited(dollars(100_000))
    now = NOW
    cached(stage, 3600.0, lambda: now)
    ask(stage)
    now = NOW + 400
    exchange = stage.exchange()
    asked = {"model": "chat", "messages": HELLO, "temperature": 0, "max_tokens": 10}
    talk(exchange, headers(), body(asked), answered(503, end=True))
    exchange.closed("done")
    (status,) = limiter.statuses()

    assert "stale" == stage.settled[-1].cache
    assert (7 * MICRO, 0) == (status.used, status.reserved)


def test_who_may_not_ask_a_provider_does_not_get_its_old_replies() -> None:
    stage = Old()
    (key,) = stage.gateway.cache.l1._index  # type: ignore[union-attr]  # what lies there, whoever gave it
    by_fallback = CacheEntry("openai_chat", json.dumps(REPLY).encode(), "anthropic", "claude", NOW, stale=3600.0)
    stage.gateway.cache.l1.put(key, by_fallback, NOW)  # type: ignore[union-attr]
    stage.having(access=AccessPolicies([("acme", "tenant", "acme", AccessPolicy(providers=("openai",)))], {}, {}))

    assert "upstream_error" == stage.ask(answered(500), ERROR)[1].outcome
