"""Finds all strings of a JSON text, with their positions and paths, so that single ones can be replaced.

Every string occurs once in the result: values, keys, and those of a key that an object has twice. Long numbers are in
it too, since a number can be a card's or a telephone's. The module knows JSON, and no field of any API.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Literal, NamedTuple, TypeAlias

import msgspec

_LEAST_DIGITS = 7
# Characters. A longer path is cut: many values below long keys would take memory for each path.
_LONGEST_PATH, _LONGEST_KEY = 512, 64
_TOKEN = re.compile(
    rb'(?P<string>"(?:[^"\\]++|\\.)*+")(?P<colon>[ \t\r\n]*+:)?'
    rb"|(?P<open>[{\[])|(?P<close>[}\]])|(?P<comma>,)|(?P<number>-?[0-9][0-9.eE+-]*+)",
    re.DOTALL,
)
_TEXT = msgspec.json.Decoder(str)
_BACKSLASH = ord("\\")

TokenForm: TypeAlias = Literal["value", "key", "number"]


class JsonText(NamedTuple):
    """One string, key or long number."""

    start: int
    """Of the token, with its quotes, in bytes."""
    stop: int
    text: str
    path: str
    """As `messages[2].content`, or the beginning of a long one. A key has the path of its value."""
    form: TokenForm
    has_escapes: bool


def texts_of(raw: bytes) -> Iterator[JsonText]:
    """The strings in the order of the bytes. `raw` must be valid JSON."""
    stack: list[tuple[str, int, bool]] = []
    path, number, is_list = "", 0, False
    """The path of the open object or list, and the element of the list."""
    here = ""
    """The path of the next value."""
    for token in _TOKEN.finditer(raw):
        kind = token.lastgroup
        if kind == "colon" or kind == "string":
            start, stop = token.span("string")
            has_escapes = raw.find(_BACKSLASH, start, stop) >= 0
            text = (
                _TEXT.decode(raw[start:stop]) if has_escapes else raw[start + 1 : stop - 1].decode("utf-8", "replace")
            )
            if kind == "colon":
                here = _below(path, text)
                yield JsonText(start, stop, text, here, "key", has_escapes)
            else:
                yield JsonText(start, stop, text, here, "value", has_escapes)
        elif kind == "comma":
            if is_list:
                number += 1
                here = f"{path}[{number}]" if len(path) < _LONGEST_PATH else path
        elif kind == "open":
            stack.append((path, number, is_list))
            path, number, is_list = here, 0, raw[token.start()] == ord("[")
            here = f"{path}[0]" if is_list and len(path) < _LONGEST_PATH else path
        elif kind == "close":
            path, number, is_list = stack.pop()
        elif token.end() - token.start() >= _LEAST_DIGITS:
            yield JsonText(token.start(), token.end(), token[0].decode(), here, "number", False)


def _below(path: str, key: str) -> str:
    if len(path) >= _LONGEST_PATH:
        return path
    key = key[:_LONGEST_KEY]
    return f"{path}.{key}" if path else key


def replaced(raw: bytes, edits: Iterable[tuple[int, int, bytes]]) -> bytes:
    """`raw` with other bytes at these places, which do not overlap. It is the same object without edits."""
    pieces: list[bytes | memoryview] = []
    view, at = memoryview(raw), 0
    for start, stop, new in sorted(edits):
        pieces += (view[at:start], new)
        at = stop
    if not pieces:
        return raw
    pieces.append(view[at:])
    return b"".join(pieces)
