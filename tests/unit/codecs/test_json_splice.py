"""Splicing changes what it names and no other byte."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_extproc.codecs.json_splice import splice

SPACES = st.text(" \t\r\n", max_size=2)
STRINGS = st.one_of(
    st.text(max_size=6).map(json.dumps),
    st.text(max_size=6).map(lambda text: json.dumps(text, ensure_ascii=False)),
    st.sampled_from([r'"\\"', r'"\""', r'"\\\""', r'"},{\"model\":1"', r'"é"', '","', '":"', '"}"']),
).filter(lambda text: not any(0xD800 <= ord(c) <= 0xDFFF for c in json.loads(text)))
NUMBERS = st.sampled_from(["0", "-0", "1", "12", "1.0", "1.00", "1e5", "1E+5", "123456789012345678901234567890"])
LEAVES = st.one_of(STRINGS, NUMBERS, st.sampled_from(["true", "false", "null", "{}", "[]", "[ ]", "{ }"]))


def _array(items: list[str], space: str) -> str:
    return "[" + space + f"{space},".join(items) + space + "]"


def _object(members: list[tuple[str, str]], space: str) -> str:
    return "{" + space + f",{space}".join(f"{key}{space}:{space}{value}" for key, value in members) + space + "}"


VALUES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.builds(_array, st.lists(inner, max_size=3), SPACES),
        st.builds(_object, st.lists(st.tuples(STRINGS, inner), max_size=3), SPACES),
    ),
    max_leaves=6,
)
MEMBERS = st.lists(st.tuples(STRINGS, VALUES), max_size=5)
UNIQUE = st.lists(st.tuples(STRINGS, VALUES), max_size=5, unique_by=lambda member: json.loads(member[0]))


@given(UNIQUE, SPACES, st.data())
def test_only_the_named_value_changes(members: list[tuple[str, str]], space: str, data: st.DataObject) -> None:
    body = space + _object(members, space) + space
    if not members:
        return
    chosen = data.draw(st.integers(0, len(members) - 1))
    key = json.loads(members[chosen][0])
    expected = [(name, '"new"' if i == chosen else value) for i, (name, value) in enumerate(members)]

    assert space + _object(expected, space) + space == splice(body.encode(), {key: b'"new"'}).decode()


@given(UNIQUE, SPACES)
def test_an_absent_key_comes_after_the_last_member(members: list[tuple[str, str]], space: str) -> None:
    body = _object(members, space).encode()
    result = splice(body, {"\x00absent": b"1"})

    assert {**json.loads(body), "\x00absent": 1} == json.loads(result)
    assert body == result.replace(b',"\\u0000absent":1', b"").replace(b'"\\u0000absent":1', b"")


@given(UNIQUE)
def test_no_change_changes_nothing(members: list[tuple[str, str]]) -> None:
    body = _object(members, " ").encode()

    assert body is splice(body, {})


@given(UNIQUE.filter(lambda members: all("\\" not in name and name.isascii() for name, _ in members)))
def test_a_body_without_spaces_is_not_copied_to_change_nothing(members: list[tuple[str, str]]) -> None:
    body = _object(members, "").encode()

    assert body is splice(body, {})


@pytest.mark.parametrize(("colon", "comma"), [(":", ","), (": ", ", "), (":", ", ")])
@given(members=MEMBERS)
def test_a_repeated_key_is_refused_and_nothing_else_is(colon: str, comma: str, members: list[tuple[str, str]]) -> None:
    body = ("{" + comma.join(f"{key}{colon}{value}" for key, value in members) + "}").encode()
    names = [json.loads(name) for name, _ in members]
    if len(set(names)) == len(names):
        splice(body, {})
        return

    with pytest.raises(ValueError, match="has the same key twice"):
        splice(body, {})


@pytest.mark.parametrize(
    "body",
    [
        b'{"model":"a","model":"a"}',
        b'{"model":"a","model":"b"}',
        b'{"model":1,"x":2,"model":12}',
        b'{"model":12,"x":2,"model":1}',
        b'{"model":"a","mod\\u0065l":"b"}',
        b'{"model":"a","x":1,"x":1}',
        b'{"a":12,"a":12,"b":1,"c":1,"model":1}',  # as long as one with spaces and without the second member
        b'{"model": "a", "model": "a"}',
    ],
)
def test_a_model_that_stands_twice_is_refused(body: bytes) -> None:
    with pytest.raises(ValueError, match="has the same key twice"):
        splice(body, {"model": b'"b"'})


def test_a_key_spelled_with_escapes_is_found() -> None:
    assert b'{"mod\\u0065l" : "b"}' == splice(b'{"mod\\u0065l" : "a"}', {"model": b'"b"'})


def test_several_changes_go_where_each_belongs() -> None:
    body = b'{ "stream":true, "n" : 1.0,"model":"a" }'

    assert b'{ "stream":false, "n" : 1.0,"model":"b","x":1,"y":2 }' == splice(
        body, {"model": b'"b"', "x": b"1", "stream": b"false", "y": b"2"}
    )


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b'{"a":1}', b'{"a":1,"o":{"k":true}}'),
        (b"{}", b'{"o":{"k":true}}'),
        (b" { } ", b' {"o":{"k":true} } '),
        (b'{"o":null}', b'{"o":{"k":true}}'),
        (b'{"o":{}}', b'{"o":{"k":true}}'),
        (b'{"o": {"k":false, "x":1e2}, "a":1}', b'{"o": {"k":true, "x":1e2}, "a":1}'),
        (b'{"o":{"x":1}}', b'{"o":{"x":1,"k":true}}'),
    ],
)
def test_a_value_inside_an_object_is_set_and_the_object_made_where_absent(before: bytes, after: bytes) -> None:
    assert after == splice(before, {"o": {"k": b"true"}})


@pytest.mark.parametrize(
    "body",
    [b"", b"x", b"[]", b'"a"', b"{", b'{"a":NaN}', b'{"a":1}x', b'{"\xff":1}', b'{"a":' + b"[" * 100_000],
)
def test_what_is_no_json_object_is_refused(body: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        splice(body, {"model": b'"b"'})


@pytest.mark.parametrize("body", [b'{"o":1}', b'{"o":[]}', b'{"o":{"k":1,"k":2}}'])
def test_a_value_that_is_no_object_has_no_inside(body: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        splice(body, {"o": {"k": b"true"}})


@pytest.mark.parametrize(
    ("body", "gone", "expected"),
    [
        (b'{"a":1, "b":2 ,"c":3}', ["b"], b'{"a":1 ,"c":3}'),
        (b'{ "a" : 1, "b":2}', ["a"], b'{ "b":2}'),
        (b'{"a":1,"b":2,"c":3}', ["a", "b"], b'{"c":3}'),
        (b'{"a":1,"b":2,"c":3}', ["a", "c"], b'{"b":2}'),
        (b'{"a":1,"b":2 }', ["a", "b"], b"{ }"),
        (b'{"a":1,"b":2}', ["x"], b'{"a":1,"b":2}'),
        (b"{}", ["x"], b"{}"),
    ],
)
def test_a_member_can_be_taken_out_with_its_comma(body, gone, expected):
    assert expected == splice(body, dict.fromkeys(gone))


@given(st.dictionaries(st.text(max_size=3), st.integers(), max_size=6), st.sets(st.text(max_size=3)), st.booleans())
def test_taking_out_and_putting_in_leaves_the_rest(members, gone, added):
    changes = {**dict.fromkeys(gone), **({"new!": b"[1]"} if added else {})}
    expected = {key: value for key, value in members.items() if key not in gone} | ({"new!": [1]} if added else {})

    assert expected == json.loads(splice(json.dumps(members).encode(), changes))
