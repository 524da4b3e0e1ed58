"""Google's generateContent and streamGenerateContent, both directions: what Gemini's callers send and read, and what
Google's hosts take and give.

The file is in the order of a call: the cheap view and the raw lane; reading a request; writing one; replies; streams;
errors; models. What becomes of each field of a chat that crosses over is told by `FIELDS`, and what the models of a
generation can be asked by `generation_of`. It knows nothing of hosts, keys, routing or Envoy.

Protobuf's JSON lets callers spell each field in two ways (maxOutputTokens, max_output_tokens): both are read, and the
first is written. Model and streaming stand in the path, not in the body.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Literal, TypeAlias, assert_never
from urllib.parse import parse_qs, quote, unquote

import msgspec

from ..codecs import json_array, json_splice, sse
from ..codecs.frame import Frame
from ..codecs.json_values import (
    UNREADABLE,
    TokenCounts,
    as_list,
    as_object,
    as_text,
    decode,
    decode_reply,
    encode,
    maybe_bool,
    maybe_int,
    maybe_number,
    maybe_text,
    read_body,
    text_of,
    wrong,
)
from ..codecs.openapi_schema import SchemaError, to_json_schema, to_openapi
from ..errors import BadRequest, Unsupported, UpstreamError
from ..model.call import Call, Chat, FunctionTool, Operation, Reasoning, ResponseFormat, Tool, ToolChoice, Written
from ..model.content import (
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
    RedactedThinking,
    Refusal,
    Source,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
    Url,
)
from ..model.fault import Fault, FaultKind, kind_of, refined, scrubbed
from ..model.host import UNKNOWN_HOST, HostProfile
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
    fold,
)
from ..model.usage import Usage
from .base import FieldSupport, Headers, ModelCard, Route, header, retry_after
from .carried import MARK, UNSIGNED, original_id, seal, unseal
from .dropping import DropList
from .history import Place, edited

NAME = "gemini_generate"
TITLE = "Gemini generateContent"

Block: TypeAlias = dict[str, Json]
"""A JSON object of the wire."""

# --- what becomes of a chat that crosses over


FIELDS: Mapping[str, FieldSupport] = MappingProxyType(
    {
        "dialect": FieldSupport("mapped", "not sent; it says how to name what is dropped"),
        "model": FieldSupport("mapped", "the path: the name under which the chosen host knows it"),
        "messages": FieldSupport(
            "mapped",
            "system and developer turns become parts of systemInstruction in order; tool results join the user's turn, "
            "first in it; turns of one role in a row become one; empty text is left out; thinking, refusals, names, "
            "cache marks and foreign part fields are dropped; a tool result without its call, other providers' files "
            "and parts that only another format knows are refused. Where a Gemini 3 model gets calls that bear no "
            "thought signature, the first of a turn gets the one that Google documents for foreign history",
        ),
        "stream": FieldSupport("mapped", "the path"),
        "include_usage": FieldSupport("mapped", "not sent: a stream of this format always tells its usage"),
        "tools": FieldSupport(
            "mapped",
            "functionDeclarations; a schema goes as it is from Gemini 2.5 on and is narrowed to OpenAPI before; strict "
            "is dropped; a tool that is no function is refused",
        ),
        "tool_choice": FieldSupport(
            "mapped", "auto, required → ANY, none, a function → ANY with its name; dropped without tools"
        ),
        "parallel_tool_calls": FieldSupport("dropped", "where it is false"),
        "max_output_tokens": FieldSupport("mapped", "generationConfig.maxOutputTokens"),
        "temperature": FieldSupport("mapped", "generationConfig.temperature"),
        "top_p": FieldSupport("mapped", "generationConfig.topP"),
        "top_k": FieldSupport("mapped", "generationConfig.topK"),
        "stop": FieldSupport("mapped", "generationConfig.stopSequences; more than five are refused"),
        "n": FieldSupport("mapped", "generationConfig.candidateCount"),
        "seed": FieldSupport("mapped", "generationConfig.seed"),
        "presence_penalty": FieldSupport("mapped", "generationConfig.presencePenalty"),
        "frequency_penalty": FieldSupport("mapped", "generationConfig.frequencyPenalty"),
        "logprobs": FieldSupport("mapped", "generationConfig.responseLogprobs"),
        "top_logprobs": FieldSupport("mapped", "generationConfig.logprobs"),
        "response_format": FieldSupport(
            "mapped",
            "responseMimeType, and responseJsonSchema (responseSchema before Gemini 2.5); a name and a description "
            "become the schema's title and description; strict false is dropped: Google always holds to the schema",
        ),
        "reasoning": FieldSupport(
            "mapped",
            "thinkingConfig: thinkingLevel from Gemini 3 on, thinkingBudget for 2.5, dropped before; efforts as "
            "Google's own OpenAI endpoint maps them; switching off what cannot be switched off is refused",
        ),
        "service_tier": FieldSupport(
            "mapped", "default → standard, flex, priority; auto is not sent; others are dropped"
        ),
        "user": FieldSupport("dropped", ""),
        "metadata": FieldSupport("dropped", ""),
        "extras": FieldSupport("dropped", "but audio output, web search and the old functions are refused"),
        "needed": FieldSupport("refused", "whatever it names"),
    }
)

# Extras of other dialects whose absence would change what the caller gets.
_NEEDED_EXTRAS = frozenset({"audio", "functions", "function_call", "modalities", "web_search_options"})
_MOST_STOPS = 5  # Google's reference of GenerationConfig

# --- what the models can be asked

# Google's pages on thinking, structured output, function calling and OpenAI compatibility, read in 2026.


@dataclass(frozen=True, slots=True)
class Generation:
    json_schema: bool = True
    """Takes JSON Schema as it is; otherwise only OpenAPI's subset."""
    thinking: Literal["level", "budget", "none"] = "level"
    efforts: Mapping[str, str | int] = field(default_factory=dict)
    """An effort to a level or a budget. "none" is missing where thinking cannot be switched off."""
    budgets: tuple[int, int] = (0, 0)
    """The least and the most thinking tokens."""
    is_third: bool = True
    """Gemini 3 or later: refuses calls in the history that bear no thought signature, takes images within a
    functionResponse, and a media resolution for each part."""


_HIGH = {"high": "high", "xhigh": "high", "max": "high"}
_LEVELS_OF_FLASH = MappingProxyType(
    {"none": "minimal", "minimal": "minimal", "low": "low", "medium": "medium", **_HIGH}
)
_LEVELS_OF_PRO = MappingProxyType({"minimal": "low", "low": "low", "medium": "medium", **_HIGH})
_LEVELS_OF_3_PRO = MappingProxyType({"minimal": "low", "low": "low", "medium": "high", **_HIGH})  # it has two levels
_BUDGETS_OF_PRO = MappingProxyType(
    {"minimal": 1_024, "low": 1_024, "medium": 8_192, "high": 24_576, "xhigh": 32_768, "max": 32_768}
)
_BUDGETS_OF_FLASH = MappingProxyType({**_BUDGETS_OF_PRO, "none": 0, "xhigh": 24_576, "max": 24_576})

_FLASH_3 = Generation(efforts=_LEVELS_OF_FLASH)
_PRO_3_1 = Generation(efforts=_LEVELS_OF_PRO)
_PRO_3 = Generation(efforts=_LEVELS_OF_3_PRO)
_FLASH_2_5 = Generation(thinking="budget", efforts=_BUDGETS_OF_FLASH, budgets=(0, 24_576), is_third=False)
_LITE_2_5 = Generation(thinking="budget", efforts=_BUDGETS_OF_FLASH, budgets=(512, 24_576), is_third=False)
_PRO_2_5 = Generation(thinking="budget", efforts=_BUDGETS_OF_PRO, budgets=(128, 32_768), is_third=False)
_NOT_THINKING_2_5 = Generation(thinking="none", is_third=False)
_OLDER = Generation(json_schema=False, thinking="none", is_third=False)

_GEMINI = re.compile(r"gemini-(\d+)(?:[.-](\d)(?!\d))?")
_NOT_THINKING = re.compile(r"image|tts|audio|live|computer-use")
# What an effort would have been, for models that take a level where the caller gave a budget.
_BUDGET_TO_EFFORT = ((1_024, "low"), (8_192, "medium"))


def generation_of(model: str) -> Generation:
    """What a model can be asked, by its name. A Gemini without a version ("gemini-flash-latest") is taken for the
    newest, and what is no Gemini for an old one: it takes the least."""
    name = model.lower()
    is_pro = "pro" in name
    match = _GEMINI.search(name)
    if match is None:
        if "gemini" not in name:
            return _OLDER
        return _PRO_3_1 if is_pro else _FLASH_3
    version = int(match[1]), int(match[2] or 0)
    if version >= (3, 0):
        if not is_pro:
            return _FLASH_3
        return _PRO_3_1 if version >= (3, 1) else _PRO_3
    if version < (2, 5):
        return _OLDER
    if _NOT_THINKING.search(name):
        return _NOT_THINKING_2_5
    if is_pro:
        return _PRO_2_5
    return _LITE_2_5 if "lite" in name else _FLASH_2_5


# --- JSON


def _maybe_int(value: Json, path: str) -> int | None:
    """Protobuf's JSON takes "7" and 7.0 for 7."""
    if isinstance(value, str) and re.fullmatch(r"-?[0-9]{1,19}", value):
        return int(value)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return maybe_int(value, path)


Names: TypeAlias = Mapping[str, str]
"""Both spellings of each field to the one that we write."""

_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


def _names(*camel: str) -> Names:
    return MappingProxyType({spelling: name for name in camel for spelling in (name, _HUMP.sub("_", name).lower())})


def _split(block: Mapping[str, Json], names: Names) -> tuple[Block, Block]:
    """The fields named, in our spelling, and the rest, in the caller's. A null says the same as its absence."""
    known: Block = {}
    rest: Block = {}
    for key, value in block.items():
        if value is None:
            continue
        name = names.get(key)
        if name is None:
            rest[key] = value
        else:
            known[name] = value
    return known, rest


def _extras(*pieces: Mapping[str, Json]) -> Extras:
    merged = {key: value for piece in pieces for key, value in piece.items()}
    return merged or NO_EXTRAS


# --- the cheap view


_ABSENT = msgspec.Raw()


class _Probe(msgspec.Struct):
    contents: msgspec.Raw = _ABSENT
    request: dict[str, msgspec.Raw] | None = msgspec.field(name="generateContentRequest", default=None)
    snake_request: dict[str, msgspec.Raw] | None = msgspec.field(name="generate_content_request", default=None)
    config: dict[str, Json] | None = msgspec.field(name="generationConfig", default=None)
    snake_config: dict[str, Json] | None = msgspec.field(name="generation_config", default=None)


_probe = msgspec.json.Decoder(_Probe)
_LIMIT_NAMES = ("maxOutputTokens", "max_output_tokens")
_CHOICES_NAMES = ("candidateCount", "candidate_count")


def _largest(probe: _Probe, names: tuple[str, str]) -> int | None:
    """A count of generationConfig. Where it is spelled in two ways, the larger one bounds what the provider may do."""
    given = [
        _maybe_int(config.get(name), f"generationConfig.{names[0]}")
        for config in (probe.config, probe.snake_config)
        if config is not None
        for name in names
    ]
    return max((value for value in given if value is not None), default=None)


