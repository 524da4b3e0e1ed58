"""A codec for streamed JSON arrays of objects: bytes in any portions to frames, and frames to bytes.

It knows brackets, strings and escapes, but not the meaning of an object; its reader checks that an object is valid
JSON. Every byte is in exactly one frame's `raw`, so forwarding all frames forwards the stream. Bytes between two
objects belong to the second one. The end of the array is a frame of its own, with empty `data`.
"""

from __future__ import annotations

import re
from enum import Enum, auto

from ..errors import UpstreamError
from .frame import Frame

# The same limit as for server-sent events: an image or audio is one object of some megabytes of base64.
MAX_FRAME = 16 * 1024 * 1024

_STRUCTURE = re.compile(rb'["{}\[\]]')
_IN_STRING = re.compile(rb'["\\]')
_NOT_SPACE = re.compile(rb"[^ \t\r\n]")


class _At(Enum):
    """The state between objects: what may come next."""

    BEGIN = auto()
    FIRST = auto()
    COMMA = auto()
    OBJECT = auto()
    END = auto()


# The next state for each byte between objects. Any other byte is an error.
_NEXT: dict[tuple[_At, bytes], _At] = {
    (_At.BEGIN, b"["): _At.FIRST,
    (_At.FIRST, b"]"): _At.END,
    (_At.COMMA, b","): _At.OBJECT,
    (_At.COMMA, b"]"): _At.END,
}
_MAY_BEGIN_OBJECT = frozenset({_At.FIRST, _At.OBJECT})


class JsonArrayDecoder:
    """Decodes one stream. The frames do not depend on the portions of the input. Each byte is inspected once."""

    __slots__ = ("_at", "_begin", "_depth", "_escaped", "_in_string", "_limit", "_pending", "_scanned")

    def __init__(self, limit: int = MAX_FRAME) -> None:
        self._limit = limit
        self._pending = bytearray()
        self._scanned = 0
        self._at = _At.BEGIN
        self._begin = 0
        """The position in `_pending` of the current object."""
        self._depth = 0
        """Open brackets within the object; 0 is between objects."""
        self._in_string = False
        self._escaped = False
        """Whether the next byte is escaped."""

    @property
    def is_whole(self) -> bool:
        """Whether the array has ended."""
        return self._at is _At.END

    def feed(self, data: bytes) -> list[Frame]:
        """The frames that `data` completes. Raises UpstreamError if the bytes are not an array of objects, or an object
        is over the limit."""
        self._pending += data
        frames: list[Frame] = []
        while self._scanned < len(self._pending):
            frame = self._inside() if self._depth else self._between()
            if frame is not None:
                frames.append(frame)
        if len(self._pending) > self._limit:
            raise self._too_long()
        return frames

    def close(self) -> list[Frame]:
        """The bytes after the last frame, as a frame without `data`: white space, or the incomplete beginning of an
        object."""
        rest = bytes(self._pending)
        self._pending.clear()
        self._scanned = self._begin = self._depth = 0
        return [Frame(b"", rest)] if rest else []

    def _between(self) -> Frame | None:
        match = _NOT_SPACE.search(self._pending, self._scanned)
        if match is None:
            self._scanned = len(self._pending)
            return None
        self._scanned = match.end()
        byte = match[0]
        if byte == b"{" and self._at in _MAY_BEGIN_OBJECT:
            self._begin = match.start()
            self._depth = 1
            return None
        following = _NEXT.get((self._at, byte))
        if following is None:
            raise UpstreamError("the provider's stream is not a JSON array of objects")
        self._at = following
        return self._frame(self._scanned) if following is _At.END else None

    def _inside(self) -> Frame | None:
        if self._escaped:
            self._escaped = False
            self._scanned += 1
            return None
        match = (_IN_STRING if self._in_string else _STRUCTURE).search(self._pending, self._scanned)
        if match is None:
            self._scanned = len(self._pending)
            return None
        self._scanned = match.end()
        match match[0]:
            case b"\\":
                self._escaped = True
            case b'"':
                self._in_string = not self._in_string
            case b"{" | b"[":
                self._depth += 1
            case _:
                self._depth -= 1
                if self._depth == 0:
                    self._at = _At.COMMA
                    return self._frame(self._begin)
        return None

    def _frame(self, begin: int) -> Frame:
        """Stores that everything was scanned, with the current object at `begin`."""
        end = self._scanned
        if end > self._limit:
            raise self._too_long()
        raw = bytes(self._pending[:end])
        del self._pending[:end]
        self._scanned = self._begin = 0
        return Frame(raw[begin:], raw)

    def _too_long(self) -> UpstreamError:
        return UpstreamError(f"the provider sent one object of more than {self._limit} bytes")


def encode(data: bytes, *, first: bool) -> bytes:
    """An encoded object of an array, with the bytes before it."""
    return (b"[" if first else b",\n") + data


def end(*, empty: bool) -> bytes:
    """The end of an array after some objects, or none."""
    return b"[]" if empty else b"]"
