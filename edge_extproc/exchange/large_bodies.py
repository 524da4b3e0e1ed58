"""Where work on large bodies is done, so that other exchanges go on meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeVar

T = TypeVar("T")

# Bytes from which on a body is large, and from which on its objects are counted. To read and translate a message takes
# some 10 us, so that what is not large holds the event loop for some milliseconds at most.
LARGE, _SMALL = 256 * 1024, 16 * 1024
_MANY_OBJECTS = 256


def is_large(raw: bytes) -> bool:
    return len(raw) >= _SMALL and (len(raw) >= LARGE or raw.count(b"{") >= _MANY_OBJECTS)


class WorkRunner(Protocol):
    async def run(self, function: Callable[..., T], *arguments: object) -> T:
        """Raises PolicyUnavailable where too many wait already, and whatever the function raises."""
        ...


class InlineRunner:
    """Where nobody else waits."""

    async def run(self, function: Callable[..., T], *arguments: object) -> T:
        return function(*arguments)


AT_ONCE = InlineRunner()
