"""Estimates the tokens of a request's prompt from the JSON of its body.

It is used where an exchange ends without the provider's final usage: the caller left, the time ran out, the stream
broke. It reads the JSON of every API that the gateway serves by the names that the dialects give (`WireNames`), so that
it also counts fields that no dialect here knows. All text counts: messages, system text, tool definitions, schemas,
tool calls and their results. What has a size of its own (an image, a file) counts by the table in docs/access.md, and
what lies elsewhere (a stored conversation, a file behind an id) as a whole context window. It never refuses a body, and
its cost is linear in the body's length.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from ..accounting.estimate import tokens_of, tokens_of_length
from ..codecs.json_values import UNREADABLE, decode, encode
from ..errors import BadRequest
from ..model.call import Call
from ..model.content import Json
from ..model.wire_names import WireNames
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

_LONGEST_NAME = 256
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
    names: WireNames
    special: frozenset[str]
    """The fields of a part that are neither plain content nor labels."""
    texts: list[str] = field(default_factory=list)
    tokens: int = 0
    """Tokens that are not text: the framing of messages, and token numbers."""
    images: int = 0
    media: int = 0
    """Tokens of files and audio."""
    elsewhere: bool = False


def read_prompt(call: Call, names: WireNames) -> PromptParts:
    """The sizes of a request's prompt, in time linear in the body's length. `names`: those of all dialects."""
    try:
        body = decode(call.raw) if call.operation != "passed" else None
    except UNREADABLE:
        body = None
    if not isinstance(body, dict):
        return PromptParts(tokens_of_length(len(call.raw)), 0, 0, False, None)
    count = _Count(names, _special(names))
    for key, value in body.items():
        _top(count, key, value)
    text = tokens_of(" ".join(count.texts)) + count.tokens
    reasoning = _reasoning(body, names) if call.operation == "chat" else None
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
    names = count.names
    if key in names.beside or value is None:
        return
    if key in names.elsewhere:
        count.elsewhere = True
    elif key in names.stored_prompts and isinstance(value, dict):  # with its variables
        count.elsewhere = True
        _as_text(count, value)
    elif key in names.content:
        _content(count, value)
    elif isinstance(value, dict | list):
        _as_text(count, value)
        if key in ("tools", "tool_resources") and _names_stored(value, names):
            count.elsewhere = True
    elif isinstance(value, str):
        count.texts.append(value)


def _content(count: _Count, value: Json) -> None:
    pending, texts, labels = [value], count.texts, count.names.labels
    while pending:
        each = pending.pop()
        if isinstance(each, str):
            texts.append(each)
        elif isinstance(each, list):
            pending.extend(each)
        elif isinstance(each, dict):
            count.tokens += _PER_OBJECT
            if not count.special.isdisjoint(each):
                pending.extend(_plain(count, each))
                continue
            for key, inner in each.items():  # most messages: a role and a text
                if not isinstance(inner, str):
                    pending.append(inner)
                elif key not in labels or len(inner) > _LONGEST_NAME:
                    texts.append(inner)
        elif each is not None:  # a prompt of token numbers
            count.tokens += 1


def _plain(count: _Count, part: Mapping[str, Json]) -> list[Json]:
    """Counts the special fields of an object. Returns the values that are plain content."""
    plain: list[Json] = []
    names = count.names
    is_image = part.get("type") in names.image_types
    for key, value in part.items():
        if value is None or _is_name(names, key, value):
            continue
        if key in names.tool_data and not isinstance(value, str):
            _as_text(count, value)
        elif key in names.images or (is_image and key in names.blobs):
            count.images += 1
        elif key in names.elsewhere:
            if is_image:
                count.images += 1
            else:
                count.elsewhere = True
        elif key in names.blobs:
            _blob(count, value, plain)
        else:
            plain.append(value)
    return plain


def _special(names: WireNames) -> frozenset[str]:
    return names.blobs | names.elsewhere | names.tool_data | names.seals | names.images


def _is_name(names: WireNames, key: str, value: Json) -> bool:
    if key in names.seals:
        return True
    return key in names.labels and isinstance(value, str) and len(value) <= _LONGEST_NAME


def _blob(count: _Count, value: Json, plain: list[Json]) -> None:
    """Counts an object with a file or a reference to one: `source`, `inlineData`, `fileData`, `input_audio`, …"""
    if isinstance(value, str):  # OpenAI's file_data
        match = _DATA_URI.match(value)
        _file(count, match[1] if match is not None else "", len(value))
        return
    if not isinstance(value, dict):
        plain.append(value)
        return
    names = count.names
    types = (*names.media_types, *names.formats)
    mime = next((m for m in map(value.get, types) if isinstance(m, str)), "")
    inside = value.get("source", value)
    source = inside if isinstance(inside, dict) else value
    for key, inner in (*value.items(), *(source.items() if source is not value else ())):
        if inner is None or inner is source or key in types or _is_name(names, key, inner):
            continue
        if key in names.elsewhere or key in names.pointers:
            if mime.startswith("image/"):
                count.images += 1
            else:
                count.elsewhere = True
        elif key in names.inline and isinstance(inner, str) and value.get("type") != "text":
            _file(count, mime, len(inner))
        elif key in names.unbounded:
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


def _as_text(count: _Count, value: Json) -> None:
    try:
        count.texts.append(encode(value).decode("utf-8", "replace"))
    except BadRequest:  # nested too deeply to be written: no provider can read it either
        count.tokens += 1


def _names_stored(tools: Json, names: WireNames) -> bool:
    """Whether a provider's own tool adds stored files to the prompt."""
    pending = [tools]
    while pending:
        each = pending.pop()
        if isinstance(each, list):
            pending.extend(each)
        elif isinstance(each, dict):
            if not names.stored_in_tools.isdisjoint(each):
                return True
            # Schemas are not searched: there these names are ordinary ones.
            pending.extend(value for key, value in each.items() if key in names.tool_settings)
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


