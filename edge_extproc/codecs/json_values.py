"""JSON as callers and providers send it: bytes to values and back, and one value as the type that it must have.

`as_…` takes a value that must be there, `maybe_…` one that may be absent (null says the same). Both raise BadRequest,
which names the field by its path, what it must be and what it is. What a provider tells beside its answer breaks
nothing: `text_of`, `object_in` and `TokenCounts` read past what has another type.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import TypeAlias, TypeVar

import msgspec
import orjson

from ..errors import BadRequest
from ..model.content import NO_EXTRAS, Extras, Json
from ..model.usage import MOST_TOKENS
from . import json_faults

JsonObject: TypeAlias = dict[str, Json]
T = TypeVar("T")

UNREADABLE = (ValueError, RecursionError)
"""What `decode`, and any decoder of msgspec, raises: DecodeError and UnicodeDecodeError are ValueErrors."""

_KINDS: Mapping[type, str] = MappingProxyType(
    {dict: "an object", list: "a list", str: "a string", bool: "a boolean", int: "a number", float: "a number"}
)


# --- bytes


def decode(raw: bytes) -> Json:
    """Raises ValueError or RecursionError where it is no JSON."""
    return msgspec.json.decode(raw)


def decode_reply(raw: bytes) -> Json:
    """What a provider sent. Hosts written in Python spell floats as NaN or Infinity, which is no JSON, or write 1e400:
    those are read as such floats, which `encode` writes as null. Raises as `decode` does."""
    try:
        return msgspec.json.decode(raw)
    except msgspec.DecodeError:
        return json.loads(raw)


def encode(value: Json) -> bytes:
    """Raises BadRequest where it is nested too deeply."""
    try:
        return orjson.dumps(value)
    except TypeError:  # an integer of more than 64 bits, half of a surrogate pair, or deeper nesting than orjson goes
        return _encode_slowly(value)


def _encode_slowly(value: Json) -> bytes:
    try:
        text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    except RecursionError as exc:
        raise BadRequest("the JSON is nested too deeply") from exc
    try:
        return text.encode()
    except UnicodeEncodeError:  # only an escape can say half of a surrogate pair
        return json.dumps(value, separators=(",", ":")).encode()


def read_body(raw: bytes) -> JsonObject:
    """A request's body. Raises BadRequest, which says why it is no JSON object."""
    try:
        body = decode(raw)
    except RecursionError as exc:
        raise BadRequest("the body is nested too deeply") from exc
    except ValueError as exc:
        raise BadRequest(f"the body {json_faults.describe(raw)}") from exc
    if isinstance(body, dict):
        return body
    raise BadRequest(f"the body must be a JSON object, not {kind_name(body)}")


def why_refused(
    raw: bytes, fields: Mapping[str, Callable[[Json, str], object]], required: Iterable[str] = ()
) -> BadRequest:
    """What is wrong with a body that a typed decoder refused. `fields` are those of its type, each with its reader."""
    try:
        body = read_body(raw)
        for name in required:
            if name not in body:
                return BadRequest(f"{name} is missing", param=name)
        for name, read in fields.items():
            maybe(read, body, name)
    except BadRequest as exc:
        return exc
    return BadRequest(f"the body cannot be read: one of {', '.join(fields)} stands in it twice, or holds a wrong value")


# --- values that must be of a type; a boolean is no number


def kind_name(value: Json) -> str:
    """What a value is, for humans: `a list`."""
    return _KINDS.get(type(value), "null")


def wrong(path: str, wanted: str, value: Json) -> BadRequest:
    return BadRequest(f"{path} must be {wanted}, not {kind_name(value)}", param=path)


def as_object(value: Json, path: str) -> JsonObject:
    if isinstance(value, dict):
        return value
    raise wrong(path, "an object", value)


def as_list(value: Json, path: str) -> list[Json]:
    if isinstance(value, list):
        return value
    raise wrong(path, "a list", value)


