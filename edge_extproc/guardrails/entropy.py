"""How random a value looks."""

from __future__ import annotations

from collections import Counter
from math import log2


def entropy(value: bytes) -> float:
    """Shannon's entropy: bits for each character, by the frequencies of the characters in the value. 0: the value is
    one character again and again. A random value of hexadecimal digits has nearly 4, one of base64 up to 6."""
    size = len(value)
    return -sum(count / size * log2(count / size) for count in Counter(value).values()) if size else 0.0
