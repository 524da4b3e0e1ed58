"""Runs processes as if `make up` had installed them: what requirements/up.lock does not have cannot be imported.

`environment()` puts a `sitecustomize` before all others. It refuses those imports and, at the end of a process, writes
the names of the modules that the process has loaded.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from functools import cache
from importlib.metadata import Distribution, distributions
from pathlib import Path

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


def installed_by_make_up() -> frozenset[str]:
    lock = (ROOT / "requirements" / "up.lock").read_text()
    return frozenset({_normal(name) for name in re.findall(r"^([\w.-]+)(?:\[[^]]*\])?==", lock, re.MULTILINE)})


@cache
def absent_modules() -> frozenset[str]:
    """The modules of installed distributions that `make up` does not install."""
    wanted = {*installed_by_make_up(), "edge-extproc", "pip", "setuptools"}
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


def environment(directory: Path) -> dict[str, str]:
    site, loaded = directory / "site", directory / "loaded"
    site.mkdir()
    loaded.mkdir()
    text = _SITE.format(blocked=json.dumps(sorted(absent_modules())), directory=str(loaded))
    (site / "sitecustomize.py").write_text(text)
    return {**os.environ, "PYTHONPATH": str(site)}


def loaded_modules(directory: Path, argument: str) -> list[frozenset[str]]:
    """The modules of each ended process that has this argument on its command line."""
    read = [json.loads(path.read_text()) for path in (directory / "loaded").glob("*.json")]
    return [frozenset(each["modules"]) for each in read if argument in each["command"]]
