"""Frames of WebSockets in both directions: any cutting gives the same messages, and each keeps its own bytes."""

from __future__ import annotations

import random
import zlib
from contextlib import suppress
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wsproto.extensions import PerMessageDeflate
from wsproto.frame_protocol import FrameProtocol

from edge_extproc.codecs.websocket import (
    PROTOCOL_ERROR,
    TOO_BIG,
    Deflate,
    MessageKind,
    SocketMessage,
    WebSocketFault,
    WebSocketReader,
    encode,
    offered_extensions,
    read_extensions,
)

LARGEST = 100_000


def deflating() -> PerMessageDeflate:
    extension = PerMessageDeflate()
    extension.finalize("permessage-deflate")
    return extension


def sent(*, by_client: bool, compressed: bool) -> bytes:
    """A session of one side: text, a fragmented message with a ping in it, binary, pong, empty text, close."""
    protocol = FrameProtocol(client=by_client, extensions=[deflating()] if compressed else [])
    wire = protocol.send_data('{"type": "session.update", "ä": "€"}')
    wire += protocol.send_data("first ", fin=False)
    wire += protocol.ping(b"here?")
    wire += protocol.send_data("second ", fin=False) + protocol.send_data("third", fin=True)
    wire += protocol.send_data(bytes(range(256)) * 300) + protocol.pong(b"yes")
    wire += protocol.send_data("")
    return bytes(wire + protocol.close(1000, "bye"))


EXPECTED = [
    ("text", '{"type": "session.update", "ä": "€"}'.encode()),
    ("ping", b"here?"),
    ("text", b"first second third"),
    ("binary", bytes(range(256)) * 300),
    ("pong", b"yes"),
    ("text", b""),
    ("close", b"bye"),
]


def read(wire: bytes, cuts: list[int], *, from_client: bool, compressed: bool) -> list[SocketMessage]:
    reader = WebSocketReader(from_client=from_client, largest=LARGEST, deflate=Deflate() if compressed else None)
    ends = [0, *sorted(cut % (len(wire) + 1) for cut in cuts), len(wire)]
    return [message for begin, end in pairwise(ends) for message in reader.feed(wire[begin:end])]


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("by_client", [False, True])
@given(cuts=st.lists(st.integers(0, 1 << 20), max_size=8))
def test_portions_do_not_matter(cuts: list[int], by_client: bool, compressed: bool) -> None:
    wire = sent(by_client=by_client, compressed=compressed)
    messages = read(wire, cuts, from_client=by_client, compressed=compressed)

    assert EXPECTED == [(message.kind, message.payload) for message in messages]
    assert 1000 == messages[-1].code
    assert sorted(wire) == sorted(b"".join(message.wire for message in messages))


@pytest.mark.parametrize("compressed", [False, True])
def test_the_bytes_of_each_message_are_read_alike_again(compressed: bool) -> None:
    wire = sent(by_client=True, compressed=compressed)
    messages = read(wire, [], from_client=True, compressed=compressed)
    again = read(b"".join(m.wire for m in messages), [], from_client=True, compressed=compressed)

    assert messages == again


@pytest.mark.parametrize("cut", range(1, 12))
def test_a_message_byte_by_byte(cut: int) -> None:
    wire = encode("text", b"hello", from_client=True)
    reader = WebSocketReader(from_client=True, largest=LARGEST)
    early = [reader.feed(wire[n : n + 1]) for n in range(min(cut, len(wire) - 1))]

    assert not any(early)
    assert reader.is_within_message


@pytest.mark.parametrize("from_client", [False, True])
@pytest.mark.parametrize("kind", ["text", "binary", "ping", "pong", "close"])
def test_what_is_written_is_read(kind: MessageKind, from_client: bool) -> None:
    reader = WebSocketReader(from_client=from_client, largest=LARGEST)
    (message,) = reader.feed(encode(kind, b"some text", from_client=from_client))

    assert (kind, b"some text") == (message.kind, message.payload)


def test_a_message_without_compression_may_follow_compressed_ones() -> None:
    protocol = FrameProtocol(client=False, extensions=[deflating()])
    wire = bytes(protocol.send_data("a" * 500)) + encode("text", b"plain", from_client=False)
    wire += bytes(protocol.send_data("a" * 500))

    payloads = [m.payload for m in read(wire, [], from_client=False, compressed=True)]

    assert [b"a" * 500, b"plain", b"a" * 500] == payloads


def test_a_sender_may_begin_each_message_with_an_empty_window() -> None:
    extension = PerMessageDeflate(client_no_context_takeover=True)
    extension.finalize("permessage-deflate; client_no_context_takeover")
    protocol = FrameProtocol(client=True, extensions=[extension])
    wire = bytes(protocol.send_data("same text")) + bytes(protocol.send_data("same text"))
    reader = WebSocketReader(from_client=True, largest=LARGEST, deflate=Deflate(resets=True))

    assert [b"same text", b"same text"] == [message.payload for message in reader.feed(wire)]


def test_a_compressed_message_may_end_its_stream() -> None:
    body = zlib.compressobj(wbits=-15)
    payload = body.compress(b"whole") + body.flush(zlib.Z_FINISH)
    frame = bytes([0xC1, len(payload)]) + payload
    reader = WebSocketReader(from_client=False, largest=LARGEST, deflate=Deflate())

    assert [b"whole", b"whole"] == [message.payload for message in reader.feed(frame + frame)]


