"""Asks an ASGI application without a network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass
class Answered:
    status: int
    headers: dict[str, str]
    body: bytes


async def get(app: Any, path: str, **headers: str) -> Answered:
    sent: list[dict[str, Any]] = []
    scope = {
        "type": "http",
        "method": "GET",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
    }

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    await app(scope, receive, send)
    start, *bodies = sent
    received = {name.decode(): value.decode() for name, value in start["headers"]}
    return Answered(start["status"], received, b"".join(each.get("body", b"") for each in bodies))
