"""Reads a generateContent request into a Chat."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from urllib.parse import parse_qs

import msgspec

from ...codecs.json_values import (
    UNREADABLE,
    as_object,
    as_text,
    decode,
    maybe,
    maybe_text,
    object_in,
    read_body,
    wrong,
)
from ...codecs.openapi_schema import to_json_schema
from ...errors import BadRequest
from ...model.call import Call, Chat, FunctionTool, Operation, Reasoning, ResponseFormat, Tool, ToolChoice
from ...model.content import Json, Message, Opaque, Text
from ..base import Headers, header, output_limit
from ..hosted_tools import of_gemini
from ..reading import model_in_path
from ..wrapped_roots import has_object_root
from .content import (
    CALLING,
    CONFIG_NAMES,
    CONTENT,
    DECLARATION,
    MODES,
    THINKING,
    TIERS,
    TOOL,
    TOOL_CONFIG,
    ContentsReader,
    one_or_many,
)
from .fields import ABSENT, CONFIG, HUMP, NAME, SCALARS, SPELLING, Block, as_count, extras_of, names_of, split


class _Probe(msgspec.Struct):
    contents: msgspec.Raw = ABSENT
    request: dict[str, msgspec.Raw] | None = msgspec.field(name="generateContentRequest", default=None)
    snake_request: dict[str, msgspec.Raw] | None = msgspec.field(name="generate_content_request", default=None)
    config: dict[str, Json] | None = msgspec.field(name="generationConfig", default=None)
    snake_config: dict[str, Json] | None = msgspec.field(name="generation_config", default=None)


probe_of = msgspec.json.Decoder(_Probe)
LIMIT_NAMES = ("maxOutputTokens", "max_output_tokens")
CHOICES_NAMES = ("candidateCount", "candidate_count")


def largest(probe: _Probe, names: tuple[str, str]) -> int | None:
    """A count of generationConfig. Where it is spelled in two ways, the larger one bounds what the provider may do."""
    path = f"{CONFIG}.{names[0]}"
    counts = [
        as_count(value, path)
        for config in (probe.config, probe.snake_config)
        if config is not None
        for name in names
        if (value := config.get(name)) is not None
    ]
    if names == LIMIT_NAMES:
        for count in counts:
            output_limit(count, path)
    return max(counts, default=None)


def why_no_call(raw: bytes) -> BadRequest:
    """The error for an unreadable body."""
    try:
        body = read_body(raw)
    except BadRequest as exc:
        return exc
    for name in ("generationConfig", "generation_config", "generateContentRequest", "generate_content_request"):
        if body.get(name) is not None and not isinstance(body[name], dict):
            return wrong(name, "an object", body[name])
    return BadRequest("contents is missing: it holds what to answer", param="contents")


VERBS: Mapping[str, Operation] = MappingProxyType(
    {"generateContent": "chat", "streamGenerateContent": "chat", "countTokens": "count_tokens"}
)
# Where Google's hosts and SDKs speak it: AI Studio, then Vertex with a project and without one (express mode).
ROOTS = (
    "/v1beta/models",
    "/v1/models",
    *(
        f"/{version}{project}/publishers/google/models"
        for version in ("v1", "v1beta1")
        for project in ("/projects/{project}/locations/{location}", "")
    ),
)
_LONGEST_MODEL = 256
ARRAY_TYPE = "application/json"


def address(path: str) -> tuple[str, str]:
    """The model and the verb at the end of a path."""
    name, _, verb = path.rpartition("/")[2].rpartition(":")
    return model_in_path(name, _LONGEST_MODEL), verb


def query_of(headers: Headers, path: str) -> Mapping[str, list[str]]:
    return parse_qs((header(headers, ":path") or path).partition("?")[2])


def wants_array(query: Mapping[str, list[str]]) -> bool:
    """Without alt=sse, a stream is a JSON array."""
    return "sse" not in (query.get("alt") or query.get("$alt") or [""])[-1].split(";")


# --- reading a request

_CHAT = names_of("contents", "systemInstruction", "tools", "toolConfig", "generationConfig", "serviceTier", "model")


def _read_tools(value: Json) -> Iterator[Tool]:
    for i, tool in enumerate(one_or_many(value, "tools")):
        known, rest = split(as_object(tool, f"tools[{i}]"), TOOL)
        path = f"tools[{i}].functionDeclarations"
        for j, declaration in enumerate(one_or_many(known.get("functionDeclarations", []), path)):
            yield _read_declaration(as_object(declaration, f"{path}[{j}]"), f"{path}[{j}]")
        for kind, settings in rest.items():
            yield of_gemini(Opaque(NAME, kind, {kind: settings}, f"tools[{i}].{kind}"))


def _read_declaration(value: Block, path: str) -> FunctionTool:
    known, rest = split(value, DECLARATION)
    schema = known.get("parametersJsonSchema")
    return FunctionTool(
        as_text(known.get("name"), f"{path}.name"),
        maybe_text(known.get("description"), f"{path}.description"),
        schema if schema is not None else to_json_schema(known.get("parameters")),
        extras=extras_of(rest),
        path=path,
    )


def _read_tool_config(value: Json) -> tuple[ToolChoice | None, Block]:
    known, rest = split(as_object(value, "toolConfig"), TOOL_CONFIG)
    extras = {f"toolConfig.{key}": each for key, each in rest.items()}
    if "functionCallingConfig" not in known:
        return None, extras
    path = "toolConfig.functionCallingConfig"
    calling, others = split(as_object(known["functionCallingConfig"], path), CALLING)
    extras.update({f"{path}.{key}": each for key, each in others.items()})
    name = calling.get("mode")
    mode = MODES.get(name.upper()) if isinstance(name, str) else None
    allowed = calling.get("allowedFunctionNames")
    match mode, allowed:
        case "required", str(only) | [str(only)]:
            return ToolChoice("tool", only), extras
        case None, _:  # a mode that only Gemini has, such as VALIDATED
            extras.update({f"{path}.{key}": each for key, each in calling.items()})
            return None, extras
        case _, _:
            if allowed is not None:
                extras[_ALLOWED] = allowed
            return ToolChoice(mode), extras


_ALLOWED = "toolConfig.functionCallingConfig.allowedFunctionNames"


def _allowed(tools: tuple[Tool, ...], extras: Block) -> tuple[Tool, ...]:
    """The tools that the model may call, if the request names some of its functions. Formats without such a choice get
    only these; the functions of the history need no declaration."""
    names = extras.get(_ALLOWED)
    if not isinstance(names, list) or not names:
        return tools
    narrowed = tuple(tool for tool in tools if not isinstance(tool, FunctionTool) or tool.name in names)
    if not any(isinstance(tool, FunctionTool) for tool in narrowed):
        return tools
    del extras[_ALLOWED]
    return narrowed


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
            return ResponseFormat("json_schema", schema, any_root=True), {}
        case _:
            fields = ("responseMimeType", "responseSchema", "responseJsonSchema")
            return None, {f"generationConfig.{key}": config[key] for key in fields if key in config}


def _read_thinking(value: Json) -> Reasoning | None:
    path = "generationConfig.thinkingConfig"
    known, rest = split(as_object(value, path), THINKING)
    if "includeThoughts" in known:
        rest["includeThoughts"] = known["includeThoughts"]
    level = maybe_text(known.get("thinkingLevel"), f"{path}.thinkingLevel")
    effort = level.lower() if level is not None and level != "THINKING_LEVEL_UNSPECIFIED" else None
    extras = extras_of(rest)
    match maybe(as_count, known, "thinkingBudget", path):
        case None:
            return Reasoning(None, effort, None, extras) if effort is not None or extras else None
        case 0:
            return Reasoning("disabled", effort, None, extras)
        case -1:
            return Reasoning("adaptive", effort, None, extras)
        case budget:
            return Reasoning("enabled", effort, budget, extras)


def _read_system(value: Json, reading: ContentsReader) -> Message:
    """A Content, whose role is ignored. Some callers send a bare string, as the SDKs accept it."""
    if isinstance(value, str):
        return Message("system", (Text(value, path="systemInstruction"),), path="systemInstruction")
    content, rest = split(as_object(value, "systemInstruction"), CONTENT)
    if "parts" not in content and rest:  # a single Part
        return Message("system", (reading.part(rest, "systemInstruction"),), path="systemInstruction")
    message = reading.message({"parts": content.get("parts", [])}, "systemInstruction")
    return Message("system", message.parts, extras=extras_of(rest), path="systemInstruction")


_OF_SCHEMA = re.compile(rb'"response(?:_json_schema|_schema|JsonSchema|Schema)"')


def has_any_root(call: Call | None) -> bool:
    """Whether a request has a schema whose root is no object."""
    if call is None or _OF_SCHEMA.search(call.raw) is None:
        return False
    try:
        known, _ = split(object_in(split(read_body(call.raw), _CHAT)[0], CONFIG), CONFIG_NAMES)
        wanted, _ = _read_format(known)
    except (BadRequest, RecursionError):
        return False
    return wanted is not None and not has_object_root(wanted.schema)


def read_chat(call: Call) -> Chat:
    try:
        document = as_object(decode(call.raw), "the body")
    except UNREADABLE:
        raise why_no_call(call.raw) from None
    body, extras = split(document, _CHAT)
    config, config_rest = split(as_object(body.get("generationConfig", {}), "generationConfig"), CONFIG_NAMES)
    extras.update({f"generationConfig.{key}": value for key, value in config_rest.items()})
    response_format, format_rest = _read_format(config)
    choice, choice_rest = _read_tool_config(body["toolConfig"]) if "toolConfig" in body else (None, {})
    tools = _allowed(tuple(_read_tools(body.get("tools", []))), choice_rest)
    tier = body.get("serviceTier")
    service_tier = next((ours for ours, theirs in TIERS.items() if theirs == tier), None)
    if service_tier is None and tier is not None:
        extras["serviceTier"] = tier
    reading = ContentsReader()
    messages: list[Message] = []
    if "systemInstruction" in body:
        messages.append(_read_system(body["systemInstruction"], reading))
    contents = one_or_many(body.get("contents"), "contents")
    messages += reading.messages(contents)
    stops = one_or_many(config.get("stopSequences", []), "generationConfig.stopSequences")
    return Chat(
        dialect=NAME,
        model=call.model,
        messages=tuple(messages),
        stream=call.stream,
        include_usage=call.stream,
        tools=tools,
        tool_choice=choice,
        **SCALARS.read(config),
        stop=tuple(as_text(stop, f"generationConfig.stopSequences[{i}]") for i, stop in enumerate(stops)),
        response_format=response_format,
        reasoning=_read_thinking(config["thinkingConfig"]) if "thinkingConfig" in config else None,
        service_tier=service_tier,
        extras=(rest := extras_of(extras, format_rest, choice_rest)),
        needed=tuple(
            path for path, value in rest.items() if HUMP.sub("_", path).lower() in _NEEDED and _is_not_default(value)
        ),
        spelling=SPELLING.but({"response_format.schema": "generationConfig.responseSchema"})
        if "responseSchema" in config and "responseJsonSchema" not in config
        else SPELLING,
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


def _is_not_default(value: Json) -> bool:
    """Whether a field has another value than the default."""
    return value not in (["TEXT"], "TEXT", [])
