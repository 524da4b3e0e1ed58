"""A plugin is a file: what config calls `cheapest` in the room `routing` is PLUGIN of `routing/cheapest.py`.

Nothing is imported before it is named, so an optional dependency costs nothing until it is used.
"""

from __future__ import annotations

import importlib
import pkgutil
from typing import Any

from .errors import ConfigError

NOT_PLUGINS = frozenset({"base"})


def names(room: str) -> tuple[str, ...]:
    """The plugins that a room of this package has, by file name, sorted. Its other files are named in its PARTS."""
    package = importlib.import_module(f"{__package__}.{room}")
    others = NOT_PLUGINS | getattr(package, "PARTS", frozenset())
    found = pkgutil.iter_modules(package.__path__)
    return tuple(sorted(m.name for m in found if m.name not in others and not m.ispkg))


def load(room: str, name: str) -> Any:
    """The PLUGIN of `room/name.py`. Raises ConfigError that says which names there are."""
    if name not in names(room):
        raise ConfigError(f"no {room} plugin {name!r}; have {', '.join(names(room))}")
    return importlib.import_module(f"{__package__}.{room}.{name}").PLUGIN
