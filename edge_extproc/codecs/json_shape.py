"""Counts the values of a request's JSON without decoding them.

The cost of decoding depends on the number of values and not on bytes: 9 MB of tiny messages cost a hundred times as
much as 9 MB of text. These functions only count, at C speed if possible, and stop at the bound.
"""

from __future__ import annotations

from typing import Any

import msgspec

from .json_values import UNREADABLE

# Bytes that are inspected in one step; other threads can run between two steps.
_STEP = 64 * 1024

_LIST = msgspec.json.Decoder(list[msgspec.Raw])
_OBJECT = msgspec.json.Decoder(dict[str, msgspec.Raw])


_NOT_STRUCTURAL = bytes(set(range(256)) - set(b",{["))


def structure(raw: bytes) -> bytes:
    """The commas and opening brackets of the JSON, those inside of strings included. One pass over the body, so that
    the bounds that they set are cheap to count."""
    if len(raw) <= _STEP:
        return raw.translate(None, _NOT_STRUCTURAL)
    return b"".join([raw[at : at + _STEP].translate(None, _NOT_STRUCTURAL) for at in range(0, len(raw), _STEP)])


def has_few_values(raw: bytes, most: int) -> bool:
    """Whether the JSON is known to have at most `most` values, however long its texts are. It looks at each quote, so
    it gives up, and returns False, after some thousand of them, and at a long row of backslashes."""
    count = at = quotes = 0
    while quotes < _MOST_QUOTES:
        start = raw.find(b'"', at)
        outside = raw[at:start] if start >= 0 else raw[at:]
        count += outside.count(b",") + outside.count(b"{") + outside.count(b"[")
        if start < 0 or count > most:
            return count <= most
        at, escapes = start, 1
        while escapes % 2:  # the quote is a part of the text
            at, quotes = raw.find(b'"', at + 1), quotes + 1
            if at < 0 or quotes >= _MOST_QUOTES:
                return False
            before = raw[max(start + 1, at - _MOST_ESCAPES) : at]
            escapes = len(before) - len(before.rstrip(b"\\"))
            if escapes == _MOST_ESCAPES:
                return False
        at += 1
    return False


_MOST_QUOTES, _MOST_ESCAPES = 4_096, 64


def has_more_values(raw: bytes, most: int) -> bool:
    """Whether the JSON has more than `most` values: members of objects, elements of lists, objects and lists."""
    count = at = inside = 0
    while at < len(raw) and count <= most:
        stop = _after_escape(raw, min(at + _STEP, len(raw)))
        # Without escapes, every second piece between quotes is outside of strings.
        pieces = raw[at:stop].replace(rb"\\", b"").replace(rb"\"", b"").split(b'"')
        outside = b"".join(pieces[inside::2])
        count += outside.count(b",") + outside.count(b"{") + outside.count(b"[")
        inside ^= (len(pieces) - 1) & 1
        at = stop
    return count > most


def _after_escape(raw: bytes, stop: int) -> int:
    """`stop`, moved so that no backslash is separated from the character that it escapes."""
    end = stop
    while end < len(raw) and raw[end - 1] == _BACKSLASH:
        end += 1
    return end


_BACKSLASH = ord("\\")


def members(raw: Any) -> dict[str, msgspec.Raw]:
    """The members of an object, not decoded; empty for other types."""
    try:
        return _OBJECT.decode(raw)
    except UNREADABLE:
        return {}


def elements(raw: Any) -> list[msgspec.Raw]:
    """The elements of a list, not decoded; empty for other types."""
    try:
        return _LIST.decode(raw)
    except UNREADABLE:
        return []
