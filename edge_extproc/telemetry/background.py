"""Supervises the long-running tasks of one process.

A task that raises is reported and started again after a pause, so that no exception ends a part of the gateway for
good. What each task does is told to readiness and metrics by `states`. A task that may end is ended by its own return
or by cancelling it.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from . import logs

# Seconds before the first restart, the second, and so on; the last one from then on.
PAUSES = (0.1, 0.5, 1.0, 5.0, 15.0)
# A task that ran this long begins again with the first pause.
_WELL_AFTER = 60.0


@dataclass(slots=True)
class TaskState:
    failures: int = 0
    """Since the process started."""
    error: str | None = None
    """The class of the last exception while the task waits for its next start; its text may quote a caller."""

    @property
    def is_running(self) -> bool:
        return self.error is None


class Background:
    """The tasks of one process, by name. Of several with one name, the state is that of all: failed if one is."""

    def __init__(
        self,
        report: Callable[[BaseException], None] = logs.report,
        pauses: Sequence[float] = PAUSES,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._report = report
        self._pauses = pauses
        self._clock = clock
        self._states: dict[str, TaskState] = {}

    @property
    def states(self) -> Mapping[str, TaskState]:
        return self._states

    def start(
        self, name: str, run: Callable[[], Awaitable[None]], stop: asyncio.Event | None = None
    ) -> asyncio.Task[None]:
        """Runs `run()` until it returns, and anew whenever it raises. Once `stop` is set it is started at most one more
        time, at once: what it does at its end is then done. `name`: one of a few, it is a label of metrics."""
        state = self._states.setdefault(name, TaskState())
        return asyncio.create_task(self._supervise(state, run, stop or asyncio.Event()), name=name)

    async def _supervise(self, state: TaskState, run: Callable[[], Awaitable[None]], stop: asyncio.Event) -> None:
        in_a_row = 0
        while True:
            is_last, began = stop.is_set(), self._clock()
            try:
                await run()
            except Exception as error:  # noqa: BLE001  # a last resort: whatever it is, the task is started again
                self._report(error)
                state.failures += 1
                state.error = type(error).__name__
            else:
                return
            if is_last:
                return
            in_a_row = 1 if self._clock() - began > _WELL_AFTER else in_a_row + 1
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), self._pauses[min(in_a_row, len(self._pauses)) - 1])
            state.error = None


BACKGROUND = Background()
"""Of this process, as the log is."""


class BackgroundMetrics(Collector):
    def __init__(self, background: Background) -> None:
        self._background = background

    def collect(self) -> Iterator[Metric]:
        failures = CounterMetricFamily(
            "edge_task_failures", "Background tasks that failed and were started again.", labels=("task",)
        )
        waiting = GaugeMetricFamily(
            "edge_tasks_failed", "Background tasks that failed and are not running now.", labels=("task",)
        )
        for name, state in list(self._background.states.items()):
            failures.add_metric((name,), state.failures)
            waiting.add_metric((name,), int(not state.is_running))
        yield failures
        yield waiting
