"""Reads and writes the content blocks of Converse requests and replies."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import field, replace
from types import MappingProxyType

from ...codecs.json_values import as_list, as_object, as_text, encode, maybe_text, object_in, rest_of, text_of
from ...errors import Unsupported
from ...model.call import Reasoning
from ...model.content import (
    NO_EXTRAS,
    Audio,
    CacheMark,
    Document,
    Extras,
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
)
from ...model.frozen_dataclass import frozen_dataclass
from ..carried import MARK, original_id
from ..quoted import quoted
from ..turns import arguments_of
from .fields import NAME, TITLE, Block, base64_of, utf8

# --- reading a request: blocks


@frozen_dataclass
class _JsonText(Text):
    """A tool result that is JSON and not text. Other dialects use its text."""

    value: Json = None


@frozen_dataclass
class _TextSource(Inline):
    """A document that is given as text and not as bytes."""


@frozen_dataclass
class SpelledReasoning(Reasoning):
    """Reasoning, with the fields of additionalModelRequestFields that this caller used."""

    wire: Extras = field(default_factory=lambda: NO_EXTRAS)


_IMAGE = frozenset({"format", "source"})
_DOCUMENT = frozenset({"format", "name", "source"})
TOOL_USE = frozenset({"toolUseId", "name", "input"})
_TOOL_RESULT = frozenset({"toolUseId", "content", "status"})
_REASONING_TEXT = frozenset({"text", "signature"})
_CITED = frozenset({"content", "citations"})
CITATIONS = "citationsContent"
"""The extra that holds the citations of a text. It is not `citations`, because Anthropic's extra of that name has
another shape."""

IMAGE_TYPES: Mapping[str, str] = MappingProxyType({f: f"image/{f}" for f in ("png", "jpeg", "gif", "webp")})
_OFFICE = "application/vnd.openxmlformats-officedocument"
DOCUMENT_TYPES: Mapping[str, str] = MappingProxyType(
    {
        "pdf": "application/pdf",
        "csv": "text/csv",
        "doc": "application/msword",
        "docx": f"{_OFFICE}.wordprocessingml.document",
        "xls": "application/vnd.ms-excel",
        "xlsx": f"{_OFFICE}.spreadsheetml.sheet",
        "html": "text/html",
        "txt": "text/plain",
        "md": "text/markdown",
    }
)
AUDIO_TYPES: Mapping[str, str] = MappingProxyType(
    {f: f"audio/{f}" for f in ("opus", "wav", "aac", "flac", "mp4", "ogg", "m4a")} | {"mp3": "audio/mpeg"}
)


def format_of(types: Mapping[str, str], media_type: str) -> str | None:
    """This format's name of a media type, or None."""
    return next((format for format, known in types.items() if known == media_type), None)


def opaque_of(block: Block, path: str) -> Opaque:
    kind = "+".join(block)
    file = object_in(block, kind) if kind in ("audio", "document", "video") else {}
    return Opaque(NAME, kind, block, path, media_type=text_of(file.get("format")) or "")


def read_image(block: Block, path: str) -> Part:
    match as_object(block["image"], f"{path}.image"):
        case {"format": str(format), "source": {"bytes": str(data), **others}, **rest} if (
            format in IMAGE_TYPES and not others
        ):
            return Image(Inline(IMAGE_TYPES[format], data), extras=rest_of(rest, _IMAGE), path=f"{path}.image")
        case _:
            return opaque_of(block, path)


def _read_document(block: Block, path: str) -> Part:
    document = as_object(block["document"], f"{path}.document")
    name = maybe_text(document.get("name"), f"{path}.document.name")
    extras = rest_of(document, _DOCUMENT)
    match document:
        case {"source": {"bytes": str(data), **others}, "format": str(format)} if (
            format in DOCUMENT_TYPES and not others
        ):
            return Document(Inline(DOCUMENT_TYPES[format], data), name, None, extras, f"{path}.document")
        case {"source": {"text": str(text), **others}} if not others:
            media_type = DOCUMENT_TYPES.get(str(document.get("format") or "txt"))
            if media_type is not None and media_type.startswith("text/"):
                return Document(_TextSource(media_type, base64_of(text)), name, None, extras, f"{path}.document")
        case {"source": {"content": list(content), **others}} if not others:
            return _quoted_block({**document, "source": None}, content, block, f"{path}.document")
    return opaque_of(block, path)


def _read_search_result(block: Block, path: str) -> Opaque:
    result = as_object(block["searchResult"], f"{path}.searchResult")
    return _quoted_block(result, result.get("content"), block, f"{path}.searchResult")


