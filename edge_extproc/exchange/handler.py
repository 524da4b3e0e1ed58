"""What a stream of Envoy's talks to: the seam between the IO shell and an exchange."""

from __future__ import annotations

from typing import Literal, Protocol, TypeAlias

from .commands import Command
from .events import Event

Closing: TypeAlias = Literal[
    "done",  # Envoy ended the stream; whether the exchange was over, the exchange knows
    "cancelled",  # Envoy reset it; it may do so after a proper end too
    "error",  # a PeerError or a bug: the shell stopped it
    "stopping",  # the worker is stopped and its grace is over
]


class Handler(Protocol):
    """One stream. Calls come one after the other, `closed` once and last, whichever way the stream ended."""

    async def handle(self, event: Event) -> Command:
        """May be cancelled while it waits: a caller that leaves."""
        ...

    def closed(self, why: Closing) -> None:
        """Never waits and never raises."""
        ...
