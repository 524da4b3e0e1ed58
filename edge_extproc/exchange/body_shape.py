"""Limits what one request may contain, before its body is parsed.

The fields are those of every supported chat API: `messages`, `input` or `contents`, each with `content` or `parts`;
`tools`, with Gemini's `functionDeclarations` and Bedrock's `toolConfig`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from ..codecs.json_shape import elements, has_more_values, members
from ..errors import TooLarge
from ..model.call import Operation

_MESSAGES = ("messages", "input", "contents")
_PARTS = ("content", "parts")
_TOOL_LISTS = ("functionDeclarations", "function_declarations")


@dataclass(frozen=True, slots=True)
class ShapeBounds:
    messages: int = 10_000
    parts: int = 20_000
    tools: int = 2_000
    values: int = 500_000
    least: int = field(init=False)
    """The smallest limit. A body with so few bytes is within all limits."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "least", min(self.messages, self.parts, self.tools, self.values))


GENEROUS = ShapeBounds()


def check_shape(raw: bytes, operation: Operation, bounds: ShapeBounds) -> None:
    """Raises TooLarge with the name of the exceeded limit."""
    if operation == "passed" or len(raw) <= bounds.least:  # each item has at least one byte
        return
    if has_more_values(raw, bounds.values):
        raise _too_many("JSON values", bounds.values, "json_values")
    if operation not in ("chat", "count_tokens") or _has_few(raw, bounds):
        return
    body = members(raw)
    parts = 0
    for name in _MESSAGES:
        messages = elements(body.get(name, b""))
        if len(messages) > bounds.messages:
            raise _too_many("messages", bounds.messages, "messages")
        for message in messages:
            held = members(message)
            parts += sum(len(elements(held[part])) for part in _PARTS if part in held)
            if parts > bounds.parts:
                raise _too_many("parts of messages", bounds.parts, "parts")
    tools = 0
    for tool in elements(body.get("tools", b"")) + elements(members(body.get("toolConfig", b"")).get("tools", b"")):
        held = members(tool)
        tools += max(1, sum(len(elements(held[name])) for name in _TOOL_LISTS if name in held))
        if tools > bounds.tools:
            raise _too_many("tools", bounds.tools, "tools")


def _has_few(raw: bytes, bounds: ShapeBounds) -> bool:
    """Whether the body can only have few items: each message, part and tool is an object or a quoted text."""
    return max(raw.count(b"{"), raw.count(b",")) < min(bounds.messages, bounds.parts, bounds.tools)


def _too_many(what: str, most: int, key: str) -> TooLarge:
    return TooLarge(f"the body has more than {most} {what}; send fewer (the gateway's bound is limits.{key})")
