"""JSON to values of a type: what has another is refused by its path, and what can be written comes back."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_extproc.codecs import json_values
from edge_extproc.errors import BadRequest
from edge_extproc.model.content import NO_EXTRAS, Json

EACH: dict[str, Json] = {
    "an object": {"a": 1},
    "a list": [1],
    "a string": "a",
    "a boolean": True,
    "a number": 1.5,
    "null": None,
}
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


@given(VALUES)
def test_every_value_is_written_whatever_its_numbers_and_letters(value: Json) -> None:
    assert value == json.loads(json_values.encode(value))


def test_letters_are_written_as_they_are_beside_a_number_that_is_too_long() -> None:
    assert '{"é":18446744073709551616}'.encode() == json_values.encode({"é": 2**64})


def test_half_of_a_surrogate_pair_is_replaced() -> None:
    assert '"a\ufffd"'.encode() == json_values.encode("a\ud800")


def test_both_halves_of_a_surrogate_pair_are_written_as_their_character() -> None:
    assert '"a\U0001f600b"'.encode() == json_values.encode("a\ud83d" + "\ude00b")


def test_what_is_nested_too_deeply_is_refused() -> None:
    value: Json = 1
    for _ in range(100_000):
        value = [value]
    with pytest.raises(BadRequest, match="the JSON is nested too deeply"):
        json_values.encode(value)


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b'{"a":"\xff"}', "the body is not valid UTF-8: see byte 7"),
        (b"[" * 100_000, "the body is nested too deeply"),
        (b"{", "the body is not valid JSON: see line 1, column 2"),
        (b'{\n "a": nul}', "the body is not valid JSON: see line 2, column 7"),
        (b'{"a": NaN}', "the body is not valid JSON"),
        (b" " * (64 << 10) + b"{", "the body is not valid JSON"),
        (b" \n", "the body is not valid JSON: it is empty"),
        (b"[1]", "the body must be a JSON object, not a list"),
    ],
)
def test_a_body_that_is_no_object_is_refused_with_the_reason(raw: bytes, message: str) -> None:
    with pytest.raises(BadRequest) as caught:
        json_values.read_body(raw)

    assert message == str(caught.value)


@pytest.mark.parametrize(
    ("read", "wanted", "right"),
    [
        (json_values.as_object, "an object", {"an object"}),
        (json_values.as_list, "a list", {"a list"}),
        (json_values.as_text, "a string", {"a string"}),
        (json_values.as_bool, "true or false", {"a boolean"}),
        (json_values.as_int, "a whole number", set()),
        (json_values.as_number, "a number", {"a number"}),
        (json_values.maybe_object, "an object", {"an object", "null"}),
        (json_values.maybe_list, "a list", {"a list", "null"}),
        (json_values.maybe_text, "a string", {"a string", "null"}),
        (json_values.maybe_bool, "true or false", {"a boolean", "null"}),
        (json_values.maybe_int, "a whole number", {"null"}),
        (json_values.maybe_number, "a number", {"a number", "null"}),
    ],
)
def test_only_a_value_of_the_type_is_taken(read: Callable[[Json, str], Json], wanted: str, right: set[str]) -> None:
    for kind, value in EACH.items():
        if kind in right:
            assert value == read(value, "a[0].b")
            continue
        with pytest.raises(BadRequest) as caught:
            read(value, "a[0].b")
        assert (f"a[0].b must be {wanted}, not {kind}", "a[0].b") == (str(caught.value), caught.value.param)


def test_a_field_that_may_be_absent_is_told_with_its_path() -> None:
    assert json_values.maybe(json_values.as_int, {"n": 7}, "n") == 7
    assert json_values.maybe(json_values.as_int, {"n": None}, "n") is None
    with pytest.raises(BadRequest, match=r"a\.n must be a whole number"):
        json_values.maybe(json_values.as_int, {"n": "7"}, "n", "a")


def test_the_objects_of_a_list_come_with_their_paths() -> None:
    assert [({"a": 1}, "x[0]"), ({}, "x[1]")] == list(json_values.objects([{"a": 1}, {}], "x"))
    with pytest.raises(BadRequest, match=r"x\[0\] must be an object, not null"):
        list(json_values.objects([None], "x"))


def test_what_is_left_holds_no_null_and_may_be_nothing() -> None:
    block: dict[str, Json] = {"a": 1, "b": 2, "c": None}

    assert {"b": 2} == json_values.rest_of(block, frozenset("a"))
    assert {"b": 2} == json_values.left_in(block, frozenset("a"))
    assert json_values.rest_of(block, frozenset("ab")) is NO_EXTRAS
    assert json_values.left_in(block, frozenset("ab")) == {}


def test_what_a_provider_tells_beside_its_answer_breaks_nothing() -> None:
    assert ["a", None, None] == [json_values.text_of(value) for value in ("a", 1, None)]
    assert [{"a": 1}, {}, {}] == [json_values.object_in({"k": value}, "k") for value in ({"a": 1}, [], None)]
    told: dict[str, Json] = {"a": -1, "b": True, "c": "7", "d": 7.0, "e": 8}
    counts = json_values.TokenCounts()
    assert [7, None, None, None, None] == [counts.of(value) for value in (7, -1, True, "7", None)]
    assert 3 == counts.unreadable
    assert 7 == counts.first(told, "xabcde")
    assert 0 == counts.first(told, "xa")
    assert 0 == counts.first({}, "a")
    assert [0, 0, 0, 7, 8, 0] == [counts.at(told, key) for key in "abcdef"]


def test_a_reply_with_numbers_that_are_none_is_read_without_them() -> None:
    found = json_values.decode_reply(b'{"a": NaN, "b": -Infinity, "c": 1}')
    assert b'{"a":null,"b":null,"c":1}' == json_values.encode(found)
    assert {"a": float("inf")} == json_values.decode_reply(b'{"a": 1e400}')
    with pytest.raises(ValueError):  # noqa: PT011  # whatever the library says of it
        json_values.decode_reply(b'{"a": ')


@pytest.mark.parametrize(
    ("raw", "message", "param"),
    [
        (b'{"model": 1}', "model must be a string, not a number", "model"),
        (b'{"model": "m", "n": "2"}', "n must be a whole number, not a string", "n"),
        (b'{"n": 2}', "model is missing", "model"),
        (b"{", "the body is not valid JSON: see line 1, column 2", None),
        (
            b'{"model": 1, "model": "m"}',
            "the body cannot be read: one of model, n occurs twice, or has an invalid value",
            None,
        ),
    ],
)
def test_what_a_typed_decoder_refused_is_told_by_its_field(raw: bytes, message: str, param: str | None) -> None:
    reason = json_values.why_refused(raw, {"model": json_values.as_text, "n": json_values.as_int}, required=("model",))

    assert (message, param) == (reason.message, reason.param)
