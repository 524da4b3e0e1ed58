"""The port of the store of records.

A record is a name and a value, both bytes, and may expire. The store knows nothing of their meaning. All workers of a
machine share it, and with a Redis or Valkey all gateways.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from typing import Protocol

NAME_BYTES = 16


class RecordStoreDown(Exception):
    """The store cannot be used now. The text gives the reason without secrets: it is logged."""


class RecordStore(Protocol):
    """All methods raise RecordStoreDown. `seconds`: how long a record is kept; None: until it is removed."""

    async def get(self, names: Sequence[bytes]) -> list[bytes | None]:
        """The value of each name."""
        ...

    async def add(self, names: Sequence[bytes], value: bytes, seconds: float | None) -> None:
        """Adds a record with this value under each name that has none. An existing record stays as it is."""
        ...

    async def claim(self, name: bytes, value: bytes, seconds: float) -> bytes | None:
        """Adds a record if there is none, in one atomic step. Returns the existing value, or None if it was added."""
        ...

    async def replace(self, name: bytes, before: bytes, value: bytes, seconds: float) -> bool:
        """Replaces a record whose value is `before`, in one atomic step. False: it has another value, or is gone."""
        ...

    async def remove(self, name: bytes, value: bytes) -> None:
        """Removes a record, if it has this value."""
        ...

    async def close(self) -> None: ...


def record_name(*parts: str) -> bytes:
    """A name that only these parts have. It does not show them."""
    digest = blake2b(digest_size=NAME_BYTES)
    for part in parts:
        raw = part.encode(errors="surrogatepass")  # JSON can have unpaired surrogates
        digest.update(len(raw).to_bytes(8, "little"))
        digest.update(raw)
    return digest.digest()
