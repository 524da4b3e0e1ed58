"""Finds attempts to instruct a model by a text that it only reads, as in the result of a tool.

These are heuristics: known phrases in 23 languages, marks of chat formats, and ways to hide a text. A text that says
the same in other words is not found.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Annotated, Literal, TypeAlias, get_args

import re2
from pydantic import AfterValidator

from ...config.extras import GUARDRAILS, Extra
from ...config.part import ConfigSection, one_of
from ...config.wrong import wrong
from ...model.frozen_dataclass import frozen_dataclass
from ..base import Finding, TextKind
from ..injection_phrases import FAMILIES, PhraseFamily
from ..normalised_text import TextView
from ..view_matches import ViewMatch, find_in_views

Technique: TypeAlias = Literal[
    "instruction_override",
    "new_instructions",
    "persona",
    "prompt_leak",
    "exfiltration",
    "concealment",
    "chat_markup",
    "hidden_text",
    "bidi_override",
    "mixed_script",
]
_TECHNIQUES: tuple[Technique, ...] = get_args(Technique)
_WINDOW = 480
# The window, what a pattern has before its word, and a negation before it.
_LONGEST = 640
# Texts of the operator and of the model. The phrases are usual there: "ignore instructions in files".
_TRUSTED: frozenset[TextKind] = frozenset({"system", "assistant", "thinking"})
_EXTERNAL: frozenset[TextKind] = frozenset({"tool_result", "tool_definition", "file_name", "url", "other"})
# What is written in place of a letter.
_LETTERS = bytes.maketrans(b"013457@$", b"oieastas")
# Only directly before it: an attack may have any other words there.
_NEGATION = re.compile(rb"(?:not|never|n't|cannot)(?: ever| to)? [\"'`(]?$")
# Twelve characters without width in a sequence encode something. Emoji and words of other alphabets have one or two.
_INVISIBLE_RUN = re.compile("[\u200b-\u200f\u2060-\u2064\ufeff\u00ad\u180e]{12,}")
_SPLIT_WORDS = re.compile("(?:[A-Za-z][\u200b\u200c\u200d\u2060\ufeff\u00ad]+){4,}[A-Za-z]")
_OVERRIDE = re.compile("[\u202d\u202e]")
# Cyrillic letters inside of a Latin word.
_MIXED = re.compile("[A-Za-z][а-яА-ЯѐёђѓєѕіїјљњћќўџЅІЈ]{1,3}[A-Za-z]")
_FEWEST_MIXED = 2


def _some(value: tuple[Technique, ...]) -> tuple[Technique, ...]:
    if not value:
        raise wrong("this list is empty", "name one or more techniques, or leave the key out")
    return value


class InjectionOptions(ConfigSection):
    """Attempts to instruct a model by a text that it reads. Use it for results of tools, with action: flag or block."""

    techniques: Annotated[tuple[Annotated[Technique, one_of(*_TECHNIQUES)], ...], AfterValidator(_some)] = _TECHNIQUES
    """instruction_override, new_instructions, persona, prompt_leak, exfiltration, concealment, chat_markup,
    hidden_text, bidi_override, mixed_script. Default: all. In system prompts and in texts of the model only hidden_text
    and bidi_override are searched for. new_instructions, exfiltration, concealment and chat_markup are not searched for
    in texts of the user."""


@frozen_dataclass
class _Phrase:
    family: PhraseFamily
    pattern: re2._Regexp


class InjectionDetector:
    def __init__(self, options: InjectionOptions) -> None:
        from ahocorasick_rs import BytesAhoCorasick, Implementation

        self._techniques = frozenset(options.techniques)
        by_word: dict[bytes, list[_Phrase]] = {}
        for family in FAMILIES:
            if family.label in self._techniques:
                phrase = _Phrase(family, re2.compile(family.pattern, _re2_options()))
                for word in family.words:
                    by_word.setdefault(word.encode(), []).append(phrase)
        self._phrases = tuple(tuple(phrases) for phrases in by_word.values())
        self._words = BytesAhoCorasick(list(by_word), implementation=Implementation.DFA)

    @property
    def longest(self) -> int:
        return _LONGEST

    def find(self, text: str, kind: TextKind) -> Sequence[Finding]:
        def search(view: TextView) -> Iterator[ViewMatch]:
            yield from self._hidden(view)
            if kind not in _TRUSTED:
                yield from self._phrase_matches(view, is_external=kind in _EXTERNAL)

        return find_in_views(text, search, _LONGEST, decode=True)

    def _hidden(self, view: TextView) -> Iterator[ViewMatch]:
        if "hidden_text" in self._techniques and view.kind == "hidden" and any(map(str.isalpha, view.text)):
            yield 0, len(view.text), "hidden_text"
        if view.kind != "original" or view.text.isascii():
            return
        if "hidden_text" in self._techniques:
            for pattern in (_INVISIBLE_RUN, _SPLIT_WORDS):
                for match in pattern.finditer(view.text):
                    yield *match.span(), "hidden_text"
        if "bidi_override" in self._techniques:
            for match in _OVERRIDE.finditer(view.text):
                yield *match.span(), "bidi_override"

    def _phrase_matches(self, view: TextView, *, is_external: bool) -> Iterator[ViewMatch]:
        if "mixed_script" in self._techniques and view.kind == "original" and not view.text.isascii():
            mixed = [match.span() for match in _MIXED.finditer(view.text)]
            if len(mixed) >= _FEWEST_MIXED:
                yield from ((*span, "mixed_script") for span in mixed)
        lowered = _lowered(view)
        data, done = lowered.translate(_LETTERS), 0
        for number, start, _ in self._words.find_matches_as_indexes(data, overlapping=True):
            if start < done:
                continue
            for phrase in self._phrases[number]:
                family = phrase.family
                if family.external and not is_external:
                    continue
                span = _match(phrase, data, start)
                if span is not None and _NEGATION.search(data, max(0, span[0] - 40), span[0]) is None:
                    done = span[1]
                    yield *_characters(view, lowered, span), family.label
                    break


def _re2_options() -> re2.Options:
    options = re2.Options()
    options.log_errors = False
    return options


def _lowered(view: TextView) -> bytes:
    """In UTF-8. Each character stays one character."""
    text = view.text
    if text.isascii():
        return view.ascii.lower()
    lowered = text.lower()
    if len(lowered) != len(text):
        lowered = "".join(low if len(low := each.lower()) == 1 else each for each in text)
    return lowered.encode("utf-8", "replace")


def _match(phrase: _Phrase, data: bytes, start: int) -> tuple[int, int] | None:
    before = phrase.family.before
    if not before:
        match = phrase.pattern.match(data, start, min(len(data), start + _WINDOW))
    else:
        match = phrase.pattern.search(data, max(0, start - before), min(len(data), start + _WINDOW))
        if match is not None and not match.start() <= start <= match.end():
            match = None
    return match.span() if match is not None else None


def _characters(view: TextView, data: bytes, span: tuple[int, int]) -> tuple[int, int]:
    """From bytes of UTF-8 to characters."""
    if view.text.isascii():
        return span
    start = len(data[: span[0]].decode("utf-8", "ignore"))
    end = start + len(data[span[0] : span[1]].decode("utf-8", "ignore"))
    return start, max(end, start + 1)


class InjectionPlugin:
    """The detector `injection`."""

    options = InjectionOptions

    def required_extra(self, options: InjectionOptions) -> Extra | None:
        del options
        return GUARDRAILS

    def build(self, options: InjectionOptions) -> InjectionDetector:
        GUARDRAILS.require("the detector injection")
        return InjectionDetector(options)


PLUGIN = InjectionPlugin()
