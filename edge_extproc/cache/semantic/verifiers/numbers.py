"""The numbers of both questions are the same, in the same order: in digits, in words, and within words
(`python3.11`)."""

from __future__ import annotations

import re

from ..base import Verifier
from ..lexicon import NUMBER_WORDS
from ..questions import Question

_DIGITS = re.compile(r"[-−]?\d+(?:[.,:/]\d+)*(?:st|nd|rd|th)?", re.IGNORECASE)
_GROUPED = re.compile(r"\d{1,3}(?:,\d{3})+(?:\.\d+)?")
_ROMAN = re.compile(r"[IVXLCDM]{1,7}")
_ORDINAL = re.compile(r"(\d+)(?:st|nd|rd|th)")


class _SameNumbers:
    def agree(self, asked: Question, known: Question) -> bool:
        return asked.fact(_numbers) == known.fact(_numbers)


def _numbers(question: Question) -> list[str]:
    found = []
    for word in question.tokens:
        lower = word.lower()
        if lower in NUMBER_WORDS:
            found.append(NUMBER_WORDS[lower])
        elif _ROMAN.fullmatch(word) and word != "I":
            found.append(word)
        elif _ROMAN.fullmatch(word):
            continue
        else:
            found += map(_value, _DIGITS.findall(lower))
    # A sign or a point before a number, and the mark of a factorial, are tokens of their own.
    return [*found, *re.findall(r"(?<![\w)])[-−–+±.]\d|\d!", question.text)]


def _value(number: str) -> str:
    ordinal = _ORDINAL.fullmatch(number)
    if ordinal is not None:
        return ordinal[1] + "."
    if _GROUPED.fullmatch(number):
        number = number.replace(",", "")
    return number


PLUGIN: Verifier = _SameNumbers()
