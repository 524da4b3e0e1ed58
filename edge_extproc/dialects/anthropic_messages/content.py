"""Reads and writes the content blocks of Messages requests and replies."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import assert_never

from ...codecs.json_values import (
    as_object,
    as_text,
    encode,
    kind_name,
    maybe_bool,
    maybe_text,
    object_in,
    rest_of,
    text_of,
)
from ...errors import BadRequest, Unsupported
from ...model.content import (
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
    ToolCall,
    ToolResult,
    Url,
)
from ..carried import MARK, original_id
from ..quoted import quoted
from ..turns import arguments_of
from .fields import NAME, TITLE, Block

# --- reading a request: blocks

TEXT = frozenset({"type", "text", "cache_control"})
_SOURCED = frozenset({"type", "source", "cache_control"})
_DOCUMENT = frozenset({"type", "source", "title", "cache_control"})
TOOL_USE = frozenset({"type", "id", "name", "input", "cache_control"})
_TOOL_RESULT = frozenset({"type", "tool_use_id", "content", "is_error", "cache_control"})
THINKING = frozenset({"type", "thinking", "signature"})
REDACTED = frozenset({"type", "data"})


def read_cache(block: Mapping[str, Json], known: frozenset[str]) -> tuple[CacheMark | None, Extras]:
    """The cache mark of a block or tool, and its other unknown fields. None: the mark has an unknown type. Fields of a
    known mark besides ttl go to the extras, under the mark's name."""
    extras = rest_of(block, known)
    mark = block.get("cache_control")
    if mark is None:
        return None, extras
    if not isinstance(mark, dict) or mark.get("type") != "ephemeral":
        return None, {**extras, "cache_control": mark}
    ttl = mark.get("ttl")
    rest = {k: v for k, v in mark.items() if k not in ("type", "ttl") and v is not None}
    if ttl is not None and not isinstance(ttl, str):
        return None, {**extras, "cache_control": mark}
    return CacheMark(ttl), {**extras, "cache_control": rest} if rest else extras


def _read_text(block: Block, path: str) -> Part:
    cache, extras = read_cache(block, TEXT)
    return Text(as_text(block.get("text"), f"{path}.text"), cache, extras, path)


def opaque_of(block: Block, path: str) -> Opaque:
    return Opaque(NAME, as_text(block.get("type"), f"{path}.type"), block, path)


_BASE64_KEYS = frozenset({"type", "media_type", "data"})


def _read_source(value: Json, path: str) -> Inline | Url | FileRef | None:
    """None: the source has no type in model/."""
    source = as_object(value, path)
    match source:
        case {"type": "base64", "media_type": str(media_type), "data": str(data)} if source.keys() <= _BASE64_KEYS:
            return Inline(media_type, data)
        case {"type": "text", "data": str(data)} if source.keys() <= _BASE64_KEYS:
            return Inline("text/plain", base64.b64encode(data.encode()).decode())
        case {"type": "url", "url": str(url)} if len(source) == 2:
            return Url(url)
        case {"type": "file", "file_id": str(file_id)} if len(source) == 2:
            return FileRef(file_id)
        case _:
            return None


def _read_image(block: Block, path: str) -> Part:
    source = _read_source(block.get("source"), f"{path}.source")
    if source is None:
        return opaque_of(block, path)
    cache, extras = read_cache(block, _SOURCED)
    return Image(source, None, cache, extras, path)


def _read_document(block: Block, path: str) -> Part:
    source = _read_source(block.get("source"), f"{path}.source")
    if source is None:
        return _read_quoted({**block, "source": None}, object_in(block, "source").get("content"), block, path)
    if isinstance(source, Url):  # only a PDF can be a document by URL
        source = Url(source.url, "application/pdf")
    cache, extras = read_cache(block, _DOCUMENT)
    return Document(source, maybe_text(block.get("title"), f"{path}.title"), cache, extras, path)


def _read_search_result(block: Block, path: str) -> Opaque:
    """A result of the caller's own search, which Claude can cite."""
    return _read_quoted(block, block.get("content"), block, path)


def _read_quoted(headings: Block, content: Json, block: Block, path: str) -> Opaque:
    """A search result or a document of blocks. Content that Anthropic does not document has no replacement."""
    parts: tuple[Part, ...] = ()
    if isinstance(content, str) or (isinstance(content, list) and all(map(_is_text_or_image, content))):
        parts = read_content(content, path)
    replacement = quoted(headings, parts, path, read_cache(block, TEXT)[0])
    return replace(opaque_of(block, path), parts=replacement)


def _is_text_or_image(block: Json) -> bool:
    match block:
        case {"type": "text", "text": str()} | {"type": "image"}:
            return True
        case _:
            return False


def _read_tool_use(block: Block, path: str) -> Part:
    cache, extras = read_cache(block, TOOL_USE)
    arguments = encode(as_object(block.get("input", {}), f"{path}.input")).decode()
    return ToolCall(
        original_id(as_text(block.get("id"), f"{path}.id")),
        as_text(block.get("name"), f"{path}.name"),
        arguments,
        cache,
        extras=extras,
        path=path,
    )


def _read_tool_result(block: Block, path: str) -> Part:
    cache, extras = read_cache(block, _TOOL_RESULT)
    content = block.get("content")
    return ToolResult(
        original_id(as_text(block.get("tool_use_id"), f"{path}.tool_use_id")),
        () if content is None else read_content(content, f"{path}.content"),
        bool(maybe_bool(block.get("is_error"), f"{path}.is_error")),
        cache,
        extras,
        path,
    )


