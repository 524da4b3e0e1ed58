"""Runs processes as if `pip install 'edge-extproc[envoy]'` had installed them, or `make up`, which adds the extra
`admin`: what else is installed cannot be imported.

`environment()` puts a `sitecustomize` before all others. It refuses those imports and, at the end of a process, writes
the names of the modules that the process has loaded.
"""

from __future__ import annotations

import json
import os
import re
import tomllib
from collections.abc import Iterable, Iterator
from functools import cache
from importlib.metadata import Distribution, distribution, distributions
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]

# Packages that several distributions share: the parts are told apart one level down.
_SHARED = frozenset({"google", "opentelemetry", "azure"})

_SITE = """
import atexit, json, os, sys
BLOCKED = frozenset(json.loads({blocked!r}))

class Absent:
    @staticmethod
    def find_spec(name, path=None, target=None):
        parts = name.split(".")
        if any(".".join(parts[:n]) in BLOCKED for n in range(1, len(parts) + 1)):
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
        return None

sys.meta_path.insert(0, Absent)

@atexit.register
def write_loaded():
    loaded = {{"command": sys.orig_argv, "modules": sorted(sys.modules)}}
    with open(os.path.join({directory!r}, f"{{os.getpid()}}.json"), "w") as file:
        json.dump(loaded, file)
"""


MAKE_UP = ("envoy", "admin")


def installed_with(extras: tuple[str, ...]) -> frozenset[str]:
    """The distributions that pip installs for these extras of the project."""
    project: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    found = set[str]()
    waiting = list[tuple[str, frozenset[str]]]()

    def add(requirements: Iterable[str], chosen: frozenset[str]) -> None:
        for each in map(Requirement, requirements):
            if each.marker is None or any(each.marker.evaluate({"extra": extra}) for extra in chosen | {""}):
                waiting.append((_normal(each.name), frozenset(each.extras)))

    add(project["dependencies"], frozenset())
    waiting.append(("edge-extproc", frozenset(extras)))
    seen = set[tuple[str, frozenset[str]]]()
    while waiting:
        name, chosen = waiting.pop()
        if (name, chosen) in seen:
            continue
        seen.add((name, chosen))
        if name == "edge-extproc":
            for extra in chosen:
                add(project["optional-dependencies"][extra], frozenset())
            continue
        found.add(name)
        add(distribution(name).requires or (), chosen)
    return frozenset(found)


@cache
def absent_modules(extras: tuple[str, ...] = ("envoy",)) -> frozenset[str]:
    """The modules of installed distributions that these extras do not install."""
    wanted = {*installed_with(extras), "edge-extproc", "pip", "setuptools"}
    have, absent = set[str](), set[str]()
    for each in distributions():
        (have if _normal(each.metadata["Name"]) in wanted else absent).update(_modules(each))
    return frozenset(absent - have)


def _modules(distribution: Distribution) -> Iterator[str]:
    for file in distribution.files or ():
        if file.suffix not in (".py", ".so") or ".." in file.parts or file.parts[0].endswith((".data", ".dist-info")):
            continue
        names = [part.partition(".")[0] for part in file.parts]
        depth = 2 if names[0] in _SHARED else 1
        yield ".".join(names[:depth])


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def environment(directory: Path, extras: tuple[str, ...] = ("envoy",)) -> dict[str, str]:
    site, loaded = directory / "site", directory / "loaded"
    site.mkdir()
    loaded.mkdir()
    text = _SITE.format(blocked=json.dumps(sorted(absent_modules(extras))), directory=str(loaded))
    (site / "sitecustomize.py").write_text(text)
    return {**os.environ, "PYTHONPATH": str(site)}


def loaded_modules(directory: Path, argument: str) -> list[frozenset[str]]:
    """The modules of each ended process that has this argument on its command line."""
    read = [json.loads(path.read_text()) for path in (directory / "loaded").glob("*.json")]
    return [frozenset(each["modules"]) for each in read if argument in each["command"]]
