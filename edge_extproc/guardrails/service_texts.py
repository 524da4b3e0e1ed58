"""The texts of a check in the terms of services: their roles as messages, and parts of a limited length."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from .base import TextKind

ROLES: Mapping[TextKind, str] = {
    "system": "system",
    "assistant": "assistant",
    "thinking": "assistant",
    "tool_definition": "system",
    "tool_call": "assistant",
    "tool_result": "tool",
}
"""The roles of the kinds of text. Others are the user's."""


def portions(text: str, longest: int) -> list[str]:
    """The text in parts of at most `longest` characters, which give the text again when they are joined. A part ends at
    a line break or else at a space, if there is one in its second half."""
    parts: list[str] = []
    start = 0
    while len(text) - start > longest:
        middle, end = start + longest // 2, start + longest
        cut = text.rfind("\n", middle, end) + 1 or text.rfind(" ", middle, end) + 1 or end
        parts.append(text[start:cut])
        start = cut
    parts.append(text[start:])
    return parts


def joined(texts: Iterable[str], longest: int) -> list[str]:
    """All texts, joined by line breaks to as few as possible of at most `longest` characters. Empty texts are left
    out."""
    batches: list[str] = []
    current: list[str] = []
    length = 0
    for text in texts:
        for part in portions(text, longest):
            if not part.strip():
                continue
            if current and length + 1 + len(part) > longest:
                batches.append("\n".join(current))
                current, length = [], 0
            length += len(part) + bool(current)
            current.append(part)
    if current:
        batches.append("\n".join(current))
    return batches
