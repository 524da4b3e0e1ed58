"""A translated request can have a higher output limit than the caller's. The reservation has the higher one."""

from __future__ import annotations

import json
from typing import Any

import pytest
from limits_kit import Now, RecordingListener, dollars
from player import ADollarPerToken, Stage, body, headers, talk

from edge_extproc.dialects.anthropic_messages import PLUGIN as ANTHROPIC
from edge_extproc.dialects.base import Dialect, RaisesLimit
from edge_extproc.dialects.bedrock_converse import PLUGIN as BEDROCK
from edge_extproc.dialects.gemini_generate import PLUGIN as GEMINI
from edge_extproc.dialects.openai_chat import PLUGIN as CHAT
from edge_extproc.dialects.openai_responses import PLUGIN as RESPONSES
from edge_extproc.exchange.commands import Continue, ImmediateResponse
from edge_extproc.exchange.worst_case import OutputBounds
from edge_extproc.limits.limiter import PolicyLimiter
from edge_extproc.limits.rule_table import RuleTable

HELLO = [{"role": "user", "content": "Hello"}]
THINKING = [
    {"reasoning": {"max_tokens": 60_000}},
    {"thinking": {"type": "enabled", "budget_tokens": 60_000}},
    {"thinking": {"type": "enabled"}},
    {"reasoning": {"enabled": True, "effort": "high"}},
    {"reasoning_effort": "high"},
    {"reasoning_effort": "minimal"},
    {"reasoning_effort": "default"},
    {"reasoning_effort": "none"},
    {"thinking": {"type": "disabled"}},
    {},
]
TARGETS: list[tuple[Dialect, str]] = [
    (ANTHROPIC, "claude-haiku-4-5"),
    (ANTHROPIC, "claude-opus-4-6"),
    (ANTHROPIC, "claude-3-5-haiku-20241022"),
    (BEDROCK, "anthropic.claude-haiku-4-5-20251001-v1:0"),
    (BEDROCK, "amazon.nova-pro-v1:0"),
    (GEMINI, "gemini-2.5-flash"),
    (RESPONSES, "gpt-5"),
]


def _limit_of(request: dict[str, Any]) -> int:
    inference = request.get("inferenceConfig") or request.get("generationConfig") or {}
    names = ("max_tokens", "max_output_tokens")
    limits = [*(request.get(name) for name in names), inference.get("maxTokens"), inference.get("maxOutputTokens")]
    return max(limit for limit in limits if limit is not None)


@pytest.mark.parametrize("thinking", THINKING, ids=json.dumps)
@pytest.mark.parametrize(("target", "model"), TARGETS, ids=lambda each: getattr(each, "name", each))
@pytest.mark.parametrize("limit", [10, 1_024, 5_000, 60_001])
def test_a_request_exceeds_the_callers_limit_by_what_its_dialect_says(
    thinking: dict[str, Any], target: Dialect, model: str, limit: int
) -> None:
    raw = json.dumps({"model": "m", "messages": HELLO, "max_tokens": limit, **thinking}).encode()
    chat = CHAT.read_chat(CHAT.read_call(raw, "chat", (), "/v1/chat/completions"))
    added = target.added_output(chat, model) if isinstance(target, RaisesLimit) else 0

    assert _limit_of(json.loads(target.write_chat(chat, model).body)) <= limit + added


def stage(budget: int) -> Stage:
    found = Stage()
    limiter = PolicyLimiter(RuleTable([dollars(budget)]), None, RecordingListener(), clock=Now())
    bounds = OutputBounds((("*", 100),), 10, 2_000, 0, 0)
    return found.having(limiter=limiter, bounds=bounds, prices=ADollarPerToken())


@pytest.mark.parametrize("model", ["claude", "both", "claude-first"])
def test_thinking_beyond_the_limit_is_reserved(model: str) -> None:
    asked = {"model": model, "messages": HELLO, "max_tokens": 10, "reasoning": {"max_tokens": 60_000}}
    _, refusal = talk(stage(60_000).exchange(), headers(), body(asked))
    _, admitted = talk(stage(70_000).exchange(), headers(), body(asked))
    _, without = talk(stage(60_000).exchange(), headers(), body({**asked, "reasoning": None}))

    assert isinstance(refusal, ImmediateResponse)
    assert 429 == refusal.status
    assert isinstance(admitted, Continue)
    assert isinstance(without, Continue)


def test_a_candidate_that_cannot_take_the_call_adds_nothing() -> None:
    asked = {"model": "both", "messages": HELLO, "max_tokens": 10, "n": 2, "reasoning": {"effort": 5}}
    _, command = talk(stage(60_000).exchange(), headers(), body(asked))

    assert isinstance(command, Continue)
