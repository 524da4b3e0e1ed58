"""The shapes of a chunk of a streamed chat completion, and the repair of chunks with fields of unexpected types."""

from __future__ import annotations

import math
from typing import Any, Literal

import msgspec

from ...codecs.json_values import encode, text_of
from ...model.content import Json
from .content import unwrapped_text
from .errors import word_of
from .fields import Object


class CallFunction(msgspec.Struct):
    name: str | None = None
    arguments: str | dict[str, Any] | None = None


class CallDelta(msgspec.Struct):
    index: int | None = None
    id: str | None = None
    function: CallFunction | None = None
    custom: dict[str, Any] | None = None
    extra_content: Any = None


class Delta(msgspec.Struct):
    content: str | list[Any] | dict[str, Any] | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    reasoning_details: list[Any] | None = None
    thinking_blocks: list[Any] | None = None
    refusal: str | None = None
    tool_calls: list[CallDelta] | None = None
    function_call: CallFunction | None = None
    annotations: list[Any] | None = None
    audio: dict[str, Any] | None = None
    images: list[Any] | None = None


class ChunkChoice(msgspec.Struct):
    index: int | None = None
    delta: Delta | None = None
    message: Any = None
    """The complete reply in one chunk, in place of `delta`."""
    text: Any = None
    """The text in the older format of completions, in place of `delta`."""
    finish_reason: str | None = None
    native_finish_reason: Any = None
    logprobs: Any = None
    usage: dict[str, Any] | None = None
    """Moonshot's field for it."""
    error: Any = None
    """OpenRouter's place for an error of one choice."""


class _XGroq(msgspec.Struct):
    usage: dict[str, Any] | None = None


class Chunk(msgspec.Struct):
    id: str | int | None = None
    created: float | None = None
    model: str | None = None
    choices: list[ChunkChoice] | None = None
    usage: dict[str, Any] | None = None
    x_groq: _XGroq | None = None
    error: Any = None
    object: Any = None
    detail: Any = None
    message: Any = None
    msg: Any = None
    errors: Any = None
    base_resp: Any = None
    """MiniMax's status, also of a chunk that is no error."""


class _TextDelta(msgspec.Struct):
    """A delta with text and nothing else that is read."""

    content: str
    reasoning_content: None = None
    reasoning: None = None
    reasoning_details: None = None
    thinking_blocks: None = None
    refusal: None = None
    tool_calls: None = None
    function_call: None = None
    annotations: None = None
    audio: None = None
    images: None = None


class _TextChoice(msgspec.Struct):
    delta: _TextDelta
    index: Literal[0] | None = None
    message: None = None
    finish_reason: None = None
    logprobs: None = None
    usage: None = None
    error: None = None


class TextChunk(msgspec.Struct):
    choices: list[_TextChoice]
    id: str | int | None = None
    created: float | None = None
    model: str | None = None
    usage: None = None
    x_groq: None = None
    error: None = None
    object: Any = None
    detail: Any = None
    message: Any = None


def _whole_number(value: Json) -> int | None:
    """The index, which may be text or a float."""
    if isinstance(value, str) and value.strip().isdecimal():
        return int(value)
    return int(value) if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1e9 else None


def _dict(value: Json) -> dict[str, Any] | None:
    return value if isinstance(value, dict) else None


def _list(value: Json) -> list[Any] | None:
    return value if isinstance(value, list) else None


def repaired_chunk(value: Object) -> Chunk:
    """Reads a chunk with fields of unexpected types."""
    created = value.get("created")
    groq = value.get("x_groq")
    return Chunk(
        id=word_of(value.get("id")),
        created=float(created) if isinstance(created, int | float) and math.isfinite(created) else None,
        model=text_of(value.get("model")),
        choices=[_mended_choice(each) for each in _choices_in(value.get("choices")) if isinstance(each, dict)],
        usage=_dict(value.get("usage")),
        x_groq=_XGroq(_dict(groq.get("usage"))) if isinstance(groq, dict) else None,
    )


def _choices_in(value: Json) -> list[Any]:
    """The choices. One choice may come without its list."""
    return [value] if isinstance(value, dict) else _list(value) or []


def _mended_choice(value: Object) -> ChunkChoice:
    delta = value.get("delta")
    return ChunkChoice(
        index=_whole_number(value.get("index")),
        delta=repaired_delta(delta) if isinstance(delta, dict) else None,
        message=value.get("message"),
        text=value.get("text"),
        finish_reason=word_of(value.get("finish_reason")),
        native_finish_reason=value.get("native_finish_reason"),
        logprobs=value.get("logprobs"),
        usage=_dict(value.get("usage")),
        error=value.get("error"),
    )


def repaired_delta(value: Object) -> Delta:
    content = value.get("content")
    calls = [_mended_call(each) for each in _list(value.get("tool_calls")) or () if isinstance(each, dict)]
    old = value.get("function_call")
    return Delta(
        content=content if isinstance(content, str | list | dict) else word_of(content),
        reasoning_content=unwrapped_text(value.get("reasoning_content")),
        reasoning=unwrapped_text(value.get("reasoning")),
        reasoning_details=_list(value.get("reasoning_details")),
        thinking_blocks=_list(value.get("thinking_blocks")),
        refusal=unwrapped_text(value.get("refusal")),
        tool_calls=calls or None,
        function_call=_mended_function(old) if isinstance(old, dict) else None,
        annotations=_list(value.get("annotations")),
        audio=_dict(value.get("audio")),
        images=_list(value.get("images")),
    )


def _mended_call(value: Object) -> CallDelta:
    function = value.get("function")
    return CallDelta(
        index=_whole_number(value.get("index")),
        id=word_of(value.get("id")),
        function=_mended_function(function) if isinstance(function, dict) else None,
        custom=_dict(value.get("custom")),
        extra_content=value.get("extra_content"),
    )


def _mended_function(value: Object) -> CallFunction:
    value_of_arguments = value.get("arguments")
    arguments = (
        value_of_arguments
        if value_of_arguments is None or isinstance(value_of_arguments, str | dict)
        else encode(value_of_arguments).decode()
    )
    return CallFunction(text_of(value.get("name")), arguments)
