"""Server-sent events: bytes cut anywhere to frames, and frames to bytes.

It knows lines and fields, nothing of what an event means. Every byte that is fed comes out again in exactly one frame's
`raw`, so that a caller who forwards whole frames forwards the stream. A block that holds no event (a comment, an id, a
blank line too many) is a frame too, with empty `data` and `event`: it reaches the caller as soon as it is whole.
"""

from __future__ import annotations

import re

from ..errors import UpstreamError
from .frame import Frame

# An image or a sound comes as one event of some megabytes of base64; nothing that a model says is longer.
MAX_FRAME = 16 * 1024 * 1024

_BOM = b"\xef\xbb\xbf"
# A line ends at CR, LF or CRLF and nowhere else; a CR before a LF is never an end of its own.
_LINE_END = re.compile(rb"\r\n|\n|\r")
_BLANK_LINE = re.compile(rb"(?:\r\n|\n|\r(?!\n))(?:\r\n|\n|\r(?!\n))")
# "\r\n\r" is the longest beginning of a blank line that can stand at the end of what has come so far.
_LOOK_BACK = 3


class SseDecoder:
    """Decodes one stream. The frames are the same however the bytes were cut.

    A frame that ends in CR waits for one more byte, which may be the LF of its CRLF.
    """

    __slots__ = ("_at_start", "_has_cr", "_limit", "_pending", "_scanned")

    def __init__(self, limit: int = MAX_FRAME) -> None:
        self._limit = limit
        self._pending = bytearray()
        self._scanned = 0
        """How far `_pending` holds no end of a frame."""
        self._has_cr = False
        """Hardly any stream holds a CR; where none came yet, a blank line is two LFs and quick to find."""
        self._at_start = True

    def feed(self, data: bytes) -> list[Frame]:
        """The frames that `data` completes. Raises UpstreamError where a frame grows over the limit."""
        if not self._has_cr and b"\r" in data:
            self._has_cr = True
        pending = self._pending
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
        """The last frame, where the stream ended without a blank line: some servers leave it out."""
        rest = bytes(self._pending)
        self._pending.clear()
        self._scanned = 0
        return [self._frame(rest)] if rest else []

    def _end_of_frame(self, text: bytes | bytearray, begin: int, scan: int) -> int:
        """Where the frame that starts at `begin` ends, its blank line included; -1 if that has not come yet."""
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
        if not data:  # the standard: what has no data is no event
            return Frame(b"", raw)
        return Frame(b"\n".join(data), raw, event.decode("utf-8", "replace"))

    def _too_long(self) -> UpstreamError:
        return UpstreamError(f"the provider sent one event of more than {self._limit} bytes")


def encode(data: bytes, event: str = "") -> bytes:
    """One event. Line ends within `data` become lines of their own, which the decoder joins by LF again."""
    head = b"event: " + event.encode() + b"\n" if event else b""
    if b"\n" in data or b"\r" in data:
        data = _LINE_END.sub(b"\ndata: ", data)
    return head + b"data: " + data + b"\n\n"


def comment(text: bytes = b"") -> bytes:
    """A line that every client skips: it keeps a quiet connection open."""
    return b": " + text + b"\n\n"


_FIELDS = (b"data:", b"event:", b"id:", b"retry:", b":")
_LOOKED_AT = 1_024


def is_stream(body: bytes | bytearray) -> bool | None:
    """Whether a body is a stream of events by its first bytes, whatever its content type says; None where more of it
    must come to tell."""
    begin = bytes(body[:_LOOKED_AT]).removeprefix(b"\xef\xbb\xbf").lstrip(b"\r\n \t")
    if begin.startswith(_FIELDS):
        return True
    return None if any(field.startswith(begin) for field in _FIELDS) else False
