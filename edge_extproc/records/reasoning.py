"""The accounts that made encrypted reasoning.

OpenAI, Azure OpenAI and xAI give a caller reasoning that only the account which made it can decrypt. Any other account
refuses the request that contains it. The texts of all of them look alike, so the gateway records the account of each.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress

from .base import RecordStore, RecordStoreDown, record_name

_PURPOSE = "reasoning"
_SECONDS = 31 * 86_400.0
"""How long a record is kept: as long as the owner of a stored reply."""


class ReasoningAccounts:
    def __init__(self, store: RecordStore, accounts: Mapping[str, str]) -> None:
        """`accounts`: the account of each provider, by a name that stays when a key is renewed."""
        self._store = store
        self._accounts = accounts

    def account(self, provider: str) -> str:
        return self._accounts.get(provider, provider)

    async def record(self, provider: str, tenant: str, sealed: Sequence[bytes]) -> None:
        """Records that the provider made these encrypted texts. A failure has the effect that nobody knows it."""
        value = self.account(provider).encode(errors="surrogateescape")
        with suppress(RecordStoreDown):
            await self._store.add([_name(tenant, text) for text in sealed], value, _SECONDS)

    async def makers(self, tenant: str, sealed: Sequence[bytes]) -> Mapping[bytes, str]:
        """The account of each text that is recorded. Empty if the store cannot be used."""
        try:
            found = await self._store.get([_name(tenant, text) for text in sealed])
        except RecordStoreDown:
            return {}
        return {
            text: account.decode(errors="surrogateescape")
            for text, account in zip(sealed, found, strict=True)
            if account is not None
        }


def _name(tenant: str, text: bytes) -> bytes:
    return record_name(_PURPOSE, tenant, text.decode(errors="surrogateescape"))