def _reasoning(body: Mapping[str, Json], names: WireNames) -> tuple[int | None, str | None]:
    """The requested budget and effort of reasoning, in any API's spelling."""
    budget: int | None = None
    effort: str | None = None
    for holder in _holders(body, names):
        for key, value in holder.items():
            if key in names.budgets and isinstance(value, int | float) and not isinstance(value, bool):
                if value < 0:  # Gemini: no limit
                    effort = effort or _USUAL_EFFORT
                else:
                    budget = max(budget or 0, int(min(value, 1 << 40)))
            elif key in names.efforts and isinstance(value, str):
                effort = value.lower()
            elif key in ("type", "enabled") and effort is None:
                effort = _SWITCHES.get(value) if isinstance(value, str | bool) else None
    return budget, effort


def _holders(body: Mapping[str, Json], names: WireNames) -> list[Mapping[str, Json]]:
    holders: list[Mapping[str, Json]] = []
    efforts = {key: value for key, value in body.items() if key in names.reasoning_efforts}
    holders += [dict.fromkeys(names.efforts, value) for value in efforts.values() if isinstance(value, str)]
    more = [value for key, value in body.items() if key in names.settings]
    for settings in (body, *(each for each in more if isinstance(each, dict))):
        holders += [value for key, value in settings.items() if key in names.reasoning and isinstance(value, dict)]
        for switch, beside in names.reasoning_beside.items():
            thinking, config = settings.get(switch), settings.get(beside)
            if isinstance(thinking, dict) and thinking.get("type") != "disabled" and isinstance(config, dict):
                holders.append(config)
    return holders


_SWITCHES: Mapping[str | bool, str] = MappingProxyType(
    {"enabled": "high", "adaptive": "high", "disabled": "none", True: _USUAL_EFFORT, False: "none"}
)
