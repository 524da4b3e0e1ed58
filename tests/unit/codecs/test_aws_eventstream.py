import struct
import zlib
from itertools import pairwise

import pytest
from botocore.eventstream import EventStreamBuffer
from hypothesis import given, settings
from hypothesis import strategies as st
from recordings import body, recordings
from thoroughness import examples

from edge_extproc.codecs.aws_eventstream import (
    MAX_FRAME,
    EventStreamDecoder,
    encode,
    event,
    exception,
    read_headers,
    write_headers,
)
from edge_extproc.errors import UpstreamError

NUMBERS = st.integers(-(1 << 63), (1 << 63) - 1)
VALUES = st.one_of(st.booleans(), NUMBERS, st.binary(max_size=40), st.text(max_size=40))
HEADERS = st.dictionaries(st.text(min_size=1, max_size=20), VALUES, max_size=6)
FRAMES = st.lists(st.tuples(st.binary(max_size=200), HEADERS), max_size=6)


def decoded(data, cuts=(), **options):
    decoder = EventStreamDecoder(**options)
    edges = [0, *sorted(cuts), len(data)]
    frames = [f for begin, end in pairwise(edges) for f in decoder.feed(data[begin:end])]
    return frames + decoder.close()


def frame(payload=b"", headers=b"", *, total=None, head=None):
    """A frame with right sums and, where a test says so, wrong lengths."""
    total = 16 + len(headers) + len(payload) if total is None else total
    front = struct.pack(">II", total, len(headers) if head is None else head)
    whole = front + struct.pack(">I", zlib.crc32(front)) + headers + payload
    return whole + struct.pack(">I", zlib.crc32(whole))


def test_an_event_is_framed_as_the_services_do():
    (found,) = decoded(event("messageStart", b'{"role":"assistant"}'))

    assert ("messageStart", b'{"role":"assistant"}', True) == (found.event, found.data, found.is_event)
    expected = {":event-type": "messageStart", ":content-type": "application/json", ":message-type": "event"}
    assert expected == dict(found.headers)


def test_an_exception_is_no_event():
    (found,) = decoded(exception("throttlingException", b'{"message":"slow"}'))

    assert ("throttlingException", False) == (found.event, found.is_event)


def test_the_code_of_an_error_message_is_its_event():
    (found,) = decoded(encode(b"", {":message-type": "error", ":error-code": "500", ":error-message": "no"}))

    assert ("500", False) == (found.event, found.is_event)


@given(HEADERS)
def test_headers_of_every_type_come_back(headers):
    assert headers == read_headers(write_headers(headers))


def test_timestamps_and_uuids_are_read():
    uuid = bytes(range(16))
    block = b"\x01t\x08" + struct.pack(">q", 1_700_000_000_000) + b"\x01u\x09" + uuid

    assert {"t": 1_700_000_000_000, "u": uuid} == read_headers(block)


@given(FRAMES, st.data())
def test_portions_do_not_matter(frames, data):
    wire = b"".join(encode(payload, headers) for payload, headers in frames)
    cuts = data.draw(st.lists(st.integers(0, len(wire)), max_size=8))
    found = decoded(wire, cuts)

    assert decoded(wire) == found
    assert [(payload, headers) for payload, headers in frames] == [(f.data, dict(f.headers)) for f in found]
    assert wire == b"".join(f.raw for f in found)


@given(FRAMES)
def test_botocore_reads_the_same(frames):
    wire = b"".join(encode(payload, headers) for payload, headers in frames)
    buffer = EventStreamBuffer()
    buffer.add_data(wire)

    assert [(m.payload, m.headers) for m in buffer] == [(f.data, dict(f.headers)) for f in decoded(wire)]


@given(st.binary(max_size=60), HEADERS, st.data())
def test_one_changed_byte_is_found(payload, headers, data):
    wire = bytearray(encode(payload, headers))
    at = data.draw(st.integers(0, len(wire) - 1))
    wire[at] ^= data.draw(st.integers(1, 255))

    with pytest.raises(UpstreamError, match=r"damaged|more than"):
        decoded(bytes(wire))


@settings(max_examples=examples(300))
@given(st.binary(max_size=300))
def test_noise_is_frames_or_an_error_and_nothing_else(noise):
    try:
        found = decoded(noise)
    except UpstreamError:
        return

    assert noise == b"".join(f.raw for f in found)


@settings(max_examples=examples(300))
@given(st.binary(max_size=60))
def test_noise_with_right_sums_is_a_frame_or_an_error(noise):
    wire = frame(headers=noise)
    try:
        found = decoded(wire)
    except UpstreamError:
        return

    assert [wire] == [f.raw for f in found]


def test_a_torn_frame_has_no_data():
    wire = event("a", b"{}") + event("b", b"{}")[:-1]
    found = decoded(wire)

    assert [("a", b"{}"), ("", b"")] == [(f.event, f.data) for f in found]
    assert wire == b"".join(f.raw for f in found)


@pytest.mark.parametrize(
    ("wire", "why"),
    [
        (frame(total=15), "shorter than its headers"),
        (frame(head=1), "shorter than its headers"),
        (frame(total=MAX_FRAME + 1), "more than"),
        (frame(head=200_000, total=400_000), "more than"),
        (frame(headers=b"\x00\x00"), "no name"),
        (frame(headers=b"\x01a\x0a"), "no type"),
        (frame(headers=b"\x01a"), "cannot be read"),
        (frame(headers=b"\x01a\x04\x00"), "cannot be read"),
        (frame(headers=b"\x01a\x07\x00\x05ab"), "longer than all"),
        (frame(headers=b"\x01a\x07\x00\x01\xff"), "cannot be read"),
    ],
)
def test_a_frame_whose_parts_do_not_fit_is_damaged(wire, why):
    with pytest.raises(UpstreamError, match=why):
        decoded(wire)


def test_a_frame_over_the_limit_is_refused_before_it_has_come():
    with pytest.raises(UpstreamError, match="more than 100 bytes"):
        decoded(event("a", b"x" * 100)[:12], limit=100)


@pytest.mark.parametrize("headers", [{"": 1}, {"a" * 256: 1}, {"a": 1 << 63}, {"a": b"x" * 32768}])
def test_what_does_not_fit_into_a_header_is_not_written(headers):
    with pytest.raises(ValueError, match="the header"):
        write_headers(headers)


def test_every_recorded_stream_is_read_as_botocore_reads_it_however_it_is_cut():
    for recording in recordings("converse_stream", "invoke_model_stream", status=200):
        wire = body(recording["response"])
        buffer = EventStreamBuffer()
        buffer.add_data(wire)
        found = decoded(wire, range(0, len(wire), 7))

        assert [(m.payload, m.headers) for m in buffer] == [(f.data, dict(f.headers)) for f in found]
        assert wire == b"".join(f.raw for f in found)
