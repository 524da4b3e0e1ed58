from __future__ import annotations

import ast
import asyncio
from pathlib import Path

import pytest

import edge_extproc
from edge_extproc.telemetry.background import Background, BackgroundMetrics


async def test_a_task_that_raises_is_told_and_started_again() -> None:
    told: list[BaseException] = []
    background = Background(told.append, pauses=(0.0,))
    runs = 0

    async def run() -> None:
        nonlocal runs
        runs += 1
        if runs < 4:
            raise RuntimeError(runs)

    await background.start("a_task", run)

    assert [1, 2, 3] == [error.args[0] for error in told]
    assert (3, True) == (background.states["a_task"].failures, background.states["a_task"].is_running)


async def test_a_task_that_waits_for_its_next_start_is_shown_as_failed() -> None:
    reported = asyncio.Event()
    background = Background(lambda _: reported.set(), pauses=(3600.0,))

    async def run() -> None:
        raise OverflowError("a secret")

    task = background.start("a_task", run)
    await reported.wait()
    await asyncio.sleep(0)
    state = background.states["a_task"]
    samples = {s.name: s.value for m in BackgroundMetrics(background).collect() for s in m.samples}
    task.cancel()

    assert ("OverflowError", False) == (state.error, state.is_running)
    assert {"edge_task_failures_total": 1, "edge_tasks_failed": 1} == samples


async def test_a_stop_ends_the_pause_and_the_task_gets_its_last_run() -> None:
    reported, stop = asyncio.Event(), asyncio.Event()
    background = Background(lambda _: reported.set(), pauses=(3600.0,))
    runs: list[bool] = []

    async def run() -> None:
        runs.append(stop.is_set())
        raise RuntimeError

    task = background.start("a_task", run, stop)
    await reported.wait()
    stop.set()
    await task

    assert [False, True] == runs


async def test_a_cancelled_task_ends() -> None:
    background = Background(pauses=(0.0,))
    task = background.start("a_task", asyncio.Event().wait)  # type: ignore[arg-type]
    await asyncio.sleep(0)
    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task
    assert 0 == background.states["a_task"].failures


# Modules that start a task of their own: each ends by itself, and its exception is awaited, retrieved or reported.
SHORT_TASKS = {
    "cache/l2.py": "one read or write of the store",
    "cache/semantic/tier.py": "one record, or one comparison of replies",
    "gateway/launch.py": "the start of the workers, and the admin port, which ends the gateway",
    "gateway/supervisor.py": "the start, the output and the checks of one process; its watcher is supervised",
    "guardrails/during_check.py": "the check of one call, which its end cancels",
    "guardrails/service_calls.py": "one check of a service, which its time-out ends",
    "guardrails/service_http.py": "the requests of one check, which the check awaits",
    "limits/store_connection.py": "one connection or one command",
    "rehearsal/connection.py": "one request",
    "server/bridge.py": "one session and one response of it, whose exceptions it reports",
    "server/gone_readers.py": "one request, and the wait for the end of its connection",
    "server/http2/transport.py": "one call",
    "server/stream_ends.py": "the reading of one stream, which the stop ends",
    "store/ingest_loop.py": "one pause",
    "records/completion.py": "one step that a cancellation must not leave half done",
    "telemetry/background.py": "the supervision itself",
    "worker/main.py": "one reload",
}


def test_each_task_that_lasts_is_supervised() -> None:
    package = Path(edge_extproc.__file__).parent
    found = set()
    for path in package.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.Call(func=ast.Attribute(attr="create_task" | "ensure_future")):
                    found.add(path.relative_to(package).as_posix())

    assert SHORT_TASKS.keys() == found
