"""What the gateway records of a complete reply whose content it does not need."""

from __future__ import annotations

from .frozen_dataclass import frozen_dataclass
from .reply import FinishReason, Reply
from .usage import Usage


@frozen_dataclass
class ReplySummary:
    model: str | None
    finish: FinishReason | None
    """Of the first choice that has one."""
    usage: Usage | None


def summary_of(reply: Reply) -> ReplySummary:
    for choice in reply.choices:
        if choice.finish is not None:
            return ReplySummary(reply.model, choice.finish.reason, reply.usage)
    return ReplySummary(reply.model, None, reply.usage)
