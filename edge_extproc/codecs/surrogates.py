"""Halves of surrogate pairs in decoded JSON.

Some hosts cut a character outside the basic plane into the two halves of its escape (`\\ud83d` and `\\ude00`), and send
them in two chunks, or only one of them. Strict JSON parsers, such as those of Rust and Go, refuse or replace a half.
"""

from __future__ import annotations

FIRST = "\ud800"
"""The lowest half. Few characters are higher, so that a comparison with it is a fast test."""
_LAST_HIGH = "\udbff"
REPLACEMENT = "\ufffd"


def well_formed(text: str) -> str:
    """The text with each pair of halves as one character, and each other half as U+FFFD."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


class SplitPairs:
    """Joins pairs whose halves are in two pieces of a text."""

    __slots__ = ("_halves",)

    def __init__(self) -> None:
        self._halves: dict[tuple[int, int], str] = {}
        """The first halves that wait for the second, by the place of the text."""

    def __bool__(self) -> bool:
        return bool(self._halves)

    def joined(self, place: tuple[int, int], piece: str) -> str:
        """A piece with the half that the previous one ended with, and without the half that it ends with itself."""
        text = self._halves.pop(place, "") + piece
        if text and FIRST <= text[-1] <= _LAST_HIGH:
            self._halves[place] = text[-1]
            text = text[:-1]
        return well_formed(text)

    def rest(self, place: tuple[int, int]) -> str:
        """What replaces a half that nothing followed."""
        return REPLACEMENT if self._halves.pop(place, "") else ""
