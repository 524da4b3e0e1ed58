"""A verifier: both questions end with the same sign."""

from __future__ import annotations

from edge_extproc.cache.semantic.base import Verifier
from edge_extproc.cache.semantic.questions import Question


class SameEnding:
    def agree(self, asked: Question, known: Question) -> bool:
        return asked.text[-1:] == known.text[-1:]


PLUGIN: Verifier = SameEnding()
