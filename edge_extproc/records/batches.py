"""The batches that are in progress at providers: what their input files cost at most, and what was charged for them.

    input file     what its requests cost at most     from its upload, for the batches that are made of it
    batch          who is charged, and how much       from its creation until its usage is known
    output file    the batch that it belongs to       from the end of the batch

A reply that a provider makes in the background is kept like a batch of one request. A batch is settled once: its record
is replaced in one atomic step, and whoever replaced it makes the entries.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, TypeVar

import msgspec

from ..errors import PolicyUnavailable
from .base import RecordStore, RecordStoreDown, record_name

T = TypeVar("T")

_FILE, _BATCH, _OUTPUT = "batch input", "batch", "batch output"
# Seconds. Providers keep files and results for at most 30 days, unless a file has no expiry.
_FILE_SECONDS, _BATCH_SECONDS = 400 * 86_400.0, 100 * 86_400.0
_SETTLED = b"settled"
MOST_MODELS = 64
"""Models in the record of a batch."""


class BatchCost(msgspec.Struct, frozen=True, array_like=True):
    """The most that the requests of a batch can use."""

    requests: int
    size: int
    """Bytes of all requests."""
    tokens: int
    """As limits of tokens count a call before it is sent."""
    micro_dollars: int | None
    """At the prices of a batch. None: a price is not known."""
    assumed: int
    """Micro-dollars, with the assumed price where none is known."""
    models: tuple[str, ...]
    """The provider's names, the first MOST_MODELS."""
    url: str
    """The path of the requests. "": they have several."""


class Charge(msgspec.Struct, frozen=True, array_like=True):
    """What was added to one counter of a limit."""

    key: str
    is_money: bool
    amount: int
    """Micro-dollars or tokens."""
    expires: int


class OpenBatch(msgspec.Struct, frozen=True, array_like=True):
    """A batch whose usage is not known yet."""

    id: str
    tenant: str
    team: str | None
    user: str | None
    key: str | None
    provider: str
    path: str
    dialect: str
    started_at: float
    """When it was created, Unix time in seconds."""
    cost: BatchCost | None
    """None: its input file was not read by this gateway."""
    charges: tuple[Charge, ...]
    runs: tuple[str, ...] = ()
    """The run of the call that created it, and that run's parent."""
    tiers: tuple[str, ...] = ()
    """Of a reply in the background: the service tiers that it was asked for, which have prices of their own."""


_read_cost = msgspec.msgpack.Decoder(BatchCost).decode
_read_batch = msgspec.msgpack.Decoder(OpenBatch).decode
_write = msgspec.msgpack.Encoder().encode


_OPTIONAL_FIELDS: Final = ("runs", "tiers")


def _write_batch(batch: OpenBatch) -> bytes:
    """Fields at the end that are empty are left out, as in earlier versions: `settle` compares the bytes."""
    fields = list(msgspec.structs.astuple(batch))
    for _ in _OPTIONAL_FIELDS:
        if fields[-1]:
            break
        fields.pop()
    return _write(fields)


class Batches:
    """`accounts`: the name of each provider's account; providers with the same account have the same one."""

    def __init__(self, store: RecordStore, accounts: Mapping[str, str]) -> None:
        self._store = store
        self._accounts = accounts

    def account(self, provider: str) -> str:
        return self._accounts.get(provider, provider)

    async def add_file(self, provider: str, id: str, cost: BatchCost) -> None:
        """Without its record, a file can be in no batch of a caller with a budget."""
        await self._add(_FILE, provider, id, _write(cost), _FILE_SECONDS)

    async def file(self, provider: str, id: str) -> BatchCost | None:
        """None: it was not uploaded here. Raises PolicyUnavailable."""
        try:
            (found,) = await self._store.get([self._name(_FILE, provider, id)])
        except RecordStoreDown as error:
            raise PolicyUnavailable("the cost of this batch cannot be checked now; try again") from error
        return _read_cost(found) if found is not None else None

    async def add(self, batch: OpenBatch) -> None:
        """Without its record, a batch stays charged with what was reserved."""
        await self._add(_BATCH, batch.provider, batch.id, _write_batch(batch), _BATCH_SECONDS)

    async def add_output(self, provider: str, id: str, batch: str) -> None:
        await self._add(_OUTPUT, provider, id, batch.encode(), _BATCH_SECONDS)

    async def of_output(self, provider: str, id: str) -> OpenBatch | None:
        found = await self._get(_OUTPUT, provider, id)
        return await self.open(provider, found.decode()) if found is not None else None

    async def open(self, provider: str, id: str) -> OpenBatch | None:
        """None: there is no such batch, it is settled, or the store is down."""
        found = await self._get(_BATCH, provider, id)
        return _read_batch(found) if found is not None and found != _SETTLED else None

    async def settle(self, batch: OpenBatch) -> bool:
        """True: the caller of this method settles it, and nobody else does."""
        try:
            name = self._name(_BATCH, batch.provider, batch.id)
            return await self._store.replace(name, _write_batch(batch), _SETTLED, _BATCH_SECONDS)
        except RecordStoreDown:  # the next request for it settles it
            return False

    async def _get(self, purpose: str, provider: str, id: str) -> bytes | None:
        try:
            (found,) = await self._store.get([self._name(purpose, provider, id)])
        except RecordStoreDown:
            return None
        return found

    async def _add(self, purpose: str, provider: str, id: str, value: bytes, seconds: float) -> None:
        try:
            await self._store.add([self._name(purpose, provider, id)], value, seconds)
        except RecordStoreDown:
            return

    def _name(self, purpose: str, provider: str, id: str) -> bytes:
        return record_name(purpose, self.account(provider), id)
