"""How late an event loop wakes those who wait."""

from __future__ import annotations

import asyncio
import contextlib
import time

from edge_extproc.server.loop_lag import watch_loop


async def test_a_loop_that_was_held_up_is_told_by_how_much() -> None:
    told: list[float] = []
    once = asyncio.Event()

    def lagged(seconds: float) -> None:
        told.append(seconds)
        once.set()

    watching = asyncio.create_task(watch_loop(lagged, 0.01))
    await asyncio.sleep(0)
    time.sleep(0.1)  # noqa: ASYNC251 - this is what holds it up
    await once.wait()
    watching.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await watching

    assert told[0] >= 0.08
