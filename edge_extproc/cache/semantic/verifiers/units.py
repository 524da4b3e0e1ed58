"""Both questions name the same units, in the same order: km and miles, GB and GiB, dollars and euros."""

from __future__ import annotations

import re

from ..base import Verifier
from ..lexicon import UNITS
from ..questions import Question

# A unit that follows its number without a space.
_ATTACHED = re.compile(r"\d\s?([a-zA-Z°%€£$¥₹]{1,4})\b|\d\s?([°%€£$¥₹])")


class _SameUnits:
    def agree(self, asked: Question, known: Question) -> bool:
        return asked.fact(_units) == known.fact(_units)


def _units(question: Question) -> tuple[list[str], list[str]]:
    named = [
        UNITS[lower]
        for token in question.tokens
        if len(lower := token.lower()) != 1 or not lower.isalpha()
        if lower in UNITS
    ]
    # Letters alone keep their case: mW and MW, b and B.
    attached = [one or two for one, two in _ATTACHED.findall(question.text)]
    return named, [unit for unit in attached if unit.lower() not in UNITS or len(unit) == 1 or unit not in UNITS]


PLUGIN: Verifier = _SameUnits()
