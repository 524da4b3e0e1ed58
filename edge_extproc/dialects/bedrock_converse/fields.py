"""The names of this format's fields, and how each field of another dialect's call is translated."""

from __future__ import annotations

import base64
import binascii
from types import MappingProxyType
from typing import TypeAlias

from ...codecs.json_values import as_int, as_number, as_object
from ...model.content import Json
from ...model.spelling import Spelling
from ...model.wire_names import WireNames
from ..base import FieldSupport
from ..scalars import Scalar, Scalars

NAME = "bedrock_converse"
TITLE = "Bedrock Converse"

Block: TypeAlias = dict[str, Json]
"""A JSON object of the wire format."""

# --- the settings that are one value

INFERENCE = "inferenceConfig"
SCALARS = Scalars(
    INFERENCE,
    Scalar("max_output_tokens", "maxTokens", as_int),
    Scalar(
        "temperature",
        "temperature",
        as_number,
        "a value over 1 is refused; dropped while Claude thinks and for Claude models that take no sampling settings",
    ),
    Scalar("top_p", "topP", as_number, "dropped like temperature, and beside one from Claude 4.1 on"),
)

# --- how a caller spells it

MORE = "additionalModelRequestFields"
_SCHEMA = "outputConfig.textFormat.structure.jsonSchema.schema"
SPELLING = Spelling(
    fields=MappingProxyType(
        {
            **SCALARS.paths,
            "metadata": "requestMetadata",
            "parallel_tool_calls": f"{MORE}.tool_choice.disable_parallel_tool_use",
            "response_format": "outputConfig.textFormat",
            "response_format.schema": _SCHEMA,
            "service_tier": "serviceTier",
            "stop": "inferenceConfig.stopSequences",
            "tool_choice": "toolConfig.toolChoice",
            "top_k": f"{MORE}.top_k",
        }
    ),
    members=MappingProxyType(
        {
            "arguments": "input",
            "call_id": "toolUseId",
            "document_name": "name",
            "id": "toolUseId",
            "is_error": "status",
            "parameters": "inputSchema.json",
        }
    ),
)
"""The paths of a Chat's fields in this format. The reader replaces it if a caller used another name of a field."""

# --- what code that does not read the whole body searches it for

WIRE = WireNames(
    messages=frozenset({"messages"}),
    parts=frozenset({"content"}),
    tools=frozenset({"tools"}),
    tool_objects=frozenset({"toolConfig"}),
    prefix=frozenset({"system"}),
    content=frozenset({"messages", "system"}),
    elsewhere=frozenset({"s3Location", "s3_location"}),
    pointers=frozenset({"uri"}),
    blobs=frozenset({"document", "audio", "video"}),
    inline=frozenset({"bytes"}),
    formats=("format",),
    images=frozenset({"image"}),
    media=frozenset({"image", "document", "audio", "video"}),
    tool_data=frozenset({"input", "json"}),
    labels=frozenset({"type", "role", "toolUseId", "status"}),
    seals=frozenset({"signature"}),
    cache_marks=frozenset({"cachePoint"}),
    required_marks=frozenset({"cachePoint"}),
    settings=frozenset({"additionalModelRequestFields"}),
    reasoning=frozenset({"thinking", "reasoning_config", "reasoningConfig"}),
    reasoning_beside=MappingProxyType({"thinking": "output_config"}),
    efforts=frozenset({"effort", "maxReasoningEffort"}),
    budgets=frozenset({"budget_tokens"}),
    feature_fields=MappingProxyType({"toolConfig": "tools"}),
    feature_blocks=MappingProxyType({"image": "images", "document": "files", "video": "files", "toolSpec": "tools"}),
    feature_names=MappingProxyType({"nova_grounding": "web_search", "nova_code_interpreter": "code_execution"}),
    tiers=frozenset({"serviceTier", "performanceConfig"}),
    provider_tools=frozenset({"systemTool"}),
)
"""The names of this format for bounds, policies and the cache key."""

