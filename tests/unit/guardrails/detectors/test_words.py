"""Words and patterns of the operator."""

from __future__ import annotations

import re
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from edge_extproc import registry
from edge_extproc.guardrails.detectors.words import WordsOptions
from edge_extproc.guardrails.pattern_length import longest_match


def found(text: str, **options: object) -> list[tuple[str, str]]:
    detector = registry.load("guardrails.detectors", "words").build(WordsOptions(**options))
    findings = detector.find(text, "user")
    assert all(len(text[each.start : each.end]) <= detector.longest for each in findings)
    return [(text[each.start : each.end], each.label) for each in findings]


def test_a_word_is_found_in_any_case_and_not_within_another_word() -> None:
    assert found("é Falcon, falcon falcons xfalcon éfalcon", words=["falcon"]) == [
        ("Falcon", "word"),
        ("falcon", "word"),
    ]


def test_case_and_parts_of_words_can_count() -> None:
    assert found("Falcon falcons", words=["falcon"], case_sensitive=True, whole_words=False) == [("falcon", "word")]


def test_a_phrase_does_not_hide_a_word_in_it() -> None:
    assert found("new yorkers", words=["new", "new york"]) == [("new", "word")]


def test_scripts_without_spaces_have_no_whole_words() -> None:
    assert found("我在北京住", words=["北京"], label="city") == [("北京", "city")]


def test_a_pattern_has_its_own_label() -> None:
    assert found("see ACME-12345.", patterns={"ticket": r"ACME-\d{4,8}"}) == [("ACME-12345", "ticket")]


def test_of_two_overlapping_findings_the_first_and_longest_remains() -> None:
    assert found("abcd", patterns={"one": "bcd", "two": "abc", "three": "ab"}) == [("abc", "two")]


@given(st.text("ab é_北\ud800", max_size=40))
def test_all_whole_words_are_found(text: str) -> None:
    expected = [match[0] for match in re.finditer(r"(?<![\w])(?:ab|b)(?![\w])", text)]

    assert [word for word, _ in found(text, words=["ab", "b"])] == expected


@pytest.mark.parametrize(
    ("pattern", "longest"),
    [
        (r"ACME-\d{4,8}", 13),
        (r"a|bcd|(?i)ef{3}", 4),
        (r"(?i:ab)(?P<x>c|de)[[:alpha:]\]]{2}", 6),
        (r"\Qa.b\Ec\x{41}\pN\p{Greek}\b", 7),
        ("[^]]{3}x?", 4),
        ("a{2}{3}", 6),
        ("a{", 2),
        ("(?:a|b+)", inf),
        ("a{2,}", inf),
        ("(?:)*", 0),
    ],
)
def test_the_longest_match_of_a_pattern(pattern: str, longest: float) -> None:
    assert longest_match(pattern) == longest


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({}, "there are no words and no patterns; give words: [falcon], or patterns"),
        ({"patterns": {"a": "x(?=y)"}}, "this is not a pattern of RE2"),
        ({"patterns": {"a": "x?"}}, "this pattern matches the empty text; write one that needs a character"),
        ({"patterns": {"a": "x+"}}, "no longest length; write {1,64} in place of +"),
        ({"patterns": {"a": "x{900}y{900}"}}, "this pattern can match 1800 characters"),
        ({"words": ["x" * 1001]}, "this word has 1001 characters; write at most 1000"),
    ],
)
def test_mistakes_in_the_options(options: dict[str, object], text: str) -> None:
    with pytest.raises(ValidationError) as caught:
        WordsOptions(**options)

    assert text in str(caught.value)
