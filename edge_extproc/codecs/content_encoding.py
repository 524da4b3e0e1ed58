"""Compressed bodies, decoded as they come. We ask providers for none, but some send them all the same.

What comes out is bounded: a few KiB of a compression bomb would otherwise fill the memory.
"""

from __future__ import annotations

import zlib

from ..errors import UpstreamError

# The default of the gateway's response body limit. A reply of a model is far below it.
MAX_DECODED = 32 * 1024 * 1024

# zlib's window bits: 16 + 15 reads gzip, 15 reads zlib. Some servers send raw deflate as "deflate"; that is refused.
_WINDOW_BITS = {"gzip": 31, "x-gzip": 31, "deflate": 15}


class Inflater:
    """Decodes one body. Raises UpstreamError where the bytes are damaged or grow over the bound."""

    def __init__(self, window_bits: int, limit: int = MAX_DECODED) -> None:
        self._decoder = zlib.decompressobj(window_bits)
        self._left = limit

    @classmethod
    def of(cls, encoding: str | None, limit: int = MAX_DECODED) -> Inflater | None:
        """None where there is nothing to decode. Raises UpstreamError for an encoding that we cannot read."""
        name = (encoding or "identity").strip().lower()
        if name == "identity":
            return None
        bits = _WINDOW_BITS.get(name)
        if bits is None:
            raise UpstreamError(f"the provider sent content-encoding {name!r}, which was not asked for")
        return cls(bits, limit)

    def feed(self, data: bytes) -> bytes:
        """What these bytes complete."""
        try:
            out = self._decoder.decompress(data, self._left + 1)
        except zlib.error as error:
            raise UpstreamError("the provider sent a damaged compressed body") from error
        self._left -= len(out)
        if self._left < 0:
            raise UpstreamError("the provider's compressed body is over the limit")
        return out


def inflate(encoding: str | None, body: bytes, limit: int = MAX_DECODED) -> bytes:
    """A whole body, decoded."""
    inflater = Inflater.of(encoding, limit)
    return body if inflater is None else inflater.feed(body)
