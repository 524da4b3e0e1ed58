"""Counting a JSON text's values gives what decoding it would."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_extproc.codecs import json_shape
from edge_extproc.codecs.json_shape import elements, has_few_values, has_more_values, members

TEXTS = st.text(st.sampled_from('ab,[{"\\}]:\n'), max_size=40)
VALUES = st.recursive(
    st.none() | st.integers(0, 9) | TEXTS,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(TEXTS, inner, max_size=5),
    max_leaves=30,
)


def counted(value: Any) -> int:
    """Objects, lists, and what stands after a comma."""
    if isinstance(value, dict | list):
        inner = value.values() if isinstance(value, dict) else value
        return 1 + max(0, len(value) - 1) + sum(map(counted, inner))
    return 0


@given(VALUES, st.sampled_from([1, 2, 3, 7, 1 << 16]))
def test_the_count_is_that_of_the_values_however_the_steps_fall(value: Any, step: int) -> None:
    raw, true = json.dumps(value).encode(), counted(value)
    before = json_shape._STEP
    json_shape._STEP = step
    try:
        assert [False, True] == [has_more_values(raw, true), has_more_values(raw, true - 1)]
    finally:
        json_shape._STEP = before


@given(VALUES, st.integers(0, 20))
def test_few_values_are_known_as_such(value: Any, most: int) -> None:
    raw = json.dumps(value).encode()

    assert (counted(value) <= most) == has_few_values(raw, most)


@pytest.mark.parametrize("text", ['"' * 5_000, "\\" * 70 + '"', ["x"] * 5_000], ids=["quotes", "backslashes", "texts"])
def test_a_body_that_takes_long_to_look_at_is_not_known(text: Any) -> None:
    assert not has_few_values(json.dumps({"text": text}).encode(), 1_000_000)


@pytest.mark.parametrize("raw", [b'"\\', b'{"a', b'"' * 9, b'"a\\"'])
def test_a_text_without_an_end_is_not_known(raw: bytes) -> None:
    assert not has_few_values(raw, 10)


@pytest.mark.parametrize("raw", [b'"\\', b"\\\\\\", b'{"a', b",,,,", b"", b'"' * 9])
def test_what_is_no_json_is_counted_to_its_end(raw: bytes) -> None:
    assert not has_more_values(raw, 10)


def test_a_text_of_brackets_holds_no_values() -> None:
    raw = json.dumps({"text": '{[,"\\' * 50_000}).encode()

    assert not has_more_values(raw, 2)


def test_what_has_another_type_has_no_members_and_no_elements() -> None:
    assert ({}, []) == (members(b"[1]"), elements(b'{"a":1}'))
    assert (["a"], 2) == (list(members(b'{"a":1}')), len(elements(b"[1,2]")))
