"""The file of the managed state: the supervisor writes it and every worker reads it.

A worker reads the file when it starts and at each reload. It opens no database, so keys stay valid while the database
is down.
"""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from ..errors import StartError
from ..model.managed import EMPTY, ManagedState

_decode = msgspec.json.Decoder(ManagedState).decode


def write(path: Path, snapshot: ManagedState) -> None:
    """Replaces the file atomically."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    fresh = path.with_suffix(".new")
    file = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(file, "wb") as stream:
        stream.write(msgspec.json.encode(snapshot))
        stream.flush()
        os.fsync(stream.fileno())
    fresh.replace(path)


def read(path: Path) -> ManagedState:
    """EMPTY if there is no file. Raises StartError if it cannot be read: without it, revoked keys would be valid."""
    try:
        return _decode(path.read_bytes())
    except FileNotFoundError:
        return EMPTY
    except (OSError, msgspec.DecodeError) as error:
        raise StartError(f"{path} cannot be read; remove it: it is written again at the next start") from error
