"""Fields of Anthropic's format with the value that they have without being sent."""

from __future__ import annotations

from typing import Any

import pytest
from translating import CHAT, EVERY, MESSAGES, cross, refused

TOOL = {"name": "f", "input_schema": {"type": "object", "properties": {}}}
OTHERS = [target for target in EVERY if target != MESSAGES]


@pytest.mark.parametrize("target", OTHERS)
@pytest.mark.parametrize("empty", [{"mcp_servers": []}, {"mcp_servers": None}, {"container": None}])
def test_an_empty_field_refuses_no_call(target: str, empty: dict[str, Any]) -> None:
    body, _ = cross(MESSAGES, target, **empty)

    assert empty.keys().isdisjoint(body)


def test_a_server_refuses_the_call() -> None:
    servers = [{"type": "url", "url": "https://mcp.example/", "name": "a"}]

    assert "mcp_servers" in refused(MESSAGES, CHAT, mcp_servers=servers)


@pytest.mark.parametrize("target", OTHERS)
def test_the_type_of_a_callers_tool_is_not_named(target: str) -> None:
    body, dropped = cross(MESSAGES, target, tools=[{"type": "custom", **TOOL}])

    assert body["tools"]
    assert () == dropped
