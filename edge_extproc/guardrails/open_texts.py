"""Where the end of a text can still become something else: an encoded value, or a part of a value that goes on.

A stream holds a text from this place on. The end of a text is open if it is a word that is not complete (base64, an
escape, a token), a row of separated letters or of hexadecimal pairs, wrapped lines of base64, or a string that a
program may join with another one.
"""

from __future__ import annotations

from collections.abc import Callable

import re2

from .normalised_text import TextView, ViewKind, raw_view, views_of

# Chinese, Japanese and Korean have no spaces between words, and are in no value.
_WORD = re2.compile(r"[^\s\x{3000}-\x{9fff}\x{ac00}-\x{d7af}\x{ff01}\x{ff0c}\x{ff1a}\x{ff1b}\x{ff1f}]+\z")
_ROWS = re2.compile(
    # Letters with spaces between them, pairs of hexadecimal digits, lines of base64.
    r"(?:(?:^|\s)(?:\S +)+\S?"
    r"|(?:0x)?[0-9A-Fa-f]{2}(?:(?:, ?|[ :])(?:0x)?[0-9A-Fa-f]{2})*(?:, ?|[ :])(?:0x?)?[0-9A-Fa-f]?"
    r"|[A-Za-z0-9+/_-]{40,}={0,2}(?:\r?\n[ \t]{0,8}[A-Za-z0-9+/_=-]+)*\r?\n?[ \t]{0,8})\z"
)
_JOIN = re2.compile(r"[\"'`][ \t]{0,4}\\?\n?[ \t]{0,4}(?:[+.&][ \t]{0,4}\\?\n?[ \t]{0,4}[\"'`]?)?\z")
_IN_LINE: frozenset[ViewKind] = frozenset({"original", "folded", "unescaped", "joined"})
"""The views whose end is the end of the text."""


def open_end(text: str, unfinished: Callable[[TextView], int], *, decode: bool) -> int:
    """How many characters at the end are open. `unfinished`: the place in a view from which a match may not be
    complete."""
    place = len(text)
    for view in views_of(text) if decode else raw_view(text):
        if view.kind not in _IN_LINE or not view.text:
            continue
        at = min(_open_at(view.text), unfinished(view))
        if at < len(view.text):
            place = min(place, view.original(at, at + 1)[0])
    return len(text) - place


def _open_at(text: str) -> int:
    """The place from which the end is open."""
    end = len(text)
    join = _JOIN.search(text)
    place = join.start() if join is not None else end
    for pattern in (_WORD, _ROWS):
        match = pattern.search(text[:place] if place < end else text)
        if match is not None:
            place = min(place, match.start())
    return place
