"""Entries as bytes: what comes back, and what is not taken for one."""

import contextlib
from dataclasses import replace
from decimal import Decimal

import hypothesis.strategies as st
import msgspec
import pytest
from hypothesis import given

from edge_extproc.cache import packing
from edge_extproc.cache.base import CacheEntry
from edge_extproc.cache.packing import UnreadableEntry, pack, unpack
from edge_extproc.model.usage import MOST_TOKENS, Usage

DIGEST = b"d" * 32
counts = st.integers(0, MOST_TOKENS)
entries = st.builds(
    CacheEntry,
    dialect=st.text(max_size=9),
    body=st.binary(max_size=3000),
    provider=st.text(alphabet="abc", max_size=9),
    model=st.text(alphabet="ü-1", max_size=9),
    stored_at=st.floats(0, 4e9),
    finish=st.none() | st.sampled_from(["stop"]),
    usage=st.none() | st.builds(Usage, counts, counts, counts, counts, counts, counts, counts, counts),
    cost=st.none() | st.decimals(0, 1000, places=9),
    dropped=st.lists(st.text(max_size=5), max_size=3).map(tuple),
    ttl=st.none() | st.floats(1, 1e6),
)


@given(entries, st.sampled_from([0, 100, 10_000]))
def test_what_is_packed_comes_back(entry, compress_above):
    assert entry == unpack(DIGEST, pack(DIGEST, entry, compress_above))


def test_a_large_one_is_compressed():
    entry = CacheEntry("openai_chat", b"word " * 10_000, "openai", "m", 1.0)

    assert len(pack(DIGEST, entry, 1 << 20)) > 50_000
    assert len(pack(DIGEST, entry, 8192)) < 5_000


@given(entries, st.sampled_from([0, 10_000]), st.data())
def test_what_was_cut_or_changed_never_raises_anything_else(entry, compress_above, data):
    packed = bytearray(pack(DIGEST, entry, compress_above))
    if data.draw(st.booleans()):
        packed = packed[: data.draw(st.integers(0, len(packed) - 1))]
    else:
        at = data.draw(st.integers(0, len(packed) - 1))
        packed[at] ^= data.draw(st.integers(1, 255))
    with contextlib.suppress(UnreadableEntry):
        unpack(DIGEST, bytes(packed))


@given(st.binary(max_size=200))
def test_garbage_is_unreadable(data):
    for each in (data, packing.MAGIC + data, packing.MAGIC + bytes((packing.VERSION, 1)) + data):
        with pytest.raises(UnreadableEntry):
            unpack(DIGEST, each)


def test_another_version_and_the_entry_of_another_key_are_unreadable():
    packed = pack(DIGEST, CacheEntry("openai_chat", b"{}", "openai", "m", 1.0, cost=Decimal("0.1")), 100)
    older = packed[:4] + bytes((packing.VERSION - 1,)) + packed[5:]

    for digest, value, why in ((DIGEST, older, "version"), (b"e" * 32, packed, "other")):
        with pytest.raises(UnreadableEntry) as told:
            unpack(digest, value)
        assert why == told.value.why


def test_a_count_that_no_machine_holds_is_not_written():
    with pytest.raises(ValueError, match="int"):
        pack(DIGEST, CacheEntry("openai_chat", b"{}", "openai", "m", 1.0, usage=Usage(input=2**70)), 100)


@pytest.mark.parametrize("usage", [Usage(input=-1), Usage(output=MOST_TOKENS + 1)])
def test_an_implausible_usage_of_an_earlier_version_is_left_out(usage):
    entry = CacheEntry("d", b"{}", "p", "m", 1.0, "stop", usage, Decimal(1), (), None)

    assert unpack(b"k" * 32, pack(b"k" * 32, entry, 1 << 20)) == replace(entry, usage=None)


def test_image_tokens_come_back_and_may_be_absent():
    entry = CacheEntry("d", b"{}", "p", "m", 1.0, "stop", Usage(input=1, input_image=2, output_image=3))
    packed = pack(DIGEST, entry, 1 << 20)
    fields = msgspec.msgpack.decode(packed[packing._HEAD :])
    older = packed[: packing._HEAD] + msgspec.msgpack.encode(fields[:-1])

    assert entry == unpack(DIGEST, packed)
    assert replace(entry, usage=Usage(input=1)) == unpack(DIGEST, older)
