"""The background loop that moves the workers' journals into the ledger, and deletes old rows.

If the database cannot be reached, one line is logged, and another one when it is back. Until then the journals stay on
disk.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import structlog
from sqlalchemy.exc import SQLAlchemyError

from .database import migrate, open_database, reach
from .ledger import Ingest, Ledger
from .quarantine import Quarantine

# Of a run. With 20,000 rows for each second, sums of older rows do not hold up the rows of new requests.
_MOST_STEPS = 10
# Old rows are deleted at this interval, seconds.
_DELETE_INTERVAL = 3600.0


def open_ingest_loop(
    url: str,
    journals: Path,
    quarantine: Quarantine,
    *,
    every: timedelta,
    keep: timedelta,
    keep_explanations: timedelta,
    report_reachable: Callable[[bool], None],
    wait: bool = False,
) -> IngestLoop:
    """`every`: the interval. `keep`: how long rows are kept. `keep_explanations`: the same for why they went so.
    `report_reachable` is called after each run, with whether the database could be reached. `wait`: the database need
    not be reachable yet; it is migrated later. Raises ConfigError or StartError if the database cannot be used."""
    engine = reach(url) if wait else open_database(url)
    ledger = Ledger(engine)
    prepare = (lambda: migrate(engine)) if wait else _do_nothing
    return IngestLoop(
        Ingest(journals, ledger, quarantine),
        ledger,
        every=every,
        keep=keep,
        keep_explanations=keep_explanations,
        report_reachable=report_reachable,
        prepare=prepare,
    )


def _do_nothing() -> None:
    """The preparation is done."""


class IngestLoop:
    """Runs in the supervisor. `close` it after `run` has ended."""

    def __init__(
        self,
        ingest: Ingest,
        ledger: Ledger,
        *,
        every: timedelta,
        keep: timedelta,
        keep_explanations: timedelta = timedelta(days=7),
        now: Callable[[], float] = time.time,
        report_reachable: Callable[[bool], None] = lambda _: None,
        prepare: Callable[[], None] = _do_nothing,
    ) -> None:
        """`prepare` is called before the first run, until it succeeds; it may raise SQLAlchemyError."""
        self._ingest = ingest
        self._ledger = ledger
        self._every = every.total_seconds()
        self._keep = keep
        self._keep_explanations = keep_explanations
        self._now = now
        self._report_reachable = report_reachable
        self._prepare = prepare
        self.ledger = ledger
        self._wake = asyncio.Event()
        self._running = False
        self._runs = 0
        """The number of runs that could reach the database."""
        self._run_done = asyncio.Condition()
        self._is_down = False
        self._deleted_at = float("-inf")
        self._refused = 0

    def close(self) -> None:
        self._ledger.close()

    async def run(self, stop: asyncio.Event) -> None:
        """Runs until `stop` is set, and then once more, so that no row waits for the next start."""
        while not stop.is_set():
            self._wake.clear()
            self._running = True
            await asyncio.to_thread(self.run_once)
            self._running = False
            if not self._is_down:
                self._runs += 1
                async with self._run_done:
                    self._run_done.notify_all()
            await self._pause(stop)
        await asyncio.to_thread(self.run_once)

    async def _pause(self, stop: asyncio.Event) -> None:
        """Waits for the interval, for `stop`, or for `catch_up`."""
        waiting = [asyncio.ensure_future(event.wait()) for event in (stop, self._wake)]
        try:
            await asyncio.wait(waiting, timeout=self._every, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in waiting:
                each.cancel()

    async def catch_up(self) -> None:
        """Waits until the ledger has all rows that the journals have now. While the database is down, it waits."""
        # A run that is in progress may have read some journals before.
        target = self._runs + (2 if self._running else 1)
        async with self._run_done:
            while self._runs < target:
                if not self._is_down:
                    self._wake.set()
                await self._run_done.wait()

    def run_once(self) -> None:
        """One run. It waits for the database, so it belongs in a thread."""
        log = structlog.get_logger()
        try:
            self._prepare()
            self._prepare = _do_nothing
            try:
                self._ingest.run()
            finally:
                self._log_quarantined()
            self._delete_old_rows()
            for _ in range(_MOST_STEPS):
                if not self._ledger.keep_up():
                    break
        except (SQLAlchemyError, OSError) as error:
            if not self._is_down:
                log.warning("ledger_down", exc_info=error, kept_in="journal")
            self._is_down = True
            self._report_reachable(False)
            return
        if self._is_down:
            log.info("ledger_back")
        self._is_down = False
        self._report_reachable(True)

    def _log_quarantined(self) -> None:
        new = self._ingest.refused - self._refused
        if new:
            quarantine = self._ingest.quarantine
            structlog.get_logger().error("ledger_rows_quarantined", rows=new, file=str(quarantine.path))
            self._refused = self._ingest.refused

    def _delete_old_rows(self) -> None:
        now = self._now()
        if now - self._deleted_at < _DELETE_INTERVAL:
            return
        with contextlib.suppress(OverflowError):  # the date is before year 1, so no row is older
            self._ledger.delete_before((datetime.fromtimestamp(now, UTC) - self._keep).date().isoformat())
        self._ledger.delete_explanations_before(int((now - self._keep_explanations.total_seconds()) * 1000))
        self._deleted_at = now
