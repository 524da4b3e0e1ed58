from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from running_postgres import postgres_url
from sqlalchemy import Engine, delete

from edge_extproc.store.database import open_database
from edge_extproc.store.tables import usage


@pytest.fixture(params=["sqlite", "postgresql"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    url = f"sqlite:///{tmp_path}/edge.db" if request.param == "sqlite" else postgres_url()
    engine = open_database(url)
    yield engine
    with engine.begin() as connection:
        connection.execute(delete(usage))
    engine.dispose()
