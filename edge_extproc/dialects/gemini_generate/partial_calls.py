"""Joins the pieces of a function call whose arguments are streamed (`streamFunctionCallArguments`, at Vertex AI).

The first piece has the name; each further one has `partialArgs`: a JSONPath and a value, which for a string is a piece
of it. The last one has no `willContinue`, and may be empty. Source: Google's page on function calling, and its type
PartialArg. Other formats get the call when it is complete, because pieces of an object may come in any order.
"""

from __future__ import annotations

import itertools
import re
from typing import Any

from ...codecs.json_values import encode, object_in, text_of
from ...model.content import Json
from .fields import Block, names_of, split

_CALL = names_of("functionCall", "thoughtSignature")
_PIECE = names_of("name", "id", "args", "partialArgs", "willContinue")
_VALUE = names_of("jsonPath", "stringValue", "numberValue", "boolValue", "nullValue", "willContinue")
_STEP = re.compile(r"""\.([^.\[\]'"]+)|\[(\d{1,4})\]|\['((?:[^'\\]|\\.)*)'\]|\["((?:[^"\\]|\\.)*)"\]""")
_ESCAPED = re.compile(r"\\(.)")


def is_piece(part: Block, *, is_open: bool) -> bool:
    """Whether a part is a piece of a streamed call. `is_open`: a call is not complete so far."""
    call = split(part, _CALL)[0].get("functionCall")
    if not isinstance(call, dict):
        return False
    known = split(call, _PIECE)[0]
    return "partialArgs" in known or known.get("willContinue") is True or (is_open and "name" not in known)


def has_name(part: Block) -> bool:
    """Whether a piece begins a call."""
    return bool(split(object_in(split(part, _CALL)[0], "functionCall"), _PIECE)[0].get("name"))


class PartialCall:
    """One call, as far as it is known."""

    def __init__(self) -> None:
        self._fields: Block = {}
        """The other fields of the part: its signature."""
        self._call: Block = {}
        self._arguments: Block = {}
        self.is_readable = True
        """Whether each path was one of an argument."""

    def add(self, part: Block) -> bool:
        """Adds a piece. Returns whether it is the last one."""
        known, rest = split(part, _CALL)
        piece, others = split(object_in(known, "functionCall"), _PIECE)
        if known.get("thoughtSignature") is not None:
            self._fields["thoughtSignature"] = known["thoughtSignature"]
        self._fields.update(rest)
        self._call.update({key: piece[key] for key in ("name", "id") if piece.get(key)} | others)
        whole = piece.get("args")
        if isinstance(whole, dict):
            self._arguments.update(whole)
        values = piece.get("partialArgs")
        for value in values if isinstance(values, list) else [values] if isinstance(values, dict) else []:
            self.is_readable = (isinstance(value, dict) and self._set(split(value, _VALUE)[0])) and self.is_readable
        return piece.get("willContinue") is not True

    def part(self) -> Block:
        """The whole call, as a part."""
        return {**self._fields, "functionCall": {**self._call, "args": self._arguments}}

    def cut_arguments(self) -> str:
        """The arguments of a call that did not end, as the beginning of an object."""
        return encode(self._arguments).decode().removesuffix("}")

    def _set(self, value: Block) -> bool:
        steps = _steps(text_of(value.get("jsonPath")) or "")
        if not steps:
            return False
        place: Any = self._arguments
        for step, following in itertools.pairwise(steps):
            is_new = not _has(place, step) or place[step] is None
            if is_new and not _put(place, step, [] if isinstance(following, int) else {}):
                return False
            place = place[step]
        last = steps[-1]
        new = _value_of(value)
        known = place[last] if _has(place, last) else None
        if isinstance(new, str) and isinstance(known, str):
            new = known + new
        return _put(place, last, new)


def _value_of(value: Block) -> Json:
    for name in ("stringValue", "numberValue", "boolValue"):
        if name in value:
            return value[name]
    return None if "nullValue" in value else ""


def _has(place: Any, step: str | int) -> bool:
    match place, step:
        case dict(), str():
            return step in place
        case list(), int():
            return step < len(place)
        case _:
            return False


def _put(place: Any, step: str | int, value: Json) -> bool:
    match place, step:
        case dict(), str():
            place[step] = value
        case list(), int():
            place.extend([None] * (step + 1 - len(place)))
            place[step] = value
        case _:
            return False
    return True


def _steps(path: str) -> list[str | int]:
    """The steps of a JSONPath (RFC 9535) that names one value. Empty: it is none."""
    steps: list[str | int] = []
    at = 1
    while at < len(path):
        match = _STEP.match(path, at)
        if match is None:
            return []
        plain, index, single, double = match.groups()
        quoted = single if single is not None else double
        steps.append(plain if plain is not None else int(index) if index is not None else _ESCAPED.sub(r"\1", quoted))
        at = match.end()
    return steps if path.startswith("$") and isinstance(steps[0] if steps else 0, str) else []
