"""Changes the caller's history on the raw lane, if the provider would refuse it."""

from __future__ import annotations

import msgspec

from ...codecs import json_splice
from ...codecs.json_values import UNREADABLE
from ..history import Place, edited
from .content import MARKED


class _Signed(msgspec.Struct):
    camel: str | None = msgspec.field(name="thoughtSignature", default=None)
    snake: str | None = msgspec.field(name="thought_signature", default=None)


class _Content(msgspec.Struct):
    parts: list[_Signed] = []


class _Contents(msgspec.Struct):
    contents: list[_Content] = []


_contents = msgspec.json.Decoder(_Contents)


def mended_history(raw: bytes) -> tuple[dict[str, json_splice.Change], tuple[str, ...]]:
    """The contents without the thinking that Claude signed, which Google refuses (`Corrupted thought signature`), and
    the names of what was removed. An unreadable body is returned unchanged: its host reports the error."""
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
    if not edits:
        return {}, ()
    changed = edited(bytes(json_splice.members_of(raw)["contents"]), edits, "parts")
    return {"contents": changed}, tuple(sorted(f"contents[{i}].parts[{j}]" for i, j in edits))
