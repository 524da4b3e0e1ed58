"""Reads the summary of a complete chat completion of the usual shape."""

from __future__ import annotations

from typing import Literal

from ...codecs.json_values import text_of
from ...model.reply_summary import ReplySummary
from ..failed_finish import failed_finish
from ..usual_shape import Shape, usual
from .reply import read_finish, read_usage


class _Function(Shape):
    name: str
    arguments: str


class _Call(Shape):
    function: _Function
    id: str | None = None
    type: Literal["function"] = "function"


class _Message(Shape):
    content: str | None = None
    refusal: str | None = None
    tool_calls: list[_Call] | None = None


class _Choice(Shape):
    message: _Message
    finish_reason: str | None = None


class _Completion(Shape):
    choices: list[_Choice]


def read_summary(body: bytes) -> ReplySummary | None:
    found = usual(body, _Completion)
    if found is None:
        return None
    completion, shape = found
    usage, finish = completion.get("usage"), None
    for choice in shape.choices:
        raw = choice.finish_reason
        if raw is None:
            continue
        if failed_finish(raw) is not None:
            return None
        if finish is None:
            finish = read_finish(raw, has_calls=bool(choice.message.tool_calls)).reason
    return ReplySummary(
        text_of(completion.get("model")) or None, finish, read_usage(usage) if isinstance(usage, dict) else None
    )
