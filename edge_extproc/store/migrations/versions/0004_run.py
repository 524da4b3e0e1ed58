"""Adds the run of a request, and the run that this one is a part of. Older rows have none."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for name in ("run", "run_parent"):
        op.add_column("usage", sa.Column(name, sa.String))
        given = sa.text(f"{name} IS NOT NULL")
        op.create_index(f"usage_by_{name}", "usage", ["tenant", name], sqlite_where=given, postgresql_where=given)
