"""A store of records that says when it fails, and when it works again."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from typing import TypeVar

import structlog

from .base import RecordStore, RecordStoreDown

T = TypeVar("T")


class WatchedRecords:
    """A `RecordStore` over another one."""

    def __init__(self, store: RecordStore) -> None:
        self._store = store
        self.down: str | None = None
        """Why the store could not be used the last time. None: it could."""

    async def get(self, names: Sequence[bytes]) -> list[bytes | None]:
        return await self._watched(self._store.get(names))

    async def add(self, names: Sequence[bytes], value: bytes, seconds: float | None) -> None:
        await self._watched(self._store.add(names, value, seconds))

    async def claim(self, name: bytes, value: bytes, seconds: float) -> bytes | None:
        return await self._watched(self._store.claim(name, value, seconds))

    async def replace(self, name: bytes, before: bytes, value: bytes, seconds: float) -> bool:
        return await self._watched(self._store.replace(name, before, value, seconds))

    async def remove(self, name: bytes, value: bytes) -> None:
        await self._watched(self._store.remove(name, value))

    async def close(self) -> None:
        await self._store.close()

    async def _watched(self, step: Awaitable[T]) -> T:
        """The result of a step. Each new reason for a failure is logged once."""
        try:
            result = await step
        except RecordStoreDown as error:
            if str(error) != self.down:
                structlog.get_logger().warning("record store down", reason=str(error))
            self.down = str(error)
            raise
        if self.down is not None:
            structlog.get_logger().info("record store back")
            self.down = None
        return result
