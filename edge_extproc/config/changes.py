"""Finds the differences between two configurations that need a restart.

There are two kinds. A process keeps some settings from its start (addresses, files, stores): `_HELD` lists them. Others
change Envoy's configuration in a way that the running Envoy cannot apply: these are found by comparing what is rendered
for both. The caller renders, because that needs Envoy's types.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, TypeAlias

from ..errors import ConfigError
from .document import dotted
from .part import ConfigSection
from .schema import Config

Path: TypeAlias = tuple[str, ...]
Render: TypeAlias = Callable[[Config], Any]
"""Returns a value to compare. Raises ConfigError."""

# After a change, connections to Envoy's old listener stay for a time: settings on which it and the workers must agree
# are held too.
_HELD: tuple[Path, ...] = (
    ("listen", "address"),
    ("listen", "port"),
    ("listen", "more"),
    ("limits", "message_timeout"),
    ("auth", "trust_ext_authz"),
    ("admin",),
    ("agent",),
    ("envoy",),
    ("store",),
    ("auth", "pepper"),
    ("limiter", "store"),
    ("limiter", "url"),
    ("limiter", "timeout"),
    ("limiter", "webhook"),
    ("cache", "memory"),
    ("cache", "redis"),
    ("cache", "semantic"),
    ("records",),
    ("conversations",),
    ("sockets",),
    *(("telemetry", "otlp", key) for key in ("endpoint", "protocol", "headers", "service", "environment", "metrics")),
)
# Each path costs one rendering, about 0.05 s. Beyond this number, only the section is named.
_MAX_RENDERED = 64
_ABSENT: Any = object()


def differences(old: Config, new: Config) -> list[Path]:
    """The paths of all values that differ. Mappings are compared key by key, a list as one value."""
    return list(_differences(old, new, ()))


def _differences(old: Any, new: Any, path: Path) -> Iterator[Path]:
    if isinstance(old, ConfigSection) and type(old) is type(new):
        for name in type(old).model_fields:
            yield from _differences(getattr(old, name), getattr(new, name), (*path, name))
    elif isinstance(old, Mapping) and isinstance(new, Mapping):
        for name in dict.fromkeys((*old, *new)):
            yield from _differences(old.get(name, _ABSENT), new.get(name, _ABSENT), (*path, name))
    elif old is not new and (old is _ABSENT or new is _ABSENT or old != new):
        yield path


def needing_restart(old: Config, new: Config, render: Render) -> list[str]:
    """The dotted keys whose change needs a restart. Raises ConfigError if `new` cannot be rendered."""
    changed = differences(old, new)
    needing = [path for path in changed if _is_held(path)]
    rest = [path for path in changed if not _is_held(path)]
    # With the held settings restored, only the rest can change the rendering.
    moved = new
    for path in needing:
        moved = _with(moved, old, path)
    before = render(old)
    if _rendered(moved, render) != before:
        needing += _named(old, new, rest, lambda config: _rendered(config, render) not in (before, None))
    render(new)
    return sorted({dotted(path) for path in needing})


def _named(old: Config, new: Config, paths: list[Path], matters: Callable[[Config], bool]) -> list[Path]:
    """The paths whose change alone changes the rendering. If there is none, the same with items of sections, such as a
    model; if there is none either, all sections."""
    for depth in (None, 2):
        some = list(dict.fromkeys(path[:depth] for path in paths))[:_MAX_RENDERED]
        if relevant := [path for path in some if matters(_with(old, new, path))]:
            return relevant
    return [path[:1] for path in paths]


def _is_held(path: Path) -> bool:
    """Whether the path, or a part of it, is held: a section may be added or removed with a held setting in it."""
    return any(all(name == step for name, step in zip(restart_path, path, strict=False)) for restart_path in _HELD)


def _rendered(config: Config, render: Render) -> Any:
    """None: the configuration is not valid."""
    try:
        return render(config)
    except ConfigError:
        return None


def _with(here: Any, there: Any, path: Path) -> Any:
    """A copy of `here` with the value that `there` has at this path."""
    if not path:
        return there
    name, rest = path[0], path[1:]
    if isinstance(here, ConfigSection):
        return here.model_copy(update={name: _with(getattr(here, name), getattr(there, name), rest)})
    value = _with(here.get(name), there[name], rest) if name in there else _ABSENT
    others = {key: each for key, each in here.items() if key != name}
    return MappingProxyType(others if value is _ABSENT else {**others, name: value})
