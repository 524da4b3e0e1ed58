"""Changes blocks of a history in the caller's own bytes, for the raw lanes of several formats.

A history is a list of messages, each with a list of blocks under `content`. Unchanged messages and blocks keep their
bytes. The `history` module of each format decides what must change.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TypeAlias

import msgspec

from ..codecs import json_splice
from .carried import numbered_id

Place: TypeAlias = tuple[int, int]
"""The index of a message, and that of a block in it."""

_members = msgspec.json.Decoder(dict[str, msgspec.Raw])
_rows = msgspec.json.Decoder(list[msgspec.Raw])


def edited(messages: bytes, edits: Mapping[Place, json_splice.Change], content: str = "content") -> bytes:
    """The messages with changed blocks. None removes a block; a text at the place after the last one adds a block. A
    message without remaining blocks is removed too."""
    touched = {i for i, _ in edits}
    edited_rows: list[bytes] = []
    for i, message in enumerate(_rows.decode(messages)):
        if i not in touched:
            edited_rows.append(bytes(message))
            continue
        blocks: list[bytes] = []
        value = _members.decode(message).get(content, b"")
        rows = _rows.decode(value) if bytes(value).startswith(b"[") else []
        for j, block in enumerate(rows):
            change = edits.get((i, j), {})
            if isinstance(change, Mapping):
                blocks.append(json_splice.splice(bytes(block), change) if change else bytes(block))
            elif change is not None:
                blocks.append(change)
        if isinstance(added := edits.get((i, len(rows))), bytes):
            blocks.append(added)
        if blocks:
            edited_rows.append(json_splice.splice(bytes(message), {content: array(blocks)}))
    return array(edited_rows)


def named(edits: Mapping[Place, json_splice.Change]) -> Iterator[tuple[Place, str]]:
    """The changes to report to the caller: the position, and the rewritten field of the block. Removing the gateway's
    own mark is not reported."""
    for place, change in edits.items():
        if not isinstance(change, Mapping):
            yield place, ""
        elif fields := sorted(change.keys() - {"signature", "reasoningContent"}):
            yield place, "." + fields[0]


class UniqueIds:
    """New ids for calls whose id was used before. Hosts that number the calls of each reply anew repeat their ids, and
    other providers refuse that (NVIDIA-NeMo/Switchyard#502). The results have the same ids: each belongs to the first
    call of the last turn with its id that has no result."""

    def __init__(self, *, within_turn: bool = False) -> None:
        """`within_turn`: an id may be used again in a later turn."""
        self._within_turn = within_turn
        self._count: dict[str, int] = {}
        self._last: dict[str, str] = {}
        self._open_calls: dict[str, tuple[int, list[str]]] = {}
        """By id: the turn of the last call, and the new ids of that turn's calls without a result."""

    def of_call(self, id: str, turn: int) -> str:
        open_call = self._open_calls.get(id)
        is_same_turn = open_call is not None and open_call[0] == turn
        before = self._count.get(id, 0) if is_same_turn or not self._within_turn else 0
        count = self._count[id] = before + 1
        unique = self._last[id] = id if count == 1 else numbered_id(id, count)
        if open_call is not None and is_same_turn:
            open_call[1].append(unique)
        else:
            self._open_calls[id] = (turn, [unique])
        return unique

    def of_result(self, id: str) -> str:
        open_call = self._open_calls.get(id)
        return open_call[1].pop(0) if open_call is not None and open_call[1] else self._last.get(id, id)


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
