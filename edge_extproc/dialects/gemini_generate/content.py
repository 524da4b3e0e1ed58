"""Reads the parts of contents, in requests and replies."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Literal

from ...codecs.json_values import (
    UNREADABLE,
    as_list,
    as_object,
    as_text,
    decode,
    encode,
    maybe_text,
    object_in,
    text_of,
)
from ...errors import BadRequest
from ...model.content import (
    NO_EXTRAS,
    Audio,
    Document,
    Extras,
    FileRef,
    Image,
    Inline,
    Json,
    Message,
    Opaque,
    Part,
    Source,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
    Url,
)
from ..carried import MARK, UNSIGNED, original_id, seal, unseal
from ..inline_data import URL_SAFE, plain_base64
from ..places import places
from .fields import NAME, SCALARS, Block, extras_of, names_of, split

CONTENT = names_of("role", "parts")
PART = names_of(
    "text",
    "thought",
    "thoughtSignature",
    "inlineData",
    "fileData",
    "functionCall",
    "functionResponse",
    "mediaResolution",
)
_BLOB = names_of("mimeType", "data", "displayName")
_FILE = names_of("mimeType", "fileUri", "displayName")
CALL = names_of("id", "name", "args")
_RESULT = names_of("id", "name", "response", "parts")
TOOL = names_of("functionDeclarations")
DECLARATION = names_of("name", "description", "parameters", "parametersJsonSchema")
TOOL_CONFIG = names_of("functionCallingConfig")
CALLING = names_of("mode", "allowedFunctionNames")
CONFIG_NAMES = names_of(
    *SCALARS.names,
    "responseJsonSchema",
    "responseMimeType",
    "responseSchema",
    "stopSequences",
    "thinkingConfig",
)
THINKING = names_of("thinkingBudget", "thinkingLevel", "includeThoughts")

MADE_ID = re.compile(r"call_\d+_[0-9a-f]{12}")
# URIs that only Google can resolve: its Files API and its storage.
GOOGLES_FILE = re.compile(r"gs://|files/|https://generativelanguage\.googleapis\.com/")
_EXTENSIONS: Mapping[str, str] = MappingProxyType(
    {
        "gif": "image/gif",
        "heic": "image/heic",
        "heif": "image/heif",
        "jpeg": "image/jpeg",
        "jpg": "image/jpeg",
        "mp3": "audio/mp3",
        "pdf": "application/pdf",
        "png": "image/png",
        "txt": "text/plain",
        "wav": "audio/wav",
        "webp": "image/webp",
    }
)
# Levels with an equivalent in OpenAI's format. Gemini's others stay a field of their own.
DETAILS: Mapping[str, str] = MappingProxyType({"low": "MEDIA_RESOLUTION_LOW", "high": "MEDIA_RESOLUTION_HIGH"})
MODES: Mapping[str, Literal["auto", "required", "none"]] = MappingProxyType(
    {"AUTO": "auto", "ANY": "required", "NONE": "none"}
)
TIERS: Mapping[str, str] = MappingProxyType({"default": "standard", "flex": "flex", "priority": "priority"})
JSON_TYPE = "application/json"


def made_id(index: int, *seeds: str) -> str:
    """An id for a call of Gemini without one. It is the same each time, and recognizable as generated."""
    digest = hashlib.sha256("\0".join(seeds).encode("utf-8", "surrogatepass")).hexdigest()
    return f"call_{index}_{digest[:12]}"


def media_type_of(url: str) -> str | None:
    name = url.partition("?")[0].partition("#")[0].rpartition("/")[2]
    return _EXTENSIONS.get(name.rpartition(".")[2].lower()) if "." in name else None


def one_or_many(value: Json, path: str) -> list[Json]:
    """A repeated field. Google accepts a single value instead of a list."""
    return [value] if isinstance(value, dict | str) else as_list(value, path)


def _read_plain(value: Json, path: str, where: str) -> Message | None:
    """A content with a role and one text, as most of a long history are. `where`: the path of its first part. None: it
    has something else."""
    if not isinstance(value, dict) or len(value) != 2:
        return None
    role, parts = value.get("role"), value.get("parts")
    if (role != "user" and role != "model") or not isinstance(parts, list) or len(parts) != 1:
        return None
    part = parts[0]
    text = part.get("text") if isinstance(part, dict) and len(part) == 1 else None
    if not isinstance(text, str):
        return None
    plain = Text(text, None, NO_EXTRAS, where)
    return Message("user" if role == "user" else "assistant", (plain,), None, NO_EXTRAS, path)


class ContentsReader:
    """Parses one request. Calls without an id get one, and results without an id are matched by name."""

    def __init__(self) -> None:
        self._open_calls: list[tuple[str, str]] = []
        """The id and name of each call without a result."""
        self._calls = 0

    def messages(self, values: list[Json]) -> list[Message]:
        located = zip(values, places("contents", "parts[0]", len(values)), strict=False)
        return [_read_plain(value, path, where) or self.message(value, path) for value, (path, where) in located]

    def message(self, value: Json, path: str) -> Message:
        content, rest = split(as_object(value, path), CONTENT)
        role = content.get("role", "user")
        parts = tuple(
            self.part(as_object(part, f"{path}.parts[{i}]"), f"{path}.parts[{i}]")
            for i, part in enumerate(one_or_many(content.get("parts", []), f"{path}.parts"))
        )
        match role:
            case "model":
                return Message("assistant", _joined_thoughts(parts), extras=extras_of(rest), path=path)
            case "user" | "function":
                only_results = bool(parts) and all(isinstance(part, ToolResult) for part in parts)
                return Message("tool" if only_results else "user", parts, extras=extras_of(rest), path=path)
            case _:
                raise BadRequest(f"{path}.role is {role!r}; use user or model", param=f"{path}.role")

    def part(self, value: Block, path: str) -> Part:
        known, rest = split(value, PART)
        signature = maybe_text(known.pop("thoughtSignature", None), f"{path}.thoughtSignature")
        thought = known.pop("thought", None) is True
        resolution = known.pop("mediaResolution", None)
        if resolution is not None:
            rest["mediaResolution"] = resolution
        if not known and not rest and signature is not None:  # only a signature: it belongs to hidden thinking
            return Text("", extras=signed_by({"thought": True} if thought else {}, signature), path=path)
        match known:
            case {"text": text, **others} if not others:
                if thought:
                    return thinking_of(as_text(text, f"{path}.text"), signature, rest, path)
                return Text(as_text(text, f"{path}.text"), extras=signed_by(rest, signature), path=path)
            case {"functionCall": call, **others} if not others and not thought:
                return self._call(as_object(call, f"{path}.functionCall"), signature, rest, path)
            case {"functionResponse": result, **others} if not others and not thought:
                return self._result(as_object(result, f"{path}.functionResponse"), rest, path)
            case {"inlineData": blob, **others} if not others and not thought:
                part = inline(as_object(blob, f"{path}.inlineData"), signed_by(rest, signature), path)
            case {"fileData": file, **others} if not others and not thought:
                part = file_of(as_object(file, f"{path}.fileData"), signed_by(rest, signature), path)
            case _:
                part = None
        return part or opaque(value, path)

    def _call(self, call: Block, signature: str | None, rest: Block, path: str) -> Part:
        known, others = split(call, CALL)
        inner = f"{path}.functionCall"
        name = as_text(known.get("name"), f"{inner}.name")
        arguments = "" if "args" not in known else encode(as_object(known["args"], f"{inner}.args")).decode()
        id = maybe_text(known.get("id"), f"{inner}.id") or made_id(self._calls, name, arguments)
        id = original_id(id)
        self._calls += 1
        self._open_calls.append((id, name))
        extras = extras_of(rest, {"functionCall": others} if others else {})
        return ToolCall(id, name, arguments, None, signature, extras, path)

    def _result(self, result: Block, rest: Block, path: str) -> Part:
        known, others = split(result, _RESULT)
        inner = f"{path}.functionResponse"
        name = as_text(known.get("name"), f"{inner}.name")
        id = maybe_text(known.get("id"), f"{inner}.id")
        id = None if id is None else original_id(id)
        call_id, called = self._call_of_result(id, name)
        text, is_error = _read_response(as_object(known.get("response", {}), f"{inner}.response"))
        parts: list[Part] = [Text(text, path=f"{inner}.response")]
        for i, part in enumerate(one_or_many(known.get("parts", []), f"{inner}.parts")):
            parts.append(self.part(as_object(part, f"{inner}.parts[{i}]"), f"{inner}.parts[{i}]"))
        if called != name:
            others["name"] = name
        extras = extras_of(rest, {"functionResponse": others} if others else {})
        return ToolResult(call_id, tuple(parts), is_error, None, extras, path)

    def _call_of_result(self, id: str | None, name: str) -> tuple[str, str | None]:
        """The id of the call that a result answers: by its id, otherwise the first call of this name without a
        result."""
        for number, (call_id, called) in enumerate(self._open_calls):
            if call_id == id or (id is None and called == name):
                del self._open_calls[number]
                return call_id, called
        return id or made_id(self._calls, name), None


def _joined_thoughts(parts: tuple[Part, ...]) -> tuple[Part, ...]:
    """The parts, with thinking that Claude signed in one part. A stream has its pieces as parts of their own, and the
    signature, which is valid for the whole text alone, in the last one."""
    joined: list[Part] = []
    for part in parts:
        if isinstance(part, Thinking) and part.signature:
            pieces = [part.text]
            while joined and isinstance(before := joined[-1], Thinking) and not (before.signature or before.extras):
                pieces.insert(0, before.text)
                joined.pop()
            part = replace(part, text="".join(pieces))
        joined.append(part)
    return tuple(joined)


def signed_by(rest: Block, signature: str | None) -> Extras:
    return extras_of(rest, {"thoughtSignature": signature} if signature is not None else {})


# The mark of carried.py in base64, which a signature has in this format: 12 characters become 16.
MARKED = base64.b64encode(MARK.encode()[:12]).decode()


def thinking_of(text: str, signature: str | None, rest: Block, path: str) -> Thinking:
    """Reads a signature: Google's own, or one of Claude in the gateway's mark."""
    if signature is not None and signature.startswith(MARKED):
        return Thinking(text, unseal(_plain(signature)), extras_of(rest), path)
    return Thinking(text, None, signed_by(rest, signature), path)


def _plain(signature: str) -> str:
    try:
        return base64.b64decode(signature.translate(URL_SAFE)).decode()
    except ValueError:  # binascii.Error and UnicodeDecodeError are ValueErrors
        return UNSIGNED


def sealed(signature: str | None) -> Block:
    """A signature of Claude in Google's format."""
    if not signature:
        return {}
    return {"thoughtSignature": base64.b64encode(seal(signature).encode("utf-8", "surrogatepass")).decode()}


