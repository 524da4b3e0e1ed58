"""The texts of one request body: all strings of a JSON body, the fields and text files of a form, or a plain text.

No string is left out. What a text is follows from its path, and the exchange knows the paths of the call's parts. A
string that is JSON itself, as the arguments of a tool call, is read too. So is a document in base64 that is a text. The
bytes of pictures and other documents are no texts.
"""

from __future__ import annotations

import base64
import hashlib
from codecs import BOM_UTF8, BOM_UTF16_BE, BOM_UTF16_LE
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol, TypeAlias
from urllib.parse import parse_qsl

from ..codecs import multipart
from ..codecs.content_type import media_type
from ..codecs.json_strings import JsonText, replaced, texts_of
from ..codecs.json_values import UNREADABLE, decode, encode
from ..errors import BadRequest
from ..model.frozen_dataclass import frozen_dataclass
from .base import Media, TextKind

# JSON in strings of JSON in strings …
_DEEPEST = 4
_BEGINS_JSON = frozenset({b"{", b"[", b'"'})
# Control characters that texts do not have.
_BINARY = bytes([*range(9), 14, 15, *range(16, 27), *range(28, 32)])
# A text may have one odd byte of so many: a part in another charset, or a damaged one.
_MOST_ODD = 8
# Characters of base64 that show whether it is a text; a multiple of four.
_BEGIN_OF_MEDIA = 4096
_UTF_8 = "utf-8"
_BOM_UTF16 = {"utf-16-le": BOM_UTF16_LE, "utf-16-be": BOM_UTF16_BE}

Form: TypeAlias = Literal["value", "key", "number", "plain", "base64"]
"""`plain`: the bytes are the text itself. `base64`: a string that has the text in base64."""


@frozen_dataclass
class TextPlace:
    """What a text is."""

    kind: TextKind | None
    """None: the gateway does not know the parts of such a body. Each rule applies."""
    param: str | None = None
    """The part of the call that has the text, for errors. It has names of the wire format only."""
    is_signed: bool = False
    """The provider has signed the text."""


class TextPlaces(Protocol):
    """Knows the parts of one call."""

    def place_of(self, path: str, text: str) -> TextPlace | InlineMedia | None:
        """None: it is no text, but encrypted for the provider."""
        ...


@frozen_dataclass
class InlineMedia:
    """A string with the bytes of a picture, a document or audio in base64."""

    media_type: str
    place: TextPlace
    """What the text is if the bytes are a text."""


class OnePlace:
    """All texts are the same."""

    def __init__(self, place: TextPlace) -> None:
        self._place = place

    def place_of(self, path: str, text: str) -> TextPlace:
        del path, text
        return self._place


_UNKNOWN = TextPlace(None)
_OF_QUERY = TextPlace(None, "the query of the path")
EVERYWHERE = OnePlace(_UNKNOWN)
"""For a body whose parts the gateway does not know."""
_FILE_NAME = OnePlace(TextPlace("file_name"))


@dataclass(slots=True, eq=False)
class BodyText:
    """One text."""

    start: int
    """The bytes that it is written in, of the body or of the JSON text that contains it."""
    stop: int
    text: str
    path: str
    place: TextPlace
    form: Form
    has_escapes: bool = False
    inner: tuple[BodyText, ...] = ()
    """The texts of the JSON that the text is."""
    raw: bytes = b""
    """The text in UTF-8, if it is JSON."""
    charset: str = _UTF_8
    """How it is written, if it is not within JSON."""
    prefix: str = ""
    """Of base64: what stands before it in the string."""