def _why_no_call(raw: bytes) -> BadRequest:
    """What is wrong with a body that could not be read."""
    try:
        body = read_body(raw)
    except BadRequest as exc:
        return exc
    for name in ("generationConfig", "generation_config", "generateContentRequest", "generate_content_request"):
        if body.get(name) is not None and not isinstance(body[name], dict):
            return wrong(name, "an object", body[name])
    return BadRequest("contents is missing: it holds what to answer", param="contents")


_VERBS: Mapping[str, Operation] = MappingProxyType(
    {"generateContent": "chat", "streamGenerateContent": "chat", "countTokens": "count_tokens"}
)
# Where Google's hosts and SDKs speak it: AI Studio, then Vertex with a project and without one (express mode).
_ROOTS = (
    "/v1beta/models",
    "/v1/models",
    *(
        f"/{version}{project}/publishers/google/models"
        for version in ("v1", "v1beta1")
        for project in ("/projects/{project}/locations/{location}", "")
    ),
)
_LONGEST_MODEL = 256
_UNSAFE_IN_MODEL = re.compile(r"[\x00-\x20\x7f\\?#]")
_ARRAY_TYPE = "application/json"


def address(path: str) -> tuple[str, str]:
    """The model and the verb that a path ends in."""
    name, _, verb = path.rpartition("/")[2].rpartition(":")
    try:
        model = unquote(name, errors="strict")
    except UnicodeDecodeError:
        raise BadRequest("the model in the path is not valid UTF-8", param="model") from None
    if _is_unsafe(model) or len(model) > _LONGEST_MODEL:
        raise BadRequest(f"the path holds no name of a model: {model[:_LONGEST_MODEL]!r}", param="model")
    return model, verb


def _is_unsafe(model: str) -> bool:
    """Whether a name could lead a path elsewhere."""
    return _UNSAFE_IN_MODEL.search(model) is not None or any(step in ("", ".", "..") for step in model.split("/"))


def _query(headers: Headers, path: str) -> Mapping[str, list[str]]:
    return parse_qs((header(headers, ":path") or path).partition("?")[2])


def _wants_array(query: Mapping[str, list[str]]) -> bool:
    """Without alt=sse a stream is a JSON array that grows."""
    return "sse" not in (query.get("alt") or query.get("$alt") or [""])[-1].split(";")


# --- reading a request

_CHAT = _names("contents", "systemInstruction", "tools", "toolConfig", "generationConfig", "serviceTier", "model")
_CONTENT = _names("role", "parts")
_PART = _names(
    "text",
    "thought",
    "thoughtSignature",
    "inlineData",
    "fileData",
    "functionCall",
    "functionResponse",
    "mediaResolution",
)
_BLOB = _names("mimeType", "data", "displayName")
_FILE = _names("mimeType", "fileUri", "displayName")
_CALL = _names("id", "name", "args")
_RESULT = _names("id", "name", "response", "parts")
_TOOL = _names("functionDeclarations")
_DECLARATION = _names("name", "description", "parameters", "parametersJsonSchema")
_TOOL_CONFIG = _names("functionCallingConfig")
_CALLING = _names("mode", "allowedFunctionNames")
_CONFIG = _names(
    "candidateCount",
    "frequencyPenalty",
    "logprobs",
    "maxOutputTokens",
    "presencePenalty",
    "responseJsonSchema",
    "responseLogprobs",
    "responseMimeType",
    "responseSchema",
    "seed",
    "stopSequences",
    "temperature",
    "thinkingConfig",
    "topK",
    "topP",
)
_THINKING = _names("thinkingBudget", "thinkingLevel", "includeThoughts")

_MADE_ID = re.compile(r"call_\d+_[0-9a-f]{12}")
# URIs at which only Google finds something: its Files API and its storage.
_GOOGLES_FILE = re.compile(r"gs://|files/|https://generativelanguage\.googleapis\.com/")
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
_URL_SAFE = str.maketrans("-_", "+/")
# A level both ways; Gemini's others have no word in OpenAI's format and stay a field of their own.
_DETAILS: Mapping[str, str] = MappingProxyType({"low": "MEDIA_RESOLUTION_LOW", "high": "MEDIA_RESOLUTION_HIGH"})
_MODES: Mapping[str, Literal["auto", "required", "none"]] = MappingProxyType(
    {"AUTO": "auto", "ANY": "required", "NONE": "none"}
)
_TIERS: Mapping[str, str] = MappingProxyType({"default": "standard", "flex": "flex", "priority": "priority"})
_JSON_TYPE = "application/json"


def _made_id(index: int, *seeds: str) -> str:
    """An id for a call to which Gemini gave none: the same each time it is read, and known again as ours."""
    digest = hashlib.sha256("\0".join(seeds).encode("utf-8", "surrogatepass")).hexdigest()
    return f"call_{index}_{digest[:12]}"


def _media_type_of(url: str) -> str | None:
    name = url.partition("?")[0].partition("#")[0].rpartition("/")[2]
    return _EXTENSIONS.get(name.rpartition(".")[2].lower()) if "." in name else None


def _listed(value: Json, path: str) -> list[Json]:
    """A repeated field. Google takes one value in the place of a list of one."""
    return [value] if isinstance(value, dict) else as_list(value, path)


class _Reading:
    """One request on its way into our nouns. Calls without an id get one, and their results find them by name."""

    def __init__(self) -> None:
        self._waiting: list[tuple[str, str]] = []
        """Id and name of each call that has no result yet."""
        self._calls = 0

    def message(self, value: Json, path: str) -> Message:
        content, rest = _split(as_object(value, path), _CONTENT)
        role = content.get("role", "user")
        parts = tuple(
            self.part(as_object(part, f"{path}.parts[{i}]"), f"{path}.parts[{i}]")
            for i, part in enumerate(_listed(content.get("parts", []), f"{path}.parts"))
        )
        match role:
            case "model":
                return Message("assistant", parts, extras=_extras(rest))
            case "user" | "function":
                only_results = bool(parts) and all(isinstance(part, ToolResult) for part in parts)
                return Message("tool" if only_results else "user", parts, extras=_extras(rest))
            case _:
                raise BadRequest(f"{path}.role is {role!r}; use user or model", param=f"{path}.role")

    def part(self, value: Block, path: str) -> Part:
        known, rest = _split(value, _PART)
        signature = maybe_text(known.pop("thoughtSignature", None), f"{path}.thoughtSignature")
        thought = known.pop("thought", None) is True
        resolution = known.pop("mediaResolution", None)
        if resolution is not None:
            rest["mediaResolution"] = resolution
        if not known and not rest and signature is not None:  # a signature alone: of a thought that is not shown
            return Text("", extras=_signed({"thought": True} if thought else {}, signature))
        match known:
            case {"text": text, **others} if not others:
                if thought:
                    return _thinking(as_text(text, f"{path}.text"), signature, rest)
                return Text(as_text(text, f"{path}.text"), extras=_signed(rest, signature))
            case {"functionCall": call, **others} if not others and not thought:
                return self._call(as_object(call, f"{path}.functionCall"), signature, rest, f"{path}.functionCall")
            case {"functionResponse": result, **others} if not others and not thought:
                return self._result(as_object(result, f"{path}.functionResponse"), rest, f"{path}.functionResponse")
            case {"inlineData": blob, **others} if not others and not thought:
                found = _inline(as_object(blob, f"{path}.inlineData"), _signed(rest, signature), f"{path}.inlineData")
            case {"fileData": file, **others} if not others and not thought:
                found = _file(as_object(file, f"{path}.fileData"), _signed(rest, signature), f"{path}.fileData")
            case _:
                found = None
        return found or _opaque(value)

    def _call(self, call: Block, signature: str | None, rest: Block, path: str) -> Part:
        known, others = _split(call, _CALL)
        name = as_text(known.get("name"), f"{path}.name")
        arguments = "" if "args" not in known else encode(as_object(known["args"], f"{path}.args")).decode()
        id = maybe_text(known.get("id"), f"{path}.id") or _made_id(self._calls, name, arguments)
        id = original_id(id)
        self._calls += 1
        self._waiting.append((id, name))
        extras = _extras(rest, {"functionCall": others} if others else {})
        return ToolCall(id, name, arguments, signature=signature, extras=extras)

    def _result(self, result: Block, rest: Block, path: str) -> Part:
        known, others = _split(result, _RESULT)
        name = as_text(known.get("name"), f"{path}.name")
        id = maybe_text(known.get("id"), f"{path}.id")
        id = None if id is None else original_id(id)
        call_id, called = self._answered(id, name)
        text, is_error = _read_response(as_object(known.get("response", {}), f"{path}.response"))
        parts: list[Part] = [Text(text)]
        for i, part in enumerate(_listed(known.get("parts", []), f"{path}.parts")):
            parts.append(self.part(as_object(part, f"{path}.parts[{i}]"), f"{path}.parts[{i}]"))
        if called != name:
            others["name"] = name
        extras = _extras(rest, {"functionResponse": others} if others else {})
        return ToolResult(call_id, tuple(parts), is_error, extras=extras)

    def _answered(self, id: str | None, name: str) -> tuple[str, str | None]:
        """Whose result this is: the call of that id, else the first of that name that has none."""
        for number, (call_id, called) in enumerate(self._waiting):
            if call_id == id or (id is None and called == name):
                del self._waiting[number]
                return call_id, called
        return id or _made_id(self._calls, name), None


def _signed(rest: Block, signature: str | None) -> Extras:
    return _extras(rest, {"thoughtSignature": signature} if signature is not None else {})


# How the mark of carried.py looks in base64, which a signature is in this format: 12 of its characters are 16 here.
_MARKED = base64.b64encode(MARK.encode()[:12]).decode()


def _thinking(text: str, signature: str | None, rest: Block) -> Thinking:
    """Google's own signature is a field of its own; one of Claude's comes in our mark."""
    if signature is not None and signature.startswith(_MARKED):
        return Thinking(text, unseal(_plain(signature)), extras=_extras(rest))
    return Thinking(text, extras=_signed(rest, signature))


class _Signed(msgspec.Struct):
    camel: str | None = msgspec.field(name="thoughtSignature", default=None)
    snake: str | None = msgspec.field(name="thought_signature", default=None)


class _Said(msgspec.Struct):
    parts: list[_Signed] = []


class _Contents(msgspec.Struct):
    contents: list[_Said] = []


_contents = msgspec.json.Decoder(_Contents)


def _without_carried(raw: bytes) -> tuple[dict[str, json_splice.Change], tuple[str, ...]]:
    """The contents without the thinking that Claude signed, which Google refuses (`Corrupted thought signature`), and
    the names of what was taken out. A body that is not of this shape stays: its host says what is wrong with it."""
    try:
        contents = _contents.decode(raw).contents
    except UNREADABLE:
        return {}, ()
    edits: dict[Place, json_splice.Change] = {
        (i, j): None
        for i, said in enumerate(contents)
        for j, part in enumerate(said.parts)
        if (part.camel or part.snake or "").startswith(_MARKED)
    }
    if not edits:
        return {}, ()
    changed = edited(bytes(json_splice.members_of(raw)["contents"]), edits, "parts")
    return {"contents": changed}, tuple(sorted(f"contents[{i}].parts[{j}]" for i, j in edits))


