"""Cuts a prompt into the segments that a provider caches in this order: tools, system prompt, messages.

A segment is known by a keyed hash of its canonical JSON. White space, escapes, marks of the provider's cache and lines
that differ with each request do not change it, because they do not change what the provider caches. Nothing of the text
is kept. This module does no IO.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterator
from itertools import islice
from typing import Any

import msgspec

from ..codecs.json_values import UNREADABLE
from ..codecs.request_lines import has_line, without_lines
from ..model.frozen_dataclass import frozen_dataclass
from ..model.wire_names import WireNames

DIGEST_BYTES = 8
MOST_SEGMENTS = 1024
"""Segments beyond it are not compared: they count as unchanged."""
_DEPTH = 64

_decode = msgspec.json.Decoder().decode
_items = msgspec.json.Decoder(list[msgspec.Raw]).decode
_encode = msgspec.json.Encoder(order="sorted").encode


@frozen_dataclass
class Prompt:
    """The segments of one prompt."""

    names: tuple[str, ...]
    """Of each segment, in the caller's spelling: tools[2], system, messages[4]."""
    digests: bytes
    """Of each segment, one after the other."""
    first_message: int
    """The number of the segments before the messages."""

    def __len__(self) -> int:
        return len(self.names)


class PromptSegments:
    """Reads the segments of a body of any format. `names`: those of all dialects."""

    def __init__(self, names: WireNames) -> None:
        tools = names.tools | names.tool_objects
        self._before = (*sorted(tools), *sorted(names.prefix - tools - names.messages - names.stateful))
        self._messages = tuple(sorted(names.messages))
        self._parts = names.parts
        self._marks = names.cache_marks
        self._mark_texts = tuple(f'"{mark}"'.encode() for mark in sorted(names.cache_marks))
        self._lines = names.request_lines
        self._stateful = names.stateful
        # The other fields of a body are not decoded. A name of the wire format need not be one of Python.
        self._fields = (*self._before, *self._messages, *sorted(names.stateful))
        struct = msgspec.defstruct(
            "Body",
            [(f"f{n}", msgspec.Raw, msgspec.field(name=name, default=_ABSENT)) for n, name in enumerate(self._fields)],
        )
        self._decoder = msgspec.json.Decoder(struct)

    def has_marks(self, raw: bytes) -> bool:
        """Whether the caller marks what the provider should cache."""
        return any(mark in raw for mark in self._mark_texts)

    def of(self, raw: bytes, key: bytes) -> Prompt | None:
        """The segments of a body. `key`: of the hashes. None: the body cannot be read, has no messages, or names a
        conversation that is stored elsewhere."""
        try:
            values = dict(zip(self._fields, msgspec.structs.astuple(self._decoder.decode(raw)), strict=True))
            if any(bytes(values[name]).startswith(b'"') for name in self._stateful):
                return None
            marked, lined = self.has_marks(raw), has_line(raw, self._lines)
            before = list(islice(self._read(values, self._before, marked=marked, lined=lined), MOST_SEGMENTS))
            messages = list(islice(self._read(values, self._messages, marked=marked, lined=lined), MOST_SEGMENTS))
        except (*UNREADABLE, UnicodeEncodeError):
            return None
        if not messages:
            return None
        segments = [*before, *messages][:MOST_SEGMENTS]
        digests = b"".join([hmac.digest(key, text, "sha256")[:DIGEST_BYTES] for _, text in segments])
        return Prompt(tuple([name for name, _ in segments]), digests, min(len(before), len(segments)))

    def _read(
        self, values: dict[str, msgspec.Raw], fields: tuple[str, ...], *, marked: bool, lined: bool
    ) -> Iterator[tuple[str, bytes]]:
        """The name and the canonical text of each segment."""
        for field in fields:
            raw = bytes(values[field])
            if raw in (b"", b"null"):
                continue
            if not raw.startswith(b"["):
                value = self._value(raw, marked=marked)
                yield field, _encode(without_lines(value, self._lines) if lined else value)
                continue
            decoded = (self._value(bytes(each), marked=marked) for each in _items(raw)[:MOST_SEGMENTS])
            # A mark can be an item of its own.
            items: list[Any] = [each for each in decoded if each != {}]
            if lined:
                items = list(without_lines(items, self._lines))  # type: ignore[call-overload]  # of a list, it is one
            text = _only_text(items[0]) if len(items) == 1 else None
            if text is not None:
                yield field, _encode(text)
                continue
            for number, each in enumerate(items):
                yield f"{field}[{number}]", _encode(self._plain(each, lined=lined))

    def _value(self, raw: bytes, *, marked: bool) -> Any:
        value = _decode(raw)
        return self._without_marks(value, 0) if marked and self.has_marks(raw) else value

    def _plain(self, item: Any, *, lined: bool) -> Any:
        """A message in which a list of one text is that text: a client writes it as a list to mark it."""
        if not isinstance(item, dict):
            return item
        for name in self._parts:
            before = item.get(name)
            if isinstance(before, list):
                after = _as_text(without_lines(before, self._lines) if lined else before)
                if after is not before:
                    item = {**item, name: after}
            elif lined and isinstance(before, str):
                item = {**item, name: without_lines(before, self._lines)}
        return item

    def _without_marks(self, value: Any, depth: int) -> Any:
        if depth > _DEPTH:
            return value
        if isinstance(value, dict):
            marks = self._marks
            return {name: self._without_marks(v, depth + 1) for name, v in value.items() if name not in marks}
        if isinstance(value, list):
            cleaned = [self._without_marks(each, depth + 1) for each in value]
            # A mark can be a part of its own.
            return [each for each, before in zip(cleaned, value, strict=True) if each != {} or before == {}]
        return value


def _as_text(value: Any) -> Any:
    if isinstance(value, list) and len(value) == 1:
        text = _only_text(value[0])
        return value if text is None else text
    return value


def _only_text(part: Any) -> str | None:
    """The text of a part that has nothing else."""
    if isinstance(part, dict) and part.keys() <= {"type", "text"} and isinstance(part.get("text"), str):
        return str(part["text"])
    return None


_ABSENT = msgspec.Raw(b"")
