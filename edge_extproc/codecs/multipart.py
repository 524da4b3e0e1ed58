"""Finds text fields of a multipart/form-data body, so that they can be changed while every other byte is kept.

Files are not inspected. Bodies that two parsers could read differently are refused (an invalid delimiter, a field
twice or as a file): the provider must read exactly what was checked.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from .content_type import parameters

# RFC 2046: up to 70 characters of these; the last one is not a space.
_BOUNDARY = re.compile(r"[0-9A-Za-z'()+_,./:=? -]{0,69}[0-9A-Za-z'()+_,./:=?-]")
_AFTER = re.compile(rb"[ \t]*+\r\n")
_DISPOSITION = re.compile(rb"(?:^|\r\n)content-disposition[ \t]*:([^\r\n]*)", re.IGNORECASE)
_TYPE = re.compile(rb"(?:^|\r\n)content-type[ \t]*:[ \t]*([^\r\n]*)", re.IGNORECASE)
_FILE_NAME = re.compile(rb';[ \t]*filename="([^"\\\r\n]*)"', re.IGNORECASE)
_MAX_PARTS = 1000
_MAX_HEADERS = 16 * 1024


def fields(
    body: bytes, content_type: str, names: frozenset[str], files: frozenset[str] = frozenset()
) -> dict[str, tuple[int, int]]:
    """The start and stop of the values of the named fields. Absent fields are left out. `files`: further names, whose
    fields may be files. Raises ValueError."""
    spans: dict[str, tuple[int, int]] = {}
    for start, stop in _sections(body, content_type):
        _note(body, start, stop, names, files, spans)
    return spans


class FormPart(NamedTuple):
    """One field or file. The positions are in the body."""

    name: str
    head: int
    """Where its headers start. They end four bytes before `start`, with a blank line."""
    start: int
    stop: int
    content_type: str
    """Empty if the part has none."""
    file_name: tuple[int, int] | None
    """The start and stop of a file's name. None: it is no file, or its name is written in an unusual way."""


def parts(body: bytes, content_type: str) -> Iterator[FormPart]:
    """All fields and files. Raises ValueError."""
    for start, stop in _sections(body, content_type):
        blank, disposition = _heading(body, start, stop)
        name, kind = disposition.get("name", ""), _TYPE.search(body, start, blank)
        file = _FILE_NAME.search(body, start, blank)
        yield FormPart(
            name,
            start,
            blank + 4,
            max(stop, blank + 4),
            kind[1].decode("latin-1") if kind is not None else "",
            file.span(1) if file is not None else None,
        )


def outside(body: bytes, content_type: str) -> tuple[tuple[int, int], tuple[int, int]]:
    """The start and stop of the bytes before the first delimiter, and of those after the last one. Raises
    ValueError."""
    delimiter, first = _opening(body, content_type)
    last = max((stop for _, stop in _sections(body, content_type)), default=first)
    return (0, first), (body.find(delimiter + b"--", last) + len(delimiter) + 2, len(body))


def _sections(body: bytes, content_type: str) -> Iterator[tuple[int, int]]:
    """The start and stop of each part, with its headers."""
    delimiter, at = _opening(body, content_type)
    for _ in range(_MAX_PARTS):
        after = at + len(delimiter)
        if body.startswith(b"--", after):
            return
        opening = _AFTER.match(body, after)
        if opening is None:
            raise ValueError("a line begins with the boundary but is no valid delimiter")
        # The line end before a delimiter belongs to the delimiter. A part without headers begins with it.
        stop = body.find(b"\r\n" + delimiter, opening.end() - 2)
        if stop < 0:
            raise ValueError("the last part has no end")
        if stop >= opening.end():
            yield opening.end(), stop
        at = stop + 2
    raise ValueError(f"there are more than {_MAX_PARTS} parts")


def with_field(body: bytes, content_type: str, name: str, value: bytes) -> bytes:
    """The body with this value of a text field, which replaces another one. Raises ValueError."""
    span = fields(body, content_type, frozenset({name})).get(name)
    if span is not None:
        return body[: span[0]] + value + body[span[1] :]
    delimiter, at = _opening(body, content_type)
    head = b'\r\nContent-Disposition: form-data; name="%s"\r\n\r\n' % name.encode()
    return b"".join((body[:at], delimiter, head, value, b"\r\n", body[at:]))


def _opening(body: bytes, content_type: str) -> tuple[bytes, int]:
    """The delimiter, and where the first one is."""
    boundary = parameters(content_type).get("boundary", "")
    if not _BOUNDARY.fullmatch(boundary):
        raise ValueError("the content-type has no boundary")
    delimiter = b"--" + boundary.encode()
    at = 0 if body.startswith(delimiter) else body.find(b"\r\n" + delimiter) + 2
    if at == 1:
        raise ValueError("the body does not contain the boundary of the content-type")
    return delimiter, at


def _note(
    body: bytes,
    start: int,
    stop: int,
    names: frozenset[str],
    files: frozenset[str],
    spans: dict[str, tuple[int, int]],
) -> None:
    blank, disposition = _heading(body, start, stop)
    name = disposition["name"]
    if name not in names and name not in files:
        return
    if name in spans:
        raise ValueError(f"the field {name!r} occurs twice")
    if name not in files and ("filename" in disposition or "filename*" in disposition):
        raise ValueError(f"the field {name!r} is a file; it must be text")
    spans[name] = (blank + 4, max(stop, blank + 4))


def _heading(body: bytes, start: int, stop: int) -> tuple[int, dict[str, str]]:
    """The position after a part's headers, and the parameters of its Content-Disposition."""
    blank = body.find(b"\r\n\r\n", start, min(stop + 4, start + _MAX_HEADERS))
    if blank < 0 or blank > stop:
        raise ValueError("a part has no headers, or too long ones")
    dispositions = _DISPOSITION.findall(body[start:blank])
    if len(dispositions) != 1:
        raise ValueError("a part must have one Content-Disposition")
    disposition = parameters(dispositions[0].decode("utf-8", "surrogateescape"))
    if "name*" in disposition or "name" not in disposition:
        raise ValueError("a part has no valid name")
    return blank, disposition
