"""What we tell Envoy: exactly one command answers each event."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

Pairs: TypeAlias = tuple[tuple[str, str], ...]
BodyMode: TypeAlias = Literal["none", "streamed", "buffered"]


@dataclass(frozen=True, slots=True)
class Continue:
    """Go on. A set header replaces all of that name. `body` None leaves the body alone, b"" empties it."""

    set_headers: Pairs = ()
    remove_headers: tuple[str, ...] = ()
    body: bytes | None = None
    reroute: bool = False
    """Choose the route again. Envoy does so only if the same answer also changes a header."""
    metadata: Mapping[str, Mapping[str, object]] | None = None
    """Dynamic metadata to set, by namespace."""
    response_body: BodyMode | None = None
    """How the response body shall come; only in answer to response headers."""


@dataclass(frozen=True, slots=True)
class Replace:
    """Send these headers and this whole body instead (CONTINUE_AND_REPLACE). Envoy drops content-length."""

    set_headers: Pairs
    remove_headers: tuple[str, ...]
    body: bytes
    metadata: Mapping[str, Mapping[str, object]] | None = None


@dataclass(frozen=True, slots=True)
class Reply:
    """Answer the caller now; nothing goes upstream. `details` shows in Envoy's log as response code details, begins
    with "edge_" and holds no text of a caller or provider."""

    status: int
    headers: Pairs
    body: bytes
    details: str


Command: TypeAlias = Continue | Replace | Reply

CONTINUE = Continue()
