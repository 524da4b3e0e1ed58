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
from ...errors import Unsupported
from ..carried import LEGAL_ID, MARK, tool_id
from ..claude import is_claude
from ..history import Place, UniqueIds, array, edited, lost_thinking, named
from ..turns import BlockKind, goes_on_without_thinking
from .fields import TITLE


class _Block(msgspec.Struct):
    type: str = ""
    text: str | None = None
    signature: str | None = None
    id: str | None = None
    tool_use_id: str | None = None


class _Message(msgspec.Struct):
    role: str = ""
    content: str | list[_Block] | None = None

    @property
    def is_empty(self) -> bool:
        has_content = self.content.strip() if isinstance(self.content, str) else self.content
        return self.role == "assistant" and not has_content

    @property
    def blocks(self) -> list[_Block]:
        return self.content if isinstance(self.content, list) else []


class _Typed(msgspec.Struct):
    type: str = ""


class _Choice(msgspec.Struct):
    type: str = ""
    name: str | None = None


class _Context(msgspec.Struct):
    edits: list[msgspec.Raw] = []


class _Body(msgspec.Struct):
    messages: list[_Message] = []
    thinking: _Typed | None = None
    context_management: _Context | None = None
    tools: list[_Typed] = []
    tool_choice: _Choice | None = None


_body = msgspec.json.Decoder(_Body)
_members = msgspec.json.Decoder(dict[str, msgspec.Raw])
_rows = msgspec.json.Decoder(list[msgspec.Raw])
_typed = msgspec.json.Decoder(_Typed)

_KINDS: Mapping[str, BlockKind] = MappingProxyType(
    {"thinking": "thinking", "redacted_thinking": "thinking", "tool_use": "call", "tool_result": "result"}
)
_WORTH_A_LOOK = re.compile(
    rb'"(?:thinking|redacted_thinking|tool_use|server_tool_use)"|"(?:text|content)"\s*:\s*"(?:\s|\\[nrt])*"'
    rb'|"content"\s*:\s*\[\s*\]'
    rb'|"type"\s*:\s*"(?:web_search|web_fetch|code_execution)_'
)
# The tools that Anthropic itself executes, and the blocks of their results.
_SERVER_TOOL = re.compile(r"(?:web_search|web_fetch|code_execution)_\d+")
_SERVER_TOOL_VERSION = re.compile(r"_\d+$")
_OF_SERVER_TOOL = re.compile(r"server_tool_use|(?!tool_result)\w+_tool_result")


def mend(raw: bytes, model: str, *, server_tools: bool = True) -> tuple[dict[str, json_splice.Change], tuple[str, ...]]:
    """The changes to the members of `raw`, and the names of what was removed or rewritten. Empty for an unreadable
    body: the host reports the error."""
    if _WORTH_A_LOOK.search(raw) is None:
        return {}, ()
    try:
        body = _body.decode(raw)
    except UNREADABLE:
        return {}, ()
    claude = is_claude(model)
    edits = dict(_edits(body.messages, claude=claude, server_tools=server_tools))
    # A reply without content comes back as an empty message. A Claude accepts only the last one.
    empty = {i for i, message in enumerate(body.messages[:-1]) if message.is_empty} if claude else set()
    edits.update(((i, 0), None) for i in empty)
    if claude:
        edits.update(dict.fromkeys(_last_thinking(body.messages, edits)))
        removed = {place for place, change in edits.items() if change is None}
        off = _rests(body, removed)
    else:
        off = False
    offered = [] if server_tools else [i for i, tool in enumerate(body.tools) if _SERVER_TOOL.fullmatch(tool.type)]
    if not edits and not off and not offered:
        return {}, ()
    members = _members.decode(raw)
    changes: dict[str, json_splice.Change] = {}
    dropped = [
        f"messages[{i}]" if i in empty else f"messages[{i}].content[{j}]{suffix}" for (i, j), suffix in named(edits)
    ]
    if edits:
        changes["messages"] = edited(bytes(members["messages"]), edits)
    if offered:
        changes.update(_without_server_tools(body, members["tools"], offered))
        dropped += [f"tools[{i}]" for i in offered]
    if off:
        changes["thinking"] = None
        dropped.append("thinking")
        if body.context_management is not None:
            context, names = _without_clearing(body.context_management.edits)
            changes.update(context)
            dropped += names
    return changes, tuple(sorted(dropped))


