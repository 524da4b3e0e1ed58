"""Anthropic's Messages API, both directions: what its callers send and read, and what its hosts take and give.

The file is in the order of a call: the cheap view and the raw lane; reading a request; writing one (first for a chat
that is of this dialect already, then for one that crosses over from another); replies; streams; errors; models. What
becomes of each field of a chat that crosses over is told by `FIELDS`, and what the models of a generation can be asked
by `claude.py`. It knows nothing of hosts, keys, routing or Envoy.
"""

from __future__ import annotations

import base64
import binascii
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Literal, assert_never

import msgspec

from ..codecs import json_splice, sse
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
    kind_name,
    maybe_bool,
    maybe_int,
    maybe_number,
    maybe_text,
    object_in,
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
from .anthropic_history import mend
from .base import FieldSupport, Headers, ModelCard, Route, header, made_id, retry_after
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

NAME = "anthropic_messages"
TITLE = "Anthropic Messages"

Block = dict[str, Json]
"""A JSON object of the wire."""

# --- what becomes of a chat that crosses over


FIELDS: Mapping[str, FieldSupport] = MappingProxyType(
    {
        "dialect": FieldSupport("mapped", "not sent; it says how to name what is dropped"),
        "model": FieldSupport("mapped", "model: the name under which the chosen host knows it"),
        "messages": FieldSupport(
            "mapped",
            "system and developer turns become system blocks in order; tool turns become tool_result blocks at the "
            "head of a user turn; turns of one role in a row become one; empty text is left out; thinking without a "
            "signature, names, image detail and foreign part fields are dropped; audio, uploaded files and parts that "
            "only another format knows are refused; a conversation that does not begin with the user is refused",
        ),
        "stream": FieldSupport("mapped", "stream"),
        "include_usage": FieldSupport("mapped", "not sent: a stream of this format always tells its usage"),
        "tools": FieldSupport(
            "mapped",
            "name, description, input_schema, strict (dropped for models without structured outputs); a tool that is "
            "no function is refused; where the history has tool calls and the request no tools, stubs are sent that "
            "may not be called",
        ),
        "tool_choice": FieldSupport(
            "mapped",
            "auto, required → any, none, a function → tool; dropped without tools, and a forced call is dropped where "
            "thinking is on",
        ),
        "parallel_tool_calls": FieldSupport(
            "mapped", "false → tool_choice.disable_parallel_tool_use, with auto made explicit"
        ),
        "max_output_tokens": FieldSupport("mapped", "max_tokens; filled with what every model of the generation takes"),
        "temperature": FieldSupport(
            "mapped", "over 1 is refused; dropped while thinking is on and for models that take no sampling settings"
        ),
        "top_p": FieldSupport("mapped", "dropped like temperature, and beside a temperature from Claude 4.1 on"),
        "top_k": FieldSupport("mapped", "dropped like temperature"),
        "stop": FieldSupport("mapped", "stop_sequences; those of white space only are dropped"),
        "n": FieldSupport("refused", "more than one answer"),
        "seed": FieldSupport("dropped", ""),
        "presence_penalty": FieldSupport("dropped", ""),
        "frequency_penalty": FieldSupport("dropped", ""),
        "logprobs": FieldSupport("refused", "where they are asked for"),
        "top_logprobs": FieldSupport("refused", "where they are asked for"),
        "response_format": FieldSupport(
            "mapped",
            "json_schema → output_config.format from Claude 4.5 on, objects closed where they were left open, refused "
            "before; json_object is dropped: the caller's own prompt asks for JSON, nothing enforces it",
        ),
        "reasoning": FieldSupport(
            "mapped",
            "effort → output_config.effort and adaptive thinking from Claude 4.6 on, a budget of thinking tokens from "
            "3.7 to 4.5, dropped before; a level that the model does not have is refused",
        ),
        "service_tier": FieldSupport("mapped", "auto, default → standard_only; others are dropped"),
        "user": FieldSupport("mapped", "metadata.user_id, dropped if it is longer than that may be"),
        "metadata": FieldSupport("dropped", ""),
        "extras": FieldSupport(
            "dropped", "but audio output, web search, the old functions and odd tool choices are refused"
        ),
        "needed": FieldSupport("refused", "whatever it names"),
    }
)

# Extras of this dialect which no other provider can honour and which the answer depends on.
_NEEDED = ("container", "mcp_servers")
_MAX_USER_ID = 256  # the API reference's limit for metadata.user_id

# --- the cheap view


class _Probe(msgspec.Struct):
    model: str
    stream: bool | None = None
    max_tokens: int | None = None


_probe = msgspec.json.Decoder(_Probe)


def _why_no_call(raw: bytes) -> BadRequest:
    """What is wrong with a body that the probe refused."""
    try:
        body = read_body(raw)
        if "model" not in body:
            return BadRequest("model is missing: name the model that shall answer", param="model")
        as_text(body["model"], "model")
        maybe_bool(body.get("stream"), "stream")
        maybe_int(body.get("max_tokens"), "max_tokens")
    except BadRequest as exc:
        return exc
    return BadRequest("the body says model, stream or max_tokens twice, and not alike")


# --- reading a request: blocks

_TEXT = frozenset({"type", "text", "cache_control"})
_SOURCED = frozenset({"type", "source", "cache_control"})
_DOCUMENT = frozenset({"type", "source", "title", "cache_control"})
_TOOL_USE = frozenset({"type", "id", "name", "input", "cache_control"})
_TOOL_RESULT = frozenset({"type", "tool_use_id", "content", "is_error", "cache_control"})
_THINKING = frozenset({"type", "thinking", "signature"})
_REDACTED = frozenset({"type", "data"})


def _read_cache(block: Mapping[str, Json], known: frozenset[str]) -> tuple[CacheMark | None, Extras]:
    """The cache mark of a block or tool, and its other unknown fields. A mark of an unknown type is no mark of ours;
    of a known one, fields besides ttl stay behind in the extras under its own name."""
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
    cache, extras = _read_cache(block, _TEXT)
    return Text(as_text(block.get("text"), f"{path}.text"), cache, extras)


def _opaque(block: Block, path: str) -> Opaque:
    return Opaque(NAME, as_text(block.get("type"), f"{path}.type"), block)


_BASE64_KEYS = frozenset({"type", "media_type", "data"})


def _read_source(value: Json, path: str) -> Inline | Url | FileRef | None:
    """None for a source that only this dialect knows."""
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
        return _opaque(block, path)
    cache, extras = _read_cache(block, _SOURCED)
    return Image(source, None, cache, extras)


def _read_document(block: Block, path: str) -> Part:
    source = _read_source(block.get("source"), f"{path}.source")
    if source is None:
        return _opaque(block, path)
    if isinstance(source, Url):  # a document by URL can be nothing but a PDF
        source = Url(source.url, "application/pdf")
    cache, extras = _read_cache(block, _DOCUMENT)
    return Document(source, maybe_text(block.get("title"), f"{path}.title"), cache, extras)


def _read_tool_use(block: Block, path: str) -> Part:
    cache, extras = _read_cache(block, _TOOL_USE)
    arguments = encode(as_object(block.get("input", {}), f"{path}.input")).decode()
    return ToolCall(
        original_id(as_text(block.get("id"), f"{path}.id")),
        as_text(block.get("name"), f"{path}.name"),
        arguments,
        cache,
        extras=extras,
    )


def _read_tool_result(block: Block, path: str) -> Part:
    cache, extras = _read_cache(block, _TOOL_RESULT)
    content = block.get("content")
    return ToolResult(
        original_id(as_text(block.get("tool_use_id"), f"{path}.tool_use_id")),
        () if content is None else _read_content(content, f"{path}.content"),
        bool(maybe_bool(block.get("is_error"), f"{path}.is_error")),
        cache,
        extras,
    )


def _read_thinking(block: Block, path: str) -> Part:
    """A mark of ours stands where no Claude signed."""
    signature = maybe_text(block.get("signature"), f"{path}.signature")
    return Thinking(
        as_text(block.get("thinking"), f"{path}.thinking"),
        None if signature is not None and signature.startswith(MARK) else signature,
        rest_of(block, _THINKING),
    )


def _read_redacted(block: Block, path: str) -> Part:
    return RedactedThinking(as_text(block.get("data"), f"{path}.data"), rest_of(block, _REDACTED))


