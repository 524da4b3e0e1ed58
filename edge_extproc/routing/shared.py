"""The `CircuitTable` that all workers of a machine share: a small file that each worker maps into its memory.

A read needs no system call. A write holds a lock on the file for some microseconds; the kernel releases the lock if its
holder dies. A reader may see a row that is half written. Then it misjudges one call, which does no harm.

Times are of the system's monotonic clock, which all processes of a machine share. It restarts with the machine, so the
supervisor removes the file before it starts the workers.
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

# The file: the number of used rows, then groups of rows. A hashed name may be in any row of one group. A group: the
# names of all its rows, then for each row its failures, `open_until`, `probe_until` and `rest_until`. Only circuits
# that are open, resting or have recent failures use a row, so this size is enough.
_HEADER = struct.Struct("<Q")
_ROWS_PER_GROUP = 8
_NAMES = struct.Struct(f"<{_ROWS_PER_GROUP}Q")
_ROW = struct.Struct("<Qddd")
_GROUP = _NAMES.size + _ROWS_PER_GROUP * _ROW.size
_GROUPS = 512
_MAX_CACHED = 4096


class SharedCircuitTable:
    """Raises StartError if the file cannot be created. The file holds hashes of the names only."""

    def __init__(self, path: Path) -> None:
        size = _HEADER.size + _GROUP * _GROUPS
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            # With its blocks: a write into a mapped hole of a full disk kills the process (SIGBUS).
            os.posix_fallocate(self._file, 0, size)
            self._rows = mmap.mmap(self._file, size)
        except OSError as error:
            raise StartError(f"cannot share circuits in {path}: {error.strerror}; set agent.sockets") from error
        self._hashes: dict[str, int] = {}

    def all_closed(self) -> bool:
        used_rows: int = _HEADER.unpack_from(self._rows)[0]
        return not used_rows

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
            changed = change(self.read(name))
            if changed is not None:
                self._write(self._number(name), changed)
            return changed is not None
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
            # The group is full: replace the circuit whose opening or rest ended first, because it matters least.
            rows = [Circuit(*_ROW.unpack_from(self._rows, _row(group, n))) for n in range(_ROWS_PER_GROUP)]
            place = min(
                range(_ROWS_PER_GROUP), key=lambda n: (max(rows[n].open_until, rows[n].rest_until), rows[n].failures)
            )
        names[place] = 0 if circuit == CLOSED else number
        # The count is written first: with a stale count of 0, a reader would not look at the rows.
        used_rows = _HEADER.unpack_from(self._rows)[0] + sum(map(bool, names)) - before
        _HEADER.pack_into(self._rows, 0, used_rows)
        row = (circuit.failures, circuit.open_until, circuit.probe_until, circuit.rest_until)
        _ROW.pack_into(self._rows, _row(group, place), *row)
        _NAMES.pack_into(self._rows, group, *names)

    def _number(self, name: str) -> int:
        number = self._hashes.get(name)
        if number is None:
            if len(self._hashes) >= _MAX_CACHED:
                self._hashes.clear()
            digest = blake2b(name.encode(errors="surrogateescape"), digest_size=8).digest()
            # 0 marks a free row.
            number = self._hashes[name] = int.from_bytes(digest, "little") or 1
        return number


def _group(number: int) -> int:
    return _HEADER.size + (number % _GROUPS) * _GROUP


def _row(group: int, place: int) -> int:
    return group + _NAMES.size + place * _ROW.size