def _plain(signature: str) -> str:
    try:
        return base64.b64decode(signature.translate(_URL_SAFE)).decode()
    except ValueError:  # binascii.Error and UnicodeDecodeError are ValueErrors
        return UNSIGNED


def _sealed(signature: str | None) -> Block:
    """A signature of Claude's on its way through Google's format."""
    if not signature:
        return {}
    return {"thoughtSignature": base64.b64encode(seal(signature).encode("utf-8", "surrogatepass")).decode()}


def _opaque(value: Block) -> Opaque:
    """A part is known by its only field that says what it is."""
    kinds = [key for key in value if key not in _NOT_A_KIND]
    return Opaque(NAME, kinds[0] if kinds else "", value)


_NOT_A_KIND = frozenset(_names("thought", "thoughtSignature", "mediaResolution", "videoMetadata", "partMetadata"))


def _inline(blob: Block, extras: Extras, path: str) -> Part | None:
    known, rest = _split(blob, _BLOB)
    media_type = as_text(known.get("mimeType"), f"{path}.mimeType")
    data = as_text(known.get("data"), f"{path}.data")
    # Protobuf takes either alphabet, and either padding; others take one.
    data = data.translate(_URL_SAFE) if "-" in data or "_" in data else data
    data += "=" * (-len(data) % 4)
    return _media(Inline(media_type, data), media_type, known, _extras(extras, rest))


def _file(file: Block, extras: Extras, path: str) -> Part | None:
    known, rest = _split(file, _FILE)
    uri = as_text(known.get("fileUri"), f"{path}.fileUri")
    media_type = maybe_text(known.get("mimeType"), f"{path}.mimeType")
    if _GOOGLES_FILE.match(uri):
        told = {"mimeType": media_type} if media_type is not None else {}
        return _media(FileRef(uri), media_type, known, _extras(extras, told, rest))
    return _media(Url(uri, media_type), media_type or _media_type_of(uri), known, _extras(extras, rest))


def _media(source: Source, media_type: str | None, known: Block, extras: Extras) -> Part | None:
    """None for what our nouns have no word for, as a video."""
    name = known.get("displayName")
    kind = (media_type or "").partition("/")[0]
    if media_type == "application/pdf" or kind == "text":
        return Document(source, text_of(name), extras=extras)
    if name is not None:
        extras = _extras(extras, {"displayName": name})
    if kind == "audio":
        return Audio(source, extras=extras)
    if kind != "image":
        return None
    detail = next((d for d, level in _DETAILS.items() if extras.get("mediaResolution") == {"level": level}), None)
    if detail is not None:
        extras = _extras({key: value for key, value in extras.items() if key != "mediaResolution"})
    return Image(source, detail, extras=extras)


def _read_response(response: Block) -> tuple[str, bool]:
    """What a function gave back, as text, and whether that is an error. Google's reference: the output stands under
    "output" and an error under "error"; without them the whole object is the output."""
    match response:
        case {"output": str(text), **others} if not others and _as_object(text) is None:
            return text, False
        case {"error": str(text), **others} if not others and _as_object(text) is None:
            return text, True
        case {"error": _, **others} if not others:
            return encode(response).decode(), True
        case _:
            return encode(response).decode(), False


def _as_object(text: str) -> Block | None:
    """The JSON object that a text is, if it is one."""
    if not text.lstrip().startswith("{"):
        return None
    try:
        value = decode(text.encode())
    except UNREADABLE:
        return None
    return value if isinstance(value, dict) else None


def _read_tools(value: Json) -> Iterator[Tool]:
    for i, tool in enumerate(_listed(value, "tools")):
        known, rest = _split(as_object(tool, f"tools[{i}]"), _TOOL)
        path = f"tools[{i}].functionDeclarations"
        for j, declaration in enumerate(_listed(known.get("functionDeclarations", []), path)):
            yield _read_declaration(as_object(declaration, f"{path}[{j}]"), f"{path}[{j}]")
        for kind, settings in rest.items():
            yield Opaque(NAME, kind, {kind: settings})


def _read_declaration(value: Block, path: str) -> FunctionTool:
    known, rest = _split(value, _DECLARATION)
    schema = known.get("parametersJsonSchema")
    return FunctionTool(
        as_text(known.get("name"), f"{path}.name"),
        maybe_text(known.get("description"), f"{path}.description"),
        schema if schema is not None else to_json_schema(known.get("parameters")),
        extras=_extras(rest),
    )


def _read_tool_config(value: Json) -> tuple[ToolChoice | None, Block]:
    known, rest = _split(as_object(value, "toolConfig"), _TOOL_CONFIG)
    extras = {f"toolConfig.{key}": each for key, each in rest.items()}
    if "functionCallingConfig" not in known:
        return None, extras
    path = "toolConfig.functionCallingConfig"
    calling, others = _split(as_object(known["functionCallingConfig"], path), _CALLING)
    extras.update({f"{path}.{key}": each for key, each in others.items()})
    told = calling.get("mode")
    mode = _MODES.get(told.upper()) if isinstance(told, str) else None
    allowed = calling.get("allowedFunctionNames")
    match mode, allowed:
        case "required", [str(only)]:
            return ToolChoice("tool", only), extras
        case None, _:  # a mode that only Gemini has, such as VALIDATED
            extras.update({f"{path}.{key}": each for key, each in calling.items()})
            return None, extras
        case _, _:
            if allowed is not None:
                extras[f"{path}.allowedFunctionNames"] = allowed
            return ToolChoice(mode), extras


def _read_format(config: Block) -> tuple[ResponseFormat | None, Block]:
    media_type = config.get("responseMimeType")
    schema = config.get("responseJsonSchema", to_json_schema(config.get("responseSchema")))
    match media_type:
        case None if schema is None:
            return None, {}
        case "text/plain" if schema is None:
            return ResponseFormat("text"), {}
        case "application/json" if schema is None:
            return ResponseFormat("json_object"), {}
        case "application/json":
            return ResponseFormat("json_schema", schema), {}
        case _:
            told = ("responseMimeType", "responseSchema", "responseJsonSchema")
            return None, {f"generationConfig.{key}": config[key] for key in told if key in config}


def _read_thinking(value: Json) -> Reasoning | None:
    path = "generationConfig.thinkingConfig"
    known, rest = _split(as_object(value, path), _THINKING)
    if "includeThoughts" in known:
        rest["includeThoughts"] = known["includeThoughts"]
    level = maybe_text(known.get("thinkingLevel"), f"{path}.thinkingLevel")
    effort = level.lower() if level is not None and level != "THINKING_LEVEL_UNSPECIFIED" else None
    extras = _extras(rest)
    match _maybe_int(known.get("thinkingBudget"), f"{path}.thinkingBudget"):
        case None:
            return Reasoning(None, effort, None, extras) if effort is not None or extras else None
        case 0:
            return Reasoning("disabled", effort, None, extras)
        case -1:
            return Reasoning("adaptive", effort, None, extras)
        case budget:
            return Reasoning("enabled", effort, budget, extras)


def _read_system(value: Json, reading: _Reading) -> Message:
    """A Content; its role says nothing. A bare string is what the SDKs take, and some callers send."""
    if isinstance(value, str):
        return Message("system", (Text(value),))
    content, rest = _split(as_object(value, "systemInstruction"), _CONTENT)
    if "parts" not in content and rest:  # a single Part
        return Message("system", (reading.part(rest, "systemInstruction"),))
    message = reading.message({"parts": content.get("parts", [])}, "systemInstruction")
    return Message("system", message.parts, extras=_extras(rest))


def _read_chat(call: Call) -> Chat:
    try:
        whole = as_object(decode(call.raw), "the body")
    except UNREADABLE:
        raise _why_no_call(call.raw) from None
    body, extras = _split(whole, _CHAT)
    config, config_rest = _split(as_object(body.get("generationConfig", {}), "generationConfig"), _CONFIG)
    extras.update({f"generationConfig.{key}": value for key, value in config_rest.items()})
    response_format, format_rest = _read_format(config)
    choice, choice_rest = _read_tool_config(body["toolConfig"]) if "toolConfig" in body else (None, {})
    tier = body.get("serviceTier")
    service_tier = next((ours for ours, theirs in _TIERS.items() if theirs == tier), None)
    if service_tier is None and tier is not None:
        extras["serviceTier"] = tier
    reading = _Reading()
    messages: list[Message] = []
    if "systemInstruction" in body:
        messages.append(_read_system(body["systemInstruction"], reading))
    contents = _listed(body.get("contents"), "contents")
    messages += [reading.message(value, f"contents[{i}]") for i, value in enumerate(contents)]
    stops = as_list(config.get("stopSequences", []), "generationConfig.stopSequences")
    numbers = {name: maybe_number(config.get(name), f"generationConfig.{name}") for name in _NUMBERS}
    counts = {name: _maybe_int(config.get(name), f"generationConfig.{name}") for name in _COUNTS}
    return Chat(
        dialect=NAME,
        model=call.model,
        messages=tuple(messages),
        stream=call.stream,
        include_usage=call.stream,
        tools=tuple(_read_tools(body.get("tools", []))),
        tool_choice=choice,
        max_output_tokens=counts["maxOutputTokens"],
        temperature=numbers["temperature"],
        top_p=numbers["topP"],
        top_k=counts["topK"],
        stop=tuple(as_text(stop, f"generationConfig.stopSequences[{i}]") for i, stop in enumerate(stops)),
        n=counts["candidateCount"],
        seed=counts["seed"],
        presence_penalty=numbers["presencePenalty"],
        frequency_penalty=numbers["frequencyPenalty"],
        logprobs=maybe_bool(config.get("responseLogprobs"), "generationConfig.responseLogprobs"),
        top_logprobs=counts["logprobs"],
        response_format=response_format,
        reasoning=_read_thinking(config["thinkingConfig"]) if "thinkingConfig" in config else None,
        service_tier=service_tier,
        extras=(rest := _extras(extras, format_rest, choice_rest)),
        needed=tuple(path for path, value in rest.items() if _HUMP.sub("_", path).lower() in _NEEDED and _asks(value)),
    )


# What no other format can honour: the beginning of the conversation that only Google has, answers that are no text, a
# format of its own, a guard of the caller's.
_NEEDED = frozenset(
    {
        "cached_content",
        "generation_config.response_mime_type",
        "generation_config.response_modalities",
        "model_armor_config",
    }
)


def _asks(value: Json) -> bool:
    """Whether a field asks for anything but what is usual."""
    return value not in (["TEXT"], [])


_NUMBERS = ("temperature", "topP", "presencePenalty", "frequencyPenalty")
_COUNTS = ("maxOutputTokens", "topK", "candidateCount", "seed", "logprobs")

# --- writing a request

# Google documents it for calls that another model made: base64 of it is no signature, and no host checks it.
_FOREIGN_CALL = "skip_thought_signature_validator"
_IMAGES = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp", "image/heic", "image/heif"})
_RESOLUTIONS: Mapping[str, str] = MappingProxyType({**_DETAILS, "medium": "MEDIA_RESOLUTION_MEDIUM"})
_WRITE_MODES: Mapping[str, str] = MappingProxyType({"auto": "AUTO", "required": "ANY", "none": "NONE", "tool": "ANY"})

