"""Quoted spans are the same, letter by letter, and in the same order."""

from __future__ import annotations

from ..base import Verifier
from ..questions import Question


class _SameQuotes:
    def agree(self, asked: Question, known: Question) -> bool:
        return asked.quoted_spans == known.quoted_spans


PLUGIN: Verifier = _SameQuotes()
