"""Encodes spans as OTLP protobuf, without the OpenTelemetry library's objects.

Those objects took as much time for each request as all other work of the agent. Parts that are equal in many spans
(attribute names and most of their values) are encoded once and reused. `Slot` encodes an attribute with a variable
value; `Stamped` encodes an event with a variable time. Field numbers are those of
opentelemetry/proto/trace/v1/trace.proto and common/v1/common.proto.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeAlias

Value: TypeAlias = str | bool | int | float | Sequence[str]
Attributes: TypeAlias = Mapping[str, Value]

CLIENT = 3
"""Span.SpanKind.SPAN_KIND_CLIENT."""
ERROR = 2
"""Status.StatusCode.STATUS_CODE_ERROR."""

OF_SPAN = b"\x4a"
"""The tag of a span's attributes."""
OF_EVENT = b"\x1a"
"""The tag of an event's attributes."""
_EVENT = b"\x5a"

_double = struct.Struct("<d").pack
_fixed64 = struct.Struct("<Q").pack
_times = struct.Struct("<cQcQ").pack
_SAMPLED = 1
# The field `flags`: sampled, and the parent span is remote (both HAS_IS_REMOTE and IS_REMOTE are set).
_FLAGS = b"\x85\x01" + struct.pack("<I", _SAMPLED | 0x300)
_LARGEST = (1 << 64) - 1


def request(resource: Attributes, scope: tuple[str, str], spans: Iterable[bytes]) -> bytes:
    """An encoded ExportTraceServiceRequest. `scope`: name and version of the instrumentation scope. `spans`: from
    `span`."""
    scoped = [_field(b"\x0a", _text(b"\x0a", scope[0]) + _text(b"\x12", scope[1]))]
    for span_ in spans:
        scoped += (b"\x12", _varint(len(span_)), span_)
    return _field(b"\x0a", _field(b"\x0a", pairs(b"\x0a", resource)) + _field(b"\x12", b"".join(scoped)))


def span(
    trace_id: str,
    span_id: str,
    parent_id: str | None,
    name: bytes,
    began: int,
    ended: int,
    facts: Sequence[bytes],
    error: str | None,
) -> bytes:
    """An encoded Span. Ids are hexadecimal, times are Unix time in nanoseconds. `name`: from `named`. `facts`: encoded
    attributes and events. `error`: the status message of a failed span, or None."""
    ids = f"0a10{trace_id}1208{span_id}" if parent_id is None else f"0a10{trace_id}1208{span_id}2208{parent_id}"
    parts = [bytes.fromhex(ids), name, _times(b"\x39", began, b"\x41", ended), *facts, _FLAGS]
    if error is not None:
        parts.append(_field(b"\x7a", _text(b"\x12", error) + b"\x18" + _varint(ERROR)))
    return b"".join(parts)


def named(name: str) -> bytes:
    """The encoded name and kind of a span."""
    return _text(b"\x2a", name) + b"\x30" + _varint(CLIENT)


def event(name: str, at: int, attributes: bytes) -> bytes:
    """An encoded event. `at`: Unix time in nanoseconds. `attributes`: encoded with the tag `OF_EVENT`."""
    return event_named(_text(b"\x12", name), at, attributes)


def event_named(name: bytes, at: int, attributes: bytes) -> bytes:
    """The same as `event`, with a name from `name_of_event`."""
    return b"".join((_EVENT, _varint(9 + len(name) + len(attributes)), b"\x09", _fixed64(at), name, attributes))


def name_of_event(name: str) -> bytes:
    """The encoded name of an event."""
    return _text(b"\x12", name)


def pairs(tag: bytes, attributes: Attributes) -> bytes:
    """Encoded attributes, each with `tag`."""
    return b"".join(
        [_field(tag, _text(b"\x0a", key) + _field(b"\x12", _value(each))) for key, each in attributes.items()]
    )


class Slot:
    """An attribute with a fixed name and a variable value."""

    __slots__ = ("_integers", "_key", "_number", "_room", "_tag", "_texts")

    def __init__(self, key: str, tag: bytes = OF_SPAN) -> None:
        self._tag = tag
        self._key = _text(b"\x0a", key) + b"\x12"
        self._room = len(self._key)
        # For a double, only the last eight bytes change. For other types, the bytes before the value depend only on its
        # length.
        self._number = pairs(tag, {key: 0.0})[:-8]
        self._integers = tuple(self._before(b"\x18", length) for length in range(_LONGEST_VARINT + 1))
        self._texts = tuple(self._before(b"\x0a" + _varint(length), length) for length in range(_SHORT))

    def number(self, value: float) -> bytes:
        return self._number + _double(value)

    def integer(self, value: int) -> bytes:
        # A negative number has ten bytes, as protobuf defines.
        encoded = _SMALL[value] if 0 <= value < _KNOWN else _long(value & _LARGEST)
        return self._integers[len(encoded)] + encoded

    def text(self, value: str) -> bytes:
        encoded = value.encode("utf-8", "backslashreplace")
        if len(encoded) < _SHORT:
            return self._texts[len(encoded)] + encoded
        return self._before(b"\x0a" + _varint(len(encoded)), len(encoded)) + encoded

    def _before(self, head: bytes, length: int) -> bytes:
        """The bytes before a value of this length. `head`: the value's own tag and length."""
        inner = _varint(len(head) + length)
        return self._tag + _varint(self._room + len(inner) + len(head) + length) + self._key + inner + head


class Stamped:
    """An event with a fixed name and fixed attributes. Its time and the double in its last attribute are variable."""

    __slots__ = ("_head", "_middle", "_pack")

    def __init__(self, name: str, attributes: Attributes, last: str) -> None:
        fixed = pairs(OF_EVENT, {**attributes, last: 0.0})[:-8]
        self._middle = _text(b"\x12", name) + fixed
        self._head = _EVENT + _varint(1 + 8 + len(self._middle) + 8) + b"\x09"
        self._pack = struct.Struct(f"<{len(self._head)}sQ{len(self._middle)}sd").pack

    def at(self, timestamp: int, value: float) -> bytes:
        """The encoded event. `timestamp`: Unix time in nanoseconds. `value`: of the last attribute."""
        return self._pack(self._head, timestamp, self._middle, value)


def _value(value: Value) -> bytes:
    """An encoded AnyValue."""
    if isinstance(value, str):
        return _text(b"\x0a", value)
    if isinstance(value, bool):  # before int, because bool is a subclass
        return b"\x10\x01" if value else b"\x10\x00"
    if isinstance(value, int):
        return b"\x18" + _varint(value & _LARGEST)
    if isinstance(value, float):
        return b"\x21" + _double(value)
    return _field(b"\x2a", b"".join(_field(b"\x0a", _value(each)) for each in value))


def _text(tag: bytes, text: str) -> bytes:
    # Invalid UTF-8 becomes escapes: a collector refuses a whole batch because of one such byte.
    return _field(tag, text.encode("utf-8", "backslashreplace"))


def _field(tag: bytes, payload: bytes) -> bytes:
    return tag + _varint(len(payload)) + payload


def _varint(number: int) -> bytes:
    if number < _KNOWN:
        return _SMALL[number]
    return _long(number)


def _long(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


_LONGEST_VARINT = 10
# The length, in bytes, of texts for which a `Slot` has the preceding bytes prepared.
_SHORT = 64
_KNOWN = 2048
_SMALL = tuple(_long(n) for n in range(_KNOWN))
