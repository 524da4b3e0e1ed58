"""Rebuilds the counters of budgets from the ledger, after their store was lost or flushed. It runs in the supervisor.

The store has a mark that is lost with the counters. While the mark is missing, workers reserve nothing. The counters
are raised to the ledger's sums, never lowered, so that repeating it does no harm. It is repeated some times, because
calls that were in progress at the loss are in the ledger only after they end.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import structlog
from sqlalchemy.exc import SQLAlchemyError

from .. import registry
from ..config.schema import Config
from ..limits.base import LimitStoreDown, LimitStoreSettings
from ..limits.counter_file import write_counters
from ..limits.merge import merge_rules
from ..limits.rebuild import Spend, least_counters
from ..limits.redis import RedisLimitStore
from ..limits.rule_table import RuleTable
from ..limits.spending import assumed_micro
from ..limits.windows import Span
from ..model.managed import EMPTY
from ..store import snapshot
from ..store.ingest_loop import IngestLoop

_POLL_SECONDS = 1.0
# After a rebuild, it is repeated at these times, seconds. No call lasts longer than the last one.
_REPEATS = (60.0, 300.0, 900.0, 3600.0)


class LimitRebuilder:
    """`config` returns the current configuration."""

    def __init__(
        self, config: Callable[[], Config], ingest: IngestLoop, clock: Callable[[], float] = time.time
    ) -> None:
        self._config = config
        self._ingest = ingest
        self._clock = clock
        self._check_times: list[float] = []
        """When to repeat it, monotonic time."""
        self.checked = asyncio.Event()
        """The shared store has been checked once, and rebuilt if that was necessary and possible."""

    async def run(self) -> None:
        """Polls the store until the task is cancelled. A reload may bring the first limits, or another store."""
        store: RedisLimitStore | None = None
        known: str | None = None
        try:
            while True:
                config = self._config()
                url = config.limit_store_url() if config.rebuilds_limits else None
                if url != known:
                    if store is not None:
                        await store.close()
                    known, store = url, _connect(url, config) if url is not None else None
                try:
                    if store is not None:
                        await self.check(store)
                except (LimitStoreDown, SQLAlchemyError):
                    pass  # the workers report the store, and the ledger's task reports the database
                self.checked.set()
                await asyncio.sleep(_POLL_SECONDS)
        finally:
            if store is not None:
                await store.close()

    async def check(self, store: RedisLimitStore) -> None:
        """Rebuilds the counters if they were lost, or if it is to be repeated. Raises LimitStoreDown or
        SQLAlchemyError."""
        now = time.monotonic()
        is_lost = not await store.is_complete()
        if not is_lost and not (self._check_times and self._check_times[0] <= now):
            return
        await self._ingest.catch_up()
        counters = await asyncio.to_thread(self.least)
        await store.complete(counters)
        if is_lost:
            self._check_times = [now + after for after in _REPEATS]
            if counters:  # otherwise the store is new, or nothing was spent
                structlog.get_logger().warning("limits_rebuilt", counters=len(counters))
        else:
            self._check_times = [at for at in self._check_times if at > now]

    async def restore_file(self) -> None:
        """Makes the file of the only worker's counters, if it is missing. Raises OSError or SQLAlchemyError."""
        path = self._config().counted_file
        if path.exists():
            return
        await self._ingest.catch_up()
        counters = await asyncio.to_thread(self.least)
        if counters:
            await asyncio.to_thread(write_counters, path, counters)
            structlog.get_logger().warning("limits_rebuilt", counters=len(counters))

    def least(self) -> list[tuple[str, int, int]]:
        """The counters that the ledger knows of. It waits for the database."""
        config = self._config()
        managed = snapshot.read(config.managed_file) if config.has_admin_api else EMPTY
        table, price = RuleTable(merge_rules(config, managed.budgets)), config.limiter.assumed_price

        def spent(span: Span) -> list[Spend]:
            return [
                Spend(
                    row.tenant,
                    row.team,
                    row.user,
                    row.key,
                    # Each request is rounded up.
                    row.micro_dollars
                    + assumed_micro(row.unpriced_prompt, row.unpriced_completion, price.input, price.output)
                    + (row.unpriced_requests if price.input or price.output else 0),
                )
                for row in self._ingest.ledger.spent(span.start * 1000, span.end * 1000)
            ]

        return least_counters(table, spent, self._clock())


def _connect(url: str, config: Config) -> RedisLimitStore:
    settings = LimitStoreSettings(url, config.limiter.timeout.total_seconds())
    store: RedisLimitStore = registry.load("limits", "redis").build(settings)
    return store
