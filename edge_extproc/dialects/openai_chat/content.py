"""Reads and writes the content parts of messages, in requests and replies."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from ...codecs.json_values import as_object, as_text, left_in, maybe, rest_of, text_of, wrong
from ...errors import BadRequest
from ...model.content import (
    NO_EXTRAS,
    Audio,
    CacheMark,
    Document,
    Extras,
    FileRef,
    Image,
    Inline,
    Json,
    Opaque,
    Part,
    RedactedThinking,
    Refusal,
    Text,
    Thinking,
    Url,
)
from ..inline_data import plain_base64
from .fields import NAME, Object

# --- JSON


def overlay(block: Object, extras: Extras) -> None:
    """Writes the extras of this dialect. Notes (None) are not fields."""
    for key, value in extras.items():
        if value is None:
            continue
        there = block.get(key)
        if isinstance(there, dict) and isinstance(value, dict):
            overlay(there, value)
        else:
            block[key] = value


def is_noted(extras: Extras, key: str) -> bool:
    return key in extras and extras[key] is None


# --- reading a request: parts

_DATA_URI = re.compile(r"data:([^;,]*)(?:;[^,;]*)*;base64,", re.IGNORECASE)
_AUDIO_TYPES: Mapping[str, str] = MappingProxyType({"mp3": "audio/mpeg"})
AUDIO_FORMATS: Mapping[str, str] = MappingProxyType(
    {"audio/mpeg": "mp3", "audio/mp3": "mp3", "audio/wav": "wav", "audio/x-wav": "wav", "audio/wave": "wav"}
)


def _read_source(url: str, path: str) -> Inline | Url:
    if url[:5].lower() != "data:":
        return Url(url)
    match = _DATA_URI.match(url)
    if match is None:
        raise BadRequest(f"{path} must be data:<media type>;base64,<data> or an http(s) URL", param=path)
    return Inline(match[1], plain_base64(url[match.end() :]))


def write_source(source: Inline | Url) -> str:
    return source.url if isinstance(source, Url) else f"data:{source.media_type};base64,{source.data}"


def read_cache(block: Mapping[str, Json], known: frozenset[str]) -> tuple[CacheMark | None, Object]:
    """The cache mark that some hosts accept on a part, and the other fields. A mark of another kind stays among
    these."""
    extras = left_in(block, known)
    if not extras:
        return None, extras
    mark = extras.pop("cache_control", None)
    match mark:
        case None:
            return None, extras
        case {"type": "ephemeral", **rest} if rest.keys() <= {"ttl"} and isinstance(rest.get("ttl"), str | None):
            ttl = rest.get("ttl")
            return CacheMark(text_of(ttl)), extras
        case _:
            return None, {**extras, "cache_control": mark}


TEXT_PART = frozenset({"type", "text"})
_IMAGE_PART = frozenset({"type", "image_url"})
_AUDIO_PART = frozenset({"type", "input_audio"})
_FILE_PART = frozenset({"type", "file"})
_REFUSAL_PART = frozenset({"type", "refusal"})
_THINKING_PART = frozenset({"type", "thinking", "signature"})
_IN_CONTENT: Extras = MappingProxyType({"content": None})
"""A note: the value came in a part of the content, not in its own field."""


def opaque_of(part: Object, path: str) -> Opaque:
    return Opaque(NAME, as_text(part.get("type"), f"{path}.type"), part, path)


def _read_text_part(part: Object, path: str) -> Part:
    cache, extras = read_cache(part, TEXT_PART)
    return Text(as_text(part.get("text"), f"{path}.text"), cache, extras or NO_EXTRAS, path)


def read_image_part(part: Object, path: str) -> Part:
    image = part.get("image_url")
    if isinstance(image, str):  # Mistral's spelling
        image = {"url": image}
    inner = as_object(image, f"{path}.image_url")
    source = _read_source(as_text(inner.get("url"), f"{path}.image_url.url"), f"{path}.image_url.url")
    cache, extras = read_cache(part, _IMAGE_PART)
    if rest := left_in(inner, frozenset({"url", "detail"})):
        extras["image_url"] = rest
    return Image(source, maybe(as_text, inner, "detail", f"{path}.image_url"), cache, extras or NO_EXTRAS, path)


def _read_audio_part(part: Object, path: str) -> Part:
    inner = as_object(part.get("input_audio"), f"{path}.input_audio")
    if not isinstance(inner.get("format"), str):  # Mistral: a URL, or base64 without a format
        return opaque_of(part, path)
    kind = as_text(inner["format"], f"{path}.input_audio.format")
    extras = left_in(part, _AUDIO_PART)
    if rest := left_in(inner, frozenset({"data", "format"})):
        extras["input_audio"] = rest
    data = as_text(inner.get("data"), f"{path}.input_audio.data")
    return Audio(Inline(_AUDIO_TYPES.get(kind, f"audio/{kind}"), data), extras or NO_EXTRAS, path)


def _read_file_part(part: Object, path: str) -> Part:
    inner = as_object(part.get("file"), f"{path}.file")
    data, file_id = maybe(as_text, inner, "file_data", f"{path}.file"), maybe(as_text, inner, "file_id", f"{path}.file")
    source: Inline | Url | FileRef
    if data is not None:
        where = f"{path}.file.file_data"
        # Bare base64 is accepted too. A file without a media type counts as a PDF, which every host with files accepts.
        is_uri = data[:5].lower() == "data:" or "://" in data[:12]
        source = _read_source(data, where) if is_uri else Inline("application/pdf", plain_base64(data))
    elif file_id is not None:
        source = FileRef(file_id)
    else:
        raise BadRequest(f"{path}.file must hold file_data or file_id", param=f"{path}.file")
    cache, extras = read_cache(part, _FILE_PART)
    known = {"filename", "file_data", "file_id"} if data is None or file_id is None else {"filename", "file_data"}
    if rest := left_in(inner, frozenset(known)):
        extras["file"] = rest
    return Document(source, maybe(as_text, inner, "filename", f"{path}.file"), cache, extras or NO_EXTRAS, path)


def _read_refusal_part(part: Object, path: str) -> Part:
    text = as_text(part.get("refusal"), f"{path}.refusal")
    return Refusal(text, {**left_in(part, _REFUSAL_PART), **_IN_CONTENT}, path)


def _read_thinking_part(part: Object, path: str) -> Part:
    """Reads Mistral's thinking: a list of text parts within a part of the content."""
    inner = part.get("thinking")
    texts = inner if isinstance(inner, list) else [{"type": "text", "text": inner}]
    pieces = []
    for text in texts:
        match text:
            case {"type": "text", "text": str(piece), **rest} if not rest:
                pieces.append(piece)
            case _:
                return opaque_of(part, path)
    extras = {**left_in(part, _THINKING_PART), **_IN_CONTENT}
    return Thinking("".join(pieces), maybe(as_text, part, "signature", path), extras, path)


