"""Reads the summary of a complete Converse reply of the usual shape."""

from __future__ import annotations

from ...model.reply_summary import ReplySummary
from ..failed_finish import failed_finish
from ..usual_shape import Arguments, Shape, usual
from .reply import read_finish, read_usage


class _ToolUse(Shape, rename="camel"):
    tool_use_id: str
    name: str
    input: Arguments


class _ReasoningText(Shape):
    text: str
    signature: str | None = None


class _Reasoning(Shape, rename="camel"):
    reasoning_text: _ReasoningText


class _Block(Shape, rename="camel", forbid_unknown_fields=True):
    text: str | None = None
    tool_use: _ToolUse | None = None
    reasoning_content: _Reasoning | None = None


class _Message(Shape):
    content: list[_Block]


class _Output(Shape):
    message: _Message


class _Reply(Shape):
    output: _Output


def read_summary(body: bytes) -> ReplySummary | None:
    """The format does not name the model."""
    summary = usual(body, _Reply)
    if summary is None:
        return None
    reply = summary[0]
    usage, finish = reply.get("usage"), read_finish(reply.get("stopReason"), None)
    if finish is not None and failed_finish(finish.raw) is not None:
        return None
    return ReplySummary(
        None,
        finish.reason if finish is not None else None,
        read_usage(usage) if isinstance(usage, dict) else None,
    )
