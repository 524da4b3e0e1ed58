"""`make test REPEAT=3`: what failed is repeated, if it is little."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import repeat_failed

FAILS_ONCE = """
from pathlib import Path

def test_it():
    mark = Path(__file__ + ".ran")
    if not mark.exists():
        mark.touch()
        raise AssertionError("the first time")
"""
FAILS = "def test_it():\n    assert False\n"


def run(folder: Path, most: int, **modules: str) -> subprocess.CompletedProcess[str]:
    for name, text in modules.items():
        (folder / f"test_{name}.py").write_text(text)
    (folder / "pytest.ini").write_text("[pytest]\n")
    first = subprocess.run([sys.executable, "-m", "pytest", "-q"], cwd=folder, capture_output=True, check=False)
    command = [sys.executable, repeat_failed.__file__, str(first.returncode), str(most)]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def test_a_test_that_passes_when_it_is_repeated_is_listed(tmp_path: Path) -> None:
    done = run(tmp_path, 3, unsteady=FAILS_ONCE, other="def test_it():\n    pass\n")

    assert 0 == done.returncode
    assert "test_unsteady.py::test_it" == done.stdout.splitlines()[-1]
    assert "test_other" not in done.stdout


def test_a_test_that_fails_again_fails_the_run(tmp_path: Path) -> None:
    done = run(tmp_path, 3, unsteady=FAILS_ONCE, wrong=FAILS)

    assert 1 == done.returncode
    assert "UNSTEADY" not in done.stdout


@pytest.mark.parametrize("most", [0, 1])
def test_more_failures_than_that_are_not_repeated(tmp_path: Path, most: int) -> None:
    done = run(tmp_path, most, one=FAILS_ONCE, two=FAILS_ONCE)

    assert (1, "") == (done.returncode, done.stdout)


@pytest.mark.parametrize("status", [2, 3, 4])
def test_a_run_that_ended_in_another_way_keeps_its_status(status: int) -> None:
    assert status == repeat_failed.main(status, 3)


def test_names_of_processes_from_an_earlier_run_are_no_tests(tmp_path: Path) -> None:
    """Pytest keeps them beside the tests, if its processes collected different ones."""
    kept = tmp_path / repeat_failed.FAILED
    kept.parent.mkdir(parents=True)
    kept.write_text('{"gw1": true}')
    done = run(tmp_path, 1, unsteady=FAILS_ONCE)

    assert (0, "test_unsteady.py::test_it") == (done.returncode, done.stdout.splitlines()[-1])
