"""The lines of `--progress-lines`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import progress

CONFTEST = """
import progress
def pytest_addoption(parser):
    progress.pytest_addoption(parser)
def pytest_configure(config):
    config.pluginmanager.register(progress.Progress(config))
"""
MODULE = """
import pytest
@pytest.mark.parametrize("number", range(40))
def test_number(number):
    assert number != 9

def test_subtests(subtests):
    with subtests.test("one"):
        assert False
"""


def test_a_line_says_what_is_done_and_what_failed() -> None:
    assert " 35 % of 200 tests after 3:07" == progress.line(70, 200, 0, 187.9)
    assert "100 % of 200 tests after 0:05, 2 failed" == progress.line(200, 200, 2, 5)


def test_a_run_has_a_line_for_each_twentieth_and_for_each_failure(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text(CONFTEST, encoding="utf-8")
    (tmp_path / "test_numbers.py").write_text(MODULE, encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-c", "/dev/null", "--rootdir", str(tmp_path), str(tmp_path)]
    environment = {"PYTHONPATH": str(Path(progress.__file__).parent), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    options = ["-p", "no:cacheprovider", "-o", "console_output_style=classic", "-q"]
    output = subprocess.run(
        [*command, *options], capture_output=True, text=True, check=False, cwd=tmp_path, env=environment
    ).stdout
    lines = output.partition("= FAILURES =")[0].splitlines()

    assert progress.STEPS == len([line for line in lines if " % of 41 tests after " in line])
    assert ["FAILED test_numbers.py::test_number[9]", "FAILED test_numbers.py::test_subtests"] == [
        line for line in lines if line.startswith("FAILED")
    ]
    assert not [line for line in lines if set(line) <= {"."} and line]
    assert "3 failed, 39 passed" in output