def _quoted_block(headings: Block, content: Json, block: Block, path: str) -> Opaque:
    """A search result, or a document of texts."""
    rows = content if isinstance(content, list) else []
    texts = [
        row["text"] for row in rows if isinstance(row, dict) and isinstance(row.get("text"), str) and len(row) == 1
    ]
    parts = tuple(Text(text, path=path) for text in texts) if len(texts) == len(rows) else ()
    return replace(opaque_of(block, path), parts=quoted(headings, parts, path))


def _read_audio(block: Block, path: str) -> Part:
    match as_object(block["audio"], f"{path}.audio"):
        case {"format": str(format), "source": {"bytes": str(data), **others}, **rest} if (
            format in AUDIO_TYPES and not others and not rest
        ):
            return Audio(Inline(AUDIO_TYPES[format], data), path=f"{path}.audio")
        case _:
            return opaque_of(block, path)


def _read_tool_use(block: Block, path: str) -> Part:
    """Reads a call. A call of a tool that Bedrock runs itself becomes Opaque."""
    path = f"{path}.toolUse"
    use = as_object(block["toolUse"], path)
    if use.get("type") not in (None, "tool_use"):
        return opaque_of(block, path)
    return ToolCall(
        original_id(as_text(use.get("toolUseId"), f"{path}.toolUseId")),
        as_text(use.get("name"), f"{path}.name"),
        encode(use.get("input", {})).decode(),
        extras=rest_of(use, TOOL_USE | {"type"}),
        path=path,
    )


def _read_tool_result(block: Block, path: str) -> Part:
    path = f"{path}.toolResult"
    result = as_object(block["toolResult"], path)
    if result.get("type") is not None:  # of a tool that Bedrock ran itself
        return opaque_of(block, path)
    content = result.get("content")
    return ToolResult(
        original_id(as_text(result.get("toolUseId"), f"{path}.toolUseId")),
        () if content is None else read_blocks(content, f"{path}.content"),
        result.get("status") == "error",
        extras=rest_of(result, _TOOL_RESULT),
        path=path,
    )


def _read_reasoning_block(block: Block, path: str) -> Part:
    path = f"{path}.reasoningContent"
    match as_object(block["reasoningContent"], path):
        case {"reasoningText": dict(text), **others} if not others:
            return Thinking(
                as_text(text.get("text", ""), f"{path}.reasoningText.text"),
                _signature(maybe_text(text.get("signature"), f"{path}.reasoningText.signature")),
                rest_of(text, _REASONING_TEXT),
                f"{path}.reasoningText",
            )
        case {"redactedContent": str(data), **others} if not others:
            return RedactedThinking(read_redacted(data), path=path)
        case _:
            return opaque_of(block, path)


def _signature(value: str | None) -> str | None:
    """A signature with the gateway's mark is read as if there were none."""
    return None if value is not None and value.startswith(MARK) else value


# Redacted thinking is bytes in this format, so base64 in JSON. Anthropic's own string consists of those bytes. Another
# maker's bytes may not be text: they stay base64, with a prefix that is not base64.
_RAW_BYTES = "base64:"


def read_redacted(data: str) -> str:
    text = utf8(data)
    return _RAW_BYTES + data if text is None else text


def write_redacted(data: str) -> str:
    return data.removeprefix(_RAW_BYTES) if data.startswith(_RAW_BYTES) else base64_of(data)


def _read_cited(block: Block, path: str) -> Part:
    inner = f"{path}.citationsContent"
    cited = as_object(block["citationsContent"], inner)
    text = "".join(
        as_text(as_object(each, f"{inner}.content[{i}]").get("text", ""), f"{inner}.content[{i}].text")
        for i, each in enumerate(as_list(cited.get("content") or [], f"{inner}.content"))
    )
    return Text(text, extras={CITATIONS: cited.get("citations") or [], **rest_of(cited, _CITED)}, path=path)


def _read_text(block: Block, path: str) -> Part:
    return Text(as_text(block["text"], f"{path}.text"), path=path)


def _read_json(block: Block, path: str) -> Part:
    return _JsonText(encode(block["json"]).decode(), path=path, value=block["json"])


_READ_BLOCK: Mapping[str, Callable[[Block, str], Part]] = MappingProxyType(
    {
        "text": _read_text,
        "json": _read_json,
        "image": read_image,
        "document": _read_document,
        "audio": _read_audio,
        "toolUse": _read_tool_use,
        "toolResult": _read_tool_result,
        "reasoningContent": _read_reasoning_block,
        "citationsContent": _read_cited,
        "searchResult": _read_search_result,
    }
)


