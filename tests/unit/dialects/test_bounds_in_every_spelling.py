"""What bounds a call is read in each spelling that a host may read, and the larger value counts."""

from __future__ import annotations

import json
from typing import Any

import pytest
from player import DIALECTS


@pytest.mark.parametrize(
    ("fields", "limit", "choices"),
    [
        ({"max_tokens": 5, "max_completion_tokens": 70}, 70, 1),
        ({"max_tokens": 70, "max_completion_tokens": 5}, 70, 1),
        ({"max_tokens": "70", "n": "3"}, 70, 3),
        ({"max_tokens": 70.0, "n": 3.0}, 70, 3),
        ({"max_tokens": True, "n": "many"}, None, 1),
    ],
)
def test_of_chat(fields: dict[str, Any], limit: int | None, choices: int) -> None:
    raw = json.dumps({"model": "m", "messages": [], **fields}).encode()
    call = DIALECTS["openai_chat"].read_call(raw, "chat", (), "/v1/chat/completions")

    assert (limit, choices) == (call.max_output_tokens, call.choices)


@pytest.mark.parametrize(
    "fields",
    [
        {"generationConfig": {"maxOutputTokens": 5, "max_output_tokens": 70, "candidateCount": 3}},
        {
            "generationConfig": {"maxOutputTokens": 70},
            "generation_config": {"max_output_tokens": 5, "candidateCount": 3},
        },
        {"generationConfig": {"candidate_count": 3}, "generation_config": {"max_output_tokens": 70}},
    ],
)
def test_of_gemini(fields: dict[str, Any]) -> None:
    raw = json.dumps({"contents": [], **fields}).encode()
    call = DIALECTS["gemini_generate"].read_call(raw, "chat", (), "/v1beta/models/m:generateContent")

    assert (70, 3) == (call.max_output_tokens, call.choices)
