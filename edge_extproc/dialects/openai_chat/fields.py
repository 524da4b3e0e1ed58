"""The names of this format's fields, and how each field of another dialect's call is translated."""

from __future__ import annotations

from types import MappingProxyType

from ...codecs.json_values import as_bool, as_int, as_number, as_text
from ...model.content import Json
from ...model.spelling import Spelling
from ...model.wire_names import WireNames
from ..base import FieldSupport
from ..scalars import Scalar, Scalars, left_out
from .models import SERVICE_TIERS

NAME = "openai_chat"
TITLE = "OpenAI Chat Completions"

Object = dict[str, Json]
"""A JSON object of the wire format."""

# --- the settings that are one value

_SAMPLED = "dropped for reasoning models of OpenAI that refuse it"
SCALARS = Scalars(
    "",
    Scalar("temperature", "temperature", as_number, _SAMPLED),
    Scalar("top_p", "top_p", as_number, _SAMPLED),
    Scalar(
        "top_k",
        "top_k",
        as_int,
        "the format has no such setting",
        left_out,
    ),
    Scalar("n", "n", as_int),
    Scalar("seed", "seed", as_int),
    Scalar("presence_penalty", "presence_penalty", as_number, _SAMPLED),
    Scalar("frequency_penalty", "frequency_penalty", as_number, _SAMPLED),
    Scalar("logprobs", "logprobs", as_bool, _SAMPLED),
    Scalar("top_logprobs", "top_logprobs", as_int, _SAMPLED),
    Scalar(
        "service_tier",
        "service_tier",
        as_text,
        "standard_only → default; values that OpenAI does not have are dropped",
        SERVICE_TIERS.get,
    ),
)

# --- how a caller spells it

SPELLING = Spelling(
    fields=MappingProxyType(
        {
            "max_output_tokens": "max_completion_tokens",
            "reasoning": "reasoning_effort",
            "reasoning.effort": "reasoning_effort",
            "reasoning.budget_tokens": "reasoning.max_tokens",
            "response_format.schema": "response_format.json_schema.schema",
            "response_format.strict": "response_format.json_schema.strict",
        }
    ),
    members=MappingProxyType(
        {
            "arguments": "function.arguments",
            "call_id": "tool_call_id",
            "detail": "image_url.detail",
            "document_name": "file.filename",
            "parameters": "function.parameters",
            "signature": "extra_content.google.thought_signature",
            "strict": "function.strict",
        }
    ),
    essential=MappingProxyType(
        {
            "audio": None,
            "function_call": None,
            "functions": None,
            "modalities": ["text"],
            "tool_choice": None,
            "web_search_options": None,
        }
    ),
)
"""The paths of a Chat's fields in this format. The reader replaces it if a caller used another name of a field."""

# --- what code that does not read the whole body searches it for

