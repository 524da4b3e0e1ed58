"""`each_cell`: every cell runs, and what failed is named."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import cells
import pytest
from cells import each_cell

MODULE = """
import pytest
from cells import each_cell

@pytest.fixture
def limit():
    return 2

@pytest.mark.parametrize("factor", [1, 10])
@each_cell("number", [1, 2, 3, 4], ids=["one", "two", "three", "four"])
def test_numbers(number, factor, limit):
    with open({ran!r}, "a") as file:
        print(f"{{number}} times {{factor}}", file=file)
    assert number * factor != limit, "as much as the limit"
    if number == 3:
        with pytest.raises(ValueError):
            pass

@each_cell("a", "xy")
@each_cell(("b", "c"), [("p", 1), ("q", 2)])
def test_combinations(a, b, c):
    assert (a, b) != ("y", "q")

@each_cell("number", range(5), parts=2)
def test_parts(number):
    assert number != 3

@each_cell("number", [1, 2])
def test_skips(number):
    if number == 2:
        pytest.skip("not today")
"""


def run(directory: Path, *arguments: str) -> str:
    """The output of pytest for MODULE. The cells of its first test that ran are lines of the file `ran`."""
    module, ran = directory / "test_of_cells.py", directory / "ran"
    module.write_text(MODULE.format(ran=str(ran)), encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-c", "/dev/null", "--rootdir", str(directory), "-p", "cells"]
    command += ["-p", "no:randomly", "-p", "no:cacheprovider", "-rA", str(module), *arguments]
    environment = {"PYTHONPATH": str(Path(cells.__file__).parent), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment, cwd=directory).stdout


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, list[str]]:
    directory = tmp_path_factory.mktemp("cells")
    return run(directory), (directory / "ran").read_text(encoding="utf-8").splitlines()


def summary(output: str) -> list[str]:
    """The lines of the short summary, without its reasons and the name of the module."""
    lines = output.partition("short test summary info")[2].splitlines()[1:-1]
    return [line.partition(" - ")[0].replace("test_of_cells.py::", "") for line in lines]


def test_every_cell_runs_whatever_became_of_another(whole: tuple[str, list[str]]) -> None:
    assert [f"{number} times {factor}" for factor in (1, 10) for number in (1, 2, 3, 4)] == whole[1]


def test_each_cell_that_failed_is_named(whole: tuple[str, list[str]]) -> None:
    lines = summary(whole[0])

    assert {line for line in lines if line.startswith("SUBFAILED")} == {
        "SUBFAILED[two] test_numbers[cells-1]",
        "SUBFAILED[three] test_numbers[cells-1]",
        "SUBFAILED[three] test_numbers[cells-10]",
        "SUBFAILED[y-q-2] test_combinations[cells]",
        "SUBFAILED[3] test_parts[part 2 of 2]",
        "SUBFAILED[2] test_skips[cells]",
    }
    assert {line for line in lines if line.startswith("PASSED")} == {"PASSED test_parts[part 1 of 2]"}
    assert "as much as the limit" in whole[0]
    assert "a cell cannot be skipped" in whole[0]


def test_an_item_with_a_cell_that_failed_fails(whole: tuple[str, list[str]]) -> None:
    assert {line for line in summary(whole[0]) if line.startswith("FAILED")} == {
        "FAILED test_numbers[cells-1]",
        "FAILED test_numbers[cells-10]",
        "FAILED test_combinations[cells]",
        "FAILED test_parts[part 2 of 2]",
        "FAILED test_skips[cells]",
    }


def test_one_cell_runs_alone(tmp_path: Path) -> None:
    lines = summary(run(tmp_path, "--cell", "two"))

    assert ["2 times 1", "2 times 10"] == (tmp_path / "ran").read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if line.startswith("SUBFAILED")] == ["SUBFAILED[two] test_numbers[cells-1]"]


def test_cells_that_do_not_fit_the_test_are_refused() -> None:
    with pytest.raises(AssertionError, match="no cell for number"):
        each_cell("number", [])
    with pytest.raises(AssertionError, match="2 cells have 1 names"):
        each_cell("number", [1, 2], ids=["one"])
    with pytest.raises(AssertionError, match="test_letter takes letter"):
        each_cell("number", [1])(takes_letter())
    with pytest.raises(AssertionError, match="nothing stands between"):
        each_cell("other", [1])(pytest.mark.skip(each_cell("letter", "a")(takes_letter())))


def takes_letter() -> cells.Test:
    def test_letter(letter: str) -> None:
        pass

    return test_letter
