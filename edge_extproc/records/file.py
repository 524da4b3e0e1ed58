"""The records of all workers of a machine, in an SQLite file of the state directory.

Each process has one thread that uses the file, so that no request of another caller waits for the disk or for the lock
of another worker.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from ..errors import StartError
from .base import RecordStoreDown

T = TypeVar("T")

_SCHEMA = "CREATE TABLE IF NOT EXISTS records (name BLOB PRIMARY KEY, value BLOB NOT NULL, until REAL) WITHOUT ROWID"
_BY_TIME = "CREATE INDEX IF NOT EXISTS records_until ON records (until) WHERE until IS NOT NULL"
_LOCK_SECONDS = 5.0
"""How long a write waits for the write of another process."""
_PAUSE_SECONDS = 0.02
_PRIMARY_CODE = 0xFF
"""The bits of an error code of SQLite without its details."""
# One statement may have 999 parameters in an old SQLite.
_NAMES_AT_ONCE = 500
# Each write removes a few expired records, so the file does not grow with records that nobody reads.
_REMOVED_AT_ONCE = 50


class FileRecords:
    """Raises StartError if the file cannot be created."""

    def __init__(self, path: Path, clock: Callable[[], float] = time.time) -> None:
        """`clock`: Unix time in seconds."""
        self._clock = clock
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="records")
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            self._database = self._thread.submit(_open, path).result()
        except (OSError, sqlite3.Error) as error:
            self._thread.shutdown(wait=False)
            raise StartError(f"cannot use {path}: {error}; set agent.state_dir") from error

    async def get(self, names: Sequence[bytes]) -> list[bytes | None]:
        now = self._clock()
        return await self._run(lambda database: _get(database, names, now), writes=False) if names else []

    async def add(self, names: Sequence[bytes], value: bytes, seconds: float | None) -> None:
        now = self._clock()
        until = None if seconds is None else now + seconds
        await self._run(lambda database: _add(database, [(name, value, until) for name in names], now))

    async def claim(self, name: bytes, value: bytes, seconds: float) -> bytes | None:
        now = self._clock()
        return await self._run(lambda database: _claim(database, name, value, now, now + seconds))

    async def replace(self, name: bytes, before: bytes, value: bytes, seconds: float) -> bool:
        now = self._clock()
        return await self._run(lambda database: _replace(database, name, before, value, now, now + seconds))

    async def remove(self, name: bytes, value: bytes) -> None:
        await self._run(lambda database: _remove(database, name, value))

    async def close(self) -> None:
        await asyncio.get_running_loop().run_in_executor(self._thread, self._database.close)
        self._thread.shutdown(wait=False)

    async def _run(self, step: Callable[[sqlite3.Connection], T], *, writes: bool = True) -> T:
        """Runs one step in the thread, as one transaction."""
        try:
            return await asyncio.get_running_loop().run_in_executor(
                self._thread, _transact, self._database, step, writes
            )
        except sqlite3.Error as error:
            raise RecordStoreDown(f"{type(error).__name__}: {error}") from error


def _open(path: Path) -> sqlite3.Connection:
    """Workers start together, and each may be the one that prepares a new file. SQLite does not wait for the lock of a
    process that changes the journal mode too, because both could wait for each other: so the step is repeated."""
    until = time.monotonic() + _LOCK_SECONDS
    while True:
        # Without isolation level, `BEGIN` and `COMMIT` are ours.
        database = sqlite3.connect(path, timeout=_LOCK_SECONDS, isolation_level=None, check_same_thread=False)
        try:
            for statement in ("PRAGMA journal_mode=WAL", "PRAGMA synchronous=NORMAL", _SCHEMA, _BY_TIME):
                database.execute(statement)
        except sqlite3.OperationalError as error:
            database.close()
            if error.sqlite_errorcode & _PRIMARY_CODE != sqlite3.SQLITE_BUSY or time.monotonic() > until:
                raise
            time.sleep(_PAUSE_SECONDS)
        else:
            return database


def _transact(database: sqlite3.Connection, step: Callable[[sqlite3.Connection], T], writes: bool) -> T:
    # A transaction that writes takes the lock at its begin: one that reads first could not get it later.
    database.execute("BEGIN IMMEDIATE" if writes else "BEGIN")
    try:
        result = step(database)
        database.execute("COMMIT")
    except BaseException:
        if database.in_transaction:
            database.execute("ROLLBACK")
        raise
    return result


def _get(database: sqlite3.Connection, names: Sequence[bytes], now: float) -> list[bytes | None]:
    found: dict[bytes, bytes] = {}
    for at in range(0, len(names), _NAMES_AT_ONCE):
        some = names[at : at + _NAMES_AT_ONCE]
        marks = ",".join("?" * len(some))
        rows: Iterable[tuple[bytes, bytes]] = database.execute(
            f"SELECT name, value FROM records WHERE name IN ({marks}) AND (until IS NULL OR until > ?)",  # noqa: S608 - only question marks are inserted
            (*some, now),
        )
        found.update(rows)
    return [found.get(name) for name in names]


def _add(database: sqlite3.Connection, rows: Sequence[tuple[bytes, bytes, float | None]], now: float) -> None:
    _expire(database, [name for name, _, _ in rows], now)
    database.executemany("INSERT OR IGNORE INTO records VALUES (?, ?, ?)", rows)


def _claim(database: sqlite3.Connection, name: bytes, value: bytes, now: float, until: float) -> bytes | None:
    existing = _get(database, [name], now)[0]
    if existing is None:
        _expire(database, [name], now)
        database.execute("INSERT INTO records VALUES (?, ?, ?)", (name, value, until))
    return existing


def _replace(database: sqlite3.Connection, name: bytes, before: bytes, value: bytes, now: float, until: float) -> bool:
    changed = database.execute(
        "UPDATE records SET value = ?, until = ? WHERE name = ? AND value = ? AND until > ?",
        (value, until, name, before, now),
    )
    return changed.rowcount > 0


def _remove(database: sqlite3.Connection, name: bytes, value: bytes) -> None:
    database.execute("DELETE FROM records WHERE name = ? AND value = ?", (name, value))


def _expire(database: sqlite3.Connection, names: Sequence[bytes], now: float) -> None:
    """Removes these records if they have expired, and a few others."""
    database.executemany("DELETE FROM records WHERE name = ? AND until <= ?", [(name, now) for name in names])
    database.execute(
        "DELETE FROM records WHERE name IN (SELECT name FROM records WHERE until <= ? LIMIT ?)", (now, _REMOVED_AT_ONCE)
    )
