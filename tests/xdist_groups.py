"""Which tests one process of pytest-xdist runs: those of a group, so that what they share starts once.

`--dist loadgroup` of pytest-xdist 3.8 writes the group into an attribute of the test that pytest 9.2 does not read, and
each process starts each gateway. Here the processes write the groups into a file, and the scheduler reads it.
"""

from __future__ import annotations

import functools
import itertools
import json
import tempfile
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

MARK = "xdist_group"
# Fixtures of a whole session that start a gateway. Other fixtures of a session cost less than a core that waits.
COSTLY = frozenset({"running", "many"})


def group_of(item: pytest.Item) -> str | None:
    """The group that is marked, or the module if the test uses a wider fixture of it, or a costly fixture of the
    session. Each parameter of a module's fixture is a group of its own."""
    if (mark := item.get_closest_marker(MARK)) is not None:
        return str(mark.args[0])
    if not isinstance(item, pytest.Function):
        return None
    module = module_of(item)
    wider = {
        name: found[-1] for name, found in item._fixtureinfo.name2fixturedefs.items() if found[-1].scope != "function"
    }
    shared = {name for name, found in wider.items() if found.baseid == module}
    if not shared:
        costly = COSTLY & {name for name, found in wider.items() if found.scope == "session"}
        return min(costly, default=None)
    told = item.callspec.indices if hasattr(item, "callspec") else {}
    return " ".join((module, *(f"{name}={index}" for name, index in sorted(told.items()) if name in shared)))


def costly_first(items: list[pytest.Item]) -> None:
    """Those with a real Envoy first: at the end, short tests keep all processes busy."""
    items.sort(key=lambda item: item.get_closest_marker("envoy") is None)


def module_of(item: pytest.Item) -> str:
    return item.nodeid.partition("::")[0]


class InProcess:
    """The hooks of a process that runs tests.

    Every second process collects the modules in the opposite order. Python and pytest keep what they compile in files:
    so each process compiles some modules and reads the others. In one order, all would compile each at the same time.
    """

    def __init__(self, groups: Path, *, backwards: bool = False) -> None:
        self._groups = groups
        self._backwards = backwards

    @pytest.hookimpl(wrapper=True)
    def pytest_make_collect_report(
        self, collector: pytest.Collector
    ) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
        report = yield
        if self._backwards and isinstance(collector, pytest.Directory):
            report.result = report.result[::-1]
        return report

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> Generator[None, None, None]:
        """Other hooks see the tests in one order in each process: all have to end with the same."""
        if self._backwards:
            modules = [list(found) for _, found in itertools.groupby(items, module_of)]
            items[:] = itertools.chain.from_iterable(reversed(modules))
        yield
        costly_first(items)

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        found = {item.nodeid: group for item in session.items if (group := group_of(item)) is not None}
        self._groups.write_text(json.dumps(found))


class Scheduler(LoadScopeScheduling):  # type: ignore[misc] # the package has no types
    def __init__(self, config: pytest.Config, log: Any, directory: Path) -> None:
        super().__init__(config, log)
        self._directory = directory

    @functools.cached_property
    def _groups(self) -> dict[str, str]:
        found: dict[str, str] = {}
        for path in self._directory.iterdir():
            found |= json.loads(path.read_text())
        return found

    def _split_scope(self, nodeid: str) -> str:
        return self._groups.get(nodeid, nodeid)

    @functools.cached_property
    def _positions(self) -> dict[str, int]:
        """Every process has collected the same tests in the same order, and each test is sent as its position."""
        assert self.collection is not None
        return {nodeid: position for position, nodeid in enumerate(self.collection)}

    def mark_test_complete(self, node: Any, item_index: int, duration: float = 0) -> None:
        """A group that is complete is removed: the base class counts the open tests of all groups of a process after
        each test, which takes a time that grows with the square of the number of tests."""
        assert self.collection is not None
        nodeid = self.collection[item_index]
        group = self._split_scope(nodeid)
        # A cell that failed has a report of its own, so a test of cells can be complete more than once.
        if (unit := self.assigned_work[node].get(group)) is not None:
            unit[nodeid] = True
            if all(unit.values()):
                del self.assigned_work[node][group]
        self._reschedule(node)

    def _assign_work_unit(self, node: Any) -> None:
        """As in the base class, which searches the list of all tests for each position."""
        group, unit = self.workqueue.popitem(last=False)
        self.assigned_work[node][group] = unit
        node.send_runtest_some([self._positions[nodeid] for nodeid, complete in unit.items() if not complete])


class Controller:
    """The hooks of the process that starts the others and hands out tests."""

    def __init__(self) -> None:
        self._directory = tempfile.TemporaryDirectory(prefix="groups-")

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        node.workerinput["groups"] = str(Path(self._directory.name) / f"{node.gateway.id}.json")

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_make_scheduler(self, config: pytest.Config, log: Any) -> Scheduler | None:
        return Scheduler(config, log, Path(self._directory.name)) if config.getvalue("dist") == "loadgroup" else None

    def pytest_unconfigure(self) -> None:
        self._directory.cleanup()


def register(config: pytest.Config) -> None:
    """In each process of a run; without xdist there is nothing to group."""
    told = getattr(config, "workerinput", None)
    if told is None:
        config.pluginmanager.register(Controller())
    else:
        number = int(told["workerid"].removeprefix("gw"))
        config.pluginmanager.register(InProcess(Path(told["groups"]), backwards=number % 2 == 1))
