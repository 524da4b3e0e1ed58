"""The store of conversations in the memory of one worker, for a gateway that has only one."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from ..errors import EdgeError, TooLarge
from .base import Blocks, Bounds, RemovalListener, ignore_removal, log_not_stored

# Bytes that a record and each of its blocks take besides their content: measured with sys.getsizeof.
_OVERHEAD = 400


@dataclass(slots=True)
class _Record:
    blocks: list[bytes]
    expires: float
    size: int = 0


@dataclass(slots=True)
class _TenantRecords:
    """The least recently used record is the first one."""

    records: OrderedDict[str, _Record] = field(default_factory=OrderedDict)
    size: int = 0


class MemoryConversations:
    """The `ConversationStore` of one process. `total`: the bound of all tenants together, bytes. `clock`: seconds."""

    down: str | None = None

    def __init__(
        self,
        bounds: Bounds,
        total: int,
        clock: Callable[[], float],
        removed: RemovalListener = ignore_removal,
    ) -> None:
        self._bounds = bounds
        self._removed = removed
        self._total = total
        self._clock = clock
        self._tenants: dict[str, _TenantRecords] = {}
        self._used: OrderedDict[tuple[str, str], None] = OrderedDict()
        """The records of all tenants, the least recently used first."""
        self.size = 0
        """Bytes of all records."""

    @property
    def records(self) -> int:
        return len(self._used)

    async def read(self, tenant: str, ids: Sequence[str]) -> list[Blocks | None]:
        found = [self._touched(tenant, id) for id in ids]
        return [tuple(record.blocks) if record is not None else None for record in found]

    async def write(self, tenant: str, id: str, block: bytes) -> None:
        self._check_size(len(block))
        self._remove(tenant, id)
        of_tenant = self._tenants.setdefault(tenant, _TenantRecords())
        of_tenant.records[id] = _Record([], 0.0)
        self._add(tenant, id, block)

    async def append(self, tenant: str, id: str, block: bytes) -> bool:
        record = self._touched(tenant, id)
        if record is None:
            return False
        self._check_size(record.size + len(block))
        self._add(tenant, id, block)
        return True

    async def replace(self, tenant: str, id: str, at: int, before: bytes, block: bytes) -> bool:
        record = self._touched(tenant, id)
        if record is None or at >= len(record.blocks) or record.blocks[at] != before:
            return False
        growth = len(block) - len(before)
        self._check_size(record.size + growth - _OVERHEAD)
        record.blocks[at] = block
        record.size += growth
        self._tenants[tenant].size += growth
        self.size += growth
        self._make_room(tenant)
        return True

    async def delete(self, tenant: str, id: str) -> bool:
        existed = self._touched(tenant, id) is not None
        self._remove(tenant, id)
        return existed

    def not_stored(self, tenant: str, error: EdgeError) -> None:
        log_not_stored(tenant, error)

    async def close(self) -> None:
        self._tenants.clear()
        self._used.clear()
        self.size = 0

    def _check_size(self, size: int) -> None:
        if size + _OVERHEAD > min(self._bounds.size, self._total):
            raise too_large(size, self._bounds.size)

    def _touched(self, tenant: str, id: str) -> _Record | None:
        """The record, which is now the most recently used one. None: it does not exist, or has expired."""
        of_tenant = self._tenants.get(tenant)
        record = of_tenant.records.get(id) if of_tenant is not None else None
        if of_tenant is None or record is None:
            return None
        if self._clock() >= record.expires:
            self._remove(tenant, id)
            self._removed("expired", 1)
            return None
        record.expires = self._clock() + self._bounds.ttl
        of_tenant.records.move_to_end(id)
        self._used.move_to_end((tenant, id))
        return record

    def _add(self, tenant: str, id: str, block: bytes) -> None:
        of_tenant = self._tenants[tenant]
        record = of_tenant.records[id]
        record.blocks.append(block)
        record.expires = self._clock() + self._bounds.ttl
        size = len(block) + _OVERHEAD
        record.size += size
        of_tenant.size += size
        self.size += size
        self._used[tenant, id] = None
        self._used.move_to_end((tenant, id))
        self._make_room(tenant)

    def _make_room(self, tenant: str) -> None:
        of_tenant = self._tenants[tenant]
        while len(of_tenant.records) > self._bounds.entries or of_tenant.size > self._bounds.size:
            self._remove_for_room(tenant, next(iter(of_tenant.records)))
        while self.size > self._total:
            self._remove_for_room(*next(iter(self._used)))

    def _remove_for_room(self, tenant: str, id: str) -> None:
        record = self._tenants[tenant].records[id]
        self._removed("expired" if self._clock() >= record.expires else "room", 1)
        self._remove(tenant, id)

    def _remove(self, tenant: str, id: str) -> None:
        of_tenant = self._tenants.get(tenant)
        record = of_tenant.records.pop(id, None) if of_tenant is not None else None
        if of_tenant is None or record is None:
            return
        of_tenant.size -= record.size
        self.size -= record.size
        self._used.pop((tenant, id), None)
        if not of_tenant.records:
            del self._tenants[tenant]


def too_large(size: int, limit: int) -> TooLarge:
    return TooLarge(f"this conversation would take {size} bytes, and all that a tenant stores may take {limit}")
