"""Reads the summary of a complete Messages reply of the usual shape."""

from __future__ import annotations

from typing import Literal

from ...codecs.json_values import text_of
from ...model.reply_summary import ReplySummary
from ..failed_finish import failed_finish
from ..usual_shape import Arguments, Shape, usual
from .reply import read_finish, read_usage


class _Block(Shape, tag_field="type"):
    pass


class _Text(_Block, tag="text"):
    text: str


class _Thinking(_Block, tag="thinking"):
    thinking: str
    signature: str | None = None


class _RedactedThinking(_Block, tag="redacted_thinking"):
    data: str


class _ToolUse(_Block, tag="tool_use"):
    id: str
    name: str
    input: Arguments


class _ServerToolUse(_Block, tag="server_tool_use"):
    pass


class _WebSearchResult(_Block, tag="web_search_tool_result"):
    pass


class _Message(Shape):
    type: Literal["message"]
    content: list[_Text | _Thinking | _RedactedThinking | _ToolUse | _ServerToolUse | _WebSearchResult]


def read_summary(body: bytes) -> ReplySummary | None:
    summary = usual(body, _Message)
    if summary is None or summary[0].get("error"):
        return None
    message = summary[0]
    usage, finish = message.get("usage"), read_finish(message.get("stop_reason"), None)
    if finish is not None and failed_finish(finish.raw) is not None:
        return None
    return ReplySummary(
        text_of(message.get("model")),
        finish.reason if finish is not None else None,
        read_usage(usage) if isinstance(usage, dict) else None,
    )
