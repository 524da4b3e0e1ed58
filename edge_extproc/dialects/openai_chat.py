"""OpenAI's Chat Completions API, both directions: what its callers send and read, and what its hosts take and give.

Dozens of hosts speak it, each a little differently; what their recorded traffic shows is read here, and what they
agree on is written. The file is in the order of a call: the cheap view and the raw lane; reading a request; writing
one; usage; replies; streams; errors; models. `FIELDS` tells what becomes of each field of a chat that crosses over
from another format, and `_EFFORTS` how much thinking which models can be asked for. It knows nothing of hosts, keys,
routing or Envoy.

In `extras`, a key whose value is None is a note: the field was understood, and only how the caller spelled it is kept,
for a writer of this dialect. Nothing is lost with it, so no writer of another dialect names it as dropped.
"""

from __future__ import annotations

import base64
import hashlib
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, assert_never

import msgspec
import orjson

from ..codecs import json_splice, sse
from ..codecs.frame import Frame
from ..codecs.json_values import (
    UNREADABLE,
    TokenCounts,
    as_bool,
    as_int,
    as_list,
    as_number,
    as_object,
    as_text,
    decode_reply,
    encode,
    left_in,
    maybe,
    object_in,
    read_body,
    rest_of,
    text_of,
    wrong,
)
from ..errors import BadRequest, Unavailable, Unsupported, UpstreamError
from ..model.call import Call, Chat, FunctionTool, Operation, Reasoning, ResponseFormat, Tool, ToolChoice, Written
from ..model.content import (
    NO_EXTRAS,
    Audio,
    CacheMark,
    Document,
    Extras,
    FileRef,
    Image,
    Inline,
    Json,
    Message,
    Opaque,
    Part,
    RedactedThinking,
    Refusal,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
    Url,
)
from ..model.fault import Fault, FaultKind, kind_of, refined, scrubbed
from ..model.host import UNKNOWN_HOST, HostProfile, Thoughts
from ..model.reply import (
    Choice,
    Ended,
    Failed,
    Finish,
    Finished,
    FinishReason,
    Garbled,
    Noted,
    PartDelta,
    PartEnded,
    PartKind,
    PartNoted,
    PartSigned,
    PartStarted,
    Ping,
    Reply,
    ReplyEvent,
    ReplyStarted,
    UsageSeen,
)
from ..model.usage import Usage, cached_twice
from .base import FieldSupport, Headers, ModelCard, Route, header, retry_after
from .carried import original_id, tool_id
from .dropping import DropList, omission
from .history import array

NAME = "openai_chat"
TITLE = "OpenAI Chat Completions"

Object = dict[str, Json]
"""A JSON object of the wire."""

# --- what becomes of a chat that crosses over


FIELDS: Mapping[str, FieldSupport] = MappingProxyType(
    {
        "dialect": FieldSupport("mapped", "not sent; it says how to name what is dropped"),
        "model": FieldSupport("mapped", "model: the name under which the chosen host knows it"),
        "messages": FieldSupport(
            "mapped",
            "system turns stay where they are; tool results become tool messages before the rest of their turn, and "
            "images and documents in them go into the user message that follows; an assistant's texts become one; "
            "thinking, the error flag of a tool result, cache marks and foreign fields are dropped; uploaded files, "
            "documents by URL and parts that only another format knows are refused",
        ),
        "stream": FieldSupport("mapped", "stream"),
        "include_usage": FieldSupport("mapped", "stream_options.include_usage: always asked for, since we bill by it"),
        "tools": FieldSupport("mapped", "functions; a tool that is none is refused; cache marks are dropped"),
        "tool_choice": FieldSupport("mapped", "tool_choice; dropped without tools"),
        "parallel_tool_calls": FieldSupport("mapped", "parallel_tool_calls; dropped without tools"),
        "max_output_tokens": FieldSupport("mapped", "max_completion_tokens"),
        "temperature": FieldSupport("mapped", "dropped for reasoning models of OpenAI that refuse it"),
        "top_p": FieldSupport("mapped", "dropped for reasoning models of OpenAI that refuse it"),
        "top_k": FieldSupport("dropped", "the format has no such setting"),
        "stop": FieldSupport("mapped", "dropped for reasoning models of OpenAI that refuse it"),
        "n": FieldSupport("mapped", "n"),
        "seed": FieldSupport("mapped", "seed"),
        "presence_penalty": FieldSupport("mapped", "dropped for reasoning models of OpenAI that refuse it"),
        "frequency_penalty": FieldSupport("mapped", "dropped for reasoning models of OpenAI that refuse it"),
        "logprobs": FieldSupport("mapped", "dropped for reasoning models of OpenAI that refuse it"),
        "top_logprobs": FieldSupport("mapped", "dropped for reasoning models of OpenAI that refuse it"),
        "response_format": FieldSupport("mapped", "response_format; a schema without a name is called `response`"),
        "reasoning": FieldSupport(
            "mapped",
            "reasoning_effort: the nearest level that the model has; a budget of tokens becomes the level with the "
            "greatest budget not above it; dropped for models of which we do not know that they take one, and for "
            "those that cannot be told not to think",
        ),
        "service_tier": FieldSupport("mapped", "standard_only → default; what OpenAI does not know is dropped"),
        "user": FieldSupport("mapped", "user; dropped where it is longer than the host takes"),
        "metadata": FieldSupport("dropped", "it labels stored completions of the account, which are not the caller's"),
        "extras": FieldSupport(
            "dropped", "but what the Responses API shares: prompt_cache_key and its like, text.verbosity"
        ),
        "needed": FieldSupport("refused", "whatever it names"),
    }
)

# --- how much a model can be asked to think

_LEVELS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")

# What the makers' pages on each model list, read in 2026; the first row that fits holds. A model that is not listed is
# not asked: hosts answer an effort which their model does not take with an error.
_EFFORTS: tuple[tuple[re.Pattern[str], tuple[str, ...]], ...] = (
    (re.compile(r"(^|/)gpt-5\.1(?!\d)"), ("none", "low", "medium", "high")),
    (re.compile(r"(^|/)gpt-5\.\d"), ("none", "low", "medium", "high", "xhigh")),
    (re.compile(r"(^|/)gpt-5(?!.*chat)"), ("minimal", "low", "medium", "high")),
    (re.compile(r"(^|/)o1-(mini|preview)"), ()),
    (re.compile(r"(^|/)(o\d|gpt-oss|gemini-(2\.5|3))"), ("low", "medium", "high")),
    (re.compile(r"(^|/)grok-3-mini"), ("low", "high")),
)


# Models that refuse sampling settings (`Unsupported value: 'temperature' does not support 0.7 with this model`), and
# stop sequences: OpenAI's guide on reasoning models. From GPT-5.1 on they are taken where the model does not think; to
# 5.4 it does not unless it is asked to.
_NEVER_SAMPLED = re.compile(r"(^|/)(o\d|gpt-5(?!\.\d)(?!.*chat))")
_SAMPLED_UNTHINKING = re.compile(r"(^|/)gpt-5\.(\d)(?!.*(chat|pro))")
_LAST_UNTHINKING = 4
SAMPLING = ("temperature", "top_p", "presence_penalty", "frequency_penalty", "logprobs", "top_logprobs")


def is_sampled(model: str, effort: str | None) -> bool:
    """Whether a model takes sampling settings at this effort."""
    name = model.lower()
    if _NEVER_SAMPLED.search(name):
        return False
    match = _SAMPLED_UNTHINKING.search(name)
    if match is None or effort == "none":
        return True
    return effort is None and int(match[2]) <= _LAST_UNTHINKING


def takes_stop(model: str) -> bool:
    return _NEVER_SAMPLED.search(model.lower()) is None


def efforts_of(model: str) -> tuple[str, ...]:
    """The levels that a model is known to take."""
    name = model.lower()
    return next((levels for pattern, levels in _EFFORTS if pattern.search(name)), ())


# Thinking tokens of each level, where a caller gives only a budget: 1024 is the least that Anthropic takes, and each
# level doubles the one before.
_BUDGETS: tuple[tuple[int, str], ...] = (
    (16_384, "max"),
    (8_192, "xhigh"),
    (4_096, "high"),
    (2_048, "medium"),
    (0, "low"),
)


def effort_for(model: str, wanted: str) -> str | None:
    """The level nearest to `wanted` (the highest not above it, else the lowest) that a model has, or None."""
    levels = efforts_of(model)
    if wanted == "none":
        return wanted if wanted in levels else None
    if wanted not in _LEVELS:
        return wanted if levels else None
    thinking = [level for level in levels if level != "none"]
    below = [level for level in thinking if _LEVELS.index(level) <= _LEVELS.index(wanted)]
    nearest = below[-1:] or thinking[:1]
    return nearest[0] if nearest else None


def _effort_of_budget(budget: int) -> str:
    return next(level for least, level in _BUDGETS if max(budget, 0) >= least)


# --- JSON


def _overlay(block: Object, extras: Extras) -> None:
    """Puts back what a reader of this dialect left. Notes (None) are no fields."""
    for key, value in extras.items():
        if value is None:
            continue
        there = block.get(key)
        if isinstance(there, dict) and isinstance(value, dict):
            _overlay(there, value)
        else:
            block[key] = value


def _is_noted(extras: Extras, key: str) -> bool:
    return key in extras and extras[key] is None


# --- the cheap view


class _Probe(msgspec.Struct):
    model: str
    stream: bool | None = None
    # What the provider judges is not judged here: of these, only what is well formed counts.
    stream_options: Any = None
    max_tokens: Any = None
    max_completion_tokens: Any = None
    n: Any = None


_probe = msgspec.json.Decoder(_Probe)


def _why_no_call(raw: bytes) -> BadRequest:
    """What is wrong with a body that the probe refused."""
    try:
        body = read_body(raw)
        if "model" not in body:
            return BadRequest("model is missing: name the model that shall answer", param="model")
        as_text(body["model"], "model")
        maybe(as_bool, body, "stream")
    except BadRequest as exc:
        return exc
    return BadRequest("the body cannot be read")


def _positive(value: Json) -> int | None:
    """Some hosts also read 8.0 and "8"."""
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= _LONGEST_COUNT:
        return int(value) or None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None


_LONGEST_COUNT = 18
"""Digits."""


def _read_call(raw: bytes) -> Call:
    try:
        probe = _probe.decode(raw)
    except UNREADABLE:
        raise _why_no_call(raw) from None
    if not probe.model:
        raise BadRequest("model is empty: name the model that shall answer", param="model")
    stream = probe.stream is True
    options = probe.stream_options
    asked = isinstance(options, dict) and options.get("include_usage") is True
    return Call(
        dialect=NAME,
        operation="chat",
        model=probe.model,
        stream=stream,
        raw=raw,
        wants_usage=asked or not stream,
        # Hosts differ in which of the two they read.
        max_output_tokens=max(_positive(probe.max_completion_tokens) or 0, _positive(probe.max_tokens) or 0) or None,
        choices=_positive(probe.n) or 1,
    )


# --- reading a request: parts

_DATA_URI = re.compile(r"data:([^,]*);base64,", re.IGNORECASE)
_AUDIO_TYPES: Mapping[str, str] = MappingProxyType({"mp3": "audio/mpeg"})
_AUDIO_FORMATS: Mapping[str, str] = MappingProxyType(
    {"audio/mpeg": "mp3", "audio/mp3": "mp3", "audio/wav": "wav", "audio/x-wav": "wav", "audio/wave": "wav"}
)


def _read_source(url: str, path: str) -> Inline | Url:
    if url[:5].lower() != "data:":
        return Url(url)
    match = _DATA_URI.match(url)
    if match is None:
        raise BadRequest(f"{path} must be data:<media type>;base64,<data> or an http(s) URL", param=path)
    return Inline(match[1], url[match.end() :])


def _write_source(source: Inline | Url) -> str:
    return source.url if isinstance(source, Url) else f"data:{source.media_type};base64,{source.data}"


_CACHE = frozenset({"type", "ttl"})


def _read_cache(block: Mapping[str, Json], known: frozenset[str]) -> tuple[CacheMark | None, Object]:
    """The cache mark that some hosts take on a part, and what is left of it. A mark of another kind stays behind."""
    extras = left_in(block, known | {"cache_control"})
    mark = block.get("cache_control")
    match mark:
        case None:
            return None, extras
        case {"type": "ephemeral", **rest} if rest.keys() <= {"ttl"} and isinstance(rest.get("ttl"), str | None):
            ttl = rest.get("ttl")
            return CacheMark(text_of(ttl)), extras
        case _:
            return None, {**extras, "cache_control": mark}


_TEXT_PART = frozenset({"type", "text"})
_IMAGE_PART = frozenset({"type", "image_url"})
_AUDIO_PART = frozenset({"type", "input_audio"})
_FILE_PART = frozenset({"type", "file"})
_REFUSAL_PART = frozenset({"type", "refusal"})
_THINKING_PART = frozenset({"type", "thinking", "signature"})
_IN_CONTENT: Extras = MappingProxyType({"content": None})
"""A note: what stands in a field of its own elsewhere stood among the parts of the content here."""


def _opaque(part: Object, path: str) -> Opaque:
    return Opaque(NAME, as_text(part.get("type"), f"{path}.type"), part)


