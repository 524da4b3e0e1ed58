"""The owners of objects that a provider stores for its account: which tenant has made each of them.

A record is made when the reply with an id passes, before the caller gets it. The first owner of an id stays its owner
until the object is deleted, so that no reply can take it away.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from fnmatch import fnmatchcase

from ..errors import PolicyUnavailable
from .base import RecordStore, RecordStoreDown, record_name

_PURPOSE = "owner"
REPLY_SECONDS = 31 * 86_400.0
"""How long the owner of a stored reply is known. Providers keep replies for 30 days."""


@dataclass(frozen=True, slots=True)
class ProviderAccount:
    """The account of a provider that tenants share."""

    name: str
    """Providers with the same account have the same name here."""
    shared: tuple[str, ...] = ()
    """Ids, or globs of ids, of objects that all tenants may use."""


class ObjectOwners:
    def __init__(
        self,
        store: RecordStore,
        accounts: Mapping[str, ProviderAccount],
        *,
        one_tenant: bool = False,
    ) -> None:
        """`accounts`: of the providers whose accounts tenants share. `one_tenant`: there are no others yet. Then owners
        are recorded, and not checked."""
        self._store = store
        self._accounts = accounts
        self.checks = not one_tenant

    def is_shared(self, provider: str) -> bool:
        return provider in self._accounts

    async def owned(self, provider: str, tenant: str, ids: Sequence[str]) -> list[bool]:
        """Whether this tenant may use each of these objects of a shared account. Raises PolicyUnavailable."""
        if not self.checks:
            return [True] * len(ids)
        account = self._accounts[provider]
        names = [record_name(_PURPOSE, account.name, id) for id in ids]
        try:
            owners = await self._store.get(names)
        except RecordStoreDown as error:
            raise PolicyUnavailable("the owner of a stored object cannot be checked now; try again") from error
        mine = tenant.encode(errors="surrogateescape")
        return [
            owner == mine or any(fnmatchcase(id, glob) for glob in account.shared)
            for id, owner in zip(ids, owners, strict=True)
        ]

    async def record(self, provider: str, tenant: str, ids: Sequence[str], seconds: float | None = None) -> None:
        """Records the tenant as the owner of ids that have none. After a failure, nobody may use them."""
        account = self._accounts[provider]
        names = [record_name(_PURPOSE, account.name, id) for id in ids]
        with suppress(RecordStoreDown):
            await self._store.add(names, tenant.encode(errors="surrogateescape"), seconds)

    async def forget(self, provider: str, tenant: str, id: str) -> None:
        """The tenant has deleted its object."""
        account = self._accounts[provider]
        with suppress(RecordStoreDown):
            await self._store.remove(record_name(_PURPOSE, account.name, id), tenant.encode(errors="surrogateescape"))
