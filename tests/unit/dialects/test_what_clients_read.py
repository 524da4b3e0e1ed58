"""Shapes that clients take for granted, and that no schema of a format shows. tests/clients has the clients."""

from __future__ import annotations

from translating import CHAT, GEMINI, caller_stream, growing

from edge_extproc.model.content import ToolCall


def test_each_piece_of_a_call_has_its_function() -> None:
    """Also the piece that holds the signature: langchain and llama-index read `function` without a check."""
    events = growing(ToolCall("c", "f", "{}", signature="c2ln"), source=GEMINI, finish="tool_calls")
    deltas = [choice["delta"] for chunk in caller_stream(CHAT, events)[:-1] for choice in chunk["choices"]]
    pieces = [piece for delta in deltas for piece in delta.get("tool_calls", ())]

    assert {"google": {"thought_signature": "c2ln"}} in [piece.get("extra_content") for piece in pieces]
    assert [True] * len(pieces) == ["function" in piece for piece in pieces]
