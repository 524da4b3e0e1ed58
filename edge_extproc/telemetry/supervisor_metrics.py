"""The supervisor's own metrics: workers, reloads of the configuration, and the database."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Literal, TypeAlias, get_args

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

Outcome: TypeAlias = Literal["applied", "rejected", "restart_needed"]


@dataclass(slots=True)
class Reloads:
    """The outcomes of configuration reloads since the start. The start itself counts as a success."""

    applied_at: float
    """Unix time."""
    counts: dict[Outcome, int] = field(default_factory=lambda: dict.fromkeys(get_args(Outcome), 0))
    is_in_force: bool = True
    """Whether the configuration file, as last read, is applied."""

    def add(self, outcome: Outcome, now: float) -> None:
        self.counts[outcome] += 1
        self.is_in_force = outcome == "applied"
        if self.is_in_force:
            self.applied_at = now


@dataclass(slots=True)
class DatabaseState:
    """The state of the ledger's database, as the ledger's task last saw it."""

    is_up: bool | None = None
    """None if no database is configured."""
    journal_bytes: Callable[[], int] = lambda: 0
    """The size of the journals, which the ledger may not have processed yet."""
    quarantined_rows: Callable[[], int] = lambda: 0
    """Rows that the ledger refused."""

    def set_up(self, is_up: bool) -> None:
        self.is_up = is_up


class SupervisorMetrics(Collector):
    """Exposes the metrics at a scrape."""

    def __init__(
        self, workers: int, restarts: Callable[[], int], reloads: Reloads, database: DatabaseState | None = None
    ) -> None:
        self._workers = workers
        self._restarts = restarts
        self._reloads = reloads
        self._database = database or DatabaseState()

    def collect(self) -> Iterator[Metric]:
        yield GaugeMetricFamily("edge_workers_wanted", "Worker processes that are configured.", self._workers)
        yield CounterMetricFamily("edge_worker_restarts", "Restarts of dead workers.", self._restarts())
        reloads = CounterMetricFamily(
            "edge_config_reloads", "Reads of a changed configuration, by outcome.", labels=("outcome",)
        )
        for outcome, count in self._reloads.counts.items():
            reloads.add_metric((outcome,), count)
        yield reloads
        yield GaugeMetricFamily(
            "edge_config_last_reload_successful",
            "1 if the configuration file, as last read, is applied; else 0.",
            int(self._reloads.is_in_force),
        )
        yield GaugeMetricFamily(
            "edge_config_last_reload_success_timestamp_seconds",
            "Unix time at which a configuration file was last applied.",
            self._reloads.applied_at,
        )
        database = GaugeMetricFamily(
            "edge_database_up",
            "1 if the database of the ledger and admin API is reachable; else 0. Workers continue without it.",
        )
        if self._database.is_up is not None:
            database.add_metric((), int(self._database.is_up))
        yield database
        journal = GaugeMetricFamily(
            "edge_journal_bytes",
            "Bytes in the workers' journals: rows that the ledger has not processed, and the current files.",
        )
        if self._database.is_up is not None:
            journal.add_metric((), self._database.journal_bytes())
        yield journal
        quarantined = GaugeMetricFamily(
            "edge_ledger_quarantined_rows",
            "Rows that the ledger refused; they are in <state_dir>/quarantine.jsonl with the reason.",
        )
        if self._database.is_up is not None:
            quarantined.add_metric((), self._database.quarantined_rows())
        yield quarantined
