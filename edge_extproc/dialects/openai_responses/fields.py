"""The names of this format's fields, and how each field of another dialect's call is translated."""

from __future__ import annotations

from types import MappingProxyType

from ...codecs.json_values import as_int, as_number, as_text
from ...model.content import Json
from ...model.spelling import Spelling
from ...model.wire_names import WireNames
from ..base import FieldSupport
from ..openai_chat.models import SERVICE_TIERS
from ..scalars import Scalar, Scalars

NAME = "openai_responses"
TITLE = "OpenAI Responses"

Item = dict[str, Json]
"""A JSON object of the wire format."""

# --- the settings that are one value

_SAMPLED = "dropped for reasoning models of OpenAI that refuse it"
LEAST_OUTPUT = 16
"""The smallest limit that the API accepts. Claude Code sends 1 for its first request (farion1231/cc-switch#5215,
BerriAI/litellm#31451)."""


def _accepted_limit(limit: int) -> int:
    return max(limit, LEAST_OUTPUT)


SCALARS = Scalars(
    "",
    Scalar("max_output_tokens", "max_output_tokens", as_int, "16 if it is lower", _accepted_limit),
    Scalar("temperature", "temperature", as_number, _SAMPLED),
    Scalar("top_p", "top_p", as_number, _SAMPLED),
    Scalar(
        "service_tier",
        "service_tier",
        as_text,
        "values that the API has; standard_only → default; others are dropped",
        SERVICE_TIERS.get,
    ),
)

# --- how a caller spells it

SPELLING = Spelling(
    fields=MappingProxyType({"logprobs": "include", "messages": "input", "response_format": "text.format"}),
    members=MappingProxyType({"document_name": "filename", "id": "call_id"}),
    outer="item",
)
"""The paths of a Chat's fields in this format."""

# --- what code that does not read the whole body searches it for

WIRE = WireNames(
    messages=frozenset({"input"}),
    parts=frozenset({"content"}),
    tools=frozenset({"tools"}),
    prefix=frozenset({"tools", "instructions", "previous_response_id"}),
    content=frozenset({"input", "instructions"}),
    beside=frozenset(
        {"model", "metadata", "user", "stream_options", "prompt_cache_key", "safety_identifier", "service_tier"}
    ),
    elsewhere=frozenset({"previous_response_id", "conversation", "container", "file_id", "file_url"}),
    stored_prompts=frozenset({"prompt"}),
    links=frozenset({"image_url"}),
    unbounded=frozenset({"file_data", "prompt"}),
    blobs=frozenset({"file_data"}),
    images=frozenset({"image_url"}),
    image_types=frozenset({"input_image"}),
    media=frozenset({"input_image", "image_url", "input_audio"}),
    tool_data=frozenset({"arguments"}),
    labels=frozenset({"type", "role", "id", "call_id", "status"}),
    tool_settings=frozenset({"container", "file_search", "code_interpreter"}),
    stored_in_tools=frozenset({"vector_store_ids", "file_ids"}),
    reasoning=frozenset({"reasoning"}),
    efforts=frozenset({"effort"}),
    feature_fields=MappingProxyType(
        {
            "tools": "tools",
            "image_url": "images",
            "file_id": "files",
            "file_ids": "files",
            "file_url": "files",
            "file_data": "files",
            "server_url": "mcp",
        }
    ),
    feature_types=MappingProxyType(
        {
            "input_image": "images",
            "image": "images",
            "input_audio": "audio",
            "input_file": "files",
            "file": "files",
            "web_search": "web_search",
            "code_interpreter": "code_execution",
            "computer": "code_execution",
            "local_shell": "code_execution",
            "shell": "code_execution",
            "mcp": "mcp",
            "file_search": "files",
        }
    ),
    tiers=frozenset({"service_tier"}),
    provider_tool_types=frozenset(
        {"web_search", "code_interpreter", "file_search", "image_generation", "shell", "mcp"}
    ),
    headers=frozenset({"openai-beta"}),
    delivery=frozenset({"model", "stream", "stream_options"}),
    stateful=frozenset({"background", "container", "conversation", "previous_response_id"}),
    owned=frozenset(
        {
            "container",
            "container_id",
            "conversation",
            "file_id",
            "file_ids",
            "previous_response_id",
            "vector_store_id",
            "vector_store_ids",
        }
    ),
    owned_objects=frozenset({"prompt"}),
    reference_types=frozenset({"image_generation_call", "item_reference"}),
    reference_lists=frozenset({"input"}),
    stored_unless=frozenset({"store"}),
)
"""The names of this format for bounds, policies and the cache key."""

