from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from databases import postgres_engine, sqlite_engine
from sqlalchemy import Engine, delete

from edge_extproc.store.tables import explanations, usage, usage_sums


@pytest.fixture(params=["sqlite", "postgresql"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    engine = sqlite_engine(tmp_path) if request.param == "sqlite" else postgres_engine()
    yield engine
    with engine.begin() as connection:
        for table in (usage, usage_sums, explanations):
            connection.execute(delete(table))
    if request.param == "sqlite":
        engine.dispose()
