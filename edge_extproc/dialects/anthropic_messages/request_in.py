"""Reads a Messages request into a Chat."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Literal

import msgspec

from ...codecs.json_values import (
    UNREADABLE,
    as_list,
    as_object,
    as_text,
    decode,
    maybe_bool,
    maybe_int,
    maybe_text,
    rest_of,
)
from ...codecs.request_lines import without_line
from ...errors import BadRequest
from ...model.call import Call, Chat, FunctionTool, Reasoning, ResponseFormat, Tool, ToolChoice
from ...model.content import NO_EXTRAS, Extras, Json, Message, Part, Text
from .. import reading
from ..base import Headers
from ..hosted_tools import of_messages
from ..reading import read_messages
from .client_tools import client_tool
from .content import opaque_of, read_cache, read_content
from .fields import BILLING, NAME, NEEDED, SCALARS, SPELLING, WIRE, Block

# --- the cheap view


class _Probe(msgspec.Struct):
    model: str
    stream: bool | None = None
    max_tokens: int | None = None


probe_of = msgspec.json.Decoder(_Probe)


def why_no_call(raw: bytes) -> BadRequest:
    """The error for a body that the typed decoder refused."""
    twice = "the body says model, stream or max_tokens twice, and not alike"
    return reading.why_no_call(raw, "max_tokens", otherwise=twice)


# --- reading a request: the rest

_CHAT = frozenset(
    {
        "model",
        "messages",
        "system",
        "stop_sequences",
        "stream",
        "metadata",
        "tools",
        "tool_choice",
        "thinking",
        "output_config",
        "output_format",
        *SCALARS.names,
    }
)
_TOOL = frozenset({"type", "name", "description", "input_schema", "strict", "cache_control"})


def _read_tool(value: Json, path: str) -> Tool:
    """A tool of the caller has no type, or the type custom; every other is the provider's own."""
    tool = as_object(value, path)
    if tool.get("type") not in (None, "custom"):
        return client_tool(tool, path) or of_messages(opaque_of(tool, path))
    cache, extras = read_cache(tool, _TOOL)
    return FunctionTool(
        as_text(tool.get("name"), f"{path}.name"),
        maybe_text(tool.get("description"), f"{path}.description"),
        tool.get("input_schema"),
        maybe_bool(tool.get("strict"), f"{path}.strict"),
        cache,
        extras,
        path,
    )


_READ_CHOICE: Mapping[str, Literal["auto", "required", "none"]] = MappingProxyType(
    {"auto": "auto", "any": "required", "none": "none"}
)
_TOOL_CHOICE = frozenset({"type", "name", "disable_parallel_tool_use"})


def _read_tool_choice(value: Json) -> tuple[ToolChoice | None, bool | None, Extras]:
    """The choice, whether calls may be parallel, and the remaining fields."""
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
    """The reasoning, and a `thinking` of an unknown type."""
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
    response_format = _read_format(config.get("format"))
    if response_format is not None:
        del config["format"]
    effort = config.pop("effort", None)
    rest = rest_of(config, frozenset())
    return response_format, effort, {"output_config": rest} if rest else NO_EXTRAS


def _read_system(value: Json) -> tuple[Message, ...]:
    if value is None:
        return ()
    parts = read_content(value, "system")
    prompt = tuple(kept for part in parts if (kept := _without_billing(part)) is not None)
    extras = NO_EXTRAS if prompt == parts else {BILLING.rstrip(":"): True}
    return (Message("system", prompt, extras=extras, path="system"),)


def _without_billing(part: Part) -> Part | None:
    """None: nothing else is in the part."""
    if not isinstance(part, Text) or (left := without_line(part.text, WIRE.request_lines)) == part.text:
        return part
    return replace(part, text=left) if left.strip() else None


def _read_stop(value: Json) -> tuple[str, ...]:
    if value is None:
        return ()
    return tuple(as_text(stop, f"stop_sequences[{i}]") for i, stop in enumerate(as_list(value, "stop_sequences")))


def _spelled(body: Block) -> Mapping[str, str]:
    """The fields for which this caller used another name."""
    fields = {} if body.get("thinking") is not None else {"reasoning": "output_config.effort"}
    match body:
        case {"output_config": {"format": dict()}}:
            pass
        case {"output_format": dict()}:
            fields["response_format"] = "output_format"
    return fields


def read_chat(call: Call) -> Chat:
    try:
        body = as_object(decode(call.raw), "the body")
    except UNREADABLE:
        raise why_no_call(call.raw) from None
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
            *read_messages(as_list(body.get("messages"), "messages"), read_content, "text"),
        ),
        stream=call.stream,
        include_usage=call.stream,
        tools=()
        if tools is None
        else tuple(_read_tool(tool, f"tools[{i}]") for i, tool in enumerate(as_list(tools, "tools"))),
        tool_choice=choice,
        parallel_tool_calls=parallel,
        **SCALARS.read(body),
        stop=_read_stop(body.get("stop_sequences")),
        response_format=response_format,
        reasoning=reasoning,
        user=maybe_text(metadata.get("user_id"), "metadata.user_id"),
        extras=extras or NO_EXTRAS,
        needed=(
            # Clients write an empty list, or null, for what they do not use.
            *(name for name in NEEDED if extras.get(name)),
            # A reply of no tokens fills the prompt cache of Anthropic's own hosts; no other format asks for it.
            *(("max_tokens",) if body.get("max_tokens") == 0 else ()),
        ),
        spelling=SPELLING.but(_spelled(body)),
    )


def betas(headers: Headers) -> tuple[str, ...]:
    """The values of all lines of the header, without duplicates."""
    flags = (flag.strip() for name, value in headers if name == "anthropic-beta" for flag in value.split(","))
    return tuple(dict.fromkeys(flag for flag in flags if flag))