@dataclass(slots=True)
class BodyTexts:
    raw: bytes
    texts: list[BodyText] = field(default_factory=list)
    query: list[BodyText] = field(default_factory=list)
    """The values of the query of the path. They are not in the body, so they cannot be masked."""
    _media: list[tuple[str, str, str | bytes]] = field(default_factory=list)
    _places: list[TextPlace] = field(default_factory=list)
    """Of the media, in their order."""
    _found: tuple[Media, ...] | None = None

    def all(self) -> Iterator[BodyText]:
        """Each text, and then those in it."""
        return _all(self.texts)

    def add_query(self, query: str) -> None:
        """The names and the values of a query, without their escapes."""
        for name, value in parse_qsl(query, keep_blank_values=True, encoding="utf-8", errors="replace"):
            for text in (name, value):
                if text:
                    self.query.append(BodyText(0, 0, text, f"query.{name}", _OF_QUERY, "plain"))

    def media(self) -> tuple[Media, ...]:
        """The pictures, documents and other files."""
        if self._found is None:
            self._found = tuple(_media_of(*each) for each in self._media)
        return self._found

    def placed_media(self) -> Iterator[tuple[Media, TextPlace]]:
        """The same, with what a text in their place would be."""
        return zip(self.media(), self._places, strict=True)

    def add_media(self, path: str, kind: str, content: str | bytes, place: TextPlace) -> None:
        self._media.append((path, kind, content))
        self._places.append(place)

    def written(self, marks: Mapping[BodyText, Sequence[Replacement]]) -> bytes:
        """The body with these changes. It is the same object without any."""
        return replaced(self.raw, _edits(self.texts, marks)) if marks else self.raw


@frozen_dataclass
class Replacement:
    start: int
    """In characters of the text."""
    stop: int
    new: str


def _all(texts: Iterable[BodyText]) -> Iterator[BodyText]:
    for each in texts:
        yield each
        if each.inner:
            yield from _all(each.inner)


def _edits(
    texts: Iterable[BodyText], marks: Mapping[BodyText, Sequence[Replacement]]
) -> Iterator[tuple[int, int, bytes]]:
    for each in texts:
        own = marks.get(each)
        if own is None and not (each.inner and any(inner in marks for inner in _all(each.inner))):
            continue
        if own is not None:
            text = _with(each.text, own)
        else:
            text = replaced(each.raw, _edits(each.inner, marks)).decode(errors="surrogatepass")
        yield each.start, each.stop, _written(each, text)


def _written(each: BodyText, text: str) -> bytes:
    match each.form:
        case "plain":
            return text.encode(each.charset, "surrogateescape")
        case "base64":
            raw = text.encode(each.charset, "surrogateescape")
            return encode(each.prefix + base64.b64encode(raw).decode())
        case _:
            return encode(text)


def _with(text: str, changes: Sequence[Replacement]) -> str:
    parts: list[str] = []
    at = 0
    for change in sorted(changes, key=lambda change: change.start):
        parts += (text[at : change.start], change.new)
        at = change.stop
    return "".join((*parts, text[at:]))


def _media_of(path: str, kind: str, content: str | bytes) -> Media:
    raw = _decoded(content) if isinstance(content, str) else content
    return Media(hashlib.sha256(raw).hexdigest(), kind, len(raw), path, type_of_bytes(raw), raw)


_RIFF = {b"WEBP": "image/webp", b"WAVE": "audio/wav", b"AVI ": "video/x-msvideo"}
_OFFICE = {
    b"word/": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    b"xl/": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    b"ppt/": "application/vnd.openxmlformats-officedocument.presentationml.presentation",
}
_FIRST_BYTES = (
    (b"%PDF-", "application/pdf"),
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF8", "image/gif"),
    (b"BM", "image/bmp"),
    (b"II*\0", "image/tiff"),
    (b"MM\0*", "image/tiff"),
    (b"OggS", "audio/ogg"),
    (b"ID3", "audio/mpeg"),
    (b"\xff\xfb", "audio/mpeg"),
    (b"fLaC", "audio/flac"),
    (b"\x1f\x8b", "application/gzip"),
    (b"7z\xbc\xaf\x27\x1c", "application/x-7z-compressed"),
    (b"Rar!\x1a\x07", "application/vnd.rar"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "application/x-ole-storage"),
    (b"MZ", "application/vnd.microsoft.portable-executable"),
    (b"\x7fELF", "application/x-executable"),
)
# Bytes of a ZIP archive in which the names of its first files are.
_BEGIN_OF_ZIP = 4096


