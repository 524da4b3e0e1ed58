"""The interface between gRPC services and transports: methods as coroutines over message bytes.

The transports are `http2.transport` and `grpcio_transport`. No type of a transport's library is part of this interface.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol, TypeAlias


class Status(IntEnum):
    """The gRPC status codes that this package uses."""

    OK = 0
    CANCELLED = 1
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    RESOURCE_EXHAUSTED = 8
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14


class CallRefused(Exception):
    """Raised by a method to end its call with this status. The peer receives `details`."""

    def __init__(self, status: Status, details: str) -> None:
        super().__init__(details)
        self.status = status
        self.details = details


class PeerGone(Exception):
    """Raised by `RpcCall.write` if the peer has reset the stream."""


Message: TypeAlias = bytes | tuple[bytes | bytearray, ...]
"""A message, or the parts of a long one in their order. A transport does not join the parts, because a copy of nine
megabytes delays the event loop by milliseconds: the reader joins what it needs, which is often only the body."""


def whole(message: Message) -> bytes:
    """The bytes of a message; its parts are joined."""
    return message if isinstance(message, bytes) else b"".join(message)


def size_of(message: Message) -> int:
    """The number of bytes of a message."""
    return len(message) if isinstance(message, bytes) else sum(map(len, message))


class RpcCall(Protocol):
    """One stream, as its method sees it. A method that waits for something else is cancelled when the peer
    disconnects."""

    @property
    def metadata(self) -> Mapping[str, str]:
        """gRPC metadata with lower-case keys, without binary values (keys that end in -bin)."""
        ...

    @property
    def local(self) -> str | None:
        """The address at which the peer has reached this worker, as Envoy writes it: `/path` or `ip:port`. None if the
        transport does not know it."""
        ...

    @property
    def cut(self) -> bool:
        """Whether the peer has reset the stream, as far as the transport can distinguish this from a proper end."""
        ...

    async def read(self) -> Message | None:
        """The next message, or None after the last one."""
        ...

    async def write(self, message: bytes) -> None:
        """Sends a message. Waits while flow control permits no more. Raises PeerGone."""
        ...


@dataclass(frozen=True, slots=True)
class Unary:
    run: Callable[[bytes], Awaitable[bytes]]


@dataclass(frozen=True, slots=True)
class Streaming:
    run: Callable[[RpcCall], Awaitable[None]]


Methods: TypeAlias = Mapping[str, Unary | Streaming]
"""By path: `/package.Service/Method`."""


class RpcService(Protocol):
    @property
    def methods(self) -> Methods: ...


MAX_MESSAGE = 64 * 1024 * 1024
"""Bytes. A buffered body is one message. Envoy's own body limit applies first and must be lower."""

MAX_STREAMS = 10_000
"""Open streams on one connection. A stream lives as long as its request. Beyond this number Envoy opens another
connection."""
