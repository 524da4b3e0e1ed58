"""What an exchange shows, found in its bytes. The names are those of the recordings' index."""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Iterator
from typing import Any

from .base import Exchange

FINISHES = ("finish_reason", "finishReason", "stop_reason", "stopReason", "completionReason")
TOOL_CALLS = ("tool_calls", "tool_use", "functionCall", "toolUse", "function_call", "custom_tool_call")
SERVER_TOOLS = (
    "web_search",
    "code_interpreter",
    "file_search",
    "image_generation",
    "mcp",
    "openrouter:",
    "code_execution",
    "googleSearch",
    "codeExecution",
    "web_search_options",
    "mcp_servers",
)
# A key anywhere in the request that tells a feature.
REQUEST_KEYS = {
    "tool_choice": "tool_choice",
    "toolChoice": "tool_choice",
    "toolConfig": "tool_choice",
    "reasoning_effort": "reasoning_param",
    "thinking": "reasoning_param",
    "thinkingConfig": "reasoning_param",
    "reasoning": "reasoning_param",
    "parallel_tool_calls": "parallel_tool_calls_param",
    "disable_parallel_tool_use": "parallel_tool_calls_param",
    "cache_control": "prompt_cache_param",
    "cachePoint": "prompt_cache_param",
    "cachedContent": "prompt_cache_param",
    "prompt_cache_key": "prompt_cache_param",
    "response_format": "structured_output",
    "responseMimeType": "structured_output",
    "output_config.format": "structured_output",
    "text.format": "structured_output",
    "outputConfig": "structured_output",
    "stop": "stop_sequences",
    "stop_sequences": "stop_sequences",
    "stopSequences": "stop_sequences",
    "seed": "seed",
    "random_seed": "seed",
    "service_tier": "service_tier",
    "dimensions": "dimensions",
    "outputDimensionality": "dimensions",
    "functions": "legacy_functions",
    "guardrailConfig": "guardrail",
    "previous_response_id": "previous_response_id",
    "include_usage": "stream_include_usage",
    "logprobs": "logprobs",
    "top_logprobs": "logprobs",
}
# The type of a part or a key that holds it, anywhere in the request.
REQUEST_PARTS = {
    "image_url": "vision",
    "input_image": "vision",
    "image": "vision",
    "file": "document_input",
    "input_file": "document_input",
    "document": "document_input",
    "document_url": "document_input",
    "documents": "document_input",
    "file_url": "document_input",
    "input_audio": "audio_input",
    "video": "video_input",
    "video_url": "video_input",
    "toolResult": "tool_results",
    "tool_result": "tool_results",
    "functionResponse": "tool_results",
    "function_call_output": "tool_results",
    "reasoningContent": "thinking_replay",
    "thoughtSignature": "thinking_replay",
    "reasoning_content": "thinking_replay",
    "reasoning_details": "thinking_replay",
    "redacted_thinking": "thinking_replay",
}
MEDIA = {"image/": "vision", "video/": "video_input", "audio/": "audio_input", "application/pdf": "document_input"}
# A key or the type of a part, anywhere in the response.
RESPONSE_PARTS = {
    "reasoning_content": "reasoning_output",
    "reasoningContent": "reasoning_output",
    "reasoning": "reasoning_output",
    "thinking": "reasoning_output",
    "thought": "reasoning_output",
    "citations": "citations",
    "url_citation": "citations",
    "file_citation": "citations",
    "citationMetadata": "citations",
    "groundingMetadata": "citations",
    "citationsContent": "citations",
    "citation": "citations",
    "content_filter_results": "azure_content_filter",
    "content_filters": "azure_content_filter",
    "redacted_thinking": "redacted_thinking",
    "redactedContent": "redacted_thinking",
    "refusal": "refusal",
    "logprobsResult": "logprobs",
    "custom_tool_call": "custom_tools",
    "server_tool_use": "server_tools",
    "images": "picture_output",
    "image_generation_call": "picture_output",
    "inlineData": "picture_output",
    "audio": "audio_output",
}
COUNTS = {
    "cached_tokens": "cache_read",
    "cache_read_input_tokens": "cache_read",
    "cacheReadInputTokens": "cache_read",
    "cachedContentTokenCount": "cache_read",
    "prompt_cache_hit_tokens": "cache_read",
    "cache_write_tokens": "cache_write",
    "cache_creation_input_tokens": "cache_write",
    "cacheWriteInputTokens": "cache_write",
    "reasoning_tokens": "reasoning_tokens",
    "thoughtsTokenCount": "reasoning_tokens",
    "thinking_tokens": "reasoning_tokens",
}


def walk(value: Any) -> Iterator[tuple[str, Any]]:
    """Every key of every object within, with its value. The type of an object counts as a key of its own."""
    if isinstance(value, list):
        for each in value:
            yield from walk(each)
    elif isinstance(value, dict):
        if isinstance(value.get("type"), str):
            yield value["type"], value
        for key, each in value.items():
            yield key, each
            yield from walk(each)


def frames(data: bytes) -> Iterator[Any]:
    """The JSON values of a stream of binary frames, and what a frame holds as base64."""
    at = 0
    while at < len(data):
        total, head = struct.unpack_from("!II", data, at)
        value = json.loads(data[at + 12 + head : at + total - 4])
        yield json.loads(base64.b64decode(value["bytes"])) if "bytes" in value else value
        at += total