_READ_BLOCK: Mapping[str, Callable[[Block, str], Part]] = MappingProxyType(
    {
        "text": _read_text,
        "image": _read_image,
        "document": _read_document,
        "tool_use": _read_tool_use,
        "tool_result": _read_tool_result,
        "thinking": _read_thinking,
        "redacted_thinking": _read_redacted,
    }
)


def _read_block(value: Json, path: str) -> Part:
    """What is no block of ours (search_result, server_tool_use and the results of server tools, …) stays whole."""
    block = as_object(value, path)
    return _READ_BLOCK.get(as_text(block.get("type"), f"{path}.type"), _opaque)(block, path)


def _read_content(value: Json, path: str) -> tuple[Part, ...]:
    if isinstance(value, str):
        return (Text(value),)
    if not isinstance(value, list):
        raise BadRequest(f"{path} must be a string or a list of blocks, not {kind_name(value)}", param=path)
    return tuple(_read_block(block, f"{path}[{i}]") for i, block in enumerate(value))


# --- reading a request: the rest

_ROLES: Mapping[str, Role] = MappingProxyType({"user": "user", "assistant": "assistant", "system": "system"})
_MESSAGE = frozenset({"role", "content"})
_CHAT = frozenset(
    {
        "model",
        "messages",
        "system",
        "max_tokens",
        "stop_sequences",
        "stream",
        "temperature",
        "top_p",
        "top_k",
        "metadata",
        "tools",
        "tool_choice",
        "thinking",
        "output_config",
        "output_format",
        "service_tier",
    }
)
_TOOL = frozenset({"name", "description", "input_schema", "strict", "cache_control"})


def _read_message(value: Json, path: str) -> Message:
    message = as_object(value, path)
    role = _ROLES.get(as_text(message.get("role"), f"{path}.role"))
    if role is None:
        raise BadRequest(
            f"{path}.role is {message['role']!r}; it must be user, assistant or system", param=f"{path}.role"
        )
    return Message(role, _read_content(message.get("content"), f"{path}.content"), extras=rest_of(message, _MESSAGE))


def _read_tool(value: Json, path: str) -> Tool:
    """A tool of the caller has no type, or the type custom; every other is the provider's own."""
    tool = as_object(value, path)
    if tool.get("type") not in (None, "custom"):
        return _opaque(tool, path)
    cache, extras = _read_cache(tool, _TOOL)
    return FunctionTool(
        as_text(tool.get("name"), f"{path}.name"),
        maybe_text(tool.get("description"), f"{path}.description"),
        tool.get("input_schema"),
        maybe_bool(tool.get("strict"), f"{path}.strict"),
        cache,
        extras,
    )


_READ_CHOICE: Mapping[str, Literal["auto", "required", "none"]] = MappingProxyType(
    {"auto": "auto", "any": "required", "none": "none"}
)
_TOOL_CHOICE = frozenset({"type", "name", "disable_parallel_tool_use"})


def _read_tool_choice(value: Json) -> tuple[ToolChoice | None, bool | None, Extras]:
    """The choice, whether calls may be parallel, and what is left."""
    if value is None:
        return None, None, NO_EXTRAS
    choice = as_object(value, "tool_choice")
    kind = as_text(choice.get("type"), "tool_choice.type")
    single = maybe_bool(choice.get("disable_parallel_tool_use"), "tool_choice.disable_parallel_tool_use")
    parallel = None if single is None else not single
    if kind == "tool":
        read = ToolChoice("tool", as_text(choice.get("name"), "tool_choice.name"))
    elif kind in _READ_CHOICE:
        read = ToolChoice(_READ_CHOICE[kind])
    else:
        raise BadRequest(f"tool_choice.type is {kind!r}; it must be auto, any, tool or none", param="tool_choice.type")
    return read, parallel, rest_of(choice, _TOOL_CHOICE)


def _read_reasoning(thinking: Json, effort: Json) -> tuple[Reasoning | None, Extras]:
    """The reasoning, and a `thinking` that is of a type we do not know, whole."""
    level = maybe_text(effort, "output_config.effort")
    if thinking is None:
        return (None if level is None else Reasoning(effort=level)), NO_EXTRAS
    config = as_object(thinking, "thinking")
    mode = as_text(config.get("type"), "thinking.type")
    match mode:
        case "enabled" | "disabled" | "adaptive":
            budget = maybe_int(config.get("budget_tokens"), "thinking.budget_tokens")
            return Reasoning(mode, level, budget, rest_of(config, frozenset({"type", "budget_tokens"}))), NO_EXTRAS
        case _:
            return (None if level is None else Reasoning(effort=level)), {"thinking": config}


def _read_format(value: Json) -> ResponseFormat | None:
    match value:
        case {"type": "json_schema", "schema": dict(schema), **rest} if not rest:
            return ResponseFormat("json_schema", schema)
        case _:
            return None


def _read_output(body: Block) -> tuple[ResponseFormat | None, Json, Extras]:
    """The response format, the effort, and what is left of output_config. `output_format` is the beta's name for
    output_config.format; it is read as such."""
    value = body.get("output_config")
    config = {} if value is None else dict(as_object(value, "output_config"))
    legacy = body.get("output_format")
    if legacy is not None:
        config.setdefault("format", legacy)
    chosen = _read_format(config.get("format"))
    if chosen is not None:
        del config["format"]
    effort = config.pop("effort", None)
    rest = rest_of(config, frozenset())
    return chosen, effort, {"output_config": rest} if rest else NO_EXTRAS


# Claude Code's first line of a system prompt. It differs with every request, so that no other provider's prefix cache
# would ever be hit; only Anthropic reads it.
_BILLING = "x-anthropic-billing-header:"


def _read_system(value: Json) -> tuple[Message, ...]:
    if value is None:
        return ()
    parts = _read_content(value, "system")
    kept = tuple(part for part in parts if not (isinstance(part, Text) and _is_billing(part.text)))
    extras = NO_EXTRAS if len(kept) == len(parts) else {_BILLING.rstrip(":"): True}
    return (Message("system", kept, extras=extras),)


def _is_billing(text: str) -> bool:
    """Whether a block is that line and nothing else."""
    return text.startswith(_BILLING) and "\n" not in text.rstrip()


def _read_stop(value: Json) -> tuple[str, ...]:
    if value is None:
        return ()
    return tuple(as_text(stop, f"stop_sequences[{i}]") for i, stop in enumerate(as_list(value, "stop_sequences")))


def _read_chat(call: Call) -> Chat:
    try:
        body = as_object(decode(call.raw), "the body")
    except UNREADABLE:
        raise _why_no_call(call.raw) from None
    tools = body.get("tools")
    metadata = {} if body.get("metadata") is None else as_object(body["metadata"], "metadata")
    choice, parallel, choice_rest = _read_tool_choice(body.get("tool_choice"))
    response_format, effort, output_rest = _read_output(body)
    reasoning, thinking_rest = _read_reasoning(body.get("thinking"), effort)
    extras = {**rest_of(body, _CHAT), **output_rest, **thinking_rest}
    if choice_rest:
        extras["tool_choice"] = choice_rest
    if metadata_rest := rest_of(metadata, frozenset({"user_id"})):
        extras["metadata"] = metadata_rest
    return Chat(
        dialect=NAME,
        model=call.model,
        messages=(
            *_read_system(body.get("system")),
            *(_read_message(m, f"messages[{i}]") for i, m in enumerate(as_list(body.get("messages"), "messages"))),
        ),
        stream=call.stream,
        include_usage=call.stream,
        tools=()
        if tools is None
        else tuple(_read_tool(tool, f"tools[{i}]") for i, tool in enumerate(as_list(tools, "tools"))),
        tool_choice=choice,
        parallel_tool_calls=parallel,
        max_output_tokens=maybe_int(body.get("max_tokens"), "max_tokens"),
        temperature=maybe_number(body.get("temperature"), "temperature"),
        top_p=maybe_number(body.get("top_p"), "top_p"),
        top_k=maybe_int(body.get("top_k"), "top_k"),
        stop=_read_stop(body.get("stop_sequences")),
        response_format=response_format,
        reasoning=reasoning,
        service_tier=maybe_text(body.get("service_tier"), "service_tier"),
        user=maybe_text(metadata.get("user_id"), "metadata.user_id"),
        extras=extras or NO_EXTRAS,
        needed=tuple(name for name in _NEEDED if name in extras),
    )


