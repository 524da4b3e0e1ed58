"""Measures the lag of the event loop: how late it wakes a timer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

EVERY = 0.5
"""Seconds between two measurements."""


async def watch_loop(lagged: Callable[[float], None], every: float = EVERY) -> None:
    """Calls `lagged` with the delay of each timer, in seconds. Runs until it is cancelled."""
    loop = asyncio.get_running_loop()
    while True:
        due = loop.time() + every
        await asyncio.sleep(every)
        lagged(loop.time() - due)