def _read_text_part(part: Object, path: str) -> Part:
    cache, extras = _read_cache(part, _TEXT_PART)
    return Text(as_text(part.get("text"), f"{path}.text"), cache, extras or NO_EXTRAS)


def _read_image_part(part: Object, path: str) -> Part:
    image = part.get("image_url")
    if isinstance(image, str):  # Mistral's spelling
        image = {"url": image}
    inner = as_object(image, f"{path}.image_url")
    source = _read_source(as_text(inner.get("url"), f"{path}.image_url.url"), f"{path}.image_url.url")
    cache, extras = _read_cache(part, _IMAGE_PART)
    if rest := left_in(inner, frozenset({"url", "detail"})):
        extras["image_url"] = rest
    return Image(source, maybe(as_text, inner, "detail", f"{path}.image_url"), cache, extras or NO_EXTRAS)


def _read_audio_part(part: Object, path: str) -> Part:
    inner = as_object(part.get("input_audio"), f"{path}.input_audio")
    if not isinstance(inner.get("format"), str):  # Mistral: a URL, or base64 without a format
        return _opaque(part, path)
    kind = as_text(inner["format"], f"{path}.input_audio.format")
    extras = left_in(part, _AUDIO_PART)
    if rest := left_in(inner, frozenset({"data", "format"})):
        extras["input_audio"] = rest
    data = as_text(inner.get("data"), f"{path}.input_audio.data")
    return Audio(Inline(_AUDIO_TYPES.get(kind, f"audio/{kind}"), data), extras or NO_EXTRAS)


def _read_file_part(part: Object, path: str) -> Part:
    inner = as_object(part.get("file"), f"{path}.file")
    data, file_id = maybe(as_text, inner, "file_data", f"{path}.file"), maybe(as_text, inner, "file_id", f"{path}.file")
    source: Inline | Url | FileRef
    if data is not None:
        where = f"{path}.file.file_data"
        # Bare base64 is taken too; a file without a type of its own is a PDF, which every host of files takes.
        is_uri = data[:5].lower() == "data:" or "://" in data[:12]
        source = _read_source(data, where) if is_uri else Inline("application/pdf", data)
    elif file_id is not None:
        source = FileRef(file_id)
    else:
        raise BadRequest(f"{path}.file must hold file_data or file_id", param=f"{path}.file")
    cache, extras = _read_cache(part, _FILE_PART)
    known = {"filename", "file_data", "file_id"} if data is None or file_id is None else {"filename", "file_data"}
    if rest := left_in(inner, frozenset(known)):
        extras["file"] = rest
    return Document(source, maybe(as_text, inner, "filename", f"{path}.file"), cache, extras or NO_EXTRAS)


def _read_refusal_part(part: Object, path: str) -> Part:
    text = as_text(part.get("refusal"), f"{path}.refusal")
    return Refusal(text, {**left_in(part, _REFUSAL_PART), **_IN_CONTENT})


def _read_thinking_part(part: Object, path: str) -> Part:
    """Mistral's: a list of text parts within a part of the content."""
    inner = part.get("thinking")
    texts = inner if isinstance(inner, list) else [{"type": "text", "text": inner}]
    pieces = []
    for text in texts:
        match text:
            case {"type": "text", "text": str(piece), **rest} if not rest:
                pieces.append(piece)
            case _:
                return _opaque(part, path)
    extras = {**left_in(part, _THINKING_PART), **_IN_CONTENT}
    return Thinking("".join(pieces), maybe(as_text, part, "signature", path), extras)


_READ_PART: Mapping[str, Callable[[Object, str], Part]] = MappingProxyType(
    {
        "text": _read_text_part,
        "image_url": _read_image_part,
        "input_audio": _read_audio_part,
        "file": _read_file_part,
        "refusal": _read_refusal_part,
        "thinking": _read_thinking_part,
    }
)


def _read_content(value: Json, path: str) -> tuple[Part, ...]:
    """What is no part of ours (video_url, document_url, …) stays whole."""
    if value is None:
        return ()
    if isinstance(value, str):
        return (Text(value),)
    if not isinstance(value, list):
        raise wrong(path, "a string or a list of parts", value)
    parts = []
    for number, each in enumerate(value):
        where = f"{path}[{number}]"
        part = as_object(each, where)
        parts.append(_READ_PART.get(as_text(part.get("type"), f"{where}.type"), _opaque)(part, where))
    return tuple(parts)


# --- what a model thought: four spellings of the hosts

_FLAT_THOUGHT = ("reasoning_content", "reasoning")
_WANTED: frozenset[Thoughts] = frozenset({"reasoning_content", "reasoning_details"})
_STRUCTURED_THOUGHT = ("thinking_blocks", "reasoning_details")
_THOUGHT = frozenset((*_FLAT_THOUGHT, *_STRUCTURED_THOUGHT))
# Signatures and sealed thoughts of other makers' models mean nothing in our nouns' places for them.
_SIGNED_FORMATS = ("anthropic-claude-v1", "unknown", None)
_DETAIL_TEXT: Mapping[Json, str] = MappingProxyType(
    {"reasoning.text": "text", "reasoning.summary": "summary", "thinking": "thinking"}
)
_SEALED = frozenset({"reasoning.encrypted", "redacted_thinking"})


@dataclass(frozen=True, slots=True)
class _Thought:
    """One entry of thinking_blocks or reasoning_details."""

    text: str = ""
    signature: str | None = None
    sealed: str | None = None
    rest: Extras = NO_EXTRAS

    def part(self) -> Part:
        if self.sealed is not None:
            return RedactedThinking(self.sealed, self.rest)
        return Thinking(self.text, self.signature, self.rest)


def _thought(entry: Json) -> _Thought | None:
    """None for an entry that only its own host can read."""
    if not isinstance(entry, dict):
        return None
    kind, data, signature = str(entry.get("type")), entry.get("data"), entry.get("signature")
    origin = entry.get("format")
    is_known = isinstance(origin, str | None) and origin in _SIGNED_FORMATS
    if not is_known and (data is not None or signature is not None):
        return None
    if kind in _SEALED:
        rest = rest_of(entry, frozenset({"type", "data"}))
        return _Thought(sealed=data, rest=rest) if isinstance(data, str) else None
    key = _DETAIL_TEXT.get(kind)
    if key is None:
        return None
    text = entry.get(key)
    if not isinstance(text, str | None) or not isinstance(signature, str | None):
        return None
    rest = left_in(entry, frozenset({"type", "signature", key}))
    if key == "summary":
        rest["summary"] = None
    return _Thought(text or "", signature, rest=rest or NO_EXTRAS)


_FLAT: Extras = MappingProxyType({"flat": None})
"""A note: this thought stood in flat text alone, beside structured entries that hold no text."""


def _read_thoughts(message: Mapping[str, Json]) -> tuple[tuple[Part, ...], Object]:
    """What was thought, and what is left: notes of the spellings, and entries that only their own host can read."""
    extras: Object = {}
    parts: list[Part] = []
    for key in _STRUCTURED_THOUGHT:
        entries = message.get(key)
        if not isinstance(entries, list):
            continue
        thoughts = [_thought(entry) for entry in entries]
        if parts or not entries or None in thoughts:  # one spelling is enough; a list that we half know stays whole
            extras[key] = entries
        else:
            parts += [thought.part() for thought in thoughts if thought is not None]
            extras[key] = None
    told = "".join(part.text for part in parts if isinstance(part, Thinking))
    for key in _FLAT_THOUGHT:
        text = message.get(key)
        if not isinstance(text, str):
            continue
        if not told and text:
            parts, told = [Thinking(text, extras=_FLAT if parts else NO_EXTRAS), *parts], text
        extras[key] = None if text == told else text
    return tuple(parts), extras


# --- reading a request: messages

_MESSAGE = frozenset({"role", "content", "name"})
_ASSISTANT = _MESSAGE | _THOUGHT | {"refusal", "tool_calls", "function_call"}
_TOOL_MESSAGE = _MESSAGE | {"tool_call_id"}
_TOOL_CALL = frozenset({"id", "type", "function", "index"})
_FUNCTION = frozenset({"name", "arguments"})


def _read_tool_call(value: Json, path: str, *, strict: bool) -> Part:
    """`strict`: the caller's own history, in which an id must not be missing; a host's reply may lack one."""
    call = as_object(value, path)
    function = call.get("function")
    if call.get("type", "function") != "function" or not isinstance(function, dict):
        return _opaque(call, path)
    cache, extras = _read_cache(call, _TOOL_CALL)  # an index says only where the call stands
    if rest := left_in(function, _FUNCTION):
        extras["function"] = rest
    signature = None
    match extras.get("extra_content"):
        case {"google": {"thought_signature": str(signed), **more}, **others} if not more and not others:
            signature = signed
            del extras["extra_content"]
    arguments = function.get("arguments")
    if isinstance(arguments, dict):  # some hosts give the object itself
        arguments = encode(arguments).decode()
    id = call.get("id")
    if not strict:
        id, arguments = id or "", arguments or ""
    return ToolCall(
        original_id(as_text(id, f"{path}.id")),
        as_text(function.get("name"), f"{path}.function.name"),
        "" if arguments is None else as_text(arguments, f"{path}.function.arguments"),
        cache,
        signature,
        extras or NO_EXTRAS,
    )


def _read_said(message: Object, path: str, *, strict: bool = True) -> tuple[tuple[Part, ...], Object]:
    """The parts of an assistant's message, thinking first and tool calls last, and what is left of it."""
    thoughts, extras = _read_thoughts(message)
    content = message.get("content")
    if isinstance(content, dict) and not strict:  # Cloudflare decodes what was asked for as JSON
        content = encode(content).decode()
    parts = [*thoughts, *_read_content(content, f"{path}.content")]
    left = left_in(message, _ASSISTANT)
    if not strict and (images := _read_images(message.get("images"))):
        parts += images
        left.pop("images")
    if refusal := maybe(as_text, message, "refusal", path):
        parts.append(Refusal(refusal))
    for number, call in enumerate(maybe(as_list, message, "tool_calls", path) or ()):
        parts.append(_read_tool_call(call, f"{path}.tool_calls[{number}]", strict=strict))
    old = message.get("function_call")
    if isinstance(old, dict) and old.get("name"):  # Snowflake sends an empty one
        parts.append(Opaque(NAME, "function_call", old))
    return tuple(parts), {**left, **extras}


_AMONG_IMAGES: Extras = MappingProxyType({"images": None})
"""A note: this picture stood in the field of its own that OpenRouter and LiteLLM have for those of a reply."""


def _read_images(told: Json) -> tuple[Image, ...]:
    """None of them where one of them is no picture: they stay as they came then."""
    images = tuple(_read_answered_image(each) for each in told) if isinstance(told, list) else ()
    return tuple(image for image in images if image is not None) if None not in images else ()


def _read_answered_image(told: Json) -> Image | None:
    if not isinstance(told, dict) or "image_url" not in told:
        return None
    try:
        image = _read_image_part(told, "images")
    except BadRequest:
        return None
    return replace(image, extras={**image.extras, **_AMONG_IMAGES}) if isinstance(image, Image) else None


def _mark_last(parts: tuple[Part, ...], extras: Object, known: frozenset[str]) -> tuple[tuple[Part, ...], Object]:
    """A cache mark on a whole message means its last part."""
    cache, rest = _read_cache(extras, known)
    match parts[-1:]:
        case (Text(text, None, more),) if cache is not None:
            return (*parts[:-1], Text(text, cache, more)), {**rest, "cache_control": None}
        case _:
            return parts, extras


def _read_message(value: Json, path: str) -> Message:
    message = as_object(value, path)
    role = as_text(message.get("role"), f"{path}.role")
    name = maybe(as_text, message, "name", path)
    nothing: frozenset[str] = frozenset()
    match role:
        case "system" | "developer" | "user":
            parts = _read_content(message.get("content"), f"{path}.content")
            parts, extras = _mark_last(parts, left_in(message, _MESSAGE), nothing)
            return Message(role, parts, name, extras or NO_EXTRAS)
        case "assistant":
            parts, extras = _read_said(message, path)
            parts, extras = _mark_last(parts, extras, nothing)
            return Message(role, parts, name, extras or NO_EXTRAS)
        case "tool":
            call_id = original_id(as_text(message.get("tool_call_id"), f"{path}.tool_call_id"))
            cache, extras = _read_cache(message, _TOOL_MESSAGE)
            parts = _read_content(message.get("content"), f"{path}.content")
            return Message(role, (ToolResult(call_id, parts, cache=cache),), name, extras or NO_EXTRAS)
        case "function":
            return Message("tool", (Opaque(NAME, "function", message),))
        case _:
            raise BadRequest(
                f"{path}.role is {role!r}; it must be system, developer, user, assistant or tool", param=f"{path}.role"
            )


# --- reading a request: the rest

_CHAT = frozenset(
    {
        "model",
        "messages",
        "stream",
        "stream_options",
        "tools",
        "tool_choice",
        "parallel_tool_calls",
        "max_tokens",
        "max_completion_tokens",
        "temperature",
        "top_p",
        "top_k",
        "stop",
        "n",
        "seed",
        "presence_penalty",
        "frequency_penalty",
        "logprobs",
        "top_logprobs",
        "response_format",
        "reasoning_effort",
        "reasoning",
        "thinking",
        "service_tier",
        "user",
        "safety_identifier",
        "metadata",
    }
)
_FUNCTION_TOOL = frozenset({"type", "function"})