WIRE = WireNames(
    messages=frozenset({"messages"}),
    parts=frozenset({"content"}),
    tools=frozenset({"tools"}),
    prefix=frozenset({"tools"}),
    content=frozenset({"messages", "prompt"}),  # `prompt` of the completions before chat
    beside=frozenset(
        {"model", "metadata", "user", "stream_options", "prompt_cache_key", "safety_identifier", "service_tier"}
    ),
    elsewhere=frozenset({"file_id", "preset"}),
    links=frozenset({"url", "image_url"}),
    pointers=frozenset({"url"}),
    unbounded=frozenset({"file_data"}),
    blobs=frozenset({"file", "file_data", "input_audio", "audio"}),
    inline=frozenset({"data"}),
    formats=("format",),
    images=frozenset({"image_url"}),
    media=frozenset({"image_url", "input_audio", "audio"}),
    tool_data=frozenset({"arguments"}),
    labels=frozenset({"type", "role", "id", "tool_call_id"}),
    seals=frozenset({"signature", "thought_signature"}),
    cache_marks=frozenset({"cache_control"}),
    reasoning=frozenset({"reasoning", "thinking"}),
    reasoning_efforts=frozenset({"reasoning_effort"}),
    efforts=frozenset({"effort"}),
    budgets=frozenset({"max_tokens", "budget_tokens"}),
    feature_fields=MappingProxyType(
        {
            "tools": "tools",
            "functions": "tools",
            "image_url": "images",
            "input_audio": "audio",
            "audio": "audio",
            "file_id": "files",
            "file_data": "files",
            "web_search_options": "web_search",
            # xAI, Alibaba, Cohere, Perplexity and Zhipu, in this order.
            "search_parameters": "web_search",
            "enable_search": "web_search",
            "connectors": "web_search",
            "search_recency_filter": "web_search",
            "search_domain_filter": "web_search",
            "web_search": "web_search",
            "document_library_ids": "files",  # Mistral
        }
    ),
    feature_types=MappingProxyType(
        {
            "image": "images",
            "input_audio": "audio",
            "audio": "audio",
            "file": "files",
            "browser_search": "web_search",  # Groq
            "x_search": "web_search",  # xAI
            "openrouter:web_search": "web_search",
            "collections_search": "files",
            "document_library": "files",
            "builtin_function": "web_search",  # Moonshot: the name is $web_search
        }
    ),
    feature_ids=MappingProxyType({"web": "web_search", "file-parser": "files"}),  # OpenRouter's plugins
    feature_suffixes=MappingProxyType({":online": "web_search"}),  # OpenRouter
    # OpenRouter: models, route. LiteLLM: fallbacks and so on. Vercel: providerOptions.gateway.models.
    other_models=frozenset({"models", "fallbacks", "context_window_fallbacks", "content_policy_fallbacks"}),
    router_modes=frozenset({"route"}),
    router_settings=frozenset({"providerOptions", "provider_options", "gateway"}),
    tiers=frozenset({"service_tier"}),
    provider_tools=frozenset({"search_parameters", "enable_search", "connectors", "plugins", "web_search_options"}),
    provider_tool_types=frozenset(
        {
            *("web_search", "browser_search", "x_search", "openrouter:web_search", "collections_search"),
            *("document_library", "builtin_function"),
        }
    ),
    modalities=frozenset({"modalities"}),
    headers=frozenset({"openai-beta"}),
    delivery=frozenset({"model", "stream", "stream_options"}),
    owned=frozenset({"file_id"}),
    # The audio of an earlier reply. The request's setting for the output has no id.
    owned_objects=frozenset({"audio"}),
    stored_if=frozenset({"store"}),
)
"""The names of this format for bounds, policies and the cache key."""

# --- what becomes of a chat that crosses over


FIELDS = SCALARS.documented(
    {
        "dialect": FieldSupport("mapped", "not sent; names the format of the extras and opaque parts"),
        "model": FieldSupport("mapped", "model: the provider's name of the model"),
        "messages": FieldSupport(
            "mapped",
            "system messages keep their position; tool results become tool messages before the rest of their message, "
            "and images and documents in them go into the user message that follows; the texts of an assistant "
            "message are joined; thinking, the error flag of a tool result, cache marks and foreign fields are "
            "dropped; a refusal is content at hosts other than OpenAI; uploaded files, documents by URL and parts that "
            "only another format has are refused",
        ),
        "stream": FieldSupport("mapped", "stream"),
        "include_usage": FieldSupport("mapped", "stream_options.include_usage: always true, because usage is billed"),
        "tools": FieldSupport(
            "mapped",
            "functions, and custom tools for models and hosts that support them (a function with one string for "
            "others); a tool that only the caller's format has is dropped, or refused if it is forced; `strict` is "
            "dropped if OpenAI does not take the schema as strict; cache marks are dropped",
        ),
        "tool_choice": FieldSupport("mapped", "tool_choice; dropped without tools"),
        "parallel_tool_calls": FieldSupport("mapped", "parallel_tool_calls; dropped without tools"),
        "max_output_tokens": FieldSupport("mapped", "max_completion_tokens"),
        "stop": FieldSupport("mapped", f"stop; {_SAMPLED}"),
        "response_format": FieldSupport("mapped", "response_format; a schema without a name is called `response`"),
        "reasoning": FieldSupport(
            "mapped",
            "reasoning_effort: the nearest level that the model has; a budget of tokens becomes the level with the "
            "greatest budget not above it; dropped for models that are not known to accept one, and for those whose "
            "thinking cannot be disabled",
        ),
        "user": FieldSupport("mapped", "user; dropped if it is longer than the host accepts"),
        "metadata": FieldSupport("dropped", "it labels stored completions of the account, which are not the caller's"),
        "extras": FieldSupport(
            "dropped",
            "except those that the Responses API shares, such as prompt_cache_key and text.verbosity; a "
            "prompt_cache_key of more than 64 characters becomes its hash; extras that are essential in the caller's "
            "format are refused",
        ),
        "needed": FieldSupport("refused", "every field that it names"),
    }
)
