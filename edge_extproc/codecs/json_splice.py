"""Change single values of a JSON object and leave every other byte as it came.

Providers' prompt caches, number spellings and unknown fields depend on the caller's own bytes, so a body is never
decoded and encoded again only because a name in it changes. This room knows JSON, and no field of any API.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TypeAlias

import msgspec

from . import json_faults

Change: TypeAlias = "bytes | Mapping[str, Change] | None"
"""A value's new JSON text, None to take the member out, or changes inside the object that is the value (made if it is
absent or null)."""

_MEMBERS = msgspec.json.Decoder(dict[str, msgspec.Raw])
_SPACE = rb"[ \t\n\r]*+"
_KEY = _SPACE + rb'"(?:[^"\\]++|\\.)*+"' + _SPACE + rb":" + _SPACE
_FIRST = re.compile(_SPACE + rb"\{" + _KEY, re.DOTALL)
_NEXT = re.compile(_SPACE + rb"," + _KEY, re.DOTALL)
_LAST = re.compile(_SPACE + rb"\}")


def splice(body: bytes, changes: Mapping[str, Change]) -> bytes:
    """`body` with the named values replaced where they stand, taken out, or inserted after the last member, in the
    given order.

    Raises ValueError where the body is no JSON object, or where a key stands in it twice: parsers disagree on which of
    the two wins, so what we checked might not be what the provider reads.
    """
    spans, end = _spans(body)
    gone = {key for key, change in changes.items() if change is None} & spans.keys()
    edits = _removals(body, spans, gone) if gone else []
    absent: list[bytes] = []
    for key, change in changes.items():
        span = spans.get(key)
        if change is None:
            continue
        if span is None:
            absent.append(msgspec.json.encode(key) + b":" + _changed(b"null", change))
        else:
            edits.append((*span, _changed(body[slice(*span)] if isinstance(change, Mapping) else b"", change)))
    edits.sort()
    if absent:
        edits.append((end, end, (b"," if spans.keys() - gone else b"") + b",".join(absent)))
    pieces: list[bytes | memoryview] = []
    view, at = memoryview(body), 0
    for start, stop, text in edits:
        pieces += (view[at:start], text)
        at = stop
    pieces.append(view[at:])
    return b"".join(pieces)


def _removals(
    body: bytes, spans: Mapping[str, tuple[int, int]], gone: frozenset[str] | set[str]
) -> list[tuple[int, int, bytes]]:
    """The edits that take members out, each with the comma that it no longer needs: the one before it, or after it
    where it stands before all that stay."""
    edits: list[tuple[int, int, bytes]] = []
    at, leading = body.index(b"{") + 1, True
    for key, (_, stop) in spans.items():
        if key in gone:
            edits.append((at, stop, b""))
        elif leading:
            if edits:  # the comma between what goes and the first that stays
                comma = body.index(b",", at) + 1
                edits.append((at, comma, b""))
            leading = False
        at = stop
    return edits


def _changed(value: bytes, change: bytes | Mapping[str, Change]) -> bytes:
    if isinstance(change, bytes):
        return change
    return splice(b"{}" if value == b"null" else value, change)


def members_of(body: bytes) -> dict[str, msgspec.Raw]:
    """The top-level values. Raises ValueError, in our own words, where the body is no JSON object."""
    try:
        return _MEMBERS.decode(body)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    except ValueError as error:
        raise ValueError(f"it {json_faults.describe(body)}") from error


def _spans(body: bytes) -> tuple[dict[str, tuple[int, int]], int]:
    """Where each top-level value starts and stops, and where a further member would go.

    msgspec checks the JSON and cuts out the values at C speed; walking past each in turn finds where it stands. No
    JSON value is the beginning of another one but for numbers, whose rest is no comma: so a value that stands where
    it should is the whole one, and a member that msgspec folded into an earlier one of its name shows as a mismatch.
    """
    members = members_of(body)
    if not members:
        return {}, body.index(b"{") + 1
    spans: dict[str, tuple[int, int]] = {}
    pattern, at = _FIRST, 0
    for key, value in members.items():
        match = pattern.match(body, at)
        if match is None or not body.startswith(value, start := match.end()):
            raise _twice()
        at = start + memoryview(value).nbytes
        spans[key] = (start, at)
        pattern = _NEXT
    if _LAST.match(body, at) is None:
        raise _twice()
    return spans, at


def _twice() -> ValueError:
    return ValueError("a key stands twice in one JSON object; each may stand once")
