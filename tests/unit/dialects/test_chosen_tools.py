"""The tool that a caller of OpenAI Responses chooses, at providers of other formats."""

from __future__ import annotations

from translating import MESSAGES, RESPONSES, cross, refused


def test_a_choice_may_leave_out_the_namespace_of_a_tool() -> None:
    read_file = {"type": "function", "name": "read", "parameters": {"type": "object", "properties": {}}}
    patch = {"type": "custom", "name": "patch"}
    files = {"type": "namespace", "name": "mcp__fs__", "tools": [read_file, patch]}
    mail = {"type": "namespace", "name": "mail", "tools": [read_file]}
    chosen = {
        ("function", "read"): "mcp__fs__read",
        ("function", "mcp__fs__read"): "mcp__fs__read",
        ("custom", "patch"): "mcp__fs__patch",
        ("function", "unknown"): "unknown",
    }
    for (kind, name), expected in chosen.items():
        body, _ = cross(RESPONSES, MESSAGES, tools=[files], tool_choice={"type": kind, "name": name})
        assert {"type": "tool", "name": expected} == {k: body["tool_choice"][k] for k in ("type", "name")}
    own, _ = cross(
        RESPONSES, MESSAGES, tools=[files, mail, read_file], tool_choice={"type": "function", "name": "read"}
    )
    assert "read" == own["tool_choice"]["name"]
    twice = refused(RESPONSES, MESSAGES, tools=[files, mail], tool_choice={"type": "function", "name": "read"})
    assert "several namespaces" in twice
    named, _ = cross(
        RESPONSES,
        MESSAGES,
        tools=[files, mail],
        tool_choice={"type": "function", "name": "read", "namespace": "mail"},
    )
    assert "mail__read" == named["tool_choice"]["name"]
