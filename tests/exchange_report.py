"""What the recordings show and the project's own set of exchanges does not, and which modules ran on neither.

`python tests/exchange_report.py` prints the comparison. As a plugin of pytest (see `conftest.py`) it adds the sets to
the summary of a run, and fails a run in which a module that reads exchanges skipped all of its tests.
"""

from __future__ import annotations

import functools
import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest
from recordings import OWN, SETS, SHARED, index_of

TESTS = Path(__file__).resolve().parent
# A module reads exchanges if it names one of these in an import.
SOURCES = ("recordings", "crossings")

Shown = tuple[str, str]
"""An API, with `/stream` for its streams, and a feature."""


def shown(rows: Iterable[Mapping[str, Any]]) -> Counter[Shown]:
    """How many exchanges show a feature, for each API. The feature `-` is the exchange itself."""
    counts: Counter[Shown] = Counter()
    for row in rows:
        api = row["api"] + ("/stream" if row["streaming"] else "")
        counts.update((api, feature) for feature in ("-", *row["features"]))
    return counts


def lacking(recorded: Iterable[Mapping[str, Any]], own: Iterable[Mapping[str, Any]]) -> dict[Shown, int]:
    """What recordings show and the own set does not, with the number of recordings."""
    has = shown(own)
    return {what: count for what, count in sorted(shown(recorded).items()) if what not in has}


def report() -> list[str]:
    own = index_of(OWN)
    lines = [f"exchanges: {len(own)} of the own set"]
    if SHARED not in SETS:
        return [f"{lines[0]}; no recordings beside this checkout (../shared/recordings)"]
    recorded = index_of(SHARED)
    lacks = lacking(recorded, own)
    lines = [f"{lines[0]}, {len(recorded)} recordings"]
    lines += [f"the own set lacks {api}: {feature} ({count} recordings)" for (api, feature), count in lacks.items()]
    return lines if lacks else [f"{lines[0]}; the own set shows every feature that the recordings show"]


@functools.cache
def readers() -> frozenset[str]:
    """The test modules that read exchanges, as pytest names them."""
    starts = tuple(f"{word} {source}" for word in ("from", "import") for source in SOURCES)
    return frozenset(
        str(path.relative_to(TESTS.parent))
        for path in TESTS.rglob("test_*.py")
        if any(line.startswith(starts) for line in path.read_text(encoding="utf-8").splitlines())
    )


class Ran:
    """Which modules ran at least one test, and which had one skipped."""

    def __init__(self) -> None:
        self._ran: set[str] = set()
        self._skipped: set[str] = set()

    def add(self, nodeid: str, when: str | None, outcome: str) -> None:
        module = nodeid.partition("::")[0]
        if outcome == "skipped":
            self._skipped.add(module)
        elif when == "call":
            self._ran.add(module)

    def idle(self) -> list[str]:
        """Modules that read exchanges and skipped all their tests."""
        return sorted((self._skipped - self._ran) & readers())

    def saw_a_reader(self) -> bool:
        return bool((self._ran | self._skipped) & readers())

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.add(report.nodeid, report.when, report.outcome)

    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        if self.idle() and exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if not self.saw_a_reader():
            return
        terminalreporter.section("exchanges")
        for line in report():
            terminalreporter.line(line)
        for module in self.idle():
            terminalreporter.line(f"{module} ran on no exchange: all of its tests were skipped", red=True)


if __name__ == "__main__":
    print("\n".join(report()))
    sys.exit(0)
