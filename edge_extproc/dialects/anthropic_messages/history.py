"""Removes or rewrites the parts of a history in Anthropic's format that a Claude refuses, in the caller's own bytes.

The gateway translates other providers' replies to this format, and callers send them back. A Claude refuses thinking
that it did not sign (`Invalid signature in thinking block`) and ids of calls outside its pattern. The raw lane searches
for both without parsing the whole body; unchanged blocks keep their bytes. Values of the gateway have a mark
(carried.py); thinking without any signature is from before there were marks.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType

import msgspec

from ...codecs import json_splice
from ...codecs.json_values import UNREADABLE, encode
from ..carried import LEGAL_ID, MARK, tool_id
from ..claude import is_claude
from ..history import Place, array, edited, lost_thinking, named
from ..turns import BlockKind, goes_on_without_thinking


class _Block(msgspec.Struct):
    type: str = ""
    signature: str | None = None
    id: str | None = None
    tool_use_id: str | None = None


class _Message(msgspec.Struct):
    role: str = ""
    content: str | list[_Block] | None = None

    @property
    def blocks(self) -> list[_Block]:
        return self.content if isinstance(self.content, list) else []


class _Typed(msgspec.Struct):
    type: str = ""


class _Context(msgspec.Struct):
    edits: list[msgspec.Raw] = []


class _Body(msgspec.Struct):
    messages: list[_Message] = []
    thinking: _Typed | None = None
    context_management: _Context | None = None


_body = msgspec.json.Decoder(_Body)
_members = msgspec.json.Decoder(dict[str, msgspec.Raw])
_typed = msgspec.json.Decoder(_Typed)

_KINDS: Mapping[str, BlockKind] = MappingProxyType(
    {"thinking": "thinking", "redacted_thinking": "thinking", "tool_use": "call", "tool_result": "result"}
)
_WORTH_A_LOOK = re.compile(rb'"(?:thinking|redacted_thinking|tool_use)"')


def mend(raw: bytes, model: str) -> tuple[dict[str, json_splice.Change], tuple[str, ...]]:
    """The changes to the members of `raw`, and the names of what was removed or rewritten. Empty for an unreadable
    body: the host reports the error."""
    if _WORTH_A_LOOK.search(raw) is None:
        return {}, ()
    try:
        body = _body.decode(raw)
    except UNREADABLE:
        return {}, ()
    claude = is_claude(model)
    edits = dict(_edits(body.messages, claude=claude))
    if claude:
        gone = {place for place, change in edits.items() if change is None}
        off = _rests(body, gone)
    else:
        off = False
    if not edits and not off:
        return {}, ()
    members = _members.decode(raw)
    changes: dict[str, json_splice.Change] = {}
    dropped = [f"messages[{i}].content[{j}]{suffix}" for (i, j), suffix in named(edits)]
    if edits:
        changes["messages"] = edited(bytes(members["messages"]), edits)
    if off:
        changes["thinking"] = None
        dropped.append("thinking")
        if body.context_management is not None:
            context, names = _without_clearing(body.context_management.edits)
            changes.update(context)
            dropped += names
    return changes, tuple(sorted(dropped))


def _edits(messages: Sequence[_Message], *, claude: bool) -> Iterator[tuple[Place, json_splice.Change]]:
    for i, message in enumerate(messages):
        for j, block in enumerate(message.blocks):
            if block.type == "thinking" and message.role == "assistant":
                signature = block.signature or ""
                if claude and (not signature or signature.startswith(MARK)):
                    yield (i, j), None
                elif signature.startswith(MARK):
                    # Other makers' hosts of this format require their thinking, and do not sign it.
                    yield (i, j), {"signature": b'""'}
            elif block.type == "tool_use" and block.id and not LEGAL_ID.fullmatch(block.id):
                yield (i, j), {"id": encode(tool_id(block.id))}
            elif block.type == "tool_result" and block.tool_use_id and not LEGAL_ID.fullmatch(block.tool_use_id):
                yield (i, j), {"tool_use_id": encode(tool_id(block.tool_use_id))}


def _rests(body: _Body, gone: set[Place]) -> bool:
    """Whether thinking with a budget must be disabled: the caller answers a tool call, and the turn of that call does
    not begin with thinking. Claude refuses this. The turn begins after the last user message without a tool result."""
    if body.thinking is None or body.thinking.type != "enabled":
        return False
    messages = [
        (
            message.role,
            [_KINDS.get(block.type, "media") for j, block in enumerate(message.blocks) if (i, j) not in gone],
        )
        for i, message in enumerate(body.messages)
    ]
    return goes_on_without_thinking(messages) or lost_thinking(messages, gone)


def _without_clearing(edits: Sequence[msgspec.Raw]) -> tuple[dict[str, json_splice.Change], list[str]]:
    """Anthropic's page on context editing: clear_thinking requires thinking to be enabled."""
    gone = [i for i, edit in enumerate(edits) if _typed.decode(edit).type.startswith("clear_thinking")]
    if not gone:
        return {}, []
    others = [bytes(edit) for i, edit in enumerate(edits) if i not in gone]
    names = [f"context_management.edits[{i}]" for i in gone]
    return {"context_management": {"edits": array(others)} if others else None}, names
