"""What a worker serves, whatever carries it: gRPC methods as plain coroutines over message bytes.

The seam between the services of this package and a transport (`http2_transport`, `grpcio_transport`). No type of a
transport's library crosses it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol, TypeAlias


class Status(IntEnum):
    """Those of gRPC's status codes that we answer with."""

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
    """Raised by a method: the call ends with this status and these details, which the peer reads."""

    def __init__(self, status: Status, details: str) -> None:
        super().__init__(details)
        self.status = status
        self.details = details


class PeerGone(Exception):
    """Raised by `RpcCall.write`: nobody reads any more."""


class RpcCall(Protocol):
    """One stream, seen by its method. A method that waits for something else is cancelled when the peer leaves."""

    @property
    def metadata(self) -> Mapping[str, str]:
        """Keys in lower case. What is not text (a key that ends in -bin) is left out."""
        ...

    @property
    def cut(self) -> bool:
        """Whether the peer reset it, as far as the transport can tell that from a proper end."""
        ...

    async def read(self) -> bytes | None:
        """The next message; None after the last one."""
        ...

    async def write(self, message: bytes) -> None:
        """Waits while the peer takes nothing more. Raises PeerGone."""
        ...


@dataclass(frozen=True, slots=True)
class Unary:
    run: Callable[[bytes], Awaitable[bytes]]


@dataclass(frozen=True, slots=True)
class Streaming:
    run: Callable[[RpcCall], Awaitable[None]]


Methods: TypeAlias = Mapping[str, Unary | Streaming]
"""By path: `/package.Service/Method`."""


class Service(Protocol):
    @property
    def methods(self) -> Methods: ...


MAX_MESSAGE = 64 * 1024 * 1024
"""Bytes. A buffered body is one message; Envoy's own body limit is the one to set, and it must lie below this."""

MAX_STREAMS = 10_000
"""Open at once on one connection. A stream lives as long as its request, and every SSE in flight is one. Envoy opens
another connection beyond it."""
