"""The views of a text in which detectors search: as it is, with plain characters, and with its encodings decoded.

A view has its own text, and knows for each place which characters of the original text it is from. So a finding in a
view masks what the caller wrote. `views_of` makes the views of a text:

- `original`: the text.
- `folded`: compatibility characters (NFKC), lookalikes of ASCII and accents become ASCII; invisible characters are
  removed. Only if the text has characters that need it.
- `unescaped`: escapes of URLs, JSON and HTML are decoded, up to three times; values that a program joins are joined.
- `joined`: letters with one separator between them ("i g n o r e") are joined.
- `decoded`: the text of base64 or of hexadecimal digits. Each has its own views, up to three levels deep.
- `hidden`: the text of invisible characters, of tags and variation selectors.

The time is linear in the length of the text.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Final, Literal, TypeAlias

import re2

from .confusables import COMBINING_CLASS, DIGIT_CLASS, INVISIBLE_CLASS, MIXED_CLASS, RARE_CLASS, replacements
from .encoded_text import ESCAPES, DecodedRun, encoded_runs, has_escapes, unescaped

ViewKind: TypeAlias = Literal["original", "folded", "unescaped", "joined", "decoded", "hidden"]

DEEPEST: Final = 3
"""The most levels of encodings that are decoded: base64 of base64 of base64, an escape of an escape of an escape."""
EXPANSION: Final = 6
"""The most characters of the original for one of a decoded text, for the usual encodings: `\\u0041` has six. A finding
that has more is divided (`divided`)."""

Span: TypeAlias = tuple[int, int]


class TextView:
    """A form of a text."""

    __slots__ = ("_ascii", "_at", "_lasts", "_origins", "_run", "kind", "parent", "text")

    def __init__(
        self,
        text: str,
        kind: ViewKind,
        parent: TextView | None = None,
        segments: tuple[list[int], list[int], list[int]] | None = None,
        run: DecodedRun | None = None,
    ) -> None:
        self.text = text
        self.kind: ViewKind = kind
        self.parent = parent
        self._ascii: bytes | None = None
        # Segment n begins at _at[n], and is from the character _origins[n] of the parent. If _lasts[n] is -1, each of
        # its characters is from one character; otherwise all are from the characters up to _lasts[n].
        self._at, self._origins, self._lasts = segments or ([], [], [])
        self._run = run

    @property
    def ascii(self) -> bytes:
        """One byte for each character, `?` for those that are not ASCII: positions are those of `text`."""
        if self._ascii is None:
            self._ascii = self.text.encode("ascii", "replace")
        return self._ascii

    def original(self, start: int, end: int) -> Span:
        """The characters of the original text that have the characters from `start` to `end`, which are one or more."""
        view: TextView | None = self
        while view is not None:
            start, end = view._in_parent(start, end)
            view = view.parent
        return start, end

    def _in_parent(self, start: int, end: int) -> Span:
        if self._run is not None:
            return self._run.original(start, end)
        if not self._at:
            return start, end
        first = bisect_right(self._at, start) - 1
        last = bisect_right(self._at, end - 1) - 1
        begin = self._origins[first] + (start - self._at[first] if self._lasts[first] < 0 else 0)
        if self._lasts[last] < 0:
            return begin, self._origins[last] + end - self._at[last]
        return begin, self._lasts[last]


def _rewritten(parent: TextView, kind: ViewKind, changes: Iterable[tuple[int, int, str]]) -> TextView:
    """The view with each change, which is a start, an end and a replacement. They are in order. A replacement of as
    many characters replaces each by one."""
    text = parent.text
    parts: list[str] = []
    at, origins, lasts = list[int](), list[int](), list[int]()
    done = length = 0
    for start, end, replacement in changes:
        if start > done or not at:
            parts.append(text[done:start])
            at.append(length)
            origins.append(done)
            lasts.append(-1)
            length += start - done
        if replacement:
            parts.append(replacement)
            at.append(length)
            origins.append(start)
            lasts.append(-1 if len(replacement) == end - start else end)
            length += len(replacement)
        done = end
    parts.append(text[done:])
    at.append(length)
    origins.append(done)
    lasts.append(-1)
    return TextView("".join(parts), kind, parent, (at, origins, lasts))


# --- the folded view

_LATIN = "A-Za-z0-9"
_ACCENTED = r"\x{c0}-\x{24f}\x{1e00}-\x{1eff}"
# An emoji may have a joiner and a selector of its form, and many alphabets have accents: these count only beside ASCII.
# Punctuation of Chinese and Japanese, and typographic quotes, are usual, and no pattern needs them as ASCII.
_GATE = re2.compile(
    rf"[{RARE_CLASS}"
    r"\x{ad}\x{34f}\x{61c}\x{115f}-\x{1160}\x{17b4}-\x{17b5}\x{180b}-\x{180f}\x{200b}\x{200e}-\x{200f}\x{202a}-\x{202e}"
    r"\x{2060}-\x{206f}\x{3164}\x{fe00}-\x{fe0e}\x{feff}\x{ffa0}\x{e0000}-\x{e01ef}"
    r"\x{1d2c}-\x{1d6a}\x{2070}-\x{209c}\x{2100}-\x{214f}\x{2160}-\x{217f}\x{2460}-\x{24ff}\x{fb00}-\x{fb06}"
    r"\x{fe52}\x{fe55}\x{fe6b}\x{ff04}-\x{ff07}\x{ff0b}\x{ff0d}-\x{ff19}\x{ff1d}\x{ff20}-\x{ff3c}\x{ff3f}-\x{ff5a}"
    r"\x{1d400}-\x{1d7ff}\x{1f100}-\x{1f189}]"
    rf"|[{_LATIN}][{MIXED_CLASS}{COMBINING_CLASS}{INVISIBLE_CLASS}]|[{MIXED_CLASS}][{_LATIN}]"
    # Characters of numbers and addresses: 4111–1111, a․b@c·d.
    r"|[0-9][\x{a0}\x{2000}-\x{200a}\x{202f}\x{2010}-\x{2015}\x{2212}\x{2044}\x{2024}\x{b7}\x{3002}][0-9]"
    r"|[A-Za-z0-9][\x{2024}\x{b7}\x{3002}\x{2215}\x{2236}\x{a789}][A-Za-z0-9]"
    r"|[\x{1f1e6}-\x{1f1ff}]{3}"
    # Numbers in other digits, and three accents in one word.
    rf"|[{DIGIT_CLASS}]{{3}}"
    rf"|[{_ACCENTED}][A-Za-z]{{0,2}}[{_ACCENTED}][A-Za-z]{{0,2}}[{_ACCENTED}]"
)


# A class of all characters with a replacement would be slower: it has some beyond the basic plane.
_NOT_ASCII = re.compile(r"[^\x00-\x7f]+")


def _changed_characters(text: str) -> Iterator[tuple[int, int, str]]:
    """Neighbours that are each replaced by one character are one change."""
    table = replacements()
    for match in _NOT_ASCII.finditer(text):
        at = begin = match.start()
        run = ""
        for each in match[0]:
            plain = table.get(each)
            if plain is not None and len(plain) == 1:
                if not run:
                    begin = at
                run += plain
            else:
                if run:
                    yield begin, at, run
                    run = ""
                if plain is not None:
                    yield at, at + 1, plain
            at += 1
        if run:
            yield begin, at, run


def _folded(view: TextView) -> TextView:
    text = view.text
    if text.isascii() or _GATE.search(text.encode("utf-8", "replace")) is None:
        return view
    return _rewritten(view, "folded", _changed_characters(text))


# --- escapes


def _changed_escapes(view: TextView) -> Iterator[tuple[int, int, str]]:
    for match in ESCAPES.finditer(view.ascii):
        start, end = match.span()
        replacement = unescaped(view.text[start:end])
        if replacement is not None:
            yield start, end, replacement


def _unescaped(view: TextView) -> TextView:
    for _ in range(DEEPEST):
        if not has_escapes(view.ascii):
            break
        plain = _rewritten(view, "unescaped", _changed_escapes(view))
        if plain.text == view.text:
            break
        view = plain
    return view


# --- separated letters

# One character and a separator, at least six times. Of spaces, more of them are one between words.
_SEPARATED = re2.compile(
    rb"(?:[!-~] +){5,}[!-~]|(?:[ -,./-~]-){5,}[ -,./-~]|(?:[ --/-~]\.){5,}[ --/-~]|(?:[ -~]_){5,}[ -^`-~]"
    rb"|(?:[ -)+-~]\*){5,}[ -)+-~]|(?:[ -{}~]\|){5,}[ -{}~]"
)


def _joined(view: TextView) -> TextView:
    data, text = view.ascii, view.text

    def changes() -> Iterator[tuple[int, int, str]]:
        for match in _SEPARATED.finditer(data):
            start, end = match.span()
            # A word before or behind it is not a separated letter.
            if _is_letter(text, start - 1) and _is_letter(text, start):
                start += text[start:end].index(text[start + 1]) + 1
            if _is_letter(text, end) and _is_letter(text, end - 1):
                end -= 2
            separator = text[start + 1 : start + 2]
            if separator == " ":
                for spaces in _SPACES.finditer(text, start, max(start, end)):
                    yield *spaces.span(), "" if spaces.end() - spaces.start() == 1 else " "
            else:
                yield from ((at, at + 1, "") for at in range(start + 1, end - 1, 2))

    if len(data) < _SHORTEST_SEPARATED or _SEPARATED.search(data) is None:
        return view
    joined = _rewritten(view, "joined", changes())
    return joined if len(joined.text) < len(text) else view


_SHORTEST_SEPARATED = 11
_SPACES = re.compile(" +")


def _is_letter(text: str, at: int) -> bool:
    return 0 <= at < len(text) and text[at].isalnum()


# --- hidden text

# Fewer than four are no text.
_TAGS = re.compile("[\U000e0020-\U000e007e]{4,}")
_SELECTORS = re.compile("[\ufe00-\ufe0f\U000e0100-\U000e01ef]{4,}")
_FLAG = "\U0001f3f4"


def _hidden(view: TextView) -> Iterator[TextView]:
    text = view.text
    for match in _TAGS.finditer(text):
        # The flags of England, Scotland and Wales have five tags.
        if match.end() - match.start() > 6 or text[match.start() - 1 : match.start()] != _FLAG:
            plain = "".join(chr(ord(each) - 0xE0000) for each in match[0])
            yield TextView(plain, "hidden", view, ([0], [match.start()], [-1]))
    for match in _SELECTORS.finditer(text):
        codes = bytes(_selected(ord(each)) for each in match[0])
        plain = codes.decode("utf-8", "replace")
        if plain.isprintable():
            # One byte has one character, but a letter can have several bytes: then all of it is one place.
            lasts = [-1 if plain.isascii() else match.end()]
            yield TextView(plain, "hidden", view, ([0], [match.start()], lasts))


def _selected(code: int) -> int:
    return code - 0xFE00 if code < 0xE0000 else code - 0xE0100 + 16


# --- all views


def _all_views(
    text: str, kind: ViewKind, parent: TextView | None, run: DecodedRun | None, depth: int
) -> list[TextView]:
    original = TextView(text, kind, parent, run=run)
    views = [original]
    folded = _folded(original)
    if folded is not original:
        views += (folded, *_hidden(original))
    plain = _unescaped(folded)
    if plain is not folded:
        # Escapes may be of characters that look like others.
        again = _folded(plain)
        views.append(again)
        if again is not plain:
            views += _hidden(plain)
        plain = again
    joined = _joined(plain)
    if joined is not plain:
        views.append(joined)
    if depth:
        for inner in encoded_runs(plain.ascii):
            views += _all_views(inner.text, "decoded", plain, inner, depth - 1)
        if joined is not plain:
            views += (
                view
                for inner in encoded_runs(joined.ascii)
                for view in _all_views(inner.text, "decoded", joined, inner, 0)
            )
    return views


@lru_cache(maxsize=1)
def views_of(text: str) -> tuple[TextView, ...]:
    """The original text is the first. The detectors of a rule set look at one text after the other, so the last result
    is kept."""
    return tuple(_all_views(text, "original", None, None, DEEPEST))


@lru_cache(maxsize=1)
def raw_view(text: str) -> tuple[TextView, ...]:
    """Only the original, for a detector without decoding."""
    return (TextView(text, "original"),)
