"""The pattern of all beginnings of what a pattern of RE2 matches.

It shows whether a text at the end of a stream can still become a match. It may match more than these beginnings, and
never less.
"""

from __future__ import annotations

import re

from ..model.frozen_dataclass import frozen_dataclass
from .pattern_length import CLASS, ESCAPE, FLAGS, REPEAT, WITHOUT_WIDTH


@frozen_dataclass
class _Element:
    """A part of a sequence with its repetition."""

    text: str
    """Without the repetition."""
    beginnings: str
    """The pattern of its beginnings, without the repetition."""
    least: int = 1
    most: int | None = 1
    """None: it has no bound."""

    @property
    def whole(self) -> str:
        return self.text + _times(self.least, self.most)

    @property
    def begun(self) -> str:
        """Some of the repetitions, and the beginning of one more."""
        before = "" if self.most == 1 else f"(?:{self.text})" + _times(0, None if self.most is None else self.most - 1)
        return f"{before}(?:{self.beginnings})"


def _times(least: int, most: int | None) -> str:
    if (least, most) == (1, 1):
        return ""
    return f"{{{least},{'' if most is None else most}}}"


def beginnings_of(pattern: str) -> str:
    """The pattern of the beginnings. The pattern must be valid, and its flags be at its start."""
    flags = re.match(r"\(\?[a-zA-Z]+\)", pattern)
    start = flags[0] if flags is not None else ""
    reader = _Reader(pattern[len(start) :])
    return start + reader.alternatives()[1]


class _Reader:
    def __init__(self, pattern: str) -> None:
        self._pattern = pattern
        self._at = 0

    def alternatives(self) -> tuple[str, str]:
        """The text up to the end of the group, and its beginnings."""
        begin, found = self._at, [_beginnings(self._sequence())]
        while self._pattern.startswith("|", self._at):
            self._at += 1
            found.append(_beginnings(self._sequence()))
        return self._pattern[begin : self._at], "|".join(found)

    def _sequence(self) -> list[_Element]:
        elements: list[_Element] = []
        while self._at < len(self._pattern) and self._pattern[self._at] not in "|)":
            element = self._element()
            if element is not None:
                elements.append(self._repeated(element))
        return elements

    def _element(self) -> _Element | None:
        """None: it has no width."""
        pattern, at = self._pattern, self._at
        here = pattern[at]
        if here == "(":
            flags = FLAGS.match(pattern, at + 1)
            self._at = flags.end() if flags is not None else at + 1
            inner, beginnings = self.alternatives()
            self._at += 1
            return _Element(f"(?:{inner})", beginnings)
        if here in "^$":
            self._at += 1
            return None
        match = CLASS.match(pattern, at) if here == "[" else ESCAPE.match(pattern, at) if here == "\\" else None
        text = match[0] if match is not None else here
        self._at += len(text)
        return None if text in WITHOUT_WIDTH else _Element(text, f"{text}?")

    def _repeated(self, element: _Element) -> _Element:
        pattern, at = self._pattern, self._at
        here = pattern[at : at + 1]
        least, most = 1, 1
        bound: int | None = most
        if here and here in "*+?":
            least, bound = (1 if here == "+" else 0), (1 if here == "?" else None)
            self._at += 1
        elif (repeat := REPEAT.match(pattern, at)) is not None:
            least = int(repeat[1])
            bound = int(repeat[3]) if repeat[3] else None if repeat[2] else least
            self._at = repeat.end()
        else:
            return element
        if pattern.startswith("?", self._at):  # as few as possible: the same texts
            self._at += 1
        return _Element(element.text, element.beginnings, least, bound)


def _beginnings(elements: list[_Element]) -> str:
    """Some complete elements, and the beginning of one."""
    rest = ""
    for element in reversed(elements):
        rest = f"(?:{element.begun}|{element.whole}{rest})"
    return rest