# --- writing a request: what both ways share


def _source(source: Inline | Url | FileRef) -> Block:
    match source:
        case Inline():
            return {"type": "base64", "media_type": source.media_type, "data": source.data}
        case Url():
            return {"type": "url", "url": source.url}
        case FileRef():
            return {"type": "file", "file_id": source.id}
        case _:
            assert_never(source)


def _document_source(source: Inline | Url | FileRef, path: str) -> Block:
    """A text goes as text: only a PDF may be base64."""
    if not isinstance(source, Inline) or not source.media_type.startswith("text/"):
        return _source(source)
    try:
        text = base64.b64decode(source.data, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError) as exc:
        raise BadRequest(f"{path} is no base64 of UTF-8 text, as {source.media_type!r} must be", param=path) from exc
    return {"type": "text", "media_type": "text/plain", "data": text}


def _cache(mark: CacheMark) -> Block:
    return {"type": "ephemeral"} if mark.ttl is None else {"type": "ephemeral", "ttl": mark.ttl}


def _short(blocks: list[Block]) -> Json:
    """One plain text is written as a string, as most callers do; the API takes either."""
    if len(blocks) == 1 and blocks[0].keys() == {"type", "text"}:
        return blocks[0]["text"]
    return blocks


# --- writing a request of this dialect: everything goes back


def _own_block(part: Part, path: str) -> Block:
    match part:
        case Text():
            return _own({"type": "text", "text": part.text}, part.cache, part.extras)
        case Image():
            return _own({"type": "image", "source": _source(part.source)}, part.cache, part.extras)
        case Document():
            block: Block = {"type": "document", "source": _document_source(part.source, path)}
            if part.name is not None:
                block["title"] = part.name
            return _own(block, part.cache, part.extras)
        case Thinking():
            block = {"type": "thinking", "thinking": part.text}
            if part.signature is not None:
                block["signature"] = part.signature
            return _own(block, None, part.extras)
        case RedactedThinking():
            return _own({"type": "redacted_thinking", "data": part.data}, None, part.extras)
        case Refusal():
            return {"type": "text", "text": part.text}
        case ToolCall():
            return _own(
                {"type": "tool_use", "id": part.id, "name": part.name, "input": arguments_of(part.arguments) or {}},
                part.cache,
                part.extras,
            )
        case ToolResult():
            block = {"type": "tool_result", "tool_use_id": part.call_id}
            if part.parts:
                block["content"] = _short([_own_block(p, f"{path}.content[{i}]") for i, p in enumerate(part.parts)])
            if part.is_error:
                block["is_error"] = True
            return _own(block, part.cache, part.extras)
        case Opaque():
            return as_object(part.value, path)
        case Audio():
            raise Unsupported(path, TITLE, "it has no audio")
        case _:
            assert_never(part)


def _own(block: Block, cache: CacheMark | None, extras: Extras) -> Block:
    block.update(extras)
    if cache is not None:
        rest = extras.get("cache_control")
        block["cache_control"] = {**_cache(cache), **(rest if isinstance(rest, dict) else {})}
    return block


def _own_tool(tool: Tool, path: str) -> Block:
    if isinstance(tool, Opaque):
        return as_object(tool.value, path)
    block: Block = {"name": tool.name}
    if tool.description is not None:
        block["description"] = tool.description
    if tool.parameters is not None:
        block["input_schema"] = tool.parameters
    if tool.strict is not None:
        block["strict"] = tool.strict
    return _own(block, tool.cache, tool.extras)


_WRITE_CHOICE: Mapping[str, str] = MappingProxyType({"auto": "auto", "required": "any", "none": "none", "tool": "tool"})


def _choice(choice: ToolChoice, parallel: bool | None) -> Block:
    block: Block = {"type": _WRITE_CHOICE[choice.mode]}
    if choice.mode == "tool":
        block["name"] = choice.name
    if parallel is not None and choice.mode != "none":
        block["disable_parallel_tool_use"] = not parallel
    return block


def _write_own(chat: Chat, model: str) -> Block:
    """A leading system turn is the system prompt; a later one is a turn."""
    turns = list(chat.messages)
    body: Block = {"model": model}
    if chat.max_output_tokens is not None:
        body["max_tokens"] = chat.max_output_tokens
    if turns and turns[0].role == "system":
        body["system"] = _short([_own_block(part, f"system[{i}]") for i, part in enumerate(turns.pop(0).parts)])
    body["messages"] = [
        {
            "role": turn.role,
            "content": _short([_own_block(p, f"messages[{n}].content[{i}]") for i, p in enumerate(turn.parts)]),
            **turn.extras,
        }
        for n, turn in enumerate(turns)
    ]
    if chat.tools:
        body["tools"] = [_own_tool(tool, f"tools[{i}]") for i, tool in enumerate(chat.tools)]
    if chat.tool_choice is not None:
        body["tool_choice"] = _choice(chat.tool_choice, chat.parallel_tool_calls)
    if chat.stop:
        body["stop_sequences"] = list(chat.stop)
    if chat.stream:
        body["stream"] = True
    if chat.user is not None:
        body["metadata"] = {"user_id": chat.user}
    for name in ("temperature", "top_p", "top_k", "service_tier"):
        if (value := getattr(chat, name)) is not None:
            body[name] = value
    output: Block = {}
    if chat.reasoning is not None:
        if chat.reasoning.mode is not None:
            body["thinking"] = _thinking(chat.reasoning.mode, chat.reasoning.budget_tokens, chat.reasoning.extras)
        if chat.reasoning.effort is not None:
            output["effort"] = chat.reasoning.effort
    if chat.response_format is not None:
        output["format"] = {"type": "json_schema", "schema": chat.response_format.schema}
    if output:
        body["output_config"] = output
    for name, value in chat.extras.items():
        before = body.get(name)
        body[name] = {**before, **value} if isinstance(before, dict) and isinstance(value, dict) else value
    return body


def _thinking(mode: str, budget: int | None, extras: Extras) -> Block:
    return {"type": mode, **({} if budget is None else {"budget_tokens": budget}), **extras}


# --- writing a request of another dialect

_IMAGES = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp"})
_PDF = "application/pdf"
_SERVICE_TIERS: Mapping[str, str] = MappingProxyType({"auto": "auto", "default": "standard_only"})
_KINDS: Mapping[Json, BlockKind] = MappingProxyType(
    {
        "text": "text",
        "thinking": "thinking",
        "redacted_thinking": "thinking",
        "tool_use": "call",
        "tool_result": "result",
    }
)