_READ_PART: Mapping[str, Callable[[Object, str], Part]] = MappingProxyType(
    {
        "text": _read_text_part,
        "image_url": read_image_part,
        "input_audio": _read_audio_part,
        "file": _read_file_part,
        "refusal": _read_refusal_part,
        "thinking": _read_thinking_part,
    }
)


def read_content(value: Json, path: str) -> tuple[Part, ...]:
    """The parts of a content. An unknown part (video_url, document_url, …) becomes Opaque."""
    if value is None:
        return ()
    if isinstance(value, str):
        return (Text(value, path=path),)
    if not isinstance(value, list):
        raise wrong(path, "a string or a list of parts", value)
    parts = []
    for number, each in enumerate(value):
        where = f"{path}[{number}]"
        part = as_object(each, where)
        parts.append(_READ_PART.get(as_text(part.get("type"), f"{where}.type"), opaque_of)(part, where))
    return tuple(parts)


# --- thinking: four variants of the hosts

FLAT_THOUGHT = ("reasoning_content", "reasoning")
_STRUCTURED_THOUGHT = ("thinking_blocks", "reasoning_details")
THOUGHT = frozenset((*FLAT_THOUGHT, *_STRUCTURED_THOUGHT))
# Signatures and encrypted thinking of other models do not fit the fields of `Thinking`.
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

    def part(self, path: str) -> Part:
        if self.sealed is not None:
            return RedactedThinking(self.sealed, self.rest, path)
        return Thinking(self.text, self.signature, self.rest, path)


