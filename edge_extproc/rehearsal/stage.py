"""Makes the performance of a reply by a script: the bytes, their timing, and how the connection ends.

It does no IO; connection.py sends the performance.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, islice
from typing import Literal, assert_never

from .format import EVENT_STREAM, Answer, Format, Stream, Whole
from .reading import Refused
from .script import Script

Ending = Literal["whole", "drop", "reset", "stall"]

# Bytes. A body that is not a stream is split into pieces of this size for faults and pauses.
PIECE = 32

_HTML = b"<!doctype html>\n<html><head><title>Bad gateway</title></head><body>The rehearsal is closed.</body></html>\n"


@dataclass(frozen=True, slots=True)
class Performance:
    status: int
    headers: tuple[tuple[str, str], ...]
    chunks: Iterable[bytes]
    """They are made when they are sent, so a long stream is never completely in memory."""
    length: int | None = None
    """The content-length; None for a stream."""
    ending: Ending = "whole"
    delay: float = 0.0
    first: float = 0.0
    pace: float = 0.0
    refuse: bool = False


def stage(
    answer: Answer,
    script: Script,
    wire_format: Format,
    request_id: str,
    *,
    status: int = 200,
    headers: Iterable[tuple[str, str]] = (),
) -> Performance:
    """The reply with the faults of the script."""
    if script.body == "html":
        answer, content_type = Whole(_HTML), "text/html; charset=utf-8"
    else:
        content_type = EVENT_STREAM if isinstance(answer, Stream) else answer.content_type
    chunks: Iterable[bytes]
    match answer:
        case Stream():
            chunks, ending = _stream(answer, script, wire_format, request_id)
            length = None
        case Whole():
            chunks, ending, length = _body(answer, script, wire_format, request_id)
        case _:
            assert_never(answer)
    if script.split is not None:
        chunks = _split(chunks, script.split)
    sent = [
        ("content-type", script.content_type or content_type),
        (wire_format.request_id_header, request_id),
        *headers,
        *([("content-encoding", "gzip")] if script.body == "gzip" else ()),
        *([("content-length", str(length))] if length is not None else [("cache-control", "no-cache")]),
    ]
    timing = (script.delay, script.first, script.pace)
    return Performance(status, tuple(sent), chunks, length, ending, *timing, script.refuse)


def _fault(script: Script) -> tuple[int, Ending] | None:
    """The number of chunks after which the reply is cut off, and how the connection ends. None: it is complete."""
    faults: tuple[tuple[int | None, Ending], ...] = (
        (script.cut, "reset"),
        (script.drop, "drop"),
        (script.stall, "stall"),
        (script.end, "whole"),
    )
    return next(((count, ending) for count, ending in faults if count is not None), None)


def _scripted_failure() -> Refused:
    return Refused("the rehearsal fails here, as requested", status=529)


def _stream(answer: Stream, script: Script, wire_format: Format, request_id: str) -> tuple[Iterable[bytes], Ending]:
    if script.body == "empty":
        return (), "whole"
    events, terminator = iter(answer.events), [answer.terminator]
    ending: Ending = "whole"
    if script.malformed is not None:
        events = chain(islice(events, script.malformed), [wire_format.broken_event], events)
    if script.error is not None:
        failure = wire_format.write_error_event(_scripted_failure(), request_id)
        events, terminator = chain(islice(events, script.error), [failure]), []
    if (fault := _fault(script)) is not None:
        count, ending = fault
        events, terminator = islice(events, count), []
    chunks = chain(events, terminator)
    return (_gzipped(chunks) if script.body == "gzip" else chunks), ending


def _body(answer: Whole, script: Script, wire_format: Format, request_id: str) -> tuple[list[bytes], Ending, int]:
    body = answer.body if script.error is None else wire_format.write_error(_scripted_failure(), request_id)
    match script.body:
        case "empty":
            body = b""
        case "gzip":
            body = zlib.compress(body, wbits=31)
        case "json" | "html":
            pass
        case _:
            assert_never(script.body)
    if not script.is_paced:
        return [body], "whole", len(body)
    pieces = _cut(body, PIECE)
    most = max(len(pieces) - 1, 0)
    if script.malformed is not None:
        pieces = pieces[: min(script.malformed, most)]
        return pieces, "whole", sum(map(len, pieces))
    fault = _fault(script)
    if fault is None:
        return pieces, "whole", len(body)
    count, ending = fault
    pieces = pieces[: min(count, most)]
    return pieces, ending, sum(map(len, pieces)) if ending == "whole" else len(body)


def _cut(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


def _split(chunks: Iterable[bytes], size: int) -> Iterator[bytes]:
    """The same bytes in pieces of `size` bytes."""
    rest = b""
    for chunk in chunks:
        data = rest + chunk
        end = len(data) - len(data) % size
        yield from _cut(data[:end], size)
        rest = data[end:]
    if rest:
        yield rest


def _gzipped(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The compressed chunks. Each is flushed, so that a reader can decode it at once."""
    squeeze = zlib.compressobj(wbits=31)
    for chunk in chunks:
        yield squeeze.compress(chunk) + squeeze.flush(zlib.Z_SYNC_FLUSH)
    yield squeeze.flush()
