"""Both questions have the same negations, and the same sides of opposites: enable and disable, safe and unsafe."""

from __future__ import annotations

from ..base import Verifier
from ..lexicon import NEGATIONS, NEGATIVE_PREFIXES, OPPOSITES
from ..questions import Question


class _SamePolarity:
    def agree(self, asked: Question, known: Question) -> bool:
        # Of the canonical form, because openers ("how to") and politeness say nothing of polarity.
        one, other = asked.canonical, known.canonical
        if asked.fact(_polarity) != known.fact(_polarity):
            return False
        return not _has_prefixed_pair(one, other)


def _polarity(question: Question) -> tuple[int, dict[int, int]]:
    return _count(question.canonical, NEGATIONS), _sides(question.canonical)


def _count(words: tuple[str, ...], of: frozenset[str]) -> int:
    return sum(word in of for word in words)


def _sides(words: tuple[str, ...]) -> dict[int, int]:
    """By property, the words of one side less those of the other. A word of both sides is not in the table twice."""
    sums: dict[int, int] = {}
    for word in words:
        if word in OPPOSITES:
            number, sign = OPPOSITES[word]
            sums[number] = sums.get(number, 0) + sign
    return {number: total for number, total in sums.items() if total}


def _has_prefixed_pair(one: tuple[str, ...], other: tuple[str, ...]) -> bool:
    """Whether a word of one question is in the other with a prefix: usual and unusual, install and reinstall."""
    only, others = set(one) - set(other), set(other) - set(one)
    return any(
        long == prefix + short or long == f"re{short}"
        for longs, shorts in ((only, others), (others, only))
        for long in longs
        for short in shorts
        for prefix in NEGATIVE_PREFIXES
    )


PLUGIN: Verifier = _SamePolarity()