def _read_tool(value: Json, path: str) -> Tool:
    tool = as_object(value, path)
    if tool.get("type", "function") != "function":
        return _opaque(tool, path)
    function = as_object(tool.get("function"), f"{path}.function")
    cache, extras = _read_cache(tool, _FUNCTION_TOOL)
    if rest := left_in(function, frozenset({"name", "description", "parameters", "strict"})):
        extras["function"] = rest
    return FunctionTool(
        as_text(function.get("name"), f"{path}.function.name"),
        maybe(as_text, function, "description", f"{path}.function"),
        function.get("parameters"),
        maybe(as_bool, function, "strict", f"{path}.function"),
        cache,
        extras or NO_EXTRAS,
    )


def _read_tool_choice(value: Json) -> tuple[ToolChoice | None, Object]:
    """The choice, or what only this dialect knows (allowed_tools, custom), whole. `any` is Mistral's `required`."""
    match value:
        case None:
            return None, {}
        case "auto" | "none" | "required":
            return ToolChoice(value), {}
        case "any":
            return ToolChoice("required"), {}
        case {"type": "function", "function": {"name": str(name)}}:
            return ToolChoice("tool", name), {}
        case {"function": {"name": str(name)}, **rest} if not rest:  # as Hugging Face's clients spell it
            return ToolChoice("tool", name), {}
        case {"type": "allowed_tools" | "custom"}:
            return None, {"tool_choice": value}
        case str():
            raise BadRequest(
                f"tool_choice is {value!r}; it must be none, auto, required or an object that names a function",
                param="tool_choice",
            )
        case _:
            raise BadRequest(
                'tool_choice must be a string or {"type": "function", "function": {"name": …}}', param="tool_choice"
            )


def _read_stop(value: Json) -> tuple[str, ...]:
    if value is None:
        return ()
    if isinstance(value, str):
        return (value,)
    if not isinstance(value, list):
        raise wrong("stop", "a string or a list of strings", value)
    return tuple(as_text(stop, f"stop[{number}]") for number, stop in enumerate(value))


def _read_format(value: Json) -> tuple[ResponseFormat | None, Object]:
    if value is None:
        return None, {}
    wanted = as_object(value, "response_format")
    kind = as_text(wanted.get("type"), "response_format.type")
    rest = left_in(wanted, frozenset({"type", "json_schema"}))
    match kind:
        case "text" | "json_object":
            return ResponseFormat(kind), {"response_format": rest} if rest else {}
        case "json_schema":
            path = "response_format.json_schema"
            inner = as_object(wanted.get("json_schema"), path)
            if inner_rest := left_in(inner, frozenset({"schema", "name", "description", "strict"})):
                rest["json_schema"] = inner_rest
            read = ResponseFormat(
                kind,
                inner.get("schema"),
                maybe(as_text, inner, "name", path),
                maybe(as_text, inner, "description", path),
                maybe(as_bool, inner, "strict", path),
            )
            return read, {"response_format": rest} if rest else {}
        case _:
            raise BadRequest(
                f"response_format.type is {kind!r}; it must be text, json_object or json_schema",
                param="response_format.type",
            )


def _read_reasoning(body: Object) -> tuple[Reasoning | None, Object]:
    """Three spellings: OpenAI's reasoning_effort; `reasoning` of OpenRouter and others; `thinking` of DeepSeek, Z.AI
    and others. Where two say the same thing, the first found here is understood and the other stays as it is."""
    effort = maybe(as_text, body, "reasoning_effort")
    extras: Object = {}
    wanted, thinking = body.get("reasoning"), body.get("thinking")
    if isinstance(wanted, dict):
        if effort is not None and wanted.get("effort") is not None:
            extras["reasoning_effort"] = effort
        if thinking is not None:
            extras["thinking"] = thinking
        switch = maybe(as_bool, wanted, "enabled", "reasoning")
        spelled = maybe(as_text, wanted, "effort", "reasoning")
        read = Reasoning(
            None if switch is None else "enabled" if switch else "disabled",
            spelled if spelled is not None else effort,
            maybe(as_int, wanted, "max_tokens", "reasoning"),
            rest_of(wanted, frozenset({"enabled", "effort", "max_tokens"})),
        )
        note = "reasoning" if spelled is not None or effort is None else "reasoning_effort"
        return read, {**extras, "reasoning": None, note: extras.get(note)}
    if wanted is not None:
        extras["reasoning"] = wanted
    match thinking:
        case None:
            pass
        case {"type": ("enabled" | "disabled" | "adaptive") as mode}:
            block = as_object(thinking, "thinking")
            budget = maybe(as_int, block, "budget_tokens", "thinking")
            return Reasoning(mode, effort, budget, rest_of(block, frozenset({"type", "budget_tokens"}))), extras
        case _:
            extras["thinking"] = thinking
    return (None if effort is None else Reasoning(effort=effort)), extras


def _read_user(body: Object) -> tuple[str | None, Object]:
    """`safety_identifier` is the newer name of what `user` was."""
    user, newer = maybe(as_text, body, "user"), maybe(as_text, body, "safety_identifier")
    if newer is None:
        return user, {}
    return newer, {"safety_identifier": None, **({} if user is None else {"user": user})}


def _read_limit(body: Object) -> tuple[int | None, Object]:
    """`max_completion_tokens` is the newer name and wins; many hosts know only `max_tokens`."""
    newer, older = maybe(as_int, body, "max_completion_tokens"), maybe(as_int, body, "max_tokens")
    if newer is None:
        return older, {} if older is None else {"max_tokens": None}
    return newer, {} if older is None else {"max_tokens": older}


def _read_chat(call: Call) -> Chat:
    try:
        body = as_object(msgspec.json.decode(call.raw), "the body")
    except UNREADABLE:
        raise _why_no_call(call.raw) from None
    messages = as_list(body.get("messages"), "messages")
    options = maybe(as_object, body, "stream_options") or {}
    tools = maybe(as_list, body, "tools") or []
    limit, limit_rest = _read_limit(body)
    choice, choice_rest = _read_tool_choice(body.get("tool_choice"))
    response_format, format_rest = _read_format(body.get("response_format"))
    reasoning, reasoning_rest = _read_reasoning(body)
    user, user_rest = _read_user(body)
    extras = {**left_in(body, _CHAT), **limit_rest, **choice_rest, **format_rest, **reasoning_rest, **user_rest}
    if options_rest := left_in(options, frozenset({"include_usage"})):
        extras["stream_options"] = options_rest
    return Chat(
        dialect=NAME,
        model=call.model,
        messages=tuple(_read_message(message, f"messages[{number}]") for number, message in enumerate(messages)),
        stream=call.stream,
        include_usage=bool(maybe(as_bool, options, "include_usage", "stream_options")),
        tools=tuple(_read_tool(tool, f"tools[{number}]") for number, tool in enumerate(tools)),
        tool_choice=choice,
        parallel_tool_calls=maybe(as_bool, body, "parallel_tool_calls"),
        max_output_tokens=limit,
        temperature=maybe(as_number, body, "temperature"),
        top_p=maybe(as_number, body, "top_p"),
        top_k=maybe(as_int, body, "top_k"),
        stop=_read_stop(body.get("stop")),
        n=maybe(as_int, body, "n"),
        seed=maybe(as_int, body, "seed"),
        presence_penalty=maybe(as_number, body, "presence_penalty"),
        frequency_penalty=maybe(as_number, body, "frequency_penalty"),
        logprobs=maybe(as_bool, body, "logprobs"),
        top_logprobs=maybe(as_int, body, "top_logprobs"),
        response_format=response_format,
        reasoning=reasoning,
        service_tier=maybe(as_text, body, "service_tier"),
        user=user,
        metadata=maybe(as_object, body, "metadata"),
        extras=extras or NO_EXTRAS,
    )


# --- writing a request

_LONGEST_CALL_ID = 40  # OpenAI: `messages.[1].tool_calls.[0].id: string too long ... maximum length 40`
_CALL_ID = re.compile(rf"[a-zA-Z0-9_-]{{1,{_LONGEST_CALL_ID}}}")
_SERVICE_TIERS: Mapping[str, str] = MappingProxyType(
    {"standard_only": "default", **{tier: tier for tier in ("auto", "default", "flex", "scale", "priority")}}
)
# Extras of other dialects that mean the same here, and where each goes.
_SHARED_EXTRAS = frozenset({"prompt_cache_key", "prompt_cache_retention"})


@dataclass(frozen=True, slots=True)
class Spelling:
    """How the callers of another dialect spell what may have no place here."""

    messages: str = "messages"
    content: str = "content"
    prompt: str | None = None
    """The system prompt, where it stands outside the messages."""
    top_k: str = "top_k"
    effort: str = "reasoning_effort"
    thinking: str = "reasoning"
    tool_choice: str = "tool_choice"
    parallel: str = "parallel_tool_calls"
    user: str = "user"


_SPELLINGS: Mapping[str, Spelling] = MappingProxyType(
    {
        "anthropic_messages": Spelling(
            prompt="system",
            effort="output_config.effort",
            thinking="thinking",
            parallel="tool_choice.disable_parallel_tool_use",
            user="metadata.user_id",
        ),
        "openai_responses": Spelling(messages="input", prompt="instructions", effort="reasoning.effort"),
        "gemini_generate": Spelling(
            messages="contents",
            content="parts",
            prompt="systemInstruction",
            top_k="generationConfig.topK",
            effort="generationConfig.thinkingConfig.thinkingLevel",
            thinking="generationConfig.thinkingConfig",
            tool_choice="toolConfig",
        ),
    }
)
_FORCED = frozenset({"required", "tool"})
_NAMELESS_SCHEMA = "response"


# Mistral's models, whose hosts refuse ids but of nine letters and digits.
_MISTRALS = re.compile(r"(mis|minis|magis|codes|devs|vox|pix|mix|maths)tral")
_MISTRAL_CALL_ID = re.compile(r"[a-zA-Z0-9]{9}")
# Moonshot's guide on tool calling with Kimi K2: the model expects ids of this shape in its history.
_KIMI_CALL_ID = re.compile(r"functions\.[a-zA-Z0-9_-]+:\d+")


def call_id(id: str, model: str) -> str:
    """An id that the model's hosts take (OpenAI: 40 characters): the same for the same id, in a call and its result."""
    is_mistral = _MISTRALS.search(model.lower()) is not None
    if (_MISTRAL_CALL_ID if is_mistral else _CALL_ID).fullmatch(id):
        return id
    if "kimi" in model.lower() and _KIMI_CALL_ID.fullmatch(id):
        return id
    digest = hashlib.sha256(id.encode("utf-8", "surrogatepass")).hexdigest()
    return digest[:9] if is_mistral else f"call_{digest[:32]}"


def is_too_long(user: str | None, host: HostProfile) -> bool:
    """Whether a host refuses this id of an end user."""
    return user is not None and host.user_limit is not None and len(user) > host.user_limit


def is_unsigned(part: Thinking | RedactedThinking) -> bool:
    """Thinking whose text is all of it: no model has sealed it."""
    sealed = ("encrypted_content", "thoughtSignature")
    return isinstance(part, Thinking) and not part.signature and not any(part.extras.get(key) for key in sealed)


def _cache(mark: CacheMark) -> Object:
    return {"type": "ephemeral"} if mark.ttl is None else {"type": "ephemeral", "ttl": mark.ttl}


def _set(body: Object, **fields: Json) -> None:
    """Sets what is not None."""
    body.update((name, value) for name, value in fields.items() if value is not None)


