"""A store of conversations whose operations are counted."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import EdgeError, TooLarge
from .base import Blocks, ConversationStore, Operation, Result, StoreListener


class WatchedConversations:
    """A `ConversationStore` over another one."""

    def __init__(self, store: ConversationStore, listener: StoreListener) -> None:
        self._store = store
        self._listener = listener

    @property
    def down(self) -> str | None:
        return self._store.down

    async def read(self, tenant: str, ids: Sequence[str]) -> list[Blocks | None]:
        try:
            found = await self._store.read(tenant, ids)
        except EdgeError as error:
            self._failed("read", error, len(ids))
            raise
        present = [blocks for blocks in found if blocks is not None]
        if present:
            self._listener.performed("read", "done", len(present), sum(len(each) for one in present for each in one))
        if len(present) < len(found):
            self._listener.performed("read", "missed", len(found) - len(present), 0)
        return found

    async def write(self, tenant: str, id: str, block: bytes) -> None:
        try:
            await self._store.write(tenant, id, block)
        except EdgeError as error:
            self._failed("write", error)
            raise
        self._listener.performed("write", "done", 1, len(block))

    async def append(self, tenant: str, id: str, block: bytes) -> bool:
        try:
            existed = await self._store.append(tenant, id, block)
        except EdgeError as error:
            self._failed("append", error)
            raise
        return self._performed("append", existed, len(block))

    async def replace(self, tenant: str, id: str, at: int, before: bytes, block: bytes) -> bool:
        try:
            existed = await self._store.replace(tenant, id, at, before, block)
        except EdgeError as error:
            self._failed("replace", error)
            raise
        return self._performed("replace", existed, len(block))

    async def delete(self, tenant: str, id: str) -> bool:
        try:
            existed = await self._store.delete(tenant, id)
        except EdgeError as error:
            self._failed("delete", error)
            raise
        return self._performed("delete", existed, 0)

    def not_stored(self, tenant: str, error: EdgeError) -> None:
        self._listener.not_stored(error)
        self._store.not_stored(tenant, error)

    async def close(self) -> None:
        await self._store.close()

    def _performed(self, operation: Operation, existed: bool, size: int) -> bool:
        self._listener.performed(operation, "done" if existed else "missed", 1, size if existed else 0)
        return existed

    def _failed(self, operation: Operation, error: EdgeError, records: int = 1) -> None:
        result: Result = "too_large" if isinstance(error, TooLarge) else "error"
        self._listener.performed(operation, result, records, 0)
