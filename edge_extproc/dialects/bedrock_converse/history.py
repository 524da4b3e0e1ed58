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
from ..history import Place, edited, lost_thinking, named
from ..turns import BlockKind, goes_on_without_thinking


class _Text(msgspec.Struct):
    signature: str | None = None


class _Reasoning(msgspec.Struct, rename="camel"):
    reasoning_text: _Text | None = None


class _Use(msgspec.Struct, rename="camel"):
    tool_use_id: str | None = None


class _Block(msgspec.Struct, rename="camel"):
    reasoning_content: _Reasoning | None = None
    tool_use: _Use | None = None
    tool_result: _Use | None = None

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


class _Body(msgspec.Struct, rename="camel"):
    messages: list[_Message] = []
    additional_model_request_fields: _More | None = None


_body = msgspec.json.Decoder(_Body)
_members = msgspec.json.Decoder(dict[str, msgspec.Raw])
_WORTH_A_LOOK = re.compile(rb'"(?:reasoningText|toolUse)"')
_OFF: Mapping[str, json_splice.Change] = MappingProxyType({"thinking": None})


def mend(raw: bytes, *, claude: bool) -> tuple[bytes, tuple[str, ...]]:
    """The body for the model, and the names of what was removed or rewritten. An unreadable body is returned unchanged:
    its host reports the error."""
    if _WORTH_A_LOOK.search(raw) is None:
        return raw, ()
    try:
        body = _body.decode(raw)
    except UNREADABLE:
        return raw, ()
    edits = dict(_edits(body.messages, claude=claude))
    off = claude and _rests(body, {place for place, change in edits.items() if change is None})
    if not edits and not off:
        return raw, ()
    changes: dict[str, json_splice.Change] = {}
    dropped = [f"messages[{i}].content[{j}]{suffix}" for (i, j), suffix in named(edits)]
    if edits:
        changes["messages"] = edited(bytes(_members.decode(raw)["messages"]), edits)
    if off:
        changes["additionalModelRequestFields"] = _OFF
        dropped.append("additionalModelRequestFields.thinking")
    return json_splice.splice(raw, changes), tuple(sorted(dropped))


def _edits(messages: Sequence[_Message], *, claude: bool) -> Iterator[tuple[Place, json_splice.Change]]:
    for i, message in enumerate(messages):
        for j, block in enumerate(message.content):
            thought = None if block.reasoning_content is None else block.reasoning_content.reasoning_text
            if thought is not None:
                signature = thought.signature or ""
                if claude and (not signature or signature.startswith(MARK)):
                    yield (i, j), None
                elif signature.startswith(MARK):
                    yield (i, j), {"reasoningContent": {"reasoningText": {"signature": None}}}
            for key, use in (("toolUse", block.tool_use), ("toolResult", block.tool_result)):
                if use is not None and use.tool_use_id and not LEGAL_ID.fullmatch(use.tool_use_id):
                    yield (i, j), {key: {"toolUseId": encode(tool_id(use.tool_use_id))}}


def _rests(body: _Body, gone: set[Place]) -> bool:
    more = body.additional_model_request_fields
    if more is None or more.thinking is None or more.thinking.type != "enabled":
        return False
    messages = [
        (message.role, [block.kind for j, block in enumerate(message.content) if (i, j) not in gone])
        for i, message in enumerate(body.messages)
    ]
    return goes_on_without_thinking(messages) or lost_thinking(messages, gone)