class _RequestWriter(DropList):
    """One chat on its way into this dialect. `dropped` grows as it is written.

    A chat of this dialect (`own`) comes out as it came in; of another one, what has no place is named or refused.
    """

    def __init__(self, chat: Chat, model: str, host: HostProfile = UNKNOWN_HOST) -> None:
        super().__init__()
        self.chat = chat
        self.model = model
        self.host = host
        self.own = chat.dialect == NAME
        self.spelling = _SPELLINGS.get(chat.dialect, Spelling())

    def body(self) -> Object:
        chat = self.chat
        if not self.own:
            for name in chat.needed:
                raise Unsupported(name, TITLE, "only a provider of the caller's own format can honour it")
        body: Object = {"model": self.model, "messages": self._messages()}
        if chat.stream:
            body["stream"] = True
            body["stream_options"] = {"include_usage": True}
        if chat.tools:
            body["tools"] = [self._tool(tool, f"tools[{number}]") for number, tool in enumerate(chat.tools)]
        self._tool_choice(body)
        limit = "max_tokens" if _is_noted(chat.extras, "max_tokens") else "max_completion_tokens"
        _set(
            body,
            **{limit: chat.max_output_tokens},
            temperature=chat.temperature,
            top_p=chat.top_p,
            stop=list(chat.stop) or None,
            n=chat.n,
            seed=chat.seed,
            presence_penalty=chat.presence_penalty,
            frequency_penalty=chat.frequency_penalty,
            logprobs=chat.logprobs,
            top_logprobs=chat.top_logprobs,
            response_format=self._format(),
        )
        self._reasoning(body)
        self._sampling(body)
        self._account(body)
        if self.own:
            _set(body, top_k=chat.top_k)
            _overlay(body, chat.extras)
        else:
            self._drop_if(self.spelling.top_k, chat.top_k is not None)
            self._foreign_extras(body)
        return body

    def _sampling(self, body: Object) -> None:
        """What the model takes; 1 is what temperature and top_p are anyway."""
        if self.own:
            return
        effort = body.get("reasoning_effort")
        if not is_sampled(self.model, effort if isinstance(effort, str) else None):
            for name in SAMPLING:
                if (value := body.pop(name, None)) is not None:
                    self._drop_if(name, value != 1 or name not in ("temperature", "top_p"))
        if not takes_stop(self.model):
            self._drop_if("stop", body.pop("stop", None) is not None)

    def _foreign_extras(self, body: Object) -> None:
        for name, value in self.chat.extras.items():
            match value:
                case None:
                    pass
                case {"verbosity": str(verbosity)} if name == "text":
                    body["verbosity"] = verbosity
                    self._drop_extras(left_in(as_object(value, name), frozenset({"verbosity"})), name)
                case _ if name in _SHARED_EXTRAS:
                    body[name] = value
                case _:
                    self.dropped.add(name)

    # what cannot be said

    def _finish(self, block: Object, cache: CacheMark | None, extras: Extras, path: str) -> Object:
        """What is not OpenAI's own of a part or tool: put back, or named."""
        if self.own:
            if cache is not None:
                block["cache_control"] = _cache(cache)
            _overlay(block, extras)
        else:
            self._drop_if(f"{path}.cache_control", cache is not None)
            self._drop_extras(extras, path)
        return block

    # fields

    def _account(self, body: Object) -> None:
        chat = self.chat
        user = "safety_identifier" if _is_noted(chat.extras, "safety_identifier") else "user"
        if is_too_long(chat.user, self.host):
            self.dropped.add(user if user != "user" else self.spelling.user)
        else:
            _set(body, **{user: chat.user})
        if self.own:
            _set(body, service_tier=chat.service_tier, metadata=chat.metadata)
            return
        self._drop_if("metadata", chat.metadata)
        if chat.service_tier is not None:
            tier = _SERVICE_TIERS.get(chat.service_tier)
            _set(body, service_tier=tier)
            self._drop_if("service_tier", tier is None)

    def _format(self) -> Object | None:
        wanted = self.chat.response_format
        if wanted is None:
            return None
        if wanted.kind != "json_schema":
            return {"type": wanted.kind}
        name = wanted.name or (None if self.own else _NAMELESS_SCHEMA)
        inner: Object = {}
        _set(inner, name=name, description=wanted.description, schema=wanted.schema, strict=wanted.strict)
        return {"type": "json_schema", "json_schema": inner}

    def _reasoning(self, body: Object) -> None:
        wanted = self.chat.reasoning
        if wanted is None:
            return
        if self.own:
            self._own_reasoning(body, wanted)
            return
        if wanted.effort is not None:
            level: str | None = wanted.effort if wanted.effort != "default" else None  # Groq's word for not saying
        elif wanted.mode == "disabled":
            level = "none"
        elif wanted.budget_tokens is not None:
            level = _effort_of_budget(wanted.budget_tokens)
        else:
            # Adaptive is what a model does that is told nothing; "enabled" without a word more is the middle.
            level = "medium" if wanted.mode == "enabled" else None
        effort = None if level is None else effort_for(self.model, level)
        _set(body, reasoning_effort=effort)
        spelled = self.spelling.effort if wanted.effort is not None else self.spelling.thinking
        # Not to think is all that a model can do which never does.
        is_moot = level is None or (level == "none" and not efforts_of(self.model))
        self._drop_if(spelled, effort is None and not is_moot)
        self._drop_extras(wanted.extras, self.spelling.thinking)

    def _own_reasoning(self, body: Object, wanted: Reasoning) -> None:
        notes = self.chat.extras
        if not _is_noted(notes, "reasoning"):
            _set(body, reasoning_effort=wanted.effort)
            if wanted.mode is not None:
                thinking: Object = {"type": wanted.mode}
                _set(thinking, budget_tokens=wanted.budget_tokens)
                body["thinking"] = {**thinking, **wanted.extras}
            return
        block: Object = {}
        _set(block, max_tokens=wanted.budget_tokens)
        if wanted.mode is not None:
            block["enabled"] = wanted.mode != "disabled"
        _set(
            body if _is_noted(notes, "reasoning_effort") else block,
            **{"reasoning_effort" if _is_noted(notes, "reasoning_effort") else "effort": wanted.effort},
        )
        body["reasoning"] = {**block, **wanted.extras}

    # tools

    def _tool(self, tool: Tool, path: str) -> Json:
        if isinstance(tool, Opaque):
            if tool.dialect != NAME:
                raise Unsupported(path, TITLE, f"it knows no tool of type {tool.kind!r}")
            return tool.value
        function: Object = {"name": tool.name}
        _set(function, description=tool.description, parameters=tool.parameters, strict=tool.strict)
        return self._finish({"type": "function", "function": function}, tool.cache, tool.extras, path)

    def _tool_choice(self, body: Object) -> None:
        chat, choice = self.chat, self.chat.tool_choice
        if not chat.tools and not self.own:
            self._drop_if(self.spelling.tool_choice, choice is not None and choice.mode in _FORCED)
            self._drop_if(self.spelling.parallel, chat.parallel_tool_calls is False)
            return
        if choice is not None and choice.mode == "tool":
            body["tool_choice"] = {"type": "function", "function": {"name": choice.name}}
        elif choice is not None:
            body["tool_choice"] = choice.mode
        _set(body, parallel_tool_calls=chat.parallel_tool_calls)

    # the conversation

    def _messages(self) -> list[Json]:
        messages = self.chat.messages
        if self.own:
            return [self._own_message(message) for message in messages]
        written: list[Json] = []
        moved: list[Object] = []
        for path, where, message in self._located():
            self._drop_extras(message.extras, path)
            match message.role:
                case "system" | "developer":
                    written += self._prompt(message, where)
                case "user" | "tool":
                    results = [self._result(part, f"{where}[{i}]", moved) for i, part in self._results(message)]
                    parts = [self._part(part, f"{where}[{i}]") for i, part in self._others(message)]
                    written += results
                    if parts:
                        parts, moved = [*moved, *parts], []
                        written.append(self._named(message, {"role": "user", "content": _short(parts)}))
                case "assistant":
                    written += self._moved(moved)
                    moved = []
                    written += self._assistant(message, where)
                case _:
                    assert_never(message.role)
        return written + self._moved(moved)

    def _located(self) -> Iterator[tuple[str, str, Message]]:
        """Each message, its path and that of its content in the caller's spelling."""
        spelling, apart = self.spelling, 0
        for number, message in enumerate(self.chat.messages):
            prompt = spelling.prompt if number == 0 and message.role == "system" else None
            if prompt == "instructions" and not _is_noted(message.extras, prompt):
                prompt = None  # one of the input's own
            if prompt is not None:
                apart = 1
                # Gemini's is a message; the others' is the content itself.
                yield prompt, f"{prompt}.{spelling.content}" if spelling.content == "parts" else prompt, message
            else:
                path = f"{spelling.messages}[{number - apart}]"
                yield path, f"{path}.{spelling.content}", message

    @staticmethod
    def _moved(parts: list[Object]) -> list[Json]:
        return [{"role": "user", "content": parts}] if parts else []

    @staticmethod
    def _results(message: Message) -> list[tuple[int, ToolResult]]:
        return [(i, part) for i, part in enumerate(message.parts) if isinstance(part, ToolResult)]

    @staticmethod
    def _others(message: Message) -> list[tuple[int, Part]]:
        return [(i, part) for i, part in enumerate(message.parts) if not isinstance(part, ToolResult)]

    @staticmethod
    def _named(message: Message, written: Object) -> Object:
        return written if message.name is None else {**written, "name": message.name}

    def _prompt(self, message: Message, path: str) -> list[Json]:
        parts: list[Object] = []
        for i, part in enumerate(message.parts):
            if not isinstance(part, Text):
                raise Unsupported(f"{path}[{i}]", TITLE, "a system prompt is text")
            parts.append(self._part(part, f"{path}[{i}]"))
        return [self._named(message, {"role": message.role, "content": _short(parts)})] if parts else []

    def _result(self, result: ToolResult, path: str, moved: list[Object]) -> Object:
        """A tool message. It can hold text alone: what else there is goes into `moved`."""
        texts: list[Object] = []
        others: list[Object] = []
        for i, part in enumerate(result.parts):
            written = self._part(part, f"{path}.content[{i}]")
            (texts if isinstance(part, Text) else others).append(written)
        id = call_id(result.call_id, self.model)
        if others:
            moved += [{"type": "text", "text": f"From the result of tool call {id}:"}, *others]
        self._drop_if(f"{path}.is_error", result.is_error)
        message: Object = {"role": "tool", "tool_call_id": id, "content": _short(texts)}
        return self._finish(message, result.cache, result.extras, path)

    def _assistant(self, message: Message, path: str) -> list[Json]:
        """One text, since hosts other than OpenAI take no list here; a reply's texts are one text too."""
        texts: list[str] = []
        refusals: list[str] = []
        calls: list[Json] = []
        thoughts: list[Thinking] = []
        for i, part in enumerate(message.parts):
            where = f"{path}[{i}]"
            match part:
                case Text():
                    texts.append(part.text)
                    self._finish({}, part.cache, part.extras, where)
                case Refusal():
                    refusals.append(part.text)
                    self._finish({}, None, part.extras, where)
                case ToolCall():
                    calls.append(self._call(part, where))
                case Thinking() as thought if self.host.thoughts in _WANTED and is_unsigned(thought):
                    thoughts.append(thought)
                case Thinking() | RedactedThinking():  # OpenAI has no place for it, and its models no use
                    self.dropped.add(where)
                case _:
                    self._part(part, where)  # raises
                    raise Unsupported(where, TITLE, "an assistant's message is text and tool calls")
        text = "".join(texts)
        if not text and not refusals and not calls:
            return []
        written: Object = {"role": "assistant", "content": text or None}
        if refusals:
            written["refusal"] = "".join(refusals)
        if calls:
            written["tool_calls"] = calls
        if thoughts and self.host.thoughts == "reasoning_details":
            written["reasoning_details"] = [{"type": "reasoning.text", "text": thought.text} for thought in thoughts]
        elif thoughts:
            written["reasoning_content"] = "".join(thought.text for thought in thoughts)
        return [self._named(message, written)]

    def _call(self, call: ToolCall, path: str) -> Object:
        id = call.id if self.own else call_id(call.id, self.model)
        arguments = call.arguments if self.own else call.arguments or "{}"
        written: Object = {"id": id, "type": "function", "function": {"name": call.name, "arguments": arguments}}
        if call.signature is not None and (self.own or "gemini" in self.model.lower()):
            written["extra_content"] = {"google": {"thought_signature": call.signature}}
        elif call.signature is not None:  # other hosts refuse a field that they do not know
            self.dropped.add(f"{path}.thoughtSignature")
        return self._finish(written, call.cache, call.extras, path)

    def _part(self, part: Part, path: str) -> Object:
        """A part of the content of a user, a system prompt or a tool result."""
        match part:
            case Text():
                return self._finish({"type": "text", "text": part.text}, part.cache, part.extras, path)
            case Image():
                if isinstance(part.source, FileRef):
                    raise Unsupported(path, TITLE, "a file uploaded to another provider is unknown to it")
                image: Object = {"url": _write_source(part.source)}
                _set(image, detail=part.detail)
                return self._finish({"type": "image_url", "image_url": image}, part.cache, part.extras, path)
            case Document():
                return self._finish(self._document(part, path), part.cache, part.extras, path)
            case Audio():
                return self._finish(self._audio(part, path), None, part.extras, path)
            case Refusal():
                return self._finish({"type": "refusal", "refusal": part.text}, None, part.extras, path)
            case Opaque():
                if part.dialect != NAME:
                    raise Unsupported(path, TITLE, f"it knows no part of type {part.kind!r}")
                return as_object(part.value, path)
            case Thinking():
                block: Object = {"type": "thinking", "thinking": [{"type": "text", "text": part.text}]}
                _set(block, signature=part.signature)
                return self._finish(block, None, part.extras, path)
            case RedactedThinking() | ToolCall() | ToolResult():
                raise Unsupported(path, TITLE, f"a {type(part).__name__} cannot stand here")
            case _:
                assert_never(part)

    def _document(self, part: Document, path: str) -> Object:
        source = part.source
        file: Object = {}
        match source:
            case FileRef():
                if not self.own:
                    raise Unsupported(path, TITLE, "a file uploaded to another provider is unknown to it")
                file["file_id"] = source.id
            case Url():
                if not self.own:
                    raise Unsupported(path, TITLE, "it takes no document by URL")
                file["file_data"] = source.url
            case Inline() if source.media_type == "text/plain" and not self.own:
                # No media type of text is known to all hosts; text always is.
                self._drop_if(f"{path}.title", part.name)
                return {"type": "text", "text": _plain(source.data, path)}
            case Inline():
                file["file_data"] = _write_source(source)
            case _:
                assert_never(source)
        _set(file, filename=part.name or (None if self.own else "document.pdf"))
        return {"type": "file", "file": file}

    def _audio(self, part: Audio, path: str) -> Object:
        if not isinstance(part.source, Inline):
            raise Unsupported(path, TITLE, "it takes audio only within the request")
        kind = part.source.media_type
        format = _AUDIO_FORMATS.get(kind, kind.removeprefix("audio/"))
        return {"type": "input_audio", "input_audio": {"data": part.source.data, "format": format}}

    # the conversation, as it came

    def _own_message(self, message: Message) -> Json:
        match message.parts:
            case (Opaque(kind="function") as old,):
                return old.value
            case (ToolResult() as result,):
                parts = [self._part(part, "") for part in result.parts]
                written: Object = {"role": "tool", "tool_call_id": result.call_id, "content": _short(parts)}
                if result.cache is not None:
                    written["cache_control"] = _cache(result.cache)
            case parts if message.role == "assistant":
                written = {"role": "assistant", **_said(parts, message.extras, self)}
            case parts:
                written = {"role": message.role, "content": _short([self._part(part, "") for part in parts])}
        if _is_noted(message.extras, "cache_control"):
            _lift_cache(written)
        _overlay(written, message.extras)
        return self._named(message, written)


