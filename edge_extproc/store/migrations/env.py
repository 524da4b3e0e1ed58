"""Alembic's entry: the connection comes from store/database.py, which also holds the lock."""

from alembic import context

from edge_extproc.store.tables import metadata

context.configure(
    connection=context.config.attributes["connection"], target_metadata=metadata, transaction_per_migration=False
)
context.run_migrations()
