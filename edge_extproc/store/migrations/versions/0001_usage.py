"""The usage ledger."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "usage",
        sa.Column("exchange", sa.String(64), primary_key=True),
        sa.Column("day", sa.String(10), nullable=False),
        sa.Column("started_ms", sa.BigInteger, nullable=False),
        sa.Column("duration_ms", sa.BigInteger, nullable=False),
        sa.Column("outcome", sa.String(32), nullable=False),
        sa.Column("status", sa.Integer),
        sa.Column("code", sa.String),
        sa.Column("tenant", sa.String, nullable=False),
        sa.Column("team", sa.String),
        sa.Column("user", sa.String),
        sa.Column("key", sa.String),
        sa.Column("operation", sa.String),
        sa.Column("dialect", sa.String),
        sa.Column("model", sa.String),
        sa.Column("provider", sa.String),
        sa.Column("upstream_model", sa.String),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("stream", sa.Boolean, nullable=False),
        sa.Column("cache", sa.String),
        *(
            sa.Column(name, sa.BigInteger, nullable=False)
            for name in (
                "input",
                "cache_read",
                "cache_write",
                "cache_write_1h",
                "output",
                "reasoning",
                "input_audio",
                "output_audio",
            )
        ),
        sa.Column("estimated", sa.Boolean, nullable=False),
        sa.Column("cost", sa.BigInteger),
        sa.Column("unpriced", sa.Boolean, nullable=False),
        sa.Column("saved_tokens", sa.BigInteger, nullable=False),
        sa.Column("saved_cost", sa.BigInteger, nullable=False),
        sa.Column("trace_id", sa.String),
    )
    op.create_index("usage_by_day", "usage", ["tenant", "day"])
    op.create_index("usage_by_time", "usage", ["started_ms"])
