"""Exchanges with providers: the project's own set, and recordings of real providers where they lie beside the checkout.

The own set is made by `exchange_set` and committed in `data/exchanges`. The recordings are not part of this project.
Both have the same schema, and what is read here is both sets joined, so that a test runs on all that there is.
"""

from __future__ import annotations

import base64
import datetime
import functools
import json
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import thoroughness

OWN = Path(__file__).resolve().parent / "data" / "exchanges"
SHARED = Path(__file__).resolve().parents[2] / "shared" / "recordings"
NEWER = SHARED.with_name("recordings_2026")
SETS = (SHARED, OWN) if (SHARED / "index.jsonl").exists() else (OWN,)
NEWER_SETS = (NEWER,) if (NEWER / "index.jsonl").exists() else ()
"""Newer recordings. What a module expects of single recordings by their ids is not stated for them."""

# Every part of the recordings has its day.
PARTS = 4


@functools.cache
def index_of(directory: Path) -> tuple[dict[str, Any], ...]:
    """One row for each exchange of a set: id, provider, api, model, streaming, features, status, file."""
    with (directory / "index.jsonl").open(encoding="utf-8") as lines:
        return tuple({**json.loads(line), "set": directory} for line in lines)


def index(*, newer: bool = False) -> tuple[dict[str, Any], ...]:
    """The rows of every set, the recordings first. `newer`: the newer recordings too."""
    return tuple(row for directory in (*(NEWER_SETS if newer else ()), *SETS) for row in index_of(directory))


@functools.cache
def _lines(path: Path) -> dict[str, str]:
    """The lines of a file that holds one exchange in each, by their id."""
    with path.open(encoding="utf-8") as lines:
        return {line[7 : line.index('"', 7)]: line for line in lines}  # {"id":"…


def whole(row: dict[str, Any]) -> dict[str, Any]:
    """The exchange that a row of the index describes. It is read once for all modules, so no test may change it."""
    return _exchange(row["set"] / row["file"], row["id"])


@functools.cache
def _exchange(path: Path, id: str) -> dict[str, Any]:
    text = _lines(path)[id] if path.suffix == ".jsonl" else path.read_text(encoding="utf-8")
    recording: dict[str, Any] = json.loads(text)
    return recording


def recordings(
    *apis: str,
    provider: str | None = None,
    streaming: bool | None = None,
    status: int | None = None,
    newer: bool = False,
) -> Iterator[dict[str, Any]]:
    """The exchanges of the named APIs, whole, in index order. Raises LookupError if the own set has none of them."""
    chosen = [
        row
        for row in index(newer=newer)
        if row["api"] in apis
        and provider in (None, row["provider"])
        and streaming in (None, row["streaming"])
        and status in (None, row["status"])
    ]
    if not any(row["set"] == OWN for row in chosen):
        wanted = {"provider": provider, "streaming": streaming, "status": status}
        raise LookupError(f"tests/data/exchanges has no exchange of {', '.join(apis)} with {wanted}")
    return map(whole, chosen)


@functools.cache
def _own_ids() -> frozenset[str]:
    return frozenset(row["id"] for row in index_of(OWN))


def is_of_today(id: str) -> bool:
    """Whether a test of some milliseconds an exchange tries this one: the own set always, and each recording on one of
    PARTS days (UTC). `make test-long` tries all."""
    day = datetime.datetime.now(datetime.UTC).toordinal()
    return thoroughness.is_long() or id in _own_ids() or (zlib.crc32(id.encode()) + day) % PARTS == 0


def of_today(ids: Iterable[str]) -> list[str]:
    """In order."""
    return sorted(filter(is_of_today, ids))


def body(side: dict[str, Any]) -> bytes:
    """The body of an exchange's `request` or `response`, as bytes."""
    text = side.get("body")
    if text is None:
        return b""
    return base64.b64decode(text) if side.get("body_encoding") == "base64" else text.encode()
