"""The paths of messages in a caller's body, by which errors and drop lists name them.

Each message of a long history has two paths, and few of them are ever read. So the first ones are made once for a
process.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from itertools import chain

_MADE = 1024


def places(messages: str, content: str, count: int) -> Iterable[tuple[str, str]]:
    """The paths of at least `count` messages, each with that of its content: `messages[0]`, `messages[0].content`."""
    first = _first(messages, content)
    if count <= _MADE:
        return first
    return chain(first, (_place(messages, content, number) for number in range(_MADE, count)))


@cache
def _first(messages: str, content: str) -> tuple[tuple[str, str], ...]:
    return tuple(_place(messages, content, number) for number in range(_MADE))


def _place(messages: str, content: str, number: int) -> tuple[str, str]:
    path = f"{messages}[{number}]"
    return path, f"{path}.{content}"
