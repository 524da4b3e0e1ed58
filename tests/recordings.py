"""Recorded exchanges with real providers, where they lie beside the checkout. None of them is part of this project."""

from __future__ import annotations

import base64
import functools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared" / "recordings"

needs_recordings = pytest.mark.skipif(
    not (SHARED / "index.jsonl").exists(), reason="no recordings beside this checkout (../shared/recordings)"
)


@functools.cache
def index() -> tuple[dict[str, Any], ...]:
    """One row a recording: id, provider, api, model, streaming, features, status, file."""
    path = SHARED / "index.jsonl"
    if not path.exists():
        return ()
    with path.open(encoding="utf-8") as lines:
        return tuple(json.loads(line) for line in lines)


def recordings(
    *apis: str, provider: str | None = None, streaming: bool | None = None, status: int | None = None
) -> Iterator[dict[str, Any]]:
    """The recordings of the named APIs, whole, in index order."""
    for row in index():
        if row["api"] not in apis or (provider is not None and row["provider"] != provider):
            continue
        if (streaming is not None and row["streaming"] != streaming) or (
            status is not None and row["status"] != status
        ):
            continue
        yield json.loads((SHARED / row["file"]).read_text(encoding="utf-8"))


def body(side: dict[str, Any]) -> bytes:
    """The body of a recording's `request` or `response`, as bytes."""
    text = side.get("body")
    if text is None:
        return b""
    return base64.b64decode(text) if side.get("body_encoding") == "base64" else text.encode()