# --- what becomes of a chat that crosses over


FIELDS = SCALARS.documented(
    {
        "dialect": FieldSupport("mapped", "not sent; names the format of the extras and opaque parts"),
        "model": FieldSupport("mapped", "the path, escaped as one segment: the provider's name of the model"),
        "messages": FieldSupport(
            "mapped",
            "system and developer messages become system blocks in order; tool results come first in the user "
            "message; consecutive messages of one role are joined; empty text is left out; a cache mark becomes a "
            "cachePoint after its block, where the family of the model caches; thinking that the model would refuse, "
            "names, image detail and foreign part fields are dropped; pictures and documents by URL, uploaded files "
            "and parts that only another format has are refused; a conversation that does not begin with the user is "
            "refused",
        ),
        "stream": FieldSupport("mapped", "the path"),
        "include_usage": FieldSupport("mapped", "not sent: streams of this format always report usage"),
        "tools": FieldSupport(
            "mapped",
            "toolConfig.tools: name, description, inputSchema; strict for Claude models with structured outputs, "
            "dropped for others; a custom tool → a function with one string; a tool that only the caller's format has "
            "is dropped, or refused if it is forced; if the history has tool calls and the request has no tools, "
            "stubs are sent",
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
        "top_k": FieldSupport(
            "mapped",
            "additionalModelRequestFields, as the maker of the model names it; dropped where it has none, and like "
            "temperature",
        ),
        "stop": FieldSupport("mapped", "inferenceConfig.stopSequences; those of white space only are dropped"),
        "n": FieldSupport("refused", "if more than one choice is requested"),
        "seed": FieldSupport("dropped", ""),
        "presence_penalty": FieldSupport("dropped", ""),
        "frequency_penalty": FieldSupport("dropped", ""),
        "logprobs": FieldSupport("refused", "if they are requested"),
        "top_logprobs": FieldSupport("refused", "if they are requested"),
        "response_format": FieldSupport(
            "mapped",
            "json_schema → outputConfig.textFormat, objects closed where they were left open; refused for Claude "
            "before 4.5; json_object → a system text that asks for it, and the reply is checked; strict "
            "false is dropped: Bedrock always enforces the schema",
        ),
        "reasoning": FieldSupport(
            "mapped",
            "additionalModelRequestFields, as the maker of the model names it: thinking and output_config for Claude "
            "(dropped before 3.7), reasoningConfig for Nova, reasoning_effort for gpt-oss, reasoning_config for others",
        ),
        "service_tier": FieldSupport("mapped", "default, flex, priority, reserved → serviceTier; auto is not sent"),
        "user": FieldSupport("dropped", ""),
        "metadata": FieldSupport("mapped", "requestMetadata; dropped if Bedrock would reject it"),
        "extras": FieldSupport(
            "dropped",
            "except those that are essential in the caller's format, which are refused: in OpenAI chat audio output, "
            "web search, the old functions and unknown tool choices",
        ),
        "needed": FieldSupport("refused", "every field that it names"),
    }
)

# What no other provider can honour: a guardrail's absence would let through what it forbids, and a prompt of Bedrock's
# own store needs its variables.
NEEDED = ("guardrailConfig", "promptVariables")

# --- JSON


def maybe_object(value: Json, path: str) -> Block:
    return {} if value is None else as_object(value, path)


def bytes_of(data: str) -> bytes | None:
    """None: it is not base64."""
    try:
        return base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError):
        return None


def utf8(data: str) -> str | None:
    """The text in this base64. None: it is not UTF-8 text in base64."""
    raw = bytes_of(data)
    try:
        return None if raw is None else raw.decode()
    except UnicodeDecodeError:
        return None


def base64_of(text: str) -> str:
    return base64.b64encode(text.encode("utf-8", "surrogatepass")).decode()