# How the callers of other dialects spell the fields of a Chat, where that is not our own noun.
_SPELLINGS: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "openai_chat": {"reasoning": "reasoning_effort", "strict": "function.strict"},
        "openai_responses": {"messages": "input", "reasoning": "reasoning.effort", "response_format": "text.format"},
        "anthropic_messages": {
            "parallel_tool_calls": "tool_choice.disable_parallel_tool_use",
            "reasoning": "thinking",
            "response_format": "output_config.format",
            "stop": "stop_sequences",
            "user": "metadata.user_id",
        },
    }
)
_REASONING_TOLD = frozenset({"display", "summary", "generate_summary"})
"""Whether to show the thoughts: what includeThoughts says."""


class _Request(DropList):
    """One chat on its way into this format. `dropped` grows as it is written.

    A chat of our own dialect is written as it was read; one of another crosses over.
    """

    def __init__(self, chat: Chat, model: str) -> None:
        super().__init__()
        self._chat = chat
        self._own = chat.dialect == NAME
        self._generation = generation_of(model)
        self._spellings = _SPELLINGS.get(chat.dialect, {})
        self._names: dict[str, str] = {}
        """The function of each call so far, by the call's id."""

    def body(self) -> Block:
        chat = self._chat
        if not self._own:
            self._refuse()
        body = self._conversation()
        if tools := self._tools():
            body["tools"] = tools
        if chat.tool_choice is not None and (tools or self._own):
            calling: Block = {"mode": _WRITE_MODES[chat.tool_choice.mode]}
            if chat.tool_choice.name is not None:
                calling["allowedFunctionNames"] = [chat.tool_choice.name]
            body["toolConfig"] = {"functionCallingConfig": calling}
        self._drop_if("tool_choice", chat.tool_choice is not None and "toolConfig" not in body)
        if config := self._config():
            body["generationConfig"] = config
        if (tier := _TIERS.get(chat.service_tier or "")) is not None:
            body["serviceTier"] = tier
        self._drop_if("service_tier", chat.service_tier not in (None, "auto", *_TIERS))
        self._drop_if("parallel_tool_calls", chat.parallel_tool_calls is False)
        self._drop_if("user", chat.user is not None)
        self._drop_if("metadata", chat.metadata)
        if self._own:
            for path, value in chat.extras.items():
                _put(body, path, value)
        else:
            self._drop_extras(chat.extras, "")
        return body

    def _refuse(self) -> None:
        for name in self._chat.needed:
            raise Unsupported(name, TITLE)
        for name, value in self._chat.extras.items():
            if name in _NEEDED_EXTRAS and value is not None and value != ["text"]:
                raise Unsupported(name, TITLE)
        if len(self._chat.stop) > _MOST_STOPS:
            stop = self._spelled("stop")
            raise BadRequest(f"{stop} holds {len(self._chat.stop)} strings; {TITLE} takes {_MOST_STOPS}", param=stop)

    def _spelled(self, name: str) -> str:
        return self._spellings.get(name, name)

    def _drop_if(self, path: str, condition: object) -> None:
        if condition:
            self.dropped.add(self._spelled(path))

    # the conversation

    def _conversation(self) -> Block:
        body: Block = {}
        system: list[Block] = []
        turns: list[tuple[str, list[Block]]] = []
        for path, message in self._located():
            self._drop_if(f"{path}.name", message.name)
            if not self._own:
                self._drop_extras(message.extras, path)
            parts = self._parts(message, path)
            match message.role:
                case "system" | "developer":
                    system += parts
                case "assistant":
                    self._say(turns, "model", parts)
                case "user" | "tool":
                    self._say(turns, "user", parts)
                case _:
                    assert_never(message.role)
        if not self._own:
            if not turns:
                raise BadRequest(
                    f"there is no turn of the user, and {TITLE} needs one", param=self._spelled("messages")
                )
            for role, parts in turns:
                self._settle(role, parts)
        body["contents"] = [{"role": role, "parts": parts} for role, parts in turns]
        if system:
            body["systemInstruction"] = {"parts": system}
        return body

    def _located(self) -> Iterator[tuple[str, Message]]:
        """Each message with its path in the caller's spelling. Anthropic's callers give the system prompt apart."""
        name, apart = self._spelled("messages"), 0
        for number, message in enumerate(self._chat.messages):
            if self._chat.dialect == "anthropic_messages" and message.role == "system" and number == apart:
                apart += 1
                yield "system", message
            else:
                yield f"{name}[{number - apart}]", message

    def _say(self, turns: list[tuple[str, list[Block]]], role: str, parts: list[Block]) -> None:
        if turns and turns[-1][0] == role and not self._own:
            turns[-1][1].extend(parts)
        elif parts or self._own:
            turns.append((role, parts))

    def _settle(self, role: str, parts: list[Block]) -> None:
        """A turn as Google wants it: results first, and a signature on the first of a turn's calls."""
        if role == "user":
            parts.sort(key=lambda part: "functionResponse" not in part)
        elif self._generation.is_third:
            first = next((part for part in parts if "functionCall" in part), None)
            if first is not None:
                first.setdefault("thoughtSignature", _FOREIGN_CALL)

    def _parts(self, message: Message, path: str) -> list[Block]:
        """OpenAI's callers count content and tool calls each from 0, Anthropic's all together."""
        blocks: list[Block] = []
        content = calls = 0
        together = self._chat.dialect != "openai_chat"
        for part in message.parts:
            if isinstance(part, ToolCall) and not together:
                where = f"{path}.tool_calls[{calls}]"
                calls += 1
            elif isinstance(part, Thinking | RedactedThinking) and not together:
                where = f"{path}.reasoning_content"
            elif isinstance(part, ToolResult) and not together:
                where = path
            else:
                where = f"{path}.content[{content}]"
                content += 1
            blocks += self._part(part, where, in_system=message.role in ("system", "developer"))
        return blocks

    def _part(self, part: Part, path: str, *, in_system: bool = False) -> list[Block]:
        """None for what is left out, and several for a result whose images have no place in it."""
        if isinstance(part, Opaque):
            if self._own:
                return [dict(as_object(part.value, path))]
            raise Unsupported(path, TITLE, f"it knows no part of type {part.kind!r}")
        if in_system and not self._own and not isinstance(part, Text | Refusal):
            raise Unsupported(path, TITLE, "its system instruction is text")
        cache = getattr(part, "cache", None)
        self._drop_if(f"{path}.cache_control", cache)
        extras = dict(part.extras)
        if not self._own:
            self._drop_extras(extras, path)
            extras = {}
        block: Block
        match part:
            case Text():
                if not part.text and not self._own:
                    return []
                block = {"text": part.text}
            case Image():
                written = self._image(part, extras, path)
                if written is None:
                    return []
                block = written
            case Document():
                written = self._source(part.source, extras, "application/pdf", path)
                if self._own and part.name is not None:
                    as_object(next(iter(written.values())), path)["displayName"] = part.name
                self._drop_if(f"{path}.name", part.name is not None and not self._own)
                block = written
            case Audio():
                block = self._source(part.source, extras, "audio/wav", path)
            case Thinking():
                if not self._own:
                    self.dropped.add(path)
                    return []
                block = {"text": part.text, "thought": True}
            case RedactedThinking() | Refusal():
                self.dropped.add(path)
                return []
            case ToolCall():
                block = self._call(part, extras, path)
            case ToolResult():
                return self._result(part, extras, path)
            case _:
                assert_never(part)
        return [{**block, **extras}]

    def _image(self, part: Image, extras: Block, path: str) -> Block | None:
        source = part.source
        if isinstance(source, Url) and not source.url:
            self.dropped.add(path)
            return None
        if isinstance(source, Inline) and not self._own:
            media_type = source.media_type.lower().replace("image/jpg", "image/jpeg")
            if media_type not in (*_IMAGES, "application/pdf"):
                raise BadRequest(
                    f"{path} is {source.media_type!r}; {TITLE} takes {', '.join(sorted(_IMAGES))} and PDF", param=path
                )
            source = Inline(media_type, source.data)
        block = self._source(source, extras, "image/jpeg", path)
        if part.detail in (None, "auto"):
            return block
        resolution = _RESOLUTIONS.get(part.detail or "")
        if resolution is None:
            raise BadRequest(
                f"{path}.image_url.detail is {part.detail!r}; use auto, {', '.join(_RESOLUTIONS)}",
                param=f"{path}.image_url.detail",
            )
        if self._own or self._generation.is_third:
            block["mediaResolution"] = {"level": resolution}
        else:
            self.dropped.add(f"{path}.image_url.detail")
        return block

    def _source(self, source: Source, extras: Block, usual: str, path: str) -> Block:
        """inlineData or fileData. `extras` loses what belongs in there."""
        told: Block = {}
        if "displayName" in extras:
            told["displayName"] = extras.pop("displayName")
        match source:
            case Inline():
                return {"inlineData": {"mimeType": source.media_type, "data": source.data, **told}}
            case Url():
                media_type = source.media_type
                if media_type is None and not self._own:
                    media_type = _media_type_of(source.url) or usual
                if media_type is not None:
                    told["mimeType"] = media_type
                return {"fileData": {"fileUri": source.url, **told}}
            case FileRef():
                if not _GOOGLES_FILE.match(source.id):
                    raise Unsupported(path, TITLE, "a file uploaded to another provider is unknown to it")
                told["mimeType"] = extras.pop("mimeType", usual)
                return {"fileData": {"fileUri": source.id, **told}}
            case _:
                assert_never(source)

    def _call(self, part: ToolCall, extras: Block, path: str) -> Block:
        """Gemini's callers know no id that Gemini did not give, so neither do its hosts."""
        call: Block = {"name": part.name}
        if part.id and not _MADE_ID.fullmatch(part.id):
            call["id"] = part.id
        self._names[part.id] = part.name
        if part.arguments.strip() not in ("", "null"):  # Groq's models write null for no arguments
            arguments = _as_object(part.arguments)
            if arguments is None:
                raise BadRequest(f"{path} has arguments that are no JSON object", param=path)
            call["args"] = arguments
        elif not self._own:
            call["args"] = {}
        if "functionCall" in extras:
            call.update(as_object(extras.pop("functionCall"), path))
        block: Block = {"functionCall": call}
        if part.signature is not None:
            block["thoughtSignature"] = part.signature
        return block

    def _result(self, part: ToolResult, extras: Block, path: str) -> list[Block]:
        others = as_object(extras.pop("functionResponse", {}), path)
        name = others.get("name", self._names.get(part.call_id))
        if name is None:
            raise BadRequest(f"{path} is the result of a call {part.call_id!r} that is not in the history", param=path)
        texts = [each.text for each in part.parts if isinstance(each, Text)]
        media = [
            block
            for number, each in enumerate(part.parts)
            if not isinstance(each, Text)
            for block in self._part(each, f"{path}.content[{number}]")
        ]
        result: Block = {"name": name, "response": _write_response("\n".join(texts), part.is_error)}
        if part.call_id and not _MADE_ID.fullmatch(part.call_id):
            result["id"] = part.call_id
        result.update(others)
        block: Block = {"functionResponse": result, **extras}
        if not media or self._own or self._generation.is_third:
            if media:
                result["parts"] = media
            return [block]
        return [block, *media]  # beside it, where the model looks at it all the same

    # tools

    def _tools(self) -> list[Block]:
        """Functions share one tool, which stands where the first of them stood."""
        declarations: list[Json] = []
        tools: list[Block] = []
        for number, tool in enumerate(self._chat.tools):
            path = f"tools[{number}]"
            match tool:
                case FunctionTool():
                    if not declarations:
                        tools.append({"functionDeclarations": declarations})
                    declarations.append(self._declaration(tool, path))
                case Opaque() if self._own:
                    tools.append(as_object(tool.value, path))
                case Opaque():
                    raise Unsupported(path, TITLE, f"it knows no tool of type {tool.kind!r}")
                case _:
                    assert_never(tool)
        return tools

    def _declaration(self, tool: FunctionTool, path: str) -> Block:
        declaration: Block = {"name": tool.name}
        if tool.description is not None:
            declaration["description"] = tool.description
        if self._own:
            if tool.parameters is not None:
                declaration["parametersJsonSchema"] = tool.parameters
            return {**declaration, **tool.extras}
        self._drop_if(f"{path}.{self._spelled('strict')}", tool.strict)
        self._drop_if(f"{path}.cache_control", tool.cache)
        self._drop_extras(tool.extras, path)
        if tool.parameters is None:
            return declaration
        if self._generation.json_schema:
            declaration["parametersJsonSchema"] = as_object(tool.parameters, f"{path}.parameters")
            return declaration
        narrowed = self._narrowed(tool.parameters, f"{path}.parameters")
        if narrowed.get("properties"):  # these models refuse an object without properties
            declaration["parameters"] = narrowed
        return declaration

    def _narrowed(self, schema: Json, path: str) -> Block:
        try:
            narrowed, dropped = to_openapi(schema)
        except SchemaError as error:
            where = f"{path}.{error.path}" if error.path else path
            raise BadRequest(f"{where}: {error.why}", param=where) from error
        self.dropped.update(f"{path}.{each}" for each in dropped)
        return narrowed

    # generationConfig

    def _config(self) -> Block:
        chat = self._chat
        told: Block = {
            "maxOutputTokens": chat.max_output_tokens,
            "temperature": chat.temperature,
            "topP": chat.top_p,
            "topK": chat.top_k,
            "stopSequences": list(chat.stop) or None,
            "candidateCount": chat.n,
            "seed": chat.seed,
            "presencePenalty": chat.presence_penalty,
            "frequencyPenalty": chat.frequency_penalty,
            "responseLogprobs": chat.logprobs,
            "logprobs": chat.top_logprobs,
        }
        config = {name: value for name, value in told.items() if value is not None}
        if chat.response_format is not None:
            config.update(self._format(chat.response_format))
        if chat.reasoning is not None:
            thinking = self._own_thinking(chat.reasoning) if self._own else self._thinking(chat.reasoning)
            if thinking:
                config["thinkingConfig"] = thinking
        return config

    def _format(self, wanted: ResponseFormat) -> Block:
        match wanted.kind:
            case "text":
                return {"responseMimeType": "text/plain"} if self._own else {}
            case "json_object":
                return {"responseMimeType": _JSON_TYPE}
            case "json_schema":
                pass
            case _:
                assert_never(wanted.kind)
        if self._own:
            return {"responseMimeType": _JSON_TYPE, "responseJsonSchema": wanted.schema}
        path = self._spelled("response_format")
        self._drop_if(f"{path}.strict", wanted.strict is False)
        told = {"title": wanted.name, "description": wanted.description}
        schema = {
            **{key: value for key, value in told.items() if value is not None},
            **as_object({} if wanted.schema is None else wanted.schema, f"{path}.schema"),
        }
        if self._generation.json_schema:
            return {"responseMimeType": _JSON_TYPE, "responseJsonSchema": schema}
        return {"responseMimeType": _JSON_TYPE, "responseSchema": self._narrowed(schema, f"{path}.schema")}

    @staticmethod
    def _own_thinking(reasoning: Reasoning) -> Block:
        budget = {"disabled": 0, "adaptive": -1}.get(reasoning.mode or "", reasoning.budget_tokens)
        thinking: Block = {} if budget is None else {"thinkingBudget": budget}
        if reasoning.effort is not None:
            thinking["thinkingLevel"] = reasoning.effort.upper()
        return {**thinking, **reasoning.extras}

    def _thinking(self, reasoning: Reasoning) -> Block:
        path, generation = self._spelled("reasoning"), self._generation
        hidden = reasoning.extras.get("display") == "omitted"
        self._drop_extras({k: v for k, v in reasoning.extras.items() if k not in _REASONING_TOLD}, path)
        if generation.thinking == "none":
            self._drop_if("reasoning", reasoning.effort != "none" and reasoning.mode != "disabled")
            return {}
        effort, budget = reasoning.effort or None, reasoning.budget_tokens
        if effort == "default":  # Groq's word for not saying
            effort = None
        if reasoning.mode == "disabled":
            # Less than that is not to be had from a model that always thinks.
            effort, budget = ("none" if "none" in generation.efforts else "minimal"), None
            self._drop_if("reasoning", "none" not in generation.efforts)
        if generation.thinking == "budget" and budget is not None:
            least, most = generation.budgets
            return _thoughts({"thinkingBudget": min(max(budget, least), most)}, shown=not hidden)
        if effort is None and budget is not None:
            effort = next((name for most, name in _BUDGET_TO_EFFORT if budget <= most), "high")
        if effort is None:
            return _thoughts({"thinkingBudget": -1} if generation.thinking == "budget" else {}, shown=not hidden)
        level = generation.efforts.get(effort)
        if level is None:
            raise BadRequest(f"{path} is {effort!r}; this model takes {', '.join(generation.efforts)}", param=path)
        shown = effort != "none" and not hidden
        if isinstance(level, int):
            return _thoughts({"thinkingBudget": level}, shown=shown)
        return _thoughts({"thinkingLevel": level.upper()}, shown=shown)