def unwrapped_text(value: Json) -> str | None:
    """The text of thinking or of a refusal. Some hosts wrap it in an object, or in a list of parts."""
    match value:
        case list():
            return "".join(unwrapped_text(part) or "" for part in value)
        case {"content": str(text)} | {"text": str(text)}:
            return text
        case _:
            return text_of(value)


def thought_of(entry: Json) -> _Thought | None:
    """The thinking of an entry. None: only the entry's own host can read it."""
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
"""A note: this text came only in the flat field, beside structured entries without text."""


def read_thoughts(message: Mapping[str, Json], path: str) -> tuple[tuple[Part, ...], Object]:
    """The thinking of a message, notes of its spellings, and the entries that only their own host can read."""
    extras: Object = {}
    parts: list[Part] = []
    for key in _STRUCTURED_THOUGHT:
        entries = message.get(key)
        if not isinstance(entries, list):
            continue
        thoughts = [thought_of(entry) for entry in entries]
        # One spelling is enough. A list that is only partly known stays whole.
        if parts or not entries or None in thoughts:
            extras[key] = entries
        else:
            read = enumerate(thought for thought in thoughts if thought is not None)
            parts += [thought.part(f"{path}.{key}[{number}]") for number, thought in read]
            extras[key] = None
    joined = "".join(part.text for part in parts if isinstance(part, Thinking)) if parts else ""
    for key in FLAT_THOUGHT:
        text = unwrapped_text(message.get(key))
        if text is None:
            continue
        if not joined and text:
            parts, joined = [Thinking(text, None, _FLAT if parts else NO_EXTRAS, f"{path}.{key}"), *parts], text
        extras[key] = None if text == joined else text
    return tuple(parts), extras


def cache_control(mark: CacheMark) -> Object:
    return {"type": "ephemeral"} if mark.ttl is None else {"type": "ephemeral", "ttl": mark.ttl}


def set_values(body: Object, **fields: Json) -> None:
    """Sets the values that are not None."""
    body.update((name, value) for name, value in fields.items() if value is not None)


def short(parts: list[Object]) -> Json:
    """Writes a single text as a string, which every host accepts."""
    match parts:
        case []:
            return ""
        case [{"type": "text", "text": text, **rest}] if not rest:
            return text
        case _:
            return parts


def plain(data: str, path: str) -> str:
    try:
        return base64.b64decode(data, validate=True).decode()
    except ValueError as exc:  # binascii.Error and UnicodeDecodeError are ValueErrors
        raise BadRequest(f"{path} must be UTF-8 text in base64", param=path) from exc


def thoughts_of(thoughts: Sequence[Thinking | RedactedThinking], notes: Extras) -> Object:
    """Writes thinking in the spellings of its notes. Without notes: `reasoning_content` for display, and
    `thinking_blocks` for values that must come back unchanged."""
    text = "".join(thought.text for thought in thoughts if isinstance(thought, Thinking))
    fields: Object = {}
    spellings = [key for key in (*FLAT_THOUGHT, *_STRUCTURED_THOUGHT) if is_noted(notes, key)]
    if not spellings:
        if text:
            spellings.append("reasoning_content")
        if any(isinstance(thought, RedactedThinking) or thought.signature is not None for thought in thoughts):
            spellings.append("thinking_blocks")
    for key in spellings:
        match key:
            case "thinking_blocks":
                fields[key] = [_block(thought) for thought in thoughts if not is_noted(thought.extras, "flat")]
            case "reasoning_details":
                fields[key] = [_detail(thought) for thought in thoughts if not is_noted(thought.extras, "flat")]
            case _:
                fields[key] = text
    return fields


def _block(thought: Thinking | RedactedThinking) -> Object:
    if isinstance(thought, RedactedThinking):
        return {"type": "redacted_thinking", "data": thought.data}
    block: Object = {"type": "thinking", "thinking": thought.text}
    set_values(block, signature=thought.signature)
    return block


def _detail(thought: Thinking | RedactedThinking) -> Object:
    if isinstance(thought, RedactedThinking):
        detail: Object = {"type": "reasoning.encrypted", "data": thought.data}
    elif is_noted(thought.extras, "summary"):
        detail = {"type": "reasoning.summary", "summary": thought.text}
    else:
        detail = {"type": "reasoning.text"}
        set_values(detail, text=thought.text or None)
    if isinstance(thought, Thinking):
        set_values(detail, signature=thought.signature)
    overlay(detail, thought.extras)
    return detail
