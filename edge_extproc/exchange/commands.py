"""What we tell Envoy: exactly one command answers each event.

Hold, Release and Pass are for a response body in full duplex alone, where Envoy does not wait for an answer to each
message.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, TypeAlias

from ..model.noun import noun

Pairs: TypeAlias = tuple[tuple[str, str], ...]
BodyMode: TypeAlias = Literal["none", "streamed", "buffered"]


@noun
class Continue:
    """Go on. A set header replaces all of that name. `body` None leaves the body alone, b"" empties it."""

    set_headers: Pairs = ()
    remove_headers: tuple[str, ...] = ()
    body: bytes | None = None
    reroute: bool = False
    """Choose the route again. Envoy does so only if the same answer also changes a header."""
    metadata: Mapping[str, Mapping[str, object]] | None = None
    """Dynamic metadata to set, by namespace."""
    order: tuple[str, ...] = ()
    """The clusters that Envoy shall try, one after the other; empty says nothing of it."""
    response_body: BodyMode | None = None
    """How the response body shall come; in answer to response headers, or to those of a request, which then ask for the
    response's headers too."""


@noun
class Replace:
    """Send these headers and this whole body instead (CONTINUE_AND_REPLACE). Envoy drops content-length."""

    set_headers: Pairs
    remove_headers: tuple[str, ...]
    body: bytes
    metadata: Mapping[str, Mapping[str, object]] | None = None


@noun
class ImmediateResponse:
    """Answer the caller now; nothing goes upstream. `details` shows in Envoy's log as response code details, begins
    with "edge_" and holds no text of a caller or provider."""

    status: int
    headers: Pairs
    body: bytes
    details: str
    metadata: Mapping[str, Mapping[str, object]] | None = None


@noun
class Hold:
    """Nothing is said now. Only where the response body is in full duplex: Envoy waits, and sends on what comes."""


@noun
class Release:
    """Let the response headers go that were held, and these bytes of the body after them."""

    set_headers: Pairs = ()
    remove_headers: tuple[str, ...] = ()
    body: bytes = b""
    end: bool = False
    """This is all of the body."""
    order: tuple[str, ...] = ()
    """As in Continue."""


@noun
class Pass:
    """These bytes of a body in full duplex, whose headers have gone."""

    body: bytes
    end: bool


Command: TypeAlias = Continue | Replace | ImmediateResponse | Hold | Release | Pass

CONTINUE = Continue()
HOLD = Hold()
