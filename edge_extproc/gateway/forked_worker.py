"""The first worker of `up` and `serve`: forked from the supervisor instead of started as a new Python process.

Three quarters of the modules of a worker are also modules of the supervisor. They are imported once, before the
supervisor reads its configuration, and then the process forks. The child imports the other modules of a worker while
the supervisor starts, and serves when it gets its arguments. Memory that neither of both changes exists once.

A worker that is restarted, and every further worker, is a new Python process: the supervisor has threads by then, and a
process with threads must not fork. So is the first worker where a process cannot be awaited by a file descriptor
(pidfd_open of Linux), where /proc is missing or a standard stream is closed, and after a fork that failed.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import importlib
import json
import os
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from .supervisor import die_with_parent

# What the supervisor and a worker both import, beside what these modules import.
COMMON = (
    "accounting.prices",
    "auth.merge",
    "config.extras",
    "gateway.config_source",
    "providers.openai",
    "proxy.cluster_names",
    "server.health",
    "server.introspect",
    "server.transport",
    "store.snapshot",
    "telemetry.console",
    "telemetry.logs",
    "telemetry.snapshot",
)


# In the numbers of /proc/PID/stat behind the name: the place of the command line in memory.
_ARG_START, _ARG_END = 45, 46
# Has the number of each open file descriptor. /proc is not mounted everywhere.
_DESCRIPTORS = Path("/proc/self/fd")
# The exit code of a process if it is not known, as in asyncio.
_UNKNOWN = 255


class ForkedProcess:
    """A child of this process that asyncio has not started."""

    stdout: asyncio.StreamReader | None = None

    def __init__(self, pid: int, pidfd: int, stderr: asyncio.StreamReader) -> None:
        self.pid = pid
        self.stderr: asyncio.StreamReader | None = stderr
        self._pidfd = pidfd
        self._exit_code: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        # Readable when the process has ended.
        asyncio.get_running_loop().add_reader(pidfd, self._reap)

    def _reap(self) -> None:
        asyncio.get_running_loop().remove_reader(self._pidfd)
        try:
            code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        except ChildProcessError:  # somebody else has reaped it
            code = _UNKNOWN
        os.close(self._pidfd)
        self._exit_code.set_result(code)

    @property
    def returncode(self) -> int | None:
        return self._exit_code.result() if self._exit_code.done() else None

    async def wait(self) -> int:
        return await asyncio.shield(self._exit_code)

    def terminate(self) -> None:
        self._send(signal.SIGTERM)

    def kill(self) -> None:
        self._send(signal.SIGKILL)

    def _send(self, number: signal.Signals) -> None:
        # Until it is reaped, no other process has its id.
        if self.returncode is None:
            os.kill(self.pid, number)


class ForkedWorker:
    """The child that waits for its arguments. It can be used once."""

    def __init__(self, pid: int, arguments: int, stderr: int) -> None:
        """`arguments`: the end of a pipe to which the arguments are written. `stderr`: the end of a pipe from which the
        child's stderr is read."""
        self.pid = pid
        self._arguments = arguments
        self._stderr = stderr
        self._is_used = False

    async def begin(self, arguments: Sequence[str]) -> ForkedProcess | None:
        """Makes it a worker with these arguments. None: it was used before, or it does not exist."""
        if self._is_used:
            return None
        self._is_used = True
        try:
            pidfd = os.pidfd_open(self.pid)
        except ProcessLookupError:  # somebody else has reaped it
            os.close(self._arguments)
            os.close(self._stderr)
            return None
        reader = asyncio.StreamReader()
        await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(self._stderr, "rb", buffering=0)
        )
        process = ForkedProcess(self.pid, pidfd, reader)
        # If it has died, its exit code and its stderr say why.
        with contextlib.suppress(BrokenPipeError), os.fdopen(self._arguments, "w", encoding="utf-8") as pipe:
            json.dump(arguments, pipe)
        return process


class WaitingWorker:
    """The child's side."""

    def __init__(self, parent: int, arguments: int) -> None:
        self._parent = parent
        self._arguments = arguments

    def arguments(self) -> Sequence[str]:
        """Waits for the arguments. The process ends if the supervisor ends without them."""
        with os.fdopen(self._arguments, encoding="utf-8") as pipe:
            text = pipe.read()
        if not text or os.getppid() != self._parent:
            sys.exit(0)
        given: list[str] = json.loads(text)
        sys.argv = [sys.argv[0], "worker", *given]
        sys.orig_argv = [sys.executable, "-m", "edge_extproc", "worker", *given]
        return given


_forked: list[ForkedWorker] = []


def first_worker() -> ForkedWorker | None:
    """The child of this process, for the one who asks first."""
    return _forked.pop() if _forked else None


def fork() -> WaitingWorker | None:
    """Imports what supervisor and worker have in common, and forks. Returns None in the supervisor. If the system
    cannot do it, there is no child."""
    for name in COMMON:
        importlib.import_module(f"edge_extproc.{name}")
    if threading.active_count() > 1 or not _has_pidfds() or not _DESCRIPTORS.exists() or _lacks_a_stream():
        return None
    # A collection writes into each object that it looks at, and so would copy the common memory.
    gc.freeze()
    parent = os.getpid()
    arguments, to_worker = os.pipe()
    from_worker, stderr = os.pipe()
    try:
        pid = os.fork()
    except OSError:  # too many processes, or too little memory
        for end in (arguments, to_worker, from_worker, stderr):
            os.close(end)
        return None
    if pid:
        os.close(arguments)
        os.close(stderr)
        _forked.append(ForkedWorker(pid, to_worker, from_worker))
        return None
    os.close(to_worker)
    os.close(from_worker)
    _be_like_a_new_process(stderr, arguments)
    return WaitingWorker(parent, arguments)


def _has_pidfds() -> bool:
    if not hasattr(os, "pidfd_open"):
        return False
    try:
        os.close(os.pidfd_open(os.getpid()))
    except OSError:  # an old kernel, or a container that forbids it
        return False
    return True


def _lacks_a_stream() -> bool:
    """Whether stdin, stdout or stderr is closed. A pipe would get its number, and Python makes no object for it."""
    return None in (sys.stdin, sys.stdout, sys.stderr)


def _show_as(command: str) -> None:
    """Replaces the command line that `ps` shows, if the old one is long enough for it."""
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    start, end = int(fields[_ARG_START]), int(fields[_ARG_END])
    line = command.replace(" ", "\0").encode() + b"\0"
    if 0 < start and len(line) <= end - start:
        # Python has copies of what is there.
        ctypes.memmove(start, line.ljust(end - start, b"\0"), end - start)


def _be_like_a_new_process(stderr: int, arguments: int) -> None:
    """What the supervisor sets for a process that it starts, and what such a process does not inherit."""
    os.setsid()
    die_with_parent()
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    os.dup2(stderr, 2)
    for descriptor in map(int, os.listdir(_DESCRIPTORS)):
        if descriptor not in (0, 1, 2, arguments):
            with contextlib.suppress(OSError):  # that of the directory is closed already
                os.close(descriptor)
    _show_as("edge-extproc worker --index 0")