class _Crossing(Translation[Block]):
    """One chat of another dialect on its way into this one."""

    title = TITLE

    def body(self) -> Block:
        chat = self.chat
        self._refuse()
        system, turns = self._conversation()
        tools = self._tools(turns)
        body: Block = {"model": self.model, "max_tokens": chat.max_output_tokens}
        if chat.max_output_tokens is None:
            body["max_tokens"] = self.generation.max_output
        if system:
            body["system"] = _short(system)
        body["messages"] = [{"role": turn.role, "content": _short(turn.blocks)} for turn in turns]
        if tools:
            body["tools"] = tools
        if stop := [s for s in chat.stop if s.strip()]:
            body["stop_sequences"] = stop
        self._drop_if("stop", len(stop) < len(chat.stop))
        if chat.stream:
            body["stream"] = True
        thinking = self._reasoning(body, turns)
        if choice := self._tool_choice(thinking):
            body["tool_choice"] = choice
        self._sampling(body, thinking)
        self._format(body)
        self._account(body)
        return body

    # fields

    def _account(self, body: Block) -> None:
        """Who asks, on which terms, and what has no place at all."""
        chat = self.chat
        if chat.user is not None and len(chat.user) <= _MAX_USER_ID:
            body["metadata"] = {"user_id": chat.user}
        self._drop_if("user", chat.user is not None and len(chat.user) > _MAX_USER_ID)
        if chat.service_tier is not None:
            tier = _SERVICE_TIERS.get(chat.service_tier)
            self._drop_if("service_tier", tier is None)
            if tier is not None:
                body["service_tier"] = tier
        self._drop_if("metadata", chat.metadata)
        self._drop_placeless()

    def _sampling(self, body: Block, thinking: bool) -> None:
        chat, sampling = self.chat, self.generation.sampling
        if sampling == "none" or thinking:
            if thinking and sampling != "none" and (chat.top_p or 0) >= LEAST_TOP_P_WITH_THINKING:
                body["top_p"] = chat.top_p
            for name in ("temperature", "top_p", "top_k"):
                # 1 is what the temperature is anyway
                default = name == "temperature" and chat.temperature == 1
                self._drop_if(name, getattr(chat, name) is not None and name not in body and not default)
            return
        if chat.temperature is not None:
            if not 0 <= chat.temperature <= 1:
                raise BadRequest(f"temperature is {chat.temperature!r}; {TITLE} takes 0 to 1", param="temperature")
            body["temperature"] = chat.temperature
        if chat.top_p is not None:
            if sampling == "one" and chat.temperature is not None:
                self.dropped.add("top_p")
            else:
                body["top_p"] = chat.top_p
        if chat.top_k is not None:
            body["top_k"] = chat.top_k

    def _format(self, body: Block) -> None:
        wanted = self.chat.response_format
        if wanted is None or wanted.kind == "text":
            return
        if wanted.kind == "json_object":
            self.dropped.add("response_format")
            return
        if not self.generation.schemas:
            raise Unsupported("response_format", TITLE, f"{self.model!r} has no structured outputs")
        schema = as_object(wanted.schema, "response_format.json_schema.schema")
        titles = {"title": wanted.name, "description": wanted.description}
        labelled = {**{k: v for k, v in titles.items() if v is not None}, **schema}
        output = body.setdefault("output_config", {})
        as_object(output, "output_config")["format"] = {"type": "json_schema", "schema": closed_schema(labelled)}

    # thinking

    def _reasoning(self, body: Block, turns: list[Turn[Block]]) -> bool:
        """Whether thinking is on."""
        wanted = self.chat.reasoning
        if wanted is None:
            return False
        explicit = is_explicit(wanted)
        if wanted.mode == "disabled" or (wanted.effort == "none" and not explicit):
            self._rests(wanted, body)
            return False
        # Groq's word for what is anyway
        effort = None if wanted.effort in (None, "", "default") else wanted.effort
        if effort is None and not explicit:
            return False
        self._check_effort(effort)
        return self._thinks(wanted, effort, body, body, "max_tokens", turns)

    # tools

    def _tools(self, turns: list[Turn[Block]]) -> list[Block]:
        if self.chat.tools:
            return [self._tool(tool, f"tools[{i}]") for i, tool in enumerate(self.chat.tools)]
        # Tool calls in the history want their tools; one that is not offered any more may not be called again.
        names = [str(b["name"]) for turn in turns for b in turn.blocks if b["type"] == "tool_use"]
        return [{"name": name, "input_schema": dict(NO_PARAMETERS)} for name in dict.fromkeys(names)]

    def _tool(self, tool: Tool, path: str) -> Block:
        if isinstance(tool, Opaque):
            raise Unsupported(path, TITLE, f"it knows no tool of type {tool.kind!r}")
        block: Block = {"name": tool.name}
        if tool.description:
            block["description"] = tool.description
        block["input_schema"] = schema_of(tool.parameters, f"{path}.function.parameters")
        if tool.strict is not None and self.generation.schemas:
            block["strict"] = tool.strict
        self._drop_if(f"{path}.function.strict", tool.strict and not self.generation.schemas)
        if tool.cache is not None:
            block["cache_control"] = _cache(tool.cache)
        self._drop_extras(tool.extras, path)
        return block

    def _tool_choice(self, thinking: bool) -> Block | None:
        chat = self.chat
        choice, single = chat.tool_choice, chat.parallel_tool_calls is False
        if not chat.tools:
            self._drop_if("tool_choice", choice is not None and choice.mode in FORCED)
            self._drop_if("parallel_tool_calls", single)
            return {"type": "none"} if self._has_stubs() else None
        if choice is not None and choice.mode in FORCED and thinking:
            self.dropped.add("tool_choice")
            choice = ToolChoice("auto")
        if choice is None:
            choice = ToolChoice("auto") if single else None
        return None if choice is None else _choice(choice, False if single else None)

    def _has_stubs(self) -> bool:
        return any(isinstance(part, ToolCall) for message in self.chat.messages for part in message.parts)

    # the conversation

    def _kind(self, block: Block) -> BlockKind:
        return _KINDS.get(block["type"], "media")

    def _strip(self, block: Block) -> None:
        block["text"] = str(block["text"]).rstrip()

    def _block(self, part: Part, path: str) -> Block | None:
        """None for what is left out."""
        match part:
            case Text():
                return self._marked(self._said(part.text, path), part.cache, part.extras, path)
            case Refusal():
                return self._marked(self._said(part.text, path), None, part.extras, path)
            case Image():
                self._drop_if(f"{path}.image_url.detail", part.detail not in (None, "auto"))
                return self._marked(self._image(part.source, path), part.cache, part.extras, path)
            case Document():
                return self._marked(self._document(part, path), part.cache, part.extras, path)
            case Audio():
                raise Unsupported(path, TITLE, "it has no audio")
            case Thinking():
                if not part.signature:
                    self.dropped.add(path)
                    return None
                block: Block = {"type": "thinking", "thinking": part.text, "signature": part.signature}
                return self._marked(block, None, part.extras, path)
            case RedactedThinking():
                return self._marked({"type": "redacted_thinking", "data": part.data}, None, part.extras, path)
            case ToolCall():
                return self._marked(self._tool_use(part, path), part.cache, part.extras, path)
            case ToolResult():
                return self._marked(self._tool_result(part, path), part.cache, part.extras, path)
            case Opaque():
                raise Unsupported(path, TITLE, f"it knows no part of type {part.kind!r}")
            case _:
                assert_never(part)

    def _marked(self, block: Block | None, cache: CacheMark | None, extras: Extras, path: str) -> Block | None:
        self._drop_extras(extras, path)
        if block is not None and cache is not None:
            block["cache_control"] = _cache(cache)
        return block

    def _said(self, text: str, path: str) -> Block | None:
        """Anthropic refuses empty text, and text of white space only."""
        if text.strip():
            return {"type": "text", "text": text}
        self._drop_if(path, text)
        return None

    def _image(self, source: Inline | Url | FileRef, path: str) -> Block:
        match source:
            case Inline():
                media_type = source.media_type.lower()
                media_type = "image/jpeg" if media_type == "image/jpg" else media_type
                if media_type == _PDF:
                    return {"type": "document", "source": _source(Inline(_PDF, source.data))}
                if media_type not in _IMAGES:
                    raise BadRequest(
                        f"{path} is {source.media_type!r}; {TITLE} takes {', '.join(sorted(_IMAGES))} and PDF",
                        param=path,
                    )
                return {"type": "image", "source": _source(Inline(media_type, source.data))}
            case Url():
                self._fetchable(source.url, path)
                is_pdf = source.media_type == _PDF or source.url.split("?")[0].lower().endswith(".pdf")
                return {"type": "document" if is_pdf else "image", "source": _source(source)}
            case FileRef():
                raise Unsupported(path, TITLE, "a file uploaded to another provider is unknown to it")
            case _:
                assert_never(source)

    def _document(self, part: Document, path: str) -> Block:
        source = part.source
        match source:
            case FileRef():
                raise Unsupported(path, TITLE, "a file uploaded to another provider is unknown to it")
            case Url():
                self._fetchable(source.url, path)
            case Inline() if source.media_type != _PDF and not source.media_type.startswith("text/"):
                raise BadRequest(f"{path} is {source.media_type!r}; {TITLE} takes PDF and text", param=path)
            case Inline():
                pass
            case _:
                assert_never(source)
        block: Block = {"type": "document", "source": _document_source(source, path)}
        if part.name:
            block["title"] = part.name
        return block

    @staticmethod
    def _fetchable(url: str, path: str) -> None:
        if not url.lower().startswith(("https://", "http://")):
            raise BadRequest(f"{path} is no http(s) URL", param=path)

    def _tool_use(self, part: ToolCall, path: str) -> Block:
        arguments = self._called(part, path)
        return {"type": "tool_use", "id": tool_id(part.id), "name": part.name, "input": arguments}

    def _tool_result(self, part: ToolResult, path: str) -> Block:
        call_id, content = self._answered(part, path)
        block: Block = {"type": "tool_result", "tool_use_id": call_id}
        if content:
            block["content"] = _short(content)
        if part.is_error:
            block["is_error"] = True
        return block


