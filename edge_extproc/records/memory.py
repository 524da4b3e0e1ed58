"""The records of one process, in memory."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from .base import RecordStoreDown


class MemoryRecords:
    """A `RecordStore` for one worker, without a bound: it is lost when the process ends."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        """`clock`: Unix time in seconds."""
        self._clock = clock
        self._records: dict[bytes, tuple[bytes, float | None]] = {}
        self.down = False
        """True: every method raises RecordStoreDown."""

    def _find(self, name: bytes) -> bytes | None:
        if self.down:
            raise RecordStoreDown("switched off")
        value, until = self._records.get(name, (None, None))
        if until is not None and until <= self._clock():
            del self._records[name]
            return None
        return value

    def _until(self, seconds: float | None) -> float | None:
        return None if seconds is None else self._clock() + seconds

    async def get(self, names: Sequence[bytes]) -> list[bytes | None]:
        return [self._find(name) for name in names]

    async def add(self, names: Sequence[bytes], value: bytes, seconds: float | None) -> None:
        for name in names:
            if self._find(name) is None:
                self._records[name] = (value, self._until(seconds))

    async def claim(self, name: bytes, value: bytes, seconds: float) -> bytes | None:
        existing = self._find(name)
        if existing is None:
            self._records[name] = (value, self._until(seconds))
        return existing

    async def replace(self, name: bytes, before: bytes, value: bytes, seconds: float) -> bool:
        if self._find(name) != before:
            return False
        self._records[name] = (value, self._until(seconds))
        return True

    async def remove(self, name: bytes, value: bytes) -> None:
        if self._find(name) == value:
            del self._records[name]

    async def close(self) -> None:
        """Nothing to close."""
