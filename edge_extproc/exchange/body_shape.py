"""Limits what one request may contain, before its body is parsed.

Every body is searched for the messages, parts and tools of all dialects, by their `wire_names`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

from ..codecs.json_shape import elements, has_few_values, has_more_values, members, structure
from ..errors import TooLarge
from ..model.call import Operation
from ..model.wire_names import WireNames

# Bytes. A body of this length has either long texts or many values.
_LONG = 256 * 1024


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


def check_shape(raw: bytes, operation: Operation, bounds: ShapeBounds, names: WireNames) -> None:
    """`names`: those of all dialects. Raises TooLarge, which names the bound."""
    if operation == "passed" or len(raw) <= bounds.least:  # nothing of it is built; each thing takes a byte at least
        return
    if len(raw) >= _LONG and has_few_values(raw, bounds.least):
        return  # most of it is text
    possible = structure(raw)  # each value follows one of these
    if len(possible) > bounds.values and has_more_values(raw, bounds.values):
        raise _too_many("JSON values", bounds.values, "json_values")
    # The elements of all lists: the first one follows a bracket, each other one a comma.
    most = possible.count(b",") + possible.count(b"[")
    if operation not in ("chat", "count_tokens") or most <= bounds.least:
        return
    body = members(raw)
    if most > bounds.messages or most > bounds.parts:
        _check_messages(body, bounds, names)
    tools = 0
    for holder in (body, *(members(body[name]) for name in names.tool_objects & body.keys())):
        for each in chain.from_iterable(elements(holder[key]) for key in names.tools & holder.keys()):
            tool = members(each)
            tools += max(1, sum(len(elements(tool[name])) for name in names.functions if name in tool))
            if tools > bounds.tools:
                raise _too_many("tools", bounds.tools, "tools")


def _check_messages(body: Mapping[str, Any], bounds: ShapeBounds, names: WireNames) -> None:
    parts = 0
    for key in names.messages & body.keys():
        messages = elements(body[key])
        if len(messages) > bounds.messages:
            raise _too_many("messages", bounds.messages, "messages")
        for each in messages:
            if b"[" not in bytes(each):  # no list, so no parts
                continue
            message = members(each)
            parts += sum(len(elements(message[name])) for name in names.parts if name in message)
            if parts > bounds.parts:
                raise _too_many("parts of messages", bounds.parts, "parts")


def _too_many(elements: str, most: int, key: str) -> TooLarge:
    return TooLarge(f"the body has more than {most} {elements}; send fewer (the gateway's bound is limits.{key})")
