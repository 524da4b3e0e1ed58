"""Estimates the tokens of a request's prompt from the JSON of its body.

The estimate is used if an exchange ends without the provider's final usage: the caller disconnected, a timeout expired,
or the stream broke. It recognizes fields only by their names, for all APIs, so fields that no dialect knows are counted
too. All text counts: messages, system text, tool definitions, schemas, tool calls and their results. Images and files
count by the table in docs/access.md, and content that is not in the body (a stored conversation, a file behind an id)
as a whole context window. It never refuses a body. Its cost is linear in the body's length.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from ..accounting.estimate import tokens_of, tokens_of_length
from ..codecs.json_values import UNREADABLE, decode, encode
from ..errors import BadRequest
from ..model.call import Call
from ..model.content import Json
from .worst_case import OutputBounds

# Tokens of one image: the most of the providers' tables, rounded up. Claude: 4,784; GPT-4.1 nano: 3,779; Gemini's ultra
# high resolution: 2,240. Only gpt-4o-mini has more: 2,833 and 5,667 for each of at most 8 tiles.
_IMAGE, _IMAGE_OF_4O_MINI = 5_000, 48_169
# Anthropic: 1,500 to 3,000 tokens of text a page of PDF, and the page's image. A page is seldom less than 25 KB.
_FILE, _BYTES_PER_FILE_TOKEN = 3_000, 8
# Gemini: 32 tokens for a second of sound, which has 1,000 bytes at the lowest bitrate in use.
_BYTES_PER_SOUND_TOKEN = 30
# Tokens that formats add to each message, part and tool: o200k's <|im_start|>role … <|im_end|>.
_PER_OBJECT = 4

# The fields with the parts of messages. An object can be an image or a file only there; elsewhere it is text.
_CONTENT = frozenset(
    {"messages", "input", "contents", "system", "systemInstruction", "system_instruction", "instructions", "prompt"}
)
# Fields of a request that are not a part of the prompt.
_NO_PROMPT = frozenset(
    {"model", "metadata", "user", "stream_options", "prompt_cache_key", "safety_identifier", "service_tier", "labels"}
)
# Fields that refer to content outside of the body.
_ELSEWHERE = frozenset(
    {
        "previous_response_id",
        "conversation",
        "cachedContent",
        "cached_content",
        "container",
        "file_id",
        "file_url",
        "fileUri",
        "file_uri",
        "s3Location",
        "s3_location",
    }
)
# Within a message: arguments and results of tools. An object in them is data, whatever its fields are called.
_TOOL_DATA = frozenset({"input", "args", "response", "json", "arguments"})
# Within a message: names and ids, which the model does not see as text.
_NAMES = frozenset({"type", "role", "id", "tool_call_id", "tool_use_id", "toolUseId", "call_id", "status"})
# Of reasoning parts: providers verify it and do not charge for it.
_SEALS = frozenset({"signature", "thought_signature", "thoughtSignature"})
_LONGEST_NAME = 256
_MIME = ("media_type", "mimeType", "mime_type", "format")
_DATA_URI = re.compile(r"data:([^;,]{0,100})")

_SHARES: Mapping[str, float] = MappingProxyType({"none": 0, "minimal": 0.1, "low": 0.2, "medium": 0.5, "high": 0.8})
"""The share of the output limit that may be reasoning, by the requested effort. Any other effort may use all of it."""
_USUAL_EFFORT = "medium"

# Models that reason by default and show at most a summary of it, by the provider's name. gpt-5.1 and later reason only
# on request, except for their pro and codex variants.
_REASONS = re.compile(
    r"(?:^|[/.])(?:o[134](?![a-z0-9])|gpt-5(?!-chat|\.\d)|gpt-5\.\d+-(?:pro|codex)|gemini-2\.5-(?:pro|flash(?!-lite|-image))"
    r"|gemini-[3-9](?!.*image)|grok-4(?!.*non-reasoning)|grok-3-mini)"
)


@dataclass(frozen=True, slots=True)
class PromptEstimate:
    text: int
    """The tokens of the text in the body."""
    prompt: int
    """The whole prompt; at most the context window."""
    hidden: int
    """Hidden reasoning that one choice of the reply may have used."""


@dataclass(frozen=True, slots=True)
class PromptParts:
    """The size of a request's prompt, independent of the model."""

    text: int
    media: int
    """Tokens of files and audio."""
    images: int
    elsewhere: bool
    """A part of the prompt is not in the body."""
    reasoning: tuple[int | None, str | None] | None
    """The requested budget and effort of reasoning. None: the call is not a chat."""


