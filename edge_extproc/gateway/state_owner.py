"""One gateway owns a state directory: two would replace each other's sockets, circuits and files.

The owner holds a lock (flock) on a file in the directory for as long as it lives. The kernel releases it whichever way
the process ends, so a killed gateway leaves no stale lock. What is written in the file only names the owner.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from ..errors import StartError

LOCK = "owner.lock"
_LONGEST = 16 << 10


class StateOwner(msgspec.Struct, frozen=True):
    """Who holds the lock, for the message to whoever wants it next."""

    pid: int
    host: str
    """Another container that shares the directory has process ids of its own."""
    started_ms: int
    """Unix time, milliseconds."""
    command: str
    """`up` or `serve`, with its configuration file."""
    address: str
    """Where it listens: the gateway's port, or the admin port of a gateway without one."""


_decode = msgspec.json.Decoder(StateOwner).decode


def owner(command: str, address: str, now: float) -> StateOwner:
    """This process. `now`: Unix time, seconds."""
    return StateOwner(os.getpid(), socket.gethostname(), int(now * 1000), command, address)


@contextlib.contextmanager
def owned(directories: Iterable[Path], own: StateOwner) -> Iterator[None]:
    """Holds the lock of each of `directories`, which are made where they do not exist. Raises StartError that names the
    owner where one has another one."""
    with contextlib.ExitStack() as held:
        for directory in sorted({each.resolve() for each in directories}):
            held.callback(os.close, _lock(directory, own))
        yield


def _lock(directory: Path, own: StateOwner) -> int:
    """The open file, which holds the lock until it is closed."""
    path = directory / LOCK
    try:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StartError(f"cannot keep state in {directory}: {error.strerror}; {_ELSEWHERE}") from error
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.ftruncate(file, 0)
        os.pwrite(file, msgspec.json.encode(own), 0)
    except BlockingIOError:
        found = os.pread(file, _LONGEST, 0)
        os.close(file)
        raise StartError(f"{directory} is in use by {_named(found, own.host)}; stop it, or {_ELSEWHERE}") from None
    except OSError as error:
        os.close(file)
        raise StartError(f"cannot lock {path}: {error.strerror}; {_ELSEWHERE}") from error
    return file


_ELSEWHERE = (
    "choose another directory with --state-dir, or with agent.state_dir (and agent.sockets) in the configuration"
)


def _named(written: bytes, host: str) -> str:
    try:
        found = _decode(written)
    except (msgspec.DecodeError, ValueError):  # it has the lock, and has not written yet
        return "another gateway"
    place = f" on {found.host}" if found.host != host else ""
    started = datetime.fromtimestamp(found.started_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    return (
        f"another gateway: process {found.pid}{place}, started {started} as `{found.command}`, listening on "
        f"{found.address}"
    )
