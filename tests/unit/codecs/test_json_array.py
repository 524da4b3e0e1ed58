"""A streamed JSON array, cut anywhere."""

from __future__ import annotations

import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_extproc.codecs import json_array
from edge_extproc.codecs.frame import Frame
from edge_extproc.codecs.json_array import JsonArrayDecoder
from edge_extproc.errors import UpstreamError

WIRE = (
    b' [{"text": "a } \\" ] b", "deep": [{"x": [1, "[{"]}]}\n,\r\n'
    b'{"text": "\\\\", "z": "\xc3\xa9\xe2\x80\xa8"},\n{"y": "\\\\\\""}\n]\n'
)


def frames(*portions: bytes) -> list[Frame]:
    decoder = JsonArrayDecoder()
    return [frame for portion in portions for frame in decoder.feed(portion)] + decoder.close()


def cut(wire: bytes, at: list[int]) -> list[bytes]:
    marks = [0, *sorted(at), len(wire)]
    return [wire[begin:end] for begin, end in itertools.pairwise(marks)]


def test_each_object_is_a_frame_and_so_is_the_end() -> None:
    found = [frame.data for frame in frames(WIRE)]

    assert [json.loads(data) for data in found if data] == json.loads(WIRE)
    assert found[3:] == [b"", b""]


def test_the_frames_joined_are_the_stream() -> None:
    assert b"".join(frame.raw for frame in frames(WIRE)) == WIRE


@given(st.lists(st.integers(0, len(WIRE)), max_size=8))
def test_portions_do_not_matter(at: list[int]) -> None:
    assert frames(*cut(WIRE, at)) == frames(WIRE)


def test_single_bytes_are_enough() -> None:
    assert frames(*(bytes([byte]) for byte in WIRE)) == frames(WIRE)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)


@given(st.lists(st.dictionaries(st.text(max_size=4), JSON, max_size=3), max_size=4), st.data())
def test_what_was_written_is_read_again(values: list[object], data: st.DataObject) -> None:
    encoded = [json.dumps(value, ensure_ascii=False).encode() for value in values]
    wire = b"".join(json_array.encode(each, first=number == 0) for number, each in enumerate(encoded))
    wire += json_array.end(empty=not encoded)

    at = data.draw(st.lists(st.integers(0, len(wire)), max_size=5))

    assert json.loads(wire) == values
    assert [frame.data for frame in frames(*cut(wire, at)) if frame.data] == encoded


@given(st.lists(st.sampled_from([b"[", b"]", b"{", b"}", b",", b'"', b"\\", b" ", b"a"]), max_size=20), st.data())
def test_broken_bytes_are_refused_at_the_same_place_however_cut(pieces: list[bytes], data: st.DataObject) -> None:
    wire = b"".join(pieces)
    at = data.draw(st.lists(st.integers(0, len(wire)), max_size=5))

    def outcome(portions: list[bytes]) -> object:
        try:
            return frames(*portions)
        except UpstreamError as error:
            return error.message

    assert outcome(cut(wire, at)) == outcome([wire])


@pytest.mark.parametrize("wire", [b"x", b"{}", b"[1]", b"[{},]", b"[{} {}]", b"[,{}]", b"[]x", b"[{}]]", b"[[]]"])
def test_what_is_no_array_of_objects_is_refused(wire: bytes) -> None:
    with pytest.raises(UpstreamError, match="not a JSON array of objects"):
        frames(wire)


def test_a_torn_object_has_no_data() -> None:
    decoder = JsonArrayDecoder()
    decoder.feed(b'[{"a": 1}, {"b"')

    rest = decoder.close()

    assert rest == [Frame(b"", b', {"b"')]
    assert not decoder.is_whole


def test_the_end_is_known() -> None:
    decoder = JsonArrayDecoder()
    decoder.feed(b"[{}]")

    assert decoder.is_whole
    assert decoder.close() == []


@pytest.mark.parametrize("wire", [b'[{"a": "0123456789', b'[{"a": "0123456789"}]', b"[" + b" " * 20])
def test_an_object_over_the_limit_is_refused(wire: bytes) -> None:
    with pytest.raises(UpstreamError, match="more than 16 bytes"):
        JsonArrayDecoder(limit=16).feed(wire)


def test_many_objects_in_one_portion_may_be_longer_than_one_may() -> None:
    found = JsonArrayDecoder(limit=16).feed(b"[" + b",".join([b'{"a":1}'] * 100) + b"]")

    assert len(found) == 101
