"""The names of this format's fields, and how each field of another dialect's call is translated."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import TypeAlias

import msgspec

from ...codecs.json_values import as_bool, as_int, as_number
from ...model.content import NO_EXTRAS, Extras, Json
from ...model.spelling import Spelling
from ...model.wire_names import WireNames
from ..base import FieldSupport
from ..scalars import Scalar, Scalars

NAME = "gemini_generate"
TITLE = "Gemini generateContent"

Block: TypeAlias = dict[str, Json]
"""A JSON object of the wire format."""

# --- the settings that are one value


def as_count(value: Json, path: str) -> int:
    """An integer. Protobuf's JSON accepts "7" and 7.0 as 7."""
    if isinstance(value, str) and re.fullmatch(r"-?[0-9]{1,19}", value):
        return int(value)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return as_int(value, path)


CONFIG = "generationConfig"
SCALARS = Scalars(
    CONFIG,
    Scalar("max_output_tokens", "maxOutputTokens", as_count),
    Scalar("temperature", "temperature", as_number),
    Scalar("top_p", "topP", as_number),
    Scalar("top_k", "topK", as_count),
    Scalar("n", "candidateCount", as_count),
    Scalar("seed", "seed", as_count),
    Scalar("presence_penalty", "presencePenalty", as_number),
    Scalar("frequency_penalty", "frequencyPenalty", as_number),
    Scalar("logprobs", "responseLogprobs", as_bool),
    Scalar("top_logprobs", "logprobs", as_count),
)
"""Those of generationConfig."""

# --- how a caller spells it

SPELLING = Spelling(
    fields=MappingProxyType(
        {
            **SCALARS.paths,
            "messages": "contents",
            "reasoning": f"{CONFIG}.thinkingConfig",
            "reasoning.budget_tokens": f"{CONFIG}.thinkingConfig.thinkingBudget",
            "reasoning.effort": f"{CONFIG}.thinkingConfig.thinkingLevel",
            "response_format": f"{CONFIG}.responseMimeType",
            "response_format.schema": f"{CONFIG}.responseJsonSchema",
            "service_tier": "serviceTier",
            "stop": f"{CONFIG}.stopSequences",
            "tool_choice": "toolConfig.functionCallingConfig",
        }
    ),
    members=MappingProxyType(
        {
            "arguments": "functionCall.args",
            "call_id": "functionResponse.id",
            "detail": "mediaResolution",
            "document_name": "inlineData.displayName",
            "id": "functionCall.id",
            "is_error": "functionResponse.response.error",
            "linked_document_name": "fileData.displayName",
            "parameters": "parametersJsonSchema",
            "signature": "thoughtSignature",
        }
    ),
)
"""The paths of a Chat's fields in this format, in camel case, as in Google's documentation."""

# --- what code that does not read the whole body searches it for

# Protobuf's JSON has two spellings of each name.
WIRE = WireNames(
    messages=frozenset({"contents"}),
    parts=frozenset({"parts"}),
    tools=frozenset({"tools"}),
    functions=frozenset({"functionDeclarations", "function_declarations"}),
    prefix=frozenset({"tools", "systemInstruction", "system_instruction"}),
    content=frozenset({"contents", "systemInstruction", "system_instruction"}),
    beside=frozenset({"model", "labels"}),
    elsewhere=frozenset({"cachedContent", "cached_content", "fileUri", "file_uri"}),
    unbounded=frozenset({"fileData", "file_data"}),
    blobs=frozenset({"inlineData", "inline_data", "fileData", "file_data"}),
    inline=frozenset({"data"}),
    media_types=("mimeType", "mime_type"),
    media=frozenset({"inlineData", "inline_data"}),
    tool_data=frozenset({"args", "response"}),
    labels=frozenset({"role", "id"}),
    seals=frozenset({"thoughtSignature", "thought_signature"}),
    settings=frozenset({"generationConfig", "generation_config"}),
    reasoning=frozenset({"thinkingConfig", "thinking_config"}),
    efforts=frozenset({"thinkingLevel", "thinking_level"}),
    budgets=frozenset({"thinkingBudget", "thinking_budget"}),
    feature_fields=MappingProxyType(
        {
            "tools": "tools",
            "toolConfig": "tools",
            "tool_config": "tools",
            "functionDeclarations": "tools",
            "function_declarations": "tools",
            "speechConfig": "audio",
            "speech_config": "audio",
            "fileData": "files",
            "file_data": "files",
            "googleSearch": "web_search",
            "google_search": "web_search",
            "googleSearchRetrieval": "web_search",
            "google_search_retrieval": "web_search",
            "urlContext": "web_search",
            "url_context": "web_search",
            "codeExecution": "code_execution",
            "code_execution": "code_execution",
            "enterpriseWebSearch": "web_search",
            "enterprise_web_search": "web_search",
            "googleMaps": "web_search",
            "google_maps": "web_search",
            "computerUse": "code_execution",
            "computer_use": "code_execution",
            "fileSearch": "files",
            "file_search": "files",
            "retrieval": "files",
            "mcpServers": "mcp",
            "mcp_servers": "mcp",
        }
    ),
    tiers=frozenset({"serviceTier", "service_tier"}),
    provider_tools=frozenset(
        {
            *("googleSearch", "google_search", "urlContext", "url_context", "codeExecution", "code_execution"),
            *("enterpriseWebSearch", "enterprise_web_search", "googleMaps", "google_maps"),
            *("fileSearch", "file_search", "retrieval", "mcpServers", "mcp_servers"),
        }
    ),
    modalities=frozenset({"responseModalities", "response_modalities"}),
    resources=frozenset(
        {
            "cachedContent",
            "cached_content",
            "fileSearchStoreNames",
            "fileUri",
            "file_search_store_names",
            "file_uri",
        }
    ),
)
"""The names of this format for bounds, policies and the cache key."""

