"""HTTP/2 frames: numbers, limits, errors, and the frames that are written often."""

from __future__ import annotations

from struct import Struct
from typing import Final

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

# Frame types (RFC 9113, section 6) and flags.
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
END_STREAM = ACK = 0x1
END_HEADERS = 0x4
PADDED = 0x8
WITH_PRIORITY = 0x20

# Error codes (section 7).
NO_ERROR = 0x0
PROTOCOL_ERROR = 0x1
FLOW_CONTROL_ERROR = 0x3
STREAM_CLOSED = 0x5
FRAME_SIZE_ERROR = 0x6
REFUSED_STREAM = 0x7
CANCEL = 0x8
COMPRESSION_ERROR = 0x9
ENHANCE_YOUR_CALM = 0xB

# Settings (section 6.5.2).
ENABLE_PUSH, MAX_CONCURRENT_STREAMS, INITIAL_WINDOW_SIZE, MAX_FRAME_SIZE, MAX_HEADER_LIST_SIZE = 2, 3, 4, 5, 6

MAX_FRAME: Final = 16_384
"""Bytes in a frame that the server accepts. Every peer may send this size by default."""
MAX_HEADERS: Final = 64 * 1024
"""Bytes of a header block, and of its decoded list. Envoy sends some hundreds."""
STREAM_WINDOW: Final = 1024 * 1024
"""Unread bytes of a stream, in addition to one incomplete message."""
CONNECTION_WINDOW: Final = 16 * 1024 * 1024
"""Bytes in flight on a connection. The window is refilled when bytes arrive, so that an unread stream does not block
others."""
MAX_IDLE_FRAMES: Final = 10_000
"""Consecutive frames that advance no stream (PING, SETTINGS, PRIORITY, empty DATA...)."""

FEW_IDLE_FRAMES: Final = 10
"""Such frames that may arrive at once without counting as a flood."""

LARGEST_WINDOW = 2**31 - 1
DEFAULT_WINDOW = 65_535
LAST_STREAM = 2**31 - 1

FRAME = Struct(">HBBBI")  # upper 16 bits of the length, lower 8 bits, type, flags, stream
PREFIX = Struct(">BI")  # compressed flag, length
U32 = Struct(">I")
SETTING = Struct(">HI")

_PRIORITY_SIZE = 5
"""Bytes."""

DRAINING = b"draining"
"""The payload of the only PING that the server sends."""


class ConnectionFault(Exception):
    """The peer violated a rule of the connection: the connection ends."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.text = text


class StreamFault(Exception):
    """The peer violated a rule of a stream: the stream is reset."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


def _frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return FRAME.pack(len(payload) >> 8, len(payload) & 0xFF, kind, flags, stream) + payload


def literal(name: bytes, value: bytes) -> bytes:
    """An encoded header field without indexing and without Huffman coding (RFC 7541, section 6.2.2)."""
    return b"\x00" + _string(name) + _string(value)


def _string(text: bytes) -> bytes:
    size = len(text)
    if size < 0x7F:
        return bytes((size,)) + text
    rest, size = bytearray(b"\x7f"), size - 0x7F
    while size >= 0x80:
        rest.append(size & 0x7F | 0x80)
        size >>= 7
    rest.append(size)
    return bytes(rest) + text


_STATUS_200 = b"\x88"  # entry 8 of the static table
_CONTENT_TYPE = literal(b"content-type", b"application/grpc")
RESPONSE_HEADERS = _STATUS_200 + _CONTENT_TYPE
RESPONSE_HEAD = FRAME.pack(len(RESPONSE_HEADERS) >> 8, len(RESPONSE_HEADERS) & 0xFF, HEADERS, END_HEADERS, 0)[:5]
OK_TRAILERS = literal(b"grpc-status", b"0")


def unpadded(payload: bytes) -> bytes:
    if not payload or payload[0] >= len(payload):
        raise ConnectionFault(PROTOCOL_ERROR, "more padding than payload")
    return payload[1 : len(payload) - payload[0]]


def header_block_of(flags: int, payload: bytes) -> bytes:
    """The payload of HEADERS without padding and without the priority of the stream, which no longer means anything."""
    if flags & PADDED:
        payload = unpadded(payload)
    if not flags & WITH_PRIORITY:
        return payload
    if len(payload) < _PRIORITY_SIZE:
        raise ConnectionFault(FRAME_SIZE_ERROR, "HEADERS are too short for their priority")
    return payload[_PRIORITY_SIZE:]
