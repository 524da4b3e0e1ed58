"""What a debug capture has seen of one request: the bytes to and from its providers, without credentials."""

from __future__ import annotations

import msgspec


class CapturedAttempt(msgspec.Struct):
    """The request of one attempt."""

    headers: list[tuple[str, str]] = []
    """As set for the provider. A value that may be secret is replaced."""
    body: str = ""
    cut: bool = False
    """The body is longer than what is kept."""


class CapturedRequest(msgspec.Struct):
    key: str
    """The id of the caller's key."""
    exchange: str | None = None
    attempts: list[CapturedAttempt] = []
    """In their order. Empty: no provider was asked."""
    status: int | None = None
    """Of the response that reached the gateway."""
    headers: list[tuple[str, str]] = []
    """Of that response."""
    body: str = ""
    cut: bool = False
    ended: bool = False
