"""Changes the caller's history on the raw lane, if the provider would refuse it."""

from __future__ import annotations

import re

import msgspec

from ...codecs import json_splice
from ...codecs.json_values import UNREADABLE
from ..history import Place, edited
from .content import MARKED


class _Signed(msgspec.Struct):
    camel: str | None = msgspec.field(name="thoughtSignature", default=None)
    snake: str | None = msgspec.field(name="thought_signature", default=None)


class _Content(msgspec.Struct):
    role: str = ""
    parts: list[_Signed] = []


class _Contents(msgspec.Struct):
    contents: list[_Content] = []


_contents = msgspec.json.Decoder(_Contents)
_WORTH_A_LOOK = re.compile(rb'"parts"\s*:\s*\[\s*\]|\{\s*"role"\s*:\s*"model"\s*\}|' + MARKED.encode())


def mended_history(raw: bytes) -> tuple[dict[str, json_splice.Change], tuple[str, ...]]:
    """The contents without the thinking that Claude signed and without empty replies, which Google refuses
    (`Corrupted thought signature`, `must include at least one parts field`), and the names of what was removed. An
    unreadable body is returned unchanged: its host reports the error."""
    if _WORTH_A_LOOK.search(raw) is None:
        return {}, ()
    try:
        contents = _contents.decode(raw).contents
    except UNREADABLE:
        return {}, ()
    edits: dict[Place, json_splice.Change] = {
        (i, j): None
        for i, content in enumerate(contents)
        for j, part in enumerate(content.parts)
        if (part.camel or part.snake or "").startswith(MARKED)
    }
    empty = {i for i, content in enumerate(contents) if content.role == "model" and not content.parts}
    edits.update(((i, 0), None) for i in empty)
    if not edits:
        return {}, ()
    changed = edited(bytes(json_splice.members_of(raw)["contents"]), edits, "parts")
    names = (f"contents[{i}]" if i in empty else f"contents[{i}].parts[{j}]" for i, j in edits)
    return {"contents": changed}, tuple(sorted(names))
