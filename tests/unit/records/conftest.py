"""The real Valkey, once for all tests of a process, and each store of records."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import running_valkey as valkeys

from edge_extproc.records.base import RecordStore
from edge_extproc.records.file import FileRecords
from edge_extproc.records.memory import MemoryRecords
from edge_extproc.records.redis import RedisRecords


@pytest.fixture(scope="session")
def valkey() -> Iterator[valkeys.RunningValkey]:
    with valkeys.running() as server:
        yield server


@pytest.fixture(params=["memory", "file", "valkey"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[RecordStore]:
    built: RecordStore
    if request.param == "memory":
        built = MemoryRecords()
    elif request.param == "file":
        built = FileRecords(tmp_path / "state" / "records.db")
    else:
        server = request.getfixturevalue("valkey")
        server.command("FLUSHALL")
        built = RedisRecords(server.url, 5.0)
    yield built
    await built.close()
