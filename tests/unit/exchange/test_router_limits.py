"""Limits in the story of a request: refused before anything is sent, told to the caller, settled at the end."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from limits_kit import Now, RecordingListener, dollars, rule
from player import ADollarPerToken, Stage, answered, body, chunks, headers, talk, whole

from edge_extproc.exchange.commands import Continue, ImmediateResponse
from edge_extproc.exchange.large_bodies import LARGE
from edge_extproc.exchange.worst_case import OutputBounds
from edge_extproc.limits.base import LimitRule
from edge_extproc.limits.limiter import PolicyLimiter
from edge_extproc.limits.rule_table import RuleTable

HELLO = [{"role": "user", "content": "Hello"}]
REPLY = {
    "id": "c",
    "object": "chat.completion",
    "created": 1,
    "model": "m",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7},
}
# Small enough that a call's worst case is some thousands of dollars at a dollar a token.
BOUNDS = OutputBounds((("*", 100),), 10, 2_000, 0, 0)


def limited(*rules: LimitRule) -> Stage:
    stage = Stage()
    limiter = PolicyLimiter(RuleTable(rules), None, RecordingListener(), clock=Now())

    def settle(settlement: Any) -> None:
        stage.settled.append(settlement)
        limiter.settle(settlement)

    return stage.having(limiter=limiter, bounds=BOUNDS, sinks=(settle,), prices=ADollarPerToken())


def exchange(stage: Stage, *events: Any, why: Any = "done", model: str = "chat") -> list[Any]:
    found = stage.exchange()
    commands = talk(found, headers(), body({"model": model, "messages": HELLO, "max_tokens": 10}), *events)
    found.closed(why)
    return commands


def left(commands: list[Any], at: int = 2) -> str:
    return dict(commands[at].set_headers)["x-ratelimit-remaining-dollars"]


def test_what_is_left_is_told_with_the_answer_and_settled_by_its_cost() -> None:
    stage = limited(dollars(5_000))
    first = exchange(stage, answered(), whole(REPLY))
    second = exchange(stage, answered(), whole(REPLY))
    worst = 5_000 - float(left(first))

    assert 1_000 < worst < 2_100
    assert 7 == pytest.approx(float(left(first)) - float(left(second)))


def test_a_stream_tells_it_too() -> None:
    stage = limited(rule("requests", 3))
    found = stage.exchange()
    asked = body({"model": "chat", "messages": HELLO, "stream": True})
    commands = talk(found, headers(), asked, answered(content_type="text/event-stream"), *chunks(b"data: [DONE]\n\n"))
    found.closed("done")

    assert ("x-ratelimit-remaining-requests", "2") in commands[2].set_headers


def test_beyond_its_budget_nothing_is_sent_and_the_caller_hears_why_in_its_own_words() -> None:
    stage = limited(dollars(2_000))
    exchange(stage, answered(), why="cancelled")
    found = stage.exchange()
    commands = talk(found, headers("/v1/messages"), body({"model": "chat", "messages": HELLO, "max_tokens": 10}))
    found.closed("done")
    refusal = commands[1]

    assert isinstance(refusal, ImmediateResponse)
    told = json.loads(refusal.body)
    assert (429, "rate_limit_error") == (refusal.status, told["error"]["type"])
    assert "dollars per day of tenant acme is limited to $2000.00" in told["error"]["message"]
    assert "86400" == dict(refusal.headers)["retry-after"]
    assert "x-ratelimit-limit-dollars" in dict(refusal.headers)
    assert ("rejected", "budget_exceeded") == (stage.settled[-1].outcome, stage.settled[-1].code)


def test_a_known_refusal_comes_before_the_body() -> None:
    stage = limited(rule("requests", 1))
    exchange(stage, answered(), whole(REPLY))
    assert isinstance(exchange(stage)[1], ImmediateResponse)
    found = stage.exchange()
    commands = talk(found, headers())

    assert isinstance(commands[0], ImmediateResponse)
    assert 429 == commands[0].status


LENGTHS = [(("content-length", str(LARGE)),), (("transfer-encoding", "chunked"),)]


@pytest.mark.parametrize("length", LENGTHS)
def test_a_large_body_of_a_caller_without_a_free_slot_is_refused_at_its_headers(length: Any) -> None:
    stage = limited(rule("concurrent", 1), rule("requests", 2))
    first = stage.exchange()
    talk(first, headers(), body({"model": "chat", "messages": HELLO}))
    commands = talk(stage.exchange(), headers("/v1/chat/completions", *length))

    assert isinstance(commands[0], ImmediateResponse)
    assert 429 == commands[0].status
    assert b"concurrent requests at one time of tenant acme is limited to 1" in commands[0].body

    talk(first, answered(), whole(REPLY))
    first.closed("done")
    again = stage.exchange()  # the refused one has counted nothing
    commands = talk(again, headers("/v1/chat/completions", *length), body({"model": "chat", "messages": HELLO}))
    assert [True, True] == [isinstance(command, Continue) for command in commands]


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("end", ["left", "refused", "answered"])
def test_a_large_body_that_is_on_its_way_uses_a_slot_of_large_bodies(length: Any, end: str) -> None:
    stage = limited(rule("concurrent", 2))
    uploads = [stage.exchange() for _ in range(2)]
    for each in uploads:
        assert isinstance(talk(each, headers("/v1/chat/completions", *length))[0], Continue)

    refused = stage.exchange()
    refusal = talk(refused, headers("/v1/chat/completions", *length))[0]
    refused.closed("done")
    assert isinstance(refusal, ImmediateResponse)
    assert (429, b"limited to 2") == (refusal.status, refusal.body[refusal.body.index(b"limited") :][:12])

    first = uploads[0]
    if end == "refused":
        talk(first, body({"model": "unknown", "messages": HELLO}))
    elif end == "answered":
        assert isinstance(talk(first, body({"model": "chat", "messages": HELLO}))[0], Continue)
        other = talk(stage.exchange(), headers("/v1/chat/completions", *length))[0]
        assert isinstance(other, ImmediateResponse)  # the call itself has the slot now
        talk(first, answered(), whole(REPLY))
    first.closed("cancelled" if end == "left" else "done")

    assert isinstance(talk(stage.exchange(), headers("/v1/chat/completions", *length))[0], Continue)


def test_small_requests_do_not_wait_for_large_bodies() -> None:
    stage = limited(rule("concurrent", 1))
    talk(stage.exchange(), headers("/v1/chat/completions", *LENGTHS[0]))
    small = headers("/v1/chat/completions", ("content-length", "100"))
    commands = talk(stage.exchange(), small, body({"model": "chat", "messages": HELLO}))

    assert [True, True] == [isinstance(command, Continue) for command in commands]


def test_a_slot_that_becomes_free_at_once_is_waited_for_at_the_headers() -> None:
    stage = limited(rule("concurrent", 1))
    first = stage.exchange()
    talk(first, headers(), body({"model": "chat", "messages": HELLO}))

    async def both() -> Any:
        asyncio.get_running_loop().call_later(0.01, first.closed, "done")
        return await stage.exchange().handle(headers("/v1/chat/completions", *LENGTHS[0]))

    assert isinstance(asyncio.run(both()), Continue)


def test_a_small_body_is_read_because_the_cache_may_answer_it() -> None:
    stage = limited(rule("concurrent", 1))
    talk(stage.exchange(), headers(), body({"model": "chat", "messages": HELLO}))
    commands = talk(stage.exchange(), headers("/v1/chat/completions", ("content-length", "100")))

    assert isinstance(commands[0], Continue)


def test_who_has_no_limit_is_not_told_of_any() -> None:
    stage = limited(rule("requests", 1, tenant="other", name="other"))
    commands = exchange(stage, answered(), whole(REPLY))

    assert isinstance(commands[2], Continue)
    assert not commands[2].set_headers


@pytest.mark.parametrize(
    ("events", "why", "charged"),
    [
        ([answered(500), whole({"error": {"message": "no"}})], "done", False),
        ([answered(503, details="upstream_reset_before_response_started", end=True)], "done", False),
        ([], "cancelled", True),
        ([answered(content_type="application/json")], "cancelled", True),
    ],
)
def test_each_way_out_settles(events: list[Any], why: Any, charged: bool) -> None:
    stage = limited(dollars(100_000), rule("concurrent", 1))
    exchange(stage, *events, why=why)
    after = exchange(stage, answered(), whole(REPLY))
    untouched = left(exchange(limited(dollars(100_000), rule("concurrent", 1)), answered(), whole(REPLY)))

    assert charged == (left(after) != untouched)


def test_an_unpriced_model_is_refused_under_a_budget() -> None:
    stage = limited(dollars(100_000)).having(prices=Unpriced())
    refusal = exchange(stage)[1]

    assert isinstance(refusal, ImmediateResponse)
    assert (403, "model_unpriced") == (refusal.status, json.loads(refusal.body)["error"]["code"])


class Unpriced:
    def cost(self, *_: Any, **__: Any) -> None:
        return None

    max_cost = cost


def test_a_call_that_no_candidate_can_carry_gives_back_what_it_took() -> None:
    stage = limited(dollars(5_000))
    found = stage.exchange()
    commands = talk(found, headers(), body({"model": "claude", "messages": HELLO, "max_tokens": 10, "n": 3}))
    found.closed("done")

    assert isinstance(commands[1], ImmediateResponse)
    assert 400 == commands[1].status
    assert 5_000 - float(left(exchange(stage, answered(), whole(REPLY)))) < 2_100
