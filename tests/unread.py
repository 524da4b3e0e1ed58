"""Finds what a reader of requests overlooks: a value of the body that can change, and the Chat stays the same.

A cache key is made of the Chat, and a writer of another dialect sees nothing else: what is not in it is lost.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from edge_extproc.dialects.base import Dialect
from edge_extproc.errors import BadRequest
from edge_extproc.model.call import Chat

Step = str | int


def unread(dialect: Dialect, body: dict[str, Any], path: str) -> list[str]:
    """The paths of the values without which the Chat is the same. `path` is that of the call. Of several places of one
    shape (the texts of all messages) the first stands for all."""
    expected = _read(dialect, body, path)
    if expected is None:
        raise ValueError(f"this is no request of {dialect.name}")
    overlooked = []
    for steps in _one_of_each_shape(body):
        changed = _with(body, steps)
        if _read(dialect, changed, path) == expected:
            overlooked.append("".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in steps)[1:])
    return overlooked


def _read(dialect: Dialect, body: dict[str, Any], path: str) -> Chat | None:
    """None for a body that is refused: the reader has seen the value then, too."""
    try:
        return dialect.read_chat(dialect.read_call(json.dumps(body).encode(), "chat", (), path))
    except BadRequest:
        return None


def _one_of_each_shape(body: Any) -> Iterator[tuple[Step, ...]]:
    shapes: set[tuple[object, ...]] = set()
    for steps, shape in _leaves(body, (), ()):
        if shape not in shapes:
            shapes.add(shape)
            yield steps


def _leaves(
    value: Any, steps: tuple[Step, ...], shape: tuple[object, ...]
) -> Iterator[tuple[tuple[Step, ...], tuple[object, ...]]]:
    """The places of the values that are no lists, objects or nulls, and of each its names without positions. Objects of
    different types and roles have different shapes."""
    if isinstance(value, dict):
        kind = (str(value.get("type")), str(value.get("role")))
        for key, each in value.items():
            yield from _leaves(each, (*steps, key), (*shape, kind, key))
    elif isinstance(value, list):
        for number, each in enumerate(value):
            yield from _leaves(each, (*steps, number), (*shape, "[]"))
    elif value is not None:
        yield steps, shape


def _with(body: Any, steps: tuple[Step, ...]) -> Any:
    """A copy in which the value at `steps` is another one of its type."""
    if not steps:
        return _another(body)
    first, *rest = steps
    copy = list(body) if isinstance(body, list) else dict(body)
    copy[first] = _with(body[first], tuple(rest))  # type: ignore[index]
    return copy


_BASE64 = re.compile(r"(?:[A-Za-z0-9+/_-]{4})+")


def _another(value: Any) -> Any:
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + 1
    # What may be base64 stays so.
    return f"{value}AAAA" if _BASE64.fullmatch(value) else f"{value}x"
