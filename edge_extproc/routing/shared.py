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

# How many rows are taken; then groups of rows. A name (hashed) may stand in any row of one group: first the names of
# all its rows, then for each its failures in a row, open until, probe until, rest until. Only open circuits, recent
# failures and rests take rows, so that is enough.
_HEAD = struct.Struct("<Q")
_WAYS = 8
_NAMES = struct.Struct(f"<{_WAYS}Q")
_ROW = struct.Struct("<Qddd")
_GROUP = _NAMES.size + _WAYS * _ROW.size
_GROUPS = 512
_MAX_REMEMBERED = 4096


class SharedCircuitTable:
    """Raises StartError where the file cannot be made. The names themselves are not in it."""

    def __init__(self, path: Path) -> None:
        size = _HEAD.size + _GROUP * _GROUPS
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            if os.fstat(self._file).st_size < size:
                os.truncate(self._file, size)
            self._rows = mmap.mmap(self._file, size)
        except OSError as error:
            raise StartError(f"cannot share circuits in {path}: {error.strerror}; set agent.sockets") from error
        self._hashes: dict[str, int] = {}

    def all_closed(self) -> bool:
        taken: int = _HEAD.unpack_from(self._rows)[0]
        return not taken

    def read(self, name: str) -> Circuit:
        number = self._number(name)
        group = _group(number)
        names = _NAMES.unpack_from(self._rows, group)
        if number not in names:
            return CLOSED
        return Circuit(*_ROW.unpack_from(self._rows, _row(group, names.index(number))))

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
        group = _group(number)
        names = list(_NAMES.unpack_from(self._rows, group))
        before = sum(map(bool, names))
        if number in names:
            place = names.index(number)
        elif circuit == CLOSED:
            return
        elif 0 in names:
            place = names.index(0)
        else:
            # That whose circuit opened or rested longest ago, or never: it matters least.
            rows = [Circuit(*_ROW.unpack_from(self._rows, _row(group, n))) for n in range(_WAYS)]
            place = min(range(_WAYS), key=lambda n: (max(rows[n].open_until, rows[n].rest_until), rows[n].failures))
        names[place] = 0 if circuit == CLOSED else number
        # What is counted before it is there makes a reader look; the other way round it would not.
        taken = _HEAD.unpack_from(self._rows)[0] + sum(map(bool, names)) - before
        _HEAD.pack_into(self._rows, 0, taken)
        row = (circuit.failures, circuit.open_until, circuit.probe_until, circuit.rest_until)
        _ROW.pack_into(self._rows, _row(group, place), *row)
        _NAMES.pack_into(self._rows, group, *names)

    def _number(self, name: str) -> int:
        number = self._hashes.get(name)
        if number is None:
            if len(self._hashes) >= _MAX_REMEMBERED:
                self._hashes.clear()
            digest = blake2b(name.encode(errors="surrogateescape"), digest_size=8).digest()
            # 0 is a free row.
            number = self._hashes[name] = int.from_bytes(digest, "little") or 1
        return number


def _group(number: int) -> int:
    return _HEAD.size + (number % _GROUPS) * _GROUP


def _row(group: int, place: int) -> int:
    return group + _NAMES.size + place * _ROW.size
