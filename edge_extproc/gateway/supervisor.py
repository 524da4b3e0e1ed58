"""Starts, watches and stops the processes of the gateway, for `up` and `serve`.

There is one process per worker, each on its own Unix socket, and with `up` Envoy and perhaps the rehearsal provider. A
worker that dies is restarted, and so is one that hangs: a busy worker answers late, a hanging one does not answer for a
minute. Envoy is restarted too, but the gateway ends if it dies repeatedly: without Envoy nobody is served, and whoever
has started the gateway must learn of it. The gateway also ends if the rehearsal provider dies. This module knows
nothing of requests.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import math
import os
import signal
import socket
import sys
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Protocol

import structlog

from ..errors import StartError
from ..telemetry.background import BACKGROUND

# Seconds before a restart: the first one at once, then slower, so that a worker that cannot start uses little CPU.
_RESTART_DELAYS = (0.0, 0.2, 0.5, 1.0, 2.0, 5.0)
# After this many seconds of life, the next death counts as the first.
_WELL_AFTER = 30.0
# Seconds between two health checks of a process, and the number of failed checks after which it counts as hanging. The
# number is high because a busy machine delays answers. Envoy has a faster health check of its own.
_CHECK_INTERVAL = 5.0
_UNANSWERED = 12
_READY_SECONDS = 30.0
# The last lines of output that are kept for the message of a death.
_LAST_LINES = 20


class Process(Protocol):
    """What the supervisor uses of a process. asyncio.subprocess.Process has it."""

    @property
    def pid(self) -> int: ...
    @property
    def returncode(self) -> int | None: ...
    @property
    def stdout(self) -> asyncio.StreamReader | None: ...
    @property
    def stderr(self) -> asyncio.StreamReader | None: ...
    async def wait(self) -> int: ...
    def terminate(self) -> None: ...
    def kill(self) -> None: ...


@dataclass(frozen=True, slots=True)
class ProcessSpec:
    """One process. `ready` returns once it serves; it is cancelled if the process dies first."""

    name: str
    argv: tuple[str, ...]
    ready: Callable[[], Awaitable[None]]
    restart: bool = False
    most_restarts: int | None = None
    """Deaths in a row after which it is not restarted again; None for no limit."""
    restarted: Callable[[], Awaitable[None]] | None = None
    """Called when it is ready after a restart."""
    grace: float = 10.0
    own_stdout: bool = False
    """It inherits our stdout, and only its stderr is piped. For a process with a line per request: piping them would
    cost as much as the request's own metrics."""
    answers: Callable[[], Awaitable[bool]] | None = None
    """The health check. After a first success, a process that fails it for a minute and its grace is killed, unless it
    is stopped (SIGSTOP, a debugger)."""
    environment: dict[str, str] = field(default_factory=dict)
    clean: Callable[[str], str | None] | None = None
    """Rewrites each line of its output. None: the line is not shown."""
    forked: Callable[[], Awaitable[Process | None]] | None = None
    """Returns a process that was forked for this spec, and None if there is none (any more): then `argv` is started.
    Such a process has our stdout."""


