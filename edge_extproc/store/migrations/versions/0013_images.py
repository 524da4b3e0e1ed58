"""Adds tokens of images. In older rows they are in the general kinds."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for table in ("usage", "usage_sums"):
        for name in ("input_image", "output_image"):
            op.add_column(table, sa.Column(name, sa.BigInteger, nullable=False, server_default="0"))
