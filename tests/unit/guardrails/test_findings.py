"""Masking by rules: no secret is left, JSON stays JSON, and other texts stay as they are."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from guarding import rule
from hypothesis import given
from hypothesis import strategies as st

from edge_extproc.guardrails.body_texts import EVERYWHERE, read_texts
from edge_extproc.guardrails.detectors.words import WordDetector, WordsOptions
from edge_extproc.guardrails.findings import CleanTexts, Findings, apply_detectors
from edge_extproc.guardrails.masking import PlaceholderKey

SECRET = 'sécret"\\-42'
DETECTOR = WordDetector(
    WordsOptions(words=(SECRET,), whole_words=False, case_sensitive=True, patterns={"pair": r'"k": ?"[a-z]{1,9}"'})
)
PIECES = st.sampled_from([SECRET, "a", "é", "😀", '"', "\\", "\n", "{", "[1]", "k", " "])
TEXTS = st.lists(PIECES, max_size=5).map("".join)


def _as_text(value: Any) -> Any:
    return st.booleans().map(lambda ascii: json.dumps(value, ensure_ascii=ascii))


VALUES = st.recursive(
    st.none() | st.integers(0, 99_999_999) | TEXTS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(TEXTS | st.just("k"), inner, max_size=3) | inner.flatmap(_as_text)
    ),
    max_leaves=10,
)


def mask(value: Any, *rules: Any) -> tuple[Any, Findings]:
    body = read_texts(json.dumps(value).encode(), "application/json", EVERYWHERE)
    found = apply_detectors(body, rules or (rule("mask", detector=DETECTOR),), KEY.masker("t"), CleanTexts())
    return json.loads(found.body), found


KEY = PlaceholderKey("a pepper of the tests")


def decoded(text: str) -> Any:
    """The JSON that a text is."""
    if text.lstrip()[:1] in ("{", "["):
        try:
            return json.loads(text)
        except ValueError:
            return None
    return None


def texts(value: Any) -> Iterator[str]:
    match value:
        case dict():
            for key, inner in value.items():
                yield key
                yield from texts(inner)
        case list():
            for inner in value:
                yield from texts(inner)
        case str():
            yield value
            yield from texts(decoded(value))


@given(st.lists(VALUES, max_size=3))
def test_no_secret_is_left_at_any_depth_and_json_stays_json(value: list[Any]) -> None:
    masked, found = mask(value)

    assert [text for text in texts(masked) if SECRET in text] == []
    check_shape(value, masked)
    if not any(SECRET in text for text in texts(value)) and not any(hit.label == "pair" for hit in found.hits):
        assert masked == value
        assert found.hits == []


def check_shape(before: Any, after: Any) -> None:
    match before:
        case list():
            assert isinstance(after, list)
            assert len(after) == len(before)
            for one, other in zip(before, after, strict=True):
                check_shape(one, other)
        case dict():
            assert isinstance(after, dict)
        case str():
            assert isinstance(after, str)
            inner = decoded(before)
            if inner is not None and before != after:
                check_shape(inner, json.loads(after))
        case _:
            assert isinstance(after, str) or before == after


def test_overlapping_findings_are_one_placeholder_with_the_label_of_the_longest() -> None:
    wide = WordDetector(WordsOptions(words=("abc def ghi",), label="wide"))
    narrow = WordDetector(WordsOptions(words=("def",), label="narrow"))
    masked, found = mask(
        ["x abc def ghi y"],
        rule("mask", "one", detector=narrow),
        rule("mask", "two", detector=wide),
    )

    assert masked == [f"x {KEY.masker('t').placeholder('abc def ghi', 'wide')} y"]
    assert [(hit.rule, hit.count) for hit in found.hits] == [("one", 1), ("two", 1)]


def test_a_value_with_escapes_is_masked_from_its_begin() -> None:
    """The text with the escapes contains an end of the value that is a finding, too."""
    address = WordDetector(WordsOptions(patterns={"address": r"[a-z0-9]{1,64}@example\.com"}))
    masked, _ = mask(['{"m": "\\u006a\\u006f\\u0065@example.com"}'], rule("mask", detector=address))

    assert json.loads(masked[0]) == {"m": KEY.masker("t").placeholder("joe@example.com", "address")}


def test_a_value_and_its_name_are_found_together_in_a_text_of_json() -> None:
    masked, found = mask(['{"k": "abc", "l": "abc"}'])

    assert json.loads(masked[0]) == {"k": KEY.masker("t").placeholder("abc", "pair"), "l": "abc"}
    assert [(hit.label, hit.count) for hit in found.hits] == [("pair", 1)]


def test_the_first_rule_that_blocks_is_named_and_all_are_counted() -> None:
    word = WordDetector(WordsOptions(words=("a",)))
    _, found = mask(
        ["a"],
        rule("flag", "one", detector=word),
        rule("block", "two", detector=word),
        rule("block", "3", detector=word),
    )

    assert found.blocked is not None
    assert found.blocked.rule == "two"
    assert [hit.rule for hit in found.hits] == ["one", "two", "3"]


def test_short_texts_without_findings_are_searched_once() -> None:
    class Counting:
        longest = 1

        def __init__(self) -> None:
            self.asked: list[str] = []

        def find(self, text: str, kind: str) -> list[Any]:
            self.asked.append(text)
            return []

    detector, clean = Counting(), CleanTexts()
    for _ in range(2):
        body = read_texts(b'{"role": "user", "text": "%s"}' % (b"long " * 20), "", EVERYWHERE)
        apply_detectors(body, (rule("flag", detector=detector),), KEY.masker("t"), clean)

    assert detector.asked == ["role", "user", "text", "long " * 20, "long " * 20]
