"""Encodes length-delimited protobuf fields without message objects.

An answer to Envoy has a few values in up to five levels of messages. An object for each level costs several times as
much as the bytes. The numbers of the fields come from the descriptors of the generated code. It knows no message.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from google.protobuf.message import Message

_DELIMITED = 2
"""The wire type of strings, bytes and messages."""
_MOST_KNOWN = 4096


@lru_cache(maxsize=_MOST_KNOWN)
def varint(number: int) -> bytes:
    """A number of at least 0: a length, or the value of an enum."""
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


def key(message: type[Message], *path: str) -> bytes:
    """The bytes before the length of a field whose value is a string, bytes or a message. `path`: its name, after the
    names of the fields that lead to its message. Raises KeyError for an unknown field."""
    descriptor: Any = message.DESCRIPTOR
    field: Any = None
    for name in path:
        field = descriptor.fields_by_name[name]
        descriptor = field.message_type
    return varint(field.number << 3 | _DELIMITED)
