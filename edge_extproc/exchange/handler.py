"""The interface between the gRPC server and an exchange: one handler for each stream of Envoy."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Literal, Protocol, TypeAlias

from .commands import Command
from .events import Event

Closing: TypeAlias = Literal[
    "done",  # Envoy ended the stream; the exchange knows whether it was complete
    "cancelled",  # Envoy reset it, which may follow a normal end
    "broken",  # Envoy ended it because the provider's connection broke
    "error",  # a PeerError or a bug: the server stopped it
    "stopping",  # the worker stops, and its grace period is over
]


MoreTime: TypeAlias = Callable[[float], Awaitable[None]]
"""Extends Envoy's time limit for the answer to the current message, in seconds from now. Once for each message."""


async def no_more_time(seconds: float) -> None:
    """Does nothing: for a stream without a time limit."""
    del seconds


Interrupt: TypeAlias = Callable[[Command], Awaitable[None]]
"""Sends a command now, although no message waits for one: an ImmediateResponse. Envoy resets the request to the
provider."""


async def no_interrupt(command: Command) -> None:
    """Does nothing: for a stream that cannot be interrupted."""
    del command


class Handler(Protocol):
    """Handles one stream. Calls come one after the other. `before_close` and then `closed` are called once and
    last, however the stream ended."""

    more_time: MoreTime
    """Set by the server before the first message."""
    interrupt: Interrupt
    """The same."""

    @property
    def unfinished(self) -> str | None:
        """The id of an exchange whose response from a provider has begun and has not ended. If the stream ends now, it
        matters why."""
        ...

    async def handle(self, event: Event) -> Command:
        """The command for an event. May be cancelled while it waits, when a caller disconnects."""
        ...

    async def before_close(self) -> None:
        """Does work that the end needs and the event loop must not do. May be cancelled; left out when the worker
        stops."""
        ...

    def closed(self, why: Closing) -> None:
        """Ends the exchange. Never waits and never raises."""
        ...
