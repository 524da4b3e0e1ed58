"""Reads the summary of a complete chat completion of the usual shape."""

from __future__ import annotations

from typing import Any, Literal

from ...codecs.json_values import text_of
from ...model.reply_summary import ReplySummary
from ..failed_finish import failed_finish
from ..usual_shape import Shape, usual
from .functions import is_called
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
    function_call: Any = None


class _Choice(Shape):
    message: _Message
    finish_reason: str | None = None
    native_finish_reason: Any = None


class _Completion(Shape):
    choices: list[_Choice]


def read_summary(body: bytes) -> ReplySummary | None:
    summary = usual(body, _Completion)
    if summary is None:
        return None
    completion, shape = summary
    usage, finish = completion.get("usage"), None
    for choice in shape.choices:
        raw = choice.finish_reason
        if raw is None:
            continue
        if failed_finish(raw) is not None:
            return None
        if finish is None:
            message = choice.message
            has_calls = bool(message.tool_calls) or is_called(message.function_call, strict=False)
            finish = read_finish(raw, has_calls=has_calls, native=choice.native_finish_reason).reason
    return ReplySummary(
        text_of(completion.get("model")) or None, finish, read_usage(usage) if isinstance(usage, dict) else None
    )
