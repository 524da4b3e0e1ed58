"""An HPACK decoder (RFC 7541), optimized for a peer that sends similar headers thousands of times a second.

hpack's own decoder makes about ten calls and log lines for each header. This one decodes the same representations in
one loop and caches decoded Huffman strings. The tables are hpack's, and its tests compare both decoders.
"""

from __future__ import annotations

from collections import deque
from functools import lru_cache
from typing import Final, TypeAlias

from hpack.huffman_table import HUFFMAN_COMPLETE, HUFFMAN_EMIT_SYMBOL, HUFFMAN_FAIL, HUFFMAN_TABLE
from hpack.table import HeaderTable

Fields: TypeAlias = "list[tuple[bytes, bytes]]"

_STATIC: Final = ((b"", b""), *HeaderTable.STATIC_TABLE)
_FIRST_DYNAMIC: Final = len(_STATIC)
_OVERHEAD: Final = 32
"""Bytes that each table entry counts in addition to its text (section 4.1)."""
_TABLE: Final = 4_096
"""Bytes of the dynamic table. This is the default, which the server does not change."""
_MEMORABLE: Final = 256
"""Bytes of the longest string that is cached: long strings are rarely repeated."""


class BadBlock(Exception):
    """The block cannot be decoded, and neither can later blocks."""


class TooManyHeaders(BadBlock):
    """The decoded headers are larger than permitted."""


class HeaderDecoder:
    """The decoder of one connection. `max_list`: the maximum bytes of one block's headers, counted like table
    entries."""

    def __init__(self, max_list: int) -> None:
        self._max_list = max_list
        self._entries: deque[tuple[bytes, bytes]] = deque()
        """The newest entry is last."""
        self._size = 0
        self._max_size = _TABLE

    def decode(self, block: bytes) -> Fields:
        """The headers in their order. Raises BadBlock."""
        fields: Fields = []
        at, end, size = 0, len(block), 0
        try:
            while at < end:
                byte = block[at]
                if byte & 0x80:
                    index, at = _integer(block, at, 0x7F)
                    field = self._field(index)
                elif byte & 0x40:
                    index, at = _integer(block, at, 0x3F)
                    field, at = self._literal(block, at, index)
                    self._add(field)
                elif byte & 0x20:
                    if fields:
                        raise BadBlock("a change of the table's size after headers")
                    size, at = _integer(block, at, 0x1F)
                    if size > _TABLE:
                        raise BadBlock("a table larger than permitted")
                    self._max_size = size
                    self._evict()
                    continue
                else:
                    index, at = _integer(block, at, 0x0F)
                    field, at = self._literal(block, at, index)
                size += len(field[0]) + len(field[1]) + _OVERHEAD
                if size > self._max_list:
                    raise TooManyHeaders(f"more than {self._max_list} bytes of headers")
                fields.append(field)
        except IndexError:
            raise BadBlock("the block ends within a header") from None
        return fields

    def _field(self, index: int) -> tuple[bytes, bytes]:
        if 0 < index < _FIRST_DYNAMIC:
            return _STATIC[index]
        back = index - _FIRST_DYNAMIC + 1
        if not 0 < back <= len(self._entries):
            raise BadBlock(f"no entry {index}")
        return self._entries[-back]

    def _literal(self, block: bytes, at: int, index: int) -> tuple[tuple[bytes, bytes], int]:
        if index:
            name = self._field(index)[0]
        else:
            name, at = _string(block, at)
        value, at = _string(block, at)
        return (name, value), at

    def _add(self, field: tuple[bytes, bytes]) -> None:
        # An entry that is larger than the table empties it (section 4.4).
        self._entries.append(field)
        self._size += len(field[0]) + len(field[1]) + _OVERHEAD
        if self._size > self._max_size:
            self._evict()

    def _evict(self) -> None:
        while self._size > self._max_size:
            name, value = self._entries.popleft()
            self._size -= len(name) + len(value) + _OVERHEAD


def _integer(block: bytes, at: int, mask: int) -> tuple[int, int]:
    """An integer whose prefix has the bits of `mask` (section 5.1), and the position after it."""
    value = block[at] & mask
    at += 1
    if value < mask:
        return value, at
    shift = 0
    while True:
        byte = block[at]
        at += 1
        value += (byte & 0x7F) << shift
        if not byte & 0x80:
            return value, at
        shift += 7
        if shift > 28:
            raise BadBlock("a number of more than 32 bits")


def _string(block: bytes, at: int) -> tuple[bytes, int]:
    packed = block[at] & 0x80
    size, at = _integer(block, at, 0x7F)
    end = at + size
    if end > len(block):
        raise BadBlock("the block ends within a string")
    text = block[at:end]
    if packed:
        text = _unpacked(text) if size <= _MEMORABLE else _undone(text)
    return text, end


def _undone(text: bytes) -> bytes:
    """The decoded Huffman string (section 5.2), decoded by bytes; hpack's table has half bytes."""
    state, complete, parts = 0, True, []
    for byte in text:
        step = _STEPS[state << 8 | byte]
        if step is None:
            step = _step(state, byte)
        state, complete, symbols = step
        parts.append(symbols)
    if not complete:
        raise BadBlock("a string that ends within a symbol")
    return b"".join(parts)


_Step: TypeAlias = "tuple[int, bool, bytes]"
_STEPS: list[_Step | None] = [None] * (1 << 16)
"""The transitions of the Huffman decoder, filled when they occur. The index is the state (upper bits) and a byte (lower
8 bits). The value is the next state, whether the string may end there, and the decoded symbols."""


def _step(state: int, byte: int) -> _Step:
    at, flags, symbols = state, 0, b""
    for half in (byte >> 4, byte & 0x0F):
        at, flags, symbol = HUFFMAN_TABLE[at * 16 + half]
        if flags & HUFFMAN_FAIL:
            raise BadBlock("a string with a symbol that there is not")
        if flags & HUFFMAN_EMIT_SYMBOL:
            symbols += bytes((symbol,))
    step = _STEPS[state << 8 | byte] = (at, bool(flags & HUFFMAN_COMPLETE), symbols)
    return step


_unpacked = lru_cache(maxsize=4_096)(_undone)
