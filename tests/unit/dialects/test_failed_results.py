"""Results of tools that failed."""

from __future__ import annotations

from typing import Any

import pytest
from translating import GEMINI, MESSAGES, cross


@pytest.mark.parametrize("more", [{}, {"parts": [{"inlineData": {"mimeType": "image/png", "data": "aGk="}}]}])
def test_an_error_with_a_picture_is_sent_to_anthropic_without_the_flag(more: dict[str, Any]) -> None:
    """It refuses both together (vellum-ai/vellum-assistant#18387)."""
    result = {"functionResponse": {"name": "f", "response": {"error": "no"}, **more}}
    turns = [
        {"role": "user", "parts": [{"text": "Hi"}]},
        {"role": "model", "parts": [{"functionCall": {"name": "f", "args": {}}}]},
        {"role": "user", "parts": [result]},
    ]
    body, dropped = cross(GEMINI, MESSAGES, contents=turns)
    block = body["messages"][2]["content"][0]

    assert ("is_error" in block) == (not more)
    assert "no" in str(block["content"])
    assert ("aGk=" in str(block["content"])) == bool(more)
    assert [path for path in dropped if path.endswith("response.error")] == list(dropped)
    assert bool(dropped) == bool(more)
