"""The longest text that a pattern of RE2 can match. A stream holds as many characters, so a pattern needs a bound."""

from __future__ import annotations

import re
from math import inf

REPEAT = re.compile(r"\{(\d+)(,?)(\d*)\}")
FLAGS = re.compile(r"\?(?:P?<\w+>|[a-zA-Z-]*(?P<end>[:)]))")
ESCAPE = re.compile(r"\\(?:[pP](?:\{[^}]*\}|.)|x(?:\{[^}]*\}|..)|[0-7]{1,3}|.)", re.DOTALL)
CLASS = re.compile(r"\[\^?\]?(?:\[:\^?\w+:\]|\\.|[^\]\\])*\]", re.DOTALL)
WITHOUT_WIDTH = frozenset({"\\b", "\\B", "\\A", "\\z"})


class _Group:
    """One open group, or the whole pattern."""

    __slots__ = ("done", "last", "longest")

    def __init__(self) -> None:
        self.longest = 0.0
        """Of the alternatives that have ended."""
        self.done = 0.0
        """Of the current alternative, without its last element."""
        self.last = 0.0

    def add(self, width: float) -> None:
        self.done, self.last = self.done + self.last, width

    def repeat(self, most: float) -> None:
        self.last = self.last * most if self.last else 0.0

    def end_alternative(self) -> float:
        self.longest = max(self.longest, self.done + self.last)
        self.done = self.last = 0.0
        return self.longest


def longest_match(pattern: str) -> float:
    """Characters; `inf` if there is no bound. The pattern must be valid."""
    groups, at = [_Group()], 0
    while at < len(pattern):
        here, group = pattern[at], groups[-1]
        at += 1
        if here == "(":
            flags = FLAGS.match(pattern, at)
            at = flags.end() if flags is not None else at
            if flags is None or flags["end"] != ")":  # (?i) alone is no group
                groups.append(_Group())
        elif here == ")":
            groups.pop()
            groups[-1].add(group.end_alternative())
        elif here == "|":
            group.end_alternative()
        elif here in "*+":
            group.repeat(inf)
        elif here == "{" and (repeat := REPEAT.match(pattern, at - 1)) is not None:
            least, comma, most = repeat.groups()
            group.repeat(int(most) if most else inf if comma else int(least))
            at = repeat.end()
        elif pattern.startswith("\\Q", at - 1):
            text, _, _ = pattern[at + 1 :].partition("\\E")
            group.add(len(text))
            at = min(len(pattern), at + 1 + len(text) + 2)
        elif here == "\\" and (escape := ESCAPE.match(pattern, at - 1)) is not None:
            group.add(0 if escape[0] in WITHOUT_WIDTH else 1)
            at = escape.end()
        elif here == "[" and (chars := CLASS.match(pattern, at - 1)) is not None:
            group.add(1)
            at = chars.end()
        elif here not in "^$?":
            group.add(1)
    return groups[0].end_alternative()
