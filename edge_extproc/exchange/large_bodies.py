"""Runs work on large bodies, so that other exchanges are not delayed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeVar

T = TypeVar("T")

# The least size in bytes of a large body, and of a body whose objects are counted. Reading and translating a message
# takes some 10 us, so a smaller body holds the event loop for a few milliseconds at most.
LARGE, _SMALL = 256 * 1024, 16 * 1024
_MANY_OBJECTS = 256

LARGE_SECONDS = 30.0
"""How long Envoy waits while a large body waits for a worker thread."""


def is_large(raw: bytes) -> bool:
    return len(raw) >= _SMALL and (len(raw) >= LARGE or raw.count(b"{") >= _MANY_OBJECTS)


class WorkRunner(Protocol):
    async def run(self, function: Callable[..., T], *arguments: object) -> T:
        """The function's result. Raises PolicyUnavailable if too many calls wait already, and whatever the function
        raises."""
        ...

    async def run_in_turn(self, function: Callable[..., T], *arguments: object) -> T:
        """The same for the end of an exchange, which must not be refused: such calls run one at a time, and each waits
        for the ones before it."""
        ...


class InlineRunner:
    """Runs the function at once, for a process without other exchanges."""

    async def run(self, function: Callable[..., T], *arguments: object) -> T:
        return function(*arguments)

    async def run_in_turn(self, function: Callable[..., T], *arguments: object) -> T:
        return function(*arguments)


AT_ONCE = InlineRunner()


async def continue_at_once() -> None:
    """Gives way to nobody, for a process without other exchanges."""
