"""Words of scope are the same: all and some, before and after, from and to, should and must, his and her."""

from __future__ import annotations

from collections import Counter

from ..base import Verifier
from ..lexicon import SCOPE_WORDS
from ..questions import Question


class _SameScope:
    def agree(self, asked: Question, known: Question) -> bool:
        return asked.fact(_scope) == known.fact(_scope)


def _scope(question: Question) -> Counter[str]:
    # Of the canonical form, because openers and politeness say nothing of scope.
    return Counter(word for word in question.canonical if word in SCOPE_WORDS)


PLUGIN: Verifier = _SameScope()
