"""Code is the same, letter by letter: marked spans, names such as `max_retries`, paths, flags, addresses and operators.

If there is any, the case of all words counts, since `a` and `A` may be two variables. So does the indentation of
lines.
"""

from __future__ import annotations

import re

from ..base import Verifier
from ..questions import Question

_NAMES = re.compile(
    r"""
      \S*(?:://|@|\\|::|->|=>|==|!=|<=|>=|&&|\|\|)\S*         # addresses and operators
    | (?<![\w/])[~.]{0,2}/[\w./-]+                             # paths
    | (?<!\w)--?[A-Za-z][\w-]*                                 # flags
    | \b\w*[a-z][A-Z]\w*\b                                     # camelCase
    | \b\w*_\w*\b                                              # snake_case
    | \b\w+\(\S*\)?                                            # calls
    | \b[\w-]+(?:\.[\w-]+)+\b                                  # dotted names, versions, hosts
    | \b(?=\w*\d)(?=\w*[A-Za-z])\w+\b                          # letters with digits
    | [<>=+*/|&^%$\#~{}\[\]\\]+                                # other marks of code
    """,
    re.VERBOSE,
)


class _SameCode:
    def agree(self, asked: Question, known: Question) -> bool:
        names = asked.fact(_names)
        if asked.code_spans != known.code_spans or names != known.fact(_names):
            return False
        if asked.fact(_indentation) != known.fact(_indentation):
            return False
        return not (names or asked.code_spans) or asked.fact(_cased) == known.fact(_cased)


def _names(question: Question) -> list[str]:
    return [name.rstrip(".,;:?!") for name in _NAMES.findall(question.text)]


def _indentation(question: Question) -> tuple[str, ...]:
    """The white space before each line of a text in which some line has any."""
    lines = [line[: len(line) - len(line.lstrip())] for line in question.text.splitlines() if line.strip()]
    return tuple(lines) if any(lines) else ()


def _cased(question: Question) -> tuple[str, ...]:
    """The words with a capital, and single letters. Not the first word, which has a capital whatever it is, and not the
    pronoun and the article."""
    words = [word for word in question.tokens if word[0].isalpha()][1:]
    return tuple(word for word in words if (word != word.lower() or len(word) == 1) and word not in ("I", "a"))


PLUGIN: Verifier = _SameCode()
