"""The quarantine: a file with the rows that the ledger cannot accept, and the reason for each.

So one bad row does not block the others. The file has one JSON object in each line. The operator may move or delete it
while the gateway runs. A row is stored once, however often it is refused.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

# About 30,000 rows. More rows than that have the same fault; they are counted and not stored.
_MAX_BYTES = 32 << 20
_MAX_UNSTORED = 100_000
# Bytes. A row of a worker is shorter, because every text in it is cut at 256 characters.
_MAX_LINE = 16 << 10


class QuarantinedRow(msgspec.Struct, frozen=True):
    """One row that is not in the ledger."""

    at_ms: int
    """When it was refused, Unix milliseconds."""
    reason: str
    digest: str
    """A hash of the whole line."""
    line: str
    """The journal's line, up to 16 KiB. Bytes that are not UTF-8 are escaped."""
    tenant: str | None = None
    """None: the tenant cannot be read."""


_decode = msgspec.json.Decoder(QuarantinedRow).decode


class Quarantine:
    """The file. One thread of one process may use it; another thread may read `rows`."""

    def __init__(self, path: Path, *, most_bytes: int = _MAX_BYTES, now: Callable[[], float] = time.time) -> None:
        self.path = path
        self._most_bytes = most_bytes
        self._now = now
        self._stamp: tuple[int, int] | None = None
        self._digests: set[str] = set()
        self._unstored: set[str] = set()
        """The digests of rows for which the file had no room."""

    @property
    def rows(self) -> int:
        """The number of rows in the file, and of those for which it had no room since the start. If the file cannot be
        read, the last known number."""
        with contextlib.suppress(OSError):
            self._reload()
        return len(self._digests) + len(self._unstored)

    def put(self, line: bytes, reason: str, tenant: str | None = None) -> bool:
        """Stores a line. Returns whether it is new. Raises OSError if it cannot be written; the journal keeps it."""
        self._reload()
        digest = hashlib.sha256(line).hexdigest()[:32]
        if digest in self._digests or digest in self._unstored:
            return False
        text = line[:_MAX_LINE].decode("utf-8", "backslashreplace")
        line_of_row = msgspec.json.encode(QuarantinedRow(int(self._now() * 1000), reason, digest, text, tenant)) + b"\n"
        if (self._stamp[1] if self._stamp is not None else 0) + len(line_of_row) > self._most_bytes:
            if len(self._unstored) < _MAX_UNSTORED:
                self._unstored.add(digest)
            return True
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        file = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            with os.fdopen(file, "wb") as stream:
                stream.write(line_of_row)
        finally:
            self._stamp = None
        return True

    def entries(self, tenant: str | None, most: int) -> list[QuarantinedRow]:
        """The last `most` rows, newest first. `tenant`: only this tenant's rows; None: all. Raises OSError."""
        rows = (each for each in _entries(self.path) if tenant is None or each.tenant == tenant)
        return list(reversed(deque(rows, most)))

    def _reload(self) -> None:
        """Reads the file again if it was changed or replaced."""
        try:
            status = self.path.stat()
        except FileNotFoundError:
            if self._stamp is not None:
                self._unstored.clear()
            self._stamp, self._digests = None, set()
            return
        stamp = (status.st_ino, status.st_size)
        if stamp != self._stamp:
            self._digests = {each.digest for each in _entries(self.path)}
            self._stamp = stamp


def _entries(path: Path) -> Iterator[QuarantinedRow]:
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return
    with file:
        for line in file:
            try:
                yield _decode(line)
            except msgspec.DecodeError:  # cut off by a full disk, or written by another program
                continue
