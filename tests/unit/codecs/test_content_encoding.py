import gzip
import zlib
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_extproc.codecs.content_encoding import Inflater, inflate
from edge_extproc.errors import UpstreamError


@pytest.mark.parametrize("encoding", [None, "", "identity", " Identity "])
def test_a_plain_body_needs_no_decoder(encoding):
    assert None is Inflater.of(encoding)
    assert b"x" == inflate(encoding, b"x")


@given(st.binary(max_size=3000), st.lists(st.integers(0, 3000), max_size=5))
def test_portions_do_not_matter(body, cuts):
    packed = gzip.compress(body)
    edges = [0, *sorted(min(c, len(packed)) for c in cuts), len(packed)]
    inflater = Inflater.of("gzip")

    assert body == b"".join(inflater.feed(packed[a:b]) for a, b in pairwise(edges))


def test_deflate_is_read_too():
    assert b"abc" == inflate("deflate", zlib.compress(b"abc"))


def test_an_encoding_that_nobody_asked_for_is_named():
    with pytest.raises(UpstreamError, match="'br'"):
        inflate("br", b"")


def test_damaged_bytes_are_the_providers_fault():
    with pytest.raises(UpstreamError, match="damaged"):
        inflate("gzip", b"not gzip at all")


def test_a_bomb_is_stopped_at_the_limit():
    with pytest.raises(UpstreamError, match="over the limit"):
        inflate("gzip", gzip.compress(b"0" * 100_000), limit=1000)
