"""Reads the summary of a complete generateContent reply of the usual shape."""

from __future__ import annotations

from msgspec import UNSET, UnsetType

from ...codecs.json_values import text_of
from ...model.reply_summary import ReplySummary
from ..failed_finish import failed_finish
from ..usual_shape import Arguments, Shape, usual
from .reply import read_finish, read_usage, searches_in


class _Call(Shape):
    name: str
    args: Arguments | None = None


class _Part(Shape, rename="camel", forbid_unknown_fields=True):
    text: str | None = None
    thought: bool | None = None
    thought_signature: str | None = None
    function_call: _Call | UnsetType = UNSET
    inline_data: dict[str, str] | UnsetType = UNSET


class _Content(Shape):
    parts: list[_Part]


class _Candidate(Shape, rename={"finish": "finishReason", "snake_case_finish": "finish_reason"}):
    content: _Content
    finish: str | None = None
    snake_case_finish: None = None
    """`read_reply` reads both spellings; only one of them is usual."""


class _Reply(Shape, rename={"snake_case_model": "model_version"}):
    candidates: list[_Candidate]
    snake_case_model: None = None


def read_summary(body: bytes) -> ReplySummary | None:
    """Of a reply with one candidate. Several are sorted by their index first."""
    summary = usual(body, _Reply)
    if summary is None or len(summary[1].candidates) != 1:
        return None
    reply, candidate = summary[0], summary[1].candidates[0]
    calls = [part for part in candidate.content.parts if part.function_call is not UNSET]
    if any(part.text is not None or part.inline_data is not UNSET for part in calls):
        return None
    finish = read_finish(candidate.finish, bool(calls))
    if finish is not None and failed_finish(finish.raw) is not None:
        return None
    return ReplySummary(
        text_of(reply.get("modelVersion")) or None,
        finish.reason if finish is not None else None,
        read_usage(reply.get("usageMetadata"), searches_in(reply)),
    )