def values(data: bytes, stream_format: str | None) -> list[Any]:
    """The JSON values of a response, whole or streamed."""
    if stream_format == "aws-eventstream":
        return list(frames(data))
    if stream_format == "sse":
        lines = data.replace(b"\r\n", b"\n").split(b"\n")
        told = (line[5:].strip() for line in lines if line.startswith(b"data:"))
        return [json.loads(each) for each in told if each != b"[DONE]"]
    if stream_format is not None and not data.startswith(b"["):
        return [json.loads(line) for line in data.split(b"\n") if line]
    value = json.loads(data)
    return value if isinstance(value, list) else [value]


def _of_request(asked: Any) -> Iterator[str]:
    if not isinstance(asked, dict):
        return
    tools = asked.get("tools") or asked.get("toolConfig") or asked.get("functions")
    if tools:
        yield "tools"
    messages = asked.get("messages") or asked.get("contents") or asked.get("input") or ()
    roles = [each.get("role") for each in messages if isinstance(each, dict)]
    if {"assistant", "model"} & set(roles):
        yield "multi_turn"
    if "developer" in roles:
        yield "developer_role"
    given = ("system", "systemInstruction", "system_instruction", "instructions")
    if "system" in roles or any(asked.get(key) for key in given):
        yield "system"
    if "tool" in roles:
        yield "tool_results"
    if asked.get("n", 1) > 1:
        yield "n>1"
    texts = asked.get("input") or asked.get("requests") or asked.get("instances")
    if isinstance(texts, list) and len(texts) > 1 and not roles:
        yield "batch_input"
    if asked.get("encoding_format") == "base64":
        yield "base64_embedding"
    if any(word in json.dumps(tools or asked.get("mcp_servers") or "") for word in SERVER_TOOLS):
        yield "server_tools"
    for key, value in walk(asked):
        if key in REQUEST_KEYS and (key != "thinking" or isinstance(value, dict)):
            yield REQUEST_KEYS[key]
        if key in REQUEST_PARTS:
            yield REQUEST_PARTS[key]
        if key in ("mimeType", "mime_type"):
            yield from (name for kind, name in MEDIA.items() if str(value).startswith(kind))
        if key in ("strict", "additionalProperties") and value in (True, False):
            yield "strict_schema"
        if key == "custom" and isinstance(value, dict):
            yield "custom_tools"
    for message in messages:
        replayed = isinstance(message, dict) and message.get("role", message.get("type")) in ("assistant", "reasoning")
        if replayed and {"reasoning", "thinking", "encrypted_content"} & {key for key, _ in walk(message)}:
            yield "thinking_replay"
    if {"format"} & (asked.get("output_config") or asked.get("text") or {}).keys():
        yield "structured_output"


def _calls(value: Any) -> set[Any]:
    """What tells the calls of a reply apart."""
    found: set[Any] = set()
    for key, each in walk(value):
        if key in ("tool_calls",) and isinstance(each, list):
            found |= {call.get("id") for call in each if call.get("id")}
        elif key in ("tool_use", "function_call", "custom_tool_call") and isinstance(each, dict):
            found |= {each.get("call_id") or each.get("id") or each.get("name")}
        elif key == "toolUse" and "toolUseId" in each:
            found.add(each["toolUseId"])
        elif key == "functionCall":
            found.add(json.dumps(each))
    return found


def _of_response(told: list[Any]) -> Iterator[str]:
    calls = _calls(told)
    if calls:
        yield "tool_calls"
    if len(calls) > 1:
        yield "parallel_tool_calls"
    for key, value in walk(told):
        if key in FINISHES and isinstance(value, str):
            yield f"finish:{value}"
        if key in RESPONSE_PARTS and value not in (None, "", [], {}):
            thinks = (
                RESPONSE_PARTS[key] != "reasoning_output" or not isinstance(value, dict) or value.get("summary") != []
            )
            if thinks and not (isinstance(value, dict) and {"effort", "generate_summary"} & value.keys()):
                yield RESPONSE_PARTS[key]
        if key in COUNTS and isinstance(value, int) and value > 0:
            yield COUNTS[key]
        if key == "logprobs" and isinstance(value, dict):
            yield "logprobs"
        if key == "status" and value == "incomplete":
            yield "status_incomplete"
    if len({each.get("index") for each in walk_choices(told)}) > 1:
        yield "n>1"


def walk_choices(told: list[Any]) -> Iterator[Any]:
    for value in told:
        if isinstance(value, dict):
            yield from value.get("choices") or ()


def features(exchange: Exchange) -> list[str]:
    asked = json.loads(exchange.request_body) if exchange.request_body.startswith(b"{") else None
    found = set(_of_request(asked))
    if exchange.status != 200:
        found |= {"error", f"error_{exchange.status}"}
    elif exchange.response[:1] in b"{[" or exchange.stream_format is not None:
        told = values(exchange.response, exchange.stream_format)
        found |= set(_of_response(told))
        if exchange.stream_format is not None and "error" in {
            key for key, value in walk(told) if value and key == "error"
        }:
            found.add("stream_error")
        is_chat_stream = exchange.stream_format == "sse" and exchange.api == "chat_completions"
        if is_chat_stream and b"[DONE]" not in exchange.response:
            found.add("truncated_stream")
    wants_stream = "stream" in exchange.endpoint or (isinstance(asked, dict) and asked.get("stream"))
    if wants_stream and exchange.stream_format is None:
        found.add("stream_requested")
    return sorted(found)
