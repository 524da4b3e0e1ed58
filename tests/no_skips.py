"""`--no-skips=tests/istio`: a skipped test below this path fails.

A job of CI that has installed what these tests need passes otherwise with no test at all if that installation fails.
"""

from __future__ import annotations

from collections.abc import Generator

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """`conftest.py` passes it on."""
    parser.addoption(
        "--no-skips", action="append", default=[], metavar="PATH", help="a skipped test below PATH fails; repeatable"
    )


def pytest_configure(config: pytest.Config) -> None:
    """`conftest.py` passes it on."""
    config.pluginmanager.register(NoSkips(config.getoption("no_skips")))


class NoSkips:
    def __init__(self, paths: list[str]) -> None:
        self._paths = tuple(path.rstrip("/") for path in paths)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield
        self._refuse(report)
        return report

    @pytest.hookimpl(wrapper=True)
    def pytest_make_collect_report(self) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
        report = yield
        self._refuse(report)
        return report

    def _refuse(self, report: pytest.TestReport | pytest.CollectReport) -> None:
        path = report.nodeid.partition("::")[0]
        is_below = any(path == each or path.startswith(f"{each}/") for each in self._paths)
        if is_below and report.skipped and not hasattr(report, "wasxfail"):
            reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
            report.outcome = "failed"
            report.longrepr = f"{reason} (--no-skips)"
