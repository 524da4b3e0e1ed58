"""Starts the parts of the gateway, watches them, and stops them: what `up` and `serve` have in common.

One process a worker, each on its own Unix socket; Envoy and the rehearsal provider where they are wanted. A worker
that dies is started again, and so is one that hangs: a busy one answers late, a hanging one does not answer at all for
a minute. Without Envoy or without the rehearsal provider there is no gateway, so their death ends it. Nothing here
knows what a request is.
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
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import structlog

from ..errors import StartError
from ..telemetry.background import BACKGROUND

# After a worker's death: at once, then slower, so that one that cannot start does not spin.
_RESTART_DELAYS = (0.0, 0.2, 0.5, 1.0, 2.0, 5.0)
# A worker that lived this long was well; its next death is a first one again.
_WELL_AFTER = 30.0
# How often a part is asked whether it still answers, in seconds, and after how many times that it did not it hangs. A
# machine that is short of CPU makes it answer late; here that costs nothing, since Envoy asks by itself and sooner.
_ASK_EVERY = 5.0
_UNANSWERED = 12
# How many of its last lines a part's death is told with.
_LAST_LINES = 20


@dataclass(frozen=True, slots=True)
class ProcessSpec:
    """One process. `ready` returns once it serves; it is cancelled if the process dies first."""

    name: str
    argv: tuple[str, ...]
    ready: Callable[[], Awaitable[None]]
    restart: bool = False
    grace: float = 10.0
    own_stdout: bool = False
    """It writes to our stdout itself, whole lines at a time; only its stderr goes through us. For what has a line for
    each request: passing them on would cost as much as the request's own metrics."""
    answers: Callable[[], Awaitable[bool]] | None = None
    """Whether it answers now. Once it did, it is killed where it then does not for a minute and its grace, unless
    somebody has stopped it (SIGSTOP, a debugger)."""
    environment: dict[str, str] = field(default_factory=dict)
    clean: Callable[[str], str] | None = None
    """What each line of its output becomes before anybody sees it."""


