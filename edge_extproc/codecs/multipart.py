"""Finds text fields of a multipart/form-data body, so that they can be changed while every other byte is kept.

Files are not inspected. Bodies that two parsers could read differently are refused (an invalid delimiter, a field
twice or as a file): the provider must read exactly what was checked.
"""

from __future__ import annotations

import re

from .content_type import parameters

# RFC 2046: up to 70 characters of these; the last one is not a space.
_BOUNDARY = re.compile(r"[0-9A-Za-z'()+_,./:=? -]{0,69}[0-9A-Za-z'()+_,./:=?-]")
_AFTER = re.compile(rb"[ \t]*+\r\n")
_DISPOSITION = re.compile(rb"(?:^|\r\n)content-disposition[ \t]*:([^\r\n]*)", re.IGNORECASE)
_MAX_PARTS = 1000
_MAX_HEADERS = 16 * 1024


def fields(
    body: bytes, content_type: str, names: frozenset[str], files: frozenset[str] = frozenset()
) -> dict[str, tuple[int, int]]:
    """The start and stop of the values of the named fields. Absent fields are left out. `files`: further names, whose
    fields may be files. Raises ValueError."""
    boundary = parameters(content_type).get("boundary", "")
    if not _BOUNDARY.fullmatch(boundary):
        raise ValueError("the content-type has no boundary")
    delimiter = b"--" + boundary.encode()
    at = 0 if body.startswith(delimiter) else body.find(b"\r\n" + delimiter) + 2
    if at == 1:
        raise ValueError("the body does not contain the boundary of the content-type")
    spans: dict[str, tuple[int, int]] = {}
    for _ in range(_MAX_PARTS):
        after = at + len(delimiter)
        if body.startswith(b"--", after):
            return spans
        opening = _AFTER.match(body, after)
        if opening is None:
            raise ValueError("a line begins with the boundary but is no valid delimiter")
        # The line end before a delimiter belongs to the delimiter. A part without headers begins with it.
        stop = body.find(b"\r\n" + delimiter, opening.end() - 2)
        if stop < 0:
            raise ValueError("the last part has no end")
        if stop >= opening.end():
            _note(body, opening.end(), stop, names, files, spans)
        at = stop + 2
    raise ValueError(f"there are more than {_MAX_PARTS} parts")


def _note(
    body: bytes,
    start: int,
    stop: int,
    names: frozenset[str],
    files: frozenset[str],
    spans: dict[str, tuple[int, int]],
) -> None:
    blank = body.find(b"\r\n\r\n", start, min(stop + 4, start + _MAX_HEADERS))
    if blank < 0 or blank > stop:
        raise ValueError("a part has no headers, or too long ones")
    dispositions = _DISPOSITION.findall(body[start:blank])
    if len(dispositions) != 1:
        raise ValueError("a part must have one Content-Disposition")
    disposition = parameters(dispositions[0].decode("utf-8", "surrogateescape"))
    if "name*" in disposition or "name" not in disposition:
        raise ValueError("a part has no valid name")
    name = disposition["name"]
    if name not in names and name not in files:
        return
    if name in spans:
        raise ValueError(f"the field {name!r} occurs twice")
    if name not in files and ("filename" in disposition or "filename*" in disposition):
        raise ValueError(f"the field {name!r} is a file; it must be text")
    spans[name] = (blank + 4, max(stop, blank + 4))
