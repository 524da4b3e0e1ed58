"""All texts of a body are found once, with their places, and changed ones are written back."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from recordings import body as body_of
from recordings import recordings

from edge_extproc.codecs.json_strings import replaced, texts_of
from edge_extproc.errors import BadRequest
from edge_extproc.guardrails.body_texts import EVERYWHERE, Replacement, read_texts

TEXTS = st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from('"\\{}[],:\n é😀'), max_size=8)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=12,
)


def strings(value: Any) -> Iterator[str]:
    """Keys, texts and long numbers, as a decoder finds them."""
    match value:
        case dict():
            for key, inner in value.items():
                yield key
                yield from strings(inner)
        case list():
            for inner in value:
                yield from strings(inner)
        case str():
            yield value
        case int() if not isinstance(value, bool) and len(str(value)) >= 7:
            yield str(value)


def check(raw: bytes) -> None:
    found = list(texts_of(raw))
    for each in found:
        written = json.loads(raw[each.start : each.stop])
        assert (written if each.form != "number" else raw[each.start : each.stop].decode()) == each.text
    assert Counter(each.text for each in found) == Counter(strings(json.loads(raw)))


@given(JSON, st.sampled_from([None, 1]), st.booleans())
def test_each_string_of_any_json_is_found_once(value: Any, indent: int | None, ascii: bool) -> None:
    check(json.dumps(value, indent=indent, ensure_ascii=ascii).encode())


def test_each_string_of_the_recordings_is_found_once() -> None:
    sent = [body_of(each["request"]) for each in recordings("messages", "chat_completions", "responses")]
    sent = [raw for raw in sent if len(raw) < 20_000][::20]

    for raw in sent:
        check(raw)
    assert len(sent) > 20


@given(JSON)
def test_changing_all_strings_gives_the_same_json_with_other_strings(value: Any) -> None:
    raw = json.dumps([value]).encode()
    body = read_texts(raw, "application/json", EVERYWHERE)
    marks = {each: [Replacement(0, len(each.text), each.text + "!")] for each in body.texts if each.form == "value"}

    assert json.loads(body.written(marks)) == _changed([value])
    assert body.written({}) is raw


def _changed(value: Any) -> Any:
    match value:
        case dict():
            return {key: _changed(inner) for key, inner in value.items()}
        case list():
            return [_changed(inner) for inner in value]
        case str():
            return value + "!"
        case _:
            return value


def test_paths_are_those_of_the_body() -> None:
    raw = b'{"a": [{"b": "x"}, ["y", 1, "z"]], "c": {"d": "v"}, "c": "w"}'

    assert [(each.path, each.text) for each in texts_of(raw) if each.form == "value"] == [
        ("a[0].b", "x"),
        ("a[1][0]", "y"),
        ("a[1][2]", "z"),
        ("c.d", "v"),
        ("c", "w"),
    ]


def test_only_the_changed_string_is_written_again() -> None:
    raw = b'{ "a" : "\\u0041b", "b": "\\u0042" ,"c":1.50}'
    body = read_texts(raw, "application/json", EVERYWHERE)
    (text,) = [each for each in body.all() if each.text == "Ab"]

    assert body.written({text: [Replacement(1, 2, '"')]}) == b'{ "a" : "A\\"", "b": "\\u0042" ,"c":1.50}'


def test_texts_within_texts_are_found() -> None:
    inner = json.dumps({"deep": json.dumps(['x"y', 12345678])})
    body = read_texts(json.dumps([inner]).encode(), "application/json", EVERYWHERE)

    assert [each.text for each in body.all()] == [inner, "deep", '["x\\"y", 12345678]', 'x"y', "12345678"]


@pytest.mark.parametrize(
    ("raw", "texts"),
    [
        (b"", []),
        (b"plain text", ["plain text"]),
        (b"{not json", ["{not json"]),
        (b'{"a": 1}\n\n{"b": "c"}\n', ["a", "b", "c"]),
        (b"\x89PNG\r\n", []),
        (b"a\x00b", []),
        (b'\xef\xbb\xbf{"a": "\\u0062"}', ["a", "b"]),
        (b'{"a": "\\u0062"}\nbroken {\n{"c": 1\n{"d": 2}', ["a", "b", 'broken {\n{"c": 1\n', "d"]),
        (b'#\r\n{"a": "\\u0062"}', ["#\r\n", "a", "b"]),
        (b"caf\xe9 noir", ["caf\udce9 noir"]),
        (b"a long text with\x00 one", ["a long text with\x00 one"]),
        (b'{"a": "b \xe9 and more"}', ['{"a": "b \udce9 and more"}']),
        ("ä{".encode("utf-16"), ["\ufeffä{"]),
        ("a text".encode("utf-16-le"), ["a text"]),
        ("a text".encode("utf-16-be"), ["a text"]),
        (b"\x01\x00\x02\x00\x03\x00", []),
        (b"\xff\xfe\x00\xd8", []),
    ],
)
def test_bodies_that_are_no_json(raw: bytes, texts: list[str]) -> None:
    assert [each.text for each in read_texts(raw, "", EVERYWHERE).texts] == texts


@pytest.mark.parametrize("charset", ["latin-1", "utf-8", "utf-16", "utf-16-be"])
def test_a_text_in_any_charset_keeps_its_other_bytes(charset: str) -> None:
    text = "Der Schlüssel ist geheim, größer als alles."
    body = read_texts(text.encode(charset), "text/plain", EVERYWHERE)
    (found,) = body.texts
    at = found.text.index("geheim")

    changed = body.written({found: [Replacement(at, at + 6, "NAME_x")]})

    assert changed.decode(charset) == text.replace("geheim", "NAME_x")


def test_a_file_that_is_no_text_is_a_medium() -> None:
    (media,) = read_texts(b"\x89PNG\r\n", "image/png; x=y", EVERYWHERE).media()

    assert (media.media_type, media.size) == ("image/png", 6)


def test_a_form_that_cannot_be_read_is_refused() -> None:
    with pytest.raises(BadRequest, match="the form cannot be read"):
        read_texts(b"--b", "multipart/form-data; boundary=c", EVERYWHERE)


def test_replacing_nothing_gives_the_same_object() -> None:
    raw = b"{}"

    assert replaced(raw, []) is raw