def _short(parts: list[Object]) -> Json:
    """A single text as a string: the spelling that every host takes."""
    match parts:
        case []:
            return ""
        case [{"type": "text", "text": text, **rest}] if not rest:
            return text
        case _:
            return parts


def _lift_cache(message: Object) -> None:
    """The cache mark of the last part, as one on the message."""
    content = message.get("content")
    if isinstance(content, list) and content and isinstance(content[-1], dict) and "cache_control" in content[-1]:
        message["cache_control"] = content[-1].pop("cache_control")
        message["content"] = _short(content)


def _plain(data: str, path: str) -> str:
    try:
        return base64.b64decode(data, validate=True).decode()
    except ValueError as exc:  # binascii.Error and UnicodeDecodeError are ValueErrors
        raise BadRequest(f"{path} is no base64 of UTF-8 text", param=path) from exc


def _said(parts: Iterable[Part], notes: Extras, request: _RequestWriter) -> Object:
    """What an assistant said, in its fields; `notes` tell which of the spellings for thoughts were used."""
    content: list[Object] = []
    thoughts: list[Thinking | RedactedThinking] = []
    calls: list[Json] = []
    images: list[Json] = []
    said: Object = {"content": None}
    for part in parts:
        match part:
            case ToolCall():
                calls.append(request._call(part, ""))
            case Opaque(kind="function_call"):
                said["function_call"] = part.value
            case Opaque() if isinstance(part.value, dict) and "id" in part.value:
                calls.append(part.value)
            case Thinking() | RedactedThinking() if not _is_noted(part.extras, "content"):
                thoughts.append(part)
            case Refusal() if not _is_noted(part.extras, "content"):
                said["refusal"] = part.text
            case Image() if _is_noted(part.extras, "images"):
                images.append(request._part(part, ""))
            case _:
                content.append(request._part(part, ""))
    if content:
        said["content"] = _short(content)
    if calls:
        said["tool_calls"] = calls
    if images:
        said["images"] = images
    said.update(_thoughts(thoughts, notes))
    return said


def _thoughts(thoughts: Sequence[Thinking | RedactedThinking], notes: Extras) -> Object:
    """Thoughts in the spellings that the notes tell; without notes, `reasoning_content` for those who only show it,
    and `thinking_blocks` beside it where something must come back as it is."""
    text = "".join(thought.text for thought in thoughts if isinstance(thought, Thinking))
    said: Object = {}
    spellings = [key for key in (*_FLAT_THOUGHT, *_STRUCTURED_THOUGHT) if _is_noted(notes, key)]
    if not spellings:
        if text:
            spellings.append("reasoning_content")
        if any(isinstance(thought, RedactedThinking) or thought.signature is not None for thought in thoughts):
            spellings.append("thinking_blocks")
    for key in spellings:
        match key:
            case "thinking_blocks":
                said[key] = [_block(thought) for thought in thoughts if not _is_noted(thought.extras, "flat")]
            case "reasoning_details":
                said[key] = [_detail(thought) for thought in thoughts if not _is_noted(thought.extras, "flat")]
            case _:
                said[key] = text
    return said


def _block(thought: Thinking | RedactedThinking) -> Object:
    if isinstance(thought, RedactedThinking):
        return {"type": "redacted_thinking", "data": thought.data}
    block: Object = {"type": "thinking", "thinking": thought.text}
    _set(block, signature=thought.signature)
    return block


def _detail(thought: Thinking | RedactedThinking) -> Object:
    if isinstance(thought, RedactedThinking):
        detail: Object = {"type": "reasoning.encrypted", "data": thought.data}
    elif _is_noted(thought.extras, "summary"):
        detail = {"type": "reasoning.summary", "summary": thought.text}
    else:
        detail = {"type": "reasoning.text"}
        _set(detail, text=thought.text or None)
    if isinstance(thought, Thinking):
        _set(detail, signature=thought.signature)
    _overlay(detail, thought.extras)
    return detail


# --- usage

# Where the hosts tell of their caches: within the details, or beside the sums.
_CACHE_READ = ("prompt_cache_hit_tokens", "cached_tokens", "cache_read_input_tokens", "num_cached_tokens")
_CACHE_WRITE_DETAILS = ("cache_write_tokens", "cache_creation_tokens")


def read_usage(usage: Mapping[str, Json]) -> Usage:
    """OpenAI counts cached, audio and reasoning tokens within the two sums, and so do most hosts. Where the total
    shows that they stand beside the sums (xAI: reasoning; Mistral: audio; Gemini: thoughts that are told nowhere
    else), or where a part is greater than its sum (Vercel: reasoning), they are added instead."""
    counts = TokenCounts()
    asked, answered = object_in(usage, "prompt_tokens_details"), object_in(usage, "completion_tokens_details")
    told_prompt, told_completion = counts.of(usage.get("prompt_tokens")), counts.of(usage.get("completion_tokens"))
    prompt, completion = told_prompt or 0, told_completion or 0
    total = counts.at(usage, "total_tokens")
    audio, spoken = counts.at(asked, "audio_tokens"), counts.at(answered, "audio_tokens")
    reasoning = counts.at(answered, "reasoning_tokens") or counts.at(usage, "reasoning_tokens")
    beside = total - prompt - completion if told_prompt is not None and told_completion is not None else 0
    if beside > 0 and beside == audio:
        prompt += audio
    elif beside > 0 and (beside == reasoning or not reasoning):
        completion += beside
        reasoning = beside
    elif reasoning > completion:
        completion += reasoning
    audio = min(audio, prompt)
    text = prompt - audio
    cache_read = min(counts.at(asked, "cached_tokens") or counts.first(usage, _CACHE_READ), text)
    written = counts.first(asked, _CACHE_WRITE_DETAILS) or counts.at(usage, "cache_creation_input_tokens")
    cache_write = min(written, text)
    twice = cached_twice(text, cache_read, cache_write)
    reasoning = min(reasoning, completion)
    spoken = min(spoken, completion - reasoning)
    return Usage(
        input=text - cache_read - cache_write + twice,
        cache_read=cache_read,
        cache_write=cache_write,
        output=completion - reasoning - spoken,
        reasoning=reasoning,
        input_audio=audio,
        output_audio=spoken,
        cached_twice=twice,
        prompt_unknown=told_prompt is None,
        completion_unknown=told_completion is None,
        unreadable=counts.unreadable,
    )


def write_usage(usage: Usage) -> Object:
    return {
        "prompt_tokens": usage.prompt,
        "completion_tokens": usage.completion,
        "total_tokens": usage.total,
        "prompt_tokens_details": {
            "cached_tokens": usage.cache_read,
            "cache_write_tokens": usage.cache_write + usage.cache_write_1h,
            "audio_tokens": usage.input_audio,
        },
        "completion_tokens_details": {
            "reasoning_tokens": usage.reasoning,
            "audio_tokens": usage.output_audio,
        },
    }


# --- why an answer ended

_READ_FINISH: Mapping[str, FinishReason] = MappingProxyType(
    {
        "stop": "stop",
        "length": "length",
        "tool_calls": "tool_calls",
        "function_call": "tool_calls",
        "content_filter": "content_filter",
        # what hosts say who pass their model's own word on
        "": "stop",
        "eos": "stop",
        "end_turn": "stop",
        "STOP": "stop",
        "stop_sequence": "stop_sequence",
        "max_tokens": "length",
        "MAX_TOKENS": "length",
        "model_length": "context_window",
        "tool_use": "tool_calls",
        "refusal": "refusal",
        "pause_turn": "pause",
        "model_context_window_exceeded": "context_window",
        "repetition": "length",  # vLLM cut the answer off, because it repeated itself
        "sensitive": "content_filter",  # Zhipu
    }
)
# Reasons that say that the host failed on the way: DeepSeek's and Zhipu's documentation, vLLM and SGLang ("abort"),
# OpenRouter ("error"). What came before is no whole answer.
_FAILURES: Mapping[str, FaultKind] = MappingProxyType(
    {
        "insufficient_system_resource": "overloaded",
        "abort": "api",
        "aborted": "api",
        "cancelled": "api",
        "error": "api",
        "network_error": "api",
        "server_error": "api",
        "timeout": "timeout",
    }
)
_WRITE_FINISH: Mapping[FinishReason, str] = MappingProxyType(
    {
        "stop": "stop",
        "stop_sequence": "stop",
        "length": "length",
        "context_window": "length",
        "tool_calls": "tool_calls",
        "content_filter": "content_filter",
        "refusal": "content_filter",
        "pause": "length",  # there is more to say: "stop" would look like the whole
        "malformed": "stop",
        "other": "stop",
    }
)
# Reasons beside which tool calls are whole, and wait for their results whatever word was used.
_AFTER_CALLS: frozenset[FinishReason] = frozenset({"stop", "stop_sequence", "tool_calls", "other"})


def _failure(finish: str | None) -> Fault | None:
    """Of a choice that ended in a reason which tells of a failure."""
    kind = _FAILURES.get(finish) if finish is not None else None
    if kind is None:
        return None
    message = f"the provider broke the answer off: finish_reason {finish!r}"
    return Fault(_STATUS_OF_KIND[kind], kind, message, "upstream_error")


def _read_finish(raw: str, *, has_calls: bool) -> Finish:
    """A forced call ends with "stop" at OpenAI itself."""
    reason = _READ_FINISH.get(raw, "other")
    return Finish("tool_calls" if has_calls and reason in _AFTER_CALLS else reason, raw)


def _write_finish(finish: Finish | None, *, has_calls: bool) -> str:
    reason = finish.reason if finish is not None else "other"
    return "tool_calls" if has_calls and reason in _AFTER_CALLS else _WRITE_FINISH[reason]


# --- replies

_REPLY = frozenset({"id", "object", "created", "model", "choices"})
_CHOICE = frozenset({"index", "message", "finish_reason"})
_REPLY_MESSAGE = frozenset({"role"})
_NAMELESS_REPLY = "chatcmpl-0"  # clients want an id; which, only the provider could say


def _read_choice(value: Json, number: int) -> Choice:
    path = f"choices[{number}]"
    choice = as_object(value, path)
    message = as_object(choice.get("message"), f"{path}.message")
    parts, rest = _read_said(message, f"{path}.message", strict=False)
    reason = choice.get("finish_reason")
    finish = None
    if isinstance(reason, str):
        finish = _read_finish(reason, has_calls=any(isinstance(part, ToolCall) for part in parts))
    extras = left_in(choice, _CHOICE)
    if rest := {key: value for key, value in rest.items() if key not in _REPLY_MESSAGE}:
        extras["message"] = rest
    return Choice(parts, finish, extras or NO_EXTRAS)


def _read_reply(body: bytes) -> Reply:
    try:
        reply = decode_reply(body)
    except UNREADABLE as exc:
        raise UpstreamError("the provider's reply is not JSON") from exc
    if not isinstance(reply, dict) or not isinstance(reply.get("choices"), list):
        told = reply.get("error") if isinstance(reply, dict) else None
        why = f": {_error_message(told)}" if told else ""
        raise UpstreamError(f"the provider's reply is no chat completion{why}")
    try:
        choices = tuple(_read_choice(choice, number) for number, choice in enumerate(reply["choices"]))
    except BadRequest as exc:  # the readers of a caller's messages say it so
        raise UpstreamError(f"the provider's reply cannot be read: {exc.message}") from exc
    for choice in choices:
        failed = _failure(choice.finish.raw) if choice.finish is not None else None
        if failed is not None:
            raise Unavailable(failed.message) if failed.kind == "overloaded" else UpstreamError(failed.message)
    usage, created = reply.get("usage"), reply.get("created")
    return Reply(
        dialect=NAME,
        id=text_of(reply.get("id")) or None,
        model=text_of(reply.get("model")) or None,
        choices=choices,
        usage=read_usage(usage) if isinstance(usage, dict) else None,
        created=int(created) if isinstance(created, int | float) else None,
        extras=rest_of(reply, _REPLY),
    )


