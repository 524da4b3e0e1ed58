"""The interface between the gRPC server and an exchange: one handler for each stream of Envoy."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Literal, Protocol, TypeAlias

from .commands import Command
from .events import Event

Closing: TypeAlias = Literal[
    "done",  # Envoy ended the stream; whether the exchange was over, the exchange knows
    "cancelled",  # Envoy reset it; it may do so after a proper end too
    "error",  # a PeerError or a bug: the shell stopped it
    "stopping",  # the worker is stopped and its grace is over
]


MoreTime: TypeAlias = Callable[[float], Awaitable[None]]
"""Tells Envoy that the answer to its present message may take so many seconds from now. Once a message."""


async def no_more_time(seconds: float) -> None:
    """Does nothing: for a stream without a time limit."""
    del seconds


class Handler(Protocol):
    """One stream. Calls come one after the other, `closed` once and last, whichever way the stream ended."""

    more_time: MoreTime
    """Set by the shell before the first message."""

    async def handle(self, event: Event) -> Command:
        """May be cancelled while it waits: a caller that leaves."""
        ...

    def closed(self, why: Closing) -> None:
        """Never waits and never raises."""
        ...