def opaque(value: Block, path: str) -> Opaque:
    """The kind of a part is the name of its one main field."""
    kinds = [key for key in value if key not in _NOT_A_KIND]
    kind = kinds[0] if kinds else ""
    file = object_in(value, kind) if kind in ("inlineData", "fileData") and not value.get("thought") else {}
    return Opaque(NAME, kind, value, path, media_type=text_of(file.get("mimeType")) or "")


_NOT_A_KIND = frozenset(names_of("thought", "thoughtSignature", "mediaResolution", "videoMetadata", "partMetadata"))


def inline(blob: Block, extras: Extras, path: str) -> Part | None:
    """The part at `path` with this inlineData. None: model/ has no type for it, such as a video."""
    known, rest = split(blob, _BLOB)
    media_type = as_text(known.get("mimeType"), f"{path}.inlineData.mimeType")
    data = as_text(known.get("data"), f"{path}.inlineData.data")
    # Protobuf accepts both alphabets, with or without padding; other formats accept one.
    source = Inline(media_type, plain_base64(data))
    return _media("inlineData", source, media_type, known.get("displayName"), extras, rest, path)


def file_of(file: Block, extras: Extras, path: str) -> Part | None:
    """The part at `path` with this fileData. None: model/ has no type for it."""
    known, rest = split(file, _FILE)
    uri = as_text(known.get("fileUri"), f"{path}.fileData.fileUri")
    media_type = maybe_text(known.get("mimeType"), f"{path}.fileData.mimeType")
    name = known.get("displayName")
    if GOOGLES_FILE.match(uri):
        rest = {**({} if media_type is None else {"mimeType": media_type}), **rest}
        return _media("fileData", FileRef(uri), media_type, name, extras, rest, path)
    kind = media_type or media_type_of(uri)
    return _media("fileData", Url(uri, media_type), kind, name, extras, rest, path)