def _message_of(choice: Choice, *, own: bool) -> Object:
    notes = choice.extras.get("message") if own else None
    extras = notes if isinstance(notes, dict) else NO_EXTRAS
    if own:
        request = _RequestWriter(Chat(NAME, "", ()), "")
        message: Object = {"role": "assistant", "refusal": None, **_said(choice.parts, extras, request)}
        content = message["content"]
        if isinstance(content, list) and all(part.keys() == _TEXT_PART for part in content):
            # Thoughts between them made several parts of what came in one stream of text.
            message["content"] = "".join(str(part["text"]) for part in content)
        _overlay(message, extras)
        return message
    written = [_written_media(part, place) for place, part in enumerate(_media_of(choice.parts))]
    texts = [part for part in choice.parts if isinstance(part, Text)]
    texts += [Text(told["content"]) for told in written if isinstance(told.get("content"), str)]
    message = {"role": "assistant", "content": _joined(texts, Text), "refusal": _joined(choice.parts, Refusal)}
    images = [image for told in written for image in told.get("images", ())]
    if images:
        message["images"] = images
    message.update(next(({"audio": told["audio"]} for told in written if "audio" in told), {}))
    calls = [part for part in choice.parts if isinstance(part, ToolCall)]
    if calls:
        message["tool_calls"] = [_reply_call(call) for call in calls]
    message.update(_thoughts([p for p in choice.parts if isinstance(p, Thinking | RedactedThinking)], NO_EXTRAS))
    return message


def _media_of(parts: Iterable[Part]) -> Iterator[Image | Audio]:
    return (part for part in parts if isinstance(part, Image | Audio))


def _written_media(part: Image | Audio, place: int) -> dict[str, Any]:
    """The fields of a message, or of a delta, that hold a picture or a sound of another provider's model: OpenRouter's
    and LiteLLM's `images`, OpenAI's `audio`. What has no place there is told as text."""
    match part:
        case Image(Inline() | Url() as source):
            image = {"type": "image_url", "index": place, "image_url": {"url": _write_source(source)}}
            return {"images": [image]}
        case Audio(Inline(_, data)):
            digest = hashlib.sha256(data.encode()).hexdigest()[:24]
            return {"audio": {"id": f"audio_{digest}", "data": data, "expires_at": 0, "transcript": ""}}
        case _:
            return {"content": omission(part, TITLE)}


def _joined(parts: Iterable[Part], kind: type[Text] | type[Refusal]) -> str | None:
    """All texts of a kind as one; None where there is none, as clients expect beside tool calls."""
    return "".join(part.text for part in parts if isinstance(part, kind)) or None


def _reply_call(call: ToolCall) -> Object:
    written: Object = {
        "id": _reply_call_id(call.id),
        "type": "function",
        "function": {"name": call.name, "arguments": call.arguments or "{}"},
    }
    if call.signature is not None:
        written["extra_content"] = {"google": {"thought_signature": call.signature}}
    return written


def _reply_call_id(id: str) -> str:
    """An id that OpenAI takes when it comes back: it bounds the length alone."""
    return id if len(id) <= _LONGEST_CALL_ID else tool_id(id, _LONGEST_CALL_ID)


def _own_finish(choice: Choice) -> str | None:
    return choice.finish.raw if choice.finish is not None else None


def _foreign_finish(choice: Choice) -> str:
    return _write_finish(choice.finish, has_calls=any(isinstance(part, ToolCall) for part in choice.parts))


def _choice_of(choice: Choice, index: int, *, own: bool) -> Object:
    written: Object = {
        "index": index,
        "message": _message_of(choice, own=own),
        "logprobs": None,
        "finish_reason": _own_finish(choice) if own else _foreign_finish(choice),
    }
    if own:
        _overlay(written, {key: value for key, value in choice.extras.items() if key != "message"})
    return written


def _write_reply(reply: Reply) -> bytes:
    own = reply.dialect == NAME
    body: Object = {
        "id": reply.id or _NAMELESS_REPLY,
        "object": "chat.completion",
        "created": reply.created or 0,
        "model": reply.model or "",
        "choices": [_choice_of(choice, index, own=own) for index, choice in enumerate(reply.choices)],
    }
    if reply.usage is not None and not (own and "usage" in reply.extras):
        body["usage"] = write_usage(reply.usage)
    if own:
        _overlay(body, reply.extras)
    return encode(body)


# --- streams, reading


class _CallFunction(msgspec.Struct):
    name: str | None = None
    arguments: str | dict[str, Any] | None = None


class _CallDelta(msgspec.Struct):
    index: int | None = None
    id: str | None = None
    function: _CallFunction | None = None
    custom: dict[str, Any] | None = None
    extra_content: Any = None


class _Delta(msgspec.Struct):
    content: str | list[Any] | dict[str, Any] | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    reasoning_details: list[Any] | None = None
    thinking_blocks: list[Any] | None = None
    refusal: str | None = None
    tool_calls: list[_CallDelta] | None = None
    function_call: _CallFunction | None = None
    annotations: list[Any] | None = None
    audio: dict[str, Any] | None = None
    images: list[Any] | None = None


class _ChunkChoice(msgspec.Struct):
    index: int | None = None
    delta: _Delta | None = None
    message: Any = None
    """Where a host tells the whole answer in one chunk: in the place of `delta`."""
    finish_reason: str | None = None
    logprobs: Any = None
    usage: dict[str, Any] | None = None
    """Moonshot's place for it."""


class _XGroq(msgspec.Struct):
    usage: dict[str, Any] | None = None


class _Chunk(msgspec.Struct):
    id: str | int | None = None
    created: float | None = None
    model: str | None = None
    choices: list[_ChunkChoice] | None = None
    usage: dict[str, Any] | None = None
    x_groq: _XGroq | None = None
    error: Any = None
    object: Any = None
    detail: Any = None
    message: Any = None


_chunk = msgspec.json.Decoder(_Chunk, strict=True)
_DONE = b"[DONE]"
_FUNCTION_CALL = -1
"""Where the one function call of the old format stands among the tool calls."""

_TRUNCATED = Fault(502, "api", "the provider's stream ended before its answer did", "stream_truncated")


_EMPTY_DELTA = _Delta()


def _is_bare_error(value: Object) -> bool:
    """An error that is not wrapped: no answer has these fields and no choices (vLLM, SGLang, FastAPI)."""
    if "choices" in value:
        return False
    told = value.get("message")
    return value.get("object") == "error" or bool(value.get("detail")) or (isinstance(told, str) and bool(told))


def _whole_number(value: Json) -> int | None:
    """An index that is spelled as text or as a float is one all the same."""
    if isinstance(value, str) and value.strip().isdecimal():
        return int(value)
    return int(value) if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1e9 else None


def _dict(value: Json) -> dict[str, Any] | None:
    return value if isinstance(value, dict) else None


def _list(value: Json) -> list[Any] | None:
    return value if isinstance(value, list) else None


def _mended(value: Object) -> _Chunk:
    """A chunk whose fields are not all of the types that the format has."""
    created = value.get("created")
    groq = value.get("x_groq")
    return _Chunk(
        id=_word(value.get("id")),
        created=float(created) if isinstance(created, int | float) and math.isfinite(created) else None,
        model=text_of(value.get("model")),
        choices=[_mended_choice(each) for each in _list(value.get("choices")) or () if isinstance(each, dict)],
        usage=_dict(value.get("usage")),
        x_groq=_XGroq(_dict(groq.get("usage"))) if isinstance(groq, dict) else None,
    )


def _mended_choice(value: Object) -> _ChunkChoice:
    delta = value.get("delta")
    return _ChunkChoice(
        index=_whole_number(value.get("index")),
        delta=_mended_delta(delta) if isinstance(delta, dict) else None,
        message=value.get("message"),
        finish_reason=_word(value.get("finish_reason")),
        logprobs=value.get("logprobs"),
        usage=_dict(value.get("usage")),
    )


def _mended_delta(value: Object) -> _Delta:
    content = value.get("content")
    calls = [_mended_call(each) for each in _list(value.get("tool_calls")) or () if isinstance(each, dict)]
    old = value.get("function_call")
    return _Delta(
        content=content if isinstance(content, str | list | dict) else _word(content),
        reasoning_content=_thought_text(value.get("reasoning_content")),
        reasoning=_thought_text(value.get("reasoning")),
        reasoning_details=_list(value.get("reasoning_details")),
        thinking_blocks=_list(value.get("thinking_blocks")),
        refusal=text_of(value.get("refusal")),
        tool_calls=calls or None,
        function_call=_mended_function(old) if isinstance(old, dict) else None,
        annotations=_list(value.get("annotations")),
        audio=_dict(value.get("audio")),
        images=_list(value.get("images")),
    )


def _thought_text(value: Json) -> str | None:
    """Some hosts wrap the text of a thought in an object."""
    match value:
        case {"content": str(text)} | {"text": str(text)}:
            return text
        case _:
            return text_of(value)


def _mended_call(value: Object) -> _CallDelta:
    function = value.get("function")
    return _CallDelta(
        index=_whole_number(value.get("index")),
        id=_word(value.get("id")),
        function=_mended_function(function) if isinstance(function, dict) else None,
        custom=_dict(value.get("custom")),
        extra_content=value.get("extra_content"),
    )


def _mended_function(value: Object) -> _CallFunction:
    given = value.get("arguments")
    arguments = given if given is None or isinstance(given, str | dict) else encode(given).decode()
    return _CallFunction(text_of(value.get("name")), arguments)


class _ReadChoice:
    """One choice as it grows: which parts are open. Thinking, text and refusals follow each other, so one of them ends
    where another begins; tool calls may be told in turns, and end with the choice.

    The finish is told when the stream is over: Together says it after each of several calls, and after OpenRouter's
    an error can follow."""

    __slots__ = ("_calls", "_flat", "_ids", "_number", "_open", "_open_kind", "_parts", "_signed", "finish")

    def __init__(self, number: int) -> None:
        self._number = number
        self._parts = 0
        self._open: int | None = None
        self._open_kind: PartKind | None = None
        self._signed = False
        self._flat = False
        """Whether the open thinking came as flat text, which the structured spelling only repeats."""
        self._calls: dict[int, int] = {}
        """Part by the host's index."""
        self._ids: dict[int, str] = {}
        """Id by the host's index."""
        self.finish: str | None = None

    def read(self, delta: _Delta, started_as: str | None) -> list[ReplyEvent]:
        events: list[ReplyEvent] = []
        self._thoughts(delta, events)
        content = delta.content
        if isinstance(content, str):
            if content:
                self._say("text", content, events)
        elif isinstance(content, list):
            for part in content:
                self._content_part(part, events)
        elif content is not None:
            self._say("text", encode(content).decode(), events)
        for told in delta.images or ():
            self._image(told, events)
        if delta.refusal:
            self._say("refusal", delta.refusal, events)
        if delta.tool_calls:
            for call in delta.tool_calls:
                self._call(call, started_as, events)
        if delta.function_call is not None and (delta.function_call.name or delta.function_call.arguments):
            self._call(_CallDelta(_FUNCTION_CALL, None, delta.function_call), started_as, events)
        if delta.annotations:
            self._note({"annotations": delta.annotations}, events)
        if delta.audio:
            events.append(Noted({"message": {"audio": delta.audio}}, self._number))
        return events

    def end(self) -> list[ReplyEvent]:
        events: list[ReplyEvent] = []
        self._end_open(events)
        events += (PartEnded(part, self._number) for part in self._calls.values())
        if self.finish is not None:
            events.append(Finished(_read_finish(self.finish, has_calls=bool(self._calls)), self._number))
        return events

    def _begin(self, start: PartStarted, events: list[ReplyEvent]) -> int:
        self._end_open(events)
        part = self._parts
        self._parts += 1
        events.append(start)
        return part

    def _end_open(self, events: list[ReplyEvent]) -> None:
        if self._open is not None:
            events.append(PartEnded(self._open, self._number))
        self._open, self._open_kind, self._signed, self._flat = None, None, False, False

    def _say(self, kind: PartKind, text: str, events: list[ReplyEvent]) -> None:
        if self._open_kind != kind or (kind == "thinking" and self._signed and text):
            self._open = self._begin(PartStarted(self._parts, kind, choice=self._number), events)
            self._open_kind = kind
        if text and self._open is not None:
            events.append(PartDelta(self._open, text, self._number))

    def _sign(self, signature: str, events: list[ReplyEvent]) -> None:
        self._say("thinking", "", events)
        if self._open is not None:
            events.append(PartSigned(self._open, signature, self._number))
        self._signed = True

    def _image(self, told: Json, events: list[ReplyEvent]) -> None:
        image = _read_answered_image(told)
        if image is None:
            events.append(Noted({"message": {"images": [told]}}, self._number))
            return
        number = self._begin(PartStarted(self._parts, "media", media=image, choice=self._number), events)
        events.append(PartEnded(number, self._number))

    def _content_part(self, part: Json, events: list[ReplyEvent]) -> None:
        match part:
            case {"type": "image_url"} if _read_answered_image(part) is not None:
                self._image(part, events)
            case {"type": "text", "text": str(text)}:
                self._say("text", text, events)
            case {"type": "thinking", "thinking": list(texts)}:
                for each in texts:
                    if isinstance(each, dict) and isinstance(each.get("text"), str):
                        self._say("thinking", each["text"], events)
                match part:
                    case {"signature": str(signature)}:
                        self._sign(signature, events)
            case dict():
                kind = part.get("type")
                opaque = Opaque(NAME, kind if isinstance(kind, str) else "", part)
                number = self._begin(PartStarted(self._parts, "opaque", opaque=opaque, choice=self._number), events)
                events.append(PartEnded(number, self._number))
            case _:
                events.append(Garbled("a part of the content is no object"))

    def _thoughts(self, delta: _Delta, events: list[ReplyEvent]) -> None:
        """Flat text wins over the structured spelling beside it, which says the same once more; from that come
        signatures and what is sealed."""
        flat = delta.reasoning_content or delta.reasoning
        if flat:
            self._say("thinking", flat, events)
            self._flat = True
        entries = delta.thinking_blocks or delta.reasoning_details
        for entry in entries or ():
            thought = _thought(entry)
            if thought is None:
                key = "thinking_blocks" if delta.thinking_blocks else "reasoning_details"
                events.append(Noted({"message": {key: [entry]}}, self._number))
                continue
            if thought.sealed is not None:
                start = PartStarted(self._parts, "redacted_thinking", data=thought.sealed, choice=self._number)
                events.append(PartEnded(self._begin(start, events), self._number))
                continue
            if thought.text and not self._flat:
                self._say("thinking", thought.text, events)
            if thought.signature:
                self._sign(thought.signature, events)

    def _call(self, delta: _CallDelta, started_as: str | None, events: list[ReplyEvent]) -> None:
        function = delta.function
        if function is None and delta.custom is not None:
            name, given = delta.custom.get("name"), delta.custom.get("input")
            function = _CallFunction(text_of(name), text_of(given))
        name = function.name if function is not None else None
        index = self._index(delta, bool(name))
        part = self._calls.get(index)
        if part is None:
            id = delta.id or f"call_{started_as or 'reply'}_{self._number}_{len(self._calls)}"
            start = PartStarted(self._parts, "tool_call", id, name or "", choice=self._number)
            part = self._calls[index] = self._begin(start, events)
            self._ids[index] = delta.id or ""
        arguments = function.arguments if function is not None else None
        if isinstance(arguments, dict):
            arguments = encode(arguments).decode()
        if arguments:
            events.append(PartDelta(part, arguments, self._number))
        match delta.extra_content:
            case {"google": {"thought_signature": str(signature)}}:
                events.append(PartSigned(part, signature, self._number))

    def _index(self, delta: _CallDelta, named: bool) -> int:
        """Which call a delta belongs to. Mistral gives no index, others count every call as the first: a new id with
        a name is a new call, and what has neither goes on with the last one."""
        index = delta.index
        if index is None:
            known = [i for i, id in self._ids.items() if id and id == delta.id]
            if known:
                return known[0]
            return max(self._calls, default=-1) + 1 if delta.id or named or not self._calls else max(self._calls)
        for alias in sorted(self._calls, reverse=True):
            if alias % _ALIAS == index % _ALIAS and alias >= index >= 0:
                is_new = bool(delta.id) and named and delta.id != self._ids[alias] and bool(self._ids[alias])
                return alias + _ALIAS if is_new else alias
        return index

    def _note(self, extras: Extras, events: list[ReplyEvent]) -> None:
        if self._open is not None:
            events.append(PartNoted(self._open, extras, self._number))
        else:
            events.append(Noted({"message": extras}, self._number))


