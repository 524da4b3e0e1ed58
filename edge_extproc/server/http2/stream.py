"""One HTTP/2 stream: its messages and its flow control."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

from ..rpc import MAX_MESSAGE, CallRefused, Message, Status, size_of, whole
from .frames import PREFIX, STREAM_WINDOW

_SMALL_PART = 1_024
# Bytes of a message from which on it stays in parts.
_LONG = 65_536


class Http2Stream:
    """One call. A subclass of the transport overrides the three notification methods at the end."""

    __slots__ = (
        "_missing",
        "_out",
        "_parts",
        "_prefix",
        "_trailers",
        "ended",
        "finished",
        "gone",
        "headers_sent",
        "id",
        "messages",
        "metadata",
        "path",
        "receive_window",
        "send_window",
        "timeout",
        "unread",
    )

    def __init__(self, id: int, path: str, metadata: Mapping[str, str], send_window: int) -> None:
        self.id = id
        self.path = path
        self.metadata = metadata
        self.timeout: float | None = None
        """Seconds until the peer's deadline, from its grpc-timeout; None without one."""
        self.messages: deque[Message] = deque()
        """Complete messages that have not been read."""
        self.unread = 0
        self.receive_window = STREAM_WINDOW
        self.send_window = send_window
        self.ended = False
        """Whether the peer has ended its side of the stream."""
        self.gone = False
        """Whether the peer has reset the stream, or the connection is lost."""
        self.headers_sent = False
        self.finished = False
        """Whether the server sends nothing more than the bytes that are already queued."""
        self._prefix = b""
        """The first bytes of a message, as long as its prefix is incomplete."""
        self._parts: list[bytes | bytearray] = []
        """What there is of a message whose prefix is complete."""
        self._missing = 0
        """How many bytes that message lacks."""
        self._out = bytearray()
        self._trailers: bytes | None = None

    @property
    def blocked(self) -> bool:
        """Whether flow control holds back queued bytes."""
        return bool(self._out)

    def assemble(self, data: bytes) -> None:
        """Adds the payload of a DATA frame. Raises CallRefused."""
        if self._missing:
            data = self._continue(data)
        elif self._prefix:
            data, self._prefix = self._prefix + data, b""
        at = 0
        while len(data) - at >= PREFIX.size:
            compressed, size = PREFIX.unpack_from(data, at)
            if compressed:
                raise CallRefused(Status.UNIMPLEMENTED, "messages must not be compressed")
            if size > MAX_MESSAGE:
                raise CallRefused(Status.RESOURCE_EXHAUSTED, f"a message of {size} bytes; {MAX_MESSAGE} at most")
            begin = at + PREFIX.size
            at = begin + size
            if len(data) < at:
                self._parts, self._missing = [data[begin:]], at - len(data)
                return
            self.messages.append(data[begin:at])
            self.unread += size
        self._prefix = data[at:]

    def _continue(self, data: bytes) -> bytes:
        """Adds to a message of which a part is there, and returns what follows it. A long message stays in parts."""
        missing = self._missing
        if len(data) < missing:
            self._missing = missing - len(data)
            self._keep(data)
            return b""
        parts = (*self._parts, data[:missing])
        self._parts, self._missing = [], 0
        size = size_of(parts)
        self.messages.append(parts if size >= _LONG else whole(parts))
        self.unread += size
        return data[missing:]

    def _keep(self, part: bytes) -> None:
        """Small parts are joined: many of one byte would take much memory."""
        last = self._parts[-1]
        if len(part) >= _SMALL_PART:
            self._parts.append(part)
        elif isinstance(last, bytearray):
            last += part
        else:
            self._parts.append(bytearray(part))

    @property
    def broken_off(self) -> bool:
        """Whether the last message is incomplete."""
        return bool(self._prefix or self._missing)

    def readable(self) -> None:
        """Called when there are messages, or their end."""

    def left(self) -> None:
        """Called when the peer has left."""

    def writable(self) -> None:
        """Called when flow control holds back nothing more."""
