"""Checks whether a provider's reply has the usual shape of its format.

`read_summary` of a dialect reads only a reply of the usual shape: one that `read_reply` accepts, and whose finish and
usage do not depend on anything else. Each dialect declares that shape as msgspec types, which list the fields that
`read_reply` requires. A type need not list a field that `read_reply` accepts with any value.
"""

from __future__ import annotations

from typing import TypeAlias, TypeVar

import msgspec

from ..codecs.json_values import UNREADABLE, JsonObject, decode_reply

T = TypeVar("T")

_Scalar: TypeAlias = str | int | float | bool | None
_Depth1: TypeAlias = _Scalar | list[_Scalar] | dict[str, _Scalar]
_Depth2: TypeAlias = _Scalar | list[_Depth1] | dict[str, _Depth1]
_Depth3: TypeAlias = _Scalar | list[_Depth2] | dict[str, _Depth2]
_Depth4: TypeAlias = _Scalar | list[_Depth3] | dict[str, _Depth3]
Arguments: TypeAlias = dict[str, _Depth4]
"""Of a tool call, in a format that holds them as JSON. Arguments that are nested too deeply cannot be encoded, so
`read_reply` refuses them."""


class Shape(msgspec.Struct):
    """The base of the types. Other fields may be there, unless the type forbids them."""


def usual(body: bytes, shape: type[T]) -> tuple[JsonObject, T] | None:
    """The decoded body, as it is and by its type. None: it has another shape, or it is not JSON."""
    try:
        value = decode_reply(body)
        return (value, msgspec.convert(value, shape)) if isinstance(value, dict) else None
    except UNREADABLE:
        return None
