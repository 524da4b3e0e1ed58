"""The canonical form of a question: its words in their order, without what changes nothing.

Two questions with equal canonical forms ask the same. The form writes openers as one question word ("could you tell me
how to", "how do I": `how`), all articles as one, contractions in full, one word for each group of lexicon.py, numbers
in digits, and "the capital of France" as "France's capital". Everything else stays, in its order: so another word,
another number, and other places of the same words are another question. A question about words has them as they are
written.

It knows English alone: of a text in another language, it ignores only case, white space and punctuation. This module
does no IO.
"""

from __future__ import annotations

from collections.abc import Sequence

from .lexicon import (
    ABOUT_WORDS,
    AUXILIARIES,
    CONTRACTIONS,
    DETERMINERS,
    LONGEST_OPENER,
    NUMBER_WORDS,
    OPENERS,
    PREPOSITIONS,
    PRONOUNS,
    QUESTION_WORDS,
    SYNONYMS,
    UNITS,
    VERB_FORMS,
)

_POSSESSIVE = "'s"
# Words at which a noun phrase ends.
_BREAKS = QUESTION_WORDS | AUXILIARIES | frozenset(PREPOSITIONS) | frozenset(("than", "and", "or", "if", "but", "not"))
# A place or a tool that is given first: "In Python, how do I …".
_FRONTED = frozenset(("in", "with", "using", "on", "for"))
_MOST_FRONTED = 5
# Marks that end or join sentences. Any other mark has a meaning: C++ is not C, < is not >, and 2*(3+4) is not 2*3+4.
_PUNCTUATION = frozenset(".,;:!?…–—")
_GREETINGS = frozenset(("hi", "hello", "hey"))
_THANKS = frozenset(("please", "thanks"))
_STOPS = frozenset(",.!?")


def canonical(tokens: Sequence[str]) -> tuple[str, ...]:
    """The words of the form. `tokens`: as they are written, with marks."""
    lower = [token.lower() for token in tokens]
    if not ABOUT_WORDS.isdisjoint(lower):
        return tuple(word for word in lower if word not in _PUNCTUATION)
    words = _fronted_last(_without_courtesy(lower))
    words = _with_question_word(_expanded([word for word in words if word not in _PUNCTUATION]))
    return tuple(_with_one_word_of_each_group(_possessives(words)))


def _without_courtesy(words: list[str]) -> list[str]:
    """Without a greeting before a stop, and thanks after one: elsewhere they may be what is asked about."""
    if len(words) > 2 and words[0] in _GREETINGS and words[1] in _STOPS:
        words = words[2:]
    if words and words[0] in ("please", "kindly"):
        words = words[1:]
    end = len(words)
    while end and words[end - 1] in _STOPS:
        end -= 1
    if end > 2 and words[end - 1] in _THANKS and words[end - 2] in _STOPS:
        words = words[: end - 2]
    return words


def _fronted_last(words: list[str]) -> list[str]:
    if words and words[0] in _FRONTED and "," in words[2 : _MOST_FRONTED + 2]:
        comma = words.index(",")
        rest = words[comma + 1 :]
        while rest and rest[-1] in _STOPS:
            rest = rest[:-1]
        return [*rest, *words[:comma]]
    return words


def _expanded(words: list[str]) -> list[str]:
    expanded: list[str] = []
    for word in words:
        if word in CONTRACTIONS:
            expanded += CONTRACTIONS[word]
        elif word.endswith(_POSSESSIVE) and len(word) > len(_POSSESSIVE):
            expanded += (word[: -len(_POSSESSIVE)], _POSSESSIVE)
        else:
            expanded.append(word)
    return expanded


def _with_question_word(words: list[str]) -> list[str]:
    """The opener of the question as its question word."""
    for length in range(min(LONGEST_OPENER, len(words) - 1), 0, -1):
        opener = OPENERS.get(tuple(words[:length]))
        if opener is not None:
            words = [*opener, *words[length:]]
            # "Tell me what X is": in an indirect question, the verb is last.
            if length > 1 and len(opener) == 1 and opener[0] in QUESTION_WORDS and words[-1] in ("is", "are", "was"):
                words = [words[0], words[-1], *words[1:-1]]
            return words
    if len(words) > 1 and words[0] in AUXILIARIES:
        if words[1] in PRONOUNS:
            return ["whether", words[1], words[0], *words[2:]]
        return ["whether", *words]
    return words


def _possessives(words: list[str]) -> list[str]:
    """`the A of B` as `B 's A`, from the last one to the first. Not beside a possessive: in "the king of Spain's name",
    only the meaning says what belongs to whom."""
    words = list(words)
    if _POSSESSIVE in words:
        return words
    for at in range(len(words) - 2, 0, -1):
        if words[at] != "of":
            continue
        end = at + 1
        while end < len(words) and words[end] not in _BREAKS:
            end += 1
        start = at
        while start > 0 and words[start - 1] not in _BREAKS and words[start - 1] not in DETERMINERS:
            start -= 1
        has_determiner = start > 0 and words[start - 1] in DETERMINERS
        # Without a determiner, a verb may stand before the noun, so that only the last word is the noun.
        start = start - 1 if has_determiner else at - 1
        if end > at + 1 and start < at and words[at - 1] not in _BREAKS and words[at - 1] not in DETERMINERS:
            noun = words[start + 1 : at] if has_determiner else words[start:at]
            words[start:end] = [*words[at + 1 : end], _POSSESSIVE, *noun]
    return words


def _with_one_word_of_each_group(words: list[str]) -> list[str]:
    groups = [SYNONYMS.get(word, word) for word in words]
    if len(set(groups)) < len(set(words)):  # two words of one group: the question may be about both
        groups = words
    plain: list[str] = []
    for word in groups:
        if word in DETERMINERS:
            plain.append("the")
        elif word in NUMBER_WORDS:
            plain.append(NUMBER_WORDS[word])
        elif plain and plain[-1][0].isdigit():
            plain.append(UNITS.get(word, word))
        else:
            plain.append(VERB_FORMS.get(word, word))
    return plain
