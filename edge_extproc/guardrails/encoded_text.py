"""Text inside of a text: base64, hexadecimal digits, escapes, and characters that are hidden.

`encoded_runs` finds what may be encoded, and decodes it. Most of it is no text: names, identifiers, pictures. Only what
is text after decoding is returned. The time is linear: a run is decoded once, and its decoded text is shorter.
"""

from __future__ import annotations

import binascii
import codecs
import html.entities
import re
from collections.abc import Iterator, Sequence
from itertools import accumulate

import re2

from ..model.frozen_dataclass import frozen_dataclass

SHORTEST_RUN = 16
"""Characters. A shorter run of base64 has fewer than 12 bytes: no key, and few addresses. With `=` it can have 15."""
_SAMPLE = 32
# A run of at most this many characters is judged by its whole text, a longer one by three samples.
_SHORT = 96
# Three in a hundred characters of a decoded text may be no text, as of a text in a binary format.
_MOST_ODD = 0.03

# One class in each alternative, so that the automaton has few states.
_RUN = re2.compile(rb"[A-Za-z0-9+/_-]{16,}={0,2}|[A-Za-z0-9+/_-]{14,}={1,2}")
_PAIR_RUN = re2.compile(
    rb"(?:0x)?[0-9A-Fa-f]{2}(?:, ?|[ :]|\\x)(?:0x)?[0-9A-Fa-f]{2}(?:, ?|[ :]|\\x)"
    rb"(?:(?:0x)?[0-9A-Fa-f]{2}(?:, ?|[ :]|\\x))+(?:0x)?[0-9A-Fa-f]{2}"
)
# Lines of wrapped base64 have 64 or 76 characters.
_SHORTEST_LINE = 40
_LINE_END = re.compile(rb"\r?\n[ \t]{0,8}(?=[A-Za-z0-9+/]+)")
_SHORTEST_PAIRS = 23
_HEX = re.compile(rb"[0-9A-Fa-f]+")
_PAIRS = re.compile(rb"(?:0x)?[0-9A-Fa-f]{2}")
_CONTROLS = bytes(code for code in range(32) if code not in b"\t\n\r") + b"\x7f"
_URL_SAFE = bytes.maketrans(b"-_", b"+/")
_INSIGNIFICANT = b"= \t\r\n"


@frozen_dataclass
class DecodedRun:
    """A decoded run."""

    text: str
    places: Sequence[int]
    """The positions of its digits in the text around it."""
    bits: int
    """The bits of a digit: 6 of base64, 4 of hexadecimal digits."""
    offsets: Sequence[int]
    """For each character of `text`, and for the end: the first of its bytes."""

    def original(self, start: int, end: int) -> tuple[int, int]:
        """The characters of the text around it that have this part: all digits with a bit of it."""
        first = 8 * self.offsets[start] // self.bits
        last = (8 * self.offsets[end] - 1) // self.bits
        return self.places[first], self.places[last] + 1


def encoded_runs(data: bytes) -> Iterator[DecodedRun]:
    """What is text after decoding. `data` has one byte for each character, so that its positions are the text's."""
    if len(data) < SHORTEST_RUN - 1:
        return
    for start, end in _word_runs(data):
        run = _decoded_run(data[start:end], start)
        if run is not None:
            yield run
    for match in _PAIR_RUN.finditer(data) if len(data) >= _SHORTEST_PAIRS else ():
        start, end = match.span()
        if end - start >= _SHORTEST_PAIRS:
            ends = [each.end() for each in _PAIRS.finditer(data, start, end)]
            raw = bytes(int(data[each - 2 : each], 16) for each in ends)
            run = _as_text(raw, [place for each in ends for place in (each - 2, each - 1)], 4)
            if run is not None:
                yield run


def _word_runs(data: bytes) -> Iterator[tuple[int, int]]:
    """Start and end. Lines of wrapped base64 are one run."""
    begin = done = 0
    for match in _RUN.finditer(data):
        start, end = match.span()
        if done:
            line_end = _LINE_END.match(data, done) if done - begin >= _SHORTEST_LINE else None
            if line_end is not None and line_end.end() == start:
                done = end
                continue
            yield begin, done
        begin, done = start, end
    if done:
        yield begin, done


def _decoded_run(data: bytes, start: int) -> DecodedRun | None:
    if len(data) % 2 == 0 and _HEX.fullmatch(data) is not None:
        # Hexadecimal digits that are no text are an id. As base64 they would be random bytes too.
        return _as_text(bytes.fromhex(data.decode()), range(start, start + len(data)), 4)
    run = _from_base64(data, start)
    if run is None and b"/" in data:
        # The run of a path begins before the encoded part of it.
        last = data.rindex(b"/") + 1
        if len(data) - last >= SHORTEST_RUN:
            run = _from_base64(data[last:], start + last)
    return run


def _from_base64(data: bytes, start: int) -> DecodedRun | None:
    if not _may_be_base64(data):
        return None
    significant = data.translate(_URL_SAFE, _INSIGNIFICANT)
    if len(significant) % 4 == 1:
        significant = significant[:-1]
    raw = binascii.a2b_base64(significant + b"=" * (-len(significant) % 4))
    if data.translate(_URL_SAFE).startswith(significant):
        places: Sequence[int] = range(start, start + len(significant))
    else:
        places = [start + at for at, code in enumerate(data) if code not in _INSIGNIFICANT][: len(significant)]
    return _as_text(raw, places, 6)


