"""Amazon Bedrock's Converse API, both directions: one format for all of Bedrock's chat models, whole or as an AWS event
stream.

The file is in the order of a call: the cheap view and the raw lane; reading a request; writing one (first for a chat
that is of this dialect already, then for one that crosses over from another); replies; streams; errors; models. What
becomes of each field of a chat that crosses over is told by `FIELDS`, and what each maker's models call the things that
Converse has no field for by `_FAMILIES`. It knows nothing of hosts, keys, routing or Envoy.

The shapes are those of the service model that botocore ships. A reply tells neither its id nor its model: the id is in
a header, the model is the one that was asked for.
"""

from __future__ import annotations

import base64
import binascii
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Literal, TypeAlias, assert_never
from urllib.parse import quote, unquote

import msgspec

from ..codecs import aws_eventstream
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
    rest_of,
    text_of,
)
from ..errors import BadRequest, Unsupported, UpstreamError
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
    Role,
    Source,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
    Url,
)
from ..model.fault import Fault, FaultKind, kind_of, refined, scrubbed
from ..model.host import UNKNOWN_HOST, HostProfile
from ..model.noun import noun
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
    PartNoted,
    PartSigned,
    PartStarted,
    Ping,
    Reply,
    ReplyEvent,
    ReplyStarted,
    UsageSeen,
)
from ..model.usage import Usage
from .base import FieldSupport, Headers, ModelCard, Route, header, made_id, retry_after
from .bedrock_history import mend
from .carried import MARK, UNSIGNED, original_id, tool_id
from .claude import LEAST_TOP_P_WITH_THINKING, closed_schema
from .dropping import omission
from .turns import (
    CUT_OFF,
    FORCED,
    NO_PARAMETERS,
    BlockKind,
    Translation,
    Turn,
    answer_order,
    arguments_of,
    is_explicit,
    schema_of,
)

NAME = "bedrock_converse"
TITLE = "Bedrock Converse"

Block: TypeAlias = dict[str, Json]
"""A JSON object of the wire."""

# --- what becomes of a chat that crosses over


FIELDS: Mapping[str, FieldSupport] = MappingProxyType(
    {
        "dialect": FieldSupport("mapped", "not sent; it says how to name what is dropped"),
        "model": FieldSupport(
            "mapped", "the path, escaped as one segment: the name under which the chosen host knows it"
        ),
        "messages": FieldSupport(
            "mapped",
            "system and developer turns become system blocks in order; tool results join the user's turn, first in it; "
            "turns of one role in a row become one; empty text is left out; a cache mark becomes a cachePoint after "
            "its block, where the family of the model caches; thinking that the model would refuse, "
            "names, image detail and foreign part fields are dropped; "
            "pictures and documents by URL, uploaded files and parts that only another format knows are refused; a "
            "conversation that does not begin with the user is refused",
        ),
        "stream": FieldSupport("mapped", "the path"),
        "include_usage": FieldSupport("mapped", "not sent: a stream of this format always tells its usage"),
        "tools": FieldSupport(
            "mapped",
            "toolConfig.tools: name, description, inputSchema; strict for Claude models with structured outputs, "
            "dropped for others; a tool that is no function is refused; where the history has tool calls and the "
            "request no tools, stubs are sent",
        ),
        "tool_choice": FieldSupport(
            "mapped",
            "auto, required → any, a function → tool; none leaves the tools out, and where the history needs them "
            "forbids calls for Claude and is dropped for others; dropped without tools, and a forced call is dropped "
            "where Claude thinks",
        ),
        "parallel_tool_calls": FieldSupport(
            "mapped", "false → additionalModelRequestFields.tool_choice for Claude, dropped for others"
        ),
        "max_output_tokens": FieldSupport("mapped", "inferenceConfig.maxTokens"),
        "temperature": FieldSupport(
            "mapped",
            "inferenceConfig.temperature; over 1 is refused; dropped while Claude thinks and for Claude models that "
            "take no sampling settings",
        ),
        "top_p": FieldSupport(
            "mapped", "inferenceConfig.topP; dropped like temperature, and beside one from Claude 4.1 on"
        ),
        "top_k": FieldSupport(
            "mapped",
            "additionalModelRequestFields, in the words of the model's maker; dropped where it has none, and like "
            "temperature",
        ),
        "stop": FieldSupport("mapped", "inferenceConfig.stopSequences; those of white space only are dropped"),
        "n": FieldSupport("refused", "more than one answer"),
        "seed": FieldSupport("dropped", ""),
        "presence_penalty": FieldSupport("dropped", ""),
        "frequency_penalty": FieldSupport("dropped", ""),
        "logprobs": FieldSupport("refused", "where they are asked for"),
        "top_logprobs": FieldSupport("refused", "where they are asked for"),
        "response_format": FieldSupport(
            "mapped",
            "json_schema → outputConfig.textFormat, objects closed where they were left open; refused for Claude "
            "before 4.5; json_object is dropped: the caller's own prompt asks for JSON, nothing enforces it; strict "
            "false is dropped: Bedrock always holds to the schema",
        ),
        "reasoning": FieldSupport(
            "mapped",
            "additionalModelRequestFields, in the words of the model's maker: thinking and output_config for Claude "
            "(dropped before 3.7), reasoningConfig for Nova, reasoning_effort for gpt-oss, reasoning_config for others",
        ),
        "service_tier": FieldSupport("mapped", "default, flex, priority, reserved → serviceTier; auto is not sent"),
        "user": FieldSupport("dropped", ""),
        "metadata": FieldSupport("mapped", "requestMetadata; dropped where Bedrock would not take it"),
        "extras": FieldSupport(
            "dropped", "but audio output, web search, the old functions and odd tool choices are refused"
        ),
        "needed": FieldSupport("refused", "whatever it names"),
    }
)

# What no other provider can honour: a guardrail's absence would let through what it forbids, and a prompt of Bedrock's
# own store needs its variables.
_NEEDED = ("guardrailConfig", "promptVariables")

# --- what the models can be asked, in whose words


@dataclass(frozen=True, slots=True)
class Family:
    """The models of one maker. What Converse has no field for goes under the maker's own name for it."""

    top_k: tuple[str, ...] = ("top_k",)
    """Where in additionalModelRequestFields; nowhere if empty."""
    reasoning: Literal["claude", "nova", "effort", "config", "none"] = "config"
    caches: frozenset[str] = frozenset()
    """Where a cachePoint may stand: the user guide's page on prompt caching. Elsewhere Bedrock refuses the request
    (`You invoked an unsupported model or your request did not allow prompt caching`)."""


# By a word in the model's id or ARN; the makers' own parameter pages in the Bedrock user guide, read in 2026.
_FAMILIES: tuple[tuple[str, Family], ...] = (
    # The first Claude that caches is 3.5 Sonnet v2.
    ("claude-3-5-sonnet-20240620", Family(reasoning="claude")),
    *((f"claude-3-{name}", Family(reasoning="claude")) for name in ("haiku", "sonnet", "opus")),
    *((f"claude-{name}", Family(reasoning="claude")) for name in ("v2", "instant")),
    ("claude", Family(reasoning="claude", caches=frozenset({"system", "messages", "tools"}))),
    ("nova", Family(("inferenceConfig", "topK"), "nova", frozenset({"system", "messages"}))),
    ("titan", Family((), "none")),
    ("llama", Family((), "none")),
    ("jamba", Family((), "none")),
    ("mistral", Family(reasoning="none")),
    ("cohere", Family(("k",), "none")),
    ("gpt-oss", Family((), "effort")),
    ("deepseek", Family(())),
)
_UNKNOWN = Family()


def family_of(model: str) -> Family:
    """Of a model's id. The ARN of an inference profile need not name its model: it is taken for any."""
    name = model.lower()
    return next((family for word, family in _FAMILIES if word in name), _UNKNOWN)


# Others know three levels.
_LEVELS: Mapping[str, str] = MappingProxyType(
    {"minimal": "low", "low": "low", "medium": "medium", "high": "high", "xhigh": "high", "max": "high"}
)

# --- JSON


def _maybe_object(value: Json, path: str) -> Block:
    return {} if value is None else as_object(value, path)


def _bytes(data: str) -> bytes | None:
    """None where it is no base64."""
    try:
        return base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError):
        return None


def _utf8(data: str) -> str | None:
    """The text whose base64 this is; None where there is none."""
    raw = _bytes(data)
    try:
        return None if raw is None else raw.decode()
    except UnicodeDecodeError:
        return None


def _base64(text: str) -> str:
    return base64.b64encode(text.encode("utf-8", "surrogatepass")).decode()


# --- the cheap view

# An id has up to 64 characters, an ARN up to 2048 (modelId in the service model).
_LONGEST_MODEL = 2048
_UNSAFE_IN_MODEL = re.compile(r"[\x00-\x20\x7f?#\\]")
_VERBS = frozenset({"converse", "converse-stream"})


def model_of(path: str) -> tuple[str, bool]:
    """The model that a path of ours names, and whether a stream is asked for."""
    _, _, name, verb = path.split("?")[0].split("/", 3)
    try:
        model = unquote(name, errors="strict")
    except UnicodeDecodeError:
        raise BadRequest("the model in the path is not valid UTF-8", param="model") from None
    unsafe = _UNSAFE_IN_MODEL.search(model) or any(step in ("", ".", "..") for step in model.split("/"))
    if unsafe or len(model) > _LONGEST_MODEL:
        raise BadRequest(f"the path holds no name of a model: {model[:_LONGEST_MODEL]!r}", param="model")
    return model, verb == "converse-stream"


class _Inference(msgspec.Struct, rename="camel"):
    max_tokens: int | None = None


class _Probe(msgspec.Struct, rename="camel"):
    messages: msgspec.Raw
    inference_config: _Inference | None = None


_probe = msgspec.json.Decoder(_Probe)


def _why_no_call(raw: bytes) -> BadRequest:
    """What is wrong with a body that the probe refused."""
    try:
        body = read_body(raw)
        if "messages" not in body:
            return BadRequest("messages is missing: give the conversation", param="messages")
        config = _maybe_object(body.get("inferenceConfig"), "inferenceConfig")
        maybe_int(config.get("maxTokens"), "inferenceConfig.maxTokens")
    except BadRequest as exc:
        return exc
    return BadRequest("the body says messages or inferenceConfig twice, and not alike")


# --- reading a request: blocks


@noun
class _JsonText(Text):
    """JSON that a tool gave as JSON and not as text. Other dialects see its text."""

    value: Json = None


