"""Records in the memory of this process, with an exact search: each partition has its vectors in one matrix.

The bounds are a number of records and of bytes, over all partitions. The record that was used least recently is
evicted.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import numpy as np

from ..base import PurgeSelection, TierCounts
from ..memory import OVERHEAD, fits
from .base import Neighbour, SemanticRecord, Vector

_FIRST_ROWS = 4


class _Partition:
    """The vectors of one partition, and the digests of their records, row by row."""

    __slots__ = ("digests", "matrix")

    def __init__(self, dimensions: int) -> None:
        self.digests: list[bytes] = []
        self.matrix = np.empty((_FIRST_ROWS, dimensions), np.float32)

    def append(self, digest: bytes, vector: Vector) -> None:
        row = len(self.digests)
        if row == len(self.matrix):
            larger = np.empty((2 * row, self.matrix.shape[1]), np.float32)
            larger[:row] = self.matrix
            self.matrix = larger
        self.matrix[row] = vector
        self.digests.append(digest)

    def remove(self, digest: bytes) -> None:
        row, last = self.digests.index(digest), len(self.digests) - 1
        self.matrix[row] = self.matrix[last]
        self.digests[row] = self.digests[last]
        self.digests.pop()


class MemoryVectorStore:
    """The `VectorStore` of one process."""

    shared = False
    down: str | None = None

    def __init__(self, entries: int, size: int) -> None:
        self._entries = entries
        self._size = size
        self._partitions: dict[bytes, _Partition] = {}
        self._records: OrderedDict[tuple[bytes, bytes], SemanticRecord] = OrderedDict()
        """By partition and digest of the key; the record that was used last is the last one."""
        self._bytes = 0
        self._evictions = 0

    async def nearest(self, partition: bytes, vector: Vector, count: int, now: float) -> Sequence[Neighbour]:
        rows = self._partitions.get(partition)
        if rows is None:
            return ()
        while True:
            nearest = self._nearest(partition, rows, vector, count)
            expired = [each.record.key.digest for each in nearest if each.record.expires <= now]
            if not expired:
                break
            for digest in expired:
                self._remove((partition, digest))
        if nearest:
            self._records.move_to_end((partition, nearest[0].record.key.digest))
        return nearest

    def _nearest(self, partition: bytes, rows: _Partition, vector: Vector, count: int) -> list[Neighbour]:
        """Also those that have expired."""
        similarities = rows.matrix[: len(rows.digests)] @ vector
        if len(similarities) > count:  # a partition is cheaper than to sort all
            some = np.argpartition(similarities, len(similarities) - count)[-count:]
            some = some[np.argsort(similarities[some])[::-1]]
        else:
            some = np.argsort(similarities)[::-1]
        return [
            Neighbour(self._records[partition, rows.digests[row]], float(similarities[row])) for row in some.tolist()
        ]

    async def put(self, record: SemanticRecord, now: float) -> None:
        size = _size_of(record)
        if record.expires <= now or size > self._size:
            return
        name = (record.partition, record.key.digest)
        if name in self._records:
            self._remove(name)
        rows = self._partitions.get(record.partition)
        if rows is None:
            rows = self._partitions[record.partition] = _Partition(len(record.vector))
        rows.append(record.key.digest, record.vector)
        self._records[name] = record
        self._bytes += size
        while len(self._records) > self._entries or self._bytes > self._size:
            self._remove(next(iter(self._records)))
            self._evictions += 1

    async def purge(self, selection: PurgeSelection) -> int:
        matching = [name for name, record in self._records.items() if fits(record.key, selection)]
        for name in matching:
            self._remove(name)
        return len(matching)

    def counts(self) -> TierCounts:
        return TierCounts(len(self._records), self._bytes, self._evictions)

    async def close(self) -> None:
        """Nothing is open."""

    def _remove(self, name: tuple[bytes, bytes]) -> None:
        self._bytes -= _size_of(self._records.pop(name))
        partition, digest = name
        rows = self._partitions[partition]
        rows.remove(digest)
        if not rows.digests:
            del self._partitions[partition]


def _size_of(record: SemanticRecord) -> int:
    texts = len(record.text) + len(record.answer)
    return len(record.entry.body) + texts + record.vector.nbytes + OVERHEAD
