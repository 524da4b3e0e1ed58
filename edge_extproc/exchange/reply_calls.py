"""The tool calls of a translated reply, for the caller.

A tool that had another name in the translated request has its own name again. A call gets an id that is new in the
caller's conversation: some hosts number the calls of each reply anew, and clients find the result of a call by its id.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property

from ..codecs.json_values import encode
from ..dialects.carried import numbered_id, tool_id
from ..dialects.tool_names import has_odd_name, own_names
from ..errors import BadRequest
from ..model.content import Part, ToolCall
from ..model.reply import PartStarted, Reply
from .parsed_call import ParsedCall

# The lengths of an id in the formats that limit it.
_LENGTHS = (40, 64)


class ReplyCalls:
    """The calls of one reply."""

    def __init__(self, parsed: ParsedCall) -> None:
        self._parsed = parsed
        self._raw = parsed.call.raw
        self._ids: set[str] = set()

    @cached_property
    def _names(self) -> Mapping[str, str]:
        """Read at the first call: most replies have none."""
        return _own_names(self._parsed)

    def started(self, event: PartStarted) -> PartStarted:
        """The start of a call in a stream."""
        id, name = self._new_id(event.id), self._names.get(event.name or "", event.name)
        return event if id == event.id and name == event.name else replace(event, id=id, name=name)

    def reply(self, reply: Reply) -> Reply:
        """A complete reply."""
        if not [part for choice in reply.choices for part in choice.parts if isinstance(part, ToolCall)]:
            return reply
        choices = (replace(choice, parts=tuple(map(self._part, choice.parts))) for choice in reply.choices)
        return replace(reply, choices=tuple(choices))

    def _part(self, part: Part) -> Part:
        if not isinstance(part, ToolCall):
            return part
        return replace(part, id=self._new_id(part.id) or "", name=self._names.get(part.name, part.name))

    def _new_id(self, id: str | None) -> str | None:
        if not id:
            return id
        new, number = id, 1
        while new in self._ids or self._is_used(new):
            number += 1
            new = numbered_id(id, number)
        self._ids.add(new)
        return new

    def _is_used(self, id: str) -> bool:
        return any(encode(each) in self._raw for each in {id, *(tool_id(id, length) for length in _LENGTHS)})


def _own_names(parsed: ParsedCall) -> Mapping[str, str]:
    if not has_odd_name(parsed.call):
        return {}
    try:
        return own_names(parsed.chat())
    except BadRequest:  # the request of the attempt was made, so this cannot happen; a reply must not fail for it
        return {}
