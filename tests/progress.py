"""Which part of a run is done, as lines: `--progress-lines`. A log has no cursor, and rows of dots have no number."""

from __future__ import annotations

import time
from collections.abc import Generator, Mapping
from typing import Any

import pytest

STEPS = 20

Status = tuple[str, str, str | tuple[str, Mapping[str, Any]]]
"""A category, a letter and a word, as pytest has them."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """`conftest.py` passes it on."""
    parser.addoption("--progress-lines", action="store_true", help="a line at each twentieth of a run, and no dots")


def line(done: int, total: int, failed: int, seconds: float) -> str:
    trouble = f", {failed} failed" if failed else ""
    return f"{done * 100 // total:3} % of {total} tests after {int(seconds) // 60}:{int(seconds) % 60:02}{trouble}"


class Progress:
    """A plugin of the process that reports."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._began = time.monotonic()
        self._done = 0
        self._step = 0
        self._failed: set[str] = set()

    @pytest.hookimpl(wrapper=True)
    def pytest_report_teststatus(self) -> Generator[None, Status, Status]:
        """No letters: what failed has a line, and the rest is counted."""
        category, _, word = yield
        return category, "", word

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        reporter = self._config.pluginmanager.get_plugin("terminalreporter")
        if report.failed:
            if report.nodeid not in self._failed:
                reporter.write_line(f"FAILED {report.nodeid}", red=True)
            self._failed.add(report.nodeid)
        if report.when != "teardown":
            return
        self._done += 1
        total = max(reporter._session.testscollected, self._done)
        if (step := self._done * STEPS // total) > self._step:
            self._step = step
            reporter.write_line(line(self._done, total, len(self._failed), time.monotonic() - self._began))