def _read_thinking(block: Block, path: str) -> Part:
    """A signature with the gateway's mark is read as if there were none."""
    signature = maybe_text(block.get("signature"), f"{path}.signature")
    return Thinking(
        as_text(block.get("thinking"), f"{path}.thinking"),
        None if signature is not None and signature.startswith(MARK) else signature,
        rest_of(block, THINKING),
        path,
    )


def _read_redacted(block: Block, path: str) -> Part:
    return RedactedThinking(as_text(block.get("data"), f"{path}.data"), rest_of(block, REDACTED), path)


def _read_tool_reference(block: Block, path: str) -> Text:
    """A tool that a search of the caller has found. Elsewhere all tools are offered from the start, so a text is
    enough."""
    cache, extras = read_cache(block, frozenset({"type", "tool_name"}))
    name = as_text(block.get("tool_name"), f"{path}.tool_name")
    return Text(f"The tool {name} can be called now.", cache, extras, path)


def _read_compaction(block: Block, path: str) -> Opaque:
    """The summary by which Claude replaces the earlier messages. It has no content if the summary failed."""
    return Opaque(NAME, "compaction", block, path, summary=text_of(block.get("content")) or "")


_READ_BLOCK: Mapping[str, Callable[[Block, str], Part]] = MappingProxyType(
    {
        "text": _read_text,
        "image": _read_image,
        "document": _read_document,
        "search_result": _read_search_result,
        "tool_use": _read_tool_use,
        "tool_result": _read_tool_result,
        "thinking": _read_thinking,
        "redacted_thinking": _read_redacted,
        "tool_reference": _read_tool_reference,
        "compaction": _read_compaction,
    }
)


def read_block(value: Json, path: str) -> Part:
    """The part of a block. An unknown block (server_tool_use, results of server tools) becomes
    Opaque."""
    block = as_object(value, path)
    return _READ_BLOCK.get(as_text(block.get("type"), f"{path}.type"), opaque_of)(block, path)


def read_content(value: Json, path: str) -> tuple[Part, ...]:
    if isinstance(value, str):
        return (Text(value, path=path),)
    if not isinstance(value, list):
        raise BadRequest(f"{path} must be a string or a list of blocks, not {kind_name(value)}", param=path)
    return tuple(read_block(block, f"{path}[{i}]") for i, block in enumerate(value))


# --- writing a request: what both ways share


def source_of(source: Inline | Url | FileRef) -> Block:
    match source:
        case Inline():
            return {"type": "base64", "media_type": source.media_type, "data": source.data}
        case Url():
            return {"type": "url", "url": source.url}
        case FileRef():
            return {"type": "file", "file_id": source.id}
        case _:
            assert_never(source)


def document_source(source: Inline | Url | FileRef, path: str) -> Block:
    """A text document is written as text: only a PDF may be base64."""
    if not isinstance(source, Inline) or not source.media_type.startswith("text/"):
        return source_of(source)
    try:
        text = base64.b64decode(source.data, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError) as exc:
        raise BadRequest(
            f"{path} must be UTF-8 text in base64, for the media type {source.media_type!r}", param=path
        ) from exc
    return {"type": "text", "media_type": "text/plain", "data": text}


def cache_control(mark: CacheMark) -> Block:
    return {"type": "ephemeral"} if mark.ttl is None else {"type": "ephemeral", "ttl": mark.ttl}


def shortened(blocks: list[Block]) -> Json:
    """A single plain text is written as a string, as most callers do. The API accepts both."""
    if len(blocks) == 1 and len(block := blocks[0]) == 2 and "text" in block and "type" in block:
        return block["text"]
    return blocks


# --- writing a request of this dialect: everything goes back


def own_block(part: Part, path: str) -> Block:
    match part:
        case Text():
            return own({"type": "text", "text": part.text}, part.cache, part.extras)
        case Image():
            return own({"type": "image", "source": source_of(part.source)}, part.cache, part.extras)
        case Document():
            block: Block = {"type": "document", "source": document_source(part.source, path)}
            if part.name is not None:
                block["title"] = part.name
            return own(block, part.cache, part.extras)
        case Thinking():
            block = {"type": "thinking", "thinking": part.text}
            if part.signature is not None:
                block["signature"] = part.signature
            return own(block, None, part.extras)
        case RedactedThinking():
            return own({"type": "redacted_thinking", "data": part.data}, None, part.extras)
        case Refusal():
            return {"type": "text", "text": part.text}
        case ToolCall():
            return own(
                {"type": "tool_use", "id": part.id, "name": part.name, "input": arguments_of(part.arguments) or {}},
                part.cache,
                part.extras,
            )
        case ToolResult():
            block = {"type": "tool_result", "tool_use_id": part.call_id}
            if part.parts:
                block["content"] = shortened([own_block(p, f"{path}.content[{i}]") for i, p in enumerate(part.parts)])
            if part.is_error:
                block["is_error"] = True
            return own(block, part.cache, part.extras)
        case Opaque():
            return as_object(part.value, path)
        case Audio():
            raise Unsupported(path, TITLE, "the format has no audio")
        case _:
            assert_never(part)


def own(block: Block, cache: CacheMark | None, extras: Extras) -> Block:
    block.update(extras)
    if cache is not None:
        rest = extras.get("cache_control")
        block["cache_control"] = {**cache_control(cache), **(rest if isinstance(rest, dict) else {})}
    return block
