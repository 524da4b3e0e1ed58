"""Whether the event loop keeps up: how late it wakes somebody who asked for a moment."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

EVERY = 0.5
"""Seconds between two measurements."""


async def watch_loop(lagged: Callable[[float], None], every: float = EVERY) -> None:
    """Tells how many seconds too late each wake-up came. Runs until it is cancelled."""
    loop = asyncio.get_running_loop()
    while True:
        due = loop.time() + every
        await asyncio.sleep(every)
        lagged(loop.time() - due)