# --- replies

_FINISHES: Mapping[str, FinishReason] = MappingProxyType(
    {
        "end_turn": "stop",
        "stop_sequence": "stop_sequence",
        "max_tokens": "length",
        "model_context_window_exceeded": "context_window",
        "tool_use": "tool_calls",
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
        "content_filter": "refusal",
        "refusal": "refusal",
        "pause": "pause_turn",
        "malformed": "end_turn",
        "other": "end_turn",
    }
)


def _read_finish(reason: Json, sequence: Json) -> Finish | None:
    if not isinstance(reason, str):
        return None
    return Finish(_FINISHES.get(reason, "other"), reason, text_of(sequence))


def _stop_reason(finish: Finish | None, has_calls: bool) -> str | None:
    if has_calls and (finish is None or finish.reason not in CUT_OFF):
        return "tool_use"
    if finish is None:
        return None
    if finish.reason == "stop" and finish.stop_sequence is not None:
        return "stop_sequence"
    return _STOP_REASONS[finish.reason]


_USAGE = frozenset(
    {
        "input_tokens",
        "cache_creation_input_tokens",
        "cache_read_input_tokens",
        "cache_creation",
        "output_tokens",
        "output_tokens_details",
    }
)
_USAGE_EXTRAS = frozenset({"service_tier", "server_tool_use", "inference_geo", "iterations", "speed"})
_REPLY = frozenset({"id", "type", "role", "model", "content", "stop_reason", "stop_sequence", "usage"})
_REPLY_EXTRAS = frozenset({"container", "context_management", "diagnostics", "stop_details"})


def _read_usage(told: Mapping[str, Json]) -> Usage:
    counts = TokenCounts()
    split = object_in(told, "cache_creation")
    hour, short = counts.at(split, "ephemeral_1h_input_tokens"), counts.at(split, "ephemeral_5m_input_tokens")
    total = told.get("cache_creation_input_tokens")
    written = hour + short if total is None else counts.at(told, "cache_creation_input_tokens")
    hour = min(hour, written)
    given, read = counts.of(told.get("input_tokens")), counts.at(told, "cache_read_input_tokens")
    # The prompt is the sum of these: where one of them cannot be read, it is not known.
    unknown = given is None or counts.unreadable > 0
    answered = counts.of(told.get("output_tokens"))
    output = answered or 0
    thinking = min(counts.at(object_in(told, "output_tokens_details"), "thinking_tokens"), output)
    return Usage(
        input=given or 0,
        cache_read=read,
        cache_write=written - hour,
        cache_write_1h=hour,
        output=output - thinking,
        reasoning=thinking,
        prompt_unknown=unknown,
        completion_unknown=answered is None,
        unreadable=counts.unreadable,
    )


def _write_usage(usage: Usage | None, rest: Json) -> Block:
    """`rest` is what an Anthropic reply told of its usage besides tokens."""
    usage = usage or Usage()
    told: Block = {
        "input_tokens": usage.input + usage.input_audio,
        "cache_creation_input_tokens": usage.cache_write + usage.cache_write_1h,
        "cache_read_input_tokens": usage.cache_read,
        "output_tokens": usage.completion,
    }
    if usage.cache_write or usage.cache_write_1h:
        told["cache_creation"] = {
            "ephemeral_5m_input_tokens": usage.cache_write,
            "ephemeral_1h_input_tokens": usage.cache_write_1h,
        }
    if usage.reasoning:
        told["output_tokens_details"] = {"thinking_tokens": usage.reasoning}
    if isinstance(rest, Mapping):
        told.update((key, value) for key, value in rest.items() if key in _USAGE_EXTRAS)
    return told


def _made_id(prefix: str, *seeds: object) -> str:
    return made_id(prefix, 24, *seeds)


def _message_id(id: str | None, model: str | None, created: int | None) -> str:
    if not id:
        return _made_id("msg_", model, created)
    return id if id.startswith("msg_") else f"msg_{id}"


def _read_reply(body: bytes) -> Reply:
    try:
        message = decode_reply(body)
    except UNREADABLE as exc:
        raise UpstreamError("the provider's reply is not valid JSON") from exc
    if not isinstance(message, dict) or message.get("type") != "message":
        raise UpstreamError("the provider's reply is no Anthropic message")
    try:
        parts = tuple(_read_block(b, f"content[{i}]") for i, b in enumerate(as_list(message.get("content"), "content")))
    except BadRequest as exc:
        raise UpstreamError(f"the provider's reply cannot be read: {exc.message}") from exc
    told = message.get("usage")
    told = told if isinstance(told, dict) else None
    extras = dict(rest_of(message, _REPLY))
    if told is not None and (rest := rest_of(told, _USAGE)):
        extras["usage"] = rest
    finish = _read_finish(message.get("stop_reason"), message.get("stop_sequence"))
    id, model = message.get("id"), message.get("model")
    return Reply(
        NAME,
        text_of(id),
        text_of(model),
        (Choice(parts, finish),),
        None if told is None else _read_usage(told),
        extras=extras or NO_EXTRAS,
    )


def _write_reply(reply: Reply) -> bytes:
    choice = reply.choices[0] if reply.choices else Choice(())
    is_own = reply.dialect == NAME
    id = reply.id if is_own and reply.id else _message_id(reply.id, reply.model, reply.created)
    if is_own:
        content = [_own_block(part, f"content[{i}]") for i, part in enumerate(choice.parts)]
    else:
        content = list(_answer_blocks(choice.parts, id))
    finish = choice.finish
    if finish is None and reply.choices and not is_own:
        finish = Finish("stop")  # an answer that came whole is at its end, whether its host says so or not
    has_calls = any(block["type"] == "tool_use" for block in content)
    message: Block = {
        "id": id,
        "type": "message",
        "role": "assistant",
        "model": reply.model or "",
        "content": content,
        "stop_reason": finish.raw if is_own and finish and finish.raw else _stop_reason(finish, has_calls),
        "stop_sequence": finish.stop_sequence if finish else None,
        "usage": _write_usage(reply.usage, reply.extras.get("usage") if is_own else None),
    }
    if is_own:
        message.update((key, value) for key, value in reply.extras.items() if key != "usage")
    return encode(message)


def _answer_blocks(parts: Iterable[Part], id: str) -> Iterator[Block]:
    """What a reply of another dialect says, in this dialect's order: thinking, text, tool calls."""
    calls = 0
    for part in sorted(parts, key=answer_order):
        match part:
            case Thinking():
                if part.text or part.signature:
                    # The SDKs insist on a signature; the mark lets us know it again where none was given.
                    yield {"type": "thinking", "thinking": part.text, "signature": part.signature or UNSIGNED}
            case RedactedThinking():
                yield {"type": "redacted_thinking", "data": part.data}
            case Text() | Refusal():
                if part.text:
                    yield {"type": "text", "text": part.text}
            case ToolCall():
                yield {
                    "type": "tool_use",
                    "id": tool_id(part.id or _made_id("toolu_", id, calls)),
                    "name": part.name,
                    "input": arguments_of(part.arguments) or {},
                }
                calls += 1
            case Image() | Audio():
                yield {"type": "text", "text": omission(part, TITLE)}
            case _:
                pass  # a part that only another dialect knows


# --- errors

_TYPES: Mapping[FaultKind, str] = MappingProxyType(
    {
        "invalid_request": "invalid_request_error",
        "authentication": "authentication_error",
        "payment": "billing_error",
        "permission": "permission_error",
        "not_found": "not_found_error",
        "method": "invalid_request_error",
        "conflict": "conflict_error",
        "too_large": "request_too_large",
        "rate_limit": "rate_limit_error",
        "context_length": "invalid_request_error",
        "content_filter": "invalid_request_error",
        "overloaded": "overloaded_error",
        "timeout": "timeout_error",
        "api": "api_error",
    }
)
_FAULTS: Mapping[str, tuple[FaultKind, int]] = MappingProxyType(
    {
        "invalid_request_error": ("invalid_request", 400),
        "authentication_error": ("authentication", 401),
        "billing_error": ("payment", 402),
        "permission_error": ("permission", 403),
        "not_found_error": ("not_found", 404),
        "conflict_error": ("conflict", 409),
        "request_too_large": ("too_large", 413),
        "rate_limit_error": ("rate_limit", 429),
        "api_error": ("api", 500),
        "timeout_error": ("timeout", 504),
        "overloaded_error": ("overloaded", 529),
    }
)


