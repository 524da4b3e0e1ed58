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
    finishes = [choice.finish.reason for choice in reply.choices if choice.finish is not None]
    return ReplySummary(reply.model, finishes[0] if finishes else None, reply.usage)
