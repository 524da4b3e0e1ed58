"""Names are the same, in the same order: words with a capital within a sentence, and words in capitals.

If one of the questions is in lower case, or in capitals, throughout, its names cannot be seen; the verifier `words`
then compares them as words.
"""

from __future__ import annotations

from ..base import Verifier
from ..lexicon import QUESTION_WORDS
from ..questions import Question

_ENDS = frozenset(".?!:")


class _SameNames:
    def agree(self, asked: Question, known: Question) -> bool:
        one, other = asked.fact(_names), known.fact(_names)
        if one is None or other is None:
            return True
        # The first word of a sentence has a capital whatever it is: it must be a name in neither or in both.
        return one == other


def _names(question: Question) -> list[str] | None:
    """None: the case of the letters says nothing."""
    words = [word for word in question.prose_tokens if word[0].isalpha() or word in _ENDS]
    letters = [word for word in words if word[0].isalpha() and word != "I"]
    if letters and (all(word.isupper() for word in letters) or all(word.islower() for word in letters[1:])):
        return None
    names, begins = [], True
    for word in words:
        if word in _ENDS:
            begins = True
            continue
        is_name = word.isupper() and len(word) > 1 if begins else not word.islower()
        begins = False
        bare = word.lower().removesuffix("'s")
        if is_name and word != "I" and not word.startswith("I'") and bare not in QUESTION_WORDS:
            names.append(bare)
    return names


PLUGIN: Verifier = _SameNames()
