"""A caller who leaves a stream is charged for what the provider was asked to do.

The oracle is text of which the number of tokens is known: "word " is one token of o200k, Claude's and Gemini's
tokenizers each.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from limits_kit import Now, RecordingListener, dollars, rule
from player import DIALECTS, ADollarPerToken, Stage, answered, body, chunks, headers, talk
from thoroughness import examples

from edge_extproc.exchange.commands import ImmediateResponse
from edge_extproc.exchange.worst_case import OutputBounds
from edge_extproc.limits.base import LimitRule
from edge_extproc.limits.limiter import PolicyLimiter
from edge_extproc.limits.rule_table import RuleTable
from edge_extproc.model.call import Call
from edge_extproc.model.plan import Candidate
from edge_extproc.model.reply import (
    Ended,
    Finish,
    Finished,
    PartDelta,
    PartEnded,
    PartStarted,
    ReplyStarted,
    UsageSeen,
)
from edge_extproc.model.usage import Usage
from edge_extproc.routing.base import ModelTable

WORDS = 2_000
TEXT = "word " * WORDS
SCHEMA = {"type": "object", "properties": {"a": {"type": "string", "description": TEXT}}}
BOUNDS = OutputBounds((("*", 10_000),), 100, 200_000, 0, 0)
# The estimate's mean error, twice (accounting/estimate.py).
MARGIN = 0.85

PATHS = {
    "openai_chat": "/v1/chat/completions",
    "openai_responses": "/v1/responses",
    "anthropic_messages": "/v1/messages",
    "gemini_generate": "/v1beta/models/{}:streamGenerateContent?alt=sse",
    "bedrock_converse": "/model/{}/converse-stream",
}
MODELS = ModelTable(
    {
        "chat": [Candidate("openai", "gpt-4o-mini")],
        "big": [Candidate("openai", "gpt-4o")],
        "thinks": [Candidate("openai", "o3")],
        "claude": [Candidate("anthropic", "claude-haiku-4-5")],
        "gemini": [Candidate("google", "gemini-2.0-flash")],
    }
)


def user(text: str, *more: Any) -> list[Any]:
    return [{"role": "user", "content": [{"type": "text", "text": text}, *more]}]


def gemini(*parts: Any, **more: Any) -> dict[str, Any]:
    return {"contents": [{"role": "user", "parts": [{"text": "Hello"}, *parts]}], **more}


def converse(*parts: Any, **more: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": [{"text": "Hello"}, *parts]}], **more}


TOOL_CALL = {"id": "a", "type": "function", "function": {"name": "f", "arguments": json.dumps({"a": TEXT})}}
FEATURES: dict[str, dict[str, dict[str, Any]]] = {
    "openai_chat": {
        "text": {"messages": user(TEXT)},
        "system": {"messages": [{"role": "system", "content": TEXT}, *user("Hello")]},
        "tools": {
            "messages": user("Hello"),
            "tools": [{"type": "function", "function": {"name": "f", "description": TEXT, "parameters": SCHEMA}}],
        },
        "schema": {
            "messages": user("Hello"),
            "response_format": {"type": "json_schema", "json_schema": {"name": "s", "schema": SCHEMA}},
        },
        "tool call": {
            "messages": [
                *user("Hello"),
                {"role": "assistant", "content": None, "tool_calls": [TOOL_CALL]},
                {"role": "tool", "tool_call_id": "a", "content": "Done"},
            ]
        },
        "tool result": {
            "messages": [
                *user("Hello"),
                {"role": "assistant", "content": None, "tool_calls": [{**TOOL_CALL, "function": {"name": "f"}}]},
                {"role": "tool", "tool_call_id": "a", "content": TEXT},
            ]
        },
        "unknown field": {"messages": user("Hello"), "guided_json": SCHEMA},
        "two images": {
            "messages": user("Hello", *[{"type": "image_url", "image_url": {"url": "https://x.example/a.png"}}] * 2)
        },
        "stored file": {"messages": user("Hello", {"type": "file", "file": {"file_id": "file-1"}})},
    },
    "openai_responses": {
        "text": {"input": TEXT},
        "instructions": {"input": "Hello", "instructions": TEXT},
        "items": {"input": [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": TEXT}]}]},
        "tools": {
            "input": "Hello",
            "tools": [{"type": "function", "name": "f", "description": TEXT, "parameters": SCHEMA}],
        },
        "schema": {"input": "Hello", "text": {"format": {"type": "json_schema", "name": "s", "schema": SCHEMA}}},
        "tool result": {"input": [{"type": "function_call_output", "call_id": "a", "output": TEXT}]},
        "stored conversation": {"input": "Hello", "previous_response_id": "resp_1"},
        "two images": {
            "input": [
                {
                    "role": "user",
                    "content": [{"type": "input_image", "image_url": "https://x.example/a.png"}] * 2,
                }
            ]
        },
    },
    "anthropic_messages": {
        "text": {"messages": user(TEXT)},
        "system": {"messages": user("Hello"), "system": [{"type": "text", "text": TEXT}]},
        "tools": {
            "messages": user("Hello"),
            "tools": [{"name": "f", "description": TEXT, "input_schema": SCHEMA}],
        },
        "tool call": {
            "messages": [
                *user("Hello"),
                {"role": "assistant", "content": [{"type": "tool_use", "id": "a", "name": "f", "input": {"a": TEXT}}]},
                {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "a", "content": "Done"}]},
            ]
        },
        "hidden in an argument": {
            "messages": [
                *user("Hello"),
                {
                    "role": "assistant",
                    "content": [
                        {
                            "type": "tool_use",
                            "id": "a",
                            "name": "f",
                            "input": {"media_type": "image/png", "data": TEXT, "type": "image", "source": TEXT},
                        }
                    ],
                },
                {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "a", "content": "Done"}]},
            ]
        },
        "document": {
            "messages": user(
                "Hello",
                {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": TEXT}},
            )
        },
        "document behind a URL": {
            "messages": user("Hello", {"type": "document", "source": {"type": "url", "url": "https://x.example/a.pdf"}})
        },
    },
    "gemini_generate": {
        "text": gemini({"text": TEXT}),
        "system": gemini(systemInstruction={"parts": [{"text": TEXT}]}),
        "snake": gemini(system_instruction={"parts": [{"text": TEXT}]}),
        "tools": gemini(tools=[{"functionDeclarations": [{"name": "f", "description": TEXT, "parameters": SCHEMA}]}]),
        "schema": gemini(generationConfig={"responseMimeType": "application/json", "responseSchema": SCHEMA}),
        "stored context": gemini(cachedContent="cachedContents/1"),
    },
    "bedrock_converse": {
        "text": converse({"text": TEXT}),
        "system": converse(system=[{"text": TEXT}]),
        "tools": converse(
            toolConfig={"tools": [{"toolSpec": {"name": "f", "description": TEXT, "inputSchema": {"json": SCHEMA}}}]}
        ),
        "document": converse(
            {"document": {"format": "txt", "name": "d", "source": {"text": TEXT}}},
        ),
    },
}
# What a provider bills for these; everything else is the words of TEXT, once for each place.
BILLED = {
    "two images": 2 * 25_501,  # gpt-4o-mini: 2,833 and 5,667 for each of 4 tiles of 1024 x 1024
    "stored file": BOUNDS.context_window,
    "stored conversation": BOUNDS.context_window,
    "stored context": BOUNDS.context_window,
    "document behind a URL": BOUNDS.context_window,
}
CASES = [(dialect, feature) for dialect, features in FEATURES.items() for feature in features]


def asked_model(dialect: str) -> str:
    return {"anthropic_messages": "claude", "gemini_generate": "gemini"}.get(dialect, "chat")


def stream_of(dialect: str, told: Usage | None = None) -> list[bytes]:
    """A provider's stream, an event each. The usage comes last, but for Claude's, which also begins with it."""
    call = Call(dialect, "chat", "m", True, b"{}")
    writer = DIALECTS[dialect].writer(call)
    events = [
        ReplyStarted("id", "m"),
        PartStarted(0, "text"),
        *(PartDelta(0, "word word ") for _ in range(5)),
        Finished(Finish("stop")),
        UsageSeen(told or Usage(input=WORDS, output=10)),
        Ended(),
    ]
    return [data for data in map(writer.write, events) if data]


def limited(*rules: LimitRule) -> Stage:
    stage = Stage()
    limiter = PolicyLimiter(RuleTable(rules), None, RecordingListener(), clock=Now())

    def settle(settlement: Any) -> None:
        stage.settled.append(settlement)
        limiter.settle(settlement)

    return stage.having(limiter=limiter, bounds=BOUNDS, sinks=(settle,), prices=ADollarPerToken(), models=MODELS)


def leave(
    stage: Stage,
    dialect: str,
    asked: dict[str, Any],
    came: int,
    model: str | None = None,
    told: Usage | None = None,
) -> Any:
    """One exchange whose caller leaves when so many events have come. Gives its settlement."""
    model = model or asked_model(dialect)
    target = {"claude": "anthropic_messages", "gemini": "gemini_generate"}.get(
        model, "openai_responses" if dialect == "openai_responses" else "openai_chat"
    )
    if "{}" not in PATHS[dialect]:
        asked = {"model": model, "stream": True, **asked}
    if dialect == "anthropic_messages":
        asked = {"max_tokens": 100, **asked}
    found = stage.exchange()
    events = stream_of(target, told=told)[:came]
    commands = talk(
        found,
        headers(PATHS[dialect].format(model)),
        body(asked),
        *([answered(content_type="text/event-stream"), *chunks(*events, end=False)]),
    )
    assert not any(isinstance(command, ImmediateResponse) for command in commands), commands
    found.closed("cancelled")
    return stage.settled[-1]


@pytest.mark.parametrize(("dialect", "feature"), CASES)
def test_what_was_asked_is_charged_whenever_the_caller_leaves(dialect: str, feature: str) -> None:
    stage, asked = limited(dollars(10_000_000)), FEATURES[dialect][feature]
    places = json.dumps(asked).count(TEXT)
    owed = BILLED.get(feature, places * WORDS)
    for came in range(3):
        settled = leave(stage, dialect, asked, came)

        assert ("caller_left", True) == (settled.outcome, settled.estimated)
        assert settled.usage.prompt >= MARGIN * owed, came
        assert settled.cost >= MARGIN * owed


@settings(max_examples=examples(60), deadline=None)
@given(case=st.sampled_from(CASES), came=st.integers(0, 12))
def test_at_no_event_is_it_cheaper_to_leave(case: tuple[str, str], came: int) -> None:
    dialect, feature = case
    asked = FEATURES[dialect][feature]
    owed = BILLED.get(feature, json.dumps(asked).count(TEXT) * WORDS)
    # Near its end the stream tells what it used; then that counts.
    told = Usage(input=owed, output=10)
    settled = leave(limited(dollars(10_000_000)), dialect, asked, came, told=told)

    assert settled.usage.prompt >= MARGIN * owed


def frames_of(dialect: str, kinds: list[str], words: int) -> list[tuple[bytes, int]]:
    """A provider's stream without its end: each frame, and the words that it has generated so far."""
    writer, frames, generated = DIALECTS[dialect].writer(Call(dialect, "chat", "m", True, b"{}")), [], 0
    frames.append((writer.write(ReplyStarted("id", "m")), 0))
    for index, kind in enumerate(kinds):
        frames.append((writer.write(_STARTED[kind](index)), generated))
        for _ in range(words):
            generated += 1
            frames.append((writer.write(PartDelta(index, "word ")), generated))
        frames.append((writer.write(PartEnded(index)), generated))
    return [frame for frame in frames if frame[0]]


