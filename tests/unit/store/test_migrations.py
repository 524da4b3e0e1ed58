"""A database of each older version is migrated with its rows, and the version before can still use it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from running_postgres import postgres_url
from sqlalchemy import Connection, Engine, MetaData, Table, inspect, text

from edge_extproc.store import database
from edge_extproc.store.database import open_database, reach
from edge_extproc.store.ledger import Ledger, UsageFilter
from edge_extproc.store.tables import metadata

_CONFIG = Config()
_CONFIG.set_main_option("script_location", str(Path(database.__file__).with_name("migrations")))
REVISIONS = sorted(script.revision for script in ScriptDirectory.from_config(_CONFIG).walk_revisions())


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A database without tables."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/edge.db"
        return
    server = reach(postgres_url())
    with server.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("CREATE DATABASE migrations"))
    try:
        yield postgres_url().replace("/postgres?", "/migrations?")
    finally:
        with server.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text("DROP DATABASE migrations WITH (FORCE)"))
        server.dispose()


def database_of(url: str, revision: str) -> Engine:
    """The database as the version with this schema has left it."""
    engine = reach(url)
    with engine.begin() as connection:
        _CONFIG.attributes["connection"] = connection
        command.upgrade(_CONFIG, revision)
    return engine


def usage_table(engine: Engine) -> Table:
    """The table as the version knows it."""
    return Table("usage", MetaData(), autoload_with=engine)


def add_row(connection: Connection, table: Table, exchange: str) -> None:
    """Writes a row with a value in each column that the version must fill."""
    needed = [each for each in table.columns if not each.nullable and each.server_default is None]
    values: dict[str, Any] = {each.name: each.type.python_type() for each in needed}
    connection.execute(table.insert().values({**values, "exchange": exchange, "tenant": "acme", "cost": 5}))


@pytest.mark.parametrize("revision", REVISIONS)
def test_rows_of_each_older_version_are_kept_and_it_can_write_further_ones(url: str, revision: str) -> None:
    older = database_of(url, revision)
    table = usage_table(older)
    with older.begin() as connection:
        add_row(connection, table, "before")
    newest = open_database(url)
    with older.begin() as connection:  # a pod of the version before, which still runs
        add_row(connection, table, "after")

    (total,) = Ledger(newest).totals(("tenant",), UsageFilter())
    assert (2, 0) == (total.requests, total.searches)
    assert [None, None] == [row["run"] for row in Ledger(newest).rows(UsageFilter())]
    with newest.connect() as connection:
        assert [] == compare_metadata(MigrationContext.configure(connection), metadata)
    older.dispose()
    newest.dispose()


def test_a_database_of_a_later_version_is_used_as_it_is(url: str) -> None:
    later = open_database(url)
    with later.begin() as connection:
        connection.execute(text("ALTER TABLE usage ADD COLUMN mood VARCHAR"))
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    engine = open_database(url)
    with engine.begin() as connection:
        add_row(connection, metadata.tables["usage"], "a")

    assert 1 == len(list(Ledger(engine).rows(UsageFilter())))
    with engine.connect() as connection:
        assert "9999" == connection.scalar(text("SELECT version_num FROM alembic_version"))
    assert "mood" in {each["name"] for each in inspect(engine).get_columns("usage")}
    later.dispose()
    engine.dispose()
