"""One HTTP/2 stream: its messages and its flow control."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

from ..rpc import MAX_MESSAGE, CallRefused, Status
from .frames import MAX_FRAME, PREFIX, STREAM_WINDOW


class Http2Stream:
    """One call. A subclass of the transport overrides the three notification methods at the end."""

    __slots__ = (
        "_out",
        "_partial",
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
        self.messages: deque[bytes] = deque()
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
        self._partial = bytearray()
        self._out = bytearray()
        self._trailers: bytes | None = None

    @property
    def blocked(self) -> bool:
        """Whether flow control holds back queued bytes."""
        return bool(self._out)

    def assemble(self, data: bytes) -> None:
        """Adds the payload of a DATA frame. Raises CallRefused."""
        if not self._partial and len(data) >= PREFIX.size:
            compressed, size = PREFIX.unpack_from(data)
            if not compressed and len(data) == size + PREFIX.size <= MAX_FRAME:
                self.messages.append(data[PREFIX.size :])
                self.unread += size
                return
        partial = self._partial
        partial += data
        at = 0
        while len(partial) - at >= PREFIX.size:
            compressed, size = PREFIX.unpack_from(partial, at)
            if compressed:
                raise CallRefused(Status.UNIMPLEMENTED, "messages must not be compressed")
            if size > MAX_MESSAGE:
                raise CallRefused(Status.RESOURCE_EXHAUSTED, f"a message of {size} bytes; {MAX_MESSAGE} at most")
            end = at + PREFIX.size + size
            if len(partial) < end:
                break
            self.messages.append(bytes(memoryview(partial)[at + PREFIX.size : end]))
            self.unread += size
            at = end
        if at:
            del partial[:at]

    @property
    def broken_off(self) -> bool:
        """Whether the last message is incomplete."""
        return bool(self._partial)

    def readable(self) -> None:
        """Called when there are messages, or their end."""

    def left(self) -> None:
        """Called when the peer has left."""

    def writable(self) -> None:
        """Called when flow control holds back nothing more."""
