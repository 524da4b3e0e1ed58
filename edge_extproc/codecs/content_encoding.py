"""Decodes compressed response bodies in a stream. The gateway requests no compression, but some providers compress
anyway.

The decoded size is bounded: a few KiB of a decompression bomb would otherwise fill the memory.
"""

from __future__ import annotations

import zlib

from ..errors import UpstreamError

# Bytes. It equals the default limit of response bodies. A reply of a model is far smaller.
MAX_DECODED = 32 * 1024 * 1024

# zlib's window bits: 16 + 15 decodes gzip, 15 decodes zlib. Raw deflate, which some servers send as "deflate", is
# refused.
_WINDOW_BITS = {"gzip": 31, "x-gzip": 31, "deflate": 15}


class Inflater:
    """Decodes one body. Raises UpstreamError if the bytes are damaged or exceed the limit."""

    def __init__(self, window_bits: int, limit: int = MAX_DECODED) -> None:
        self._decoder = zlib.decompressobj(window_bits)
        self._remaining = limit

    @classmethod
    def of(cls, encoding: str | None, limit: int = MAX_DECODED) -> Inflater | None:
        """A decoder for a content-encoding, or None if nothing is to be decoded. Raises UpstreamError for an unknown
        encoding."""
        if not encoding:
            return None
        name = encoding.strip().lower()
        if name == "identity":
            return None
        bits = _WINDOW_BITS.get(name)
        if bits is None:
            raise UpstreamError(f"the provider sent content-encoding {name!r}, which was not requested")
        return cls(bits, limit)

    @property
    def ended(self) -> bool:
        """Whether the compressed data has ended. Bytes after its end are not decoded."""
        return self._decoder.eof

    @property
    def has_surplus(self) -> bool:
        """Whether bytes came after the end of the compressed data."""
        return bool(self._decoder.unused_data)

    def feed(self, data: bytes) -> bytes:
        """The decoded bytes of `data`."""
        try:
            out = self._decoder.decompress(data, self._remaining + 1)
        except zlib.error as error:
            raise UpstreamError("the provider sent a damaged compressed body") from error
        self._remaining -= len(out)
        if self._remaining < 0:
            raise UpstreamError("the provider's compressed body is over the limit")
        return out


def inflate(encoding: str | None, body: bytes, limit: int = MAX_DECODED) -> bytes:
    """A whole body, decoded."""
    inflater = Inflater.of(encoding, limit)
    return body if inflater is None else inflater.feed(body)