class RunningProcess:
    """A part that was started."""

    def __init__(self, part: ProcessSpec, process: asyncio.subprocess.Process, quiet: bool) -> None:
        self.part = part
        self.process = process
        self.last_lines: deque[str] = deque(maxlen=_LAST_LINES)
        self._pump = asyncio.create_task(self._read(quiet), name=f"log of {part.name}")

    @classmethod
    async def start(cls, part: ProcessSpec, *, quiet: bool) -> RunningProcess:
        own_stdout = part.own_stdout and not quiet
        try:
            process = await asyncio.create_subprocess_exec(
                *part.argv,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=None if own_stdout else asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE if own_stdout else asyncio.subprocess.STDOUT,
                env={**os.environ, **part.environment},
                # Its own session: Ctrl-C reaches us alone, and we stop the parts in order.
                start_new_session=True,
                preexec_fn=_die_with_parent,
            )
        except OSError as error:
            raise StartError(f"{part.name} did not start: {error.strerror}: {part.argv[0]}") from error
        return cls(part, process, quiet)

    async def ready(self, seconds: float) -> None:
        """Waits until it serves. Raises StartError, with its last words, if it dies or takes too long."""
        asked = asyncio.ensure_future(self.part.ready())
        died = asyncio.ensure_future(self.process.wait())
        try:
            await asyncio.wait({asked, died}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            if died.done():
                await self._pump
                raise StartError(f"{self.part.name} died with exit code {died.result()}{self._words()}")
            if not asked.done():
                raise StartError(f"{self.part.name} was not ready after {seconds:g} s{self._words()}")
            asked.result()
        finally:
            for waiting in (asked, died):
                waiting.cancel()
                with contextlib.suppress(asyncio.CancelledError, Exception):
                    await waiting

    async def stop(self) -> None:
        """SIGTERM, and SIGKILL after the part's grace."""
        if self.process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self.process.terminate()
            try:
                await asyncio.wait_for(self.process.wait(), self.part.grace)
            except TimeoutError:
                with contextlib.suppress(ProcessLookupError):
                    self.process.kill()
                await self.process.wait()
        await self._pump

    async def until_dead(self, ask_every: float) -> int:
        """Its exit code. Kills it where it hangs."""
        watched = asyncio.create_task(self._kill_if_hanging(ask_every), name=f"ask {self.part.name}")
        try:
            return await self.process.wait()
        finally:
            watched.cancel()
            await asyncio.gather(watched, return_exceptions=True)

    async def _kill_if_hanging(self, ask_every: float) -> None:
        if self.part.answers is None:
            return
        patience = _UNANSWERED + math.ceil(self.part.grace / _ASK_EVERY)
        has_answered, unanswered = False, 0
        # What is counted is how often it was asked: a time would also pass while we are not given any CPU.
        while unanswered < patience:
            await asyncio.sleep(ask_every)
            if await self.part.answers():
                has_answered, unanswered = True, 0
            elif has_answered and not _is_stopped(self.process.pid):
                unanswered += 1
        structlog.get_logger().error("part_hangs", part=self.part.name, unanswered=unanswered)
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()

    async def _read(self, quiet: bool) -> None:
        stream = self.process.stdout or self.process.stderr
        if stream is None:
            return
        while True:
            try:
                line = await stream.readline()
            except ValueError:  # longer than the reader's buffer: passed over
                continue
            if not line:
                return
            text = line.decode(errors="replace").rstrip()
            if self.part.clean is not None:
                text = self.part.clean(text)
            self.last_lines.append(text)
            if not quiet:
                sys.stdout.write(text + "\n")
                sys.stdout.flush()

    def _words(self) -> str:
        return "".join(f"\n    {line}" for line in list(self.last_lines)[-5:])


class Supervisor:
    """Runs parts until told to stop. `quiet` keeps their output back (their last lines are told if they die).
    `ask_every`: seconds between two questions whether a part still answers."""

    def __init__(self, *, quiet: bool = False, ask_every: float = _ASK_EVERY) -> None:
        self._quiet = quiet
        self._ask_every = ask_every
        self._running: dict[str, RunningProcess] = {}
        self._watchers: list[asyncio.Task[None]] = []
        self._stop = asyncio.Event()
        self._failure: StartError | None = None
        self.restarts = 0
        self.on_death: Callable[[int], None] = _nobody_cares
        """Told the process id of each part that dies by itself."""

    def stop_soon(self) -> None:
        self._stop.set()

    @property
    def processes(self) -> dict[str, int]:
        """Name to process id of what runs now."""
        return {n: r.process.pid for n, r in self._running.items() if r.process.returncode is None}

    async def start(self, parts: Sequence[ProcessSpec], seconds: float = 30.0) -> None:
        """Starts all, and waits until all are ready. Raises StartError; whatever was started is stopped by `stop`."""
        for part in parts:
            self._running[part.name] = await RunningProcess.start(part, quiet=self._quiet)
        await asyncio.gather(*(self._running[part.name].ready(seconds) for part in parts))
        self._watchers += [BACKGROUND.start("watch_parts", partial(self._watch, part)) for part in parts]

    async def wait(self) -> None:
        """Until `stop_soon`, or until a part that is not restarted dies: then raises StartError."""
        await self._stop.wait()
        if self._failure is not None:
            raise self._failure

    async def stop(self) -> None:
        """Stops all, last started first."""
        self._stop.set()
        for watcher in self._watchers:
            watcher.cancel()
        await asyncio.gather(*self._watchers, return_exceptions=True)
        for running in reversed(list(self._running.values())):
            await running.stop()

    async def _watch(self, part: ProcessSpec) -> None:
        loop = asyncio.get_running_loop()
        deaths = 0
        while True:
            running, born = self._running[part.name], loop.time()
            code = await running.until_dead(self._ask_every)
            self.on_death(running.process.pid)
            if not part.restart:
                self._failure = StartError(f"{part.name} died with exit code {code}{running._words()}")
                self._stop.set()
                return
            lived = loop.time() - born
            deaths = 1 if lived > _WELL_AFTER else deaths + 1
            pause = _RESTART_DELAYS[min(deaths, len(_RESTART_DELAYS)) - 1]
            structlog.get_logger().error(
                "part_died",
                part=part.name,
                pid=running.process.pid,
                by=_how(code),
                lived_s=round(lived, 1),
                starts_again_in_s=pause,
            )
            await asyncio.sleep(pause)
            self.restarts += 1
            self._running[part.name] = await RunningProcess.start(part, quiet=self._quiet)


def _how(code: int) -> str:
    """An exit code, or the signal that ended it."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:  # one of those that have no name
        return f"signal {-code}"


def _nobody_cares(pid: int) -> None:
    del pid


def _is_stopped(pid: int) -> bool:
    """By a signal or a debugger, as far as this system tells."""
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
    """Raises StartError if the port cannot be listened on. `setting` says where another one is chosen."""
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


def _die_with_parent() -> None:
    """Runs in the child: Linux ends it if we are killed, so that nothing stays behind."""
    if sys.platform == "linux":
        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGTERM)


def python_module(*arguments: str) -> tuple[str, ...]:
    """The command line that runs this package with the same interpreter."""
    return (sys.executable, "-m", "edge_extproc", *arguments)


def remove_quietly(path: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        path.unlink()