@pytest.mark.parametrize("compressed", [False, True])
def test_a_message_over_the_limit_is_refused(compressed: bool) -> None:
    protocol = FrameProtocol(client=True, extensions=[deflating()] if compressed else [])
    wire = bytes(protocol.send_data(b"0" * (LARGEST + 1)))

    with pytest.raises(WebSocketFault) as refused:
        read(wire, [], from_client=True, compressed=compressed)
    assert TOO_BIG == refused.value.code


@pytest.mark.parametrize("fragments", [1, 40])
def test_a_compressed_message_over_a_megabyte_has_a_largest_ratio(fragments: int) -> None:
    bomb, ordinary = b"A" * (8 << 20), random.Random(1).randbytes(2 << 20).hex().encode()
    for payload, is_read in ((ordinary, True), (b"A" * (1 << 20), True), (bomb, False)):
        protocol = FrameProtocol(client=True, extensions=[deflating()])
        size = -(-len(payload) // fragments)
        wire = b"".join(
            bytes(protocol.send_data(payload[n * size : (n + 1) * size], fin=n == fragments - 1))
            for n in range(fragments)
        )
        reader = WebSocketReader(from_client=True, largest=32 << 20, deflate=Deflate())
        if is_read:
            (message,) = reader.feed(wire)
            assert payload == message.payload
        else:
            with pytest.raises(WebSocketFault, match="compressed too much"):
                reader.feed(wire)


def test_fragments_over_the_limit_together_are_refused() -> None:
    protocol = FrameProtocol(client=True, extensions=[])
    wire = bytes(protocol.send_data(b"0" * 60_000, fin=False) + protocol.send_data(b"0" * 60_000, fin=True))

    with pytest.raises(WebSocketFault) as refused:
        read(wire, [], from_client=True, compressed=False)
    assert TOO_BIG == refused.value.code


@pytest.mark.parametrize(
    ("wire", "from_client"),
    [
        (b"\x81\x02ok", True),  # a client must mask
        (b"\x81\x82\0\0\0\0ok", False),  # a server must not
        (b"\x83\x02ok", False),  # no such opcode
        (b"\xc1\x02ok", False),  # compressed, though nothing was agreed on
        (b"\x09\x02ok", False),  # a ping in fragments
        (b"\x80\x02ok", False),  # a continuation of nothing
        (b"\x81\x02\xff\xfe", False),  # no UTF-8
        (b"\x88\x02\x03\xed", False),  # 1005 is never sent
    ],
)
def test_bytes_that_break_the_standard_are_refused(wire: bytes, from_client: bool) -> None:
    with pytest.raises(WebSocketFault):
        read(wire, [], from_client=from_client, compressed=False)


@pytest.mark.parametrize("wire", [b"\x81\xff" + (1 << 40).to_bytes(8, "big"), b"\x83\x80\0\0\0\0", b"\x81\x02ok"])
def test_nothing_is_read_or_kept_after_a_fault(wire: bytes) -> None:
    reader = WebSocketReader(from_client=True, largest=LARGEST)
    with pytest.raises(WebSocketFault):
        reader.feed(wire)

    for _ in range(3):
        assert [] == reader.feed(encode("text", b"hello", from_client=True))
    assert not reader.is_within_message


@given(cuts=st.lists(st.integers(0, 1 << 20), max_size=4))
def test_a_fault_comes_after_the_messages_before_it(cuts: list[int]) -> None:
    good = sent(by_client=True, compressed=False)[:400]
    wire = encode("text", b"one", from_client=True) + encode("ping", b"", from_client=True) + b"\x83\x80\0\0\0\0" + good
    reader = WebSocketReader(from_client=True, largest=LARGEST)
    ends = [0, *sorted(cut % (len(wire) + 1) for cut in cuts), len(wire)]
    kinds: list[str] = []
    faults = 0
    for begin, end in pairwise(ends):
        try:
            messages = reader.feed(wire[begin:end])
        except WebSocketFault as fault:
            messages, faults = fault.messages, faults + 1
        kinds += [message.kind for message in messages]

    assert (["text", "ping"], 1) == (kinds, faults)


@given(wire=st.binary(max_size=200), from_client=st.booleans(), compressed=st.booleans())
def test_any_bytes_are_messages_or_refused(wire: bytes, from_client: bool, compressed: bool) -> None:
    with suppress(WebSocketFault):
        messages = read(wire, [], from_client=from_client, compressed=compressed)

        assert len(wire) >= sum(len(message.wire) for message in messages)


def test_the_extension_of_a_response() -> None:
    assert read_extensions(None) is None
    assert (Deflate(), Deflate()) == read_extensions("permessage-deflate; server_max_window_bits=12")
    assert (Deflate(True), Deflate()) == read_extensions("Permessage-Deflate; client_no_context_takeover")
    assert (Deflate(), Deflate(True)) == read_extensions("permessage-deflate; server_no_context_takeover")
    with pytest.raises(WebSocketFault) as refused:
        read_extensions("x-webkit-deflate-frame")
    assert PROTOCOL_ERROR == refused.value.code


def test_the_offer_of_a_request() -> None:
    assert offered_extensions(None) is None
    assert offered_extensions("bbf-usp-protocol") is None
    offer = "permessage-deflate; client_max_window_bits"
    assert offer == offered_extensions(f"x-other, {offer}, permessage-deflate")