def _thoughts(thinking: Block, *, shown: bool) -> Block:
    return {**thinking, "includeThoughts": True} if shown else thinking


def _write_response(text: str, is_error: bool) -> Block:
    """What was read by `_read_response`, and what others give back: an object as it is, text under its key."""
    value = _as_object(text)
    if value is None:
        return {"error" if is_error else "output": text}
    return value if not is_error or "error" in value else {"error": value}


def _put(body: Block, path: str, value: Json) -> None:
    """A field that was read from within another goes back there."""
    *parents, name = path.split(".")
    for parent in parents:
        body = as_object(body.setdefault(parent, {}), parent)
    body[name] = value


# --- replies

# Vertex's numbers for its enum; its hosts send them where a caller asks for enum-encoding=int.
_FINISH_NUMBERS = (
    "FINISH_REASON_UNSPECIFIED",
    "STOP",
    "MAX_TOKENS",
    "SAFETY",
    "RECITATION",
    "OTHER",
    "BLOCKLIST",
    "PROHIBITED_CONTENT",
    "SPII",
    "MALFORMED_FUNCTION_CALL",
    "MODEL_ARMOR",
    "IMAGE_SAFETY",
    "IMAGE_PROHIBITED_CONTENT",
    "IMAGE_RECITATION",
    "IMAGE_OTHER",
    "UNEXPECTED_TOOL_CALL",
    "NO_IMAGE",
)
_FINISHES: Mapping[str, FinishReason] = MappingProxyType(
    {
        "BLOCKLIST": "content_filter",
        "IMAGE_OTHER": "content_filter",
        "IMAGE_PROHIBITED_CONTENT": "content_filter",
        "IMAGE_RECITATION": "content_filter",
        "IMAGE_SAFETY": "content_filter",
        "LANGUAGE": "content_filter",
        "MALFORMED_FUNCTION_CALL": "malformed",
        "MALFORMED_RESPONSE": "malformed",
        "MAX_TOKENS": "length",
        "MISSING_THOUGHT_SIGNATURE": "malformed",
        "MODEL_ARMOR": "content_filter",
        "OTHER": "content_filter",
        "PROHIBITED_CONTENT": "content_filter",
        "RECITATION": "content_filter",
        "SAFETY": "content_filter",
        "SPII": "content_filter",
        "STOP": "stop",
        "TOO_MANY_TOOL_CALLS": "malformed",
        "UNEXPECTED_TOOL_CALL": "malformed",
    }
)
_FINISH_WORDS: Mapping[FinishReason, str] = MappingProxyType(
    {
        "content_filter": "SAFETY",
        "context_window": "MAX_TOKENS",
        "length": "MAX_TOKENS",
        "malformed": "MALFORMED_FUNCTION_CALL",
        "other": "OTHER",
        "pause": "OTHER",
        "refusal": "SAFETY",
        "stop": "STOP",
        "stop_sequence": "STOP",
        "tool_calls": "STOP",
    }
)

_REPLY = _names("candidates", "modelVersion", "responseId")
_CANDIDATE = _names("content", "finishReason", "index")
_USAGE = _names(
    "cacheTokensDetails",
    "cachedContentTokenCount",
    "candidatesTokenCount",
    "candidatesTokensDetails",
    "promptTokenCount",
    "promptTokensDetails",
    "thoughtsTokenCount",
    "toolUsePromptTokenCount",
    "toolUsePromptTokensDetails",
    "totalTokenCount",
)
_AUDIO = ("AUDIO", 4)  # 4 is its number in protobuf


def _read_finish(told: Json, has_calls: bool) -> Finish | None:
    """Gemini says STOP after calls, too."""
    if told is None:
        return None
    name = told
    if isinstance(told, int):
        name = _FINISH_NUMBERS[told] if 0 <= told < len(_FINISH_NUMBERS) else ""
    reason = _FINISHES.get(str(name), "other")
    return Finish("tool_calls" if reason == "stop" and has_calls else reason, str(told))


def _write_finish(finish: Finish | None, *, own: bool) -> Json:
    """An answer of another format that came to its end without a word of why ended as usual."""
    if finish is None:
        return None if own else _FINISH_WORDS["stop"]
    if own and finish.raw is not None:
        return int(finish.raw) if finish.raw.isdecimal() else finish.raw
    return _FINISH_WORDS[finish.reason]


def _audio(details: Json, counts: TokenCounts) -> int:
    """The tokens of sound among those of all modalities."""
    rows = details if isinstance(details, list) else []
    return sum(
        counts.of(row.get("tokenCount", row.get("token_count"))) or 0
        for row in rows
        if isinstance(row, dict) and row.get("modality") in _AUDIO
    )


def _read_usage(told: Json) -> Usage | None:
    """None where nothing was counted yet: Vertex sends chunks that tell only the kind of traffic."""
    if not isinstance(told, dict):
        return None
    stated = _split(told, _USAGE)[0]
    if not stated:
        return None
    counts = TokenCounts()
    sent, tools = counts.of(stated.get("promptTokenCount")), counts.at(stated, "toolUsePromptTokenCount")
    prompt_unknown = sent is None or counts.unreadable > 0
    prompt = (sent or 0) + tools
    cached = min(counts.at(stated, "cachedContentTokenCount"), prompt)
    heard = _audio(stated.get("promptTokensDetails"), counts)
    heard += _audio(stated.get("toolUsePromptTokensDetails"), counts)
    audio = min(max(heard - _audio(stated.get("cacheTokensDetails"), counts), 0), prompt - cached)
    # Protobuf leaves out what is 0: only a count that is there and cannot be read is unknown.
    answer, thoughts = stated.get("candidatesTokenCount", 0), stated.get("thoughtsTokenCount", 0)
    answered, thought = counts.of(answer), counts.of(thoughts)
    spoken = min(_audio(stated.get("candidatesTokensDetails"), counts), answered or 0)
    return Usage(
        input=prompt - cached - audio,
        cache_read=cached,
        output=(answered or 0) - spoken,
        reasoning=thought or 0,
        input_audio=audio,
        output_audio=spoken,
        prompt_unknown=prompt_unknown,
        completion_unknown=answered is None or thought is None,
        unreadable=counts.unreadable,
    )


