"""Finds words and patterns of the operator. The patterns are RE2, so the time is linear in the length of the text."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from math import inf
from typing import Annotated

import re2
from pydantic import AfterValidator, Field, PlainSerializer, model_validator

from ...config.part import ConfigSection, Label, Text, frozen, thawed
from ...config.quantities import Boolean
from ...config.wrong import wrong
from ...model.frozen_dataclass import frozen_dataclass
from ..base import Detector, Finding, TextKind
from ..pattern_length import longest_match

# A stream holds as many characters.
_LONGEST = 1_000
# Bytes of memory for one automaton.
_MEMORY = 32 * 1024 * 1024
_IN_WORDS = r"\pL\pN\pM_"
# The scripts that are written without spaces between words: Thai, Lao, Khmer, kana, Han.
_WITHOUT_SPACES = re.compile("[\u0e00-\u0eff\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\U00020000-\U0003ffff]")


def _compiled(pattern: str, *, case_sensitive: bool) -> re2._Regexp:
    options = re2.Options()
    options.case_sensitive, options.max_mem, options.log_errors = case_sensitive, _MEMORY, False
    options.longest_match = True
    return re2.compile(pattern.encode("utf-8", "replace"), options)


def _pattern(value: str) -> str:
    try:
        expression = _compiled(value, case_sensitive=True)
    except re2.error:
        raise wrong(
            "this is not a pattern of RE2", "see https://github.com/google/re2/wiki/Syntax; it has no look-around"
        ) from None
    if expression.fullmatch(b"") is not None:
        raise wrong("this pattern matches the empty text", "write one that needs a character")
    longest = longest_match(value)
    if longest == inf:
        raise wrong("the matches of this pattern have no longest length", "write {1,64} in place of +, {0,64} of *")
    if longest > _LONGEST:
        raise wrong(f"this pattern can match {longest:.0f} characters", f"write one that matches at most {_LONGEST}")
    return value


def _word(value: str) -> str:
    if len(value) > _LONGEST:
        raise wrong(f"this word has {len(value)} characters", f"write at most {_LONGEST}")
    return value


class WordsOptions(ConfigSection):
    """Words and patterns of your own."""

    words: tuple[Annotated[Text, AfterValidator(_word)], ...] = ()
    """Words or phrases, as they are written."""
    patterns: Annotated[
        Mapping[Label, Annotated[Text, AfterValidator(_pattern)]], AfterValidator(frozen), PlainSerializer(thawed)
    ] = Field(default_factory=dict, validate_default=True)
    """Patterns in RE2's syntax, by the label of what they match: {ticket: 'ACME-\\d{4,8}'}. The length of a match must
    have a bound, at most 1000 characters."""
    label: Label = "word"
    """The label of `words`."""
    case_sensitive: Boolean = False
    """Whether upper and lower case differ, in words and in patterns."""
    whole_words: Boolean = True
    """false: a word is also found within a longer one."""

    @model_validator(mode="after")
    def _some(self) -> WordsOptions:
        if not self.words and not self.patterns:
            raise wrong("there are no words and no patterns", "give words: [falcon], or patterns")
        return self


@frozen_dataclass
class _Search:
    expression: re2._Regexp
    label: str

    def matches(self, text: bytes) -> Iterator[tuple[int, int]]:
        """The spans in bytes. Group 1 is the match, without what delimits it."""
        at = 0
        while (match := self.expression.search(text, at)) is not None:
            yield match.span(1)
            at = match.end(1)


class WordDetector:
    """One automaton for the words, and one for each pattern."""

    def __init__(self, options: WordsOptions) -> None:
        words = tuple(dict.fromkeys(options.words))
        whole = tuple(word for word in words if options.whole_words and _has_ends(word))
        free = tuple(word for word in words if word not in whole)
        searches = [(text, options.label) for text in (_whole(whole), _any_of(free)) if text]
        searches += [(f"({pattern})", label) for label, pattern in options.patterns.items()]
        sensitive = options.case_sensitive
        self._searches = tuple(_Search(_compiled(text, case_sensitive=sensitive), label) for text, label in searches)
        lengths = [*map(len, words), *(int(longest_match(pattern)) for pattern in options.patterns.values())]
        self._longest = max(lengths)

    @property
    def longest(self) -> int:
        return self._longest

    def find(self, text: str, kind: TextKind) -> Sequence[Finding]:
        del kind
        raw = text.encode("utf-8", "replace")
        found = [(*span, search.label) for search in self._searches for span in search.matches(raw)]
        return _in_characters(raw, found) if found else ()


def _has_ends(word: str) -> bool:
    """Whether a space or a sign separates the word from its neighbours."""
    first, last = word[0], word[-1]
    return first.isalnum() and last.isalnum() and not (_WITHOUT_SPACES.match(first) or _WITHOUT_SPACES.match(last))


def _any_of(words: Sequence[str]) -> str:
    return f"({'|'.join(map(re2.escape, words))})" if words else ""


def _whole(words: Sequence[str]) -> str:
    return f"(?:^|[^{_IN_WORDS}]){_any_of(words)}(?:$|[^{_IN_WORDS}])" if words else ""


def _in_characters(raw: bytes, found: list[tuple[int, int, str]]) -> list[Finding]:
    """The findings with positions in characters. Of two that overlap, the one that begins first remains, then the
    longer one."""
    findings: list[Finding] = []
    at = characters = 0
    for start, stop, label in sorted(found, key=lambda each: (each[0], -each[1])):
        if start < at:
            continue
        characters += len(raw[at:start].decode())
        length = len(raw[start:stop].decode())
        findings.append(Finding(characters, characters + length, label))
        at, characters = stop, characters + length
    return findings


class _Words:
    options = WordsOptions

    def build(self, options: WordsOptions) -> Detector:
        return WordDetector(options)


PLUGIN = _Words()
