"""Changes the caller's history on the raw lane, if the chosen model would refuse it.

The reasons are those of `anthropic_messages/history.py`: a Claude refuses thinking that it did not sign, and Bedrock's
service model has a pattern for the ids of calls.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType

import msgspec

from ...codecs import json_splice
from ...codecs.json_values import UNREADABLE, encode
from ..carried import LEGAL_ID, MARK, tool_id
from ..history import Place, UniqueIds, array, edited, lost_thinking, named
from ..turns import BlockKind, goes_on_without_thinking


class _Text(msgspec.Struct):
    signature: str | None = None


class _Reasoning(msgspec.Struct, rename="camel"):
    reasoning_text: _Text | None = None
    redacted_content: str | None = None


class _Use(msgspec.Struct, rename="camel"):
    tool_use_id: str | None = None


class _Block(msgspec.Struct, rename="camel"):
    text: str | None = None
    image: msgspec.Raw = msgspec.Raw(b"null")
    reasoning_content: _Reasoning | None = None
    tool_use: _Use | None = None
    tool_result: _Use | None = None
    cache_point: msgspec.Raw = msgspec.Raw(b"null")

    @property
    def kind(self) -> BlockKind:
        if self.reasoning_content is not None:
            return "thinking"
        return "call" if self.tool_use is not None else "result" if self.tool_result is not None else "media"


class _Message(msgspec.Struct):
    role: str = ""
    content: list[_Block] = []


class _Typed(msgspec.Struct):
    type: str = ""


class _More(msgspec.Struct):
    thinking: _Typed | None = None


class _Marked(msgspec.Struct, rename="camel"):
    cache_point: msgspec.Raw = msgspec.Raw(b"null")


class _Tools(msgspec.Struct):
    tools: list[_Marked] | None = None


class _Body(msgspec.Struct, rename="camel"):
    messages: list[_Message] = []
    system: list[_Marked] | None = None
    tool_config: _Tools | None = None
    additional_model_request_fields: _More | None = None


_body = msgspec.json.Decoder(_Body)
_members = msgspec.json.Decoder(dict[str, msgspec.Raw])
_rows = msgspec.json.Decoder(list[msgspec.Raw])
_WORTH_A_LOOK = re.compile(
    rb'"(?:reasoningText|redactedContent|toolUse|image|cachePoint)"|"text"\s*:\s*"(?:\s|\\[nrt])*"'
    rb'|"content"\s*:\s*\[\s*\]'
)
_PICTURE = b'{"text":"[The picture that you made is not shown.]"}'
_NOTHING = b'{"text":"[no content]"}'
_OFF: Mapping[str, json_splice.Change] = MappingProxyType({"thinking": None})


def mend(
    raw: bytes, *, claude: bool, takes_reasoning: bool = True, refuses_marks: bool = False
) -> tuple[bytes, tuple[str, ...]]:
    """The body for the model, and the names of what was removed or rewritten. An unreadable body is returned unchanged:
    its host reports the error. `refuses_marks`: the model refuses a cachePoint."""
    if _WORTH_A_LOOK.search(raw) is None:
        return raw, ()
    try:
        body = _body.decode(raw)
    except UNREADABLE:
        return raw, ()
    edits = dict(_edits(body.messages, claude=claude, takes_reasoning=takes_reasoning))
    if refuses_marks:
        edits.update(dict.fromkeys(_marks(body.messages)))
    if claude:
        edits.update(dict.fromkeys(_last_thinking(body.messages, edits)))
    names = [f"messages[{i}].content[{j}]{suffix}" for (i, j), suffix in named(edits)]
    emptied = dict(_emptied(body.messages, edits))
    names += [f"messages[{i}]" for i, change in emptied.items() if change is None and not body.messages[i].content]
    edits.update({(i, 0): change for i, change in emptied.items()})
    off = claude and _rests(body, {place for place, change in edits.items() if change is None})
    changes, omitted = _unmarked(raw, body) if refuses_marks else ({}, [])
    if not edits and not off and not changes:
        return raw, ()
    dropped = [*names, *omitted]
    if edits:
        changes["messages"] = edited(bytes(_members.decode(raw)["messages"]), edits)
    if off:
        changes["additionalModelRequestFields"] = _OFF
        dropped.append("additionalModelRequestFields.thinking")
    return json_splice.splice(raw, changes), tuple(sorted(dropped))


def _marks(messages: Sequence[_Message]) -> Iterator[Place]:
    for i, message in enumerate(messages):
        yield from ((i, j) for j, block in enumerate(message.content) if _is_mark(block))


def _is_mark(block: _Block | _Marked) -> bool:
    return bytes(block.cache_point) != b"null"


def _unmarked(raw: bytes, body: _Body) -> tuple[dict[str, json_splice.Change], list[str]]:
    """The system prompt and the tools without each cachePoint, and the names of these."""
    changes: dict[str, json_splice.Change] = {}
    system = body.system or []
    tools = (body.tool_config.tools or []) if body.tool_config is not None else []
    if any(map(_is_mark, system)):
        changes["system"] = _remaining_rows(_members.decode(raw)["system"], system)
    if any(map(_is_mark, tools)):
        config = _members.decode(_members.decode(raw)["toolConfig"])
        changes["toolConfig"] = {"tools": _remaining_rows(config["tools"], tools)}
    omitted = [f"system[{i}]" for i, block in enumerate(system) if _is_mark(block)]
    return changes, omitted + [f"toolConfig.tools[{i}]" for i, tool in enumerate(tools) if _is_mark(tool)]


def _remaining_rows(rows: msgspec.Raw, blocks: Sequence[_Marked]) -> bytes:
    return array([bytes(row) for row, block in zip(_rows.decode(rows), blocks, strict=True) if not _is_mark(block)])


def _edits(
    messages: Sequence[_Message], *, claude: bool, takes_reasoning: bool
) -> Iterator[tuple[Place, json_splice.Change]]:
    ids = UniqueIds(within_turn=True)
    for i, message in enumerate(messages):
        for j, block in enumerate(message.content):
            reasoning = block.reasoning_content
            if reasoning is not None:
                yield from _reasoning_edit((i, j), reasoning, claude=claude, takes_reasoning=takes_reasoning)
            elif message.role == "assistant" and bytes(block.image) != b"null":
                yield (i, j), _PICTURE
            elif message.role == "assistant" and block.text is not None and not block.text.strip():
                yield (i, j), None
            for key, use in (("toolUse", block.tool_use), ("toolResult", block.tool_result)):
                if use is None or not use.tool_use_id:
                    continue
                id = ids.of_call(use.tool_use_id, i) if key == "toolUse" else ids.of_result(use.tool_use_id)
                id = id if LEGAL_ID.fullmatch(id) else tool_id(id)
                if id != use.tool_use_id:
                    yield (i, j), {key: {"toolUseId": encode(id)}}


def _reasoning_edit(
    place: Place, reasoning: _Reasoning, *, claude: bool, takes_reasoning: bool
) -> Iterator[tuple[Place, json_splice.Change]]:
    """A Claude takes only what it signed; other models take only their own reasoning, which nobody signs, or none."""
    thought = reasoning.reasoning_text
    signature = (thought.signature or "") if thought is not None else reasoning.redacted_content or ""
    is_claudes = bool(signature) and not signature.startswith(MARK)
    if is_claudes if claude else takes_reasoning and not signature:
        return
    yield place, None


def _last_thinking(messages: Sequence[_Message], edits: Mapping[Place, json_splice.Change]) -> Iterator[Place]:
    """The thinking at the end of a message, which a Claude refuses."""
    for i, message in enumerate(messages):
        if message.role != "assistant":
            continue
        for j in reversed(range(len(message.content))):
            if edits.get((i, j), {}) is None:
                continue
            if message.content[j].kind != "thinking":
                break
            yield i, j


def _emptied(
    messages: Sequence[_Message], edits: Mapping[Place, json_splice.Change]
) -> Iterator[tuple[int, json_splice.Change]]:
    """Each message without content, or of which nothing is left, and the change of its first block. The roles must
    alternate, so a text replaces an empty message between two of the user. Others of the assistant are removed: the
    model would continue such a text, and a conversation begins with the user."""
    is_emptied = [
        all(edits.get((i, j), {}) is None for j in range(len(message.content)))
        and bool(message.content or message.role == "assistant")
        for i, message in enumerate(messages)
    ]
    if not any(is_emptied):
        return
    role_after, after = "", [""] * len(messages)
    for i in reversed(range(len(messages))):
        after[i] = role_after
        role_after = role_after if is_emptied[i] else messages[i].role
    before = ""
    for i, message in enumerate(messages):
        if is_emptied[i]:
            is_needed = message.role != "assistant" or before == after[i] == "user"
            yield i, _NOTHING if is_needed else None
            if not is_needed:
                continue
        before = message.role


def _rests(body: _Body, removed: set[Place]) -> bool:
    more = body.additional_model_request_fields
    if more is None or more.thinking is None or more.thinking.type != "enabled":
        return False
    messages = [
        (message.role, [block.kind for j, block in enumerate(message.content) if (i, j) not in removed])
        for i, message in enumerate(body.messages)
    ]
    return goes_on_without_thinking(messages) or lost_thinking(messages, removed)
