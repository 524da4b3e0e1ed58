"""Parts that die, hang, or are only slow."""

from __future__ import annotations

import asyncio
import os
import shlex
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import gateway
import pytest

from edge_extproc.errors import StartError
from edge_extproc.gateway.supervisor import ProcessSpec, Supervisor
from edge_extproc.telemetry.background import BACKGROUND

SLEEPER = (sys.executable, "-c", "import time; time.sleep(600)")


class Answers:
    """Says what it is told to say, and knows how often it was asked."""

    def __init__(self, *said: bool) -> None:
        self._said = list(said)
        self.asked = 0
        self.now = False

    async def __call__(self) -> bool:
        self.asked += 1
        return self._said.pop(0) if self._said else self.now


async def at_once() -> None:
    pass


@asynccontextmanager
async def supervised(answers: Callable[[], Awaitable[bool]] | None) -> AsyncIterator[Supervisor]:
    supervisor = Supervisor(quiet=True, check_interval=0.0)
    try:
        await supervisor.start([ProcessSpec("sleeper", SLEEPER, at_once, restart=True, grace=5.0, answers=answers)])
        yield supervisor
    finally:
        await supervisor.stop()


async def until(condition: Callable[[], bool]) -> None:
    await asyncio.to_thread(gateway.until, condition, 20)


async def test_a_part_that_answered_and_then_does_not_any_more_is_killed_and_started_again() -> None:
    answers = Answers(True)
    async with supervised(answers) as supervisor:
        (first,) = supervisor.processes.values()
        await until(lambda: supervisor.restarts["sleeper"] == 1 and bool(supervisor.processes))
        asked = answers.asked
        (second,) = supervisor.processes.values()

    assert first != second
    # Once that it did, twelve times that it did not, and once more for each five seconds of its grace.
    assert asked >= 14


async def test_a_part_that_answers_late_but_answers_is_left_alone() -> None:
    answers = Answers(*([True] + [False] * 12) * 20)
    answers.now = True
    async with supervised(answers) as supervisor:
        before = supervisor.processes
        await until(lambda: answers.asked > 300)

        assert (before, 0) == (supervisor.processes, supervisor.restarts.total())


async def test_a_part_that_has_not_answered_yet_is_starting_and_does_not_hang() -> None:
    answers = Answers()
    async with supervised(answers) as supervisor:
        before = supervisor.processes
        await until(lambda: answers.asked > 100)

        assert (before, 0) == (supervisor.processes, supervisor.restarts.total())


async def test_a_part_that_somebody_has_stopped_does_not_hang_and_goes_on() -> None:
    answers = Answers()
    answers.now = True
    async with supervised(answers) as supervisor:
        (pid,) = supervisor.processes.values()
        await until(lambda: answers.asked > 1)
        os.kill(pid, signal.SIGSTOP)
        await until(lambda: ") T " in Path(f"/proc/{pid}/stat").read_text())
        answers.now, before = False, answers.asked
        await until(lambda: answers.asked > before + 100)
        still = list(supervisor.processes.values())
        os.kill(pid, signal.SIGCONT)
        await until(lambda: supervisor.restarts["sleeper"] == 1)

    assert [pid] == still


async def test_a_part_that_dies_is_started_again_whether_it_can_be_asked_or_not() -> None:
    for answers in (None, Answers(*[True] * 10_000)):
        async with supervised(answers) as supervisor:
            (pid,) = supervisor.processes.values()
            os.kill(pid, signal.SIGKILL)
            await until(lambda supervisor=supervisor: supervisor.restarts["sleeper"] == 1)


