"""The position of an exchange in a trace, and the header of W3C Trace Context."""

from __future__ import annotations

import re

from .frozen_dataclass import frozen_dataclass

_TRACEPARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_SAMPLED = 1


@frozen_dataclass
class Parent:
    """The parent span, from a traceparent header."""

    trace_id: str
    span_id: str
    sampled: bool


def read_traceparent(text: str | None) -> Parent | None:
    """The parent span of a traceparent header. None without a header, or if it is invalid (malformed, version ff, or an
    id of zeros)."""
    match = _TRACEPARENT.fullmatch(text) if text is not None else None
    if match is None or text is None or text.startswith("ff"):
        return None
    trace_id, span_id, flags, more = match.groups()
    if more is not None and text.startswith("00"):  # only later versions may have more fields
        return None
    if not trace_id.strip("0") or not span_id.strip("0"):
        return None
    return Parent(trace_id, span_id, bool(int(flags, 16) & _SAMPLED))


@frozen_dataclass
class Trace:
    """The agent's span of one sampled exchange."""

    trace_id: str
    span_id: str
    parent_id: str | None
    """None if the trace begins at the gateway."""

    @property
    def header(self) -> str:
        """The traceparent header for the provider."""
        return f"00-{self.trace_id}-{self.span_id}-01"


@frozen_dataclass
class Transcript:
    """The prompt and reply of an exchange, if the configuration enables it. It is redacted before it is exported."""

    messages: tuple[tuple[str, str], ...]
    """Role and text of each message of the request."""
    reply: str