_STARTED = {
    "text": lambda index: PartStarted(index, "text"),
    "thinking": lambda index: PartStarted(index, "thinking"),
    "tool": lambda index: PartStarted(index, "tool_call", id=f"call_{index}", name="f"),
}


@settings(max_examples=examples(160), deadline=None)
@given(
    case=st.sampled_from(CASES),
    kinds=st.lists(st.sampled_from(["text", "thinking", "tool"]), min_size=1, max_size=3),
    words=st.integers(1, 30),
    share=st.floats(0, 1),
)
def test_at_no_byte_is_it_cheaper_to_leave(case: tuple[str, str], kinds: list[str], words: int, share: float) -> None:
    """The provider's charge is the prompt and each word that it had generated: the charge is never more than 15 % of
    the prompt below it, in the ledger and in the budget."""
    dialect, feature = case
    model, asked = asked_model(dialect), FEATURES[dialect][feature]
    target = {"claude": "anthropic_messages", "gemini": "gemini_generate"}.get(
        model, "openai_responses" if dialect == "openai_responses" else "openai_chat"
    )
    # Gemini streams a call as a whole, so its words are seen only at its end.
    frames = frames_of(target, [k for k in kinds if k != "tool" or target != "gemini_generate"] or ["text"], words)
    stream = b"".join(data for data, _ in frames)
    cut, at, generated = round(share * len(stream)), 0, 0
    for data, so_far in frames:
        at += len(data)
        generated = so_far if at <= cut else generated
    if "{}" not in PATHS[dialect]:
        asked = {"model": model, "stream": True, "max_tokens": 1_000, **asked}
    stage = limited(dollars(10_000_000))
    found = stage.exchange()
    came = chunks(stream[: cut // 2], stream[cut // 2 : cut], end=False)
    path = PATHS[dialect].format(model)
    talk(found, headers(path), body(asked), answered(content_type="text/event-stream"), *came)
    found.closed("cancelled")
    settled, owed = stage.settled[-1], BILLED.get(feature, json.dumps(asked).count(TEXT) * WORDS)
    assert isinstance(stage.gateway.limiter, PolicyLimiter)
    (budget,) = stage.gateway.limiter.statuses()

    assert settled.usage.total >= MARGIN * owed + generated
    assert budget.used >= settled.cost * 1_000_000


def test_the_words_that_were_seen_are_charged_too() -> None:
    first, later = (
        leave(limited(dollars(10_000_000)), "openai_chat", {"messages": user("Hello")}, came) for came in (2, 6)
    )

    assert later.usage.output > first.usage.output
    assert first.usage.prompt == later.usage.prompt


def test_each_answer_that_was_asked_for_is_charged_as_the_one_that_was_seen() -> None:
    one, eight = (
        leave(limited(dollars(10_000_000)), "openai_chat", {"messages": user("Hello"), "n": n}, 6) for n in (1, 8)
    )

    assert one.usage.output * 8 - 8 <= eight.usage.output <= one.usage.output * 8
    assert eight.usage.output > one.usage.output


@pytest.mark.parametrize(
    ("asked", "hidden"),
    [
        ({"max_completion_tokens": 1_000}, 500),
        ({"max_completion_tokens": 1_000, "reasoning_effort": "high"}, 800),
        ({"max_completion_tokens": 1_000, "reasoning_effort": "high", "n": 2}, 1_600),
        ({"max_completion_tokens": 1_000, "reasoning_effort": "none"}, 0),
        ({"max_completion_tokens": 1_000, "max_tokens": 4_000}, 2_000),
        ({"reasoning_effort": "a new one"}, 10_000),
        ({}, 5_000),
    ],
)
def test_reasoning_that_no_event_shows_is_charged_by_its_effort(asked: dict[str, Any], hidden: int) -> None:
    found = leave(limited(dollars(10_000_000)), "openai_chat", {"messages": user("Hello"), **asked}, 0, "thinks")

    assert hidden == found.usage.reasoning


@pytest.mark.parametrize(
    ("dialect", "asked", "hidden"),
    [
        ("anthropic_messages", {"max_tokens": 5_000, "thinking": {"type": "enabled", "budget_tokens": 3_000}}, 3_000),
        ("anthropic_messages", {"max_tokens": 5_000, "thinking": {"type": "adaptive"}}, 4_000),
        (
            "anthropic_messages",
            {"max_tokens": 5_000, "thinking": {"type": "adaptive"}, "output_config": {"effort": "low"}},
            1_000,
        ),
        ("anthropic_messages", {"max_tokens": 5_000, "thinking": {"type": "disabled"}}, 0),
        ("anthropic_messages", {"max_tokens": 5_000, "output_config": {"effort": "high"}}, 0),
        ("openai_responses", {"max_output_tokens": 1_000, "reasoning": {"effort": "low"}}, 200),
        ("gemini_generate", {"generationConfig": {"thinkingConfig": {"thinkingBudget": 700}}}, 700),
        ("gemini_generate", {"generation_config": {"thinking_config": {"thinking_budget": 700}}}, 700),
        ("gemini_generate", {"generationConfig": {"thinkingConfig": {"thinkingBudget": -1}}}, 5_000),
        ("gemini_generate", {"generationConfig": {"thinkingConfig": {"thinkingBudget": 0}}}, 0),
    ],
)
def test_a_budget_of_reasoning_is_charged_in_any_spelling(dialect: str, asked: dict[str, Any], hidden: int) -> None:
    base = {
        "anthropic_messages": {"messages": user("Hello")},
        "openai_responses": {"input": "Hello"},
        "gemini_generate": gemini(),
    }
    found = leave(limited(dollars(10_000_000)), dialect, {**base[dialect], **asked}, 0)

    assert hidden == found.usage.reasoning


def start_of_claude(tokens: int) -> bytes:
    usage = {"input_tokens": tokens, "output_tokens": 1}
    message = {"id": "m", "type": "message", "role": "assistant", "model": "m", "content": [], "usage": usage}
    return (
        b"event: message_start\ndata: " + json.dumps({"type": "message_start", "message": message}).encode() + b"\n\n"
    )


@pytest.mark.parametrize(("feature", "told", "charged"), [("document behind a URL", 900, 900), ("text", 1_900, 1_900)])
def test_a_prompt_that_the_provider_has_counted_is_its_count(feature: str, told: int, charged: int) -> None:
    assert charged == beginning(feature, told).usage.prompt


def test_a_count_that_cannot_be_one_of_this_text_is_not_believed() -> None:
    assert beginning("text", 5).usage.prompt >= MARGIN * WORDS


def beginning(feature: str, told: int) -> Any:
    stage = limited(dollars(10_000_000))
    found = stage.exchange()
    asked = {"model": "claude", "stream": True, "max_tokens": 10, **FEATURES["anthropic_messages"][feature]}
    came = chunks(start_of_claude(told), end=False)
    talk(found, headers("/v1/messages"), body(asked), answered(content_type="text/event-stream"), *came)
    found.closed("cancelled")
    return stage.settled[-1]


@pytest.mark.parametrize("events", [(), (answered(),), (answered(504, details="response_timeout"),)])
def test_a_reply_of_which_nothing_was_seen_is_billed_as_it_was_asked_for(events: Any) -> None:
    """The caller left before the answer or within it, or the time ran out."""
    stage = limited(dollars(10_000_000))
    found = stage.exchange()
    asked = {"model": "chat", "max_tokens": 70, "n": 2, **FEATURES["openai_chat"]["tools"]}
    talk(found, headers(), body(asked), *events)
    found.closed("cancelled")
    settled = stage.settled[-1]

    assert (True, True) == (settled.estimated, settled.unseen)
    assert 140 == settled.usage.completion
    assert settled.usage.prompt >= MARGIN * 2 * WORDS
    assert settled.cost == settled.usage.total


def test_an_error_of_the_providers_is_free() -> None:
    stage = limited(dollars(10_000_000))
    found = stage.exchange()
    talk(found, headers(), body({"model": "chat", **FEATURES["openai_chat"]["tools"]}), answered(500), *chunks(b"{}"))
    found.closed("done")

    assert ("upstream_error", None, None) == (
        stage.settled[-1].outcome,
        stage.settled[-1].usage,
        stage.settled[-1].cost,
    )


# --- what it means for limits


def attack(stage: Stage, times: int) -> list[int]:
    """Statuses of calls with a long tool definition, each left as soon as its answer begins."""
    tools = FEATURES["openai_chat"]["tools"]
    statuses = []
    for n in range(times):
        found = stage.exchange()
        asked = {"model": "big", "stream": True, "max_tokens": 100, **tools, "messages": user(f"Hello {n}")}
        commands = talk(found, headers(), body(asked))
        if isinstance(commands[-1], ImmediateResponse):
            statuses.append(commands[-1].status)
        else:
            talk_on = chunks(*stream_of("openai_chat")[:1], end=False)
            talk(found, answered(content_type="text/event-stream"), *talk_on)
            statuses.append(200)
        found.closed("cancelled")
    return statuses


def test_a_budget_is_not_evaded_by_leaving_early() -> None:
    """Each call is worth two thousand words twice; the budget is for some six of them."""
    stage = limited(dollars(45_000))
    statuses = attack(stage, 30)
    got = statuses.count(200)

    assert {200, 429} == set(statuses)
    assert got >= 1
    assert got * 2 * WORDS <= 45_000
    assert [429] * (30 - got) == statuses[got:]


def test_tokens_a_minute_are_not_evaded_by_leaving_early() -> None:
    statuses = attack(limited(rule("tokens", 20_000)), 30)

    assert {200, 429} == set(statuses)
    assert statuses.count(200) * 2 * WORDS <= 20_000
