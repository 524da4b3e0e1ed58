"""An entry as bytes for a store that others share, and back. Pure.

    magic "edge" | version, 1 byte | flags, 1 byte (1: the rest is compressed by zlib) | msgpack

The rest holds the digest of its key: what lies under a wrong name, or came in answer to another question, is not taken
for an answer. Whatever is not exactly this is `UnreadableEntry`, never a guess.
"""

from __future__ import annotations

import zlib
from decimal import Decimal, InvalidOperation

import msgspec

from ..model.usage import Usage
from .base import CacheEntry

MAGIC = b"edge"
# To be raised with every change of what lies below: an older or newer one is a miss.
VERSION = 1
_COMPRESSED = 1
_HEAD = len(MAGIC) + 2

# Nobody keeps a longer reply; a store that says otherwise shall not fill our memory.
MOST_BYTES = 256 << 20


class UnreadableEntry(ValueError):
    """`why` is one of few words: garbage, version, other."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


class _Stored(msgspec.Struct, array_like=True, frozen=True):
    digest: bytes
    dialect: str
    body: bytes
    provider: str
    model: str
    stored_at: float
    finish: str | None
    usage: tuple[int, int, int, int, int, int, int, int] | None
    cost: str | None
    dropped: tuple[str, ...]
    ttl: float | None
    stale: float = 0.0
    """Not there in what an older one has written; passed over by an older one that reads."""


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Stored).decode


def pack(digest: bytes, entry: CacheEntry, compress_above: int) -> bytes:
    """Raises ValueError where the entry holds what cannot be written (a count over 64 bits)."""
    usage = entry.usage
    counts = (
        (
            usage.input,
            usage.cache_read,
            usage.cache_write,
            usage.cache_write_1h,
            usage.output,
            usage.reasoning,
            usage.input_audio,
            usage.output_audio,
        )
        if usage is not None
        else None
    )
    try:
        rest = _encode(
            _Stored(
                digest,
                entry.dialect,
                entry.body,
                entry.provider,
                entry.model,
                entry.stored_at,
                entry.finish,
                counts,
                str(entry.cost) if entry.cost is not None else None,
                entry.dropped,
                entry.ttl,
                entry.stale,
            )
        )
    except (OverflowError, UnicodeEncodeError) as error:
        raise ValueError(str(error)) from error
    if len(rest) > compress_above:
        # Level 1: JSON text shrinks to a third at a tenth of the time of the best level.
        return MAGIC + bytes((VERSION, _COMPRESSED)) + zlib.compress(rest, 1)
    return MAGIC + bytes((VERSION, 0)) + rest


def unpack(digest: bytes, packed: bytes) -> CacheEntry:
    """Raises Unreadable."""
    if len(packed) < _HEAD or not packed.startswith(MAGIC):
        raise UnreadableEntry("garbage")
    if packed[len(MAGIC)] != VERSION:
        raise UnreadableEntry("version")
    rest = packed[_HEAD:]
    try:
        if packed[_HEAD - 1] & _COMPRESSED:
            rest = _inflated(rest)
        found = _decode(rest)
        cost = Decimal(found.cost) if found.cost is not None else None
    except (msgspec.MsgspecError, zlib.error, InvalidOperation, ValueError) as error:
        raise UnreadableEntry("garbage") from error
    if found.digest != digest:
        raise UnreadableEntry("other")
    return CacheEntry(
        found.dialect,
        found.body,
        found.provider,
        found.model,
        found.stored_at,
        found.finish,
        Usage(*found.usage) if found.usage is not None else None,
        cost,
        found.dropped,
        found.ttl,
        found.stale,
    )


def _inflated(data: bytes) -> bytes:
    inflating = zlib.decompressobj()
    found = inflating.decompress(data, MOST_BYTES)
    if not inflating.eof or inflating.unused_data:
        raise UnreadableEntry("garbage")
    return found