# --- what becomes of a chat that crosses over


FIELDS = SCALARS.documented(
    {
        "dialect": FieldSupport("mapped", "not sent; names the format of the extras and opaque parts"),
        "model": FieldSupport("mapped", "the path: the provider's name of the model"),
        "messages": FieldSupport(
            "mapped",
            "system and developer messages become parts of systemInstruction in order; tool results come first in the "
            "user message; consecutive messages of one role are joined; empty text is left out; thinking, refusals, "
            "names, cache marks and foreign part fields are dropped; a tool result without its call, other providers' "
            "files and parts that only another format has are refused. If the calls for a Gemini 3 model have no "
            "thought signature, the first call of a message gets the one that Google documents for other models' "
            "history",
        ),
        "stream": FieldSupport("mapped", "the path"),
        "include_usage": FieldSupport("mapped", "not sent: streams of this format always report usage"),
        "tools": FieldSupport(
            "mapped",
            "functionDeclarations; a schema is unchanged from Gemini 2.5 on, and narrowed to OpenAPI for older "
            "models; strict is dropped; a custom tool → a function with one string; a tool that only the caller's "
            "format has is dropped, or refused if it is forced",
        ),
        "tool_choice": FieldSupport(
            "mapped", "auto, required → ANY, none, a function → ANY with its name; dropped without tools"
        ),
        "parallel_tool_calls": FieldSupport("dropped", "where it is false"),
        "stop": FieldSupport("mapped", "generationConfig.stopSequences; more than five are refused"),
        "response_format": FieldSupport(
            "mapped",
            "responseMimeType, and responseJsonSchema (responseSchema before Gemini 2.5); a name and a description "
            "become the schema's title and description; strict false is dropped: Google always enforces the schema",
        ),
        "reasoning": FieldSupport(
            "mapped",
            "thinkingConfig: thinkingLevel from Gemini 3 on, thinkingBudget for 2.5, dropped before; efforts as "
            "Google's own OpenAI endpoint maps them; refused if it is to be disabled and the model cannot",
        ),
        "service_tier": FieldSupport(
            "mapped", "default → standard, flex, priority; auto is not sent; others are dropped"
        ),
        "user": FieldSupport("dropped", ""),
        "metadata": FieldSupport("dropped", ""),
        "extras": FieldSupport(
            "dropped",
            "except those that are essential in the caller's format, which are refused: in OpenAI chat audio output, "
            "web search, the old functions and unknown tool choices",
        ),
        "needed": FieldSupport("refused", "every field that it names"),
    }
)

MOST_STOPS = 5  # Google's reference of GenerationConfig


Names: TypeAlias = Mapping[str, str]
"""Both spellings of each field, and the one that is written."""

HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


def names_of(*camel: str) -> Names:
    return MappingProxyType({spelling: name for name in camel for spelling in (name, HUMP.sub("_", name).lower())})


def split(block: Mapping[str, Json], names: Names) -> tuple[Block, Block]:
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


def extras_of(*pieces: Mapping[str, Json]) -> Extras:
    merged = {key: value for piece in pieces for key, value in piece.items()}
    return merged or NO_EXTRAS


ABSENT = msgspec.Raw()
