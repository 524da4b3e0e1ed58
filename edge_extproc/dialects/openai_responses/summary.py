"""Reads the summary of a complete Responses object of the usual shape."""

from __future__ import annotations

from ...codecs.json_values import text_of
from ...model.reply_summary import ReplySummary
from ..usual_shape import Shape, usual
from .reply import read_finish, read_usage


class _Part(Shape, tag_field="type"):
    pass


class _OutputText(_Part, tag="output_text"):
    text: str


class _Refusal(_Part, tag="refusal"):
    refusal: str


class _Item(Shape, tag_field="type"):
    pass


class _Message(_Item, tag="message"):
    content: list[_OutputText | _Refusal]


class _FunctionCall(_Item, tag="function_call"):
    call_id: str
    name: str
    arguments: str


class _Reasoning(_Item, tag="reasoning"):
    pass


class _WebSearchCall(_Item, tag="web_search_call"):
    pass


class _FileSearchCall(_Item, tag="file_search_call"):
    pass


class _ImageGenerationCall(_Item, tag="image_generation_call"):
    pass


class _Response(Shape):
    output: list[_Message | _FunctionCall | _Reasoning | _WebSearchCall | _FileSearchCall | _ImageGenerationCall]


def read_summary(body: bytes) -> ReplySummary | None:
    summary = usual(body, _Response)
    if summary is None or summary[0].get("status") == "failed" or summary[0].get("error"):
        return None
    response, shape = summary
    finish = read_finish(response, any(isinstance(item, _FunctionCall) for item in shape.output))
    usage = response.get("usage")
    return ReplySummary(
        text_of(response.get("model")),
        finish.reason if finish is not None else None,
        read_usage(usage, response.get("output")) if isinstance(usage, dict) else None,
    )
