"""Rows that the ledger cannot take: kept in a file with the reason, so that all other rows go on.

One JSON object a line. The file is the operator's: once it was looked at, it may be moved away or deleted while the
gateway runs. A row is kept once, however often it is refused.
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

# About 30,000 rows: more than that is one fault many times. What comes later is counted and not kept.
_MOST_BYTES = 32 << 20
_MOST_BEYOND = 100_000
# Longer than any row that a worker writes (every text in it is cut at 256 characters).
_LONGEST = 16 << 10


class Refused(msgspec.Struct, frozen=True):
    """One row that is not in the ledger."""

    at_ms: int
    """When it was refused, Unix milliseconds."""
    reason: str
    digest: str
    """Of the whole line."""
    line: str
    """As the journal has it, up to 16 KiB; bytes that are not UTF-8 are escaped."""
    tenant: str | None = None
    """Whose request it was, where that can be read."""


_decode = msgspec.json.Decoder(Refused).decode


class Quarantine:
    """For one process and one thread at a time; `rows` may be asked by another one."""

    def __init__(self, path: Path, *, most_bytes: int = _MOST_BYTES, now: Callable[[], float] = time.time) -> None:
        self.path = path
        self._most_bytes = most_bytes
        self._now = now
        self._stamp: tuple[int, int] | None = None
        self._digests: set[str] = set()
        self._beyond: set[str] = set()
        """Of rows for which there was no room."""

    @property
    def rows(self) -> int:
        """How many there are now, with those that found no room since the start; as last known where the file cannot be
        read."""
        with contextlib.suppress(OSError):
            self._look()
        return len(self._digests) + len(self._beyond)

    def put(self, line: bytes, reason: str, tenant: str | None = None) -> bool:
        """Whether it is a new one. Raises OSError where it cannot be written: the journal then still has it."""
        self._look()
        digest = hashlib.sha256(line).hexdigest()[:32]
        if digest in self._digests or digest in self._beyond:
            return False
        text = line[:_LONGEST].decode("utf-8", "backslashreplace")
        written = msgspec.json.encode(Refused(int(self._now() * 1000), reason, digest, text, tenant)) + b"\n"
        if (self._stamp[1] if self._stamp is not None else 0) + len(written) > self._most_bytes:
            if len(self._beyond) < _MOST_BEYOND:
                self._beyond.add(digest)
            return True
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        file = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            with os.fdopen(file, "wb") as stream:
                stream.write(written)
        finally:
            self._stamp = None
        return True

    def entries(self, tenant: str | None, most: int) -> list[Refused]:
        """The last ones, newest first; with `tenant` only those of this one. Raises OSError."""
        wanted = (each for each in _entries(self.path) if tenant is None or each.tenant == tenant)
        return list(reversed(deque(wanted, most)))

    def _look(self) -> None:
        """Reads the file where it is not the one that is known."""
        try:
            found = self.path.stat()
        except FileNotFoundError:
            if self._stamp is not None:
                self._beyond.clear()
            self._stamp, self._digests = None, set()
            return
        stamp = (found.st_ino, found.st_size)
        if stamp != self._stamp:
            self._digests = {each.digest for each in _entries(self.path)}
            self._stamp = stamp


def _entries(path: Path) -> Iterator[Refused]:
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return
    with file:
        for line in file:
            try:
                yield _decode(line)
            except msgspec.DecodeError:  # torn by a full disk, or written by somebody else
                continue
