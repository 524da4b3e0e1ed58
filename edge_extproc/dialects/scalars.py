"""Scalars: the settings of a request that are one value at one path.

A row of a format's table declares a setting once. The reader, the writer, the caller's path and the documentation are
made from it. A setting with rules of its own (a list, an object, two names, extras beside it) is no row.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from types import MappingProxyType
from typing import Any

from ..model.call import Chat
from ..model.content import Json
from ..model.frozen_dataclass import frozen_dataclass
from .base import FieldSupport


@frozen_dataclass
class Scalar:
    """One row."""

    field: str
    """The name of the field in a Chat."""
    name: str
    """The name in the object of the request."""
    read: Callable[[Json, str], object]
    """Checks a value, which is not null. Takes the value and its path. Raises BadRequest."""
    note: str = ""
    """What the documentation says beside the path."""
    write: Callable[[Any], Json] | None = None
    """The value in this format. It returns None where the format has no such value: the field is dropped. Without it,
    the value is written as it is."""


def left_out(value: object) -> None:
    """For `Scalar.write`: callers of the format can send the setting, but its providers do not get it from others."""
    del value


class Scalars:
    """The scalars of one object of a request. `path`: where the object is in the body; empty for the body itself."""

    def __init__(self, path: str, *rows: Scalar) -> None:
        self.names = tuple(row.name for row in rows)
        paths = {row.field: f"{path}.{row.name}" if path else row.name for row in rows}
        self.paths: Mapping[str, str] = MappingProxyType(paths)
        """The paths in the body, by the fields of a Chat."""
        self.support: Mapping[str, FieldSupport] = MappingProxyType(
            {row.field: _support(row, paths[row.field]) for row in rows}
        )
        """The documentation, by the fields of a Chat."""
        self.written = tuple((row.field, row.name, row.write) for row in rows)
        self._rows = tuple((row.field, row.name, row.read, paths[row.field]) for row in rows)

    def documented(self, others: Mapping[str, FieldSupport]) -> Mapping[str, FieldSupport]:
        """The documentation of all fields, in the order of a Chat. `others`: of the fields that are no rows."""
        support = {**self.support, **others}
        return MappingProxyType({name: support[name] for name in _ORDER if name in support})

    def read(self, block: Mapping[str, Json]) -> dict[str, Any]:
        """The fields of the Chat that this object sets. Raises BadRequest."""
        read: dict[str, Any] = {}
        get = block.get
        for field, name, check, path in self._rows:
            value = get(name)
            if value is not None:
                read[field] = check(value, path)
        return read


_ORDER = tuple(each.name for each in fields(Chat))


def _support(row: Scalar, path: str) -> FieldSupport:
    if row.write is left_out:
        return FieldSupport("dropped", row.note)
    return FieldSupport("mapped", f"{path}; {row.note}" if row.note else path)