class RunningProcess:
    """A process that was started."""

    def __init__(self, spec: ProcessSpec, process: Process, quiet: bool) -> None:
        self.spec = spec
        self.process = process
        self.last_lines: deque[str] = deque(maxlen=_LAST_LINES)
        self._pump = asyncio.create_task(self._read(quiet), name=f"log of {spec.name}")

    @classmethod
    async def start(cls, spec: ProcessSpec, *, quiet: bool) -> RunningProcess:
        own_stdout = spec.own_stdout and not quiet
        if own_stdout and spec.forked is not None and (forked := await spec.forked()) is not None:
            return cls(spec, forked, quiet)
        try:
            process = await asyncio.create_subprocess_exec(
                *spec.argv,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=None if own_stdout else asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE if own_stdout else asyncio.subprocess.STDOUT,
                env={**os.environ, **spec.environment},
                # Its own session: Ctrl-C reaches only the supervisor, which stops the processes in order.
                start_new_session=True,
                preexec_fn=die_with_parent,
            )
        except OSError as error:
            raise StartError(f"{spec.name} did not start: {error.strerror}: {spec.argv[0]}") from error
        return cls(spec, process, quiet)

    async def ready(self, seconds: float) -> None:
        """Waits until it serves. Raises StartError, with its last lines, if it dies or takes too long."""
        ready = asyncio.ensure_future(self.spec.ready())
        died = asyncio.ensure_future(self.process.wait())
        try:
            await asyncio.wait({ready, died}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            if died.done():
                await self._pump
                raise StartError(f"{self.spec.name} died with exit code {died.result()}{self._last_output()}")
            if not ready.done():
                raise StartError(f"{self.spec.name} was not ready after {seconds:g} s{self._last_output()}")
            ready.result()
        finally:
            for waiting in (ready, died):
                waiting.cancel()
                with contextlib.suppress(asyncio.CancelledError, Exception):
                    await waiting

    async def stop(self) -> None:
        """Sends SIGTERM, and SIGKILL after the grace."""
        if self.process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self.process.terminate()
            try:
                await asyncio.wait_for(self.process.wait(), self.spec.grace)
            except TimeoutError:
                with contextlib.suppress(ProcessLookupError):
                    self.process.kill()
                await self.process.wait()
        await self._pump

    async def until_dead(self, check_interval: float) -> int:
        """Waits for its end and returns the exit code. Kills it if it hangs."""
        watched = asyncio.create_task(self._kill_if_hanging(check_interval), name=f"check {self.spec.name}")
        try:
            return await self.process.wait()
        finally:
            watched.cancel()
            await asyncio.gather(watched, return_exceptions=True)

    async def _kill_if_hanging(self, check_interval: float) -> None:
        if self.spec.answers is None:
            return
        patience = _UNANSWERED + math.ceil(self.spec.grace / _CHECK_INTERVAL)
        has_answered, unanswered = False, 0
        # It counts checks, not seconds: time also passes while this process gets no CPU.
        while unanswered < patience:
            await asyncio.sleep(check_interval)
            if await self.spec.answers():
                has_answered, unanswered = True, 0
            elif has_answered and not _is_stopped(self.process.pid):
                unanswered += 1
        structlog.get_logger().error("process_hangs", process=self.spec.name, unanswered=unanswered)
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()

    async def _read(self, quiet: bool) -> None:
        stream = self.process.stdout or self.process.stderr
        if stream is None:
            return
        while True:
            try:
                line = await stream.readline()
            except ValueError:  # a line that is longer than the buffer is skipped
                continue
            if not line:
                return
            text: str | None = line.decode(errors="replace").rstrip()
            if self.spec.clean is not None and text is not None:
                text = self.spec.clean(text)
            if text is None:
                continue
            self.last_lines.append(text)
            if not quiet:
                sys.stdout.write(text + "\n")
                sys.stdout.flush()

    def _last_output(self) -> str:
        return "".join(f"\n    {line}" for line in list(self.last_lines)[-5:])


class Supervisor:
    """Runs processes until `stop_soon`. `quiet`: their output is not shown, but for the last lines of one that dies.
    `check_interval`: seconds between two health checks of a process."""

    def __init__(self, *, quiet: bool = False, check_interval: float = _CHECK_INTERVAL) -> None:
        self._quiet = quiet
        self._check_interval = check_interval
        self._running: dict[str, RunningProcess] = {}
        self._started: list[list[str]] = []
        """The names of the processes, by call of `start`."""
        self._watchers: list[asyncio.Task[None]] = []
        self._stop = asyncio.Event()
        self._failure: StartError | None = None
        self._deaths: Counter[str] = Counter()
        """Deaths in a row, by the name of the process. A restart that fails counts as one."""
        self.restarts: Counter[str] = Counter()
        """By the name of the process."""
        self.on_death: Callable[[int], None] = _ignore
        """Called with the process id of each process that dies by itself."""

    def stop_soon(self) -> None:
        self._stop.set()

    @property
    def processes(self) -> dict[str, int]:
        """Name to process id of what runs now."""
        return {n: r.process.pid for n, r in self._running.items() if r.process.returncode is None}

    async def start(self, specs: Sequence[ProcessSpec], seconds: float = _READY_SECONDS) -> None:
        """Starts all and waits until all are ready. Raises StartError; `stop` stops those that were started."""
        started: list[str] = []
        self._started.append(started)
        for spec in specs:
            self._running[spec.name] = await RunningProcess.start(spec, quiet=self._quiet)
            started.append(spec.name)
        await asyncio.gather(*(self._running[spec.name].ready(seconds) for spec in specs))
        self._watchers += [BACKGROUND.start("watch_processes", partial(self._watch, spec)) for spec in specs]

    async def wait(self) -> None:
        """Returns after `stop_soon`. Raises StartError if a process dies that is not restarted."""
        await self._stop.wait()
        if self._failure is not None:
            raise self._failure

    async def stop(self) -> None:
        """Stops all, last started first. What was started together is stopped together, so that the grace of one
        worker does not add to that of another."""
        self._stop.set()
        for watcher in self._watchers:
            watcher.cancel()
        await asyncio.gather(*self._watchers, return_exceptions=True)
        for names in reversed(self._started):
            await asyncio.gather(*(self._running[name].stop() for name in names))

    async def _watch(self, spec: ProcessSpec) -> None:
        loop = asyncio.get_running_loop()
        while True:
            running, born = self._running[spec.name], loop.time()
            code = await running.until_dead(self._check_interval)
            self.on_death(running.process.pid)
            lived = loop.time() - born
            deaths = self._deaths[spec.name] = 1 if lived > _WELL_AFTER else self._deaths[spec.name] + 1
            if not spec.restart or (spec.most_restarts is not None and deaths > spec.most_restarts):
                self._failure = StartError(f"{spec.name} died with exit code {code}{running._last_output()}")
                self._stop.set()
                return
            pause = _RESTART_DELAYS[min(deaths, len(_RESTART_DELAYS)) - 1]
            structlog.get_logger().error(
                "process_died",
                process=spec.name,
                pid=running.process.pid,
                by=_exit_text(code),
                lived_s=round(lived, 1),
                restarts_in_s=pause,
            )
            await asyncio.sleep(pause)
            self.restarts[spec.name] += 1
            self._running[spec.name] = await RunningProcess.start(spec, quiet=self._quiet)
            if spec.restarted is not None:
                # If it dies first, the loop learns of it.
                with contextlib.suppress(StartError):
                    await self._running[spec.name].ready(_READY_SECONDS)
                    await spec.restarted()


def _exit_text(code: int) -> str:
    """An exit code, or the signal that ended it."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:  # a real-time signal has no name
        return f"signal {-code}"


def _ignore(pid: int) -> None:
    del pid


def _is_stopped(pid: int) -> bool:
    """Whether a signal or a debugger has stopped the process. False if the system does not report it."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] in ("T", "t")


def free_port(address: str) -> int:
    """A TCP port that is free now."""
    with socket.socket(_family(address), socket.SOCK_STREAM) as sock:
        sock.bind((address, 0))
        port: int = sock.getsockname()[1]
        return port


def check_free(address: str, port: int, setting: str) -> None:
    """Raises StartError if the port cannot be used. `setting`: the setting that selects another one."""
    with socket.socket(_family(address), socket.SOCK_STREAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind((address, port))
        except OSError as error:
            raise StartError(
                f"cannot listen on {address}:{port}: {error.strerror}; choose another with {setting}"
            ) from error


def _family(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def die_with_parent() -> None:
    """Runs in the child: Linux ends it if we are killed, so that nothing stays behind."""
    if sys.platform == "linux":
        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGTERM)


def remove_quietly(path: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        path.unlink()
