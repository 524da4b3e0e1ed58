"""A streamed JSON array of objects: bytes cut anywhere to frames, and frames to bytes.

It knows brackets, strings and escapes, nothing of what an object means; whether an object is valid JSON is for its
reader to say. Every byte that is fed comes out again in exactly one frame's `raw`, so that a caller who forwards whole
frames forwards the stream: what stands between two objects belongs to the second, and what ends the array is a frame
of its own, with empty `data`.
"""

from __future__ import annotations

import re
from enum import Enum, auto

from ..errors import UpstreamError
from .frame import Frame

# As for server-sent events: an image or a sound comes as one object of some megabytes of base64.
MAX_FRAME = 16 * 1024 * 1024

_STRUCTURE = re.compile(rb'["{}\[\]]')
_IN_STRING = re.compile(rb'["\\]')
_NOT_SPACE = re.compile(rb"[^ \t\r\n]")


class _At(Enum):
    """Between objects: what may come next."""

    BEGIN = auto()
    FIRST = auto()
    COMMA = auto()
    OBJECT = auto()
    END = auto()


# Outside of an object, what each byte leads to; any other byte breaks the array.
_NEXT: dict[tuple[_At, bytes], _At] = {
    (_At.BEGIN, b"["): _At.FIRST,
    (_At.FIRST, b"]"): _At.END,
    (_At.COMMA, b","): _At.OBJECT,
    (_At.COMMA, b"]"): _At.END,
}
_MAY_BEGIN_OBJECT = frozenset({_At.FIRST, _At.OBJECT})


class JsonArrayDecoder:
    """Decodes one stream. The frames are the same however the bytes were cut; each byte is looked at once."""

    __slots__ = ("_at", "_begin", "_depth", "_escaped", "_in_string", "_limit", "_pending", "_scanned")

    def __init__(self, limit: int = MAX_FRAME) -> None:
        self._limit = limit
        self._pending = bytearray()
        self._scanned = 0
        self._at = _At.BEGIN
        self._begin = 0
        """Where in `_pending` the object that is open begins."""
        self._depth = 0
        """Brackets that are open within an object; 0 is between objects."""
        self._in_string = False
        self._escaped = False
        """The next byte, whatever it is, belongs to a string."""

    @property
    def is_whole(self) -> bool:
        """The array has come to its end."""
        return self._at is _At.END

    def feed(self, data: bytes) -> list[Frame]:
        """The frames that `data` completes. Raises UpstreamError where it is no array of objects, or one object grows
        over the limit."""
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
        """What has come since the last frame: white space, or the torn beginning of an object. Neither has `data`."""
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
            raise UpstreamError("the provider's stream is no JSON array of objects")
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
        """All that was scanned, its object beginning at `begin`."""
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
    """One object of an array, with what must stand before it."""
    return (b"[" if first else b",\n") + data


def end(*, empty: bool) -> bytes:
    """What ends an array of which some objects, or none, were written."""
    return b"[]" if empty else b"]"
