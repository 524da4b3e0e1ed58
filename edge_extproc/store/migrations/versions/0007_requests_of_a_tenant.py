"""Adds the index by which the newest requests of a tenant are found."""

from __future__ import annotations

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("usage_by_tenant_time", "usage", ["tenant", "started_ms"])
