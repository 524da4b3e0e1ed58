"""Adds why each request went as it did, the session of a request, and indexes of runs and sessions by time. Older rows
have no explanation and no session."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "explanations",
        sa.Column("exchange", sa.String(64), primary_key=True),
        sa.Column("started_ms", sa.BigInteger, nullable=False),
        sa.Column("explanation", sa.String, nullable=False),
    )
    op.create_index("explanations_by_time", "explanations", ["started_ms"])
    op.add_column("usage", sa.Column("session", sa.String))
    for name, given, columns in (
        ("usage_by_session", "session", ["tenant", "session"]),
        ("usage_of_runs", "run", ["started_ms"]),
        ("usage_of_sessions", "session", ["started_ms"]),
        ("usage_of_runs_of_tenant", "run", ["tenant", "started_ms"]),
        ("usage_of_sessions_of_tenant", "session", ["tenant", "started_ms"]),
    ):
        condition = sa.text(f"{given} IS NOT NULL")
        op.create_index(name, "usage", columns, sqlite_where=condition, postgresql_where=condition)