def type_of_bytes(raw: bytes) -> str:
    """The media type that the first bytes show. "": it is not known."""
    if raw.startswith(b"PK\x03\x04"):
        begin = raw[:_BEGIN_OF_ZIP]
        return next((kind for name, kind in _OFFICE.items() if name in begin), "application/zip")
    if raw.startswith(b"RIFF"):
        return _RIFF.get(raw[8:12], "")
    if raw[4:8] == b"ftyp":
        return "image/heic" if raw[8:12] in (b"heic", b"mif1") else "video/mp4"
    return next((kind for begin, kind in _FIRST_BYTES if raw.startswith(begin)), "")


def _decoded(text: str) -> bytes:
    """The bytes of base64, or of a data URL."""
    raw = _from_base64(text[len(_prefix_of(text)) :])
    return raw if raw is not None else text.encode(errors="replace")  # the provider will refuse it


def _prefix_of(text: str) -> str:
    """The part of a data URL before its base64."""
    return text[: text.find(",") + 1] if text[:5].lower() == "data:" else ""


def _from_base64(text: str) -> bytes | None:
    """None: it is no base64, not even that of URLs."""
    plain = text.translate(_OF_URLS).rstrip("=")
    try:
        return base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True)
    except ValueError:
        return None


_LEAST_MEDIA = 256


def is_binary(text: str) -> bool:
    """Whether a string has the bytes of a picture or the like in base64."""
    if len(text) < _LEAST_MEDIA:
        return False
    prefix = _prefix_of(text)
    begin = _from_base64(text[len(prefix) : len(prefix) + _BEGIN_OF_MEDIA])
    return begin is not None and _charset_of(begin) is None


_OF_URLS = str.maketrans("-_", "+/", "\r\n")


# --- reading


def read_texts(raw: bytes, content_type: str, places: TextPlaces) -> BodyTexts:
    """The texts of a body. Raises BadRequest for a form that cannot be read."""
    body = BodyTexts(raw)
    if media_type(content_type) == "multipart/form-data":
        _read_form(body, content_type)
    elif raw:
        _read_content(body, 0, len(raw), "", content_type, places)
    return body


def _read_content(body: BodyTexts, start: int, stop: int, path: str, kind: str, places: TextPlaces) -> None:
    """JSON, lines of JSON, a text, or something else."""
    if body.raw.startswith(BOM_UTF8, start, stop):
        start += len(BOM_UTF8)
    content = body.raw[start:stop]
    if content.lstrip()[:1] in _BEGINS_JSON and is_json(content):
        body.texts += _in_json(content, places, body, offset=start)
        return
    charset = _charset_of(content)
    if charset is None:
        body.add_media(path, media_type(kind), content, _UNKNOWN)
        return
    at = start
    for first, last in _lines_of_json(content) if charset == _UTF_8 and b"{" in content else ():
        _add_text(body, at, start + first, path, places)
        body.texts += _in_json(content[first:last], places, body, offset=start + first)
        at = start + last
    _add_text(body, at, stop, path, places, charset)


def _charset_of(content: bytes) -> str | None:
    """How a text is written. None: it is no text."""
    begin = content[:4]
    for charset, zeros in (("utf-16-le", begin[1::2]), ("utf-16-be", begin[::2])):
        if begin[:2] == _BOM_UTF16[charset] or zeros == b"\0\0":
            try:
                text = content.decode(charset).encode()
            except UnicodeError:
                continue
            if len(text.translate(None, _BINARY)) == len(text):
                return charset
    odd = len(content) - len(content.translate(None, _BINARY))
    odd += len(content) - len(content.decode("utf-8", "ignore").encode())
    return _UTF_8 if odd * _MOST_ODD <= len(content) else None