FIELDS = SCALARS.documented(
    {
        "dialect": FieldSupport("mapped", "not sent; names the format of the extras and opaque parts"),
        "model": FieldSupport("mapped", "model: the provider's name of the model"),
        "messages": FieldSupport(
            "mapped",
            "a leading system message with one text → instructions; every other message → items in order; tool calls "
            "and results → function_call and function_call_output; thinking, signatures, cache marks, names are "
            "dropped; audio, uploaded files and parts that only another format has are refused",
        ),
        "stream": FieldSupport("mapped", "stream"),
        "include_usage": FieldSupport("mapped", "not sent: streams of this format always report usage"),
        "tools": FieldSupport(
            "mapped",
            "functions in the flat shape, strict made explicit, and dropped if OpenAI does not take the schema as "
            "strict; custom tools for models and hosts that support them "
            "(a function with one string for others); a tool that only the caller's format has is dropped, or refused "
            "if it is forced",
        ),
        "tool_choice": FieldSupport(
            "mapped", "auto, required, none, a function or custom tool, some of them; dropped without tools"
        ),
        "parallel_tool_calls": FieldSupport("mapped", "parallel_tool_calls; dropped without tools"),
        "top_k": FieldSupport("dropped", ""),
        "stop": FieldSupport("refused", "the API cannot stop at a sequence"),
        "n": FieldSupport("refused", "if more than one choice is requested"),
        "seed": FieldSupport("dropped", ""),
        "presence_penalty": FieldSupport("dropped", "0 is the default and is not sent"),
        "frequency_penalty": FieldSupport("dropped", "0 is the default and is not sent"),
        "logprobs": FieldSupport("refused", "the reply has them in a form that no other format has"),
        "top_logprobs": FieldSupport("refused", "like logprobs"),
        "response_format": FieldSupport("mapped", "text.format"),
        "reasoning": FieldSupport(
            "mapped",
            "reasoning.effort: the nearest level that the model has; a budget of tokens becomes the level with the "
            "greatest budget not above it; dropped for models that do not think, or whose thinking cannot be disabled",
        ),
        "user": FieldSupport(
            "mapped",
            "user, or safety_identifier if the caller sent that; dropped if it is longer than the host accepts",
        ),
        "metadata": FieldSupport("mapped", "metadata; values other than strings are dropped"),
        "extras": FieldSupport(
            "dropped",
            "except these of OpenAI chat: store, prompt_cache_key and prompt_cache_retention keep their names, "
            "verbosity → text.verbosity; a prompt_cache_key of more than 64 characters becomes its hash; other "
            "extras that are essential in the caller's format are refused; store is false unless the caller set it, "
            "because other APIs store nothing",
        ),
        "needed": FieldSupport("refused", "every field that it names"),
    }
)

# Extras of OpenAI's chat format that have the same name and meaning here.
SHARED_EXTRAS = frozenset({"store", "prompt_cache_key", "prompt_cache_retention"})
# Fields of ours that only OpenAI can honour, since what they name lies there.
NEEDED = ("previous_response_id", "conversation", "prompt", "background")
# Those of them that the gateway's store of conversations replaces, if it has what they name.
STORABLE = ("previous_response_id", "conversation")
