"""Changes single values of a JSON object and keeps every other byte.

Providers' prompt caches, notations of numbers and unknown fields depend on the caller's own bytes, so a body is not
decoded and encoded again only to change a name in it. The module knows JSON, and no field of any API.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TypeAlias

import msgspec

from . import json_faults

Change: TypeAlias = "bytes | Mapping[str, Change] | None"
"""The new value as JSON text; None to remove the member; or changes inside of the object that is the value (which is
created if it is absent or null)."""

_MEMBERS = msgspec.json.Decoder(dict[str, msgspec.Raw])
_SPACE = rb"[ \t\n\r]*+"
_KEY = _SPACE + rb'"(?:[^"\\]++|\\.)*+"' + _SPACE + rb":" + _SPACE
_FIRST = re.compile(_SPACE + rb"\{" + _KEY, re.DOTALL)
_NEXT = re.compile(_SPACE + rb"," + _KEY, re.DOTALL)
_LAST = re.compile(_SPACE + rb"\}")


def splice(body: bytes, changes: Mapping[str, Change]) -> bytes:
    """`body` with the named values replaced, removed, or inserted after the last member, in the given order. It is the
    same object if nothing changes.

    Raises ValueError if the body is not a JSON object or has a duplicate key: parsers disagree about which of two
    values is used, so the provider might not read the checked one.
    """
    members = members_of(body)
    if not changes and _has_nothing_else(body, members):
        return body
    spans, end = _spans(body, members)
    if not changes:
        return body
    removed = {key for key, change in changes.items() if change is None} & spans.keys()
    edits = _removals(body, spans, removed) if removed else []
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
        edits.append((end, end, (b"," if spans.keys() - removed else b"") + b",".join(absent)))
    if not edits:
        return body
    pieces: list[bytes | memoryview] = []
    view, at = memoryview(body), 0
    for start, stop, text in edits:
        pieces += (view[at:start], text)
        at = stop
    pieces.append(view[at:])
    return b"".join(pieces)


def _removals(
    body: bytes, spans: Mapping[str, tuple[int, int]], removed: frozenset[str] | set[str]
) -> list[tuple[int, int, bytes]]:
    """The edits that remove members, each with one comma: the one before it, or the one after it if no remaining member
    precedes it."""
    edits: list[tuple[int, int, bytes]] = []
    at, leading = body.index(b"{") + 1, True
    for key, (_, stop) in spans.items():
        if key in removed:
            edits.append((at, stop, b""))
        elif leading:
            if edits:  # the comma between the removed members and the first remaining one
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
    """The top-level values. Raises ValueError, with the module's own text, if the body is not a JSON object."""
    try:
        return _MEMBERS.decode(body)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    except ValueError as error:
        raise ValueError(f"it {json_faults.describe(body)}") from error


def _has_nothing_else(body: bytes, members: Mapping[str, msgspec.Raw]) -> bool:
    """Whether the body has nothing but its members: no escape in a key, no second member of the same key, and either no
    space between them or one after each colon and comma, as Python's json module writes it. Most clients write so."""
    names, values = len("".join(members)), len(b"".join(members.values()))
    # Each member has two quotes, a colon and, but for the last one, a comma.
    rest = len(body) - names - values - 4 * len(members)
    if rest == (1 if members else 2):  # only the braces: a second member would make it longer
        return True
    if rest != 2 * len(members):
        return False
    spaced = [b'"%b": %b' % (key.encode("utf-8", "surrogatepass"), value) for key, value in members.items()]
    return body == b"{%b}" % b", ".join(spaced)


def _spans(body: bytes, members: Mapping[str, msgspec.Raw]) -> tuple[dict[str, tuple[int, int]], int]:
    """The start and stop of each top-level value, and the position for a further member.

    msgspec checks the JSON and extracts the values at C speed; skipping each one in turn finds its position. No JSON
    value is a prefix of another one, except for numbers, whose remainder is not a comma. A value at its expected
    position is therefore the whole value. A member that msgspec merged into an earlier one of the same name is detected
    as a mismatch.
    """
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
    return ValueError("a JSON object has the same key twice")
