"""Tries a change of the configuration: checks it, and replays the ledger against it.

As a program it reads a ConfigTrial from stdin and writes a ConfigTrialResult to stdout. The supervisor starts it for a
text that an admin has pasted, so that neither its event loop nor its memory has the work.
"""

from __future__ import annotations

import io
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import msgspec

from ..accounting import prices as price_table
from ..config import changes, load
from ..config.document import dotted
from ..config.quantities import read_duration
from ..config.schema import Config
from ..errors import ConfigError, EdgeError
from ..model.config_trial import ConfigTrial, ConfigTrialResult
from ..model.managed import EMPTY, ManagedState
from ..store import snapshot
from .check import check_rendering, warnings
from .replay import ConfigJudge, ReplayReport, replay

MOST_ROWS = 200_000
# The supervisor and the workers go first.
_NICE = 10


def run(trial: ConfigTrial) -> ConfigTrialResult:
    """Never raises for a mistake in the text: the result has it."""
    try:
        config = load.parse(trial.text, trial.name, base=Path(trial.base), additions=trial.additions)
        found = list(warnings(config))
        rendering = check_rendering(config)
        current = None
        if trial.current is not None:
            current = load.parse(trial.current, trial.name, base=Path(trial.base), additions=trial.additions)
        differing = [] if current is None else sorted({dotted(path) for path in changes.differences(current, config)})
        restart = [] if current is None or not differing else _needing_restart(current, config)
        report = None
        if trial.since_ms is not None and trial.database is not None:
            managed = snapshot.read(Path(trial.managed)) if trial.managed is not None else EMPTY
            replayed = _replayed(config, current, managed, trial.database, trial.since_ms, Path(trial.state_dir))
            report = msgspec.to_builtins(replayed)
    except EdgeError as error:
        return ConfigTrialResult(errors=error.message.splitlines())
    return ConfigTrialResult([], found, rendering, differing, restart, report)


def _needing_restart(current: Config, new: Config) -> list[str]:
    from ..envoy_config import bootstrap as render_envoy
    from ..envoy_config import dynamic as render_dynamic

    return changes.needing_restart(
        current, new, lambda config: render_envoy.render(render_dynamic.at_sampling(config, 100))
    )


def _replayed(
    config: Config, current: Config | None, managed: ManagedState, database: str, since_ms: int, state_dir: Path
) -> ReplayReport:
    from ..store.database import open_database
    from ..store.ledger import Ledger

    prices = price_table.load(price_table.compiled(state_dir))
    new = ConfigJudge(config, managed, prices)
    old = ConfigJudge(current, managed, prices) if current is not None else None
    ledger = Ledger(open_database(database))
    try:
        rows = ledger.since(since_ms, MOST_ROWS + 1)
    finally:
        ledger.close()
    return replay(rows[-MOST_ROWS:], new, old, cut=len(rows) > MOST_ROWS)


def replay_of_files(
    config: Path, current: Path | None, database: str, since: str, form: Literal["table", "json"]
) -> Iterator[str]:
    """The lines of the report. Raises ConfigError or StartError."""
    try:
        seconds = read_duration(since).total_seconds()
    except ValueError as error:
        raise ConfigError(f"--since: {error}") from None
    new = load.load(config)
    old = load.load(current) if current is not None else None
    in_force = old or new
    managed = snapshot.read(in_force.managed_file) if in_force.has_admin_api else EMPTY
    since_ms = int((time.time() - seconds) * 1000)
    report = _replayed(new, old, managed, database, since_ms, in_force.agent.state_dir)
    if form == "json":
        yield msgspec.json.encode(report).decode()
        return
    yield from _table(report)


def _table(report: ReplayReport) -> Iterator[str]:
    from rich.console import Console
    from rich.table import Table

    yield (
        f"{report.requests} requests, {report.replayed} replayed, {report.unclear} unclear: {report.refused} would be "
        f"refused, {report.elsewhere} routed elsewhere, {report.unpriced} without a price"
    )
    yield (
        f"cost ${report.cost_before} → ${report.cost_after}, of which ${report.saved_by_refusals} by refusals"
        + ("; only the newest requests" if report.cut else "")
    )
    if report.groups:
        table = Table("change", "tenant", "key", "model", "detail", "requests", "before", "after")
        for each in report.groups:
            values = (each.change, each.tenant, each.key, each.model, each.detail, each.requests)
            table.add_row(*("" if v is None else str(v) for v in values), f"${each.cost_before}", f"${each.cost_after}")
        buffer = io.StringIO()
        Console(file=buffer, width=200).print(table)
        yield buffer.getvalue().rstrip()
    if report.hidden_groups:
        yield f"and {report.hidden_groups} more"
    yield "What a replay cannot know:"
    yield from (f"- {each}" for each in report.unknown)


def main() -> None:
    os.nice(_NICE)
    trial = msgspec.json.decode(sys.stdin.buffer.read(), type=ConfigTrial)
    result = msgspec.json.encode(run(trial))
    sys.stdout.buffer.write(result)
    sys.stdout.flush()


if __name__ == "__main__":
    main()
