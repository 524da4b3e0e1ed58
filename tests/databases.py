"""Databases with the newest schema: the migrations take most of a test's time, so a process makes them once."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path

from running_postgres import postgres_url
from sqlalchemy import Engine

from edge_extproc.store.database import open_database


@functools.cache
def migrated() -> bytes:
    """A file of SQLite as the migrations leave it."""
    with tempfile.TemporaryDirectory() as name:
        file = Path(name) / "edge.db"
        open_database(f"sqlite:///{file}").dispose()
        return file.read_bytes()


def sqlite_engine(directory: Path) -> Engine:
    """An empty database in this directory."""
    file = directory / "edge.db"
    file.write_bytes(migrated())
    return open_database(f"sqlite:///{file}")


@functools.cache
def postgres_engine() -> Engine:
    """One for all tests of a process, each of which leaves it empty."""
    return open_database(postgres_url())
