"""Header blocks: as hpack reads them, its own and those of peers that get them wrong."""

from __future__ import annotations

import pytest
from hpack import Decoder as Oracle
from hpack import Encoder, HPACKError
from hypothesis import given
from hypothesis import strategies as st

from edge_extproc.server.http2.header_blocks import BadBlock, HeaderDecoder, TooManyHeaders

NAMES = st.sampled_from([b":path", b":method", b"te", b"content-type", b"x-edge-role", b"cookie"]) | st.binary(
    max_size=300
)
VALUES = st.sampled_from([b"", b"POST", b"trailers", b"application/grpc"]) | st.binary(max_size=300)
LISTS = st.lists(st.tuples(NAMES, VALUES), max_size=12)


@given(st.lists(st.tuples(LISTS, st.booleans(), st.none() | st.integers(0, 4_096)), max_size=8))
def test_blocks_of_one_connection_are_read_as_they_were_written(
    blocks: list[tuple[list[tuple[bytes, bytes]], bool, int | None]],
) -> None:
    encoder, decoder = Encoder(), HeaderDecoder(1_000_000)
    for fields, huffman, table in blocks:
        if table is not None:
            encoder.header_table_size = table
        block = encoder.encode(fields, huffman=huffman)

        assert decoder.decode(block) == fields


@given(st.lists(st.binary(max_size=60), max_size=6))
def test_noise_is_read_or_refused_as_hpack_does(blocks: list[bytes]) -> None:
    decoder, oracle = HeaderDecoder(65_536), Oracle(65_536)
    for block in blocks:
        try:
            expected = [(bytes(name), bytes(value)) for name, value in oracle.decode(block, raw=True)]
        except HPACKError:
            with pytest.raises(BadBlock):
                decoder.decode(block)
            return
        assert decoder.decode(block) == expected


@pytest.mark.parametrize(
    "block",
    [
        b"\x80",  # entry 0
        b"\xbe",  # the first dynamic entry, where there is none
        b"\x40\x03ab",  # a name that is cut
        b"\x7f",  # a number that is cut
        b"\x7f\xff\xff\xff\xff\xff\x01",  # a number that is too large
        b"\x82\x20",  # the table's size after a header
        b"\x3f\xe2\x1f",  # a table of 4,097 bytes
        b"\x00\x81\x00\x00",  # Huffman coding, padded with zeros
    ],
)
def test_what_is_no_block_is_refused(block: bytes) -> None:
    with pytest.raises(BadBlock):
        HeaderDecoder(65_536).decode(block)


def test_headers_that_unpack_to_too_much_are_refused() -> None:
    encoder = Encoder()
    block = encoder.encode([(b"x", b"y" * 3_000)]) + b"\xbe" * 30

    with pytest.raises(TooManyHeaders):
        HeaderDecoder(65_536).decode(block)


def test_an_entry_larger_than_the_table_empties_it() -> None:
    decoder = HeaderDecoder(65_536)
    decoder.decode(Encoder().encode([(b"a", b"b")]))
    assert decoder.decode(b"\xbe") == [(b"a", b"b")]
    decoder.decode(b"\x40\x01c" + b"\x7f\xff\x26" + b"d" * 5_118)

    with pytest.raises(BadBlock):
        decoder.decode(b"\xbe")
