"""What workers know of what is managed: a file that the supervisor writes and every worker reads.

It holds digests of keys, no keys. A worker reads it when it starts and when it is told of a new one; it opens no
database, so that one that is down changes nothing for those who are known.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import msgspec

from ..errors import StartError


class ManagedKey(msgspec.Struct, frozen=True, array_like=True):
    id: str
    digest: str
    tenant: str
    team: str | None
    user: str | None
    models: tuple[str, ...]
    roles: tuple[str, ...]
    expires_ms: int | None


class ManagedBudget(msgspec.Struct, frozen=True, array_like=True):
    """One budget: what a holder may use, as config spells an allowance."""

    tenant: str
    level: str
    name: str
    allowance: dict[str, Any]


class ManagedState(msgspec.Struct, frozen=True):
    revision: int = 0
    keys: tuple[ManagedKey, ...] = ()
    revoked: tuple[str, ...] = ()
    """Ids of keys that stand in the configuration and are good no more."""
    budgets: tuple[ManagedBudget, ...] = ()


EMPTY = ManagedState()
_decode = msgspec.json.Decoder(ManagedState).decode


def write(path: Path, snapshot: ManagedState) -> None:
    """A reader sees the old one or the new one, whole."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    fresh = path.with_suffix(".new")
    file = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(file, "wb") as stream:
        stream.write(msgspec.json.encode(snapshot))
        stream.flush()
        os.fsync(stream.fileno())
    fresh.replace(path)


def read(path: Path) -> ManagedState:
    """An empty one where there is no file. Raises StartError where it cannot be read: nobody is let in by a guess."""
    try:
        return _decode(path.read_bytes())
    except FileNotFoundError:
        return EMPTY
    except (OSError, msgspec.DecodeError) as error:
        raise StartError(f"{path} cannot be read; remove it, and it is written again at the next start") from error
