"""A codec for AWS event streams (application/vnd.amazon.eventstream): bytes in any portions to frames, and frames to
bytes.

A frame is: its length and the length of its headers (4 bytes each, big endian), the CRC-32 of these 8 bytes, the
headers, the payload, and the CRC-32 of everything before. The codec knows nothing of the meaning of events. Every byte
is in exactly one frame's `raw`.

A frame with a wrong length or checksum ends the stream, because the start of the next frame is unknown.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping
from dataclasses import field
from types import MappingProxyType
from typing import TypeAlias

from ..errors import UpstreamError
from ..model.frozen_dataclass import frozen_dataclass
from .frame import Frame

# The limits of the specification: a payload of 16 MiB, and 128 KiB of headers.
MAX_FRAME = 16 * 1024 * 1024 + 128 * 1024 + 16
MAX_HEADERS = 128 * 1024

MEDIA_TYPE = "application/vnd.amazon.eventstream"

_PRELUDE = struct.Struct(">III")
_SUM = struct.Struct(">I")
_LEAST = _PRELUDE.size + _SUM.size

HeaderValue: TypeAlias = bool | int | bytes | str
"""A timestamp is an int of milliseconds since 1970, a UUID its 16 bytes."""

NO_HEADERS: Mapping[str, HeaderValue] = MappingProxyType({})


@frozen_dataclass
class AwsFrame(Frame):
    """`event` is the event type or, for an exception or error, its type or code."""

    headers: Mapping[str, HeaderValue] = field(default_factory=lambda: NO_HEADERS)

    @property
    def is_event(self) -> bool:
        return self.headers.get(":message-type", "event") == "event"


# The size of a header value by its type, and how to read it. Types 6 and 7 have a length prefix.
_FIXED: Mapping[int, struct.Struct] = MappingProxyType(
    {
        2: struct.Struct(">b"),
        3: struct.Struct(">h"),
        4: struct.Struct(">i"),
        5: struct.Struct(">q"),
        8: struct.Struct(">q"),
        9: struct.Struct(">16s"),
    }
)
_TRUE, _FALSE, _BYTES, _TEXT = 0, 1, 6, 7
_LENGTH = struct.Struct(">H")


class EventStreamDecoder:
    """Decodes one stream. The frames do not depend on the portions of the input."""

    __slots__ = ("_limit", "_names", "_pending")

    def __init__(self, limit: int = MAX_FRAME) -> None:
        self._limit = limit
        self._pending = bytearray()
        self._names: dict[bytes, Mapping[str, HeaderValue]] = {}
        """A cache of encoded headers: a stream repeats a few of them hundreds of times."""

    def feed(self, data: bytes) -> list[Frame]:
        """The frames that `data` completes. Raises UpstreamError if one is damaged or over the limit."""
        pending = self._pending
        pending += data
        frames: list[Frame] = []
        begin, have = 0, len(pending)
        while have - begin >= _PRELUDE.size:
            total, head, checksum = _PRELUDE.unpack_from(pending, begin)
            if checksum != zlib.crc32(pending[begin : begin + 8]):
                raise UpstreamError("the provider's event stream is damaged: the checksum of a frame's head is wrong")
            if total > self._limit or head > MAX_HEADERS:
                raise UpstreamError(f"the provider sent one event of more than {self._limit} bytes")
            if total < _LEAST + head:
                raise UpstreamError("the provider's event stream is damaged: a frame is shorter than its headers")
            if have - begin < total:
                break
            frames.append(self._frame(bytes(pending[begin : begin + total]), head))
            begin += total
        if begin:
            del pending[:begin]
        return frames

    def close(self) -> list[Frame]:
        """The bytes after the last frame, as a frame without `data`: the incomplete beginning of one."""
        rest = bytes(self._pending)
        self._pending.clear()
        return [Frame(b"", rest)] if rest else []

    def _frame(self, raw: bytes, head: int) -> Frame:
        body = memoryview(raw)[: -_SUM.size]
        if _SUM.unpack_from(raw, len(body))[0] != zlib.crc32(body):
            raise UpstreamError("the provider's event stream is damaged: the checksum of a frame is wrong")
        end = _PRELUDE.size + head
        block = raw[_PRELUDE.size : end]
        headers = self._names.get(block)
        if headers is None:
            headers = read_headers(block)
            if len(self._names) < _MOST_KEPT:
                self._names[block] = headers
        event = headers.get(":event-type") or headers.get(":exception-type") or headers.get(":error-code")
        return AwsFrame(raw[end : -_SUM.size], raw, event if isinstance(event, str) else "", headers)


_MOST_KEPT = 32


def read_headers(block: bytes) -> Mapping[str, HeaderValue]:
    """The headers of a frame. Raises UpstreamError if they are damaged."""
    values: dict[str, HeaderValue] = {}
    at = 0
    try:
        while at < len(block):
            end = at + 1 + block[at]
            name = block[at + 1 : end].decode()
            kind = block[end]
            if end == at + 1 or kind > 9:
                raise UpstreamError("the provider's event stream is damaged: a header has no name, or no type we know")
            at = end + 1
            value: HeaderValue
            if kind in (_TRUE, _FALSE):
                value = kind == _TRUE
            elif kind in (_BYTES, _TEXT):
                (length,) = _LENGTH.unpack_from(block, at)
                at += _LENGTH.size + length
                piece = block[at - length : at]
                value = piece.decode() if kind == _TEXT else piece
            else:
                value = _FIXED[kind].unpack_from(block, at)[0]
                at += _FIXED[kind].size
            values[name] = value
    except (struct.error, IndexError, UnicodeDecodeError) as exc:
        raise UpstreamError("the provider's event stream is damaged: a header cannot be read") from exc
    if at != len(block):
        raise UpstreamError("the provider's event stream is damaged: a header is longer than all headers")
    return MappingProxyType(values)


# Integer types of 1, 2, 4 and 8 bytes, the shortest first.
_WIDTHS = tuple((kind, 8 * _FIXED[kind].size - 1) for kind in (2, 3, 4, 5))


def write_headers(headers: Mapping[str, HeaderValue]) -> bytes:
    """Encoded headers. Raises ValueError if a name does not have 1 to 255 bytes, or a value is too large."""
    out = bytearray()
    for name, value in headers.items():
        label = name.encode()
        if not 1 <= len(label) <= 255:
            raise ValueError(f"the header {name!r} has not 1 to 255 bytes")
        out.append(len(label))
        out += label
        match value:
            case bool():
                out.append(_TRUE if value else _FALSE)
            case int():
                kind = next((k for k, bits in _WIDTHS if -(1 << bits) <= value < 1 << bits), None)
                if kind is None:
                    raise ValueError(f"the header {name!r} has more than 64 bits")
                out.append(kind)
                out += _FIXED[kind].pack(value)
            case bytes() | str():
                piece = value.encode() if isinstance(value, str) else value
                if len(piece) >= 1 << 15:
                    raise ValueError(f"the header {name!r} has over 32767 bytes")
                out.append(_TEXT if isinstance(value, str) else _BYTES)
                out += _LENGTH.pack(len(piece))
                out += piece
    return bytes(out)


def encode(payload: bytes, headers: Mapping[str, HeaderValue]) -> bytes:
    """An encoded frame."""
    head = write_headers(headers)
    total = _LEAST + len(head) + len(payload)
    front = struct.pack(">II", total, len(head))
    body = b"".join((front, _SUM.pack(zlib.crc32(front)), head, payload))
    return body + _SUM.pack(zlib.crc32(body))


def event(kind: str, payload: bytes, content_type: str = "application/json") -> bytes:
    """An encoded event, with its headers in the order that AWS uses."""
    return encode(payload, {":event-type": kind, ":content-type": content_type, ":message-type": "event"})


def exception(kind: str, payload: bytes, content_type: str = "application/json") -> bytes:
    """An encoded exception frame, which ends a broken stream."""
    return encode(payload, {":exception-type": kind, ":content-type": content_type, ":message-type": "exception"})
