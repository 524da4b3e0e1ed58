"""Both questions name the same times: months, days, seasons, hours, years and words such as `today` and `last`."""

from __future__ import annotations

import re

from ..base import Verifier
from ..lexicon import TIME_WORDS
from ..questions import Question

_WRITTEN = re.compile(r"\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}|\d{1,2}:\d{2}|\b(?:1[5-9]|20|21)\d\d\b")


class _SameTimes:
    def agree(self, asked: Question, known: Question) -> bool:
        return asked.fact(_times) == known.fact(_times)


def _times(question: Question) -> tuple[list[str], list[str]]:
    words = [
        "may" if word == "May" else TIME_WORDS[word.lower()]
        for word in question.tokens
        if word == "May" or word.lower() in TIME_WORDS
    ]
    return words, _WRITTEN.findall(question.text)


PLUGIN: Verifier = _SameTimes()
