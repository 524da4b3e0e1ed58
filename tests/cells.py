"""Many short cases in few items of pytest.

Pytest spends milliseconds on each item: collection, fixtures, capture, a report that goes from a worker of xdist to
the process that started it. A case that takes less than that is a cell: `each_cell` runs a test on all cells of a list,
in one item or in a few. Every cell runs, whatever became of those before it, and each cell that failed has its own
report with its name. `pytest FILE::TEST --cell NAME` runs the cells with NAME in their name alone.

A test with cells gets the same fixtures for all of them: a test that changes a fixture is no such test.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import pytest

Cell = tuple[str, dict[str, Any]]
"""The name of a cell, and what the test gets of it, by the names of its parameters."""
Test = Callable[..., None]

# The attribute that `each_cell` leaves on a test, for another `each_cell` above it.
CELLS = "test_and_cells"


def pytest_addoption(parser: pytest.Parser) -> None:
    """`conftest.py` passes it on."""
    parser.addoption("--cell", metavar="NAME", help="run only cells with NAME in their name (see tests/cells.py)")


def each_cell(
    names: str | tuple[str, ...], values: Iterable[Any], *, ids: Iterable[Any] | None = None, parts: int = 1
) -> Callable[[Test], Test]:
    """As `pytest.mark.parametrize`, with all cases in `parts` items. One above another gives all combinations."""
    rows = list(values)
    named = list(map(str, ids)) if ids is not None else [_name(row) for row in rows]
    assert rows, f"there is no cell for {names}"
    assert len(named) == len(rows), f"{len(rows)} cells have {len(named)} names"
    keys = (names,) if isinstance(names, str) else names
    cells = [
        (name, dict(zip(keys, (row,) if isinstance(names, str) else row, strict=True)))
        for name, row in zip(named, rows, strict=True)
    ]

    def decorate(test: Test) -> Test:
        below: _Cells | None = getattr(test, CELLS, None)
        if below is None:
            return _of_cells(_Cells(test, cells), parts)
        assert len(getattr(test, "pytestmark", ())) == 1 + len(getattr(below.test, "pytestmark", ())), (
            "nothing stands between one each_cell and another"
        )
        return _of_cells(_Cells(below.test, [_joined(one, other) for one in cells for other in below.cells]), parts)

    return decorate


@dataclass(frozen=True)
class _Cells:
    test: Test
    cells: Sequence[Cell]


def _name(value: Any) -> str:
    if isinstance(value, tuple):
        return "-".join(map(_name, value))
    return str(getattr(value, "__name__", value))[:100]


def _joined(one: Cell, other: Cell) -> Cell:
    return "-".join(filter(None, (one[0], other[0]))), {**one[1], **other[1]}


def _of_cells(both: _Cells, parts: int) -> Test:
    """An item for each part. Every part takes each `parts`th cell, so that all parts take about as long."""
    test, cells = both.test, both.cells
    assert not inspect.iscoroutinefunction(test), "a test with cells is a plain function"

    @functools.wraps(test)
    def run(subtests: pytest.Subtests, request: pytest.FixtureRequest, cells_part: int, **fixtures: Any) -> None:
        __tracebackhide__ = True
        wanted: str | None = request.config.getoption("cell", None)
        chosen = [cell for cell in cells[cells_part::parts] if wanted is None or wanted in cell[0]]
        if not chosen:
            pytest.skip(f"no cell has {wanted!r} in its name")
        for name, arguments in chosen:
            with cell(subtests, name):
                test(**arguments, **fixtures)

    parameters = inspect.signature(test).parameters
    given = {name for name in cells[0][1] if name in parameters}
    assert given == cells[0][1].keys(), f"{test.__name__} takes {', '.join(parameters)}"
    own = [p for name, p in inspect.signature(run, follow_wrapped=False).parameters.items() if name != "fixtures"]
    taken = {p.name for p in own} | given
    run.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [*own, *(p for name, p in parameters.items() if name not in taken)]
    )
    setattr(run, CELLS, both)
    ids = [f"part {part + 1} of {parts}" if parts > 1 else "cells" for part in range(parts)]
    return pytest.mark.parametrize("cells_part", range(parts), ids=ids)(run)


class cell:  # noqa: N801 - it is called as a function is
    """Makes a subtest of a cell that failed. A cell that passed costs nothing: the item stands for it."""

    def __init__(self, subtests: pytest.Subtests, name: str) -> None:
        self._subtests = subtests
        self._name = name

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        if isinstance(error, pytest.skip.Exception):
            error = pytest.fail.Exception("a cell cannot be skipped: leave it out of the cells").with_traceback(trace)
            kind = type(error)
        if error is None:
            return None
        subtest = self._subtests.test(self._name)
        subtest.__enter__()
        return subtest.__exit__(kind, error, trace)
