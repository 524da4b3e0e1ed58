"""Writes the set: one file of JSON lines for each API, and an index with one row for each exchange."""

from __future__ import annotations

import base64
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from . import (
    anthropic_messages,
    bedrock_converse,
    gemini_generate,
    hosts,
    native,
    openai_chat,
    openai_responses,
    operations,
)
from .base import MEDIA_TYPES, Exchange
from .features import features

BUILDERS = (
    openai_chat,
    hosts,
    openai_responses,
    anthropic_messages,
    gemini_generate,
    bedrock_converse,
    operations,
    native,
)
DIRECTORY = Path(__file__).resolve().parents[1] / "data" / "exchanges"


def exchanges() -> Iterator[Exchange]:
    for builder in BUILDERS:
        yield from builder.exchanges()


def _body(data: bytes) -> dict[str, str]:
    try:
        return {"body": data.decode(), "body_encoding": "utf8"}
    except UnicodeDecodeError:
        return {"body": base64.b64encode(data).decode(), "body_encoding": "base64"}


def row(exchange: Exchange) -> dict[str, Any]:
    """One row of the index: what an exchange is, without its bodies."""
    return {
        "id": exchange.id,
        "provider": exchange.provider,
        "api": exchange.api,
        "endpoint": exchange.endpoint,
        "model": exchange.model or None,
        "streaming": exchange.stream_format is not None,
        "stream_format": exchange.stream_format,
        "features": features(exchange),
        "file": f"{exchange.api}.jsonl",
        "status": exchange.status,
        "bytes": len(exchange.response),
    }


def whole(exchange: Exchange, row: dict[str, Any]) -> dict[str, Any]:
    """The exchange with its bodies."""
    stream_format = exchange.stream_format if exchange.status == 200 else None
    sent = {"content-type": "application/json", **exchange.request_headers}
    told = {"content-type": MEDIA_TYPES[stream_format], **exchange.response_headers}
    return {
        **{key: row[key] for key in ("id", "provider", "api", "endpoint")},
        "host": exchange.host,
        "query": exchange.query,
        "model": row["model"],
        "request": {"headers": sent, **_body(exchange.request_body)},
        "response": {"status": exchange.status, "headers": told, **_body(exchange.response)},
        "streaming": row["streaming"],
        "stream_format": row["stream_format"],
        "features": row["features"],
    }


def files() -> dict[str, bytes]:
    """Name and content of every file of the set."""
    lines: dict[str, list[bytes]] = {"index.jsonl": []}
    for exchange in exchanges():
        described = row(exchange)
        lines["index.jsonl"].append(_line(described))
        lines.setdefault(described["file"], []).append(_line(whole(exchange, described)))
    for exchange_id, count in Counter(exchange.id for exchange in exchanges()).items():
        if count > 1:
            raise ValueError(f"two exchanges have the id {exchange_id!r}; a case is named once for a provider's API")
    return {name: b"".join(each) for name, each in lines.items()}


def _line(value: dict[str, Any]) -> bytes:
    """ASCII only: an editor that knows U+2028 as an end of line would break the file."""
    return json.dumps(value, separators=(",", ":")).encode() + b"\n"


def main() -> None:
    DIRECTORY.mkdir(parents=True, exist_ok=True)
    made = files()
    for path in DIRECTORY.glob("*.jsonl"):
        if path.name not in made:
            path.unlink()
    for name, content in made.items():
        (DIRECTORY / name).write_bytes(content)


if __name__ == "__main__":
    main()
