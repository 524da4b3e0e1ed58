"""Bodies of more messages, parts, tools or values than the bounds are refused in the caller's dialect, unread."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from every_dialect import EVERY_NAME
from player import Stage, answered, body, headers, talk, tried, whole

from edge_extproc.errors import PolicyUnavailable, TooLarge
from edge_extproc.exchange.body_shape import ShapeBounds, check_shape
from edge_extproc.exchange.commands import Continue, ImmediateResponse, Replace
from edge_extproc.model.wire_names import WireNames

BOUNDS = ShapeBounds(messages=10, parts=20, tools=5, values=1_000)
SAY = {"role": "user", "content": "x"}
PART = {"type": "text", "text": "x"}
TOOL = {"type": "function", "function": {"name": "f"}}
DECLARED = {"functionDeclarations": [{"name": "f"}] * 3}


def check(asked: Any, operation: Any = "chat") -> None:
    check_shape(json.dumps(asked).encode(), operation, BOUNDS, EVERY_NAME)


WITHIN = {
    "messages": {"messages": [SAY] * 10},
    "items": {"input": [SAY] * 10},
    "contents": {"contents": [{"parts": [{"text": "x"}]}] * 10},
    "parts": {"messages": [{"role": "user", "content": [PART] * 10}] * 2},
    "tools": {"messages": [SAY], "tools": [TOOL] * 5},
    "Gemini's tools": {"contents": [SAY], "tools": [DECLARED]},
    "Bedrock's tools": {"messages": [SAY], "toolConfig": {"tools": [{"toolSpec": {}}] * 5}},
    "text of braces": {"messages": [{"role": "user", "content": "{,[" * 400}]},
    "text alone": {"input": "{,[" * 400},
}
BEYOND = {
    "messages": ({"messages": [SAY] * 11}, "limits.messages"),
    "items": ({"input": [SAY] * 11}, "limits.messages"),
    "texts": ({"contents": ["x"] * 11}, "limits.messages"),
    "parts": ({"messages": [{"role": "user", "content": [PART] * 7}] * 3}, "limits.parts"),
    "Gemini's parts": ({"contents": [{"parts": [{"text": "x"}] * 7}] * 3}, "limits.parts"),
    "tools": ({"messages": [SAY], "tools": [TOOL] * 6}, "limits.tools"),
    "Gemini's tools": ({"contents": [SAY], "tools": [DECLARED] * 2}, "limits.tools"),
    "Bedrock's tools": ({"messages": [SAY], "toolConfig": {"tools": [{"toolSpec": {}}] * 6}}, "limits.tools"),
    "values": ({"messages": [SAY], "metadata": [[]] * 1_000}, "limits.json_values"),
}


@pytest.mark.parametrize("name", WITHIN)
def test_what_is_within_the_bounds_passes(name: str) -> None:
    check(WITHIN[name])


@pytest.mark.parametrize("name", BEYOND)
def test_what_is_beyond_a_bound_is_told_which(name: str) -> None:
    asked, key = BEYOND[name]
    with pytest.raises(TooLarge, match=key):
        check(asked)


LONG_TEXT = "{,[" * 100_000
"""A text that makes a body so long that its values are counted first."""


@pytest.mark.parametrize("name", WITHIN)
def test_a_long_text_beside_them_changes_nothing_within_the_bounds(name: str) -> None:
    check({"user": LONG_TEXT, **WITHIN[name]})


@pytest.mark.parametrize("name", BEYOND)
def test_a_long_text_beside_them_hides_nothing_beyond_a_bound(name: str) -> None:
    asked, key = BEYOND[name]
    for body_of in ({"user": LONG_TEXT, **asked}, {**asked, "user": LONG_TEXT}):
        with pytest.raises(TooLarge, match=key):
            check(body_of)


def test_the_names_are_those_of_the_dialects() -> None:
    """A dialect from another distribution has names of its own."""
    names = WireNames(
        messages=frozenset({"talk"}),
        parts=frozenset({"bits"}),
        tools=frozenset({"aids"}),
        tool_objects=frozenset({"use"}),
    )
    for asked, key in (
        ({"talk": ["x"] * 11}, "limits.messages"),
        ({"talk": [{"bits": ["x"] * 21}]}, "limits.parts"),
        ({"use": {"aids": [{}] * 6}}, "limits.tools"),
    ):
        raw = json.dumps(asked).encode()
        check_shape(raw, "chat", BOUNDS, EVERY_NAME)
        with pytest.raises(TooLarge, match=key):
            check_shape(raw, "chat", BOUNDS, names)


def test_tokens_to_embed_are_values_and_no_messages() -> None:
    check({"input": [1] * 500}, "embeddings")
    with pytest.raises(TooLarge, match="json_values"):
        check({"input": [1] * 2_000}, "embeddings")


def test_what_is_only_passed_on_is_not_looked_at() -> None:
    check([1] * 2_000, "passed")


@pytest.mark.parametrize(
    ("path", "asked"),
    [
        ("/v1/chat/completions", {"model": "chat", "messages": [SAY] * 11}),
        ("/v1/responses", {"model": "chat", "input": [SAY] * 11}),
        ("/v1/messages", {"model": "chat", "max_tokens": 5, "messages": [SAY] * 11}),
        ("/v1beta/models/chat:generateContent", {"contents": [{"parts": [{"text": "x"}]}] * 11}),
    ],
)
def test_the_caller_hears_it_in_its_own_words(path: str, asked: Any) -> None:
    stage = Stage().having(shape=BOUNDS)
    commands = talk(stage.exchange(), headers(path), body(asked))
    refusal = commands[1]

    assert isinstance(refusal, ImmediateResponse)
    assert refusal.status in (400, 413)
    assert "more than 10 messages" in json.loads(refusal.body)["error"]["message"]


# --- large bodies


class Counting:
    """Runs at once, and keeps the names of what it ran."""

    def __init__(self) -> None:
        self.ran: list[str] = []

    async def run(self, function: Any, *arguments: Any) -> Any:
        self.ran.append(getattr(getattr(function, "func", function), "__name__", "?"))
        return function(*arguments)

    run_in_turn = run


@pytest.mark.parametrize(
    ("asked", "steps"),
    [
        ({"messages": [SAY] * 100}, []),
        ({"messages": [{"role": "user", "content": "x" * 20_000}]}, []),
        ({"messages": [SAY] * 600}, ["read_call", "first_able"]),
        ({"messages": [{"role": "user", "content": "x" * 300_000}]}, ["read_call", "first_able"]),
    ],
)
def test_work_on_a_large_body_is_done_apart(asked: Any, steps: list[str]) -> None:
    apart = Counting()
    commands = talk(Stage().having(large_body_runner=apart).exchange(), headers(), body({"model": "claude", **asked}))

    assert isinstance(commands[1], Continue)
    assert steps == apart.ran


def test_envoy_is_told_once_that_a_large_body_may_take_its_time() -> None:
    told: list[float] = []

    async def more_time(seconds: float) -> None:
        told.append(seconds)

    found = Stage().exchange()
    found.more_time = more_time
    talk(found, headers(), body({"model": "claude", "messages": [SAY] * 600}))

    assert [30.0] == told


class Full:
    """Too many wait already, from the given step on."""

    def __init__(self, steps: int) -> None:
        self.left = steps

    async def run(self, function: Any, *arguments: Any) -> Any:
        self.left -= 1
        if self.left < 0:
            raise PolicyUnavailable("busy", retry_after=1.0)
        return function(*arguments)


def test_where_too_many_wait_the_caller_is_told_to_come_again() -> None:
    stage = Stage().having(large_body_runner=Full(0))
    refusal = talk(stage.exchange(), headers(), body({"model": "claude", "messages": [SAY] * 600}))[1]

    assert isinstance(refusal, ImmediateResponse)
    assert 503 == refusal.status


@pytest.mark.parametrize("level", ["attempt", "guard"])
def test_a_second_try_of_a_large_body_is_written_apart(level: str) -> None:
    apart = Counting()
    stage = Stage().having(large_body_runner=apart)
    found = stage.exchange()
    asked = {"model": "both", "messages": [SAY] * 600, "logit_bias": {"1": 1}}
    talk(found, headers(), body(asked))
    began = len(apart.ran)
    commands = talk(getattr(stage, level)(), tried(2))

    assert ["write_request"] == apart.ran[began:]
    assert isinstance(commands[0], Replace)

    answer = talk(found, answered(attempt=2))[0]

    assert isinstance(answer, Continue)
    assert "logit_bias" in dict(answer.set_headers)["x-edge-dropped"]


def test_a_second_try_of_a_large_body_is_refused_where_too_many_wait() -> None:
    stage = Stage().having(large_body_runner=Full(2))
    talk(stage.exchange(), headers(), body({"model": "both", "messages": [SAY] * 600}))
    refusal = talk(stage.attempt(), tried(2))[0]

    assert isinstance(refusal, ImmediateResponse)
    assert 503 == refusal.status


LONG = {"model": "chat", "stream": True, "messages": [SAY] * 600}


async def the_end(found: Any) -> None:
    await found.before_close()
    found.closed("cancelled")


def test_a_large_body_that_its_caller_leaves_is_read_apart_for_its_bill() -> None:
    apart = Counting()
    stage = Stage().having(large_body_runner=apart)
    found = stage.exchange()
    talk(found, headers(), body(LONG))
    talk(found, answered(content_type="text/event-stream"))
    asyncio.run(the_end(found))

    assert ["read_call", "first_able", "read_prompt"] == apart.ran
    assert stage.settled[-1].usage is not None
    assert stage.settled[-1].usage.prompt >= 600 * 4


def test_a_large_body_whose_caller_leaves_at_the_stop_of_the_worker_is_billed_the_same() -> None:
    stage = Stage()
    found = stage.exchange()
    talk(found, headers(), body(LONG))
    found.closed("stopping")

    assert stage.settled[-1].usage is not None
    assert stage.settled[-1].usage.prompt >= 600 * 4


REPLY = {
    "id": "r",
    "model": "m",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "x"}, "finish_reason": "stop"}],
}
USAGE = {"prompt_tokens": 7, "completion_tokens": 1, "total_tokens": 8}


@pytest.mark.parametrize(("facts", "usage"), [(True, True), (False, True), (True, False), (False, False)])
def test_a_large_body_is_read_for_the_bill_only_if_the_reply_has_no_usage(facts: bool, usage: bool) -> None:
    apart = Counting()
    stage = Stage().having(large_body_runner=apart, adds_access_log_facts=facts)
    found = stage.exchange()
    talk(found, headers(), body({**LONG, "stream": False}))
    talk(found, answered(), whole({**REPLY, **({"usage": USAGE} if usage else {})}))
    asyncio.run(the_end(found))

    assert apart.ran.count("read_prompt") == int(not usage)
    assert stage.settled[-1].usage is not None
    assert (7 == stage.settled[-1].usage.prompt) is usage


def test_an_error_of_a_provider_does_not_read_the_body_for_a_bill() -> None:
    apart = Counting()
    stage = Stage().having(large_body_runner=apart)
    found = stage.exchange()
    talk(found, headers(), body(LONG))
    talk(found, answered(status=400), whole({"error": {"message": "no"}}))
    asyncio.run(the_end(found))

    assert "read_prompt" not in apart.ran
    assert stage.settled[-1].usage is None
