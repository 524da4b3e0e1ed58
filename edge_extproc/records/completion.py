"""Completes a step that writes several records, although the task that began it is cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


async def to_end(step: Coroutine[Any, Any, T]) -> T:
    """The result of a step. The first cancellation takes effect after the step; a second one stops the step too."""
    task = asyncio.ensure_future(step)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await task
        raise
