"""A question, as verifiers see it: its text and its tokens. All parts are computed once and then kept.

A token is a word, a number, a word with digits or joints (`utf-8`, `v1.2`, `it's`), or one mark. This module does no
IO.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from functools import cached_property
from typing import TypeVar, cast

from .meaning import canonical

T = TypeVar("T")

# A backquoted or fenced span, with its marks.
_CODE = re.compile(r"```.*?(?:```|\Z)|`[^`\n]*`", re.DOTALL)
_QUOTED = re.compile(r"\"[^\"\n]*\"|“[^”\n]*”|„[^“”\n]*[“”]|«[^»\n]*»|‹[^›\n]*›|‘[^’\n]*’(?!\w)|(?<!\w)'[^'\n]+'(?!\w)")
# A number with its separators; a word, with apostrophes and joints inside; or any other sign.
_TOKEN = re.compile(r"\d+(?:[.,:/]\d+)*|[^\W\d_](?:[\w]|['’.+-](?=\w))*[+#]{0,2}|\S")
_SPACE = re.compile(r"\s+")


class Question:
    """One text of a user."""

    def __init__(self, text: str) -> None:
        self._facts: dict[object, object] = {}
        # Not NFKC, for which 10² is 102.
        self.text = unicodedata.normalize("NFC", text).replace("’", "'").replace("ʼ", "'").strip()

    def fact(self, find: Callable[[Question], T]) -> T:
        """What `find` finds in this question. It is called once: a known question is compared with many."""
        facts = self._facts
        if find not in facts:
            facts[find] = find(self)
        return cast("T", facts[find])

    @cached_property
    def code_spans(self) -> tuple[str, ...]:
        """Backquoted and fenced spans, with their marks, in order."""
        return tuple(_CODE.findall(self.text))

    @cached_property
    def quoted_spans(self) -> tuple[str, ...]:
        """Quoted spans outside of code, without their marks, in order."""
        return tuple(span[1:-1].strip() for span in _QUOTED.findall(self._without_code))

    @cached_property
    def _without_code(self) -> str:
        return _CODE.sub(" ", self.text)

    @cached_property
    def prose(self) -> str:
        """The text without code and quoted spans."""
        return _SPACE.sub(" ", _QUOTED.sub(" ", self._without_code)).strip()

    @cached_property
    def tokens(self) -> tuple[str, ...]:
        """The tokens of the whole text, as they are written."""
        return tuple(_TOKEN.findall(self.text))

    @cached_property
    def words(self) -> tuple[str, ...]:
        """The tokens of `prose` that are no single marks, in lower case."""
        return tuple([token.lower() for token in _TOKEN.findall(self.prose) if token[0].isalnum()])

    @cached_property
    def prose_tokens(self) -> tuple[str, ...]:
        """The tokens of `prose`, as they are written."""
        return tuple(_TOKEN.findall(self.prose))

    @cached_property
    def canonical(self) -> tuple[str, ...]:
        """The canonical form (meaning.py)."""
        return canonical(self.tokens)
