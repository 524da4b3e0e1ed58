"""A request to turn thinking off, at the models of OpenAI's formats."""

from __future__ import annotations

from typing import Any

import pytest
from asking import CHAT, CONVERSE, GEMINI, MESSAGES, RESPONSES, Provider, provider_request

from edge_extproc.codecs.json_values import read_body
from edge_extproc.providers.openai_compatible import row

OFF: dict[str, tuple[str, dict[str, Any], str]] = {
    MESSAGES: (
        "/v1/messages",
        {
            "model": "m",
            "max_tokens": 100,
            "thinking": {"type": "disabled"},
            "messages": [{"role": "user", "content": "Hi"}],
        },
        "thinking",
    ),
    RESPONSES: ("/v1/responses", {"model": "m", "input": "Hi", "reasoning": {"effort": "none"}}, "reasoning.effort"),
    GEMINI: (
        "/v1beta/models/m:generateContent",
        {
            "contents": [{"role": "user", "parts": [{"text": "Hi"}]}],
            "generationConfig": {"thinkingConfig": {"thinkingBudget": 0}},
        },
        "generationConfig.thinkingConfig",
    ),
    CONVERSE: (
        "/model/m/converse",
        {
            "messages": [{"role": "user", "content": [{"text": "Hi"}]}],
            "additionalModelRequestFields": {"thinking": {"type": "disabled"}},
        },
        "additionalModelRequestFields.thinking",
    ),
}


def turned_off(caller: str, dialect: str, model: str, host: str | None = None) -> tuple[dict[str, Any], bool]:
    """The provider's request, and whether the setting is named as dropped."""
    path, body, name = OFF[caller]
    provider = Provider(dialect, model, row(host).profile) if host else Provider(dialect, model)
    raw, dropped = provider_request(caller, body, path, provider)
    return read_body(raw), any(each.startswith(name) for each in dropped)


@pytest.mark.parametrize("caller", sorted(OFF))
@pytest.mark.parametrize(
    ("host", "model"),
    [("moonshot", "kimi-k2.6"), ("zai", "glm-4.7"), ("deepseek", "deepseek-v4-pro"), ("deepseek", "deepseek-chat")],
)
def test_a_host_with_a_switch_is_told(caller: str, host: str, model: str) -> None:
    body, is_dropped = turned_off(caller, CHAT, model, host)

    assert {"type": "disabled"} == body["thinking"]
    assert "reasoning_effort" not in body
    assert not is_dropped


MAY_THINK = [
    (CHAT, "moonshot", "kimi-k2-thinking"),
    (CHAT, "vllm", "Qwen/Qwen3-32B"),
    (CHAT, None, "kimi-k2.6"),
    (CHAT, "openrouter", "moonshotai/kimi-k2.6"),
    (RESPONSES, "groq", "qwen/qwen3-32b"),
]


@pytest.mark.parametrize(
    ("caller", "dialect", "host", "model"),
    [(caller, *each) for caller in sorted(OFF) for each in MAY_THINK if caller != each[0]],
)
def test_a_model_that_may_think_all_the_same_is_named(caller: str, dialect: str, host: str | None, model: str) -> None:
    body, is_dropped = turned_off(caller, dialect, model, host)

    assert {"thinking", "reasoning_effort", "reasoning"}.isdisjoint(body)
    assert is_dropped


@pytest.mark.parametrize("caller", [MESSAGES, GEMINI, CONVERSE])
@pytest.mark.parametrize("dialect", [CHAT, RESPONSES])
def test_off_loses_nothing_at_a_model_that_never_thinks(caller: str, dialect: str) -> None:
    body, is_dropped = turned_off(caller, dialect, "gpt-4o")

    assert {"thinking", "reasoning_effort", "reasoning"}.isdisjoint(body)
    assert not is_dropped