def _lines_of_json(content: bytes) -> Iterator[tuple[int, int]]:
    """The start and stop of the lines that are JSON objects. Others may be between them."""
    at = 0
    for line in content.splitlines(keepends=True):
        if line.lstrip()[:1] == b"{" and is_json(line):
            yield at, at + len(line)
        at += len(line)


def _add_text(
    body: BodyTexts, start: int, stop: int, path: str, places: TextPlaces = EVERYWHERE, charset: str = _UTF_8
) -> None:
    """A text that is not within JSON. Bytes that are no characters stay as they are."""
    text = body.raw[start:stop].decode(charset, "surrogateescape")
    if text and not text.isspace():
        place = places.place_of(path, text)
        known = place if isinstance(place, TextPlace) else _UNKNOWN
        body.texts.append(BodyText(start, stop, text, path, known, "plain", charset=charset))


def is_json(raw: bytes) -> bool:
    """Whether the whole text is valid JSON."""
    try:
        decode(raw)
    except UNREADABLE:
        return False
    return True


def _read_form(body: BodyTexts, content_type: str) -> None:
    """All bytes but the delimiters: the provider gets each of them."""
    try:
        parts = list(multipart.parts(body.raw, content_type))
        outside = multipart.outside(body.raw, content_type)
    except ValueError as error:
        raise BadRequest(f"the form cannot be read: {error}") from None
    for start, stop in outside:
        _add_text(body, start, stop, "")
    for part in parts:
        _read_headers(body, part)
        _read_content(body, part.start, part.stop, part.name, part.content_type, EVERYWHERE)


def _read_headers(body: BodyTexts, part: multipart.FormPart) -> None:
    """The name of a file, and the text before and after it."""
    at, end = part.head, part.start - 4
    if part.file_name:
        start, stop = part.file_name
        _add_text(body, at, start, "")
        _add_text(body, start, stop, part.name, _FILE_NAME)
        at = stop
    _add_text(body, at, end, "")


def _in_json(raw: bytes, places: TextPlaces, body: BodyTexts, *, offset: int = 0) -> Iterator[BodyText]:
    for each in texts_of(raw):
        place = places.place_of(each.path, each.text)
        if isinstance(place, InlineMedia):
            body.add_media(each.path, place.media_type, each.text, place.place)
            text = _text_of_media(each, offset, place.place)
            if text is not None:
                body.texts.append(text)
            continue
        if place is None or (each.form == "number" and place.kind == "other"):
            continue  # a number outside of all parts is a parameter
        yield _with_inner(each, offset, each.path, place, 0)


def _text_of_media(found: JsonText, offset: int, place: TextPlace) -> BodyText | None:
    """The text that base64 contains. None: it is a picture or the like."""
    prefix = _prefix_of(found.text)
    data = found.text[len(prefix) :]
    begin = _from_base64(data[:_BEGIN_OF_MEDIA])
    if begin is not None and _charset_of(begin) is None:
        return None
    raw = _from_base64(data)
    charset = _charset_of(raw) if raw is not None else None
    if raw is None or charset is None:
        return _with_inner(found, offset, found.path, place, 0)
    text = _with_inner(found._replace(text=raw.decode(charset, "surrogateescape")), offset, found.path, place, 0)
    text.form, text.charset, text.prefix = "base64", charset, prefix
    return text


def _with_inner(found: JsonText, offset: int, path: str, place: TextPlace, depth: int) -> BodyText:
    """A text of JSON with the texts in it, if it is JSON itself."""
    start, stop, text, _, form, has_escapes = found
    if form == "value" and depth < _DEEPEST and text.lstrip()[:1] in ("{", "["):
        raw = text.encode(errors="surrogatepass")
        if is_json(raw):
            inner = tuple(_with_inner(each, 0, path, place, depth + 1) for each in texts_of(raw))
            return BodyText(start + offset, stop + offset, text, path, place, form, has_escapes, inner, raw)
    return BodyText(start + offset, stop + offset, text, path, place, form, has_escapes)
