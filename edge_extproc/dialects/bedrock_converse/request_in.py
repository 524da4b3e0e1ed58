"""Reads a Converse request into a Chat."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
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
    read_body,
    rest_of,
)
from ...errors import BadRequest
from ...model.call import Call, Chat, FunctionTool, Reasoning, ResponseFormat, Tool, ToolChoice
from ...model.content import NO_EXTRAS, Extras, Json, Message
from ..reading import model_in_path, read_messages
from .content import SpelledReasoning, opaque_of, read_blocks, read_mark
from .fields import MORE, NAME, NEEDED, SCALARS, SPELLING, Block, maybe_object

# --- the cheap view

# An id has up to 64 characters, an ARN up to 2048 (modelId in the service model).
_LONGEST_MODEL = 2048


def model_of(path: str) -> tuple[str, bool]:
    """The model in a path, and whether a stream is requested."""
    _, _, name, verb = path.split("?")[0].split("/", 3)
    return model_in_path(name, _LONGEST_MODEL), verb == "converse-stream"


class _Inference(msgspec.Struct, rename="camel"):
    max_tokens: int | None = None


class _Probe(msgspec.Struct, rename="camel"):
    messages: msgspec.Raw
    inference_config: _Inference | None = None


probe_of = msgspec.json.Decoder(_Probe)


def why_no_call(raw: bytes) -> BadRequest:
    """The error for a body that the typed decoder refused."""
    try:
        body = read_body(raw)
        if "messages" not in body:
            return BadRequest("messages is missing: give the conversation", param="messages")
        config = maybe_object(body.get("inferenceConfig"), "inferenceConfig")
        maybe_int(config.get("maxTokens"), "inferenceConfig.maxTokens")
    except BadRequest as exc:
        return exc
    return BadRequest("the body contains messages or inferenceConfig twice, with different values")


# --- reading a request: the rest

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
_INFERENCE = frozenset({*SCALARS.names, "stopSequences"})
_TOOL_SPEC = frozenset({"name", "description", "inputSchema", "strict"})


def _read_tools(config: Block) -> tuple[Tool, ...]:
    tools: list[Tool] = []
    for i, each in enumerate(as_list(config.get("tools") or [], "toolConfig.tools")):
        path = f"toolConfig.tools[{i}]"
        match as_object(each, path):
            case {"toolSpec": dict(spec), **others} if not others:
                tools.append(_read_tool(spec, f"{path}.toolSpec"))
            case {"cachePoint": mark, **others} if (
                not others
                and (read := read_mark(mark, f"{path}.cachePoint")) is not None
                and tools
                and isinstance(last := tools[-1], FunctionTool)
                and last.cache is None
            ):
                tools[-1] = replace(last, cache=read)
            case block:
                tools.append(opaque_of(block, path))
    return tuple(tools)


def _read_tool(spec: Block, path: str) -> FunctionTool:
    schema = as_object(spec.get("inputSchema", {}), f"{path}.inputSchema")
    return FunctionTool(
        as_text(spec.get("name"), f"{path}.name"),
        maybe_text(spec.get("description"), f"{path}.description"),
        schema.get("json"),
        maybe_bool(spec.get("strict"), f"{path}.strict"),
        extras=rest_of(spec, _TOOL_SPEC),
        path=path,
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


_SWITCHES = ("thinking", "reasoning_config", "reasoningConfig")


def _read_reasoning(more: Block, effort: str | None) -> Reasoning | None:
    """From additionalModelRequestFields, in the spelling of any maker of models. Removes the fields that it reads."""
    mode: Literal["enabled", "disabled", "adaptive"] | None = None
    budget: int | None = None
    wire: Block = {}
    extras: Extras = NO_EXTRAS
    for key in _SWITCHES:
        match more.get(key):
            case {"type": "enabled" | "disabled" | "adaptive" as kind, **rest}:
                mode = kind
                budget = maybe_int(rest.get("budget_tokens"), f"{MORE}.{key}.budget_tokens")
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
    return None if mode is None and effort is None else SpelledReasoning(mode, effort, budget, extras, wire)


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
    """Whether parallel calls are allowed. The choice stays in the fields, because it has more members."""
    match more.get("tool_choice"):
        case {"disable_parallel_tool_use": bool(single)}:
            return not single
        case _:
            return None


def _read_format(config: Block) -> ResponseFormat | None:
    """Removes a known format from outputConfig."""
    match config.get("textFormat"):
        case {"type": "json_schema", "structure": {"jsonSchema": {"schema": str(text), **rest}}} if rest.keys() <= {
            "name",
            "description",
        }:
            try:
                schema = decode(text.encode("utf-8", "surrogatepass"))
            except UNREADABLE:
                raise BadRequest(
                    "the schema in outputConfig.textFormat is not valid JSON", param="outputConfig"
                ) from None
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


def _spelled(more: Block, effort: str | None) -> Mapping[str, str]:
    """Where this caller asks for what Converse has no field for: each maker's models have a word of their own."""
    fields = {} if "top_k" in more else {"top_k": f"{MORE}.inferenceConfig.topK"}
    switch = next((key for key in _SWITCHES if isinstance(more.get(key), dict | str)), None)
    level = "outputConfig.effort" if effort is not None else None
    match more:
        case {"reasoning_effort": str()}:
            level = f"{MORE}.reasoning_effort"
        case {"output_config": {"effort": str()}}:
            level = f"{MORE}.output_config.effort"
    path = f"{MORE}.{switch}" if switch is not None else level
    if path is not None:
        fields |= {"reasoning": path, "reasoning.effort": level or path}
    return fields


def read_chat(call: Call) -> Chat:
    try:
        body = as_object(decode(call.raw), "the body")
    except UNREADABLE:
        raise why_no_call(call.raw) from None
    inference = maybe_object(body.get("inferenceConfig"), "inferenceConfig")
    tool_config = maybe_object(body.get("toolConfig"), "toolConfig")
    output = dict(maybe_object(body.get("outputConfig"), "outputConfig"))
    more = dict(maybe_object(body.get(MORE), MORE))
    metadata = body.get("requestMetadata")
    response_format = _read_format(output)
    effort = maybe_text(output.get("effort"), "outputConfig.effort")
    system = read_blocks(body.get("system") or [], "system")
    top_k, parallel, reasoning = _read_top_k(more), _read_parallel(more), _read_reasoning(more, effort)
    if isinstance(reasoning, SpelledReasoning) and effort is not None:
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
                (MORE, rest_of(more, frozenset())),
            )
            if rest
        },
    }
    return Chat(
        dialect=NAME,
        model=call.model,
        messages=(
            *((Message("system", system, path="system"),) if system else ()),
            *read_messages(as_list(body.get("messages"), "messages"), read_blocks, None),
        ),
        stream=call.stream,
        include_usage=call.stream,
        tools=_read_tools(tool_config),
        tool_choice=_read_tool_choice(tool_config.get("toolChoice")),
        parallel_tool_calls=parallel,
        **SCALARS.read(inference),
        top_k=top_k,
        stop=_read_stop(inference.get("stopSequences")),
        response_format=response_format,
        reasoning=reasoning,
        service_tier=_read_tier(body.get("serviceTier")),
        metadata=None if metadata is None else as_object(metadata, "requestMetadata"),
        extras=extras or NO_EXTRAS,
        needed=tuple(name for name in NEEDED if name in extras),
        spelling=SPELLING.but(_spelled(maybe_object(body.get(MORE), MORE), effort)),
    )
