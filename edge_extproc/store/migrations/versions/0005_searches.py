"""Adds web searches of the provider and their part of the cost. Older rows have none."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("usage", sa.Column("searches", sa.BigInteger, nullable=False, server_default="0"))
    op.add_column("usage", sa.Column("search_cost", sa.BigInteger, nullable=False, server_default="0"))