def _write_usage(usage: Usage) -> Block:
    told: Block = {
        "promptTokenCount": usage.prompt,
        "candidatesTokenCount": usage.output + usage.output_audio,
        "totalTokenCount": usage.total,
    }
    if usage.cache_read:
        told["cachedContentTokenCount"] = usage.cache_read
    if usage.reasoning:
        told["thoughtsTokenCount"] = usage.reasoning
    for name, total, audio in (
        ("promptTokensDetails", usage.prompt, usage.input_audio),
        ("candidatesTokensDetails", usage.output + usage.output_audio, usage.output_audio),
    ):
        if audio:
            rows = (("TEXT", total - audio), ("AUDIO", audio))
            told[name] = [{"modality": modality, "tokenCount": count} for modality, count in rows if count]
    return told


def _answered_media(known: Block, rest: Block, signature: str | None) -> Image | Audio | None:
    """A picture or a sound of the answer. Those of its thoughts are drafts, and stay as they came."""
    if known.keys() - {"inlineData", "fileData", "thoughtSignature", "mediaResolution"}:
        return None
    if (resolution := known.get("mediaResolution")) is not None:
        rest = {**rest, "mediaResolution": resolution}
    extras = _signed(rest, signature)
    try:
        match known:
            case {"inlineData": dict(blob), **others} if "fileData" not in others:
                found = _inline(blob, extras, "inlineData")
            case {"fileData": dict(file)}:
                found = _file(file, extras, "fileData")
            case _:
                return None
    except BadRequest:  # without a media type, or without data
        return None
    return found if isinstance(found, Image | Audio) else None


class _Answer:
    """What is told of a reply across its candidates and, in a stream, across its chunks."""

    def __init__(self) -> None:
        self.id: str | None = None
        self._calls = 0

    def part(self, value: Block) -> Part:
        """Never raises BadRequest: what is not as it should be stays as it came."""
        known, rest = _split(value, _PART)
        signature = known.get("thoughtSignature")
        signature = text_of(signature)
        if (media := _answered_media(known, rest, signature)) is not None:
            return media
        if known.keys() - {"text", "functionCall", "thought", "thoughtSignature"}:
            return _opaque(value)
        match known:
            case {"text": str(text), "thought": True} if "functionCall" not in known:
                return _thinking(text, signature, rest)
            case {"text": str(text)} if "functionCall" not in known:
                return Text(text, extras=_signed(rest, signature))
            case {"functionCall": dict(call)} if "text" not in known:
                return self._call(call, signature, rest) or _opaque(value)
        return _opaque(value)

    def _call(self, call: Block, signature: str | None, rest: Block) -> Part | None:
        """None for a call whose arguments come in pieces: only who asked for that can put them together."""
        known, others = _split(call, _CALL)
        name, id, given = known.get("name"), known.get("id"), known.get("args")
        if others or not isinstance(name, str) or not isinstance(given, dict | None):
            return None
        arguments = "" if given is None else encode(given).decode()
        made = _made_id(self._calls, self.id or "", name, arguments)
        self._calls += 1
        return ToolCall(
            id if isinstance(id, str) and id else made, name, arguments, signature=signature, extras=_extras(rest)
        )


def _is_call(part: Part) -> bool:
    return isinstance(part, ToolCall) or (isinstance(part, Opaque) and part.kind in ("functionCall", "function_call"))


def _parts_of(candidate: Block) -> list[Block]:
    content = candidate.get("content")
    parts = content.get("parts") if isinstance(content, dict) else None
    return [part for part in parts if isinstance(part, dict)] if isinstance(parts, list) else []


def _candidates_of(body: Block) -> list[tuple[int, Block, Block]]:
    """Number, fields that we know, and the rest of each candidate."""
    listed = body.get("candidates")
    found = []
    for position, candidate in enumerate(listed if isinstance(listed, list) else []):
        if isinstance(candidate, dict):
            known, rest = _split(candidate, _CANDIDATE)
            index = known.get("index")
            found.append((index if isinstance(index, int) else position, known, rest))
    return found


def _blocked(body: Mapping[str, Json]) -> Finish | None:
    """A prompt that was refused has no candidates, and says why."""
    feedback = body.get("promptFeedback")
    reason = feedback.get("blockReason") if isinstance(feedback, dict) else None
    return None if reason is None else Finish("content_filter", str(reason))


def _created(told: Json) -> int | None:
    try:
        return int(datetime.fromisoformat(told).timestamp()) if isinstance(told, str) else None
    except ValueError:
        return None


def _read_reply(body: bytes) -> Reply:
    try:
        whole = decode_reply(body)
    except UNREADABLE:
        raise UpstreamError("the provider's reply is not valid JSON") from None
    if isinstance(whole, list):  # a stream that was taken whole
        reader = _Reader(json_array.JsonArrayDecoder())
        events = [event for chunk in whole for event in reader.chunk(chunk)]
        events += reader.finish()
        broken = next((event.fault for event in events if isinstance(event, Failed)), None)
        if broken is not None:
            raise UpstreamError(broken.message)
        return fold(NAME, events)
    if not isinstance(whole, dict) or not whole.keys() & {"candidates", "promptFeedback", "usageMetadata"}:
        error = _error_in(whole)
        raise UpstreamError(error.message if error is not None else "the provider's reply holds no candidates")
    known, extras = _split(whole, _REPLY)
    answer = _Answer()
    answer.id = text_of(known.get("responseId")) or None
    choices = []
    for _, candidate, rest in sorted(_candidates_of(known), key=lambda found: found[0]):
        parts = tuple(answer.part(part) for part in _parts_of(candidate))
        finish = _read_finish(candidate.get("finishReason"), any(map(_is_call, parts)))
        told = {"index": candidate["index"]} if "index" in candidate else {}
        choices.append(Choice(parts, finish, _extras(told, rest)))
    blocked = _blocked(extras)
    if blocked is not None and not choices:
        choices.append(Choice((), blocked))
    return Reply(
        NAME,
        answer.id,
        text_of(known.get("modelVersion")) or None,
        tuple(choices),
        _read_usage(extras.get("usageMetadata")),
        _created(extras.get("createTime")),
        _extras(extras),
    )


# The same for the replies of other dialects' models, in base64 as every SDK decodes it: a history that holds their
# calls stays one that a Gemini 3 model takes.
_FOREIGN_SIGNATURE = base64.b64encode(_FOREIGN_CALL.encode()).decode()


def _base64(signature: str | None) -> Block:
    """A signature is bytes in this format: what no SDK could decode is left out."""
    try:
        base64.b64decode((signature or "").translate(_URL_SAFE), validate=True)
    except (binascii.Error, ValueError):
        return {}
    return {"thoughtSignature": signature} if signature else {}


class _Candidates:
    """Writes the parts of a reply's candidates."""

    def __init__(self, *, own: bool) -> None:
        self._own = own
        self._called: set[int] = set()
        """Candidates that have called a function."""

    def part(self, part: Part, choice: int) -> Block | None:
        """None for what has no place in this format."""
        extras = dict(part.extras) if self._own and not isinstance(part, Opaque) else {}
        match part:
            case Text():
                return {"text": part.text, **extras}
            case Refusal():
                return {"text": part.text}
            case Thinking():
                return {"text": part.text, "thought": True, **_sealed(part.signature), **extras}
            case ToolCall():
                return {**self._call(part, choice), **extras}
            case Image() | Audio():
                return _written_media(part, own=self._own)
            case Opaque() if part.dialect == NAME and isinstance(part.value, dict):
                return part.value
            case _:
                return None

    def _call(self, part: ToolCall, choice: int) -> Block:
        call: Block = {"name": part.name}
        if part.id and not _MADE_ID.fullmatch(part.id):
            call["id"] = part.id
        if part.arguments or not self._own:
            call["args"] = _as_object(part.arguments) or {}
        signature = part.signature
        if not self._own and choice not in self._called and signature is None:
            signature = _FOREIGN_SIGNATURE
        self._called.add(choice)
        return {"functionCall": call, **_base64(signature)}


def _written_media(part: Image | Audio, *, own: bool) -> Block:
    """`own`: of a reply of this format, with all that it came with."""
    extras = dict(part.extras) if own else {}
    blob = {"displayName": extras.pop("displayName")} if "displayName" in extras else {}
    detail = _RESOLUTIONS.get(part.detail or "") if own and isinstance(part, Image) else None
    if detail is not None:
        extras["mediaResolution"] = {"level": detail}
    match part.source:
        case Inline(media_type, data):
            return {"inlineData": {"mimeType": media_type, "data": data, **blob}, **extras}
        case Url(url, media_type):
            usual = "image/jpeg" if isinstance(part, Image) else "audio/wav"
            kind = media_type or (None if own else _media_type_of(url) or usual)
            return {"fileData": {"fileUri": url, **({"mimeType": kind} if kind else {}), **blob}, **extras}
        case FileRef(id):
            told = {"mimeType": extras.pop("mimeType")} if "mimeType" in extras else {}
            return {"fileData": {"fileUri": id, **told, **blob}, **extras}


_YEAR_10000 = 253_402_300_800