async def test_a_part_that_cannot_be_started_again_at_once_is_tried_until_it_can(tmp_path: Path) -> None:
    program = tmp_path / "sleeper"
    started = tmp_path / "started"
    program.write_text(f"#!/bin/sh\ntouch {shlex.quote(str(started))}\nexec {' '.join(map(shlex.quote, SLEEPER))}\n")
    program.chmod(0o700)
    supervisor = Supervisor(quiet=True, check_interval=0.0)
    try:
        await supervisor.start([ProcessSpec("sleeper", (str(program),), at_once, restart=True, grace=5.0)])
        (pid,) = supervisor.processes.values()
        await until(started.exists)  # until then the shell may not have opened its script, and would die without it
        before = BACKGROUND.states["watch_processes"].failures
        away = program.rename(tmp_path / "away")
        os.kill(pid, signal.SIGKILL)
        await until(lambda: BACKGROUND.states["watch_processes"].failures > before)
        away.rename(program)
        await until(lambda: bool(supervisor.processes))
    finally:
        await supervisor.stop()


PATIENCE = 300.0
DIES = (sys.executable, "-c", "raise SystemExit(3)")


async def test_a_part_that_dies_again_and_again_is_given_up_where_its_restarts_are_limited() -> None:
    supervisor = Supervisor(quiet=True)
    try:
        await supervisor.start([ProcessSpec("envoy", DIES, at_once, restart=True, most_restarts=2)])
        with pytest.raises(StartError, match="envoy died with exit code 3"):
            await supervisor.wait()
        assert {"envoy": 2} == supervisor.restarts
    finally:
        await supervisor.stop()


async def test_a_part_whose_program_is_gone_is_given_up_where_its_restarts_are_limited(tmp_path: Path) -> None:
    program = tmp_path / "sleeper"
    program.write_text(f"#!/bin/sh\nexec {shlex.join(SLEEPER)}\n")
    program.chmod(0o700)
    supervisor = Supervisor(quiet=True)
    try:
        await supervisor.start([ProcessSpec("envoy", (str(program),), at_once, restart=True, most_restarts=2)])
        (pid,) = supervisor.processes.values()
        program.unlink()
        os.kill(pid, signal.SIGKILL)
        async with asyncio.timeout(PATIENCE):
            with pytest.raises(StartError, match="envoy died"):
                await supervisor.wait()
        assert {"envoy": 2} == supervisor.restarts
    finally:
        await supervisor.stop()


async def test_a_part_that_serves_again_is_told_what_it_has_missed() -> None:
    told = asyncio.Event()

    async def tell() -> None:
        told.set()

    supervisor = Supervisor(quiet=True)
    try:
        await supervisor.start(
            [ProcessSpec("sleeper", SLEEPER, at_once, restart=True, most_restarts=1, restarted=tell)]
        )
        (pid,) = supervisor.processes.values()
        assert not told.is_set()
        os.kill(pid, signal.SIGKILL)
        async with asyncio.timeout(20):
            await told.wait()
        assert [pid] != list(supervisor.processes.values())
    finally:
        await supervisor.stop()


async def test_parts_that_were_started_together_are_stopped_together(tmp_path: Path) -> None:
    """Each ends only after both were told to end."""
    program = """
import pathlib, signal, sys, time
mine, other = map(pathlib.Path, sys.argv[1:])
signal.signal(signal.SIGTERM, lambda *_: mine.with_suffix(".told").touch())
mine.touch()
while not all(path.with_suffix(".told").exists() for path in (mine, other)):
    time.sleep(0.01)
"""
    a, b = tmp_path / "a", tmp_path / "b"

    async def ready() -> None:
        await asyncio.to_thread(gateway.until, lambda: a.exists() and b.exists(), PATIENCE)

    supervisor = Supervisor(quiet=True)
    specs = [
        ProcessSpec(mine.name, (sys.executable, "-c", program, str(mine), str(other)), ready, grace=600.0)
        for mine, other in ((a, b), (b, a))
    ]
    try:
        await supervisor.start(specs, PATIENCE)
    finally:
        async with asyncio.timeout(PATIENCE):
            await supervisor.stop()

    assert a.with_suffix(".told").exists()
    assert b.with_suffix(".told").exists()