def _read_block(block: Block, path: str) -> Part:
    """The part of a block, which has one member. An unknown block (guardContent, video, …) becomes
    Opaque."""
    if len(block) == 1 and isinstance(text := block.get("text"), str):
        return Text(text, path=path)
    members = {key: value for key, value in block.items() if value is not None}
    read = _READ_BLOCK.get(next(iter(members))) if len(members) == 1 else None
    return opaque_of(block, path) if read is None else read(members, path)


def read_mark(value: Json, path: str) -> CacheMark | None:
    """The mark of the cachePoint at `path`. None: it has fields without a type in model/."""
    match value:
        case {"type": "default", **rest} if not rest:
            return CacheMark(path=path)
        case {"type": "default", "ttl": str(ttl), **rest} if not rest:
            return CacheMark(ttl, path)
        case _:
            return None


def _marked(parts: list[Part], mark: CacheMark | None) -> bool:
    """Sets the mark on the last part. Returns whether it was possible."""
    last = parts[-1] if parts else None
    if mark is None or not isinstance(last, Text | Image | Document | ToolCall | ToolResult) or last.cache is not None:
        return False
    parts[-1] = replace(last, cache=mark)
    return True


def read_blocks(value: Json, path: str) -> tuple[Part, ...]:
    """Reads the blocks of a message. A cachePoint becomes a mark on the block before it."""
    parts: list[Part] = []
    for i, each in enumerate(as_list(value, path)):
        where = f"{path}[{i}]"
        block = as_object(each, where)
        is_mark = "cachePoint" in block and len(block) == 1
        mark = read_mark(block["cachePoint"], f"{where}.cachePoint") if is_mark else None
        if _marked(parts, mark):
            continue
        parts.append(_read_block(block, where))
    return tuple(parts)


# --- writing a request: what both ways share


def cache_point(mark: CacheMark) -> Block:
    return {"cachePoint": {"type": "default"} if mark.ttl is None else {"type": "default", "ttl": mark.ttl}}


def thinking_block(part: Thinking) -> Block:
    text: Block = {"text": part.text}
    if part.signature is not None:
        text["signature"] = part.signature
    return {"reasoningContent": {"reasoningText": text}}


# --- writing a request of this dialect: everything goes back


def own_blocks(parts: Iterable[Part], path: str) -> list[Block]:
    blocks: list[Block] = []
    for i, part in enumerate(parts):
        blocks.append(_own_block(part, f"{path}[{i}]"))
        mark = getattr(part, "cache", None)
        if mark is not None:
            blocks.append(cache_point(mark))
    return blocks


def _own_block(part: Part, path: str) -> Block:
    match part:
        case _JsonText():
            return {"json": part.value}
        case Text() if CITATIONS in part.extras:
            rest = {key: value for key, value in part.extras.items() if key != CITATIONS}
            cited = {"content": [{"text": part.text}], "citations": part.extras[CITATIONS], **rest}
            return {"citationsContent": cited}
        case Text() | Refusal():
            return {"text": part.text}
        case Image(Inline() as source):
            return {"image": sourced(IMAGE_TYPES, source, part.extras, path)}
        case Document(Inline() as source):
            extras = part.extras if part.name is None else {"name": part.name, **part.extras}
            return {"document": sourced(DOCUMENT_TYPES, source, extras, path)}
        case Audio(Inline() as source):
            return {"audio": sourced(AUDIO_TYPES, source, part.extras, path)}
        case Thinking():
            return thinking_block(part)
        case RedactedThinking():
            return {"reasoningContent": {"redactedContent": write_redacted(part.data)}}
        case ToolCall():
            use = {"toolUseId": part.id, "name": part.name, "input": arguments_of(part.arguments) or {}, **part.extras}
            return {"toolUse": use}
        case ToolResult():
            result: Block = {"toolUseId": part.call_id, "content": own_blocks(part.parts, f"{path}.toolResult")}
            if part.is_error:
                result["status"] = "error"
            return {"toolResult": {**result, **part.extras}}
        case Opaque():
            return as_object(part.value, path)
        case _:
            raise Unsupported(path, TITLE, "the API accepts only bytes")


def sourced(types: Mapping[str, str], source: Inline, extras: Extras, path: str) -> Block:
    format = format_of(types, source.media_type)
    if format is None:
        raise Unsupported(path, TITLE, f"the API accepts only {', '.join(types)}")
    content: Block = {"text": utf8(source.data)} if isinstance(source, _TextSource) else {"bytes": source.data}
    return {"format": format, "source": content, **extras}
