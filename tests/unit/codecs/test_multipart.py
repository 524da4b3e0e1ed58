"""Fields of forms: found where every parser finds them, or refused."""

from __future__ import annotations

import contextlib
from email.parser import BytesParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_extproc.codecs.content_type import media_type, parameters
from edge_extproc.codecs.multipart import fields, with_field

TYPE = "multipart/form-data; boundary=X"
NAMES = frozenset({"model", "stream"})


def part(value: bytes, name: str = "model", more: str = "", headers: str = "") -> bytes:
    return f'--X\r\nContent-Disposition: form-data; name="{name}"{more}\r\n{headers}\r\n'.encode() + value + b"\r\n"


def read(body: bytes, content_type: str = TYPE) -> dict[str, bytes]:
    return {name: body[slice(*span)] for name, span in fields(body, content_type, NAMES).items()}


def test_named_fields_are_found_and_others_left_alone() -> None:
    body = (
        part(b"\x00\r\n\r\n\xff", "file", '; filename="a"')
        + part(b"whisper-1")
        + part(b"true", "stream")
        + b"--X--\r\n"
    )

    assert {"model": b"whisper-1", "stream": b"true"} == read(body)


def test_a_value_may_be_empty_and_what_stands_before_the_first_part_is_skipped() -> None:
    assert {"model": b""} == read(b"preamble\r\n" + part(b"") + b"--X--")


def test_names_may_stand_without_quotes_and_headers_in_any_case() -> None:
    body = b"--X  \r\ncontent-DISPOSITION:form-data;name=model\r\nContent-Type: text/plain\r\n\r\nm\r\n--X--"

    assert {"model": b"m"} == read(body)


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (part(b"a") + part(b"b") + b"--X--", "'model' occurs twice"),
        (part(b"a", more='; filename="f"') + b"--X--", "'model' is a file"),
        (part(b"a", more="; name*=UTF-8''stream") + b"--X--", "no valid name"),
        (b"--X\r\nContent-Disposition: form-data\r\n\r\na\r\n--X--", "no valid name"),
        (b"--X\r\nContent-Type: text/plain\r\n\r\na\r\n--X--", "one Content-Disposition"),
        (part(b"a", headers='Content-Disposition: form-data; name="x"\r\n') + b"--X--", "one Content-Disposition"),
        (part(b"a\r\n--Xtra") + b"--X--", "begins with the boundary but is no valid delimiter"),
        (part(b"a"), "begins with the boundary but is no valid delimiter|the last part has no end"),
        (b"no form", "does not contain the boundary"),
        (b"", "does not contain the boundary"),
        (b"--X\r\nContent-Disposition: form-data; name=model\r\n--X--", "a part has no headers"),
        (part(b"a", more="; name=model") + b"--X--", "'name' occurs twice"),
        (part(b"", "f") * 1001 + b"--X--", "more than 1000 parts"),
    ],
)
def test_what_parsers_could_read_differently_is_refused(body: bytes, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        read(body)


@pytest.mark.parametrize(
    "content_type", ["multipart/form-data", "multipart/form-data; boundary=", 'x; boundary="a\r\nb"']
)
def test_a_content_type_must_name_a_boundary(content_type: str) -> None:
    with pytest.raises(ValueError, match="no boundary"):
        read(part(b"a"), content_type)


@given(st.dictionaries(st.sampled_from(["model", "stream", "a", "b"]), st.binary(max_size=40)))
def test_what_is_found_is_what_another_parser_finds(values: dict[str, bytes]) -> None:
    body = (
        b"".join(
            part(value, name, headers="Content-Type: application/octet-stream\r\n") for name, value in values.items()
        )
        + b"--X--\r\n"
    )
    try:
        found = read(body)
    except ValueError:  # a value that looks like the boundary
        assert not values or any(b"--X" in value for value in values.values())
        return
    whole = BytesParser().parsebytes(b"Content-Type: " + TYPE.encode() + b"\r\n\r\n" + body)
    expected = {}
    for each in whole.get_payload():
        name = parameters(each["content-disposition"])["name"]
        if name in NAMES:
            expected[name] = len(values[name])

    assert expected == {name: len(value) for name, value in found.items()}
    assert all(found[name] == values[name] for name in found)


@given(st.binary(max_size=200))
def test_no_bytes_break_it(body: bytes) -> None:
    with contextlib.suppress(ValueError):
        fields(b"--X" + body, TYPE, NAMES)


def test_parameters_are_read_with_their_quotes_and_escapes() -> None:
    assert {"name": 'a"b', "boundary": "x-y"} == parameters(r'form-data; name="a\"b" ;Boundary=x-y')
    assert "text/event-stream" == media_type("Text/Event-Stream; charset=utf-8")


PART = b'--X\r\nContent-Disposition: form-data; name="a"\r\n\r\n'


@pytest.mark.parametrize("body", [PART + b"1\r\n--X--\r\n", b"\r\n" + PART + b"1\r\n--X--", PART + b"\r\n--X--"])
def test_a_field_is_added_or_replaced_and_every_other_byte_is_kept(body: bytes) -> None:
    added = with_field(body, TYPE, "b", b"value")
    replaced = with_field(body, TYPE, "a", b"value")
    (start, stop), (other, _) = (
        fields(added, TYPE, frozenset({"a", "b"}))["b"],
        fields(added, TYPE, frozenset("a"))["a"],
    )

    assert b"value" == added[start:stop]
    assert start < other
    assert len(added) == len(body) + len(added[:other]) - len(body[: fields(body, TYPE, frozenset("a"))["a"][0]])
    assert PART + b"value\r\n--X--" in replaced


def test_a_file_is_no_field_that_can_be_replaced() -> None:
    body = b'--X\r\nContent-Disposition: form-data; name="a"; filename="f"\r\n\r\n1\r\n--X--'

    with pytest.raises(ValueError, match="is a file"):
        with_field(body, TYPE, "a", b"value")
