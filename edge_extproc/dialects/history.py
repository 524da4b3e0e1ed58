"""Changes blocks of a history in the caller's own bytes, for the raw lanes of several formats.

A history is a list of messages, each with a list of blocks under `content`. Unchanged messages and blocks keep their
bytes. The `history` module of each format decides what must change.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TypeAlias

import msgspec

from ..codecs import json_splice

Place: TypeAlias = tuple[int, int]
"""The index of a message, and that of a block in it."""

_members = msgspec.json.Decoder(dict[str, msgspec.Raw])
_rows = msgspec.json.Decoder(list[msgspec.Raw])


def edited(messages: bytes, edits: Mapping[Place, json_splice.Change], content: str = "content") -> bytes:
    """The messages with changed blocks. None removes a block. A message without remaining blocks is removed too."""
    touched = {i for i, _ in edits}
    edited_rows: list[bytes] = []
    for i, message in enumerate(_rows.decode(messages)):
        if i not in touched:
            edited_rows.append(bytes(message))
            continue
        blocks: list[bytes] = []
        for j, block in enumerate(_rows.decode(_members.decode(message)[content])):
            change = edits.get((i, j), {})
            if isinstance(change, Mapping):
                blocks.append(json_splice.splice(bytes(block), change) if change else bytes(block))
            elif change is not None:
                blocks.append(change)
        if blocks:
            edited_rows.append(json_splice.splice(bytes(message), {content: array(blocks)}))
    return array(edited_rows)


def named(edits: Mapping[Place, json_splice.Change]) -> Iterator[tuple[Place, str]]:
    """The changes to report to the caller: the position, and the rewritten field of the block. Removing the gateway's
    own mark is not reported."""
    for place, change in edits.items():
        if change is None:
            yield place, ""
        elif isinstance(change, Mapping) and (fields := sorted(change.keys() - {"signature", "reasoningContent"})):
            yield place, "." + fields[0]


def array(values: Sequence[bytes]) -> bytes:
    """A JSON list of JSON texts."""
    return b"[" + b",".join(values) + b"]"


def lost_thinking(messages: Sequence[tuple[str, Sequence[str]]], removed: Collection[Place]) -> bool:
    """Whether the last message of the assistant has a tool call, and all its thinking was removed. `messages`: the role
    of each, and the kinds of the blocks that are left."""
    last = len(messages) - 2
    if last < 0 or not any(message == last for message, _ in removed):
        return False
    kinds = messages[last][1]
    return "call" in kinds and "thinking" not in kinds
