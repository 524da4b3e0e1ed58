"""What the supervisor counts itself: its workers, and what became of new configurations."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Literal, TypeAlias, get_args

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

Outcome: TypeAlias = Literal["applied", "rejected", "restart_needed"]


@dataclass(slots=True)
class Reloads:
    """What became of the configuration file since the start, which itself is a success."""

    applied_at: float
    """Unix time."""
    counts: dict[Outcome, int] = field(default_factory=lambda: dict.fromkeys(get_args(Outcome), 0))
    is_in_force: bool = True
    """Whether the last one that was read is."""

    def add(self, outcome: Outcome, now: float) -> None:
        self.counts[outcome] += 1
        self.is_in_force = outcome == "applied"
        if self.is_in_force:
            self.applied_at = now


@dataclass(slots=True)
class DatabaseState:
    """As the ledger's keeper last found it."""

    is_up: bool | None = None
    """None: there is none."""
    journal_bytes: Callable[[], int] = lambda: 0
    """What workers wrote for the ledger and it may not have yet."""
    quarantined_rows: Callable[[], int] = lambda: 0
    """Rows that the ledger could not take."""

    def told(self, is_up: bool) -> None:
        self.is_up = is_up


class SupervisorMetrics(Collector):
    def __init__(
        self, workers: int, restarts: Callable[[], int], reloads: Reloads, database: DatabaseState | None = None
    ) -> None:
        self._workers = workers
        self._restarts = restarts
        self._reloads = reloads
        self._database = database or DatabaseState()

    def collect(self) -> Iterator[Metric]:
        yield GaugeMetricFamily("edge_workers_wanted", "Worker processes that there should be.", self._workers)
        yield CounterMetricFamily("edge_worker_restarts", "Workers that died and were started again.", self._restarts())
        reloads = CounterMetricFamily(
            "edge_config_reloads", "New configurations, by what became of them.", labels=("outcome",)
        )
        for outcome, count in self._reloads.counts.items():
            reloads.add_metric((outcome,), count)
        yield reloads
        yield GaugeMetricFamily(
            "edge_config_last_reload_successful",
            "1 where the configuration file, as it was last read, is in force; else 0.",
            int(self._reloads.is_in_force),
        )
        yield GaugeMetricFamily(
            "edge_config_last_reload_success_timestamp_seconds",
            "When a configuration file last came into force.",
            self._reloads.applied_at,
        )
        database = GaugeMetricFamily(
            "edge_database_up",
            "1 where the database of ledger and admin API can be reached; else 0, and workers go on.",
        )
        if self._database.is_up is not None:
            database.add_metric((), int(self._database.is_up))
        yield database
        journal = GaugeMetricFamily(
            "edge_journal_bytes",
            "Bytes that workers wrote for the ledger: what it has not taken, and the files at work.",
        )
        if self._database.is_up is not None:
            journal.add_metric((), self._database.journal_bytes())
        yield journal
        quarantined = GaugeMetricFamily(
            "edge_ledger_quarantined_rows",
            "Rows that the ledger could not take; they lie in <state_dir>/quarantine.jsonl with the reason.",
        )
        if self._database.is_up is not None:
            quarantined.add_metric((), self._database.quarantined_rows())
        yield quarantined