def _may_be_base64(data: bytes) -> bool:
    """Whether samples of it are text. Names and identifiers are not."""
    places = (0,) if len(data) <= _SHORT else (0, len(data) // 8 * 4, (len(data) - _SAMPLE) // 4 * 4)
    return any(_is_text_sample(data[place : place + _SAMPLE]) for place in places)


def _is_text_sample(sample: bytes) -> bool:
    significant = sample.translate(_URL_SAFE, _INSIGNIFICANT)
    raw = binascii.a2b_base64(significant[: len(significant) // 4 * 4])
    odd = len(raw) - len(raw.translate(None, _CONTROLS))
    if odd == 0:
        return _is_utf8_start(raw)
    return odd * 3 > len(raw) and not raw[1::2].strip(b"\0")  # UTF-16


def _is_utf8_start(raw: bytes) -> bool:
    if raw.isascii():
        return True
    # A sample may begin and end inside of a character.
    try:
        codecs.utf_8_decode(raw.lstrip(bytes(range(0x80, 0xC0))), "strict", False)
    except UnicodeDecodeError:
        return False
    return True


def _as_text(raw: bytes, places: Sequence[int], bits: int) -> DecodedRun | None:
    """None: it is no text."""
    if len(raw) >= 8 and not raw[1::2].strip(b"\0"):
        # UTF-16 of Latin letters. A byte of zero is left over at most.
        return DecodedRun(raw[::2].decode("latin-1"), places, bits, [*range(0, len(raw), 2), len(raw)])
    most = _MOST_ODD * len(raw)
    if len(raw) - len(raw.translate(None, _CONTROLS)) > most:
        return None
    if raw.isascii():
        return DecodedRun(raw.decode(), places, bits, range(len(raw) + 1)) if raw else None
    if len(raw) - len(raw.decode("utf-8", "ignore").encode()) > most:
        return None
    # Each byte that is no UTF-8 becomes one surrogate, so that the positions stay known.
    text = raw.decode("utf-8", "surrogateescape")
    return DecodedRun(text, places, bits, list(accumulate(map(_width, text), initial=0)))


def _width(character: str) -> int:
    """Bytes of UTF-8; one for a byte that is no UTF-8."""
    if character < "\x80" or "\udc80" <= character <= "\udcff":
        return 1
    return 2 if character < "\u0800" else 3 if character < "\U00010000" else 4


# --- escapes

_ENTITY_NAMES = {
    name.rstrip(";"): text for name, text in html.entities.html5.items() if len(text) == 1 and text.isascii()
}
ESCAPES = re2.compile(
    rb"%[0-9A-Fa-f]{2}"
    rb"|\\u\{[0-9A-Fa-f]{1,6}\}|\\+u[0-9A-Fa-f]{4}|\\+x[0-9A-Fa-f]{2}|\\+/"
    rb"|&#[0-9]{1,7};?|&#[xX][0-9A-Fa-f]{1,6};?|&[A-Za-z]{2,8};"
    # Parts of one value in a program: "AB" + "CD".
    rb"|[\"'`][ \t]{0,4}\\?\n?[ \t]{0,4}[+.&][ \t]{0,4}\\?\n?[ \t]{0,4}[\"'`]"
    # An empty element of HTML within a word, and bytes of quoted-printable.
    rb"|<[A-Za-z]{1,8}></[A-Za-z]{1,8}>|(?:=[0-9A-F]{2})(?:=[0-9A-F]{2})(?:=[0-9A-F]{2})+"
)
"""What `unescaped` replaces."""
_ESCAPE_SIGNS = (b"%", b"\\", b"&", b'"', b"'", b"`", b"></", b"=")
_HAS_ESCAPES = re2.compile(
    rb"%[2-7][0-9A-Fa-f]|\\u\{|\\u[0-9A-Fa-f]{4}|\\x[0-9A-Fa-f]{2}|\\/|&#|&[A-Za-z]{2,8};"
    rb"|[\"'`][ \t]{0,4}\\?\n?[ \t]{0,4}[+.&][ \t]{0,4}\\?\n?[ \t]{0,4}[\"'`]"
    rb"|[A-Za-z]></[A-Za-z]{1,8}>|=[0-9A-F]{2}=[0-9A-F]{2}=[0-9A-F]{2}"
)


def has_escapes(data: bytes) -> bool:
    # Most short texts have none of these signs, and this test is fast.
    return any(sign in data for sign in _ESCAPE_SIGNS) and _HAS_ESCAPES.search(data) is not None


def unescaped(escape: str) -> str | None:
    """The text of one escape. None: it is none."""
    match escape[0]:
        case "%":
            # Bytes above ASCII are parts of a character: they are left.
            return _character(int(escape[1:], 16), most=0x7F)
        case "\\":
            rest = escape.lstrip("\\")
            return "/" if rest == "/" else _character(int(rest[1:].strip("{}"), 16))
        case "&" if escape[1] == "#":
            digits = escape[2:].rstrip(";")
            return _character(int(digits[1:], 16) if digits[:1] in "xX" else int(digits))
        case "=":
            return bytes.fromhex(escape.replace("=", "")).decode("utf-8", "replace")
        case "&":
            return _ENTITY_NAMES.get(escape[1:-1])
        case _:
            return ""


def _character(code: int, most: int = 0x10FFFF) -> str | None:
    return chr(code) if code <= most else None
