"""Adds sums of usage by day, and indexes for the filters of single requests.

The rows that are there are summed later, in small steps (upkeep.py), because a million of them take a minute. The same
holds for the indexes; a small table gets them at once.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

_SMALL = 10_000
_SUMMED = (
    *("rows", "requests", "failed", "cache_hits", "unpriced"),
    *("input", "cache_read", "cache_write", "cache_write_1h", "output", "reasoning", "input_audio", "output_audio"),
    *("saved_tokens", "searches"),
    *(f"{name}_{half}" for name in ("cost", "saved_cost", "search_cost") for half in ("high", "low")),
)
_GROUPS = (
    *("team", "user", "key", "model", "upstream_model", "response_model", "provider"),
    *("operation", "outcome", "run", "run_parent"),
)


def upgrade() -> None:
    op.add_column("usage", sa.Column("summed", sa.Boolean, nullable=False, server_default=sa.false()))
    op.create_table(
        "usage_sums",
        sa.Column("kind", sa.SmallInteger, primary_key=True, autoincrement=False),
        sa.Column("day", sa.String(10), primary_key=True),
        sa.Column("digest", sa.LargeBinary, primary_key=True),
        *(sa.Column(name, sa.BigInteger, nullable=False) for name in _SUMMED),
        sa.Column("tenant", sa.String, nullable=False),
        *(sa.Column(name, sa.String) for name in _GROUPS),
        sqlite_with_rowid=False,
        postgresql_with={"fillfactor": "70"},
    )
    rows = sa.select(sa.column("exchange")).select_from(sa.table("usage")).limit(_SMALL).subquery()
    if op.get_bind().scalar(sa.select(sa.func.count()).select_from(rows)) == _SMALL:
        return
    for name in ("team", "user", "key", "model", "response_model", "provider", "cache", "session"):
        _create(f"usage_of_{name}", [name, "started_ms"], f'"{name}" IS NOT NULL')
    _create("usage_not_ok", ["outcome", "started_ms"], "outcome <> 'ok'")
    _create("usage_not_200", ["status", "started_ms"], "status <> 200")
    _create("usage_guarded", ["started_ms"], "guardrails IS NOT NULL")
    _create("usage_not_summed", ["started_ms"], "NOT summed", "summed = 0")


def _create(name: str, columns: list[str], where: str, sqlite_where: str | None = None) -> None:
    op.create_index(
        name, "usage", columns, sqlite_where=sa.text(sqlite_where or where), postgresql_where=sa.text(where)
    )