def _edits(
    messages: Sequence[_Message], *, claude: bool, server_tools: bool
) -> Iterator[tuple[Place, json_splice.Change]]:
    ids = UniqueIds(within_turn=True)  # recorded: a Claude takes an id of an earlier turn
    for i, message in enumerate(messages):
        # Not counted: what is removed below.
        remaining = [block for block in message.blocks if server_tools or not _OF_SERVER_TOOL.fullmatch(block.type)]
        is_blank = claude and message.role == "assistant" and all(map(_is_blank_or_thinking, remaining))
        for j, block in enumerate(message.blocks):
            if block.type == "thinking" and message.role == "assistant":
                signature = block.signature or ""
                if claude and (not signature or signature.startswith(MARK)):
                    yield (i, j), None
                elif signature.startswith(MARK):
                    # Other makers' hosts of this format require their thinking, and do not sign it.
                    yield (i, j), {"signature": b'""'}
            elif block.type == "text" and is_blank:
                yield (i, j), None  # recorded: beside other blocks, a Claude takes such a text
            elif block.type == "tool_use" and block.id:
                if (id := _legal(ids.of_call(block.id, i))) != block.id:
                    yield (i, j), {"id": encode(id)}
            elif block.type == "tool_result" and block.tool_use_id:
                if (id := _legal(ids.of_result(block.tool_use_id))) != block.tool_use_id:
                    yield (i, j), {"tool_use_id": encode(id)}
            elif not server_tools and message.role == "assistant" and _OF_SERVER_TOOL.fullmatch(block.type):
                yield (i, j), None


def _is_blank_or_thinking(block: _Block) -> bool:
    is_blank = block.type == "text" and block.text is not None and not block.text.strip()
    return is_blank or _KINDS.get(block.type) == "thinking"


def _legal(id: str) -> str:
    return id if LEGAL_ID.fullmatch(id) else tool_id(id)


def _last_thinking(messages: Sequence[_Message], edits: Mapping[Place, json_splice.Change]) -> Iterator[Place]:
    """The thinking at the end of a message. Claude refuses it (`The final block in an assistant message cannot be
    thinking`); a reply that ended while its model was thinking has it."""
    for i, message in enumerate(messages):
        if message.role != "assistant":
            continue
        for j in reversed(range(len(message.blocks))):
            if edits.get((i, j), {}) is None:
                continue
            if _KINDS.get(message.blocks[j].type) != "thinking":
                break
            yield i, j


def _without_server_tools(
    body: _Body, tools: msgspec.Raw, offered: Sequence[int]
) -> Iterator[tuple[str, json_splice.Change]]:
    """The tools that the host can offer. Raises BadRequest if the caller requires one of the others."""
    choice = body.tool_choice
    rest = [bytes(tool) for i, tool in enumerate(_rows.decode(tools)) if i not in offered]
    names = {_SERVER_TOOL_VERSION.sub("", body.tools[i].type) for i in offered}
    if choice is not None and (choice.name in names if choice.type == "tool" else choice.type == "any" and not rest):
        raise Unsupported("tool_choice", TITLE, f"this host has no tool {sorted(names)[0]!r}")
    yield "tools", array(rest) if rest else None
    if choice is not None and not rest:
        yield "tool_choice", None


def _rests(body: _Body, removed: set[Place]) -> bool:
    """Whether thinking with a budget must be disabled: the caller answers a tool call, and the turn of that call does
    not begin with thinking. Claude refuses this. The turn begins after the last user message without a tool result."""
    if body.thinking is None or body.thinking.type != "enabled":
        return False
    messages = [
        (
            message.role,
            [_KINDS.get(block.type, "media") for j, block in enumerate(message.blocks) if (i, j) not in removed],
        )
        for i, message in enumerate(body.messages)
    ]
    is_left = [
        not message.is_empty and (not message.blocks or bool(kinds))
        for message, (_, kinds) in zip(body.messages, messages, strict=True)
    ]
    return goes_on_without_thinking(_joined(messages, is_left)) or lost_thinking(messages, removed)


def _joined(
    messages: Sequence[tuple[str, list[BlockKind]]], is_left: Sequence[bool]
) -> list[tuple[str, list[BlockKind]]]:
    """The messages that are left. Those of one role that follow each other are one for Claude."""
    joined: list[tuple[str, list[BlockKind]]] = []
    for (role, kinds), has_content in zip(messages, is_left, strict=True):
        if has_content and joined and joined[-1][0] == role:
            joined[-1] = (role, [*joined[-1][1], *kinds])
        elif has_content:
            joined.append((role, kinds))
    return joined


def _without_clearing(edits: Sequence[msgspec.Raw]) -> tuple[dict[str, json_splice.Change], list[str]]:
    """Anthropic's page on context editing: clear_thinking requires thinking to be enabled."""
    clearing = [i for i, edit in enumerate(edits) if _typed.decode(edit).type.startswith("clear_thinking")]
    if not clearing:
        return {}, []
    kept_edits = [bytes(edit) for i, edit in enumerate(edits) if i not in clearing]
    names = [f"context_management.edits[{i}]" for i in clearing]
    return {"context_management": {"edits": array(kept_edits)} if kept_edits else None}, names
