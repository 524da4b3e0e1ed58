"""The canonical forms of both questions are equal: the same words in the same order (meaning.py).

This is the strictest verifier. Without it, a question with one other word of no known kind ("symptoms of measles",
"symptoms of mumps") gets the reply to the first one.
"""

from __future__ import annotations

from ..base import Verifier
from ..questions import Question


class _SameWords:
    def agree(self, asked: Question, known: Question) -> bool:
        return asked.canonical == known.canonical


PLUGIN: Verifier = _SameWords()
