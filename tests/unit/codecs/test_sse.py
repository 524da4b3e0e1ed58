"""Server-sent events: any cut gives the same frames, no byte is lost, and an independent reading agrees."""

from __future__ import annotations

import itertools
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_extproc.codecs.frame import Frame
from edge_extproc.codecs.sse import SseDecoder, comment, encode, is_stream
from edge_extproc.errors import UpstreamError

PIECES = st.sampled_from(
    [b"data: a", b"data:b", b"data:  c", b"data", b"event: e", b"event:f", b"id: 1", b": hello", b":", b"dat", b"x" * 9]
    + [b"data: \xe2\x80\xa8 \xc2\x85 \x0b\x0c\x1c", b"\xef\xbb\xbf", b'data: {"a": 1}', b"retry: 5", b"eventual: z"]
    + [b"\n", b"\r", b"\r\n", b"\n\n", b"\r\n\r\n", b"\r\r", b"\n\r", b"\n\n\n"] * 2
)
STREAMS = st.lists(PIECES, max_size=24).map(b"".join)
CUTS = st.lists(st.integers(0, 200), max_size=8)


def decode(*portions: bytes) -> list[Frame]:
    decoder = SseDecoder()
    return [frame for portion in portions for frame in decoder.feed(portion)] + decoder.close()


def cut(wire: bytes, cuts: list[int]) -> list[bytes]:
    edges = [0, *sorted(min(c, len(wire)) for c in cuts), len(wire)]
    return [wire[a:b] for a, b in itertools.pairwise(edges)]


def events(frames: list[Frame]) -> list[tuple[str, bytes]]:
    return [(frame.event, frame.data) for frame in frames if frame.data or frame.event]


def oracle(wire: bytes) -> list[tuple[str, bytes]]:
    """The standard's algorithm, one character at a time; an unfinished last event counts. No event without data."""
    text = wire.decode("utf-8", "surrogateescape").removeprefix("\ufeff")
    lines, line, i = [], "", 0
    while i < len(text):
        if text[i] in "\r\n":
            lines.append(line)
            line = ""
            i += 2 if text[i : i + 2] == "\r\n" else 1
        else:
            line += text[i]
            i += 1
    lines += [line, ""]
    found, name, data = [], "", None
    for line in lines:
        if line == "":
            if data is not None:
                found.append((name, data.encode("utf-8", "surrogateescape")))
            name, data = "", None
        elif not line.startswith(":"):
            field, colon, value = line.partition(":")
            value = value[1:] if colon and value.startswith(" ") else value
            if field == "event":
                name = value
            elif field == "data":
                data = value if data is None else data + "\n" + value
    return [(event, body) for event, body in found if event or body]


@given(STREAMS, CUTS)
def test_portions_do_not_matter(wire: bytes, cuts: list[int]) -> None:
    assert decode(wire) == decode(*cut(wire, cuts))


@given(STREAMS)
def test_one_byte_at_a_time_gives_the_same_frames(wire: bytes) -> None:
    assert decode(wire) == decode(*(wire[i : i + 1] for i in range(len(wire))))


@given(STREAMS, CUTS)
def test_every_byte_comes_out_again_in_order(wire: bytes, cuts: list[int]) -> None:
    assert wire == b"".join(frame.raw for frame in decode(*cut(wire, cuts)))


@given(STREAMS)
def test_an_independent_reading_of_the_standard_agrees(wire: bytes) -> None:
    assert oracle(wire) == events(decode(wire))


