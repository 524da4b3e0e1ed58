"""Starts `edge-extproc` by a fork of a process that has imported its modules.

A new process imports for most of a second before it reads its configuration, and the tests start hundreds. The child of
the fork runs the same `main` with its own directory, environment and output. What a test says of the start itself, it
says of a new process: `RunningGateway(..., forked=False)`.

`start` and `run` are for tests. This file is also the program of the server: one for each process that runs tests.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import gc
import importlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

# What `up`, its first worker and the commands import. A module that is missing here is imported by each child.
MODULES = (
    "cli",
    "commands.doctor",
    "config.schema",
    "envoy_config.bootstrap",
    "envoy_config.validate",
    "gateway.admin_service",
    "gateway.launch",
    "gateway.own_valkey",
    "gateway.worker_client",
    "server.admin",
    "server.serve",
    "worker.main",
)
STATUS_BYTES = 4


class ForkedProgram:
    """A running child, with the part of `subprocess.Popen` that the tests use. The server waits for it, and writes its
    exit code to a pipe."""

    def __init__(self, pid: int, status: int, stdout: TextIO | None) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self.stdout = stdout
        self._status = status

    def poll(self) -> int | None:
        return self._read(0)

    def wait(self, timeout: float | None = None) -> int:
        code = self._read(timeout)
        if code is None:
            raise subprocess.TimeoutExpired("edge-extproc", timeout or 0)
        return code

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def _read(self, timeout: float | None) -> int | None:
        if self.returncode is None and select.select([self._status], [], [], timeout)[0]:
            told = os.read(self._status, STATUS_BYTES)
            os.close(self._status)
            # The server has ended if it tells nothing, and it has killed its children.
            self.returncode = int.from_bytes(told, "big", signed=True) if told else -signal.SIGKILL
        return self.returncode


_one_at_a_time = threading.Lock()


def start(
    arguments: Sequence[str], directory: Path, environment: Mapping[str, str], log: Path | None = None
) -> ForkedProgram:
    """Stdout and stderr go to `log`, or to a pipe that `stdout` reads; stdin is empty."""
    request = {"arguments": list(arguments), "directory": str(directory), "environment": dict(environment)}
    raw = json.dumps(request).encode()
    output: TextIO | None = None
    if log is None:
        read_end, stdout = os.pipe()
        output = os.fdopen(read_end, encoding="utf-8")
    else:
        stdout = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    status, told = os.pipe()
    try:
        with _one_at_a_time:
            server = _server()
            socket.send_fds(server, [len(raw).to_bytes(4, "big")], [stdout, told])
            server.sendall(raw)
            pid = int.from_bytes(_exactly(server, 4), "big")
    finally:
        os.close(stdout)
        os.close(told)
    return ForkedProgram(pid, status, output)


def run(arguments: Sequence[str], directory: Path, environment: Mapping[str, str]) -> str:
    """What a command that ends by itself writes to stdout and stderr. Raises subprocess.CalledProcessError."""
    program = start(arguments, directory, environment)
    assert program.stdout is not None
    with program.stdout as output:
        text = output.read()
    if code := program.wait():
        raise subprocess.CalledProcessError(code, list(arguments), text)
    return text


@functools.cache
def _server() -> socket.socket:
    """The connection to the server of this process."""
    ours, theirs = socket.socketpair()
    with theirs:
        process = subprocess.Popen(
            [sys.executable, __file__, str(theirs.fileno())], pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL
        )

    def stop() -> None:
        ours.close()
        process.wait()

    atexit.register(stop)
    return ours


def _exactly(connection: socket.socket, count: int) -> bytes:
    found = b""
    while len(found) < count:
        part = connection.recv(count - len(found))
        if not part:
            raise EOFError
        found += part
    return found


# --- the server


def serve(connection: socket.socket) -> None:
    """It has one thread: a fork copies no other."""
    from edge_extproc.telemetry.plain_structlog import import_structlog

    gc.disable()
    import_structlog()
    for name in MODULES:
        importlib.import_module(f"edge_extproc.{name}")
    gc.freeze()
    woken, wakes = os.pipe()
    os.set_blocking(wakes, False)
    signal.set_wakeup_fd(wakes)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    children: dict[int, int] = {}
    """Process id to the pipe that takes the exit code."""
    while True:
        ready, _, _ = select.select([connection, woken], [], [])
        if woken in ready:
            os.read(woken, 4096)
            _reap(children)
        if connection in ready:
            size, descriptors, _, _ = socket.recv_fds(connection, 4, 2)
            if not size:
                break
            request = json.loads(_exactly(connection, int.from_bytes(size, "big")))
            stdout, told = descriptors
            if (pid := os.fork()) == 0:
                signal.set_wakeup_fd(-1)
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                _become(request, stdout)
            os.close(stdout)
            children[pid] = told
            connection.sendall(pid.to_bytes(4, "big"))
    for pid in children:
        os.kill(pid, signal.SIGKILL)


def _reap(children: dict[int, int]) -> None:
    for pid, told in list(children.items()):
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            with contextlib.suppress(BrokenPipeError):  # the test has ended
                os.write(told, os.waitstatus_to_exitcode(status).to_bytes(STATUS_BYTES, "big", signed=True))
            os.close(told)
            del children[pid]


def _become(request: dict[str, Any], stdout: int) -> None:
    """In the child: what a new process has of its own, and then the program."""
    nothing = os.open(os.devnull, os.O_RDONLY)
    for descriptor, end in ((nothing, 0), (stdout, 1), (stdout, 2)):
        os.dup2(descriptor, end)
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    os.chdir(request["directory"])
    os.environ.clear()
    os.environ.update(request["environment"])
    time.tzset()
    sys.path[0] = request["directory"]
    sys.stdout.reconfigure(write_through=True)  # type: ignore[union-attr]
    arguments = request["arguments"]
    sys.argv = ["edge-extproc", *arguments]
    sys.orig_argv = [sys.executable, "-m", "edge_extproc", *arguments]
    from edge_extproc.__main__ import main

    main()
    sys.exit()


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])))
