"""What one worker has counted in dollars, in a file: a budget of a month outlives a restart without any store.

It is written off the path, once a second where something changed, and when the worker stops. A worker that is killed
forgets what began within its last second; of older calls that were under way, the worst case stands in the file.
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
"""A counter's key, what it has come to, and the Unix time in seconds at which it may be forgotten."""

_EVERY = 1.0


class _File(msgspec.Struct, frozen=True):
    format: int
    counted: list[tuple[str, int, int]]


_FORMAT = 1
_decode = msgspec.json.Decoder(_File).decode


class CounterFile:
    def __init__(self, path: Path, report: Callable[[BaseException], None], every: float = _EVERY) -> None:
        self._path = path
        self._report = report
        self._every = every
        self._written: bytes | None = None
        self._failed = False
        self._stop = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def read(self) -> Amounts:
        """Nothing where there is no file. Raises StartError where it cannot be read: a budget is not begun anew by a
        guess."""
        try:
            found = _decode(self._path.read_bytes())
        except FileNotFoundError:
            return ()
        except (OSError, msgspec.MsgspecError) as error:
            raise StartError(f"{self._path} cannot be read; remove it, and budgets begin anew") from error
        if found.format != _FORMAT:
            raise StartError(
                f"{self._path} has format {found.format}, not {_FORMAT}; remove it, and budgets begin anew"
            )
        return found.counted

    def start(self, counted: Callable[[], Callable[[], Amounts]]) -> None:
        """`counted` gives what is counted now: a copy, which another thread may look through."""
        self._task = BACKGROUND.start("keep_counters", lambda: self._run(counted), self._stop)

    async def close(self) -> None:
        """What was settled by now is written."""
        if self._task is not None:
            self._stop.set()
            await self._task

    async def _run(self, counted: Callable[[], Callable[[], Amounts]]) -> None:
        while not self._stop.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stop.wait(), self._every)
            await self._write(counted())
        await self._write(counted())  # what was settled while the last one was written

    async def _write(self, counted: Callable[[], Amounts]) -> None:
        try:
            await asyncio.to_thread(self._write_now, counted)
        except OSError as error:
            if not self._failed:  # a full disk is told once
                self._report(error)
            self._failed = True
        else:
            self._failed = False

    def _write_now(self, counted: Callable[[], Amounts]) -> None:
        raw = msgspec.json.encode(_File(_FORMAT, list(counted())))
        if raw == self._written:
            return
        fresh = self._path.with_suffix(".new")
        file = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(file, "wb") as stream:
            stream.write(raw)
            stream.flush()
            os.fsync(stream.fileno())
        # A reader sees the old one or the new one, whole.
        fresh.replace(self._path)
        self._written = raw
