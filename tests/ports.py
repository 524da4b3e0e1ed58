"""Ports for programs that a test starts.

They are below those that the kernel gives to outgoing connections, and each process of tests has blocks of its own.
A port that the kernel chose can be taken again before the program listens on it.
"""

from __future__ import annotations

import fcntl
import os
import socket
import tempfile
import threading
from pathlib import Path

_FIRST, _END, _BLOCK = 11_000, 19_900, 50
_BUS = 10_000
"""The cluster bus of a Valkey is so far above its port."""
_BLOCKS = Path(tempfile.gettempdir()) / f"edge-test-ports-{os.getuid()}"

_mutex = threading.Lock()
_locks: list[int] = []
"""Open files, whose locks end with this process."""
_left: list[range] = []


def free_port() -> int:
    return free_ports(1)


def free_ports(count: int) -> int:
    """The first of `count` ports in a row, which are free on all addresses."""
    with _mutex:
        while True:
            if not _left or len(_left[-1]) < count:
                _left.append(_new_block())
            block = _left.pop()
            _left.append(block[count:])
            if all(_is_free(port) and _is_free(port + _BUS) for port in block[:count]):
                return block[0]


def _new_block() -> range:
    _BLOCKS.mkdir(mode=0o700, exist_ok=True)
    for first in range(_FIRST, _END, _BLOCK):
        lock = os.open(_BLOCKS / str(first), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
        else:
            _locks.append(lock)
            return range(first, first + _BLOCK)
    raise RuntimeError("the tests have no ports left")


def _is_free(port: int) -> bool:
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind(("", port))
        except OSError:
            return False
    return True
