"""HPACK, the decoder alone (RFC 7541), for a peer that sends much the same headers thousands of times a second.

hpack's own decoder looks at each header through some ten calls and log lines. This one reads the same forms in one
loop and remembers strings whose Huffman coding it has undone; hpack still gives the tables, and is the oracle of
its tests.
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
"""Bytes that an entry counts beside its text (4.1)."""
_TABLE: Final = 4_096
"""Bytes of the dynamic table that a peer may use while nobody has told it otherwise; we do not."""
_MEMORABLE: Final = 256
"""Bytes of the longest string that is remembered: few long ones come again."""


class BadBlock(Exception):
    """The block cannot be decoded, nor any one after it."""


class TooManyHeaders(BadBlock):
    """It unpacks to more than is permitted."""


class HeaderDecoder:
    """Of one connection. `max_list`: the most bytes of one block's headers, counted as table entries are."""

    def __init__(self, max_list: int) -> None:
        self._max_list = max_list
        self._entries: deque[tuple[bytes, bytes]] = deque()
        """The newest last."""
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
                    wanted, at = _integer(block, at, 0x1F)
                    if wanted > _TABLE:
                        raise BadBlock("a table larger than permitted")
                    self._max_size = wanted
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
        # One that is larger than the table empties it (4.4).
        self._entries.append(field)
        self._size += len(field[0]) + len(field[1]) + _OVERHEAD
        if self._size > self._max_size:
            self._evict()

    def _evict(self) -> None:
        while self._size > self._max_size:
            name, value = self._entries.popleft()
            self._size -= len(name) + len(value) + _OVERHEAD


def _integer(block: bytes, at: int, mask: int) -> tuple[int, int]:
    """One with a prefix of as many bits as `mask` has (5.1), and where it ends."""
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
    """Huffman coding undone (5.2), a byte at a time: hpack's table knows half bytes."""
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
"""From a state (the upper bits) by a byte (the lower eight): the next state, whether the text may end there, and what
was written. Those that were met."""


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
