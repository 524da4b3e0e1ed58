"""Circuits that all workers of a machine share: a table in a small file that each of them maps into its memory.

Reading costs a look-up and no system call. Whoever writes holds a lock on the file for the few microseconds that it
takes; the kernel gives the lock back if its holder dies. A reader may meet a row that is half written: it then sends a
call where it need not, or not where it could, once.

Times are those of the system's monotonic clock, which all processes of a machine share. It begins anew with the
machine, so whoever starts the workers removes the file first.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import struct
from hashlib import blake2b
from pathlib import Path

from ..errors import StartError
from .breaker import CLOSED, Change, Circuit

# Name (hashed), failures in a row, open until, probe until.
_ROW = struct.Struct("<QQdd")
_ROWS = 4096
# How many rows a name may stand in. Only open circuits and recent failures take rows, so that is enough.
_WAYS = 8
_MAX_REMEMBERED = 4096


class SharedSlots:
    """Raises StartError where the file cannot be made. The names themselves are not in it."""

    def __init__(self, path: Path) -> None:
        size = _ROW.size * _ROWS
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            if os.fstat(self._file).st_size < size:
                os.truncate(self._file, size)
            self._rows = mmap.mmap(self._file, size)
        except OSError as error:
            raise StartError(f"cannot share circuits in {path}: {error.strerror}; set agent.sockets") from error
        self._hashes: dict[str, int] = {}

    def read(self, name: str) -> Circuit:
        number = self._number(name)
        for row in self._places(number):
            found = _ROW.unpack_from(self._rows, row)
            if found[0] == number:
                return Circuit(found[1], found[2], found[3])
        return CLOSED

    def change(self, name: str, change: Change) -> bool:
        fcntl.flock(self._file, fcntl.LOCK_EX)
        try:
            made = change(self.read(name))
            if made is not None:
                self._write(self._number(name), made)
            return made is not None
        finally:
            fcntl.flock(self._file, fcntl.LOCK_UN)

    def close(self) -> None:
        self._rows.close()
        os.close(self._file)

    def _write(self, number: int, circuit: Circuit) -> None:
        places = self._places(number)
        taken = [_ROW.unpack_from(self._rows, row) for row in places]
        mine = next((n for n, found in enumerate(taken) if found[0] == number), None)
        if circuit == CLOSED:
            if mine is not None:
                _ROW.pack_into(self._rows, places[mine], 0, 0, 0.0, 0.0)
            return
        if mine is None:
            # A free row; else that whose circuit opened longest ago, or never: it matters least.
            mine = min(range(_WAYS), key=lambda n: (taken[n][0] != 0, taken[n][2], taken[n][1]))
        _ROW.pack_into(self._rows, places[mine], number, circuit.failures, circuit.open_until, circuit.probe_until)

    def _places(self, number: int) -> range:
        first = (number % (_ROWS // _WAYS)) * _WAYS * _ROW.size
        return range(first, first + _WAYS * _ROW.size, _ROW.size)

    def _number(self, name: str) -> int:
        number = self._hashes.get(name)
        if number is None:
            if len(self._hashes) >= _MAX_REMEMBERED:
                self._hashes.clear()
            digest = blake2b(name.encode(errors="surrogateescape"), digest_size=8).digest()
            # 0 is a free row.
            number = self._hashes[name] = int.from_bytes(digest, "little") or 1
        return number
