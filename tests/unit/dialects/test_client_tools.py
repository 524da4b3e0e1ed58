"""Tools that Anthropic defines and the caller executes, for other providers."""

from __future__ import annotations

from typing import Any

import pytest
import request_validators
from crossings import CHAT, GEMINI, MESSAGES, RESPONSES
from translating import HI, cross, refused

BASH = {"type": "bash_20250124", "name": "bash"}
EDITOR = {"type": "text_editor_20250728", "name": "str_replace_based_edit_tool"}
OLD_EDITOR = {"type": "text_editor_20250124", "name": "str_replace_editor"}
MEMORY = {"type": "memory_20250818", "name": "memory"}


@pytest.mark.parametrize(
    ("tool", "commands"),
    [
        (EDITOR, {"view", "create", "str_replace", "insert"}),
        (OLD_EDITOR, {"view", "create", "str_replace", "insert", "undo_edit"}),
        ({**OLD_EDITOR, "type": "text_editor_20241022"}, {"view", "create", "str_replace", "insert", "undo_edit"}),
        (MEMORY, {"view", "create", "str_replace", "insert", "delete", "rename"}),
    ],
)
def test_a_tool_is_a_function_with_its_commands(tool: dict[str, Any], commands: set[str]) -> None:
    body, dropped = cross(MESSAGES, CHAT, messages=[HI], tools=[tool])
    (function,) = (each["function"] for each in body["tools"])

    assert function["name"] == tool["name"]
    assert set(function["parameters"]["properties"]["command"]["enum"]) == commands
    assert dropped == ()


def test_bash_is_a_function() -> None:
    body, dropped = cross(MESSAGES, CHAT, messages=[HI], tools=[BASH], tool_choice={"type": "tool", "name": "bash"})

    assert set(body["tools"][0]["function"]["parameters"]["properties"]) == {"command", "restart"}
    assert body["tool_choice"] == {"type": "function", "function": {"name": "bash"}}
    assert dropped == ()


def test_fields_that_the_function_does_not_have_are_named() -> None:
    tool = {**EDITOR, "max_characters": 9, "cache_control": {"type": "ephemeral"}}
    _, dropped = cross(MESSAGES, CHAT, messages=[HI], tools=[tool])

    assert dropped == ("tools[0].cache_control", "tools[0].max_characters")


@pytest.mark.parametrize(
    ("target", "validate"),
    [
        (CHAT, request_validators.openai_chat),
        (RESPONSES, request_validators.openai_responses),
        (GEMINI, request_validators.gemini_3),
    ],
)
def test_every_provider_accepts_the_functions(target: str, validate: Any) -> None:
    body, _ = cross(MESSAGES, target, messages=[HI], tools=[BASH, EDITOR, MEMORY])

    assert validate(body) == []


def test_a_tool_with_a_screen_is_still_none() -> None:
    computer = {"type": "computer_20250124", "name": "computer", "display_width_px": 1, "display_height_px": 1}
    _, dropped = cross(MESSAGES, CHAT, messages=[HI], tools=[computer])

    assert dropped == ("tools[0]",)
    assert "computer" in refused(
        MESSAGES, CHAT, messages=[HI], tools=[computer], tool_choice={"type": "tool", "name": "computer"}
    )


def test_a_tool_without_a_name_is_still_none() -> None:
    _, dropped = cross(MESSAGES, CHAT, messages=[HI], tools=[{"type": "bash_20250124"}])

    assert dropped == ("tools[0]",)
