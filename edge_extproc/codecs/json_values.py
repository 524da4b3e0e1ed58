"""JSON from callers and providers: decoding and encoding, and checks of the type of a value.

`as_…` takes a required value, `maybe_…` an optional one (null counts as absent). Both raise BadRequest with the path of
the field, the required type and the actual type. Secondary data of providers never causes an error: `text_of`,
`object_in` and `TokenCounts` ignore values of other types.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import TypeAlias, TypeVar

import msgspec
import orjson

from ..errors import BadRequest
from ..model.content import NO_EXTRAS, Extras, Json
from ..model.usage import MOST_SEARCHES, MOST_TOKENS
from . import json_faults
from .surrogates import well_formed

JsonObject: TypeAlias = dict[str, Json]
T = TypeVar("T")

UNREADABLE = (ValueError, RecursionError)
"""The errors of `decode` and of msgspec's decoders: DecodeError and UnicodeDecodeError are ValueErrors."""

_KINDS: Mapping[type, str] = MappingProxyType(
    {dict: "an object", list: "a list", str: "a string", bool: "a boolean", int: "a number", float: "a number"}
)


# --- bytes


def decode(raw: bytes) -> Json:
    """The decoded value. Raises ValueError or RecursionError if the bytes are not JSON."""
    return msgspec.json.decode(raw)


def decode_reply(raw: bytes) -> Json:
    """The decoded value from a provider. Hosts written in Python write floats as NaN or Infinity, which is not JSON, or
    as 1e400. They are accepted as such floats; `encode` writes them as null. Raises the same errors as `decode`."""
    try:
        return msgspec.json.decode(raw)
    except msgspec.DecodeError:
        return json.loads(raw)


def encode(value: Json) -> bytes:
    """The encoded value. Raises BadRequest if it is nested too deeply."""
    try:
        return orjson.dumps(value)
    except TypeError:  # an integer of more than 64 bits, an unpaired surrogate, or deeper nesting than orjson supports
        return _encode_slowly(value)


def _encode_slowly(value: Json) -> bytes:
    try:
        text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    except RecursionError as exc:
        raise BadRequest("the JSON is nested too deeply") from exc
    try:
        return text.encode()
    except UnicodeEncodeError:  # strict parsers refuse an unpaired surrogate, also as an escape
        return well_formed(text).encode()


def read_body(raw: bytes) -> JsonObject:
    """The decoded body of a request. Raises BadRequest, with the reason, if it is not a JSON object."""
    try:
        body = decode(raw)
    except RecursionError as exc:
        raise BadRequest("the body is nested too deeply") from exc
    except ValueError as exc:
        raise BadRequest(f"the body {json_faults.describe(raw)}") from exc
    if isinstance(body, dict):
        return body
    raise BadRequest(f"the body must be a JSON object, not {kind_name(body)}")


_MEMBERS = msgspec.json.Decoder(dict[str, msgspec.Raw])


def read_members(raw: bytes, names: Sequence[str]) -> JsonObject:
    """The members of these names of a request's body. Decoding the whole of a large body would hold up other requests.
    Raises BadRequest as `read_body` does."""
    try:
        members = _MEMBERS.decode(raw)
        return {name: decode(members[name]) for name in names if name in members}
    except msgspec.ValidationError:
        return read_body(raw)  # says what it is instead
    except RecursionError as exc:
        raise BadRequest("the body is nested too deeply") from exc
    except ValueError as exc:
        raise BadRequest(f"the body {json_faults.describe(raw)}") from exc


def why_refused(
    raw: bytes, fields: Mapping[str, Callable[[Json, str], object]], required: Iterable[str] = ()
) -> BadRequest:
    """The error for a body that a typed decoder refused. `fields` are those of its type, each with its reader."""
    try:
        body = read_body(raw)
        for name in required:
            if name not in body:
                return BadRequest(f"{name} is missing", param=name)
        for name, read in fields.items():
            maybe(read, body, name)
    except BadRequest as exc:
        return exc
    return BadRequest(f"the body cannot be read: one of {', '.join(fields)} occurs twice, or has an invalid value")


