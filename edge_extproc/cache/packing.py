"""Encodes a cache entry as bytes for L2, and decodes it.

    magic "edge" | version, 1 byte | flags, 1 byte (1: the payload is compressed by zlib) | msgpack payload

The payload holds the digest of its key, so that a value under a wrong name is never used. Everything that does not
match this format exactly raises `UnreadableEntry`. This module does no IO.
"""

from __future__ import annotations

import zlib
from decimal import Decimal, InvalidOperation

import msgspec

from ..model.plausible import plausible_or_none
from ..model.usage import Usage
from .base import CacheEntry

MAGIC = b"edge"
# Increase it with every incompatible change of `_StoredEntry`. An entry of another version is a miss.
VERSION = 1
_COMPRESSED = 1
_HEAD = len(MAGIC) + 2

# The most bytes of a decompressed payload: no reply is longer, and a corrupt store must not fill the memory.
MAX_BYTES = 256 << 20


class UnreadableEntry(ValueError):
    """`why`: "garbage" (not this format), "version" (of another version) or "other" (of another key)."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


class _StoredEntry(msgspec.Struct, array_like=True, frozen=True):
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
    # Older gateways do not write these fields, and ignore them when they read.
    stale: float = 0.0
    created: int | None = None
    images: tuple[int, int] = (0, 0)
    """The image tokens of `usage`: of the prompt and of the reply."""


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_StoredEntry).decode


def pack(digest: bytes, entry: CacheEntry, compress_above: int) -> bytes:
    """`digest`: the key's. A payload longer than `compress_above` bytes is compressed. Raises ValueError for an entry
    that cannot be encoded, such as one with a count over 64 bits."""
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
        payload = _encode(
            _StoredEntry(
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
                entry.created,
                (usage.input_image, usage.output_image) if usage is not None else (0, 0),
            )
        )
    except (OverflowError, UnicodeEncodeError) as error:
        raise ValueError(str(error)) from error
    if len(payload) > compress_above:
        # Level 1: JSON shrinks to a third, in a tenth of the time of the best level.
        return MAGIC + bytes((VERSION, _COMPRESSED)) + zlib.compress(payload, 1)
    return MAGIC + bytes((VERSION, 0)) + payload


def unpack(digest: bytes, packed: bytes) -> CacheEntry:
    """Raises UnreadableEntry."""
    if len(packed) < _HEAD or not packed.startswith(MAGIC):
        raise UnreadableEntry("garbage")
    if packed[len(MAGIC)] != VERSION:
        raise UnreadableEntry("version")
    payload = packed[_HEAD:]
    try:
        if packed[_HEAD - 1] & _COMPRESSED:
            payload = _decompress(payload)
        stored = _decode(payload)
        cost = Decimal(stored.cost) if stored.cost is not None else None
    except (msgspec.MsgspecError, zlib.error, InvalidOperation, ValueError) as error:
        raise UnreadableEntry("garbage") from error
    if stored.digest != digest:
        raise UnreadableEntry("other")
    return CacheEntry(
        stored.dialect,
        stored.body,
        stored.provider,
        stored.model,
        stored.stored_at,
        stored.finish,
        # An earlier version may have stored any usage.
        plausible_or_none(Usage(*stored.usage, *stored.images)) if stored.usage is not None else None,
        cost,
        stored.dropped,
        stored.ttl,
        stored.stale,
        stored.created,
    )


def _decompress(data: bytes) -> bytes:
    decompressor = zlib.decompressobj()
    payload = decompressor.decompress(data, MAX_BYTES)
    if not decompressor.eof or decompressor.unused_data:
        raise UnreadableEntry("garbage")
    return payload