def _read_fault(error: Json, status: int | None, request_id: Json = None, retry_after: float | None = None) -> Fault:
    """`status` is None within a stream, where the type alone says which it is."""
    fields_ = error if isinstance(error, dict) else {"message": error}
    told = fields_.get("type")
    type_ = text_of(told)
    kind, usual = _FAULTS.get(type_ or "", ("api" if status is None else kind_of(status), 500))
    message = fields_.get("message")
    text = message if isinstance(message, str) and message else "the provider gave no reason"
    return Fault(
        usual if status is None else status,
        refined(kind, text),
        scrubbed(text),
        type=type_,
        retry_after=retry_after,
        request_id=text_of(request_id),
    )


def _read_error(status: int, headers: Headers, body: bytes) -> Fault:
    try:
        envelope = decode(body)
    except UNREADABLE:
        envelope = {"error": body.decode("utf-8", "replace").strip()}
    if not isinstance(envelope, dict):
        envelope = {"error": None}
    error = next((envelope[key] for key in ("error", "message", "Message", "detail") if envelope.get(key)), None)
    request_id = envelope.get("request_id") or header(headers, "request-id")
    return _read_fault(error, status, request_id, retry_after(headers))


_TOO_LONG = "prompt is too long: "
# The sentences by which clients of this API know that they must shorten the conversation: it has no code for that.
_KNOWN_TOO_LONG = (_TOO_LONG.rstrip(": "), "input length and `max_tokens` exceed", "input length and max_tokens exceed")
_LIMIT = re.compile(r"(?:maximum|limit|max|up to)\D{0,60}?(\d[\d,]{2,})", re.IGNORECASE)
_NUMBER = re.compile(r"\d[\d,]{2,}")


def _too_long(message: str) -> str:
    """What the provider said of a prompt that its model does not take, after the words that clients look for."""
    if message.startswith(_KNOWN_TOO_LONG):
        return message
    found = _LIMIT.search(message)
    numbers = [int(number.replace(",", "")) for number in _NUMBER.findall(message)]
    limit = int(found[1].replace(",", "")) if found is not None else 0
    if limit and max(numbers) > limit:
        return f"{_TOO_LONG}{max(numbers)} tokens > {limit} maximum. {message}"
    return _TOO_LONG + message


def _error_body(fault: Fault) -> Block:
    message = scrubbed(fault.message)
    if fault.kind == "context_length":
        message = _too_long(message)
    return {
        "type": "error",
        "error": {"type": _TYPES[fault.kind], "message": message},
        "request_id": fault.request_id,
    }


# --- streams: reading

_DELTA_TEXTS: Mapping[str, str] = MappingProxyType(
    {"text_delta": "text", "thinking_delta": "thinking", "input_json_delta": "partial_json"}
)
_OPEN_LIMIT = 16 * 1024 * 1024
"""Bytes of one block that is held until it is whole; as much as one frame may have."""


@dataclass(slots=True)
class _Open:
    """A block between its start and its stop."""

    part: int
    kind: str
    value: Block
    """As it was at its start; for a block that only this dialect knows, as it has grown."""
    json: list[str]
    """The pieces of its input."""
    size: int = 0
    has_delta: bool = False


class _Reader:
    """A block that only this dialect knows (a server tool's call or result) is told when it is whole, since a part of
    that kind starts with its whole value; its input grows from deltas until then."""

    def __init__(self) -> None:
        self._decoder = sse.SseDecoder()
        self._blocks: dict[int, _Open] = {}
        self._parts = 0
        self._usage: Block = {}
        self._early_finish: Finish | None = None
        """As message_start told it; a later one replaces it."""
        self._started = False
        self._over = False

    def frames(self, data: bytes) -> list[Frame]:
        return self._decoder.feed(data)

    def close(self) -> tuple[list[Frame], list[ReplyEvent]]:
        frames = self._decoder.close()
        events = [event for frame in frames for event in self.read(frame)]
        if not self._over:
            self._over = True
            events.append(Failed(Fault(502, "api", "the provider's stream broke off", "truncated_stream")))
        return frames, events

    def read(self, frame: Frame) -> list[ReplyEvent]:
        if self._over or not frame.data or frame.data == b"[DONE]":
            return []
        try:
            event = decode_reply(frame.data)
        except UNREADABLE:
            return [Garbled("an event is not valid JSON")]
        if not isinstance(event, dict):
            return [Garbled("an event is no object")]
        kind = event.get("type") or frame.event
        read = _READ_EVENT.get(kind) if isinstance(kind, str) else None
        if read is not None:
            return read(self, event)
        return self._error(event) if event.get("error") else []  # a new kind of event: the API says, skip it

    def _start(self, event: Block) -> list[ReplyEvent]:
        message = event.get("message")
        if self._started or not isinstance(message, dict):
            return [Garbled("message_start came twice, or without a message")]
        self._started = True
        id, model = message.get("id"), message.get("model")
        extras = dict(rest_of(message, _REPLY))
        usage = self._use(message.get("usage"))
        if rest := rest_of(self._usage, _USAGE):
            extras["usage"] = rest
        started = ReplyStarted(text_of(id), text_of(model), None, extras or NO_EXTRAS)
        self._early_finish = _read_finish(message.get("stop_reason"), message.get("stop_sequence"))
        return [started, *self._early_blocks(message.get("content")), *usage]

    def _early_blocks(self, content: Json) -> Iterator[ReplyEvent]:
        """Blocks that are whole when the message starts: Anthropic tells so the calls of a turn that goes on with what
        was begun before (programmatic tool calling). Their numbers cannot meet those of blocks that come later."""
        for place, block in enumerate(content if isinstance(content, list) else (), 1):
            number: Block = {"index": -place}
            yield from self._block_start({**number, "content_block": block})
            if -place in self._blocks:
                yield from self._block_stop(number)

    def _use(self, told: Json) -> list[ReplyEvent]:
        """Counts are cumulative: each replaces what was told before, and what is not told again stands."""
        if not isinstance(told, dict):
            return []
        self._usage.update((key, value) for key, value in told.items() if value is not None)
        return [UsageSeen(_read_usage(self._usage))]

    def _block_start(self, event: Block) -> list[ReplyEvent]:
        index, value = event.get("index"), event.get("content_block")
        if not isinstance(index, int) or not isinstance(value, dict) or not isinstance(value.get("type"), str):
            return [Garbled("content_block_start without an index or a block")]
        if index in self._blocks:
            return [Garbled(f"block {index} began twice")]
        part, self._parts = self._parts, self._parts + 1
        open_ = self._blocks[index] = _Open(part, str(value["type"]), value, [])
        match value:
            case {"type": "text"}:
                text = value.get("text")
                return [
                    PartStarted(part, "text", extras=rest_of(value, _TEXT)),
                    *([PartDelta(part, text)] if isinstance(text, str) and text else []),
                ]
            case {"type": "thinking"}:
                text, signature = value.get("thinking"), value.get("signature")
                return [
                    PartStarted(part, "thinking", extras=rest_of(value, _THINKING)),
                    *([PartDelta(part, text)] if isinstance(text, str) and text else []),
                    *([PartSigned(part, signature)] if isinstance(signature, str) and signature else []),
                ]
            case {"type": "redacted_thinking", "data": str(data)}:
                return [PartStarted(part, "redacted_thinking", data=data, extras=rest_of(value, _REDACTED))]
            case {"type": "tool_use", "id": str(id), "name": str(name)}:
                return [PartStarted(part, "tool_call", id, name, extras=rest_of(value, _TOOL_USE))]
            case _:
                open_.kind = "opaque"
                return []

    def _block_delta(self, event: Block) -> list[ReplyEvent]:
        index, delta = event.get("index"), event.get("delta")
        block = self._blocks.get(index) if isinstance(index, int) else None
        if block is None or not isinstance(delta, dict):
            return [Garbled("content_block_delta without a block that is open")]
        if block.kind == "opaque":
            return self._grow(block, delta)
        kind = delta.get("type")
        # Nearly every event is one of these: a look-up is many times faster than patterns over a dict.
        text = delta.get(_DELTA_TEXTS.get(kind, "")) if isinstance(kind, str) else None
        if isinstance(text, str):
            block.has_delta = block.has_delta or bool(text)
            return [PartDelta(block.part, text)] if text else []
        match delta:
            case {"type": "signature_delta", "signature": str(signature)}:
                return [PartSigned(block.part, signature)]
            case {"type": "citations_delta", "citation": citation}:
                return [PartNoted(block.part, {"citations": [citation]})]
            case _:
                return []  # a new kind of delta

    def _grow(self, block: _Open, delta: Block) -> list[ReplyEvent]:
        for key, value in delta.items():
            if key == "type":
                continue
            if key == "partial_json" and isinstance(value, str):
                block.json.append(value)
            elif key == "citation":
                before = block.value.get("citations")
                block.value["citations"] = [*(before if isinstance(before, list) else []), value]
            elif isinstance(value, str):
                before = block.value.get(key)
                block.value[key] = f"{before}{value}" if isinstance(before, str) else value
            else:
                block.value[key] = value
            block.size += len(value) if isinstance(value, str) else 0
        if block.size > _OPEN_LIMIT:
            self._over = True
            return [Failed(Fault(502, "api", f"the provider sent one block of more than {_OPEN_LIMIT} bytes"))]
        return []

    def _block_stop(self, event: Block) -> list[ReplyEvent]:
        index = event.get("index")
        block = self._blocks.pop(index, None) if isinstance(index, int) else None
        if block is None:
            return [Garbled("content_block_stop without a block that is open")]
        part = block.part
        if block.kind == "opaque":
            if (grown := arguments_of("".join(block.json))) and block.json:
                block.value["input"] = grown
            whole = Opaque(NAME, str(block.value["type"]), block.value)
            return [PartStarted(part, "opaque", opaque=whole), PartEnded(part)]
        given = block.value.get("input")
        if block.kind == "tool_use" and not block.has_delta and isinstance(given, dict):
            # No delta: either all of the input came at the start, or there is none.
            return [PartDelta(part, encode(given).decode()), PartEnded(part)]
        return [PartEnded(part)]

    def _message_delta(self, event: Block) -> list[ReplyEvent]:
        events: list[ReplyEvent] = []
        delta = event.get("delta")
        delta = delta if isinstance(delta, dict) else {}
        finish = _read_finish(delta.get("stop_reason"), delta.get("stop_sequence"))
        if finish is not None:
            self._early_finish = None
            events.append(Finished(finish))
        events += self._use(event.get("usage"))
        noted = {**rest_of(event, frozenset({"type", "delta", "usage"})), **rest_of(delta, _REPLY)}
        if rest := rest_of(self._usage, _USAGE):
            noted["usage"] = rest
        if noted:
            events.append(Noted(noted))
        return events

    def _stop(self, event: Block) -> list[ReplyEvent]:
        del event
        self._over = True
        early = [Finished(self._early_finish)] if self._early_finish is not None else []
        return [*early, Ended()]

    def _error(self, event: Block) -> list[ReplyEvent]:
        self._over = True
        return [Failed(_read_fault(event.get("error"), None, event.get("request_id")))]

    def _ping(self, event: Block) -> list[ReplyEvent]:
        del event
        return [Ping()]


