"""The tables of the newest schema, which are the same in SQLite and PostgreSQL. migrations/ creates them."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    String,
    Table,
    Text,
    false,
    text,
)

metadata = MetaData()


def _partial(name: str, *columns: str, where: str, sqlite_where: str | None = None) -> Index:
    """An index of the rows that fulfil a condition."""
    return Index(name, *columns, sqlite_where=text(sqlite_where or where), postgresql_where=text(where))


# By which the newest requests of a filter's value are found. Most rows have the commonest outcome and status: these are
# found by time.
FILTER_INDEXES = (
    *(
        _partial(f"usage_of_{name}", name, "started_ms", where=f'"{name}" IS NOT NULL')
        for name in ("team", "user", "key", "model", "response_model", "provider", "cache", "session")
    ),
    _partial("usage_not_ok", "outcome", "started_ms", where="outcome <> 'ok'"),
    _partial("usage_not_200", "status", "started_ms", where="status <> 200"),
    _partial("usage_guarded", "started_ms", where="guardrails IS NOT NULL"),
)
NOT_SUMMED = _partial("usage_not_summed", "started_ms", where="NOT summed", sqlite_where="summed = 0")

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
    # An older version writes rows without these.
    Column("input_image", BigInteger, nullable=False, server_default="0"),
    Column("output_image", BigInteger, nullable=False, server_default="0"),
    Column("estimated", Boolean, nullable=False),
    Column("cost", BigInteger),  # pico-dollars; null where nothing was used, or unpriced
    Column("unpriced", Boolean, nullable=False),
    # pico-dollars that budgets count in place of `cost`; null: they count the cost
    Column("held", BigInteger),
    Column("saved_tokens", BigInteger, nullable=False),
    Column("saved_cost", BigInteger, nullable=False),
    Column("searches", BigInteger, nullable=False, server_default="0"),
    Column("search_cost", BigInteger, nullable=False, server_default="0"),  # the part of `cost` for them
    Column("trace_id", String),
    Column("run", String),
    Column("run_parent", String),
    Column("session", String),
    # A JSON list of what guardrail rules did; null for nothing.
    Column("guardrails", String),
    # Whether `usage_sums` has the row. A version without these sums writes rows that wait for it.
    Column("summed", Boolean, nullable=False, server_default=false()),
    *FILTER_INDEXES,
    NOT_SUMMED,
    Index("usage_by_day", "tenant", "day"),
    Index("usage_by_time", "started_ms"),
    # The newest requests of a tenant.
    Index("usage_by_tenant_time", "tenant", "started_ms"),
    # Most rows are of no run and no session.
    *(
        Index(name, *columns, sqlite_where=text(f"{given} IS NOT NULL"), postgresql_where=text(f"{given} IS NOT NULL"))
        for name, given, columns in (
            ("usage_by_session", "session", ("tenant", "session")),
            ("usage_of_runs", "run", ("started_ms",)),
            ("usage_of_sessions", "session", ("started_ms",)),
            ("usage_of_runs_of_tenant", "run", ("tenant", "started_ms")),
            ("usage_of_sessions_of_tenant", "session", ("tenant", "started_ms")),
        )
    ),
    Index(
        "usage_by_run", "tenant", "run", sqlite_where=text("run IS NOT NULL"), postgresql_where=text("run IS NOT NULL")
    ),
    Index(
        "usage_by_run_parent",
        "tenant",
        "run_parent",
        sqlite_where=text("run_parent IS NOT NULL"),
        postgresql_where=text("run_parent IS NOT NULL"),
    ),
)

# Why requests went as they did: JSON of model/explanation.py. It is apart from `usage`, so that sums read less, and is
# kept for a shorter time.
explanations = Table(
    "explanations",
    metadata,
    Column("exchange", String(64), primary_key=True),
    Column("started_ms", BigInteger, nullable=False),
    Column("explanation", String, nullable=False),
    Index("explanations_by_time", "started_ms"),
)

SUMMED = (
    *("requests", "failed", "cache_hits", "unpriced"),
    *("input", "cache_read", "cache_write", "cache_write_1h", "output", "reasoning", "input_audio", "output_audio"),
    *("input_image", "output_image", "saved_tokens", "searches"),
    # Two halves of each amount of money, since the sum of a day may need more than 64 bits.
    *(f"{name}_{half}" for name in ("cost", "saved_cost", "search_cost") for half in ("high", "low")),
)
"""The columns with sums."""

# The sums of the rows of a day by what they have in common (usage_sums.py), so that a report need not read each row.
# `kind`: by what. `digest`: of the values.
usage_sums = Table(
    "usage_sums",
    metadata,
    Column("kind", SmallInteger, primary_key=True, autoincrement=False),
    Column("day", String(10), primary_key=True),
    Column("digest", LargeBinary, primary_key=True),
    Column("rows", BigInteger, nullable=False),
    *(Column(name, BigInteger, nullable=False) for name in SUMMED),
    *(Column(name, String, nullable=name != "tenant") for name in ("tenant", "team", "user", "key")),
    *(Column(name, String) for name in ("model", "upstream_model", "response_model", "provider")),
    *(Column(name, String) for name in ("operation", "outcome", "run", "run_parent")),
    sqlite_with_rowid=False,
    # Some rows change each second, and stay on their page so.
    postgresql_with={"fillfactor": "70"},
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

# Providers that get no new attempts.
taken_out = Table(
    "taken_out",
    metadata,
    Column("provider", String(64), primary_key=True),
    Column("since_ms", BigInteger, nullable=False),
    Column("until_ms", BigInteger),  # null: until an admin puts it back
    Column("actor", String, nullable=False),
    Column("note", String, nullable=False),
)

additions = Table(
    "additions",
    metadata,
    Column("section", String(16), primary_key=True),  # of the configuration: providers or models
    Column("name", String(255), primary_key=True),
    Column("value", Text, nullable=False),  # JSON, without secrets
    Column("created_ms", BigInteger, nullable=False),
    Column("actor", String, nullable=False),
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
