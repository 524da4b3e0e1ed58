from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from running_postgres import postgres_url
from sqlalchemy import Engine, delete

from edge_extproc.store.database import open_database
from edge_extproc.store.tables import explanations, usage, usage_sums


@pytest.fixture(params=["sqlite", "postgresql"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    url = f"sqlite:///{tmp_path}/edge.db" if request.param == "sqlite" else postgres_url()
    engine = open_database(url)
    yield engine
    with engine.begin() as connection:
        for table in (usage, usage_sums, explanations):
            connection.execute(delete(table))
    engine.dispose()