# --- values of a required type; a boolean is not a number. The type of a decoded number is exactly int or float.


def kind_name(value: Json) -> str:
    """The type of a value for an error text, such as `a list`."""
    return _KINDS.get(type(value), "null")


def wrong(path: str, expected: str, value: Json) -> BadRequest:
    return BadRequest(f"{path} must be {expected}, not {kind_name(value)}", param=path)


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
    if type(value) is int:
        return value
    raise wrong(path, "a whole number", value)


def as_number(value: Json, path: str) -> float:
    if type(value) is float or type(value) is int:
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
    if value is None or type(value) is int:
        return value
    raise wrong(path, "a whole number", value)


def maybe_number(value: Json, path: str) -> float | None:
    if value is None or type(value) is float or type(value) is int:
        return value
    raise wrong(path, "a number", value)


def maybe(read: Callable[[Json, str], T], body: Mapping[str, Json], key: str, path: str = "") -> T | None:
    """An optional field of a body or of the object at `path`, read by one of the functions above."""
    value = body.get(key)
    return None if value is None else read(value, f"{path}.{key}" if path else key)


def objects(value: Json, path: str) -> Iterator[tuple[JsonObject, str]]:
    """The objects of a list, each with its path."""
    for i, each in enumerate(as_list(value, path)):
        where = f"{path}[{i}]"
        yield as_object(each, where), where


# --- remaining fields


def left_in(block: Mapping[str, Json], known: frozenset[str]) -> JsonObject:
    """All other fields, as a new dict. A null counts as absent."""
    if block.keys() <= known:
        return {}
    return {key: value for key, value in block.items() if key not in known and value is not None}


def rest_of(block: Mapping[str, Json], known: frozenset[str]) -> Extras:
    """All other fields. A null counts as absent."""
    if block.keys() <= known:
        return NO_EXTRAS
    return {key: value for key, value in block.items() if key not in known and value is not None} or NO_EXTRAS


# --- values of any type


def text_of(value: Json) -> str | None:
    """The string, or None for other types."""
    return value if isinstance(value, str) else None


# A dict, because its lookup is much faster than that of other mappings.
_NOTHING: Mapping[str, Json] = {}


def object_in(block: Mapping[str, Json], key: str) -> Mapping[str, Json]:
    """The object, or an empty one for other types."""
    value = block.get(key)
    return value if isinstance(value, dict) else _NOTHING


class TokenCounts:
    """Reads the token counts of one usage object. A count is a whole number from 0 to MOST_TOKENS, written as an
    integer or as a float (7.0). Any other value counts as missing: text, a boolean, a negative number, 10^30, NaN. A
    null is missing too, but not counted in `unreadable`, because hosts use it for unknown counts."""

    __slots__ = ("unreadable",)

    def __init__(self) -> None:
        self.unreadable = 0

    def of(self, value: Json) -> int | None:
        """The count, or None if it is missing."""
        if value is None:
            return None
        if (type(value) is int or type(value) is float) and 0 <= value <= MOST_TOKENS:
            return int(value)
        self.unreadable += 1
        return None

    def at(self, block: Mapping[str, Json], key: str) -> int:
        """The count, or 0 if it is missing."""
        value = block.get(key)
        return 0 if value is None else self.of(value) or 0

    def searches_at(self, block: Mapping[str, Json], key: str) -> int:
        """The number of web searches, or 0 if it is missing or implausible."""
        count = self.at(block, key)
        if count <= MOST_SEARCHES:
            return count
        self.unreadable += 1
        return 0

    def openrouter_searches(self, usage: Mapping[str, Json]) -> int:
        """The web searches in the usage of OpenRouter, in either of its spellings."""
        return max(
            self.searches_at(object_in(usage, name), "web_search_requests")
            for name in ("server_tool_use_details", "server_tool_use")
        )

    def first(self, block: Mapping[str, Json], keys: Iterable[str]) -> int:
        """The first of these counts that is not 0, or 0."""
        for key in keys:
            if key in block and (count := self.at(block, key)):
                return count
        return 0
