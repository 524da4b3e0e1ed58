"""Tests that share something run in one process of pytest-xdist, so that it starts once."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import xdist_groups

CONFTEST = """
import pytest, xdist_groups

def pytest_configure(config):
    config.addinivalue_line("markers", "envoy: as the project's")
    xdist_groups.register(config)

def pytest_collectstart(collector):
    if isinstance(collector, pytest.Module):
        with open(f"collected-{collector.config.workerinput['workerid']}.txt", "a") as file:
            file.write(collector.path.stem + "\\n")

@pytest.fixture(scope="session")
def running(): pass

@pytest.fixture(scope="session")
def cheap(): pass

@pytest.fixture
def seen(request):
    name = request.node.name
    yield
    worker = request.config.workerinput["workerid"]
    with open("seen.txt", "a") as file:
        file.write(f"{worker} {request.node.path.stem} {name}\\n")
"""
MARKED = """
import pytest
pytestmark = pytest.mark.xdist_group("one")

@pytest.mark.parametrize("n", range(6))
def test_marked(n, seen): pass
"""
SHARING = """
import pytest

@pytest.fixture(scope="module", params=["a", "b"])
def server(request): return request.param

@pytest.mark.parametrize("n", range(6))
def test_sharing(n, server, seen): pass
"""
COSTLY = """
import pytest

@pytest.mark.parametrize("n", range(6))
def test_costly(n, running, cheap, seen): pass
"""
PLAIN = """
import pytest

@pytest.mark.parametrize("n", range(6))
def test_plain(n, seen): pass
"""


def run(directory: Path, **modules: str) -> dict[str, set[str]]:
    """Module, and the parameter of a shared fixture, to the processes that have run its tests."""
    (directory / "pytest.ini").write_text("[pytest]\n")
    (directory / "conftest.py").write_text(CONFTEST)
    for name, text in modules.items():
        (directory / f"test_{name}.py").write_text(text)
    paths = (
        f"import sys; sys.path.insert(0, {str(Path(__file__).parents[1])!r}); import pytest; sys.exit(pytest.main())"
    )
    command = [sys.executable, "-c", paths, "-q", "-p", "xdist", "-n", "2", "--dist", "loadgroup"]
    alone = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    done = subprocess.run(command, cwd=directory, env=alone, capture_output=True, text=True, check=False)
    assert 0 == done.returncode, done.stdout + done.stderr
    found = defaultdict(set)
    for line in (directory / "seen.txt").read_text().splitlines():
        worker, module, test = line.split()
        found[f"{module} {test[13]}" if "sharing" in test else module].add(worker)
    return found


def test_what_shares_something_runs_in_one_process(tmp_path: Path) -> None:
    found = run(tmp_path, marked=MARKED, sharing=SHARING, costly=COSTLY, first=COSTLY, plain=PLAIN)
    tests = {name: found[name] for name in ("test_marked", "test_sharing a", "test_sharing b")}

    assert {*tests, "test_costly", "test_first", "test_plain"} == found.keys()
    assert dict.fromkeys(tests, 1) == {name: len(workers) for name, workers in tests.items()}
    # Two modules share a fixture of the session.
    assert 1 == len(found["test_costly"] | found["test_first"])
    # What one process has compiled, the other reads.
    one, other = ((tmp_path / f"collected-gw{n}.txt").read_text().split() for n in range(2))
    assert ["test_costly", "test_first", "test_marked", "test_plain", "test_sharing"] == one == other[::-1]


class Process:
    """A process of pytest-xdist as its scheduler sees it."""

    shutting_down = False

    def __init__(self) -> None:
        self.gateway = SimpleNamespace(id="one")
        self.positions: list[int] = []

    def send_runtest_some(self, positions: list[int]) -> None:
        self.positions += positions

    def shutdown(self) -> None:
        self.shutting_down = True


def test_a_complete_group_is_counted_no_more(tmp_path: Path) -> None:
    (tmp_path / "one.json").write_text('{"a.py::one": "a", "a.py::two": "a"}')
    option = SimpleNamespace(loadscopereorder=True)
    config: Any = SimpleNamespace(option=option, getvalue=lambda name: ["popen"])
    log: Any = SimpleNamespace(loadscopesched=lambda *words: None)
    scheduler, process = xdist_groups.Scheduler(config, log, tmp_path), Process()
    tests = ["a.py::one", *(f"b.py::plain{n}" for n in range(5)), "a.py::two"]
    scheduler.add_node(process)
    scheduler.add_node_collection(process, tests)
    scheduler.schedule()
    open_groups = []

    for position in process.positions:
        scheduler.mark_test_complete(process, position)
        open_groups.append(len(scheduler.assigned_work[process]))
        scheduler.mark_test_complete(process, position)  # a cell that failed has a report of its own

    assert [0, 6] == process.positions[:2]
    assert sorted(process.positions) == list(range(len(tests)))
    assert max(open_groups) <= 3
    assert scheduler.tests_finished
    assert not scheduler.has_pending
    assert process.shutting_down
