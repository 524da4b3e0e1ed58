"""Each model gets the sampling settings and the effort that it accepts. The others are dropped and named."""

from __future__ import annotations

import json
from typing import Any

import pytest
from translating import CHAT, GEMINI, MESSAGES, RESPONSES, cross, read

from edge_extproc.dialects.bedrock_converse import PLUGIN as BEDROCK

KIMI, GROK, REASONER = "kimi-k2.6", "grok-4-1-fast", "deepseek-reasoner"
PENALTIES = {"presencePenalty": 0.5, "frequencyPenalty": 0.5}
SET = {"temperature": 0.7, "topP": 0.9, **PENALTIES}


@pytest.mark.parametrize("target", [CHAT, RESPONSES])
@pytest.mark.parametrize(
    ("model", "kept"),
    [
        (KIMI, set()),
        ("moonshotai/kimi-k2.5", set()),
        ("kimi-k3", set()),
        ("kimi-k2-0905-preview", {"temperature", "top_p", "presence_penalty", "frequency_penalty"}),
        (GROK, {"temperature", "top_p"}),
        ("x-ai/grok-4.5", {"temperature", "top_p"}),
        ("grok-code-fast-1", {"temperature", "top_p"}),
        ("grok-3", {"temperature", "top_p", "presence_penalty", "frequency_penalty"}),
        ("gpt-5.2-codex", set()),
        ("gpt-5.1-codex-mini", set()),
        ("openai/gpt-5.2-pro", set()),
        ("gpt-5.2", {"temperature", "top_p", "presence_penalty", "frequency_penalty"}),
        ("gpt-5.2-chat-latest", {"temperature", "top_p", "presence_penalty", "frequency_penalty"}),
        ("qwen3", {"temperature", "top_p", "presence_penalty", "frequency_penalty"}),
    ],
)
def test_a_setting_that_the_model_refuses_is_named(target: str, model: str, kept: set[str]) -> None:
    body, dropped = cross(GEMINI, target, model, generationConfig=SET)
    known = {"temperature", "top_p"} | ({"presence_penalty", "frequency_penalty"} if target == CHAT else set())

    assert kept & known == body.keys() & known
    assert len(SET) - len(kept & known) == len(dropped)


@pytest.mark.parametrize(
    ("model", "taken"),
    [
        ("gpt-5.2-codex", False),
        ("gpt-5.2-pro", False),
        ("gpt-5.2", True),
        (GROK, False),
        ("grok-3-mini", False),
        ("grok-4-fast-non-reasoning", True),
        ("grok-3", True),
        (KIMI, True),
    ],
)
def test_stop_sequences_go_to_models_that_take_them(model: str, taken: bool) -> None:
    body, dropped = cross(MESSAGES, CHAT, model, stop_sequences=["x"])

    assert (taken, () if taken else ("stop_sequences",)) == ("stop" in body, dropped)


def test_deepseeks_reasoner_gives_no_token_probabilities() -> None:
    config = {"temperature": 0.7, "responseLogprobs": True, "logprobs": 2}
    body, dropped = cross(GEMINI, CHAT, REASONER, generationConfig=config)

    assert not {"logprobs", "top_logprobs"} & body.keys()
    assert 0.7 == body["temperature"]
    assert ("generationConfig.logprobs", "generationConfig.responseLogprobs") == dropped


def converse(model: str, **fields: Any) -> tuple[Any, tuple[str, ...]]:
    written = BEDROCK.write_chat(read(CHAT, **fields), model)
    return json.loads(written.body), written.dropped


def test_the_first_generation_of_nova_does_not_reason() -> None:
    body, dropped = converse("us.amazon.nova-pro-v1:0", reasoning_effort="high", temperature=0.5)

    assert "additionalModelRequestFields" not in body
    assert ({"temperature": 0.5}, ("reasoning_effort",)) == (body["inferenceConfig"], dropped)


@pytest.mark.parametrize(
    ("effort", "limit", "level", "kept"),
    [
        ("high", None, "high", {}),
        ("high", 100, "medium", {"maxTokens": 100, "temperature": 0.5, "topP": 0.5}),
        ("low", None, "low", {"temperature": 0.5, "topP": 0.5}),
    ],
)
def test_nova_takes_no_settings_at_its_highest_effort(
    effort: str, limit: int | None, level: str, kept: dict[str, Any]
) -> None:
    limits = {} if limit is None else {"max_completion_tokens": limit}
    body, dropped = converse("amazon.nova-2-lite-v1:0", reasoning_effort=effort, temperature=0.5, top_p=0.5, **limits)

    assert level == body["additionalModelRequestFields"]["reasoningConfig"]["maxReasoningEffort"]
    assert kept == body.get("inferenceConfig", {})
    assert (() if kept else ("temperature", "top_p")) == dropped