def _envelope(id: str | None, model: str | None, created: int | None) -> Block:
    told: Block = {}
    if model is not None:
        told["modelVersion"] = model
    if id is not None:
        told["responseId"] = id
    if created is not None and 0 < created < _YEAR_10000:  # some hosts say 0, or count in milliseconds
        told["createTime"] = datetime.fromtimestamp(created, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return told


def _candidate(index: int | None, parts: Iterable[Block], finish: Json, extras: Mapping[str, Json]) -> Block:
    blocks = list(parts)
    candidate: Block = {"content": {"role": "model", **({"parts": blocks} if blocks else {})}}
    if finish is not None:
        candidate["finishReason"] = finish
    if index is not None:
        candidate["index"] = index
    return {**candidate, **extras}


def _write_reply(reply: Reply) -> bytes:
    own = reply.dialect == NAME
    extras = dict(reply.extras) if own else {}
    body: Block = {}
    if not (own and "promptFeedback" in extras and all(not choice.parts for choice in reply.choices)):
        writing = _Candidates(own=own)
        body["candidates"] = [
            _candidate(
                None if own else index,
                (block for part in choice.parts if (block := writing.part(part, index)) is not None),
                _write_finish(choice.finish, own=own),
                choice.extras if own else {},
            )
            for index, choice in enumerate(reply.choices)
        ]
    if reply.usage is not None:
        body["usageMetadata"] = _write_usage(reply.usage)
    return encode({**body, **_envelope(reply.id, reply.model, reply.created), **extras})


# --- errors

# google.rpc.Code, and what each means to us. https://github.com/googleapis/googleapis: google/rpc/code.proto
_STATUSES: Mapping[str, tuple[FaultKind, int]] = MappingProxyType(
    {
        "ABORTED": ("conflict", 409),
        "ALREADY_EXISTS": ("conflict", 409),
        "CANCELLED": ("api", 499),
        "DATA_LOSS": ("api", 500),
        "DEADLINE_EXCEEDED": ("timeout", 504),
        "FAILED_PRECONDITION": ("invalid_request", 400),
        "INTERNAL": ("api", 500),
        "INVALID_ARGUMENT": ("invalid_request", 400),
        "NOT_FOUND": ("not_found", 404),
        "OUT_OF_RANGE": ("invalid_request", 400),
        "PERMISSION_DENIED": ("permission", 403),
        "RESOURCE_EXHAUSTED": ("rate_limit", 429),
        "UNAUTHENTICATED": ("authentication", 401),
        "UNAVAILABLE": ("overloaded", 503),
        "UNIMPLEMENTED": ("api", 501),
        "UNKNOWN": ("api", 500),
    }
)
_STATUS_OF: Mapping[FaultKind, str] = MappingProxyType(
    {
        "api": "INTERNAL",
        "authentication": "UNAUTHENTICATED",
        "conflict": "ABORTED",
        "content_filter": "INVALID_ARGUMENT",
        "context_length": "INVALID_ARGUMENT",
        "invalid_request": "INVALID_ARGUMENT",
        "method": "UNIMPLEMENTED",
        "not_found": "NOT_FOUND",
        "overloaded": "UNAVAILABLE",
        "payment": "RESOURCE_EXHAUSTED",
        "permission": "PERMISSION_DENIED",
        "rate_limit": "RESOURCE_EXHAUSTED",
        "timeout": "DEADLINE_EXCEEDED",
        "too_large": "INVALID_ARGUMENT",
    }
)
# Reasons of google.rpc.ErrorInfo that say more than the status: a wrong key is an INVALID_ARGUMENT.
_REASONS: Mapping[str, FaultKind] = MappingProxyType(
    {
        "ACCESS_TOKEN_EXPIRED": "authentication",
        "API_KEY_EXPIRED": "authentication",
        "API_KEY_INVALID": "authentication",
        "BILLING_DISABLED": "payment",
    }
)
_DETAIL = "type.googleapis.com/google.rpc."


def _seconds(told: Json) -> float | None:
    """A google.protobuf.Duration."""
    try:
        seconds = float(str(told).removesuffix("s"))
    except ValueError:
        return None
    return seconds if math.isfinite(seconds) and seconds >= 0 else None


def _details(error: Block, kind: str) -> Iterator[Block]:
    listed = error.get("details")
    for detail in listed if isinstance(listed, list) else []:
        if isinstance(detail, dict) and detail.get("@type") == _DETAIL + kind:
            yield detail


def _violated(error: Block) -> str | None:
    """The field that google.rpc.BadRequest names."""
    for detail in _details(error, "BadRequest"):
        violations = detail.get("fieldViolations")
        for violation in violations if isinstance(violations, list) else []:
            if isinstance(violation, dict) and isinstance(violation.get("field"), str):
                return str(violation["field"])
    return None


def _read_status(error: Block, status: int | None, waiting: float | None) -> Fault:
    """A google.rpc.Status as Google's HTTP hosts write it. `status` is None within a stream."""
    name, code = error.get("status"), error.get("code")
    kind, usual = _STATUSES.get(str(name), (None, None))
    if status is None:
        status = code if isinstance(code, int) and 400 <= code <= 599 else usual or 502
    message = error.get("message")
    reason = next((detail.get("reason") for detail in _details(error, "ErrorInfo")), None)
    kind = _REASONS.get(str(reason), kind or kind_of(status))
    delay = next((_seconds(detail.get("retryDelay")) for detail in _details(error, "RetryInfo")), None)
    return Fault(
        status,
        refined(kind, message) if isinstance(message, str) else kind,
        scrubbed(message) if isinstance(message, str) and message else f"the provider answered {name or status}",
        code=text_of(reason) or None,
        type=text_of(name) or None,
        param=_violated(error),
        retry_after=delay if delay is not None else waiting,
    )


def _error_in(value: Json) -> Fault | None:
    """The error that a chunk or a body of status 200 may hold."""
    error = value.get("error") if isinstance(value, dict) else None
    return _read_status(error, None, None) if isinstance(error, dict) else None


def _read_error(status: int, headers: Headers, body: bytes) -> Fault:
    seconds = retry_after(headers)
    try:
        value = decode(body)
    except UNREADABLE:
        value = body.decode("utf-8", "replace").strip()
    if isinstance(value, list) and value:  # of streamGenerateContent without alt=sse
        value = value[0]
    error = value.get("error", value) if isinstance(value, dict) else value
    if isinstance(error, dict):
        return _read_status(error, status, seconds)
    return _read_status({"message": error}, status, seconds)


def _error(fault: Fault) -> Block:
    status = fault.type if fault.type in _STATUSES else _STATUS_OF[fault.kind]
    error: Block = {"code": fault.status, "message": scrubbed(fault.message), "status": status}
    details: list[Block] = []
    if fault.code is not None:
        details.append({"@type": _DETAIL + "ErrorInfo", "reason": fault.code})
    if fault.param is not None:
        violation = {"field": fault.param, "description": error["message"]}
        details.append({"@type": _DETAIL + "BadRequest", "fieldViolations": [violation]})
    if fault.retry_after is not None:
        details.append({"@type": _DETAIL + "RetryInfo", "retryDelay": f"{fault.retry_after:g}s"})
    if details:
        error["details"] = details
    return {"error": error}


# --- streams: reading


@dataclass(slots=True)
class _Telling:
    """One candidate as its chunks come."""

    parts: int = 0
    open: PartKind | None = None
    """Text and thoughts come in pieces; the part that is open is the last one."""
    has_calls: bool = False
    finish: Json = None
    noted: dict[str, Json] = field(default_factory=dict)


class _Reader:
    """Gemini ends a stream by closing it: it has come to its end where every candidate has told why it finished.

    Until then a finish may be told more than once, before a call or after it; so it is told on at the end.
    """

    def __init__(self, decoder: sse.SseDecoder | json_array.JsonArrayDecoder) -> None:
        self._decoder = decoder
        self._answer = _Answer()
        self._candidates: dict[int, _Telling] = {}
        self._blocked: Finish | None = None
        self._started = False
        self._over = False

    def frames(self, data: bytes) -> list[Frame]:
        return self._decoder.feed(data)

    def close(self) -> tuple[list[Frame], list[ReplyEvent]]:
        frames = self._decoder.close()
        events = [event for frame in frames for event in self.read(frame)]
        return frames, events + self.finish()

    def read(self, frame: Frame) -> list[ReplyEvent]:
        if self._over or not frame.data or frame.data == b"[DONE]":
            return []
        try:
            chunk = decode_reply(frame.data)
        except UNREADABLE:
            return [Garbled("a chunk is not valid JSON")]
        return self.chunk(chunk)

    def chunk(self, chunk: Json) -> list[ReplyEvent]:
        if self._over:
            return []
        if not isinstance(chunk, dict):
            return [Garbled("a chunk is no object")]
        broken = _error_in(chunk)
        if broken is not None:
            self._over = True
            return [Failed(broken)]
        known, rest = _split(chunk, _REPLY)
        events: list[ReplyEvent] = []
        if not self._started:
            self._started = True
            self._answer.id = text_of(known.get("responseId")) or None
            created = _created(rest.get("createTime"))
            events.append(
                ReplyStarted(self._answer.id, text_of(known.get("modelVersion")) or None, created, _extras(rest))
            )
        elif rest:
            events.append(Noted(rest))
        for number, candidate, extras in _candidates_of(known):
            events += self._candidate(number, candidate, extras)
        self._blocked = _blocked(rest) or self._blocked
        usage = _read_usage(rest.get("usageMetadata"))
        if usage is not None:
            events.append(UsageSeen(usage))
        return events

    def _candidate(self, number: int, candidate: Block, extras: Block) -> Iterator[ReplyEvent]:
        telling = self._candidates.setdefault(number, _Telling())
        for value in _parts_of(candidate):
            part = self._answer.part(value)
            telling.has_calls = telling.has_calls or _is_call(part)
            yield from _tell(telling, part, number)
        telling.finish = candidate.get("finishReason", telling.finish)
        # Lists that are noted grow; safety ratings, which come with every chunk, shall not.
        news = {key: value for key, value in extras.items() if telling.noted.get(key) != value}
        if news:
            telling.noted.update(news)
            yield Noted(news, number)

    def finish(self) -> list[ReplyEvent]:
        """The stream is over."""
        if self._over:
            return []
        self._over = True
        events: list[ReplyEvent] = []
        for number, telling in sorted(self._candidates.items()):
            events += _close(telling, number)
            finish = _read_finish(telling.finish, telling.has_calls) or self._blocked
            if finish is None:
                return [Failed(_torn())]
            events.append(Finished(finish, number))
        if not self._candidates:
            if self._blocked is None:
                return [Failed(_torn())]
            events.append(Finished(self._blocked))
        return [*events, Ended()]


def _torn() -> Fault:
    return Fault(502, "api", "the provider's stream broke off", "truncated_stream")


def _tell(telling: _Telling, part: Part, number: int) -> Iterator[ReplyEvent]:
    kind: PartKind
    match part:
        case Text():
            kind, noted = "text", dict(part.extras)
        case Thinking():
            kind, noted = "thinking", dict(part.extras)
        case _:
            yield from _close(telling, number)
            yield from _whole(part, telling.parts, number)
            telling.parts += 1
            return
    if not part.text and not noted:
        return
    if telling.open != kind:
        yield from _close(telling, number)
        yield PartStarted(telling.parts, kind, choice=number)
        telling.open = kind
        telling.parts += 1
    index = telling.parts - 1
    if part.text:
        yield PartDelta(index, part.text, number)
    if noted:
        yield PartNoted(index, noted, number)
    if "thoughtSignature" in noted:
        yield from _close(telling, number)  # what is signed must not be joined to what is not


def _close(telling: _Telling, number: int) -> Iterator[ReplyEvent]:
    if telling.open is not None:
        telling.open = None
        yield PartEnded(telling.parts - 1, number)


def _whole(part: Part, index: int, number: int) -> Iterator[ReplyEvent]:
    """A part that comes in one piece."""
    if isinstance(part, ToolCall):
        yield PartStarted(index, "tool_call", part.id, part.name, choice=number, extras=part.extras)
        if part.arguments:
            yield PartDelta(index, part.arguments, number)
        if part.signature is not None:
            yield PartSigned(index, part.signature, number)
    elif isinstance(part, Opaque):
        yield PartStarted(index, "opaque", opaque=part, choice=number)
    elif isinstance(part, Image | Audio):
        yield PartStarted(index, "media", media=part, choice=number)
    yield PartEnded(index, number)


# --- streams: writing

_HELD_LIMIT = 16 * 1024 * 1024
"""Characters of one call's arguments, which are held until they are whole; as much as one frame may have."""
# What a reply or a candidate tells that only this format knows. No other has fields of these names, so they say whose
# stream it is.
_REPLY_EXTRAS = frozenset({"createTime", "modelStatus", "promptFeedback", "usageMetadata"})
_CANDIDATE_EXTRAS = frozenset(
    {
        "avgLogprobs",
        "citationMetadata",
        "finishMessage",
        "groundingMetadata",
        "logprobsResult",
        "safetyRatings",
        "tokenCount",
        "urlContextMetadata",
    }
)


@dataclass(slots=True)
class _Held:
    """A part between its start and its end. A call is held back, since this format has it whole; of other parts only
    the signature is."""

    start: PartStarted
    texts: list[str] = field(default_factory=list)
    size: int = 0
    signature: str | None = None
    foreign: bool = False
    """The signature is not Google's."""


class _Writer:
    """One chunk for each piece of text; the last one tells every finish and the usage."""

    def __init__(self, *, array: bool) -> None:
        self._array = array
        self._written = 0
        self._envelope: Block = {}
        self._usage: Block = {}
        self._own_usage: Block = {}
        self._finishes: dict[int, Finished] = {}
        self._choices: set[int] = set()
        """Those that said something."""
        self._held: dict[tuple[int, int], _Held] = {}
        self._own = False
        """It is a stream of this format that is framed anew."""
        self._is_blocked = False
        self._over = False
        self._candidates = _Candidates(own=False)

    def write(self, event: ReplyEvent) -> bytes:
        if self._over:
            return b""
        self._over = isinstance(event, Ended | Failed)
        match event:
            case PartDelta():
                return self._delta(event)
            case ReplyStarted():
                self._own = bool(event.extras.keys() & _REPLY_EXTRAS)
                self._candidates = _Candidates(own=self._own)
                self._envelope = _envelope(event.id, event.model, event.created)
                return self._note(event.extras)
            case PartStarted():
                return self._start(event)
            case PartSigned():
                self._sign(event.choice, event.part, event.signature, foreign=True)
            case PartNoted(extras={"thoughtSignature": str(signature)}):
                self._sign(event.choice, event.part, signature)
            case PartEnded():
                return self._end(event)
            case UsageSeen():
                self._usage = _write_usage(event.usage)
            case Noted(extras=extras, choice=choice):
                return self._note(extras) if choice is None else self._note_candidate(choice, extras)
            case Finished():
                self._finishes[event.choice] = event
            case Ended():
                return self._last()
            case Failed():
                return self._frame(_error(event.fault)) + self._terminator()
            case Ping() | Garbled() | PartNoted():
                pass  # SDKs take a comment for the beginning of an error
            case _:
                assert_never(event)
        return b""

    def _start(self, event: PartStarted) -> bytes:
        if event.kind == "opaque":
            block = self._candidates.part(event.opaque, event.choice) if event.opaque is not None else None
            return self._part(event.choice, block)
        if event.kind == "media":
            return self._part(event.choice, self._candidates.part(event.media, event.choice) if event.media else None)
        held = self._held[event.choice, event.part] = _Held(event)
        match event.extras:
            case {"thoughtSignature": str(signature)}:
                held.signature = signature
        return b""

    def _delta(self, event: PartDelta) -> bytes:
        held = self._held[event.choice, event.part]
        match held.start.kind:
            case "tool_call":
                held.texts.append(event.text)
                held.size += len(event.text)
                if held.size > _HELD_LIMIT:
                    raise UpstreamError(f"the provider sent one call of more than {_HELD_LIMIT} characters")
                return b""
            case "thinking":
                return self._part(event.choice, {"text": event.text, "thought": True})
            case _:
                return self._part(event.choice, {"text": event.text})

    def _sign(self, choice: int, part: int, signature: str, *, foreign: bool = False) -> None:
        """A signature may come in pieces, too. That of some thinking is Claude's unless it is noted."""
        held = self._held[choice, part]
        held.signature = (held.signature or "") + signature
        held.foreign = foreign

    def _end(self, event: PartEnded) -> bytes:
        held = self._held.pop((event.choice, event.part), None)
        if held is None:
            return b""
        start = held.start
        match start.kind:
            case "tool_call":
                arguments = "".join(held.texts)
                call = ToolCall(start.id or "", start.name or "", arguments, None, held.signature, start.extras)
                return self._part(event.choice, self._candidates.part(call, event.choice))
            case "thinking":
                signed = _sealed(held.signature) if held.foreign else _base64(held.signature)
                told: Block = {"text": "", "thought": True, **signed}
            case _:
                told = {"text": "", **_base64(held.signature)}
        return self._part(event.choice, told if "thoughtSignature" in told else None)

    def _note(self, extras: Extras) -> bytes:
        told = {key: value for key, value in extras.items() if key in _REPLY_EXTRAS}
        usage, created = told.pop("usageMetadata", None), told.pop("createTime", None)
        if isinstance(usage, dict):
            self._own_usage.update(usage)
        if created is not None:
            self._envelope["createTime"] = created
        self._is_blocked = self._is_blocked or "promptFeedback" in told
        return self._frame(told) if told else b""

    def _note_candidate(self, choice: int, extras: Extras) -> bytes:
        told = {key: value for key, value in extras.items() if key in _CANDIDATE_EXTRAS}
        return self._frame({"candidates": [{"index": choice, **told}]}) if told else b""

    def _part(self, choice: int, block: Block | None) -> bytes:
        self._choices.add(choice)
        if block is None:
            return b""
        return self._frame({"candidates": [_candidate(choice, [block], None, {})]})

    def _last(self) -> bytes:
        body: Block = {}
        if not (self._own and self._is_blocked):
            # An empty text, as Google sends it: callers print the text of every chunk.
            body["candidates"] = [
                _candidate(choice, [{"text": ""}], *self._finish_of(choice))
                for choice in sorted(self._choices | self._finishes.keys() or {0})
            ]
        if usage := self._own_usage or self._usage:
            body["usageMetadata"] = usage
        return (self._frame(body) if body else b"") + self._terminator()

    def _finish_of(self, choice: int) -> tuple[Json, Extras]:
        event = self._finishes.get(choice)
        if event is None:
            return _write_finish(None, own=self._own), NO_EXTRAS
        told = {key: value for key, value in event.extras.items() if key in _CANDIDATE_EXTRAS}
        return _write_finish(event.finish, own=self._own), told

    def _frame(self, body: Block) -> bytes:
        data = encode(body if "error" in body else {**body, **self._envelope})
        first = self._written == 0
        self._written += 1
        return json_array.encode(data, first=first) if self._array else sse.encode(data)

    def _terminator(self) -> bytes:
        return json_array.end(empty=self._written == 0) if self._array else b""


# --- models


def _model(card: ModelCard) -> Block:
    return {
        "name": f"models/{card.id}",
        "baseModelId": card.id,
        "version": card.id,
        "displayName": card.id,
        "description": f"Served by {card.owned_by}",
        "supportedGenerationMethods": ["generateContent", "streamGenerateContent"],
    }


# --- the dialect

_COLLECTIONS = ("models/", "tunedModels/")


class GeminiGenerate:
    name = NAME
    title = TITLE
    routes = (
        Route("GET", "/v1beta/models", "models"),
        Route("GET", "/v1beta/models/{model}", "models"),
        *(
            Route("POST", f"{root}/{{model}}:{verb}", operation)
            for root in _ROOTS
            for verb, operation in _VERBS.items()
            if operation == "chat"
        ),
    )
    stream_type = "text/event-stream"

    def read_call(self, raw: bytes, operation: Operation, headers: Headers, path: str) -> Call:
        model, verb = address(path.partition("?")[0])
        try:
            probe = _probe.decode(raw)
        except UNREADABLE:
            raise _why_no_call(raw) from None
        request = probe.request or probe.snake_request
        if probe.contents in (_ABSENT, b"null") and not (operation == "count_tokens" and request is not None):
            raise _why_no_call(raw)
        stream = verb == "streamGenerateContent"
        return Call(
            dialect=NAME,
            operation=operation,
            model=model,
            stream=stream,
            raw=raw,
            max_output_tokens=_largest(probe, _LIMIT_NAMES),
            choices=_largest(probe, _CHOICES_NAMES) or 1,
            stream_type=_ARRAY_TYPE if stream and _wants_array(_query(headers, path)) else None,
        )

    def splice(self, call: Call, model: str, host: HostProfile = UNKNOWN_HOST) -> Written:
        """The body names the model only where a caller repeats it, and to count the tokens of a whole request."""
        del host  # the model alone decides
        name = encode(f"models/{model}")
        try:
            keys = json_splice.members_of(call.raw).keys()
            changes: dict[str, json_splice.Change] = {}
            if "model" in keys:
                changes["model"] = name
            for request in ("generateContentRequest", "generate_content_request"):
                if request in keys:
                    changes[request] = {"model": name}
            dropped: tuple[str, ...] = ()
            if _MARKED.encode() in call.raw:
                contents, dropped = _without_carried(call.raw)
                changes.update(contents)
            return Written(json_splice.splice(call.raw, changes) if changes else call.raw, dropped)
        except ValueError as exc:
            raise BadRequest(f"the body cannot be passed on: {exc}") from exc

    def path(self, operation: Operation, model: str, *, stream: bool) -> str:
        if operation == "models":
            return "/models"
        collection = next((each for each in _COLLECTIONS if model.startswith(each)), _COLLECTIONS[0])
        name = model.removeprefix(collection)
        if _is_unsafe(name):
            raise BadRequest(f"{model!r} is no name of a model", param="model")
        address = f"/{collection}{quote(name, safe='')}"
        if operation == "count_tokens":
            return f"{address}:countTokens"
        return f"{address}:streamGenerateContent?alt=sse" if stream else f"{address}:generateContent"

    def read_chat(self, call: Call) -> Chat:
        try:
            return _read_chat(call)
        except RecursionError:
            raise BadRequest("the body is nested too deeply") from None

    def write_chat(self, chat: Chat, model: str, host: HostProfile = UNKNOWN_HOST) -> Written:
        del host  # the model alone decides
        request = _Request(chat, model)
        try:
            body = encode(request.body())
        except RecursionError:
            raise BadRequest("the body is nested too deeply") from None
        return Written(body, tuple(sorted(request.dropped)))

    def read_reply(self, body: bytes) -> Reply:
        return _read_reply(body)

    def write_reply(self, reply: Reply) -> bytes:
        return _write_reply(reply)

    def can_say(self, part: Part) -> bool:
        return not isinstance(part, Opaque | RedactedThinking)

    def reader(self, content_type: str) -> _Reader:
        is_array = content_type.partition(";")[0].strip().lower() == _ARRAY_TYPE
        return _Reader(json_array.JsonArrayDecoder() if is_array else sse.SseDecoder())

    def writer(self, call: Call) -> _Writer:
        return _Writer(array=call.stream_type == _ARRAY_TYPE)

    def read_error(self, status: int, headers: Headers, body: bytes) -> Fault:
        return _read_error(status, headers, body)

    def write_error(self, fault: Fault) -> tuple[int, list[tuple[str, str]], bytes]:
        headers = [("content-type", "application/json; charset=UTF-8")]
        if fault.retry_after is not None:
            headers.append(("retry-after", str(math.ceil(fault.retry_after))))
        return fault.status, headers, encode(_error(fault))

    def write_models(self, models: Sequence[ModelCard]) -> bytes:
        return encode({"models": [_model(card) for card in models]})

    def write_model(self, card: ModelCard) -> bytes:
        return encode(_model(card))


PLUGIN = GeminiGenerate()
