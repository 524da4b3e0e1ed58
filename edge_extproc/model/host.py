"""What a host takes otherwise than other hosts of the same wire format, as data.

A provider gives the profile of its host, and a dialect writes a request by it. What depends on the model and not on the
host is in the tables of the dialects.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

from .noun import noun

Thoughts: TypeAlias = Literal["as they came", "refused", "reasoning_content", "reasoning_details"]


@noun
class HostProfile:
    """The default is a host of which nothing is known."""

    user_limit: int | None = None
    """The greatest length of the id of an end user; a longer one makes the host refuse the request."""
    strict: bool = False
    """It refuses ids of calls that are longer than OpenAI's own."""
    thoughts: Thoughts = "as they came"
    """What becomes of unsigned thinking in the history, in OpenAI's formats. A host that refuses it gets none. One that
    wants it back gets it under this name, from callers of other formats too. Else only a caller of the same format
    decides."""


UNKNOWN_HOST = HostProfile()
