"""Saves one worker's dollar counters in a file, so that budgets survive a restart without a shared store.

A background task writes the file once a second if a counter has changed, and when the worker stops. A worker that is
killed loses the calls that began in its last second. Older calls in progress are in the file with their reservations.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeAlias

import msgspec

from ..errors import StartError
from ..telemetry.background import BACKGROUND

Amounts: TypeAlias = Sequence[tuple[str, int, int]]
"""A counter's key, its value, and the Unix time in seconds from which it may be deleted."""

_INTERVAL = 1.0


class _File(msgspec.Struct, frozen=True):
    format: int
    counted: list[tuple[str, int, int]]


_FORMAT = 1
_decode = msgspec.json.Decoder(_File).decode


def write_counters(path: Path, counted: Amounts) -> None:
    """Replaces the file. Raises OSError."""
    _replace(path, msgspec.json.encode(_File(_FORMAT, list(counted))))


def _replace(path: Path, raw: bytes) -> None:
    fresh = path.with_suffix(".new")
    file = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(file, "wb") as stream:
        stream.write(raw)
        stream.flush()
        os.fsync(stream.fileno())
    # The rename is atomic: a reader sees either the old file or the new one.
    fresh.replace(path)


class CounterFile:
    """Reads the file at the start, and writes it in the background. `on_error` is called for the first error of a
    disk, and again after the file could be written in between."""

    def __init__(self, path: Path, on_error: Callable[[OSError], None], every: float = _INTERVAL) -> None:
        self._path = path
        self._on_error = on_error
        self._every = every
        self._written: bytes | None = None
        self._failed = False
        self._stop = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def read(self) -> Amounts:
        """Empty if there is no file. Raises StartError if the file cannot be read: a budget must not restart from zero
        by accident."""
        try:
            saved = _decode(self._path.read_bytes())
        except FileNotFoundError:
            return ()
        except (OSError, msgspec.MsgspecError) as error:
            raise StartError(f"{self._path} cannot be read; remove it to restart budgets from zero") from error
        if saved.format != _FORMAT:
            raise StartError(
                f"{self._path} has format {saved.format}, not {_FORMAT}; remove it to restart budgets from zero"
            )
        return saved.counted

    def start(self, counted: Callable[[], Callable[[], Amounts]]) -> None:
        """`counted` returns a function that another thread calls for the counters of this moment."""
        self._task = BACKGROUND.start("keep_counters", lambda: self._run(counted), self._stop)

    async def close(self) -> None:
        """Writes the file once more and stops."""
        if self._task is not None:
            self._stop.set()
            await self._task

    async def _run(self, counted: Callable[[], Callable[[], Amounts]]) -> None:
        while not self._stop.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stop.wait(), self._every)
            await self._write(counted())
        await self._write(counted())  # settlements during the previous write

    async def _write(self, counted: Callable[[], Amounts]) -> None:
        try:
            await asyncio.to_thread(self._write_now, counted)
        except OSError as error:
            if not self._failed:  # a full disk is reported once
                self._on_error(error)
            self._failed = True
        else:
            self._failed = False

    def _write_now(self, counted: Callable[[], Amounts]) -> None:
        raw = msgspec.json.encode(_File(_FORMAT, list(counted())))
        if raw == self._written:
            return
        _replace(self._path, raw)
        self._written = raw
