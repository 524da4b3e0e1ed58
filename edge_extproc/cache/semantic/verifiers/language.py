"""Both questions are in the same script and, as far as it can be seen, in the same language."""

from __future__ import annotations

import unicodedata

from ..base import Verifier
from ..lexicon import LANGUAGE_WORDS
from ..questions import Question


class _SameLanguage:
    def agree(self, asked: Question, known: Question) -> bool:
        return asked.fact(_scripts) == known.fact(_scripts) and asked.fact(_language) == known.fact(_language)


def _scripts(question: Question) -> frozenset[str]:
    """The first word of the names of the letters in Unicode: LATIN, CYRILLIC, CJK."""
    letters = {sign for sign in set(question.text) if not sign.isascii() and sign.isalpha()}
    scripts = {unicodedata.name(sign, "?").partition(" ")[0] for sign in letters}
    return frozenset(scripts | {"LATIN"} if any(map(str.isascii, question.words)) else scripts)


def _language(question: Question) -> str | None:
    """None: too few of its words are in the lists."""
    words = frozenset(part for word in question.words for part in word.split("'"))
    counts = {name: len(words & known) for name, known in LANGUAGE_WORDS.items()}
    most = max(counts.values())
    best = [name for name, count in counts.items() if count == most]
    return best[0] if most and len(best) == 1 else None


PLUGIN: Verifier = _SameLanguage()