_READ_EVENT: Mapping[str, Callable[[_Reader, Block], list[ReplyEvent]]] = MappingProxyType(
    {
        "message_start": _Reader._start,
        "content_block_start": _Reader._block_start,
        "content_block_delta": _Reader._block_delta,
        "content_block_stop": _Reader._block_stop,
        "message_delta": _Reader._message_delta,
        "message_stop": _Reader._stop,
        "error": _Reader._error,
        "ping": _Reader._ping,
    }
)


# --- streams: writing

_TALK = frozenset({"text", "thinking", "refusal"})
"""Parts that may be closed as soon as another one begins: what comes of them later is a block of its own."""
_WAITING_LIMIT = 16 * 1024 * 1024
"""Characters of tool calls that wait for an earlier one to end."""


def _event(kind: str, payload: Block) -> bytes:
    return sse.encode(encode({"type": kind, **payload}), kind)


def _is_own_caller(caller: Json) -> bool:
    kind = caller.get("type") if isinstance(caller, dict) else None
    return isinstance(kind, str) and (kind == "direct" or kind.startswith("code_execution_"))


class _Writer:
    """Exactly one block is open at a time. A part that begins while a tool call is open waits until that has ended;
    text and thinking open their block with their first word, so that there is no empty one."""

    def __init__(self, call: Call) -> None:
        self._model = call.model
        self._id = ""
        self._started = False
        self._over = False
        self._index = 0
        self._current: PartStarted | None = None
        self._is_open = False
        """Whether the current part has begun its block."""
        self._signed = False
        """Whether that block has a signature."""
        self._waiting: dict[int, list[ReplyEvent]] = {}
        self._waiting_size = 0
        self.closed_schema: dict[int, PartStarted] = {}
        self._calls = 0
        self._finish: Finish | None = None
        self._usage: Usage | None = None
        self._usage_extras: Json = None
        self._noted: Block = {}
        self._out: list[bytes] = []

    def write(self, event: ReplyEvent) -> bytes:
        if self._over or getattr(event, "choice", None):
            return b""
        self._take(event)
        out, self._out = b"".join(self._out), []
        return out

    def _take(self, event: ReplyEvent) -> None:
        match event:
            case PartDelta() | PartSigned() | PartNoted():
                self._grow(event)
            case PartStarted():
                self._begin(event)
            case PartEnded():
                self._end(event)
            case ReplyStarted():
                self._start(event)
            case UsageSeen():
                self._usage = event.usage
            case Finished():
                self._finish = event.finish
                self._note(event.extras)
            case Noted():
                self._note(event.extras)
            case Ping():
                self._out.append(_event("ping", {}))
            case Garbled():
                pass
            case Failed():
                self._fail(event.fault)
            case Ended():
                self._finish_reply()
            case _:
                assert_never(event)

    def _start(self, event: ReplyStarted) -> None:
        if self._started:
            return
        self._started = True
        model = event.model or self._model
        self._id = _message_id(event.id, model, event.created)
        self._note(event.extras)
        message: Block = {
            "id": self._id,
            "type": "message",
            "role": "assistant",
            "model": model,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": _write_usage(self._usage, self._usage_extras),
        }
        self._out.append(_event("message_start", {"message": message}))

    def _note(self, extras: Extras) -> None:
        """What an Anthropic stream says besides; the extras of another dialect have other names."""
        self._usage_extras = extras.get("usage", self._usage_extras)
        self._noted.update((key, value) for key, value in extras.items() if key in _REPLY_EXTRAS)

    # parts

    def _begin(self, event: PartStarted) -> None:
        self._start(ReplyStarted(None, None))
        if self._current is not None:
            if self._current.kind not in _TALK:
                self._waiting[event.part] = [event]
                return
            self.closed_schema[self._current.part] = self._current
            self._close()
        self._current = event
        match event.kind:
            case "tool_call":
                self._open_call(event)
            case "redacted_thinking":
                self._open({"type": "redacted_thinking", "data": event.data or ""})
            case "opaque":
                self._open_opaque(event.opaque)
            case "media":
                if event.media is not None:
                    self._say("text", omission(event.media, TITLE))
            case "text" | "thinking" | "refusal":
                pass
            case _:
                assert_never(event.kind)

    def _open(self, block: Block) -> None:
        self._is_open, self._signed = True, False
        self._out.append(_event("content_block_start", {"index": self._index, "content_block": block}))

    def _open_call(self, event: PartStarted) -> None:
        block: Block = {
            "type": "tool_use",
            "id": tool_id(event.id or _made_id("toolu_", self._id, self._calls)),
            "name": event.name or "",
            "input": {},
        }
        block.update((key, event.extras[key]) for key in ("caller", "toolset_name") if key in event.extras)
        if not _is_own_caller(block.get("caller")):  # OpenAI has a field of this name too, with other types
            block.pop("caller", None)
        self._calls += 1
        self._open(block)

    def _open_opaque(self, opaque: Opaque | None) -> None:
        """A part that only another dialect knows is left out; one of ours goes as Anthropic sends it: its input, where
        it has one, in a delta."""
        if opaque is None or opaque.dialect != NAME or not isinstance(opaque.value, dict):
            return
        given = opaque.value.get("input")
        self._open({**opaque.value, "input": {}} if given else dict(opaque.value))
        if given:
            self._delta({"type": "input_json_delta", "partial_json": encode(given).decode()})

    def _delta(self, delta: Block) -> None:
        self._out.append(_event("content_block_delta", {"index": self._index, "delta": delta}))

    def _grow(self, event: PartDelta | PartSigned | PartNoted) -> None:
        if self._current is None or event.part != self._current.part:
            waiting = self._waiting.get(event.part)
            if waiting is None:
                closed = self.closed_schema.pop(event.part, None)
                if closed is None or not isinstance(event, PartDelta):
                    return  # a late signature or note has no block to stand in
                self._begin(PartStarted(closed.part, closed.kind))
                self._grow(event)
                return
            self._wait(waiting, event)
            return
        kind = self._current.kind
        match event:
            case PartDelta():
                if event.text:
                    self._say(kind, event.text)
            case PartSigned():
                if kind == "thinking":
                    self._open_talk(kind)
                    self._signed = True
                    self._delta({"type": "signature_delta", "signature": event.signature})
            case PartNoted():
                citations = event.extras.get("citations")
                if kind == "text" and isinstance(citations, list):
                    self._open_talk(kind)
                    for citation in citations:
                        self._delta({"type": "citations_delta", "citation": citation})
            case _:
                assert_never(event)

    def _wait(self, waiting: list[ReplyEvent], event: PartDelta | PartSigned | PartNoted) -> None:
        waiting.append(event)
        if isinstance(event, PartDelta):
            self._waiting_size += len(event.text)
            if self._waiting_size > _WAITING_LIMIT:
                self._fail(Fault(502, "api", f"the provider sent more than {_WAITING_LIMIT} characters out of order"))

    def _open_talk(self, kind: str) -> None:
        if self._is_open:
            return
        if kind == "thinking":
            self._open({"type": "thinking", "thinking": "", "signature": ""})
        else:
            self._open({"type": "text", "text": ""})

    def _say(self, kind: str, text: str) -> None:
        match kind:
            case "tool_call":
                self._delta({"type": "input_json_delta", "partial_json": text})
            case "thinking":
                self._open_talk(kind)
                self._delta({"type": "thinking_delta", "thinking": text})
            case "text" | "refusal":
                self._open_talk(kind)
                self._delta({"type": "text_delta", "text": text})
            case _:
                pass  # redacted and opaque parts have no deltas

    def _end(self, event: PartEnded) -> None:
        if self._current is not None and event.part == self._current.part:
            self._close()
            self._next()
        elif event.part in self._waiting:
            self._waiting[event.part].append(event)

    def _close(self) -> None:
        kind = self._current.kind if self._current is not None else None
        self._current = None
        if self._is_open:
            self._is_open = False
            if kind == "thinking" and not self._signed:
                self._delta({"type": "signature_delta", "signature": UNSIGNED})
            self._out.append(_event("content_block_stop", {"index": self._index}))
            self._index += 1

    def _next(self) -> None:
        """Those that waited, in their order, as far as they have come to their end."""
        while self._current is None and self._waiting:
            events = self._waiting.pop(next(iter(self._waiting)))
            for event in events:
                self._take(event)

    # the end

    def _finish_reply(self) -> None:
        self._start(ReplyStarted(None, None))
        while self._current is not None or self._waiting:
            self._close()
            self._next()
        finish = self._finish or Finish("stop")
        delta: Block = {
            "stop_reason": _stop_reason(finish, self._calls > 0),
            "stop_sequence": finish.stop_sequence,
            **{key: self._noted[key] for key in ("container", "stop_details") if key in self._noted},
        }
        told: Block = {"delta": delta, "usage": _write_usage(self._usage, self._usage_extras)}
        if "context_management" in self._noted:
            told["context_management"] = self._noted["context_management"]
        self._out += [_event("message_delta", told), _event("message_stop", {})]
        self._over = True

    def _fail(self, fault: Fault) -> None:
        self._out.append(sse.encode(encode(_error_body(fault)), "error"))
        self._over = True