@dataclass(slots=True)
class _Count:
    texts: list[str] = field(default_factory=list)
    tokens: int = 0
    """Tokens that are not text: the framing of messages, and token numbers."""
    images: int = 0
    media: int = 0
    """Tokens of files and audio."""
    elsewhere: bool = False


def read_prompt(call: Call) -> PromptParts:
    """Reads the body. The cost is linear in its length."""
    try:
        body = decode(call.raw) if call.operation != "passed" else None
    except UNREADABLE:
        body = None
    if not isinstance(body, dict):
        return PromptParts(tokens_of_length(len(call.raw)), 0, 0, False, None)
    count = _Count()
    for key, value in body.items():
        _top(count, key, value)
    text = tokens_of(" ".join(count.texts)) + count.tokens
    reasoning = _reasoning(body) if call.operation == "chat" else None
    return PromptParts(text, count.media, count.images, count.elsewhere, reasoning)


def estimate_prompt(parts: PromptParts, call: Call, model: str, bounds: OutputBounds) -> PromptEstimate:
    """The estimate for a model. `model`: the provider's name."""
    window = bounds.context_window
    prompt = parts.text + parts.media + parts.images * (_IMAGE_OF_4O_MINI if "4o-mini" in model else _IMAGE)
    return PromptEstimate(
        min(parts.text, window),
        window if parts.elsewhere else min(prompt, window),
        _hidden(*parts.reasoning, call, model, bounds) if parts.reasoning is not None else 0,
    )


# --- the prompt


def _top(count: _Count, key: str, value: Json) -> None:
    if key in _NO_PROMPT or value is None:
        return
    if key in _ELSEWHERE:
        count.elsewhere = True
    elif key == "prompt" and isinstance(value, dict):  # of the Responses API: a stored prompt, with what fills it in
        count.elsewhere = True
        _as_text(count, value)
    elif key in _CONTENT:
        _content(count, value)
    elif isinstance(value, dict | list):
        _as_text(count, value)
        if key in ("tools", "tool_resources") and _names_stored(value):
            count.elsewhere = True
    elif isinstance(value, str):
        count.texts.append(value)


def _content(count: _Count, value: Json) -> None:
    left = [value]
    while left:
        each = left.pop()
        if isinstance(each, str):
            count.texts.append(each)
        elif isinstance(each, list):
            left.extend(each)
        elif isinstance(each, dict):
            count.tokens += _PER_OBJECT
            left.extend(each.values() if _SPECIAL.isdisjoint(each) else _plain(count, each))
        elif each is not None:  # a prompt of tokens
            count.tokens += 1


def _plain(count: _Count, part: Mapping[str, Json]) -> list[Json]:
    """Counts the special fields of an object. Returns the values that are plain content."""
    plain: list[Json] = []
    kind = part.get("type")
    for key, value in part.items():
        read = _READ.get(key)
        if value is None or _is_name(key, value):
            continue
        if key in _TOOL_DATA and not isinstance(value, str):
            _as_text(count, value)
        elif key in ("image_url", "image") or (key == "source" and kind == "image"):
            count.images += 1
        elif key in _ELSEWHERE:
            if kind in ("input_image", "image"):
                count.images += 1
            else:
                count.elsewhere = True
        elif read is not None:
            read(count, value, plain)
        else:
            plain.append(value)
    return plain


def _is_name(key: str, value: Json) -> bool:
    if key in _SEALS:
        return True
    return key in _NAMES and isinstance(value, str) and len(value) <= _LONGEST_NAME


def _blob(count: _Count, value: Json, plain: list[Json]) -> None:
    """Counts an object with a file or a reference to one: `source`, `inlineData`, `fileData`, `input_audio`, …"""
    if isinstance(value, str):  # OpenAI's file_data
        found = _DATA_URI.match(value)
        _file(count, found[1] if found is not None else "", len(value))
        return
    if not isinstance(value, dict):
        plain.append(value)
        return
    mime = next((m for m in map(value.get, _MIME) if isinstance(m, str)), "")
    held = value.get("source", value)
    source = held if isinstance(held, dict) else value
    for key, inner in (*value.items(), *(source.items() if source is not value else ())):
        if inner is None or inner is source or key in _MIME or _is_name(key, inner):
            continue
        if key in _ELSEWHERE or key in ("url", "uri"):
            if mime.startswith("image/"):
                count.images += 1
            else:
                count.elsewhere = True
        elif key in ("data", "bytes") and isinstance(inner, str) and value.get("type") != "text":
            _file(count, mime, len(inner))
        elif key == "file_data":
            _blob(count, inner, plain)
        else:
            plain.append(inner)


