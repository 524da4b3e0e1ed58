"""The deviations of a host from other hosts of the same wire format, as data.

A provider has the profile of its host, and a dialect encodes requests according to it. Deviations that depend on the
model, not on the host, are in the tables of the dialects.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

from .noun import noun

Thoughts: TypeAlias = Literal["as they came", "refused", "reasoning_content", "reasoning_details"]


@noun
class HostProfile:
    """The default values are for an unknown host."""

    user_limit: int | None = None
    """The maximum length of the end user's id, in characters. The host refuses a request with a longer one."""
    strict: bool = False
    """Whether the host refuses tool call ids that are longer than OpenAI's own."""
    thoughts: Thoughts = "as they came"
    """How unsigned thinking in the history is sent, in OpenAI's formats. "refused": it is not sent. A field name: it is
    sent in this field, also from callers of other formats. "as they came": only a caller of the same format can send
    it."""


UNKNOWN_HOST = HostProfile()
