"""What a large ledger still lacks after a migration, made in small steps while the gateway runs.

A migration that sums a million rows would hold up the start of the gateway for a minute, and one that makes all indexes
for some seconds. Reports are right meanwhile: they read the rows that are not in the sums. The steps also sum the rows
that an older version adds while it runs beside this one.
"""

from __future__ import annotations

from sqlalchemy import Engine, Index, inspect, not_, select, text, update

from .bulk import changing
from .database import MIGRATION_LOCK
from .tables import FILTER_INDEXES, NOT_SUMMED, usage
from .usage_sums import COUNTED, MOST_COUNT, PARTS, add_to_sums

# About 0.2 s on one core, for which other writers of SQLite wait.
_ROWS = 2000


class Upkeep:
    """For the one thread that writes the ledger."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._missing: list[Index] | None = None
        """Indexes to be made. None: it is not known yet."""

    def step(self) -> bool:
        """Makes one index, or sums some rows. Returns whether there may be more to do. Raises SQLAlchemyError."""
        if self._missing is None:
            have = {each["name"] for each in inspect(self._engine).get_indexes("usage")}
            self._missing = [each for each in (NOT_SUMMED, *FILTER_INDEXES) if each.name not in have]
        if self._missing:
            self._make(self._missing[0])
            del self._missing[0]
            return True
        return self._sum_rows() == _ROWS

    def _make(self, index: Index) -> None:
        with self._engine.begin() as connection:
            if self._engine.dialect.name == "postgresql":
                # Another replica may be about to make it.
                connection.execute(text("SELECT pg_advisory_xact_lock(:n)"), {"n": MIGRATION_LOCK})
            index.create(connection, checkfirst=True)

    def _sum_rows(self) -> int:
        """Returns how many."""
        parts = [usage.c[name] for name in PARTS]
        counts = [usage.c[name].between(1 - MOST_COUNT, MOST_COUNT - 1) for name in COUNTED]
        # Rows that another replica sums at this moment are locked.
        waiting = select(usage.c.exchange, *parts).where(not_(usage.c.summed), *counts).limit(_ROWS)
        waiting = waiting.with_for_update(skip_locked=True)
        with self._engine.connect() as connection:
            if connection.execute(select(1).where(not_(usage.c.summed), *counts).limit(1)).first() is None:
                return 0
        with changing(self._engine) as connection:
            rows = connection.execute(waiting).all()
            exchanges = [row[0] for row in rows]
            connection.execute(update(usage).where(usage.c.exchange.in_(exchanges)).values(summed=True))
            add_to_sums(connection, (tuple(row[1:]) for row in rows))
        return len(rows)
