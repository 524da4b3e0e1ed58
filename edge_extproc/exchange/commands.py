"""The commands to Envoy: each event is answered with exactly one.

Hold, Release and Pass are only for a body in full duplex mode, in which Envoy does not wait for an answer to
each message.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, TypeAlias

from ..model.frozen_dataclass import frozen_dataclass

Pairs: TypeAlias = tuple[tuple[str, str], ...]
BodyMode: TypeAlias = Literal["none", "streamed", "buffered", "full_duplex"]
"""`full_duplex`: streamed, and the gateway can end the response before its provider does."""


@frozen_dataclass
class Continue:
    """Continue. A set header replaces all headers of its name. `body`: None: unchanged; b"": empty."""

    set_headers: Pairs = ()
    remove_headers: tuple[str, ...] = ()
    body: bytes | None = None
    reroute: bool = False
    """Select the route again. Envoy does so only if the same answer also changes a header."""
    metadata: Mapping[str, Mapping[str, object]] | None = None
    """Dynamic metadata to set, by namespace."""
    order: tuple[str, ...] = ()
    """The clusters to try, in order. Empty: no order is set."""
    response_body: BodyMode | None = None
    """The mode of the response body. In an answer to request headers, it also requests the response headers."""


@frozen_dataclass
class Replace:
    """Send these headers and this whole body instead (CONTINUE_AND_REPLACE). Envoy removes content-length."""

    set_headers: Pairs
    remove_headers: tuple[str, ...]
    body: bytes
    metadata: Mapping[str, Mapping[str, object]] | None = None


@frozen_dataclass
class ImmediateResponse:
    """Answer the caller at once, without an upstream request. `details`: Envoy's response code details; it begins with
    "edge_" and contains no text of a caller or provider."""

    status: int
    headers: Pairs
    body: bytes
    details: str
    metadata: Mapping[str, Mapping[str, object]] | None = None


@frozen_dataclass
class Hold:
    """Send no answer now. Only in full duplex mode: Envoy waits, and sends the following chunks."""


@frozen_dataclass
class Release:
    """Release the held headers, followed by these bytes of the body."""

    set_headers: Pairs = ()
    remove_headers: tuple[str, ...] = ()
    body: bytes = b""
    end: bool = False
    """The body ends here."""
    order: tuple[str, ...] = ()
    """The same as in Continue."""
    reroute: bool = False
    """The same as in Continue."""
    trailers: bool = False
    """The body ends with trailers, which pass unchanged."""


@frozen_dataclass
class Pass:
    """Send these bytes of a body in full duplex mode, after its headers."""

    body: bytes
    end: bool
    """The body ends here. If the upstream has not ended, Envoy resets its request."""
    trailers: bool = False
    """The body ends with trailers, which pass unchanged."""
    metadata: Mapping[str, Mapping[str, object]] | None = None
    """The same as in Continue."""


Command: TypeAlias = Continue | Replace | ImmediateResponse | Hold | Release | Pass

CONTINUE = Continue()
HOLD = Hold()