def as_text(value: Json, path: str) -> str:
    if isinstance(value, str):
        return value
    raise wrong(path, "a string", value)


def as_bool(value: Json, path: str) -> bool:
    if isinstance(value, bool):
        return value
    raise wrong(path, "true or false", value)


def as_int(value: Json, path: str) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise wrong(path, "a whole number", value)


def as_number(value: Json, path: str) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return value
    raise wrong(path, "a number", value)


def maybe_object(value: Json, path: str) -> JsonObject | None:
    return None if value is None else as_object(value, path)


def maybe_list(value: Json, path: str) -> list[Json] | None:
    return None if value is None else as_list(value, path)


def maybe_text(value: Json, path: str) -> str | None:
    return None if value is None else as_text(value, path)


def maybe_bool(value: Json, path: str) -> bool | None:
    if value is None or isinstance(value, bool):
        return value
    raise wrong(path, "true or false", value)


def maybe_int(value: Json, path: str) -> int | None:
    if value is None or (isinstance(value, int) and not isinstance(value, bool)):
        return value
    raise wrong(path, "a whole number", value)


def maybe_number(value: Json, path: str) -> float | None:
    if value is None or (isinstance(value, int | float) and not isinstance(value, bool)):
        return value
    raise wrong(path, "a number", value)


def maybe(read: Callable[[Json, str], T], body: Mapping[str, Json], key: str, path: str = "") -> T | None:
    """A field that may be absent, of a body or of what stands at `path`, read by one of the above."""
    value = body.get(key)
    return None if value is None else read(value, f"{path}.{key}" if path else key)


def objects(value: Json, path: str) -> Iterator[tuple[JsonObject, str]]:
    """The objects of a list, each with its path."""
    for i, each in enumerate(as_list(value, path)):
        where = f"{path}[{i}]"
        yield as_object(each, where), where


# --- what a reader leaves


def left_in(block: Mapping[str, Json], known: frozenset[str]) -> JsonObject:
    """Every other field, to be added to. A null says the same as its absence."""
    return {key: value for key, value in block.items() if key not in known and value is not None}


def rest_of(block: Mapping[str, Json], known: frozenset[str]) -> Extras:
    """Every other field. A null says the same as its absence."""
    return {key: value for key, value in block.items() if key not in known and value is not None} or NO_EXTRAS


# --- what may be of any type


def text_of(value: Json) -> str | None:
    """None where it is no string."""
    return value if isinstance(value, str) else None


# A dict, because asking one is much cheaper than asking any other mapping.
_NOTHING: Mapping[str, Json] = {}


def object_in(block: Mapping[str, Json], key: str) -> Mapping[str, Json]:
    """Empty where there is no object."""
    value = block.get(key)
    return value if isinstance(value, dict) else _NOTHING


class TokenCounts:
    """Reads the token counts of one usage object. A count is a whole number from 0 to MOST_TOKENS, spelled as an
    integer or as a float (7.0). Everything else is missing: text, a boolean, a negative number, 10^30, NaN. A null is
    missing too, but not counted in `unreadable`: it is how hosts say that they do not know."""

    __slots__ = ("unreadable",)

    def __init__(self) -> None:
        self.unreadable = 0

    def of(self, value: Json) -> int | None:
        """None where it is missing."""
        if value is None:
            return None
        if (type(value) is int or type(value) is float) and 0 <= value <= MOST_TOKENS:
            return int(value)
        self.unreadable += 1
        return None

    def at(self, block: Mapping[str, Json], key: str) -> int:
        """0 where it is missing."""
        value = block.get(key)
        return 0 if value is None else self.of(value) or 0

    def first(self, block: Mapping[str, Json], keys: Iterable[str]) -> int:
        """The first of these counts that is not 0; 0 where none is."""
        return next((count for key in keys if key in block and (count := self.at(block, key))), 0) if block else 0
