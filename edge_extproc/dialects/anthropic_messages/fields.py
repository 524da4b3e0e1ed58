"""The names of this format's fields, and how each field of another dialect's call is translated."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from ...codecs.json_values import as_int, as_number, as_text
from ...model.content import Json
from ...model.spelling import Spelling
from ...model.wire_names import WireNames
from ..base import FieldSupport
from ..scalars import Scalar, Scalars

NAME = "anthropic_messages"
TITLE = "Anthropic Messages"

Block = dict[str, Json]
"""A JSON object of the wire format."""

# --- the settings that are one value

_SERVICE_TIERS: Mapping[str, str] = MappingProxyType({"auto": "auto", "default": "standard_only"})
SCALARS = Scalars(
    "",
    Scalar(
        "max_output_tokens",
        "max_tokens",
        as_int,
        "if it is missing, a limit that every model of the generation accepts",
    ),
    Scalar(
        "temperature",
        "temperature",
        as_number,
        "a value over 1 is refused; dropped while thinking is on and for models that take no sampling settings",
    ),
    Scalar("top_p", "top_p", as_number, "dropped like temperature, and beside a temperature from Claude 4.1 on"),
    Scalar("top_k", "top_k", as_int, "dropped like temperature"),
    Scalar(
        "service_tier", "service_tier", as_text, "auto, default → standard_only; others are dropped", _SERVICE_TIERS.get
    ),
)

# --- how a caller spells it

SPELLING = Spelling(
    fields=MappingProxyType(
        {
            **SCALARS.paths,
            "parallel_tool_calls": "tool_choice.disable_parallel_tool_use",
            "reasoning": "thinking",
            "reasoning.effort": "output_config.effort",
            "response_format": "output_config.format",
            "stop": "stop_sequences",
            "user": "metadata.user_id",
        }
    ),
    members=MappingProxyType(
        {"arguments": "input", "call_id": "tool_use_id", "document_name": "title", "parameters": "input_schema"}
    ),
)
"""The paths of a Chat's fields in this format. The reader replaces it if a caller used another name of a field."""

# --- what code that does not read the whole body searches it for

# Claude Code's first line of a system prompt. It differs with every request, so that no prefix cache of another
# provider would ever match. Only Anthropic reads it.
BILLING = "x-anthropic-billing-header:"

WIRE = WireNames(
    request_lines=frozenset({BILLING}),
    messages=frozenset({"messages"}),
    parts=frozenset({"content"}),
    tools=frozenset({"tools"}),
    prefix=frozenset({"tools", "system"}),
    content=frozenset({"messages", "system"}),
    beside=frozenset({"model", "metadata", "service_tier"}),
    elsewhere=frozenset({"container", "file_id"}),
    links=frozenset({"url"}),
    pointers=frozenset({"url"}),
    blobs=frozenset({"source"}),
    inline=frozenset({"data"}),
    media_types=("media_type",),
    image_types=frozenset({"image"}),
    media=frozenset({"image", "document"}),
    tool_data=frozenset({"input"}),
    labels=frozenset({"type", "role", "id", "tool_use_id"}),
    seals=frozenset({"signature"}),
    cache_marks=frozenset({"cache_control"}),
    required_marks=frozenset({"cache_control"}),
    reasoning=frozenset({"thinking"}),
    # The effort is one of answers, too: only with thinking does it say how much is thought.
    reasoning_beside=MappingProxyType({"thinking": "output_config"}),
    efforts=frozenset({"effort"}),
    budgets=frozenset({"budget_tokens"}),
    feature_fields=MappingProxyType({"tools": "tools", "file_id": "files", "mcp_servers": "mcp"}),
    feature_types=MappingProxyType(
        {
            "image": "images",
            "file": "files",
            "document": "files",
            "web_search": "web_search",
            "web_fetch": "web_search",
            "code_execution": "code_execution",
            "bash": "code_execution",
            "computer": "code_execution",
            "mcp": "mcp",
        }
    ),
    tiers=frozenset({"service_tier", "speed", "inference_geo"}),
    provider_tools=frozenset({"mcp_servers"}),
    summary_types=frozenset({"compact_"}),
    provider_tool_types=frozenset({"web_search", "web_fetch", "code_execution", "mcp_toolset"}),
    headers=frozenset({"anthropic-beta", "anthropic-version"}),
    version_headers=frozenset({"anthropic-version"}),
    delivery=frozenset({"model", "stream"}),
    stateful=frozenset({"container"}),
    owned=frozenset({"container", "file_id", "skill_id"}),
)
"""The names of this format for bounds, policies and the cache key."""

# --- what becomes of a chat that crosses over


FIELDS = SCALARS.documented(
    {
        "dialect": FieldSupport("mapped", "not sent; names the format of the extras and opaque parts"),
        "model": FieldSupport("mapped", "model: the provider's name of the model"),
        "messages": FieldSupport(
            "mapped",
            "system and developer messages become system blocks in order; tool messages become tool_result blocks at "
            "the beginning of a user message; consecutive messages of one role are joined; empty text is left out; "
            "thinking without a signature, names, image detail and foreign part fields are dropped; audio, uploaded "
            "files and parts that only another format has are refused; a conversation that does not begin with the "
            "user is refused",
        ),
        "stream": FieldSupport("mapped", "stream"),
        "include_usage": FieldSupport("mapped", "not sent: streams of this format always report usage"),
        "tools": FieldSupport(
            "mapped",
            "name, description, input_schema, strict (dropped for models without structured outputs); a custom tool → "
            "a function with one string; a tool that only the caller's format has is dropped, or refused if it is "
            "forced; if the history has tool calls and the request has no tools, stubs are sent that may not be called",
        ),
        "tool_choice": FieldSupport(
            "mapped",
            "auto, required → any, none, a function → tool; dropped without tools, and a forced call is dropped where "
            "thinking is on",
        ),
        "parallel_tool_calls": FieldSupport(
            "mapped", "false → tool_choice.disable_parallel_tool_use, with auto made explicit"
        ),
        "stop": FieldSupport("mapped", "stop_sequences; those of white space only are dropped"),
        "n": FieldSupport("refused", "if more than one choice is requested"),
        "seed": FieldSupport("dropped", ""),
        "presence_penalty": FieldSupport("dropped", ""),
        "frequency_penalty": FieldSupport("dropped", ""),
        "logprobs": FieldSupport("refused", "if they are requested"),
        "top_logprobs": FieldSupport("refused", "if they are requested"),
        "response_format": FieldSupport(
            "mapped",
            "json_schema → output_config.format from Claude 4.5 on, objects closed where they were left open, refused "
            "before; json_object → a system text that asks for it, and the reply is checked",
        ),
        "reasoning": FieldSupport(
            "mapped",
            "effort → output_config.effort and adaptive thinking from Claude 4.6 on, a budget of thinking tokens from "
            "3.7 to 4.5, dropped before; a level that the model does not have is refused",
        ),
        "user": FieldSupport("mapped", "metadata.user_id; dropped if it is longer than the API accepts"),
        "metadata": FieldSupport("dropped", ""),
        "extras": FieldSupport(
            "dropped",
            "except those that are essential in the caller's format, which are refused: in OpenAI chat audio output, "
            "web search, the old functions and unknown tool choices",
        ),
        "needed": FieldSupport("refused", "every field that it names"),
    }
)

# Extras of this dialect which no other provider can honour and which the answer depends on.
NEEDED = ("container", "mcp_servers")
MAX_USER_ID = 256  # the API reference's limit for metadata.user_id