_MOST_CHOICES = 1_000  # OpenAI gives up to 128
# Calls that a host puts at one index are kept apart by multiples of this; no reply has so many calls.
_ALIAS = 1_000_000


class _Reader:
    def __init__(self) -> None:
        self._decoder = sse.SseDecoder()
        self._choices: dict[int, _ReadChoice] = {}
        self._started = False
        self._over = False
        self._id: str | None = None

    def frames(self, data: bytes) -> list[Frame]:
        return self._decoder.feed(data)

    def read(self, frame: Frame) -> list[ReplyEvent]:
        data = frame.data
        if self._over:
            return []
        if not data:
            return [Ping()] if frame.raw.lstrip(b"\r\n").startswith(b":") else []
        if data == _DONE:
            return self._end()
        try:
            chunk = _chunk.decode(data)
        except UNREADABLE:
            return self._odd(data)
        if chunk.error:
            return self._fail(_fault_of(200, (), {"error": chunk.error}))
        if chunk.choices is None and (chunk.object == "error" or chunk.detail or chunk.message):
            return self._odd(data)
        return self._chunk(chunk)

    def _chunk(self, chunk: _Chunk) -> list[ReplyEvent]:
        events: list[ReplyEvent] = []
        if chunk.choices:
            self._start(chunk, events)
            for position, choice in enumerate(chunk.choices):
                self._choice(choice, position, events)
        usage = chunk.usage or (chunk.x_groq.usage if chunk.x_groq is not None else None)
        if usage:
            events.append(UsageSeen(read_usage(usage)))
        return events

    def close(self) -> tuple[list[Frame], list[ReplyEvent]]:
        frames = self._decoder.close()
        events = [event for frame in frames for event in self.read(frame)]
        if not self._over:
            whole = bool(self._choices) and all(choice.finish is not None for choice in self._choices.values())
            events += self._end() if whole else self._fail(_TRUNCATED)
        return frames, events

    def _start(self, chunk: _Chunk, events: list[ReplyEvent]) -> None:
        if self._started:
            return
        self._started = True
        self._id = str(chunk.id) if chunk.id else None
        created = None if chunk.created is None else int(chunk.created)
        events.append(ReplyStarted(self._id, chunk.model or None, created))

    def _choice(self, heard: _ChunkChoice, position: int, events: list[ReplyEvent]) -> None:
        number = position if heard.index is None or not 0 <= heard.index < _MOST_CHOICES else heard.index
        choice = self._choices.get(number)
        if choice is None:
            choice = self._choices[number] = _ReadChoice(number)
        delta = heard.delta
        if isinstance(heard.message, dict) and (delta is None or delta == _EMPTY_DELTA):
            delta = _mended_delta(heard.message)
        if delta is not None:
            events += choice.read(delta, self._id)
        if heard.logprobs:
            events.append(Noted({"logprobs": heard.logprobs}, number))
        if heard.finish_reason is not None:
            choice.finish = heard.finish_reason
            # The frame says more than the usage that may stand beside it: it is not to be hidden with that.
            events.append(Noted(NO_EXTRAS, number))
        if heard.usage:
            events.append(UsageSeen(read_usage(heard.usage)))

    def _odd(self, data: bytes) -> list[ReplyEvent]:
        """A chunk that is not as the format says: an error in a shape of its own, or fields of another type. What is
        in such a field is read where it can be, and left out where it is only beside the answer."""
        try:
            value = decode_reply(data)
        except UNREADABLE:
            value = None
        if not isinstance(value, dict):
            return [Garbled("a chunk is no JSON object")]
        if value.get("error"):
            return self._fail(_fault_of(200, (), value))
        if _is_bare_error(value):
            return self._fail(_fault_of(200, (), value, text_of(value.get("detail")) or ""))
        return self._chunk(_mended(value))

    def _end(self) -> list[ReplyEvent]:
        failed = next((fault for choice in self._choices.values() if (fault := _failure(choice.finish))), None)
        if failed is not None:
            return self._fail(failed)
        self._over = True
        ends = [event for choice in self._choices.values() for event in choice.end()]
        return [*ends, Ended()]

    def _fail(self, fault: Fault) -> list[ReplyEvent]:
        self._over = True
        return [Failed(fault)]


# --- streams, writing

_QUIET = sse.comment(b"keep-alive")


@dataclass(slots=True)
class _WrittenPart:
    kind: PartKind
    call: int = 0
    """The index of a tool call: tool calls alone are counted."""
    texts: list[str] = field(default_factory=list)
    """What was thought: with its signature it is told once more, as a block that can come back whole."""
    signature: str = ""
    empty: bool = True
    ended: bool = False


@dataclass(slots=True)
class _WrittenChoice:
    parts: dict[int, _WrittenPart] = field(default_factory=dict)
    calls: int = 0
    images: int = 0
    has_role: bool = False
    finished: bool = False


class _Writer:
    """Encodes one streamed reply. `dropped` names what this format has no place for."""

    def __init__(self, call: Call) -> None:
        self._wants_usage = call.wants_usage
        self._model = call.model
        self._choices: dict[int, _WrittenChoice] = {}
        self._head: Object = {
            "id": _NAMELESS_REPLY,
            "object": "chat.completion.chunk",
            "created": 0,
            "model": call.model,
        }
        self._usage: Usage | None = None
        self._over = False
        self.dropped: set[str] = set()

    def write(self, event: ReplyEvent) -> bytes:
        if self._over:
            return b""
        match event:
            case PartDelta():
                return self._delta(event)
            case PartStarted():
                return self._begin(event)
            case PartSigned():
                return self._sign(event)
            case PartEnded():
                return self._part_end(self._choice(event.choice).parts[event.part], event.choice)
            case ReplyStarted():
                return self._start(event)
            case Finished():
                return self._finish(event.finish, event.choice)
            case UsageSeen():
                self._usage = event.usage
                return b""
            case PartNoted() | Noted():
                self.dropped.update(event.extras)
                return b""
            case Ping():
                return _QUIET
            case Garbled():
                return b""
            case Failed():
                self._over = True
                return sse.encode(encode(_envelope(event.fault)))
            case Ended():
                return self._end()
            case _:
                assert_never(event)

    def _choice(self, number: int) -> _WrittenChoice:
        choice = self._choices.get(number)
        if choice is None:
            choice = self._choices[number] = _WrittenChoice()
        return choice

    def _say(self, number: int, delta: Object, finish: str | None = None) -> bytes:
        choice = self._choice(number)
        if not choice.has_role:
            choice.has_role = True
            delta = {"role": "assistant", "content": None, **delta}
        chosen = {"index": number, "delta": delta, "logprobs": None, "finish_reason": finish}
        return sse.encode(orjson.dumps({**self._head, "choices": [chosen]}))

    def _start(self, event: ReplyStarted) -> bytes:
        self._head["id"] = event.id or _NAMELESS_REPLY
        self._head["model"] = event.model or self._model
        self._head["created"] = event.created or 0
        self.dropped.update(event.extras)
        return self._say(0, {"content": ""})

    def _begin(self, event: PartStarted) -> bytes:
        choice = self._choice(event.choice)
        part = choice.parts[event.part] = _WrittenPart(event.kind)
        match event.kind:
            case "tool_call":
                part.call = choice.calls
                choice.calls += 1
                function = {"name": event.name or "", "arguments": ""}
                call = {
                    "index": part.call,
                    "id": _reply_call_id(event.id or ""),
                    "type": "function",
                    "function": function,
                }
                return self._say(event.choice, {"tool_calls": [call]})
            case "redacted_thinking":
                block = {"type": "redacted_thinking", "data": event.data or ""}
                return self._say(event.choice, {"thinking_blocks": [block]})
            case "media":
                media = event.media
                if media is None:
                    return b""
                choice.images += isinstance(media, Image)
                return self._say(event.choice, _written_media(media, choice.images - 1))
            case "opaque":
                return self._opaque(event.opaque, event.choice)
            case "text" | "thinking" | "refusal":
                return b""
            case _:
                assert_never(event.kind)

    def _opaque(self, opaque: Opaque | None, number: int) -> bytes:
        """What only another format knows is left out; a part of this one goes in the place that it came from."""
        if opaque is None or opaque.dialect != NAME:
            self.dropped.add(opaque.kind if opaque is not None else "opaque")
            return b""
        if opaque.kind == "function_call":
            return self._say(number, {"function_call": opaque.value})
        if isinstance(opaque.value, dict) and "id" in opaque.value:
            choice = self._choice(number)
            choice.calls += 1
            return self._say(number, {"tool_calls": [{"index": choice.calls - 1, **opaque.value}]})
        return self._say(number, {"content": [opaque.value]})

    def _delta(self, event: PartDelta) -> bytes:
        part = self._choice(event.choice).parts[event.part]
        if not event.text:
            return b""
        part.empty = False
        match part.kind:
            case "text":
                return self._say(event.choice, {"content": event.text})
            case "thinking":
                part.texts.append(event.text)
                return self._say(event.choice, {"reasoning_content": event.text})
            case "refusal":
                return self._say(event.choice, {"refusal": event.text})
            case "tool_call":
                call = {"index": part.call, "function": {"arguments": event.text}}
                return self._say(event.choice, {"tool_calls": [call]})
            case "redacted_thinking" | "media" | "opaque":
                return b""
            case _:
                assert_never(part.kind)

    def _sign(self, event: PartSigned) -> bytes:
        part = self._choice(event.choice).parts[event.part]
        if part.kind == "tool_call":
            signed = {"google": {"thought_signature": event.signature}}
            return self._say(event.choice, {"tool_calls": [{"index": part.call, "extra_content": signed}]})
        part.signature += event.signature
        return b""

    def _part_end(self, part: _WrittenPart, choice: int) -> bytes:
        if part.ended:
            return b""
        part.ended = True
        if part.kind == "thinking" and part.signature:
            block = {"type": "thinking", "thinking": "".join(part.texts), "signature": part.signature}
            part.texts.clear()
            return self._say(choice, {"thinking_blocks": [block]})
        if part.kind == "tool_call" and part.empty:  # clients parse what they are given
            return self._say(choice, {"tool_calls": [{"index": part.call, "function": {"arguments": "{}"}}]})
        return b""

    def _finish(self, finish: Finish | None, number: int) -> bytes:
        choice = self._choice(number)
        if choice.finished:
            return b""
        choice.finished = True
        ends = b"".join(self._part_end(part, number) for part in choice.parts.values())
        return ends + self._say(number, {}, _write_finish(finish, has_calls=choice.calls > 0))

    def _end(self) -> bytes:
        self._over = True
        out = [self._finish(None, number) for number in sorted(self._choices)]
        if self._wants_usage and self._usage is not None:
            out.append(sse.encode(encode({**self._head, "choices": [], "usage": write_usage(self._usage)})))
        return b"".join(out) + sse.encode(_DONE)


