"""Locks a state directory for one gateway: two would replace each other's sockets, circuit breakers and files.

The owner holds a lock (flock) on a file in the directory while it runs. The kernel releases the lock when the process
ends, so a killed gateway leaves no stale lock. The content of the file only identifies the owner.
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
_MAX_BYTES = 16 << 10


class StateOwner(msgspec.Struct, frozen=True):
    """The process that holds the lock, for the error message of another gateway."""

    pid: int
    host: str
    """Process ids are unique only within one host or container."""
    started_ms: int
    """Unix time, milliseconds."""
    command: str
    """`up` or `serve`, with its configuration file."""
    address: str
    """Where it listens: the gateway's port, or the admin port if the gateway runs no Envoy."""


_decode = msgspec.json.Decoder(StateOwner).decode


def owner(command: str, address: str, now: float) -> StateOwner:
    """This process. `now`: Unix time, seconds."""
    return StateOwner(os.getpid(), socket.gethostname(), int(now * 1000), command, address)


@contextlib.contextmanager
def owned(directories: Iterable[Path], own: StateOwner) -> Iterator[None]:
    """Holds the locks of all `directories`, and creates missing ones. Raises StartError, which names the owner, if
    another gateway holds one of them."""
    with contextlib.ExitStack() as locks:
        for directory in sorted({each.resolve() for each in directories}):
            locks.callback(os.close, _lock(directory, own))
        yield


def owner_of(directory: Path) -> str | None:
    """The gateway that runs in a directory, as text. None: there is none."""
    try:
        file = os.open(directory / LOCK, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _describe(os.pread(file, _MAX_BYTES, 0), socket.gethostname())
    finally:
        os.close(file)
    return None


def _lock(directory: Path, own: StateOwner) -> int:
    """The descriptor of the file. The lock is held until it is closed."""
    path = directory / LOCK
    try:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StartError(f"cannot store state in {directory}: {error.strerror}; {_ELSEWHERE}") from error
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.ftruncate(file, 0)
        os.pwrite(file, msgspec.json.encode(own), 0)
    except BlockingIOError:
        recorded = os.pread(file, _MAX_BYTES, 0)
        os.close(file)
        raise StartError(
            f"{directory} is in use by {_describe(recorded, own.host)}; stop it, or {_ELSEWHERE}"
        ) from None
    except OSError as error:
        os.close(file)
        raise StartError(f"cannot lock {path}: {error.strerror}; {_ELSEWHERE}") from error
    return file


_ELSEWHERE = (
    "choose another directory with --state-dir, or with agent.state_dir (and agent.sockets) in the configuration"
)


def _describe(written: bytes, host: str) -> str:
    try:
        recorded = _decode(written)
    except (msgspec.DecodeError, ValueError):  # the owner has the lock and has not written yet
        return "another gateway"
    place = f" on {recorded.host}" if recorded.host != host else ""
    started = datetime.fromtimestamp(recorded.started_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    return (
        f"another gateway: process {recorded.pid}{place}, started {started} as `{recorded.command}`, listening on "
        f"{recorded.address}"
    )