def _media(
    key: str, source: Source, media_type: str | None, name: Json, extras: Extras, rest: Block, path: str
) -> Part | None:
    """`extras` belong to the part, `rest` to the object under `key` in it."""
    kind = (media_type or "").partition("/")[0]
    if media_type == "application/pdf" or kind == "text":
        return Document(source, text_of(name), None, _within(key, rest, extras), path)
    extras = _within(key, rest if name is None else {"displayName": name, **rest}, extras)
    if kind == "audio":
        return Audio(source, extras, path)
    if kind != "image":
        return None
    detail = next((d for d, level in DETAILS.items() if extras.get("mediaResolution") == {"level": level}), None)
    if detail is not None:
        extras = extras_of({key: value for key, value in extras.items() if key != "mediaResolution"})
    return Image(source, detail, None, extras, path)


def _within(key: str, rest: Block, extras: Extras) -> Extras:
    return extras_of(extras, {key: rest} if rest else {})


def _read_response(response: Block) -> tuple[str, bool]:
    """The result of a function as text, and whether it is an error. Google's reference: the output is under "output"
    and an error under "error"; without them the whole object is the output."""
    match response:
        case {"output": str(text), **others} if not others and as_one_object(text) is None:
            return text, False
        case {"error": str(text), **others} if not others and as_one_object(text) is None:
            return text, True
        case {"error": _, **others} if not others:
            return encode(response).decode(), True
        case _:
            return encode(response).decode(), False


def as_one_object(text: str) -> Block | None:
    """The JSON object in a text, or None."""
    if not text.lstrip().startswith("{"):
        return None
    try:
        value = decode(text.encode())
    except UNREADABLE:
        return None
    return value if isinstance(value, dict) else None
