"""One thread for work on large bodies, so that the event loop continues with other requests.

Parsing and translating a body is pure Python, which holds the interpreter lock. A thread releases the lock every half
millisecond (worker/main.py sets this). Two such threads would take twice as many turns from the event loop, so there is
only one, and its queue is bounded.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

from ..errors import PolicyUnavailable

T = TypeVar("T")

# The number of waiting steps of large exchanges. Each takes up to a second, and Envoy waits for half a minute.
MOST_WAITING = 16


class ThreadRunner:
    def __init__(self, most_waiting: int = MOST_WAITING) -> None:
        self._most = most_waiting
        self._waiting = 0
        self._turn = asyncio.Lock()
        self._thread = ThreadPoolExecutor(1, "large-bodies")

    async def run(self, function: Callable[..., T], *arguments: object) -> T:
        if self._waiting >= self._most:
            raise PolicyUnavailable("the gateway is busy with other large requests; try again", retry_after=1.0)
        self._waiting += 1
        try:
            # A step that is cancelled while it waits never starts.
            return await asyncio.get_running_loop().run_in_executor(self._thread, partial(function, *arguments))
        finally:
            self._waiting -= 1

    async def run_in_turn(self, function: Callable[..., T], *arguments: object) -> T:
        # One at a time, so that the ends of many exchanges do not hold the thread: between two of them, it does what
        # other exchanges wait for.
        async with self._turn:
            return await asyncio.get_running_loop().run_in_executor(self._thread, partial(function, *arguments))