@noun
class _TextSource(Inline):
    """A document whose text came as text and not as bytes."""


@noun
class _Told(Reasoning):
    """Reasoning, with the very fields of additionalModelRequestFields by which this caller asked for it."""

    wire: Extras = field(default_factory=lambda: NO_EXTRAS)


_IMAGE = frozenset({"format", "source"})
_DOCUMENT = frozenset({"format", "name", "source"})
_TOOL_USE = frozenset({"toolUseId", "name", "input"})
_TOOL_RESULT = frozenset({"toolUseId", "content", "status"})
_REASONING_TEXT = frozenset({"text", "signature"})
_CITED = frozenset({"content", "citations"})
_CITATIONS = "citationsContent"
"""Under which name a text keeps its citations: not `citations`, which are of another shape in Anthropic's format."""

_IMAGE_TYPES: Mapping[str, str] = MappingProxyType({f: f"image/{f}" for f in ("png", "jpeg", "gif", "webp")})
_OFFICE = "application/vnd.openxmlformats-officedocument"
_DOCUMENT_TYPES: Mapping[str, str] = MappingProxyType(
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
_AUDIO_TYPES: Mapping[str, str] = MappingProxyType(
    {f: f"audio/{f}" for f in ("opus", "wav", "aac", "flac", "mp4", "ogg", "m4a")} | {"mp3": "audio/mpeg"}
)


def _format_of(types: Mapping[str, str], media_type: str) -> str | None:
    """What this format calls a media type; None where it has no such thing."""
    return next((format for format, known in types.items() if known == media_type), None)


def _opaque(block: Block) -> Opaque:
    return Opaque(NAME, "+".join(block), block)


def _read_image(block: Block, path: str) -> Part:
    match as_object(block["image"], f"{path}.image"):
        case {"format": str(format), "source": {"bytes": str(data), **others}, **rest} if (
            format in _IMAGE_TYPES and not others
        ):
            return Image(Inline(_IMAGE_TYPES[format], data), extras=rest_of(rest, _IMAGE))
        case _:
            return _opaque(block)


def _read_document(block: Block, path: str) -> Part:
    document = as_object(block["document"], f"{path}.document")
    name = maybe_text(document.get("name"), f"{path}.document.name")
    extras = rest_of(document, _DOCUMENT)
    match document:
        case {"source": {"bytes": str(data), **others}, "format": str(format)} if (
            format in _DOCUMENT_TYPES and not others
        ):
            return Document(Inline(_DOCUMENT_TYPES[format], data), name, extras=extras)
        case {"source": {"text": str(text), **others}} if not others:
            media_type = _DOCUMENT_TYPES.get(str(document.get("format") or "txt"))
            if media_type is not None and media_type.startswith("text/"):
                return Document(_TextSource(media_type, _base64(text)), name, extras=extras)
    return _opaque(block)


def _read_audio(block: Block, path: str) -> Part:
    match as_object(block["audio"], f"{path}.audio"):
        case {"format": str(format), "source": {"bytes": str(data), **others}, **rest} if (
            format in _AUDIO_TYPES and not others and not rest
        ):
            return Audio(Inline(_AUDIO_TYPES[format], data))
        case _:
            return _opaque(block)


def _read_tool_use(block: Block, path: str) -> Part:
    """A call of a tool that Bedrock runs itself is its own affair. `tool_use` is what any call is."""
    path = f"{path}.toolUse"
    use = as_object(block["toolUse"], path)
    if use.get("type") not in (None, "tool_use"):
        return _opaque(block)
    return ToolCall(
        original_id(as_text(use.get("toolUseId"), f"{path}.toolUseId")),
        as_text(use.get("name"), f"{path}.name"),
        encode(use.get("input", {})).decode(),
        extras=rest_of(use, _TOOL_USE | {"type"}),
    )


def _read_tool_result(block: Block, path: str) -> Part:
    path = f"{path}.toolResult"
    result = as_object(block["toolResult"], path)
    if result.get("type") is not None:  # of a tool that Bedrock ran
        return _opaque(block)
    content = result.get("content")
    return ToolResult(
        original_id(as_text(result.get("toolUseId"), f"{path}.toolUseId")),
        () if content is None else _read_blocks(content, f"{path}.content"),
        result.get("status") == "error",
        extras=rest_of(result, _TOOL_RESULT),
    )


def _read_reasoning_block(block: Block, path: str) -> Part:
    path = f"{path}.reasoningContent"
    match as_object(block["reasoningContent"], path):
        case {"reasoningText": dict(told), **others} if not others:
            return Thinking(
                as_text(told.get("text", ""), f"{path}.reasoningText.text"),
                _signature(maybe_text(told.get("signature"), f"{path}.reasoningText.signature")),
                rest_of(told, _REASONING_TEXT),
            )
        case {"redactedContent": str(data), **others} if not others:
            return RedactedThinking(_read_redacted(data))
        case _:
            return _opaque(block)


def _signature(told: str | None) -> str | None:
    """A mark of ours stands where no Claude signed."""
    return None if told is not None and told.startswith(MARK) else told


# What is redacted is bytes here, hence base64 in JSON; Anthropic's own string is what those bytes are. Another maker's
# need not be text: they keep their base64, marked by a sign that base64 has not.
_RAW_BYTES = "base64:"


def _read_redacted(data: str) -> str:
    text = _utf8(data)
    return _RAW_BYTES + data if text is None else text


def _write_redacted(data: str) -> str:
    return data.removeprefix(_RAW_BYTES) if data.startswith(_RAW_BYTES) else _base64(data)


def _read_cited(block: Block, path: str) -> Part:
    path = f"{path}.citationsContent"
    cited = as_object(block["citationsContent"], path)
    text = "".join(
        as_text(as_object(each, f"{path}.content[{i}]").get("text", ""), f"{path}.content[{i}].text")
        for i, each in enumerate(as_list(cited.get("content") or [], f"{path}.content"))
    )
    return Text(text, extras={_CITATIONS: cited.get("citations") or [], **rest_of(cited, _CITED)})


def _read_text(block: Block, path: str) -> Part:
    return Text(as_text(block["text"], f"{path}.text"))


def _read_json(block: Block, path: str) -> Part:
    del path
    return _JsonText(encode(block["json"]).decode(), value=block["json"])


_READ_BLOCK: Mapping[str, Callable[[Block, str], Part]] = MappingProxyType(
    {
        "text": _read_text,
        "json": _read_json,
        "image": _read_image,
        "document": _read_document,
        "audio": _read_audio,
        "toolUse": _read_tool_use,
        "toolResult": _read_tool_result,
        "reasoningContent": _read_reasoning_block,
        "citationsContent": _read_cited,
    }
)


def _read_block(block: Block, path: str) -> Part:
    """A block has one member. What is no block of ours (guardContent, searchResult, video, …) stays whole."""
    found = {key: value for key, value in block.items() if value is not None}
    read = _READ_BLOCK.get(next(iter(found))) if len(found) == 1 else None
    return _opaque(block) if read is None else read(found, path)


def _read_mark(value: Json) -> CacheMark | None:
    """None for a mark that only this dialect knows."""
    match value:
        case {"type": "default", **rest} if not rest:
            return CacheMark()
        case {"type": "default", "ttl": str(ttl), **rest} if not rest:
            return CacheMark(ttl)
        case _:
            return None


def _marked(parts: list[Part], mark: CacheMark | None) -> bool:
    """Whether the last part took the mark."""
    last = parts[-1] if parts else None
    if mark is None or not isinstance(last, Text | Image | Document | ToolCall | ToolResult) or last.cache is not None:
        return False
    parts[-1] = replace(last, cache=mark)
    return True


def _read_blocks(value: Json, path: str) -> tuple[Part, ...]:
    """A cachePoint is a mark on the block before it."""
    parts: list[Part] = []
    for i, each in enumerate(as_list(value, path)):
        block = as_object(each, f"{path}[{i}]")
        if len(block) == 1 and "cachePoint" in block and _marked(parts, _read_mark(block["cachePoint"])):
            continue
        parts.append(_read_block(block, f"{path}[{i}]"))
    return tuple(parts)


# --- reading a request: the rest

_ROLES: Mapping[str, Role] = MappingProxyType({"user": "user", "assistant": "assistant", "system": "system"})
_MESSAGE = frozenset({"role", "content"})
_CHAT = frozenset(
    {
        "modelId",
        "messages",
        "system",
        "inferenceConfig",
        "toolConfig",
        "additionalModelRequestFields",
        "requestMetadata",
        "serviceTier",
        "outputConfig",
    }
)
_INFERENCE = frozenset({"maxTokens", "temperature", "topP", "stopSequences"})
_TOOL_SPEC = frozenset({"name", "description", "inputSchema", "strict"})


def _read_message(value: Json, path: str) -> Message:
    message = as_object(value, path)
    role = _ROLES.get(as_text(message.get("role"), f"{path}.role"))
    if role is None:
        raise BadRequest(
            f"{path}.role is {message['role']!r}; it must be user, assistant or system", param=f"{path}.role"
        )
    return Message(role, _read_blocks(message.get("content"), f"{path}.content"), extras=rest_of(message, _MESSAGE))


def _read_tools(config: Block) -> tuple[Tool, ...]:
    tools: list[Tool] = []
    for i, each in enumerate(as_list(config.get("tools") or [], "toolConfig.tools")):
        path = f"toolConfig.tools[{i}]"
        match as_object(each, path):
            case {"toolSpec": dict(spec), **others} if not others:
                tools.append(_read_tool(spec, f"{path}.toolSpec"))
            case {"cachePoint": mark, **others} if (
                not others
                and (read := _read_mark(mark)) is not None
                and tools
                and isinstance(last := tools[-1], FunctionTool)
                and last.cache is None
            ):
                tools[-1] = replace(last, cache=read)
            case block:
                tools.append(_opaque(block))
    return tuple(tools)


def _read_tool(spec: Block, path: str) -> FunctionTool:
    schema = as_object(spec.get("inputSchema", {}), f"{path}.inputSchema")
    return FunctionTool(
        as_text(spec.get("name"), f"{path}.name"),
        maybe_text(spec.get("description"), f"{path}.description"),
        schema.get("json"),
        maybe_bool(spec.get("strict"), f"{path}.strict"),
        extras=rest_of(spec, _TOOL_SPEC),
    )


def _read_tool_choice(value: Json) -> ToolChoice | None:
    match value:
        case None:
            return None
        case {"auto": dict(), **rest} if not rest:
            return ToolChoice("auto")
        case {"any": dict(), **rest} if not rest:
            return ToolChoice("required")
        case {"tool": {"name": str(name)}, **rest} if not rest:
            return ToolChoice("tool", name)
        case _:
            raise BadRequest("toolConfig.toolChoice must be auto, any or tool", param="toolConfig.toolChoice")


def _read_reasoning(more: Block, effort: str | None) -> Reasoning | None:
    """From additionalModelRequestFields, whichever of the makers' words were used; what is read is taken out."""
    mode: Literal["enabled", "disabled", "adaptive"] | None = None
    budget: int | None = None
    wire: Block = {}
    extras: Extras = NO_EXTRAS
    for key in ("thinking", "reasoning_config", "reasoningConfig"):
        match more.get(key):
            case {"type": "enabled" | "disabled" | "adaptive" as told, **rest}:
                mode = told
                budget = maybe_int(rest.get("budget_tokens"), f"{_MORE}.{key}.budget_tokens")
                level = rest.get("maxReasoningEffort")
                effort = level if isinstance(level, str) else effort
                extras = rest_of(as_object(more[key], key), frozenset({"type", "budget_tokens", "maxReasoningEffort"}))
                wire[key] = more.pop(key)
            case str(level):
                effort = level
                wire[key] = more.pop(key)
    if isinstance(level := more.get("reasoning_effort"), str):
        effort = level
        wire["reasoning_effort"] = more.pop("reasoning_effort")
    match more.get("output_config"):
        case {"effort": str(level), **rest}:
            effort = level
            wire["output_config"] = {"effort": level}
            more.pop("output_config")
            if rest:
                more["output_config"] = rest
    return None if mode is None and effort is None else _Told(mode, effort, budget, extras, wire)


_MORE = "additionalModelRequestFields"


def _read_top_k(more: Block) -> int | None:
    """`inferenceConfig.topK` is Nova's."""
    match more:
        case {"top_k": int(top_k)}:
            del more["top_k"]
            return top_k
        case {"inferenceConfig": {"topK": int(top_k), **rest}} if not rest:
            del more["inferenceConfig"]
            return top_k
        case _:
            return None


def _read_parallel(more: Block) -> bool | None:
    """The choice itself stays where it is: it says more than this."""
    match more.get("tool_choice"):
        case {"disable_parallel_tool_use": bool(single)}:
            return not single
        case _:
            return None


def _read_format(config: Block) -> ResponseFormat | None:
    """Taken out of outputConfig where it is one that we know."""
    match config.get("textFormat"):
        case {"type": "json_schema", "structure": {"jsonSchema": {"schema": str(text), **rest}}} if rest.keys() <= {
            "name",
            "description",
        }:
            try:
                schema = decode(text.encode("utf-8", "surrogatepass"))
            except UNREADABLE:
                raise BadRequest("outputConfig.textFormat: the schema is no JSON", param="outputConfig") from None
            del config["textFormat"]
            path = "outputConfig.textFormat.structure.jsonSchema"
            return ResponseFormat(
                "json_schema",
                schema,
                maybe_text(rest.get("name"), f"{path}.name"),
                maybe_text(rest.get("description"), f"{path}.description"),
            )
        case _:
            return None


def _read_stop(value: Json) -> tuple[str, ...]:
    path = "inferenceConfig.stopSequences"
    return tuple(as_text(stop, f"{path}[{i}]") for i, stop in enumerate(as_list(value or [], path)))


def _read_tier(value: Json) -> str | None:
    return None if value is None else as_text(as_object(value, "serviceTier").get("type"), "serviceTier.type")


def _read_chat(call: Call) -> Chat:
    try:
        body = as_object(decode(call.raw), "the body")
    except UNREADABLE:
        raise _why_no_call(call.raw) from None
    inference = _maybe_object(body.get("inferenceConfig"), "inferenceConfig")
    tool_config = _maybe_object(body.get("toolConfig"), "toolConfig")
    output = dict(_maybe_object(body.get("outputConfig"), "outputConfig"))
    more = dict(_maybe_object(body.get(_MORE), _MORE))
    metadata = body.get("requestMetadata")
    response_format = _read_format(output)
    effort = maybe_text(output.get("effort"), "outputConfig.effort")
    system = _read_blocks(body.get("system") or [], "system")
    top_k, parallel, reasoning = _read_top_k(more), _read_parallel(more), _read_reasoning(more, effort)
    if isinstance(reasoning, _Told) and effort is not None:
        output.pop("effort")
        reasoning = replace(reasoning, wire={**reasoning.wire, "outputConfig": {"effort": effort}})
    extras = {
        **rest_of(body, _CHAT),
        **{
            key: rest
            for key, rest in (
                ("inferenceConfig", rest_of(inference, _INFERENCE)),
                ("toolConfig", rest_of(tool_config, frozenset({"tools", "toolChoice"}))),
                ("outputConfig", rest_of(output, frozenset())),
                (_MORE, rest_of(more, frozenset())),
            )
            if rest
        },
    }
    return Chat(
        dialect=NAME,
        model=call.model,
        messages=(
            *((Message("system", system),) if system else ()),
            *(_read_message(m, f"messages[{i}]") for i, m in enumerate(as_list(body.get("messages"), "messages"))),
        ),
        stream=call.stream,
        include_usage=call.stream,
        tools=_read_tools(tool_config),
        tool_choice=_read_tool_choice(tool_config.get("toolChoice")),
        parallel_tool_calls=parallel,
        max_output_tokens=maybe_int(inference.get("maxTokens"), "inferenceConfig.maxTokens"),
        temperature=maybe_number(inference.get("temperature"), "inferenceConfig.temperature"),
        top_p=maybe_number(inference.get("topP"), "inferenceConfig.topP"),
        top_k=top_k,
        stop=_read_stop(inference.get("stopSequences")),
        response_format=response_format,
        reasoning=reasoning,
        service_tier=_read_tier(body.get("serviceTier")),
        metadata=None if metadata is None else as_object(metadata, "requestMetadata"),
        extras=extras or NO_EXTRAS,
        needed=tuple(name for name in _NEEDED if name in extras),
    )


# --- writing a request: what both ways share


def _cache_point(mark: CacheMark) -> Block:
    return {"cachePoint": {"type": "default"} if mark.ttl is None else {"type": "default", "ttl": mark.ttl}}


def _thinking(part: Thinking) -> Block:
    told: Block = {"text": part.text}
    if part.signature is not None:
        told["signature"] = part.signature
    return {"reasoningContent": {"reasoningText": told}}


_WRITE_CHOICE: Mapping[str, str] = MappingProxyType({"auto": "auto", "required": "any", "tool": "tool"})


def _choice(choice: ToolChoice) -> Block | None:
    """None for `none`, which this format has not."""
    if choice.mode == "none":
        return None
    return {_WRITE_CHOICE[choice.mode]: {"name": choice.name} if choice.mode == "tool" else {}}


def _tool_spec(tool: FunctionTool, schema: Json) -> Block:
    spec: Block = {"name": tool.name}
    if tool.description:
        spec["description"] = tool.description
    spec["inputSchema"] = {"json": schema}
    return spec


def _json_schema(wanted: ResponseFormat, schema: Json) -> Block:
    named = {"name": wanted.name, "description": wanted.description}
    structure = {
        "schema": encode(schema).decode(),
        **{key: value for key, value in named.items() if value is not None},
    }
    return {"type": "json_schema", "structure": {"jsonSchema": structure}}


# --- writing a request of this dialect: everything goes back


def _own_blocks(parts: Iterable[Part], path: str) -> list[Block]:
    blocks: list[Block] = []
    for i, part in enumerate(parts):
        blocks.append(_own_block(part, f"{path}[{i}]"))
        mark = getattr(part, "cache", None)
        if mark is not None:
            blocks.append(_cache_point(mark))
    return blocks


def _own_block(part: Part, path: str) -> Block:
    match part:
        case _JsonText():
            return {"json": part.value}
        case Text() if _CITATIONS in part.extras:
            rest = {key: value for key, value in part.extras.items() if key != _CITATIONS}
            cited = {"content": [{"text": part.text}], "citations": part.extras[_CITATIONS], **rest}
            return {"citationsContent": cited}
        case Text() | Refusal():
            return {"text": part.text}
        case Image(Inline() as source):
            return {"image": _sourced(_IMAGE_TYPES, source, part.extras, path)}
        case Document(Inline() as source):
            extras = part.extras if part.name is None else {"name": part.name, **part.extras}
            return {"document": _sourced(_DOCUMENT_TYPES, source, extras, path)}
        case Audio(Inline() as source):
            return {"audio": _sourced(_AUDIO_TYPES, source, part.extras, path)}
        case Thinking():
            return _thinking(part)
        case RedactedThinking():
            return {"reasoningContent": {"redactedContent": _write_redacted(part.data)}}
        case ToolCall():
            use = {"toolUseId": part.id, "name": part.name, "input": arguments_of(part.arguments) or {}, **part.extras}
            return {"toolUse": use}
        case ToolResult():
            result: Block = {"toolUseId": part.call_id, "content": _own_blocks(part.parts, f"{path}.toolResult")}
            if part.is_error:
                result["status"] = "error"
            return {"toolResult": {**result, **part.extras}}
        case Opaque():
            return as_object(part.value, path)
        case _:
            raise Unsupported(path, TITLE, "it takes bytes alone")


def _sourced(types: Mapping[str, str], source: Inline, extras: Extras, path: str) -> Block:
    format = _format_of(types, source.media_type)
    if format is None:
        raise Unsupported(path, TITLE, f"it takes {', '.join(types)}")
    told: Block = {"text": _utf8(source.data)} if isinstance(source, _TextSource) else {"bytes": source.data}
    return {"format": format, "source": told, **extras}


def _own_tools(tools: Iterable[Tool]) -> list[Block]:
    written: list[Block] = []
    for i, tool in enumerate(tools):
        if isinstance(tool, Opaque):
            written.append(as_object(tool.value, f"toolConfig.tools[{i}]"))
            continue
        spec = _tool_spec(tool, tool.parameters)
        if tool.strict is not None:
            spec["strict"] = tool.strict
        written.append({"toolSpec": {**spec, **tool.extras}})
        if tool.cache is not None:
            written.append(_cache_point(tool.cache))
    return written


def _write_own(chat: Chat, family: Family) -> Block:
    """A leading system turn is the system prompt; a later one is a turn."""
    turns = list(chat.messages)
    body: Block = {}
    if turns and turns[0].role == "system" and turns[0].parts:
        body["system"] = _own_blocks(turns.pop(0).parts, "system")
    body["messages"] = [
        {"role": turn.role, "content": _own_blocks(turn.parts, f"messages[{n}].content"), **turn.extras}
        for n, turn in enumerate(turns)
    ]
    if inference := _inference(chat, list(chat.stop)):
        body["inferenceConfig"] = inference
    config: Block = {"tools": _own_tools(chat.tools)} if chat.tools else {}
    if chat.tool_choice is not None and (choice := _choice(chat.tool_choice)) is not None:
        config["toolChoice"] = choice
    if config:
        body["toolConfig"] = config
    more: Block = {}
    output: Block = {}
    if isinstance(chat.reasoning, _Told):
        more.update((key, value) for key, value in chat.reasoning.wire.items() if key != "outputConfig")
        output = dict(_maybe_object(chat.reasoning.wire.get("outputConfig"), "outputConfig"))
    if chat.top_k is not None:
        _merge(more, _nested(family.top_k or ("top_k",), chat.top_k))
    if more:
        body[_MORE] = more
    if chat.response_format is not None:
        output["textFormat"] = _json_schema(chat.response_format, chat.response_format.schema)
    if output:
        body["outputConfig"] = output
    if chat.service_tier is not None:
        body["serviceTier"] = {"type": chat.service_tier}
    if chat.metadata is not None:
        body["requestMetadata"] = dict(chat.metadata)
    _merge(body, dict(chat.extras))
    return body


def _inference(chat: Chat, stop: list[str]) -> Block:
    told = {"maxTokens": chat.max_output_tokens, "temperature": chat.temperature, "topP": chat.top_p}
    found: Block = {key: value for key, value in told.items() if value is not None}
    if stop:
        found["stopSequences"] = stop
    return found


def _nested(path: tuple[str, ...], value: Json) -> Block:
    for key in reversed(path):
        value = {key: value}
    return as_object(value, ".".join(path))


def _merge(into: Block, more: Mapping[str, Json]) -> None:
    """`more` on top, objects key by key."""
    for key, value in more.items():
        before = into.get(key)
        if isinstance(before, dict) and isinstance(value, dict):
            merged = dict(before)
            _merge(merged, value)
            into[key] = merged
        else:
            into[key] = value


# --- writing a request of another dialect

# What a document may be called: the user guide's page on the Converse API.
_NOT_IN_DOCUMENT_NAME = re.compile(r"[^\w\s\-()\[\]]|_", re.ASCII)
_LONGEST_DOCUMENT_NAME = 200
_TIERS = frozenset({"default", "flex", "priority", "reserved"})
_TIER_WORDS: Mapping[str, str] = MappingProxyType({"standard_only": "default"})
# requestMetadata in the service model.
_METADATA_KEY = re.compile(r"[a-zA-Z0-9\s:_@$#=/+,.-]{1,256}", re.ASCII)
_METADATA_VALUE = re.compile(r"[a-zA-Z0-9\s:_@$#=/+,.-]{0,256}", re.ASCII)
_MOST_METADATA = 16
_PDF = "application/pdf"


@dataclass(slots=True)
class _Piece:
    """A block, and the mark after it."""

    block: Block
    mark: CacheMark | None = None


def _blocks(pieces: Iterable[_Piece], *, marked: bool = True) -> list[Block]:
    found: list[Block] = []
    for piece in pieces:
        found.append(piece.block)
        if marked and piece.mark is not None:
            found.append(_cache_point(piece.mark))
    return found


_KINDS: Mapping[str, BlockKind] = MappingProxyType(
    {"text": "text", "reasoningContent": "thinking", "toolUse": "call", "toolResult": "result"}
)


class _Crossing(Translation[_Piece]):
    """One chat of another dialect on its way into this one."""

    title = TITLE

    def __init__(self, chat: Chat, model: str) -> None:
        super().__init__(chat, model)
        self.family = family_of(model)
        self.is_claude = self.family.reasoning == "claude"
        self.more: Block = {}
        """additionalModelRequestFields"""
        self._documents = 0

    def body(self) -> Block:
        chat = self.chat
        self._refuse()
        system, turns = self._conversation()
        body: Block = {}
        if system:
            body["system"] = _blocks(system, marked="system" in self.family.caches)
        marked = "messages" in self.family.caches
        body["messages"] = [{"role": turn.role, "content": _blocks(turn.blocks, marked=marked)} for turn in turns]
        stop = [s for s in chat.stop if s.strip()]
        self._drop_if("stop", len(stop) < len(chat.stop))
        inference = _inference(chat, stop)
        thinking = self._reasoning(inference, turns)
        self._sampling(inference, thinking)
        if inference:
            body["inferenceConfig"] = inference
        if config := self._tool_config(turns, thinking):
            body["toolConfig"] = config
        if stop and self.is_claude:
            # Converse does not tell which sequence was met; Claude does.
            body["additionalModelResponseFieldPaths"] = ["/stop_sequence"]
        self._format(body)
        self._account(body)
        if self.more:
            body[_MORE] = self.more
        return body

    # fields

    def _account(self, body: Block) -> None:
        """Who asks, on which terms, and what has no place at all."""
        chat = self.chat
        self._drop_if("user", chat.user)
        if chat.service_tier not in (None, "auto"):
            tier = _TIER_WORDS.get(str(chat.service_tier), str(chat.service_tier))
            if tier in _TIERS:
                body["serviceTier"] = {"type": tier}
            self._drop_if("service_tier", tier not in _TIERS)
        if chat.metadata:
            if _is_metadata(chat.metadata):
                body["requestMetadata"] = dict(chat.metadata)
            else:
                self.dropped.add("metadata")
        self._drop_placeless()

    def _sampling(self, inference: Block, thinking: bool) -> None:
        """What the models of the service model take: 0 to 1 of each. Claude has rules of its own."""
        chat = self.chat
        sampling = self.generation.sampling if self.is_claude else "any"
        if sampling == "none" or thinking:
            self._claude_sampling(inference, thinking)
            return
        for name in ("temperature", "top_p"):
            value = getattr(chat, name)
            if value is not None and not 0 <= value <= 1:
                raise BadRequest(f"{name} is {value!r}; {TITLE} takes 0 to 1", param=name)
        if sampling == "one" and chat.temperature is not None and inference.pop("topP", None) is not None:
            self.dropped.add("top_p")
        if chat.top_k is not None:
            self._drop_if("top_k", not self.family.top_k)
            if self.family.top_k:
                _merge(self.more, _nested(self.family.top_k, chat.top_k))

    def _claude_sampling(self, inference: Block, thinking: bool) -> None:
        """A Claude that thinks, or one that takes no sampling settings at all."""
        chat = self.chat
        keeps_top_p = self.generation.sampling != "none" and (chat.top_p or 0) >= LEAST_TOP_P_WITH_THINKING
        inference.pop("temperature", None)
        # 1 is what the temperature is anyway.
        self._drop_if("temperature", chat.temperature not in (None, 1))
        if chat.top_p is not None and not (thinking and keeps_top_p):
            del inference["topP"]
            self.dropped.add("top_p")
        self._drop_if("top_k", chat.top_k is not None)

    def _format(self, body: Block) -> None:
        wanted = self.chat.response_format
        if wanted is None or wanted.kind == "text":
            return
        if wanted.kind == "json_object":
            self.dropped.add("response_format")
            return
        if self.is_claude and not self.generation.schemas:
            raise Unsupported("response_format", TITLE, f"{self.model!r} has no structured outputs")
        schema = as_object(wanted.schema, "response_format.json_schema.schema")
        self._drop_if("response_format.json_schema.strict", wanted.strict is False)
        body["outputConfig"] = {"textFormat": _json_schema(wanted, closed_schema(schema))}

    # thinking

    def _reasoning(self, inference: Block, turns: list[Turn[_Piece]]) -> bool:
        """Whether a Claude thinks, which is the one case that changes what else may be asked."""
        wanted = self.chat.reasoning
        if wanted is None:
            return False
        explicit, spelled = is_explicit(wanted), self._reasoning_name(wanted)
        is_off = wanted.mode == "disabled" or (wanted.effort == "none" and not explicit)
        # Groq's word for what is anyway
        effort = None if wanted.effort in (None, "", "default", "none") else wanted.effort
        self._check_effort(effort)
        if effort is None and not explicit and not is_off:
            return False
        if self.is_claude:
            if is_off:
                self._rests(wanted, self.more)
                return False
            return self._thinks(wanted, effort, self.more, inference, "maxTokens", turns)
        self._drop_extras(wanted.extras, "thinking")
        if is_off:
            # What others do unasked cannot be switched off by a field that all of them take.
            self._drop_if(spelled, self.family.reasoning in ("effort", "config"))
            return False
        level = _LEVELS[effort or "medium"]
        self._drop_if("thinking.budget_tokens", wanted.budget_tokens is not None and self.family.reasoning != "none")
        match self.family.reasoning:
            case "nova":
                self.more["reasoningConfig"] = {"type": "enabled", "maxReasoningEffort": level}
            case "effort":
                self.more["reasoning_effort"] = level
            case "config":
                self.more["reasoning_config"] = level
            case _:
                self.dropped.add(spelled)
        return False

    # tools

    def _tool_config(self, turns: list[Turn[_Piece]], thinking: bool) -> Block:
        chat = self.chat
        names = [
            str(use["name"]) for turn in turns for p in turn.blocks if isinstance(use := p.block.get("toolUse"), dict)
        ]
        has_history = bool(names) or any("toolResult" in p.block for turn in turns for p in turn.blocks)
        choice, single = chat.tool_choice, chat.parallel_tool_calls is False
        if not chat.tools:
            self._drop_if("tool_choice", choice is not None and choice.mode in FORCED)
            self._drop_if("parallel_tool_calls", single)
            if not names:
                return {}
            # Tool calls in the history want their tools; one that is not offered any more may not be called again.
            if self.is_claude:
                self.more["tool_choice"] = {"type": "none"}
            stubs = [FunctionTool(name) for name in dict.fromkeys(names)]
            return {"tools": [{"toolSpec": _tool_spec(stub, dict(NO_PARAMETERS))} for stub in stubs]}
        tools = self._tools()
        if choice is not None and choice.mode == "none":
            self._drop_if("parallel_tool_calls", single)
            if not has_history:
                return {}
            self._drop_if("tool_choice", not self.is_claude)
            if self.is_claude:
                self.more["tool_choice"] = {"type": "none"}
            return {"tools": tools}
        if choice is not None and choice.mode in FORCED and thinking:
            self.dropped.add("tool_choice")
            choice = ToolChoice("auto")
        if single and self.is_claude:
            self.more["tool_choice"] = _claude_choice(choice or ToolChoice("auto"))
            return {"tools": tools}
        self._drop_if("parallel_tool_calls", single)
        written = None if choice is None else _choice(choice)
        return {"tools": tools} if written is None else {"tools": tools, "toolChoice": written}

    def _tools(self) -> list[Block]:
        tools: list[Block] = []
        for i, tool in enumerate(self.chat.tools):
            path = f"tools[{i}]"
            if isinstance(tool, Opaque):
                raise Unsupported(path, TITLE, f"it knows no tool of type {tool.kind!r}")
            spec = _tool_spec(tool, schema_of(tool.parameters, f"{path}.function.parameters"))
            strict = self.is_claude and self.generation.schemas
            if tool.strict is not None and strict:
                spec["strict"] = tool.strict
            self._drop_if(f"{path}.function.strict", tool.strict and not strict)
            self._drop_extras(tool.extras, path)
            tools.append({"toolSpec": spec})
            if self._caches("tools", tool.cache, path):
                tools.append(_cache_point(tool.cache or CacheMark()))
        return tools

    def _caches(self, place: str, mark: CacheMark | None, path: str) -> bool:
        """Whether a cache mark is sent; one that the model's family does not take there is named."""
        self._drop_if(f"{path}.cache_control", mark is not None and place not in self.family.caches)
        return mark is not None and place in self.family.caches

    # the conversation

    def _kind(self, block: _Piece) -> BlockKind:
        return _KINDS.get(next(iter(block.block)), "media")

    def _strip(self, block: _Piece) -> None:
        block.block["text"] = str(block.block["text"]).rstrip()

    def _block(self, part: Part, path: str) -> _Piece | None:
        """None for what is left out."""
        if not isinstance(part, Opaque):
            self._drop_extras(part.extras, path)
            # A family that caches at all does so in the conversation and in the system prompt.
            self._caches("messages", getattr(part, "cache", None), path)
        match part:
            case Text():
                return self._said(part.text, part.cache, path)
            case Refusal():
                return self._said(part.text, None, path)
            case Image():
                self._drop_if(f"{path}.image_url.detail", part.detail not in (None, "auto"))
                return _Piece(self._image(part.source, path), part.cache)
            case Document():
                return _Piece(self._document(part, path), part.cache)
            case Audio():
                return _Piece(self._audio(part.source, path))
            case Thinking():
                if bool(part.signature) != self.is_claude or self.family.reasoning == "none":
                    # A Claude takes what it signed; the others that think, what nobody did.
                    self.dropped.add(path)
                    return None
                return _Piece(_thinking(part)) if part.text or part.signature else None
            case RedactedThinking() if not self.is_claude:
                self.dropped.add(path)
                return None
            case RedactedThinking():
                return _Piece({"reasoningContent": {"redactedContent": _write_redacted(part.data)}})
            case ToolCall():
                return _Piece(self._tool_use(part, path), part.cache)
            case ToolResult():
                return self._tool_result(part, path)
            case Opaque():
                raise Unsupported(path, TITLE, f"it knows no part of type {part.kind!r}")
            case _:
                assert_never(part)

    def _said(self, text: str, cache: CacheMark | None, path: str) -> _Piece | None:
        """Bedrock refuses empty text, and text of white space only."""
        if text.strip():
            return _Piece({"text": text}, cache)
        self._drop_if(path, text)
        return None

    def _inline(self, source: Source, path: str) -> Inline:
        match source:
            case Inline():
                return source
            case Url():
                raise Unsupported(path, TITLE, "it fetches nothing; send the bytes, as a data: URL for instance")
            case FileRef():
                raise Unsupported(path, TITLE, "a file uploaded to another provider is unknown to it")
            case _:
                assert_never(source)

    def _image(self, source: Source, path: str) -> Block:
        inline = self._inline(source, path)
        media_type = inline.media_type.lower()
        if media_type == _PDF:
            return self._document_block("pdf", None, inline.data)
        format = _format_of(_IMAGE_TYPES, "image/jpeg" if media_type == "image/jpg" else media_type)
        if format is None:
            raise BadRequest(
                f"{path} is {inline.media_type!r}; {TITLE} takes {', '.join(_IMAGE_TYPES.values())} and PDF", param=path
            )
        return {"image": {"format": format, "source": {"bytes": inline.data}}}

    def _document(self, part: Document, path: str) -> Block:
        inline = self._inline(part.source, path)
        media_type = inline.media_type.lower().partition(";")[0].strip()
        format = _format_of(_DOCUMENT_TYPES, media_type)
        if format is None and media_type.startswith("text/"):
            format = "txt"
        if format is None:
            raise BadRequest(f"{path} is {inline.media_type!r}; {TITLE} takes {', '.join(_DOCUMENT_TYPES)}", param=path)
        return self._document_block(format, part.name, inline.data)

    def _document_block(self, format: str, name: str | None, data: str) -> Block:
        """Each document has a name, and no two have the same."""
        self._documents += 1
        clean = " ".join(_NOT_IN_DOCUMENT_NAME.sub("-", name or "").split())[: _LONGEST_DOCUMENT_NAME - 8].strip()
        named = f"{clean} {self._documents}" if clean and self._documents > 1 else clean
        told = named or f"document {self._documents}"
        return {"document": {"format": format, "name": told, "source": {"bytes": data}}}

    def _audio(self, source: Source, path: str) -> Block:
        inline = self._inline(source, path)
        kind = inline.media_type.lower()
        format = _format_of(_AUDIO_TYPES, {"audio/mp3": "audio/mpeg", "audio/x-wav": "audio/wav"}.get(kind, kind))
        if format is None:
            raise BadRequest(f"{path} is {inline.media_type!r}; {TITLE} takes {', '.join(_AUDIO_TYPES)}", param=path)
        return {"audio": {"format": format, "source": {"bytes": inline.data}}}

    def _tool_use(self, part: ToolCall, path: str) -> Block:
        arguments = self._called(part, path)
        return {"toolUse": {"toolUseId": tool_id(part.id), "name": part.name, "input": arguments}}

    def _tool_result(self, part: ToolResult, path: str) -> _Piece:
        """A mark within a result stands after it: there is none inside."""
        call_id, inner = self._answered(part, path)
        result: Block = {"toolUseId": call_id, "content": [piece.block for piece in inner]}
        if part.is_error:
            result["status"] = "error"
        mark = part.cache or next((piece.mark for piece in reversed(inner) if piece.mark is not None), None)
        return _Piece({"toolResult": result}, mark)


def _claude_choice(choice: ToolChoice) -> Block:
    block: Block = {"type": _WRITE_CHOICE[choice.mode], "disable_parallel_tool_use": True}
    if choice.mode == "tool":
        block["name"] = choice.name
    return block


def _is_metadata(metadata: Mapping[str, Json]) -> bool:
    return len(metadata) <= _MOST_METADATA and all(
        _METADATA_KEY.fullmatch(key) and isinstance(value, str) and _METADATA_VALUE.fullmatch(value)
        for key, value in metadata.items()
    )


# --- replies

_FINISHES: Mapping[str, FinishReason] = MappingProxyType(
    {
        "end_turn": "stop",
        "stop_sequence": "stop_sequence",
        "max_tokens": "length",
        "model_context_window_exceeded": "context_window",
        "tool_use": "tool_calls",
        "guardrail_intervened": "content_filter",
        "content_filtered": "content_filter",
        "malformed_model_output": "malformed",
        "malformed_tool_use": "malformed",
        # What the service model does not name but Anthropic's does.
        "refusal": "refusal",
        "pause_turn": "pause",
    }
)
_STOP_REASONS: Mapping[FinishReason, str] = MappingProxyType(
    {
        "stop": "end_turn",
        "stop_sequence": "stop_sequence",
        "length": "max_tokens",
        "context_window": "model_context_window_exceeded",
        "tool_calls": "tool_use",
        "content_filter": "content_filtered",
        "refusal": "content_filtered",
        "pause": "end_turn",
        "malformed": "malformed_model_output",
        "other": "end_turn",
    }
)
_OWN_REASONS = frozenset(_FINISHES) - {"refusal", "pause_turn"}

_USAGE = frozenset(
    {
        "inputTokens",
        "outputTokens",
        "totalTokens",
        "cacheReadInputTokens",
        "cacheWriteInputTokens",
        "cacheDetails",
        # The same counts under older names.
        "cacheReadInputTokenCount",
        "cacheWriteInputTokenCount",
    }
)
_REPLY = frozenset({"output", "stopReason", "usage"})
_REPLY_EXTRAS = ("trace", "additionalModelResponseFields", "performanceConfig", "serviceTier")
_PADDING = "p"
"""AWS pads each event of a stream, so that its length tells nothing of its words."""


def _read_finish(reason: Json, more: Json) -> Finish | None:
    if not isinstance(reason, str):
        return None
    sequence = more.get("stop_sequence") if isinstance(more, dict) else None
    return Finish(_FINISHES.get(reason, "other"), reason, text_of(sequence))


def _stop_reason(finish: Finish | None, has_calls: bool) -> str:
    if has_calls and (finish is None or finish.reason not in CUT_OFF):
        return "tool_use"
    if finish is None:
        return "end_turn"
    # Bedrock's own word can be narrower than ours.
    is_own = finish.raw in _OWN_REASONS and _FINISHES[finish.raw] == finish.reason
    return finish.raw if finish.raw and is_own else _STOP_REASONS[finish.reason]


def _read_usage(told: Mapping[str, Json]) -> Usage:
    """`inputTokens` is without what was read from or written to the cache."""
    counts = TokenCounts()
    details = told.get("cacheDetails")
    hour = sum(
        counts.at(each, "inputTokens")
        for each in (details if isinstance(details, list) else ())
        if isinstance(each, dict) and each.get("ttl") == "1h"
    )
    written = counts.of(told.get("cacheWriteInputTokens", told.get("cacheWriteInputTokenCount"))) or 0
    read = counts.of(told.get("cacheReadInputTokens", told.get("cacheReadInputTokenCount"))) or 0
    given = counts.of(told.get("inputTokens"))
    # The prompt is the sum of these: where one of them cannot be read, it is not known.
    unknown = given is None or counts.unreadable > 0
    output = counts.of(told.get("outputTokens"))
    hour = min(hour, written)
    return Usage(
        input=given or 0,
        cache_read=read,
        cache_write=written - hour,
        cache_write_1h=hour,
        output=output or 0,
        prompt_unknown=unknown,
        completion_unknown=output is None,
        unreadable=counts.unreadable,
    )


def _write_usage(usage: Usage | None, rest: Json) -> Block:
    """`rest` is what a Bedrock reply told of its usage besides tokens."""
    usage = usage or Usage()
    told: Block = {
        "inputTokens": usage.input + usage.input_audio,
        "outputTokens": usage.completion,
        "totalTokens": usage.total,
        "cacheReadInputTokens": usage.cache_read,
        "cacheWriteInputTokens": usage.cache_write + usage.cache_write_1h,
    }
    if usage.cache_write or usage.cache_write_1h:
        split = (("5m", usage.cache_write), ("1h", usage.cache_write_1h))
        told["cacheDetails"] = [{"ttl": ttl, "inputTokens": count} for ttl, count in split if count]
    if isinstance(rest, Mapping):
        told.update(rest)
    return told


def _read_reply(body: bytes) -> Reply:
    try:
        reply = decode_reply(body)
    except UNREADABLE as exc:
        raise UpstreamError("the provider's reply is not valid JSON") from exc
    output = reply.get("output") if isinstance(reply, dict) else None
    message = output.get("message") if isinstance(output, dict) else None
    if not isinstance(reply, dict) or not isinstance(message, dict):
        raise UpstreamError(f"the provider's reply holds no message{_coral(reply)}")
    try:
        parts = _read_blocks(message.get("content") or [], "output.message.content")
    except BadRequest as exc:
        raise UpstreamError(f"the provider's reply cannot be read: {exc.message}") from exc
    told = reply.get("usage")
    told = told if isinstance(told, dict) else None
    extras = dict(rest_of(reply, _REPLY))
    if told is not None and (rest := rest_of(told, _USAGE)):
        extras["usage"] = rest
    finish = _read_finish(reply.get("stopReason"), reply.get("additionalModelResponseFields"))
    usage = None if told is None else _read_usage(told)
    return Reply(NAME, None, None, (Choice(parts, finish),), usage, extras=extras or NO_EXTRAS)


def _coral(reply: Json) -> str:
    """What AWS says where it says no with status 200, as some of its front ends do."""
    found = reply.get("Output") if isinstance(reply, dict) else None
    kind = found.get("__type") if isinstance(found, dict) else None
    return f", but {kind.rpartition('#')[2]}" if isinstance(kind, str) else ""


def _write_reply(reply: Reply) -> bytes:
    choice = reply.choices[0] if reply.choices else Choice(())
    is_own = reply.dialect == NAME
    content = _own_blocks(choice.parts, "content") if is_own else list(_answer_blocks(choice.parts, reply))
    has_calls = any("toolUse" in block for block in content)
    finish = choice.finish
    extras: Mapping[str, Json] = reply.extras if is_own else NO_EXTRAS
    body: Block = {
        "output": {"message": {"role": "assistant", "content": content}},
        "stopReason": finish.raw if is_own and finish and finish.raw else _stop_reason(finish, has_calls),
        "usage": _write_usage(reply.usage, extras.get("usage")),
        # botocore's shapes insist on it; who answered here told no such time.
        "metrics": {"latencyMs": 0},
    }
    body.update((key, value) for key, value in extras.items() if key != "usage")
    if not is_own and finish is not None and finish.stop_sequence is not None:
        body["additionalModelResponseFields"] = {"stop_sequence": finish.stop_sequence}
    return encode(body)


def _answer_blocks(parts: Iterable[Part], reply: Reply) -> Iterator[Block]:
    """What a reply of another dialect says, in the order of a model that thinks: thinking, text, tool calls."""
    calls = 0
    for part in sorted(parts, key=answer_order):
        match part:
            case Thinking():
                if part.text or part.signature:
                    yield _thinking(Thinking(part.text, part.signature or UNSIGNED))
            case RedactedThinking():
                yield {"reasoningContent": {"redactedContent": _write_redacted(part.data)}}
            case Text() | Refusal():
                if part.text:
                    yield {"text": part.text}
            case ToolCall():
                yield {
                    "toolUse": {
                        "toolUseId": tool_id(part.id or _made_id(reply.id, calls)),
                        "name": part.name,
                        "input": arguments_of(part.arguments) or {},
                    }
                }
                calls += 1
            case Image() | Audio():
                yield _answered_media(part)
            case _:
                pass  # a part that only another dialect knows


def _answered_media(part: Image | Audio) -> Block:
    """A picture where this format has its kind; else a text that says what was left out."""
    source = part.source
    if isinstance(part, Image) and isinstance(source, Inline) and _format_of(_IMAGE_TYPES, source.media_type):
        return {"image": _sourced(_IMAGE_TYPES, source, NO_EXTRAS, "image")}
    return {"text": omission(part, TITLE)}


def _made_id(*seeds: object) -> str:
    return made_id("tooluse_", 22, *seeds)


# --- errors

# The service model's own exceptions, and those of AWS that come before any service; with the status of each.
_FAULTS: Mapping[str, tuple[FaultKind, int]] = MappingProxyType(
    {
        "ValidationException": ("invalid_request", 400),
        "SerializationException": ("invalid_request", 400),
        "ServiceQuotaExceededException": ("rate_limit", 400),
        "ExpiredTokenException": ("authentication", 403),
        "IncompleteSignatureException": ("authentication", 403),
        "InvalidSignatureException": ("authentication", 403),
        "MissingAuthenticationTokenException": ("authentication", 403),
        "UnrecognizedClientException": ("authentication", 403),
        "AccessDeniedException": ("permission", 403),
        "ResourceNotFoundException": ("not_found", 404),
        "ModelTimeoutException": ("timeout", 408),
        "ConflictException": ("conflict", 409),
        "ModelErrorException": ("api", 424),
        "ModelStreamErrorException": ("api", 424),
        "ThrottlingException": ("rate_limit", 429),
        "TooManyRequestsException": ("rate_limit", 429),
        "ModelNotReadyException": ("overloaded", 429),
        "InternalServerException": ("api", 500),
        "InternalFailure": ("api", 500),
        "ServiceUnavailableException": ("overloaded", 503),
    }
)
_TYPES: Mapping[FaultKind, str] = MappingProxyType(
    {
        "invalid_request": "ValidationException",
        "authentication": "UnrecognizedClientException",
        "payment": "ServiceQuotaExceededException",
        "permission": "AccessDeniedException",
        "not_found": "ResourceNotFoundException",
        "method": "ValidationException",
        "conflict": "ConflictException",
        "too_large": "ValidationException",
        "rate_limit": "ThrottlingException",
        "context_length": "ValidationException",
        "content_filter": "ValidationException",
        "overloaded": "ServiceUnavailableException",
        "timeout": "ModelTimeoutException",
        "api": "InternalServerException",
    }
)
# What ConverseStream can say in a stream.
_IN_STREAM: Mapping[FaultKind, str] = MappingProxyType(
    {
        "rate_limit": "throttlingException",
        "overloaded": "serviceUnavailableException",
        "invalid_request": "validationException",
        "context_length": "validationException",
        "content_filter": "validationException",
    }
)
# The number of an AWS account, which stands in messages outside of ARNs too.
_ACCOUNT = re.compile(r"\b\d{12}\b")


def _scrubbed(message: str) -> str:
    return scrubbed(_ACCOUNT.sub("***", message))


def _error_type(told: Json) -> str | None:
    """The bare name: `com.amazon.coral.validate#ValidationException:http://…` is a ValidationException."""
    return told.partition(":")[0].rpartition("#")[2] or None if isinstance(told, str) else None


def _fault(
    type_: str | None,
    message: Json,
    status: int | None,
    wait: float | None = None,
    request_id: str | None = None,
) -> Fault:
    """`status` is None within a stream, where the type alone says which it is."""
    kind, usual = _FAULTS.get(type_ or "", ("api" if status is None else kind_of(status), 500))
    text = message if isinstance(message, str) and message.strip() else "the provider gave no reason"
    return Fault(
        usual if status is None else status,
        refined(kind, text),
        _scrubbed(text),
        type=type_,
        retry_after=wait,
        request_id=request_id,
    )


def _read_error(status: int, headers: Headers, body: bytes) -> Fault:
    try:
        envelope = decode(body)
    except UNREADABLE:
        envelope = {"message": body.decode("utf-8", "replace").strip()}
    if not isinstance(envelope, dict):
        envelope = {}
    inner = envelope.get("Output")  # of a front end that did not get as far as the service
    told = header(headers, "x-amzn-errortype") or envelope.get("__type") or envelope.get("code")
    if told is None and isinstance(inner, dict):
        told = inner.get("__type")
    type_ = _error_type(told)
    message = next((envelope[key] for key in ("message", "Message", "errorMessage") if envelope.get(key)), type_)
    return _fault(type_, message, status, retry_after(headers), header(headers, "x-amzn-requestid"))


def _write_error(fault: Fault) -> tuple[int, list[tuple[str, str]], bytes]:
    type_ = fault.type if fault.type in _FAULTS else _TYPES[fault.kind]
    headers = [("content-type", "application/json"), ("x-amzn-errortype", str(type_))]
    if fault.retry_after is not None:
        headers.append(("retry-after", str(math.ceil(fault.retry_after))))
    return fault.status, headers, encode({"message": _scrubbed(fault.message)})


# --- streams: reading

_OPEN_LIMIT = 16 * 1024 * 1024
"""Characters of one block that is held until it is whole; as much as one frame may have."""


@dataclass(slots=True)
class _Open:
    """A block between its first delta, or its start, and its stop."""

    part: int
    kind: Literal["text", "thinking", "tool_call", "redacted", "opaque"]
    value: Block = field(default_factory=dict)
    """Of a block that only this dialect knows: its start and its deltas."""
    pieces: list[str] = field(default_factory=list)
    """Of what is held until it is whole."""
    size: int = 0
    has_delta: bool = False


class _Reader:
    """Text and reasoning begin with their first delta: Bedrock sends a contentBlockStart for tools alone. What only
    this dialect knows (the result of a tool that Bedrock ran, a picture), and what is redacted, is told when it is
    whole. The usage comes after the stop, and ends the stream."""

    def __init__(self) -> None:
        self._decoder = aws_eventstream.EventStreamDecoder()
        self._blocks: dict[int, _Open] = {}
        self._parts = 0
        self._started = False
        self._finished = False
        self._over = False

    def frames(self, data: bytes) -> list[Frame]:
        return self._decoder.feed(data)

    def close(self) -> tuple[list[Frame], list[ReplyEvent]]:
        """A stream that stopped but told no usage is whole all the same; a torn frame after it is not."""
        torn = self._decoder.close()
        if self._over:
            return torn, []
        self._over = True
        if self._finished and not torn:
            return torn, [Ended()]
        return torn, [Failed(Fault(502, "api", "the provider's stream broke off", "truncated_stream"))]

    def read(self, frame: Frame) -> list[ReplyEvent]:
        if self._over:
            return []
        if isinstance(frame, aws_eventstream.AwsFrame) and not frame.is_event:
            return self._failed(frame)
        try:
            event = decode_reply(frame.data) if frame.data else {}
        except UNREADABLE:
            return [Garbled("an event is not valid JSON")]
        if not isinstance(event, dict):
            return [Garbled("an event is no object")]
        if frame.event.endswith("Exception"):
            return self._failed(frame)
        read = _READ_EVENT.get(frame.event)
        return [] if read is None else read(self, event)  # a new kind of event is skipped

    def _failed(self, frame: Frame) -> list[ReplyEvent]:
        """An exception of the service model, or an error that the model does not name, told in headers alone."""
        self._over = True
        headers = frame.headers if isinstance(frame, aws_eventstream.AwsFrame) else aws_eventstream.NO_HEADERS
        try:
            told = decode(frame.data)
        except UNREADABLE:
            told = None
        told = told if isinstance(told, dict) else {}
        message = told.get("message") or told.get("Message") or headers.get(":error-message")
        type_ = frame.event[:1].upper() + frame.event[1:]
        if type_ == "ModelStreamErrorException" and (status := _status(told.get("originalStatusCode"))):
            # The host of the model said more than its messenger.
            fault = _fault(type_, told.get("originalMessage") or message, None)
            return [Failed(replace(fault, status=status, kind=kind_of(status)))]
        return [Failed(_fault(type_ or None, message, None))]

    def _start(self, event: Block) -> list[ReplyEvent]:
        del event
        if self._started:
            return [Garbled("messageStart came twice")]
        self._started = True
        return [ReplyStarted(None, None)]

    def _begin(self, index: int, kind: Literal["text", "thinking", "tool_call", "redacted", "opaque"]) -> _Open:
        block = self._blocks[index] = _Open(self._parts, kind)
        if kind not in ("redacted", "opaque"):  # those begin when they are told
            self._parts += 1
        return block

    def _block_start(self, event: Block) -> list[ReplyEvent]:
        index, start = event.get("contentBlockIndex"), event.get("start")
        if not isinstance(index, int) or not isinstance(start, dict):
            return [Garbled("contentBlockStart without an index or a start")]
        if index in self._blocks:
            return [Garbled(f"block {index} began twice")]
        use = start.get("toolUse")
        if isinstance(use, dict) and use.get("type") in (None, "tool_use"):
            id, name = use.get("toolUseId"), use.get("name")
            if isinstance(id, str) and isinstance(name, str):
                block = self._begin(index, "tool_call")
                return [PartStarted(block.part, "tool_call", id, name, extras=rest_of(use, _TOOL_USE | {"type"}))]
        if not start:
            return []  # of a block that its deltas will tell
        self._begin(index, "opaque").value = dict(start)
        return []

    def _block_delta(self, event: Block) -> list[ReplyEvent]:
        index, delta = event.get("contentBlockIndex"), event.get("delta")
        if not isinstance(index, int) or not isinstance(delta, dict):
            return [Garbled("contentBlockDelta without an index or a delta")]
        block = self._blocks.get(index)
        # Nearly every event is one of these two.
        if isinstance(text := delta.get("text"), str):
            return self._grow(index, block, "text", text)
        if isinstance(use := delta.get("toolUse"), dict) and block is not None and block.kind == "tool_call":
            return self._grow(index, block, "tool_call", str(use.get("input") or ""))
        if isinstance(told := delta.get("reasoningContent"), dict):
            return self._reason(index, block, told)
        if "citation" in delta:
            block, events = (block, []) if block is not None else self._begin_talk(index, "text")
            if block.kind != "text":
                return [Garbled(f"a citation in a block of {block.kind}")]
            return [*events, PartNoted(block.part, {_CITATIONS: [delta["citation"]]})]
        return self._hold(index, block, delta)

    def _grow(
        self, index: int, block: _Open | None, kind: Literal["text", "thinking", "tool_call"], text: str
    ) -> list[ReplyEvent]:
        if block is not None and block.kind != kind:
            return [Garbled(f"a delta of {kind} in a block of {block.kind}")]
        if not text:
            return []
        events: list[ReplyEvent] = []
        if block is None:
            block, events = self._begin_talk(index, kind)
        block.has_delta = True
        return [*events, PartDelta(block.part, text)]

    def _begin_talk(self, index: int, kind: str) -> tuple[_Open, list[ReplyEvent]]:
        """A block of which no start was sent."""
        talk: Literal["text", "thinking"] = "text" if kind == "text" else "thinking"
        block = self._begin(index, talk)
        return block, [PartStarted(block.part, talk)]

    def _reason(self, index: int, block: _Open | None, told: Block) -> list[ReplyEvent]:
        events: list[ReplyEvent] = []
        if isinstance(data := told.get("redactedContent"), str):
            block = block or self._begin(index, "redacted")
            return events if block.kind != "redacted" else self._keep(block, data)
        if isinstance(text := told.get("text"), str):
            events += self._grow(index, block, "thinking", text)
        if isinstance(signature := told.get("signature"), str) and signature:
            block = self._blocks.get(index)
            if block is None:
                block, begun = self._begin_talk(index, "thinking")
                events += begun
            if block.kind == "thinking":
                events.append(PartSigned(block.part, signature))
        return events

    def _keep(self, block: _Open, text: str) -> list[ReplyEvent]:
        block.pieces.append(text)
        block.size += len(text)
        if block.size > _OPEN_LIMIT:
            self._over = True
            return [Failed(Fault(502, "api", f"the provider sent one block of more than {_OPEN_LIMIT} characters"))]
        return []

    def _hold(self, index: int, block: _Open | None, delta: Block) -> list[ReplyEvent]:
        """More of what only this dialect knows: texts grow, lists grow, all else replaces what was there."""
        block = block or self._begin(index, "opaque")
        if block.kind != "opaque":
            return [Garbled(f"a delta that is not of a block of {block.kind}")]
        _append(block.value, delta)
        return self._keep(block, encode(delta).decode())

    def _block_stop(self, event: Block) -> list[ReplyEvent]:
        index = event.get("contentBlockIndex")
        block = self._blocks.pop(index, None) if isinstance(index, int) else None
        if block is None:
            return []  # an empty block: its start was not sent, and it had no delta
        match block.kind:
            case "tool_call" if not block.has_delta:
                return [PartDelta(block.part, "{}"), PartEnded(block.part)]
            case "text" | "thinking" | "tool_call":
                return [PartEnded(block.part)]
            case "redacted":
                part = self._next_part()
                data = _read_redacted(_joined(block.pieces))
                return [PartStarted(part, "redacted_thinking", data=data), PartEnded(part)]
            case "opaque":
                part = self._next_part()
                return [_whole_part(block.value, part), PartEnded(part)]
            case _:
                assert_never(block.kind)

    def _next_part(self) -> int:
        self._parts += 1
        return self._parts - 1

    def _message_stop(self, event: Block) -> list[ReplyEvent]:
        """Every block is over by now, whether it was told or not."""
        events: list[ReplyEvent] = []
        for index in sorted(self._blocks):
            events += self._block_stop({"contentBlockIndex": index})
        finish = _read_finish(event.get("stopReason"), event.get("additionalModelResponseFields"))
        self._finished = True
        if finish is not None:
            events.append(Finished(finish))
        if noted := rest_of(event, frozenset({"stopReason", _PADDING})):
            events.append(Noted(noted))
        return events

    def _metadata(self, event: Block) -> list[ReplyEvent]:
        events: list[ReplyEvent] = []
        told = event.get("usage")
        noted = dict(rest_of(event, frozenset({"usage", _PADDING})))
        if isinstance(told, dict):
            events.append(UsageSeen(_read_usage(told)))
            if rest := rest_of(told, _USAGE):
                noted["usage"] = rest
        if noted:
            events.append(Noted(noted))
        if self._finished:
            self._over = True
            events.append(Ended())
        return events


_READ_EVENT: Mapping[str, Callable[[_Reader, Block], list[ReplyEvent]]] = MappingProxyType(
    {
        "messageStart": _Reader._start,
        "contentBlockStart": _Reader._block_start,
        "contentBlockDelta": _Reader._block_delta,
        "contentBlockStop": _Reader._block_stop,
        "messageStop": _Reader._message_stop,
        "metadata": _Reader._metadata,
    }
)


def _status(told: Json) -> int | None:
    return told if isinstance(told, int) and 400 <= told <= 599 else None


def _joined(pieces: list[str]) -> str:
    """One base64 of what came in several, each of which has an end of its own."""
    if len(pieces) == 1:
        return pieces[0]
    return base64.b64encode(b"".join(_bytes(piece) or b"" for piece in pieces)).decode()


def _append(value: Block, delta: Mapping[str, Json]) -> None:
    for key, more in delta.items():
        before = value.get(key)
        if isinstance(before, str) and isinstance(more, str):
            value[key] = before + more
        elif isinstance(before, list) and isinstance(more, list):
            value[key] = [*before, *more]
        elif isinstance(before, dict) and isinstance(more, dict):
            _append(before, more)
        elif isinstance(before, dict) and isinstance(more, list):  # toolResult: its deltas are its content
            before["content"] = [*as_list(before.get("content") or [], key), *more]
        else:
            value[key] = more


def _whole_part(value: Block, part: int) -> PartStarted:
    """What came in pieces and is known once it is whole: a picture, or what only this dialect knows."""
    if value.keys() == {"image"} and isinstance(value["image"], dict):
        image = _read_image(value, "image")
        if isinstance(image, Image):
            return PartStarted(part, "media", media=image)
    return PartStarted(part, "opaque", opaque=_whole(value))


def _whole(value: Block) -> Opaque:
    """A tool's input comes as pieces of JSON text."""
    use = value.get("toolUse")
    if isinstance(use, dict) and isinstance(text := use.get("input"), str):
        value = {"toolUse": {**use, "input": arguments_of(text) or {}}}
    return _opaque(value)


# --- streams: writing


class _Writer:
    """A text or a reasoning opens its block with its first word, as Bedrock does, so that there is no empty one. The
    stop and the usage are written at the end, when both are known."""

    def __init__(self, call: Call) -> None:
        del call  # a stream of this format tells neither model nor id
        self._started = False
        self._over = False
        self._indexes: dict[int, int] = {}
        """Of the blocks that are open, by part."""
        self._kinds: dict[int, str] = {}
        self._signed: set[int] = set()
        """Thinking that has a signature."""
        self._next = 0
        self._calls = 0
        self._id: str | None = None
        self._finish: Finish | None = None
        self._usage: Usage | None = None
        self._noted: Block = {}
        self._out: list[bytes] = []

    def write(self, event: ReplyEvent) -> bytes:
        if self._over or getattr(event, "choice", None):
            return b""
        match event:
            case PartDelta():
                self._grow(event)
            case PartStarted():
                self._begin(event)
            case PartEnded():
                self._end(event.part)
            case PartSigned():
                if self._kinds.get(event.part) == "thinking":
                    self._signed.add(event.part)
                    self._delta(event.part, {"reasoningContent": {"signature": event.signature}})
            case PartNoted():
                self._cite(event)
            case ReplyStarted():
                self._start(event)
            case UsageSeen():
                self._usage = event.usage
            case Finished():
                self._finish = event.finish
                self._note(event.extras)
            case Noted():
                self._note(event.extras)
            case Ping() | Garbled():
                pass
            case Failed():
                self._fail(event.fault)
            case Ended():
                self._finish_reply()
            case _:
                assert_never(event)
        out, self._out = b"".join(self._out), []
        return out

    def _say(self, kind: str, payload: Block) -> None:
        self._out.append(aws_eventstream.event(kind, encode(payload)))

    def _start(self, event: ReplyStarted) -> None:
        if self._started:
            return
        self._started = True
        self._id = event.id
        self._note(event.extras)
        self._say("messageStart", {"role": "assistant"})

    def _note(self, extras: Extras) -> None:
        """What a Bedrock stream says besides; the extras of another dialect have other names."""
        self._noted.update((key, value) for key, value in extras.items() if key in _NOTED)

    def _begin(self, event: PartStarted) -> None:
        self._start(ReplyStarted(None, None))
        self._kinds[event.part] = event.kind
        match event.kind:
            case "tool_call":
                use: Block = {
                    "toolUseId": tool_id(event.id or _made_id(self._id, self._calls)),
                    "name": event.name or "",
                }
                self._calls += 1
                self._say("contentBlockStart", {"start": {"toolUse": use}, "contentBlockIndex": self._open(event.part)})
            case "redacted_thinking":
                self._delta(event.part, {"reasoningContent": {"redactedContent": _write_redacted(event.data or "")}})
            case "media":
                if event.media is not None:
                    self._begin_media(event.media, event.part)
            case "opaque":
                self._begin_opaque(event)
            case "text" | "thinking" | "refusal":
                pass
            case _:
                assert_never(event.kind)

    def _begin_media(self, media: Image | Audio, part: int) -> None:
        block = _answered_media(media)
        match block:
            case {"image": {"format": format, **rest}}:
                start = {"image": {"format": format}}
                self._say("contentBlockStart", {"start": start, "contentBlockIndex": self._open(part)})
                self._delta(part, {"image": rest})
            case _:
                self._delta(part, block)

    def _begin_opaque(self, event: PartStarted) -> None:
        """A part that only another dialect knows is left out; one of ours goes as Bedrock sends it."""
        opaque = event.opaque
        if opaque is None or opaque.dialect != NAME or not isinstance(opaque.value, dict):
            return
        match opaque.value:
            case {"toolResult": dict(result)}:
                start: Block = {k: v for k, v in result.items() if k != "content"}
                self._say(
                    "contentBlockStart", {"start": {"toolResult": start}, "contentBlockIndex": self._open(event.part)}
                )
                if content := result.get("content"):
                    self._delta(event.part, {"toolResult": content})
            case {"toolUse": dict(use)}:
                start = {k: v for k, v in use.items() if k != "input"}
                self._say(
                    "contentBlockStart", {"start": {"toolUse": start}, "contentBlockIndex": self._open(event.part)}
                )
                self._delta(event.part, {"toolUse": {"input": encode(use.get("input", {})).decode()}})
            case {"image": {"format": format, **rest}}:
                start = {"image": {"format": format}}
                self._say("contentBlockStart", {"start": start, "contentBlockIndex": self._open(event.part)})
                self._delta(event.part, {"image": rest})
            case value:
                self._delta(event.part, value)

    def _open(self, part: int) -> int:
        index = self._indexes.get(part)
        if index is None:
            index = self._indexes[part] = self._next
            self._next += 1
        return index

    def _delta(self, part: int, delta: Block) -> None:
        self._say("contentBlockDelta", {"delta": delta, "contentBlockIndex": self._open(part)})

    def _grow(self, event: PartDelta) -> None:
        if not event.text:
            return
        match self._kinds.get(event.part):
            case "text" | "refusal":
                self._delta(event.part, {"text": event.text})
            case "thinking":
                self._delta(event.part, {"reasoningContent": {"text": event.text}})
            case "tool_call":
                self._delta(event.part, {"toolUse": {"input": event.text}})
            case _:
                pass  # redacted and opaque parts have no deltas

    def _cite(self, event: PartNoted) -> None:
        citations = event.extras.get(_CITATIONS)
        if self._kinds.get(event.part) == "text" and isinstance(citations, list):
            for citation in citations:
                self._delta(event.part, {"citation": citation})

    def _end(self, part: int) -> None:
        kind = self._kinds.pop(part, None)
        if kind == "thinking" and part in self._indexes and part not in self._signed:
            self._delta(part, {"reasoningContent": {"signature": UNSIGNED}})
        index = self._indexes.pop(part, None)
        if index is not None:
            self._say("contentBlockStop", {"contentBlockIndex": index})

    def _finish_reply(self) -> None:
        self._start(ReplyStarted(None, None))
        for part in sorted(self._indexes):
            self._end(part)
        finish = self._finish
        stop: Block = {"stopReason": _stop_reason(finish, self._calls > 0)}
        if (more := self._noted.pop("additionalModelResponseFields", None)) is not None:
            stop["additionalModelResponseFields"] = more
        elif finish is not None and finish.stop_sequence is not None:
            stop["additionalModelResponseFields"] = {"stop_sequence": finish.stop_sequence}
        self._say("messageStop", stop)
        usage = _write_usage(self._usage, self._noted.pop("usage", None))
        self._say("metadata", {"usage": usage, "metrics": {"latencyMs": 0}, **self._noted})
        self._over = True

    def _fail(self, fault: Fault) -> None:
        kind = _IN_STREAM.get(fault.kind, "internalServerException")
        self._out.append(aws_eventstream.exception(kind, encode({"message": _scrubbed(fault.message)})))
        self._over = True


_NOTED = frozenset({"metrics", "usage", *_REPLY_EXTRAS})

# --- the dialect


class BedrockConverse:
    name = NAME
    title = TITLE
    routes = (
        Route("POST", "/model/{model}/converse", "chat"),
        Route("POST", "/model/{model}/converse-stream", "chat"),
    )
    stream_type = aws_eventstream.MEDIA_TYPE

    def read_call(self, raw: bytes, operation: Operation, headers: Headers, path: str) -> Call:
        del headers
        model, stream = model_of(path)
        try:
            probe = _probe.decode(raw)
        except UNREADABLE:
            raise _why_no_call(raw) from None
        limit = probe.inference_config.max_tokens if probe.inference_config is not None else None
        return Call(NAME, operation, model, stream, raw, max_output_tokens=limit)

    def splice(self, call: Call, model: str, host: HostProfile = UNKNOWN_HOST) -> Written:
        """The model is in the path, and usage is always told: only what of the history the model would refuse."""
        del host  # the model alone decides
        try:
            return Written(*mend(call.raw, claude=family_of(model).reasoning == "claude"))
        except ValueError as exc:
            raise BadRequest(f"the body cannot be passed on: {exc}") from exc

    def path(self, operation: Operation, model: str, *, stream: bool) -> str:
        """The model is one segment of it, whatever it holds: an ARN has colons and slashes."""
        if operation != "chat":
            raise Unsupported(operation, TITLE)
        return f"/model/{quote(model, safe='')}/{'converse-stream' if stream else 'converse'}"

    def read_chat(self, call: Call) -> Chat:
        return _read_chat(call)

    def write_chat(self, chat: Chat, model: str, host: HostProfile = UNKNOWN_HOST) -> Written:
        del host  # the model alone decides
        if chat.dialect == NAME:
            return Written(encode(_write_own(chat, family_of(model))))
        crossing = _Crossing(chat, model)
        body = encode(crossing.body())
        return Written(body, tuple(sorted(crossing.dropped)))

    def read_reply(self, body: bytes) -> Reply:
        return _read_reply(body)

    def write_reply(self, reply: Reply) -> bytes:
        return _write_reply(reply)

    def can_say(self, part: Part) -> bool:
        if isinstance(part, Image | Audio):
            return "text" not in _answered_media(part)
        return not isinstance(part, Opaque)

    def reader(self, content_type: str) -> _Reader:
        del content_type
        return _Reader()

    def writer(self, call: Call) -> _Writer:
        return _Writer(call)

    def read_error(self, status: int, headers: Headers, body: bytes) -> Fault:
        return _read_error(status, headers, body)

    def write_error(self, fault: Fault) -> tuple[int, list[tuple[str, str]], bytes]:
        return _write_error(fault)

    def write_models(self, models: Sequence[ModelCard]) -> bytes:
        """As ListFoundationModels of Bedrock's control plane does."""
        rows = [
            {
                "modelId": card.id,
                "modelName": card.id,
                "providerName": card.owned_by,
                "responseStreamingSupported": True,
            }
            for card in models
        ]
        return encode({"modelSummaries": rows})


PLUGIN = BedrockConverse()
