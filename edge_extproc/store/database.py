"""Opens the database, and brings it to the newest form.

SQLite for one machine (in WAL mode, so that readers never wait), PostgreSQL for several replicas.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config as AlembicConfig
from sqlalchemy import Engine, create_engine, event, inspect, make_url, text
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError

from ..errors import ConfigError, StartError

_MIGRATIONS = Path(__file__).parent / "migrations"
# Replicas that start at once take turns; the number only has to be our own.
_MIGRATION_LOCK = 0x65646765


# Where nothing answers at all, a start shall not wait for as long as TCP would.
_CONNECT_SECONDS = 5


def open_database(url: str) -> Engine:
    """As `reach`, in its newest form. Raises ConfigError or StartError."""
    engine = reach(url)
    try:
        migrate(engine)
    except SQLAlchemyError as error:
        engine.dispose()
        raise StartError(f"the database cannot be used: {type(error).__name__}; see store.database") from error
    return engine


def reach(url: str) -> Engine:
    """`sqlite:////path` or `postgresql+psycopg://user:password@host/name`; it connects when it is first used. Raises
    ConfigError or StartError, which never tell the URL: it may hold a password."""
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise ConfigError("store.database is no database URL; write sqlite:////path or postgresql://…") from None
    if parsed.get_backend_name() not in ("sqlite", "postgresql"):
        raise ConfigError(f"store.database: {parsed.get_backend_name()!r} is not supported; use sqlite or postgresql")
    if parsed.drivername == "postgresql":
        parsed = parsed.set(drivername="postgresql+psycopg")
        if "connect_timeout" not in parsed.query:
            parsed = parsed.update_query_dict({"connect_timeout": str(_CONNECT_SECONDS)})
    try:
        engine = create_engine(parsed, pool_pre_ping=True)
    except (ModuleNotFoundError, NoSuchModuleError):
        raise StartError("the driver of the database is not installed; install edge-extproc[postgres]") from None
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _tune_sqlite)
    return engine


def _tune_sqlite(connection: Any, _: object) -> None:
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "busy_timeout=5000", "foreign_keys=ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def migrate(engine: Engine) -> None:
    """Brings it to the newest form. Raises SQLAlchemyError where it is out of reach."""
    config = AlembicConfig()
    config.set_main_option("script_location", str(_MIGRATIONS))
    with engine.begin() as connection:
        if engine.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:n)"), {"n": _MIGRATION_LOCK})
        else:
            connection.execute(text("BEGIN IMMEDIATE"))
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def tables_of(engine: Engine) -> set[str]:
    return set(inspect(engine).get_table_names())
