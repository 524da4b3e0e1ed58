"""An error keeps its provider's own words where its caller knows them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from edge_extproc.registry import load

CHAT, MESSAGES = load("dialects", "openai_chat"), load("dialects", "anthropic_messages")


def again(source: Any, target: Any, status: int, error: Any) -> Any:
    body = json.dumps({"type": "error", "error": error}).encode()
    return json.loads(target.write_error(source.read_error(status, (), body))[2])["error"]


def test_anthropics_own_type_comes_back_on_its_own_dialect() -> None:
    error = {"type": "invalid_request_error", "message": "Your credit balance is too low to access the Anthropic API."}

    assert error == again(MESSAGES, MESSAGES, 400, error)


def test_a_type_that_does_not_go_with_the_status_is_not_kept() -> None:
    error = {"type": "invalid_request_error", "message": "Incorrect API key provided"}

    assert "authentication_error" == again(CHAT, MESSAGES, 401, error)["type"]


@pytest.mark.parametrize(
    "error",
    [
        {"message": "Insufficient Balance", "type": "unknown_error", "param": None, "code": "invalid_request_error"},
        {"message": "Insufficient credits", "code": 402},
    ],
)
def test_a_402_is_told_as_a_used_up_quota(error: Any) -> None:
    found = again(CHAT, CHAT, 402, error)

    assert ("insufficient_quota", "insufficient_quota") == (found["type"], found["code"])
    assert "billing_error" == again(CHAT, MESSAGES, 402, error)["type"]
