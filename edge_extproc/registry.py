"""Finds plugins by name: what the configuration calls `cheapest` is PLUGIN of `routing/cheapest.py`.

A plugin is a module or a package of a room that has an object PLUGIN, or an entry point of another distribution, in the
group `edge_extproc.ROOM` (for example `edge_extproc.routing`), whose object is the plugin. A module of a room without
that object is no plugin: there is no list of either. The rooms that take entry points are `cache.semantic.embedders`,
`cache.semantic.stores`, `cache.semantic.verifiers`, `dialects`, `guardrails.detectors`, `guardrails.services`,
`operations`, `providers`, `providers.credentials` and `routing`. Dialects and operations are loaded when a worker
starts, since their paths must be known. Others are loaded when the configuration names them, so that an optional
dependency costs nothing until it is used.
"""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
import re
from collections.abc import Mapping
from functools import cache
from importlib.abc import InspectLoader
from importlib.metadata import EntryPoint, distributions
from typing import Any

from .errors import ConfigError

_DEFINES = re.compile(r"^PLUGIN\b[^=\n]*=", re.MULTILINE)


@cache
def _own(room: str) -> frozenset[str]:
    package = importlib.import_module(f"{__package__}.{room}")
    names = (module_info.name for module_info in pkgutil.iter_modules(package.__path__))
    return frozenset(name for name in names if _is_plugin(f"{package.__name__}.{name}"))


def _is_plugin(module: str) -> bool:
    """Read from the source: importing would also import what optional plugins need."""
    spec = importlib.util.find_spec(module)
    source = spec.loader.get_source(module) if spec is not None and isinstance(spec.loader, InspectLoader) else None
    if source is None:  # compiled alone
        return hasattr(importlib.import_module(module), "PLUGIN")
    return _DEFINES.search(source) is not None


@cache
def _entry_points() -> tuple[EntryPoint, ...]:
    # Reading the metadata of all distributions takes some 20 ms: once, not once a room.
    points = (point for distribution in distributions() for point in distribution.entry_points)
    return tuple(point for point in points if point.group.startswith(f"{__package__}."))


@cache
def _installed(room: str) -> Mapping[str, EntryPoint]:
    """The plugins of other distributions."""
    return {point.name: point for point in _entry_points() if point.group == f"{__package__}.{room}"}


def names(room: str) -> tuple[str, ...]:
    """The names of all plugins of a room, sorted."""
    return tuple(sorted({*_own(room), *_installed(room)}))


def load(room: str, name: str) -> Any:
    """The plugin of this name. Raises ConfigError that says which names there are. A module of this package wins over
    an entry point of the same name, so that no installed distribution can replace what is built in."""
    if name in _own(room):
        return importlib.import_module(f"{__package__}.{room}.{name}").PLUGIN
    point = _installed(room).get(name)
    if point is None:
        raise ConfigError(f"no {room} plugin {name!r}; have {', '.join(names(room))}")
    return point.load()
