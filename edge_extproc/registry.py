"""Finds plugins by name: what the configuration calls `cheapest` is PLUGIN of `routing/cheapest.py`.

A plugin is a module or a package of one of these rooms, or an entry point of another distribution, in the group
`edge_extproc.ROOM` (for example `edge_extproc.routing`), whose object is the plugin. The rooms that take entry points
are `dialects`, `operations`, `providers` and `routing`. Dialects and operations are loaded when a worker starts, since
their paths must be known. Others are loaded when the configuration names them, so that an optional dependency costs
nothing until it is used.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from functools import cache
from importlib.metadata import EntryPoint, distributions
from typing import Any

from .errors import ConfigError

NOT_PLUGINS = frozenset({"base"})


@cache
def _own(room: str) -> frozenset[str]:
    package = importlib.import_module(f"{__package__}.{room}")
    others = NOT_PLUGINS | getattr(package, "PARTS", frozenset())
    return frozenset(module.name for module in pkgutil.iter_modules(package.__path__) if module.name not in others)


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
    """The names of all plugins of a room, sorted. Modules of the room that are no plugins are named in its PARTS."""
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
