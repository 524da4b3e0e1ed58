"""The file by which workers get the keys and budgets of the admin API: the supervisor writes it, every worker reads it.

It holds digests of keys, never keys. A worker reads it at its start and when the supervisor announces a new one. A
worker opens no database, so known keys still work while the database is down.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import msgspec

from ..errors import StartError


class ManagedKey(msgspec.Struct, frozen=True, array_like=True):
    """A valid secret of a key. After a rotation, a key has two."""

    id: str
    digest: str
    tenant: str
    team: str | None
    user: str | None
    models: tuple[str, ...]
    roles: tuple[str, ...]
    expires_ms: int | None


class ManagedBudget(msgspec.Struct, frozen=True, array_like=True):
    """The allowance of one tenant, team, user or key, in the configuration's format."""

    tenant: str
    level: str
    name: str
    allowance: dict[str, Any]


class ManagedState(msgspec.Struct, frozen=True):
    revision: int = 0
    keys: tuple[ManagedKey, ...] = ()
    revoked: tuple[str, ...] = ()
    """Ids of revoked keys of the configuration."""
    budgets: tuple[ManagedBudget, ...] = ()


EMPTY = ManagedState()
_decode = msgspec.json.Decoder(ManagedState).decode


def write(path: Path, snapshot: ManagedState) -> None:
    """Writes the file atomically: a reader sees the old state or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    fresh = path.with_suffix(".new")
    file = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(file, "wb") as stream:
        stream.write(msgspec.json.encode(snapshot))
        stream.flush()
        os.fsync(stream.fileno())
    fresh.replace(path)


def read(path: Path) -> ManagedState:
    """The empty state if there is no file. Raises StartError if it cannot be read: access is never guessed."""
    try:
        return _decode(path.read_bytes())
    except FileNotFoundError:
        return EMPTY
    except (OSError, msgspec.DecodeError) as error:
        raise StartError(f"{path} cannot be read; remove it: it is written again at the next start") from error
