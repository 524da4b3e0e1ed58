"""What bounds a call is read in each spelling that a host may read, and the larger value counts."""

from __future__ import annotations

import json
from typing import Any

import pytest
from player import DIALECTS

from edge_extproc.operations.openai_completions import OpenAICompletions


@pytest.mark.parametrize(
    ("fields", "limit", "choices"),
    [
        ({"max_tokens": 5, "max_completion_tokens": 70}, 70, 1),
        ({"max_tokens": 70, "max_completion_tokens": 5}, 70, 1),
        ({"max_tokens": "70", "n": "3"}, 70, 3),
        ({"max_tokens": 70.0, "n": 3.0}, 70, 3),
        ({"max_tokens": True, "n": "many"}, None, 1),
        *(
            ({"max_tokens": 5, "max_completion_tokens": spelled, "n": choices}, 70_000, 3)
            for spelled, choices in (
                ("+70000", "+3"),
                (" 70000 ", " 3"),
                ("70_000", "0_3"),
                ("7e4", "3e0"),
                ("70000.0", "3.0"),
                ("69999.5", 2.5),
                ("0x11170", "0X3"),
                ("７００００", "３"),
                ("0" * 50 + "70000", "03"),
            )
        ),
        ({"max_tokens": 5, "max_completion_tokens": "inf", "n": "1e999"}, 10**30, 10**30),
        ({"max_tokens": 5, "max_completion_tokens": "9" * 400, "n": "-3"}, 10**30, 1),
        ({"max_tokens": "nan", "n": "0x"}, None, 1),
        ({"max_tokens": 5, "n_predict": 70}, 70, 1),
        ({"max_tokens": 5, "n_predict": -1}, None, 1),
        ({"max_tokens": 5, "n_predict": "-1"}, None, 1),
        ({"max_tokens": 5, "n_predict": "-0x1"}, None, 1),
        ({"max_tokens": 5, "max_completion_tokens": "-1"}, None, 1),
        ({"max_tokens": 5, "extra_body": {"max_tokens": "-1.0"}}, None, 1),
        ({"max_tokens": 5, "n_predict": "nan"}, 5, 1),
        ({"max_tokens": 5, "max_output_tokens": "70"}, 70, 1),
        ({"max_completion_tokens": 5, "max_new_tokens": 70}, 70, 1),
        ({"max_tokens": 5, "extra_body": {"max_tokens": 70}}, 70, 1),
        ({"max_tokens": 5, "extra_body": {"n_predict": -1}}, None, 1),
        ({"max_tokens": 5, "extra_body": [70]}, 5, 1),
        ({"max_tokens": "", "n": ""}, None, 1),
        ({"max_tokens": "0x-5", "n": {}}, None, 1),
    ],
)
def test_of_chat(fields: dict[str, Any], limit: int | None, choices: int) -> None:
    raw = json.dumps({"model": "m", "messages": [], **fields}).encode()
    call = DIALECTS["openai_chat"].read_call(raw, "chat", (), "/v1/chat/completions")

    assert (limit, choices) == (call.max_output_tokens, call.choices)


@pytest.mark.parametrize(
    ("fields", "limit"),
    [
        ({"max_tokens": 0, "echo": True}, 0),
        ({"max_tokens": 5}, 5),
        ({"max_tokens": 5, "n_predict": 70}, 70),
        ({"max_tokens": 0, "n_predict": -1}, None),
        ({"max_tokens": 5, "extra_body": {"max_tokens": 70}}, 70),
    ],
)
def test_of_completions(fields: dict[str, Any], limit: int | None) -> None:
    raw = json.dumps({"model": "m", "prompt": "a", **fields}).encode()

    assert limit == OpenAICompletions().read_call(raw, "POST", (), "/v1/completions").max_output_tokens


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