def _file(count: _Count, mime: str, length: int) -> None:
    """Counts a file. `length`: characters of base64."""
    size = length * 3 // 4
    if mime.startswith("image/"):
        count.images += 1
    elif mime.startswith(("audio/", "video/")) or mime in ("wav", "mp3", "flac", "opus", "aac", "pcm16", "mp4", "mov"):
        count.media += 1 + size // _BYTES_PER_SOUND_TOKEN
    elif mime.startswith("text/") or mime in ("txt", "csv", "html", "md"):
        count.media += 1 + size // 3
    else:
        count.media += _FILE + size // _BYTES_PER_FILE_TOKEN


_READ: Mapping[str, Callable[[_Count, Json, list[Json]], None]] = MappingProxyType(
    dict.fromkeys(
        (
            "source",
            "inlineData",
            "inline_data",
            "fileData",
            "file_data",
            "file",
            "input_audio",
            "document",
            "audio",
            "video",
        ),
        _blob,
    )
)
_SPECIAL = frozenset({*_READ, *_ELSEWHERE, *_TOOL_DATA, *_NAMES, *_SEALS, "image", "image_url"})


def _as_text(count: _Count, value: Json) -> None:
    try:
        count.texts.append(encode(value).decode("utf-8", "replace"))
    except BadRequest:  # nested deeper than can be written: no provider reads it either
        count.tokens += 1


def _names_stored(tools: Json) -> bool:
    """Whether there is a tool of the provider that adds stored files to the prompt."""
    left = [tools]
    while left:
        each = left.pop()
        if isinstance(each, list):
            left.extend(each)
        elif isinstance(each, dict):
            if "vector_store_ids" in each or "file_ids" in each:
                return True
            # Not into schemas, where these are names like others.
            left.extend(value for key, value in each.items() if key in ("container", "file_search", "code_interpreter"))
    return False


# --- hidden reasoning


def _hidden(budget: int | None, effort: str | None, call: Call, model: str, bounds: OutputBounds) -> int:
    if effort is None and budget is None:
        if _REASONS.search(model.lower()) is None:
            return 0
        effort = _USUAL_EFFORT
    limit = call.max_output_tokens
    most = bounds.output_of(model) if limit is None else limit
    if budget is not None:
        return min(budget, most)
    return int(most * _SHARES.get(effort or "", 1.0))


def _reasoning(body: Mapping[str, Json]) -> tuple[int | None, str | None]:
    """The requested budget in tokens, and the requested effort, in the fields of any API."""
    budget: int | None = None
    effort: str | None = None
    for held in _holders(body):
        for key, value in held.items():
            if key in _BUDGETS and isinstance(value, int | float) and not isinstance(value, bool):
                if value < 0:  # Gemini: as much as it likes
                    effort = effort or _USUAL_EFFORT
                else:
                    budget = max(budget or 0, int(min(value, 1 << 40)))
            elif key in _EFFORTS and isinstance(value, str):
                effort = value.lower()
            elif key in ("type", "enabled") and effort is None:
                effort = _SWITCHES.get(value) if isinstance(value, str | bool) else None
    return budget, effort


def _holders(body: Mapping[str, Json]) -> list[Mapping[str, Json]]:
    found: list[Mapping[str, Json]] = []
    if isinstance(body.get("reasoning_effort"), str):
        found.append({"effort": body["reasoning_effort"]})
    more = [body.get(key) for key in ("generationConfig", "generation_config", "additionalModelRequestFields")]
    for held in (body, *(each for each in more if isinstance(each, dict))):
        found += [each for key in _REASONING if isinstance(each := held.get(key), dict)]
        # Anthropic's effort is one of answers, too: only with thinking does it say how much is thought.
        thinking, config = held.get("thinking"), held.get("output_config")
        if isinstance(thinking, dict) and thinking.get("type") != "disabled" and isinstance(config, dict):
            found.append(config)
    return found


_REASONING = (
    "reasoning",
    "thinking",
    "thinkingConfig",
    "thinking_config",
    "reasoning_config",
    "reasoningConfig",
)
_BUDGETS = frozenset({"budget_tokens", "max_tokens", "thinkingBudget", "thinking_budget"})
_EFFORTS = frozenset({"effort", "thinkingLevel", "thinking_level", "maxReasoningEffort"})
_SWITCHES: Mapping[str | bool, str] = MappingProxyType(
    {"enabled": "high", "adaptive": "high", "disabled": "none", True: _USUAL_EFFORT, False: "none"}
)
