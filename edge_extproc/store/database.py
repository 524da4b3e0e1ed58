"""Opens the database and migrates it to the newest schema.

SQLite is for one machine (in WAL mode, so that readers never wait), PostgreSQL for several replicas.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import structlog
from alembic import command
from alembic.config import Config as AlembicConfig
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, create_engine, event, inspect, make_url, text
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError

from ..errors import ConfigError, StartError
from .running_query import make_stoppable

_MIGRATIONS = Path(__file__).parent / "migrations"
# The key of an advisory lock: replicas that start at the same time migrate one after the other.
MIGRATION_LOCK = 0x65646765


# If the host does not answer at all, TCP's own time-out is too long for a start.
_CONNECT_SECONDS = 5


def open_database(url: str) -> Engine:
    """The database, migrated to the newest schema. See `reach`. Raises ConfigError or StartError."""
    engine = reach(url)
    try:
        migrate(engine)
    except SQLAlchemyError as error:
        engine.dispose()
        raise StartError(f"the database cannot be used: {type(error).__name__}; see store.database") from error
    return engine


def reach(url: str) -> Engine:
    """The database of a URL, `sqlite:////path` or `postgresql+psycopg://user:password@host/name`. It connects at its
    first use. Raises ConfigError or StartError, whose texts never contain the URL, because it may hold a password."""
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise ConfigError("store.database is not a database URL; write sqlite:////path or postgresql://…") from None
    if parsed.get_backend_name() not in ("sqlite", "postgresql"):
        raise ConfigError(f"store.database: {parsed.get_backend_name()!r} is not supported; use sqlite or postgresql")
    if parsed.drivername == "postgresql":
        parsed = parsed.set(drivername="postgresql+psycopg")
        if "connect_timeout" not in parsed.query:
            parsed = parsed.update_query_dict({"connect_timeout": str(_CONNECT_SECONDS)})
    try:
        engine = create_engine(parsed, pool_pre_ping=True)
    except (ModuleNotFoundError, NoSuchModuleError):
        raise StartError(
            "the driver of store.database is not installed: pip install 'edge-extproc[postgres]'"
        ) from None
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _tune_sqlite)
    make_stoppable(engine)
    return engine


def _tune_sqlite(connection: Any, _: object) -> None:
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "busy_timeout=5000", "foreign_keys=ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def migrate(engine: Engine) -> None:
    """Migrates the database to the newest schema. A later version may have migrated it further: migrations only add, so
    it is used as it is (docs/adr/237). Raises SQLAlchemyError if it cannot be reached."""
    config = AlembicConfig()
    config.set_main_option("script_location", str(_MIGRATIONS))
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    with engine.begin() as connection:
        if engine.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:n)"), {"n": MIGRATION_LOCK})
        else:
            connection.execute(text("BEGIN IMMEDIATE"))
        revision = MigrationContext.configure(connection).get_current_revision()
        if revision is not None and revision not in known:
            structlog.get_logger().warning("database_schema_is_newer", revision=revision)
            return
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def tables_of(engine: Engine) -> set[str]:
    return set(inspect(engine).get_table_names())
