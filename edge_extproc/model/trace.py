"""Where an exchange stands in its trace: W3C Trace Context, as text and as nouns."""

from __future__ import annotations

import re

from .noun import noun

_TRACEPARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_SAMPLED = 1


@noun
class Parent:
    """What a traceparent says."""

    trace_id: str
    span_id: str
    sampled: bool


def read_traceparent(text: str | None) -> Parent | None:
    """None where there is none, or one that nobody may take: version ff, or an id of zeros."""
    found = _TRACEPARENT.fullmatch(text) if text is not None else None
    if found is None or text is None or text.startswith("ff"):
        return None
    trace_id, span_id, flags, more = found.groups()
    if more is not None and text.startswith("00"):  # only a version to come may say more
        return None
    if not trace_id.strip("0") or not span_id.strip("0"):
        return None
    return Parent(trace_id, span_id, bool(int(flags, 16) & _SAMPLED))


@noun
class Trace:
    """Our own span of one exchange. There is none where it is not sampled."""

    trace_id: str
    span_id: str
    parent_id: str | None
    """None where the trace begins with us."""

    @property
    def header(self) -> str:
        """The traceparent for whom we ask."""
        return f"00-{self.trace_id}-{self.span_id}-01"


@noun
class Transcript:
    """What was said in an exchange, where a configuration asks for it. It is redacted before it goes anywhere."""

    asked: tuple[tuple[str, str], ...]
    """Role and text of each message."""
    answer: str