@given(st.lists(st.tuples(st.sampled_from(["", "ping", "message_start"]), st.binary(min_size=1)), max_size=6), CUTS)
def test_what_is_encoded_is_decoded(sent: list[tuple[str, bytes]], cuts: list[int]) -> None:
    wire = b"".join(encode(data, event) for event, data in sent)

    normal = [(event, data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")) for event, data in sent]
    assert normal == [(frame.event, frame.data) for frame in decode(*cut(wire, cuts))]


def test_lines_end_at_cr_lf_and_crlf_only() -> None:
    text = "\u2028\u2029\x85\x0b\x0c\x1c\x1d\x1e".encode()

    assert [Frame(text, b"data: " + text + b"\n\n")] == decode(b"data: " + text + b"\n\n")


def test_a_comment_block_is_a_frame_of_its_own_at_once() -> None:
    assert [Frame(b"", b": PROCESSING\n\n")] == SseDecoder().feed(comment(b"PROCESSING") + b"data: x")


def test_a_comment_within_an_event_stays_in_its_raw_bytes() -> None:
    wire = b": hi\nid: 7\ndata: x\n\n"

    assert [Frame(b"x", wire)] == decode(wire)


def test_an_event_without_data_is_no_event() -> None:
    assert [Frame(b"", b"event: ping\n\n")] == decode(b"event: ping\n\n")


def test_a_bom_is_not_part_of_the_first_field() -> None:
    wire = b"\xef\xbb\xbfdata: x\n\ndata: y\n\n"

    assert [Frame(b"x", wire[:12]), Frame(b"y", wire[12:])] == decode(*(wire[i : i + 1] for i in range(len(wire))))


def test_a_crlf_cut_in_two_ends_one_line() -> None:
    decoder = SseDecoder()

    assert [] == decoder.feed(b"data: x\r\n\r")
    assert [Frame(b"x", b"data: x\r\n\r\n")] == decoder.feed(b"\ndata: y\r")
    assert [Frame(b"y", b"data: y\r")] == decoder.close()


def test_the_last_event_needs_no_blank_line() -> None:
    assert [Frame(b"[DONE]", b"data: [DONE]")] == decode(b"data: [DONE]")


def test_nothing_is_left_after_the_close() -> None:
    decoder = SseDecoder()
    decoder.feed(b"data: x")
    decoder.close()

    assert [] == decoder.close()
    assert [Frame(b"y", b"data: y\n\n")] == decoder.feed(b"data: y\n\n")


@pytest.mark.parametrize("data", [b"data: " + b"x" * 60 + b"\n\n", b"data: " + b"x" * 60, b"\n" * 9 + b"x" * 65])
def test_an_event_over_the_limit_is_the_providers_fault(data: bytes) -> None:
    with pytest.raises(UpstreamError, match="more than 64 bytes"):
        SseDecoder(limit=64).feed(data)


def test_the_limit_holds_for_an_event_that_comes_in_many_portions() -> None:
    decoder = SseDecoder(limit=64)
    for _ in range(8):
        decoder.feed(b"x" * 8)

    with pytest.raises(UpstreamError, match="more than 64 bytes"):
        decoder.feed(b"x")


def test_many_events_may_exceed_the_limit_of_one() -> None:
    assert 100 == len(SseDecoder(limit=64).feed(encode(b"x" * 50) * 100))


class Counted(bytearray):
    """Pending bytes that count how many of them were searched."""

    searched = 0

    def find(self, sub: object, start: int = 0, end: object = None) -> int:  # type: ignore[override] # only what is used
        self.searched += len(self) - start
        return super().find(sub, start)  # type: ignore[arg-type] # as above


def test_feeding_bytewise_never_rescans_the_past() -> None:
    decoder = SseDecoder()
    pending = decoder._pending = Counted()
    for _ in range(100_000):
        decoder.feed(b"x")

    assert pending.searched <= 5 * 100_000


def test_memory_stays_flat_over_a_long_stream() -> None:
    decoder = SseDecoder()
    wire = encode(b"x" * 1000) * 10
    tracemalloc.start()
    for _ in range(500):
        decoder.feed(wire + b"data: to be")
        decoder.feed(b" continued\n\n")
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert size < 100_000


@pytest.mark.parametrize(
    ("begin", "expected"),
    [
        (b"data: {}", True),
        (b"event: x", True),
        (b": ping", True),
        (b"\n\n: ping", True),
        (b"\xef\xbb\xbfdata:", True),
        (b"", None),
        (b"\n", None),
        (b"da", None),
        (b"dat{", False),
        (b'{"a":1}', False),
        (b"<html>", False),
    ],
)
def test_a_stream_is_known_by_its_first_bytes(begin: bytes, expected: bool | None) -> None:
    assert expected is is_stream(begin)
