"""A codec for server-sent events: bytes in any portions to frames, and frames to bytes.

It knows lines and fields, and nothing of the meaning of an event. Every byte is in exactly one frame's `raw`, so
forwarding all frames forwards the stream. A block without an event (a comment, an id, an extra blank line) is also a
frame, with empty `data` and `event`, so that it reaches the caller as soon as it is complete.
"""

from __future__ import annotations

import re

from ..errors import UpstreamError
from .frame import Frame

# Bytes. An image or audio is one event of some megabytes of base64; no other event is longer.
MAX_FRAME = 16 * 1024 * 1024

_BOM = b"\xef\xbb\xbf"
# A line ends at CR, LF or CRLF only. A CR before a LF is not an end of its own.
_LINE_END = re.compile(rb"\r\n|\n|\r")
_BLANK_LINE = re.compile(rb"(?:\r\n|\n|\r(?!\n))(?:\r\n|\n|\r(?!\n))")
# "\r\n\r" is the longest incomplete blank line that can be at the end of the pending bytes.
_LOOK_BACK = 3


class SseDecoder:
    """Decodes one stream. The frames do not depend on the portions of the input.

    A frame that ends in CR waits for one more byte, which may be the LF of its CRLF.
    """

    __slots__ = ("_at_start", "_has_cr", "_limit", "_pending", "_scanned")

    def __init__(self, limit: int = MAX_FRAME) -> None:
        self._limit = limit
        self._pending = bytearray()
        self._scanned = 0
        """The position in `_pending` up to which there is no end of a frame."""
        self._has_cr = False
        """Whether the stream has had a CR. Most have none; then a blank line is two LFs, which is fast to find."""
        self._at_start = True

    def feed(self, data: bytes) -> list[Frame]:
        """The frames that `data` completes. Raises UpstreamError if a frame is over the limit."""
        if not self._has_cr and b"\r" in data:
            self._has_cr = True
        pending = self._pending
        # Most portions are one event of one line of data.
        if (
            not pending
            and data.startswith(b"data: ")
            and data.find(b"\n", 6) == len(data) - 2
            and data.endswith(b"\n\n")
            and not self._has_cr
            and len(data) <= self._limit
        ):
            self._at_start = False
            self._scanned = 0
            return [Frame(data[6:-2], data)]
        text: bytes | bytearray = data
        if pending:
            pending += data
            text = pending
        frames: list[Frame] = []
        begin, scan = 0, self._scanned
        while (end := self._end_of_frame(text, begin, scan)) >= 0:
            if end - begin > self._limit:
                raise self._too_long()
            frames.append(self._frame(bytes(text[begin:end])))
            begin = scan = end
        if text is pending:
            del pending[:begin]
        else:
            pending += data[begin:]
        if len(pending) > self._limit:
            raise self._too_long()
        self._scanned = max(0, len(pending) - _LOOK_BACK)
        return frames

    def close(self) -> list[Frame]:
        """The last frame, if the stream ended without a blank line, which some servers omit."""
        rest = bytes(self._pending)
        self._pending.clear()
        self._scanned = 0
        return [self._frame(rest)] if rest else []

    def _end_of_frame(self, text: bytes | bytearray, begin: int, scan: int) -> int:
        """The end of the frame that starts at `begin`, with its blank line; -1 if it is incomplete."""
        if begin == len(text):
            return -1
        if text[begin] == 0x0A:
            return begin + 1
        if not self._has_cr:
            at = text.find(b"\n\n", scan)
            return at + 2 if at >= 0 else -1
        if text[begin] == 0x0D:
            end = begin + 2 if text[begin + 1 : begin + 2] == b"\n" else begin + 1
        else:
            match = _BLANK_LINE.search(text, scan)
            if match is None:
                return -1
            end = match.end()
        cut_in_two = end == len(text) and text[end - 1] == 0x0D
        return -1 if cut_in_two else end

    def _frame(self, raw: bytes) -> Frame:
        block = raw
        if self._at_start:
            self._at_start = False
            block = raw.removeprefix(_BOM)
        if not self._has_cr:
            if block.startswith(b"data: ") and block.find(b"\n", 6) == len(block) - 2:
                return Frame(block[6:-2], raw)
            lines = block.split(b"\n")
        else:
            lines = _LINE_END.split(block)
        data: list[bytes] = []
        event = b""
        for line in lines:
            name, _, value = line.partition(b":")
            if name == b"data":
                data.append(value.removeprefix(b" "))
            elif name == b"event":
                event = value.removeprefix(b" ")
        if not data:  # by the standard, a block without data is not an event
            return Frame(b"", raw)
        return Frame(b"\n".join(data), raw, event.decode("utf-8", "replace"))

    def _too_long(self) -> UpstreamError:
        return UpstreamError(f"the provider sent one event of more than {self._limit} bytes")


def encode(data: bytes, event: str = "") -> bytes:
    """An encoded event. Line ends in `data` become separate data lines, which the decoder joins with LF."""
    head = b"event: " + event.encode() + b"\n" if event else b""
    if b"\n" in data or b"\r" in data:
        data = _LINE_END.sub(b"\ndata: ", data)
    return head + b"data: " + data + b"\n\n"


def comment(text: bytes = b"") -> bytes:
    """An encoded comment, which clients ignore. It keeps a quiet connection open."""
    return b": " + text + b"\n\n"


_FIELDS = (b"data:", b"event:", b"id:", b"retry:", b":")
_BEGINNINGS = frozenset(field[:n] for field in _FIELDS for n in range(len(field)))
_INSPECTED = 1_024


def is_stream(body: bytes | bytearray) -> bool | None:
    """Whether a body is an event stream, by its first bytes, regardless of its content type. None if more bytes are
    needed."""
    begin = bytes(body[:_INSPECTED]).removeprefix(b"\xef\xbb\xbf").lstrip(b"\r\n \t")
    if begin.startswith(_FIELDS):
        return True
    return None if begin in _BEGINNINGS else False
