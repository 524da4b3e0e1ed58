"""Supervises the long-running tasks of one process.

A task that raises is reported and restarted after a pause, so that no exception stops a part of the gateway
permanently. Readiness and metrics read the state of each task from `states`. A task ends when its function returns or
when it is cancelled.
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

# Seconds before the first restart, the second, and so on. The last value applies to all later restarts.
PAUSES = (0.1, 0.5, 1.0, 5.0, 15.0)
# Seconds. After a run of this length, the next restart uses the first pause again.
_STABLE_AFTER = 60.0


@dataclass(slots=True)
class TaskState:
    """The state of the tasks with one name."""

    failures: int = 0
    """Since the process started."""
    error: str | None = None
    """The class name of the last exception while the task waits for its next start, else None. The exception's text is
    not kept because it may quote a caller."""

    @property
    def is_running(self) -> bool:
        return self.error is None


class Background:
    """The tasks of one process, by name. Tasks with the same name share one state: it is failed if one of them is."""

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
        """Runs `run()` until it returns, and restarts it whenever it raises. After `stop` is set, it is restarted at
        most once, without a pause, so that its final work is done. `name` is a metric label: use few distinct names."""
        state = self._states.setdefault(name, TaskState())
        return asyncio.create_task(self._supervise(state, run, stop or asyncio.Event()), name=name)

    async def _supervise(self, state: TaskState, run: Callable[[], Awaitable[None]], stop: asyncio.Event) -> None:
        in_a_row = 0
        while True:
            is_last, began = stop.is_set(), self._clock()
            try:
                await run()
            except Exception as error:  # noqa: BLE001  # a last resort: the task is restarted after any exception
                self._report(error)
                state.failures += 1
                state.error = type(error).__name__
            else:
                return
            if is_last:
                return
            in_a_row = 1 if self._clock() - began > _STABLE_AFTER else in_a_row + 1
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), self._pauses[min(in_a_row, len(self._pauses)) - 1])
            state.error = None


BACKGROUND = Background()
"""The tasks of this process. It is global because the log is."""


class BackgroundMetrics(Collector):
    """Exposes the states of background tasks as metrics."""

    def __init__(self, background: Background) -> None:
        self._background = background

    def collect(self) -> Iterator[Metric]:
        failures = CounterMetricFamily(
            "edge_task_failures", "Failures of background tasks; each is followed by a restart.", labels=("task",)
        )
        waiting = GaugeMetricFamily(
            "edge_tasks_failed", "Failed background tasks that wait for their restart.", labels=("task",)
        )
        for name, state in list(self._background.states.items()):
            failures.add_metric((name,), state.failures)
            waiting.add_metric((name,), int(not state.is_running))
        yield failures
        yield waiting
