"""The tables of the newest schema, which are the same in SQLite and PostgreSQL. migrations/ creates them."""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, Index, Integer, MetaData, String, Table

metadata = MetaData()

usage = Table(
    "usage",
    metadata,
    # The primary key, so that an exchange cannot be added twice.
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
    Column("response_model", String),
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

keys = Table(
    "keys",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("tenant", String, nullable=False),
    Column("team", String),
    Column("user", String),
    Column("note", String, nullable=False),
    Column("digest", String(64), nullable=False, unique=True),
    # The previous secret, from before a rotation, and until when it is valid (Unix milliseconds).
    Column("old_digest", String(64)),
    Column("old_until_ms", BigInteger),
    Column("models", String, nullable=False),  # a JSON list of names and globs
    Column("roles", String, nullable=False),  # a JSON list of config's roles
    Column("created_ms", BigInteger, nullable=False),
    Column("expires_ms", BigInteger),
    Column("revoked_ms", BigInteger),
)

# Keys of the configuration that were revoked without a restart.
revocations = Table(
    "revocations",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("revoked_ms", BigInteger, nullable=False),
)

budgets = Table(
    "budgets",
    metadata,
    Column("tenant", String, primary_key=True),
    Column("level", String(8), primary_key=True),
    Column("name", String, primary_key=True),
    Column("allowance", String, nullable=False),  # JSON in the configuration's format
)

audit = Table(
    "audit",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=True),
    Column("at_ms", BigInteger, nullable=False),
    Column("actor", String, nullable=False),
    Column("role", String(16), nullable=False),
    Column("action", String(32), nullable=False),
    Column("tenant", String),
    Column("target", String, nullable=False),
    Column("detail", String, nullable=False),  # JSON without secrets
)

# One row. Its number grows with every change that workers must see.
revision = Table(
    "revision",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("number", BigInteger, nullable=False),
)
