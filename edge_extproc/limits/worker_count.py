"""Counts the workers that share the limits, for the share of each worker while the store is down.

Each worker writes its name to the store every few seconds, and gets the number of names there. A name expires by the
store's clock unless it is written again. No worker's clock is compared with another clock.

All shares together must not exceed what is left of a limit:

- A larger number applies at once. A smaller one applies after no larger one was read for `hold` seconds, so that a
  store that has lost its names, or a late worker, does not enlarge a share.
- A worker has no share until its name was in the store for `settled` seconds. By then each other worker has read it.
- A worker that could not write its name for nearly `hold` seconds may be forgotten by the others, so it begins again.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass

from .base import LimitStore, LimitStoreDown


@dataclass(frozen=True, slots=True)
class CountTiming:
    """Durations in seconds."""

    interval: float = 5.0
    """Between two writes of a name."""
    jitter: float = 0.2
    """The part by which an interval may be longer or shorter, so that the workers do not write together."""
    settled: float = 15.0
    """More than two of the longest intervals and the operations of the store: a name that the store loses is there
    again within one interval, and each other worker reads it within another one."""
    expires: float = 20.0
    """A name that is not written again for so long is not counted."""
    hold: float = 60.0


class WorkerCount:
    """What one worker knows of the number of workers."""

    def __init__(self, timing: CountTiming = CountTiming(), clock: Callable[[], float] = time.monotonic) -> None:
        self._timing = timing
        self._clock = clock
        self._name = secrets.token_hex(8)
        self._counts: list[tuple[float, int]] = []
        """The numbers of the last `hold` seconds, each with its time."""
        self._since = 0.0
        """Since when the other workers know of this one, or soon will."""

    @property
    def counted(self) -> int:
        """The last number. 0 before the first one."""
        return self._counts[-1][1] if self._counts else 0

    @property
    def shares(self) -> int | None:
        """The number by which a limit may be divided. None: this worker has no share yet."""
        if not self._counts or self._counts[-1][0] - self._since < self._timing.settled:
            return None
        return max(count for _, count in self._counts)

    def record(self, count: int) -> None:
        """Takes a number that the store has returned with a write of this worker's name."""
        now, timing = self._clock(), self._timing
        if not self._counts or now - self._counts[-1][0] > timing.hold - timing.settled:
            # What was known before applies for `hold` seconds more.
            largest = max((before for _, before in self._counts), default=0)
            self._since, self._counts = now, [(now, largest)] if largest > count else []
        self._counts = [each for each in self._counts if each[0] > now - timing.hold]
        self._counts.append((now, count))

    async def run(self, store: LimitStore) -> None:
        """Writes this worker's name until the task is cancelled. A failure is not reported: `reserve` meets it too."""
        timing = self._timing
        while True:
            with contextlib.suppress(LimitStoreDown):
                self.record(await store.join(self._name, round(timing.expires * 1000)))
            await asyncio.sleep(timing.interval * random.uniform(1 - timing.jitter, 1 + timing.jitter))  # noqa: S311

    async def leave(self, store: LimitStore) -> None:
        """Deletes this worker's name. Raises LimitStoreDown."""
        if self._counts:
            await store.leave(self._name)