# --- the dialect


def _model(card: ModelCard) -> Block:
    created = datetime.fromtimestamp(card.created, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {"type": "model", "id": card.id, "display_name": card.id, "created_at": created}


def _betas(headers: Headers) -> tuple[str, ...]:
    """Over all lines of the header, and without repeats."""
    named = (flag.strip() for name, value in headers if name == "anthropic-beta" for flag in value.split(","))
    return tuple(dict.fromkeys(flag for flag in named if flag))


_PATHS: Mapping[Operation, str] = MappingProxyType(
    {"chat": "/messages", "count_tokens": "/messages/count_tokens", "models": "/models"}
)


class AnthropicMessages:
    name = NAME
    title = TITLE
    routes = (Route("POST", "/v1/messages", "chat"),)
    stream_type = "text/event-stream; charset=utf-8"

    def read_call(self, raw: bytes, operation: Operation, headers: Headers, path: str) -> Call:
        del path
        try:
            probe = _probe.decode(raw)
        except UNREADABLE:
            raise _why_no_call(raw) from None
        if not probe.model.strip():
            raise BadRequest("model is empty: name the model that shall answer", param="model")
        return Call(
            NAME,
            operation,
            probe.model,
            bool(probe.stream),
            raw,
            max_output_tokens=probe.max_tokens,
            betas=_betas(headers),
        )

    def splice(self, call: Call, model: str, host: HostProfile = UNKNOWN_HOST) -> Written:
        """Only the model, and what of the history came from other providers: a stream of this format always tells its
        usage."""
        del host  # the model alone decides
        try:
            changes, dropped = mend(call.raw, model)
            return Written(json_splice.splice(call.raw, {"model": encode(model), **changes}), dropped)
        except ValueError as exc:
            raise BadRequest(f"the body cannot be passed on: {exc}") from exc

    def path(self, operation: Operation, model: str, *, stream: bool) -> str:
        del model, stream  # both are in the body
        path = _PATHS.get(operation)
        if path is None:
            raise Unsupported(operation, TITLE)
        return path

    def read_chat(self, call: Call) -> Chat:
        return _read_chat(call)

    def write_chat(self, chat: Chat, model: str, host: HostProfile = UNKNOWN_HOST) -> Written:
        del host  # the model alone decides
        if chat.dialect == NAME:
            return Written(encode(_write_own(chat, model)))
        crossing = _Crossing(chat, model)
        body = encode(crossing.body())
        return Written(body, tuple(sorted(crossing.dropped)))

    def read_reply(self, body: bytes) -> Reply:
        return _read_reply(body)

    def write_reply(self, reply: Reply) -> bytes:
        return _write_reply(reply)

    def can_say(self, part: Part) -> bool:
        return not isinstance(part, Opaque | Image | Audio)

    def reader(self, content_type: str) -> _Reader:
        del content_type
        return _Reader()

    def writer(self, call: Call) -> _Writer:
        return _Writer(call)

    def read_error(self, status: int, headers: Headers, body: bytes) -> Fault:
        return _read_error(status, headers, body)

    def write_error(self, fault: Fault) -> tuple[int, list[tuple[str, str]], bytes]:
        headers = [("content-type", "application/json")]
        if fault.retry_after is not None:
            headers.append(("retry-after", str(math.ceil(fault.retry_after))))
        return fault.status, headers, encode(_error_body(fault))

    def write_models(self, models: Sequence[ModelCard]) -> bytes:
        page: Block = {
            "data": [_model(card) for card in models],
            "has_more": False,
            "first_id": models[0].id if models else None,
            "last_id": models[-1].id if models else None,
        }
        return encode(page)

    def write_model(self, card: ModelCard) -> bytes:
        return encode(_model(card))


PLUGIN = AnthropicMessages()
