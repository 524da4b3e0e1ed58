"""Estimates the tokens of a text without a tokenizer.

It is used for replies that end before the provider has reported their usage, for example because the caller left. The
estimate is a weighted count of byte classes. The weights were fitted to the o200k tokenizer on 926 samples of prose,
code, JSON and several scripts (mean error 7.7 %, within the sample).
"""

from __future__ import annotations

_LETTERS = bytes(c for c in range(128) if chr(c).isalpha())
_DIGITS = b"0123456789"
_SPACES = b" \t\n\r"
_PUNCTUATION = bytes(c for c in range(33, 127) if not chr(c).isalnum())
_ASCII = bytes(range(128))
_WORD_SHAPE = bytes(97 if c in _LETTERS else 32 for c in range(256))
"""A translation table: each ASCII letter becomes "a", and every other byte a space."""

_PER_WORD, _PER_LETTER, _PER_DIGIT, _PER_MARK, _PER_SPACE = 0.16, 0.185, 0.685, 0.742, 0.086
_PER_WIDE_BYTE, _PER_WIDE_CHARACTER = 0.388, -0.402

# For a text of which only the length is known: o200k's mean over the same samples of English prose.
_CHARACTERS_PER_TOKEN = 4.0


def tokens_of(text: str) -> int:
    """Estimated tokens; 0 only for an empty text."""
    raw = text.encode(errors="surrogatepass")
    if not raw:
        return 0
    # Most bytes are letters, so the other classes are counted in what is left.
    others = raw.translate(None, _LETTERS)
    wide = others.translate(None, _ASCII)
    estimate = (
        _PER_WORD * _words(raw)
        + _PER_LETTER * (len(raw) - len(others))
        + _PER_DIGIT * _count(others, _DIGITS)
        + _PER_MARK * _count(others, _PUNCTUATION)
        + _PER_SPACE * _count(others, _SPACES)
        + _PER_WIDE_BYTE * len(wide)
        + _PER_WIDE_CHARACTER * (len(text) - (len(raw) - len(wide)))
    )
    return max(1, round(estimate))


def tokens_of_length(characters: int) -> int:
    """Estimated tokens of a text of which only the length is known."""
    return -(-characters // int(_CHARACTERS_PER_TOKEN))


def _words(raw: bytes) -> int:
    """The number of runs of ASCII letters. They are not collected in a list, because a request may have millions."""
    shape = raw.translate(_WORD_SHAPE)
    return shape.count(b" a") + shape.startswith(b"a")


def _count(raw: bytes, kind: bytes) -> int:
    return len(raw) - len(raw.translate(None, kind))