# --- errors

_KIND_OF_CODE: Mapping[str, FaultKind] = MappingProxyType(
    {
        "insufficient_quota": "payment",
        "billing_hard_limit_reached": "payment",
        "billing_not_active": "payment",
        "rate_limit_exceeded": "rate_limit",
        "rate_limit_error": "rate_limit",
        "ratelimitreached": "rate_limit",
        "context_length_exceeded": "context_length",
        "too_many_prompt_tokens": "context_length",
        "string_above_max_length": "context_length",
        "content_filter": "content_filter",
        "content_policy_violation": "content_filter",
        "responsibleaipolicyviolation": "content_filter",
        "invalid_api_key": "authentication",
        "authentication_error": "authentication",
        "model_not_found": "not_found",
        "deploymentnotfound": "not_found",
        "permission_error": "permission",
        "overloaded_error": "overloaded",
        "engine_overloaded": "overloaded",
        "overloaded": "overloaded",
        "server_is_overloaded": "overloaded",
        "slow_down": "overloaded",
        "timeout": "timeout",
        "vector_store_timeout": "timeout",
        "server_error": "api",
        "invalid_request_error": "invalid_request",
        "tool_use_failed": "invalid_request",
    }
)
# What a reply with status 200 stands for when an error comes within it and no number with that.
_STATUS_OF_KIND: Mapping[FaultKind, int] = MappingProxyType(
    {
        "invalid_request": 400,
        "authentication": 401,
        "payment": 402,
        "permission": 403,
        "not_found": 404,
        "method": 405,
        "conflict": 409,
        "too_large": 413,
        "rate_limit": 429,
        "context_length": 400,
        "content_filter": 400,
        "overloaded": 503,
        "timeout": 504,
        "api": 502,
    }
)
_TYPE_OF_KIND: Mapping[FaultKind, str] = MappingProxyType(
    {
        "invalid_request": "invalid_request_error",
        "authentication": "authentication_error",
        "payment": "insufficient_quota",
        "permission": "permission_error",
        "not_found": "invalid_request_error",
        "method": "invalid_request_error",
        "conflict": "invalid_request_error",
        "too_large": "invalid_request_error",
        "rate_limit": "rate_limit_error",
        "context_length": "invalid_request_error",
        "content_filter": "invalid_request_error",
        "overloaded": "server_error",
        "timeout": "server_error",
        "api": "server_error",
    }
)
_CODE_OF_KIND: Mapping[FaultKind, str] = MappingProxyType(
    {
        "authentication": "invalid_api_key",
        "payment": "insufficient_quota",
        "rate_limit": "rate_limit_exceeded",
        "context_length": "context_length_exceeded",
        "content_filter": "content_filter",
        "timeout": "timeout",
        "overloaded": "overloaded",
    }
)
# Words that OpenAI's own errors use; another format's type would mislead its clients.
_TYPES = frozenset({*_TYPE_OF_KIND.values(), "tokens", "requests", "invalid_api_key", "image_parse_error"})


def _error_message(error: Json) -> str:
    """The message of what stands under `error`, in the shapes of many hosts."""
    match error:
        case str():
            return scrubbed(error)
        case {"message": str(message)} if message:
            return scrubbed(message)
        case {"message": dict() | list() as message}:
            return scrubbed(encode(message).decode("utf-8", "replace"))
        case {"detail": str(message)}:
            return scrubbed(message)
        case {"detail": list(details)}:
            told = [each["msg"] for each in details if isinstance(each, dict) and isinstance(each.get("msg"), str)]
            return scrubbed("; ".join(told))
        case _:
            return ""


def _word(value: Json) -> str | None:
    if isinstance(value, str) and value:
        return value
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else None


def _fault_of(status: int, headers: Headers, body: Json, text: str = "") -> Fault:
    """What an error says: its own words where it has the shape, the text of the body otherwise."""
    if isinstance(body, list) and body:  # Gemini's hosts wrap it once more
        body = body[0]
    error = body
    if isinstance(body, dict) and body.get("error"):
        error = body["error"]
    shaped = error if isinstance(error, dict) else {}
    code, kind_word, param = _word(shaped.get("code")), _word(shaped.get("type")), _word(shaped.get("param"))
    match shaped:
        case {"innererror": {"content_filter_result": _}}:  # Azure's
            code = "content_filter"
    if status < 400:
        status = int(code) if code is not None and code.isdecimal() and 400 <= int(code) < 600 else 0
    message = _error_message(error) or scrubbed(text.strip())
    kind = kind_of(status) if status else "api"
    for word in (code, kind_word):
        known = _KIND_OF_CODE.get((word or "").lower())
        # A vague word does not outweigh a clear status: 401 and 404 come with invalid_request_error too.
        if known is not None and (known not in ("invalid_request", "api") or not status):
            kind = known
            break
    kind = refined(kind, message)
    status = status or _STATUS_OF_KIND[kind]
    return Fault(
        status,
        kind,
        message or f"the provider answered with status {status}",
        code,
        kind_word,
        param,
        retry_after(headers),
        header(headers, "x-request-id"),
    )


def _read_error(status: int, headers: Headers, body: bytes) -> Fault:
    text = body.decode("utf-8", "replace")
    try:
        value = msgspec.json.decode(body)
    except UNREADABLE:
        value = None
    else:
        text = text if isinstance(value, str) or not value else ""
    return _fault_of(status, headers, value, text)


def _envelope(fault: Fault) -> Object:
    # Google's reasons are in capitals; they would mislead those who look for OpenAI's codes.
    code = fault.code if fault.code is None or not fault.code.isupper() else None
    return {
        "error": {
            "message": scrubbed(fault.message),
            "type": fault.type if fault.type in _TYPES else _TYPE_OF_KIND[fault.kind],
            "param": fault.param,
            "code": code or _CODE_OF_KIND.get(fault.kind),
        }
    }


# --- the dialect


def _model(card: ModelCard) -> Object:
    return {"id": card.id, "object": "model", "created": card.created, "owned_by": card.owned_by}


_USER = re.compile(rb'"(?:user|safety_identifier)"\s*:')
_rows = msgspec.json.Decoder(list[msgspec.Raw])
_members = msgspec.json.Decoder(dict[str, msgspec.Raw])
# What a message may hold that not every host takes: thinking and signatures that other providers gave, and calls.
_OF_HISTORY = re.compile(
    rb'"(?:thinking_blocks|thought_signature|reasoning_content|reasoning_details|reasoning|tool_calls|tool_call_id)"'
)


def _spliced_for_host(
    raw: bytes, model: str, host: HostProfile
) -> tuple[dict[str, json_splice.Change], tuple[str, ...]]:
    """The messages as this model and host take them, and what was taken out or rewritten. A message that does not
    change keeps its bytes."""
    try:
        members = _members.decode(raw)
    except UNREADABLE:
        raise _why_no_call(raw) from None
    changes: dict[str, json_splice.Change] = {}
    dropped: list[str] = []
    if host.user_limit is not None:
        for name in ("user", "safety_identifier"):
            user = msgspec.json.decode(members[name]) if name in members else None
            if isinstance(user, str) and len(user) > host.user_limit:
                changes[name] = None
                dropped.append(name)
    try:
        rows = _rows.decode(members["messages"])
    except (KeyError, *UNREADABLE):
        return changes, tuple(dropped)  # the host says what is wrong with it
    before = len(dropped)
    kept: list[bytes] = []
    for number, row in enumerate(rows):
        message = msgspec.json.decode(row) if _OF_HISTORY.search(row) else None
        lost = _mend(message, f"messages[{number}]", model, host) if isinstance(message, dict) else []
        kept.append(encode(message) if lost else bytes(row))
        dropped += lost
    if len(dropped) > before:
        changes["messages"] = array(kept)
    return changes, tuple(sorted(dropped))


def _mend(message: Object, path: str, model: str, host: HostProfile) -> list[str]:
    """Takes out of a message what our own replies gave the caller to keep for Claude and for Gemini, what the host
    refuses of thinking, and ids of calls that it refuses. OpenAI's hosts refuse fields of a message that they do not
    know, and a conversation may go on with another model."""
    lost: list[str] = []
    fields = [] if "claude" in model else ["thinking_blocks"]
    if host.thoughts == "refused" and message.get("role") == "assistant":
        fields += [*_FLAT_THOUGHT, "reasoning_details"]
    lost += [f"{path}.{name}" for name in fields if message.pop(name, None) is not None]
    calls = message.get("tool_calls")
    for at, call in enumerate(calls if isinstance(calls, list) else ()):
        if not isinstance(call, dict):
            continue
        where = f"{path}.tool_calls[{at}]"
        match call.get("extra_content"):
            case {"google": {"thought_signature": _}} if "gemini" not in model:
                del call["extra_content"]
                lost.append(f"{where}.extra_content")
        if isinstance(id := call.get("id"), str) and (legal := _raw_call_id(id, model, host)) != id:
            call["id"] = legal
            lost.append(f"{where}.id")
    if isinstance(id := message.get("tool_call_id"), str) and (legal := _raw_call_id(id, model, host)) != id:
        message["tool_call_id"] = legal
        lost.append(f"{path}.tool_call_id")
    return lost


def _raw_call_id(id: str, model: str, host: HostProfile) -> str:
    """An id of a call that the caller gave, as this model's host takes it."""
    if _MISTRALS.search(model) or (host.strict and len(id) > _LONGEST_CALL_ID):
        return call_id(id, model)
    return id


class OpenAIChat:
    name = NAME
    title = TITLE
    routes = (
        Route("POST", "/v1/chat/completions", "chat"),
        Route("GET", "/v1/models", "models"),
        Route("GET", "/v1/models/{model}", "models"),
        # Names of models hold a slash at many hosts, and not every client escapes it.
        Route("GET", "/v1/models/{owner}/{model}", "models"),
    )
    stream_type = "text/event-stream"

    _paths: Mapping[Operation, str] = MappingProxyType({"chat": "/chat/completions", "models": "/models"})

    def read_call(self, raw: bytes, operation: Operation, headers: Headers, path: str) -> Call:
        del headers, path  # this format says everything in the body
        return _read_call(raw) if operation == "chat" else Call(NAME, operation, "", stream=False, raw=raw)

    def splice(self, call: Call, model: str, host: HostProfile = UNKNOWN_HOST) -> Written:
        changes: dict[str, json_splice.Change] = {}
        if model != call.model:
            changes["model"] = encode(model)
        if not call.wants_usage:
            changes["stream_options"] = {"include_usage": b"true"}
        dropped: tuple[str, ...] = ()
        try:
            if _OF_HISTORY.search(call.raw) or (host.user_limit is not None and _USER.search(call.raw)):
                mended, dropped = _spliced_for_host(call.raw, model.lower(), host)
                changes.update(mended)
            return Written(json_splice.splice(call.raw, changes), dropped)
        except ValueError as exc:
            raise BadRequest(f"the body cannot be passed on: {exc}") from exc

    def path(self, operation: Operation, model: str, *, stream: bool) -> str:
        del model, stream
        found = self._paths.get(operation)
        if found is None:
            raise Unsupported(operation, TITLE)
        return found

    def read_chat(self, call: Call) -> Chat:
        return _read_chat(call)

    def write_chat(self, chat: Chat, model: str, host: HostProfile = UNKNOWN_HOST) -> Written:
        request = _RequestWriter(chat, model, host)
        body = request.body()
        return Written(encode(body), tuple(sorted(request.dropped)))

    def read_reply(self, body: bytes) -> Reply:
        return _read_reply(body)

    def write_reply(self, reply: Reply) -> bytes:
        return _write_reply(reply)

    def can_say(self, part: Part) -> bool:
        if isinstance(part, Image | Audio):
            return "content" not in _written_media(part, 0)
        return not isinstance(part, Opaque)

    def reader(self, content_type: str) -> _Reader:
        del content_type  # this format has one way to stream
        return _Reader()

    def writer(self, call: Call) -> _Writer:
        return _Writer(call)

    def read_error(self, status: int, headers: Headers, body: bytes) -> Fault:
        return _read_error(status, headers, body)

    def write_error(self, fault: Fault) -> tuple[int, list[tuple[str, str]], bytes]:
        headers = [("content-type", "application/json")]
        if fault.retry_after is not None:
            headers.append(("retry-after", str(math.ceil(fault.retry_after))))
        return fault.status, headers, encode(_envelope(fault))

    def write_models(self, models: Sequence[ModelCard]) -> bytes:
        return encode({"object": "list", "data": [_model(card) for card in models]})

    def write_model(self, card: ModelCard) -> bytes:
        return encode(_model(card))


PLUGIN = OpenAIChat()
