"""The tables, as the newest migration leaves them. SQLite and PostgreSQL have the same."""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, Index, Integer, MetaData, String, Table

metadata = MetaData()

usage = Table(
    "usage",
    metadata,
    # What makes a second copy of the same exchange impossible.
    Column("exchange", String(64), primary_key=True),
    Column("day", String(10), nullable=False),  # UTC, as 2026-01-31
    Column("started_ms", BigInteger, nullable=False),
    Column("duration_ms", BigInteger, nullable=False),
    Column("outcome", String(32), nullable=False),
    Column("status", Integer),
    Column("code", String),
    Column("tenant", String, nullable=False),
    Column("team", String),
    Column("user", String),
    Column("key", String),
    Column("operation", String),
    Column("dialect", String),
    Column("model", String),
    Column("provider", String),
    Column("upstream_model", String),
    Column("attempts", Integer, nullable=False),
    Column("stream", Boolean, nullable=False),
    Column("cache", String),
    Column("input", BigInteger, nullable=False),
    Column("cache_read", BigInteger, nullable=False),
    Column("cache_write", BigInteger, nullable=False),
    Column("cache_write_1h", BigInteger, nullable=False),
    Column("output", BigInteger, nullable=False),
    Column("reasoning", BigInteger, nullable=False),
    Column("input_audio", BigInteger, nullable=False),
    Column("output_audio", BigInteger, nullable=False),
    Column("estimated", Boolean, nullable=False),
    Column("cost", BigInteger),  # pico-dollars; null where nothing was used, or unpriced
    Column("unpriced", Boolean, nullable=False),
    Column("saved_tokens", BigInteger, nullable=False),
    Column("saved_cost", BigInteger, nullable=False),
    Column("trace_id", String),
    Index("usage_by_day", "tenant", "day"),
    Index("usage_by_time", "started_ms"),
)
