"""Requests that say as much as each chat format can, and plainer ones, for tests of readers and of crossings."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from asking import CHAT, CONVERSE, GEMINI, MESSAGES, RESPONSES
from golden_files import GOLDEN

APIS = {
    CHAT: ("chat_completions",),
    RESPONSES: ("responses",),
    MESSAGES: ("messages",),
    GEMINI: ("generate_content", "stream_generate_content"),
    CONVERSE: ("converse", "converse_stream"),
}

TOOL_SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string", "pattern": "^[a-z]+$"}},
    "additionalProperties": False,
}
PNG = "iVBORw0KGgo="
# Of each source one request that says as much as the format can, and pieces that single writers refuse.
FULL: dict[str, dict[str, Any]] = {
    CHAT: {
        "model": "m",
        "messages": [
            {"role": "system", "content": "Be brief", "name": "boss"},
            {
                "role": "user",
                "name": "Ann",
                "content": [
                    {"type": "text", "text": "Hi", "cache_control": {"type": "ephemeral"}, "odd": 1},
                    {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}", "detail": "low"}},
                    {
                        "type": "file",
                        "file": {"filename": "a.txt", "file_data": "data:text/plain;base64,aGk="},
                        "cache_control": {"type": "ephemeral"},
                    },
                ],
            },
            {
                "role": "assistant",
                "content": "One moment",
                "reasoning_content": "Hm",
                "cache_control": {"type": "ephemeral"},
                "tool_calls": [
                    {
                        "id": "c1",
                        "type": "function",
                        "function": {"name": "f", "arguments": "{}"},
                        "caller": "x",
                        "extra_content": {"google": {"thought_signature": "c2ln"}},
                    }
                ],
            },
            {"role": "tool", "tool_call_id": "c1", "content": [{"type": "text", "text": "sun", "odd": 1}]},
            {"role": "user", "content": "And now?"},
        ],
        "tools": [
            {
                "type": "function",
                "function": {"name": "f", "parameters": TOOL_SCHEMA, "strict": True, "odd": 1},
                "cache_control": {"type": "ephemeral"},
            }
        ],
        "tool_choice": "required",
        "parallel_tool_calls": False,
        "max_tokens": 100,
        "temperature": 0.5,
        "top_p": 0.5,
        "top_k": 4,
        "stop": ["END", " "],
        "seed": 1,
        "presence_penalty": 0.5,
        "frequency_penalty": 0.5,
        "reasoning_effort": "high",
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "a", "strict": False, "schema": TOOL_SCHEMA},
        },
        "service_tier": "odd",
        "user": "u" * 300,
        "metadata": {"a": "b" * 500},
        "logit_bias": {"1": 1},
        "stream_options": {"include_usage": True, "odd": 1},
    },
    RESPONSES: {
        "model": "m",
        "instructions": "Be brief",
        "input": [
            {"role": "developer", "content": "Be kind"},
            {
                "role": "user",
                "content": [
                    {"type": "input_text", "text": "Hi", "odd": 1},
                    {"type": "input_image", "image_url": f"data:image/png;base64,{PNG}", "detail": "low"},
                    {"type": "input_file", "filename": "a.txt", "file_data": "data:text/plain;base64,aGk="},
                ],
            },
            {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "Hm"}]},
            {
                "type": "message",
                "role": "assistant",
                "id": "msg_1",
                "status": "completed",
                "content": [{"type": "output_text", "text": "One moment", "annotations": []}],
            },
            {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}", "id": "fc_1"},
            {"type": "function_call_output", "call_id": "c1", "output": "sun", "id": "fo_1"},
            {"role": "user", "content": "And now?"},
        ],
        "tools": [{"type": "function", "name": "f", "parameters": TOOL_SCHEMA, "strict": True, "odd": 1}],
        "tool_choice": "required",
        "parallel_tool_calls": False,
        "max_output_tokens": 100,
        "temperature": 0.5,
        "top_p": 0.5,
        "reasoning": {"effort": "high", "summary": "auto"},
        "text": {"format": {"type": "json_schema", "name": "a", "schema": TOOL_SCHEMA, "strict": False}, "odd": 1},
        "service_tier": "odd",
        "safety_identifier": "u" * 300,
        "metadata": {"a": "b" * 600},
        "truncation": "auto",
        "include": ["reasoning.encrypted_content"],
    },
    MESSAGES: {
        "model": "m",
        "max_tokens": 100,
        "system": [{"type": "text", "text": "Be brief", "cache_control": {"type": "ephemeral"}}],
        "messages": [
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "Hi", "odd": 1, "cache_control": {"type": "ephemeral"}},
                    {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}, "odd": 1},
                    {"type": "document", "title": "a", "source": {"type": "text", "data": "hi"}, "context": "c"},
                ],
            },
            {
                "role": "assistant",
                "content": [
                    {"type": "thinking", "thinking": "Hm", "signature": "c2ln"},
                    {"type": "redacted_thinking", "data": "c2VhbA=="},
                    {"type": "text", "text": "One moment", "citations": [{"type": "char_location"}]},
                    {"type": "tool_use", "id": "c1", "name": "f", "input": {}, "caller": {"type": "direct"}},
                ],
            },
            {
                "role": "user",
                "content": [
                    {
                        "type": "tool_result",
                        "tool_use_id": "c1",
                        "is_error": True,
                        "content": [
                            {"type": "text", "text": "sun", "cache_control": {"type": "ephemeral"}},
                            {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}},
                        ],
                    },
                    {"type": "text", "text": "And now?"},
                ],
            },
        ],
        "tools": [
            {
                "name": "f",
                "type": "custom",
                "input_schema": TOOL_SCHEMA,
                "strict": True,
                "cache_control": {"type": "ephemeral"},
            }
        ],
        "tool_choice": {"type": "any", "disable_parallel_tool_use": True},
        "stop_sequences": ["END", " "],
        "temperature": 0.5,
        "top_p": 0.5,
        "top_k": 4,
        "thinking": {"type": "enabled", "budget_tokens": 2048, "display": "summarized", "odd": 1},
        "output_config": {"effort": "high", "odd": 1, "format": {"type": "json_schema", "schema": TOOL_SCHEMA}},
        "service_tier": "odd",
        "metadata": {"user_id": "u" * 300, "odd": 1},
        "inference_geo": "us",
    },
    GEMINI: {
        "systemInstruction": {"parts": [{"text": "Be brief"}]},
        "contents": [
            {
                "role": "user",
                "parts": [
                    {"text": "Hi", "odd": 1},
                    {
                        "inlineData": {"mimeType": "image/png", "data": PNG, "displayName": "a"},
                        "mediaResolution": {"level": "MEDIA_RESOLUTION_LOW"},
                        "thoughtSignature": "c2ln",
                    },
                    {"inlineData": {"mimeType": "text/plain", "data": "aGk=", "displayName": "a.txt", "odd": 1}},
                ],
            },
            {
                "role": "model",
                "parts": [
                    {"text": "Hm", "thought": True, "thoughtSignature": "c2ln"},
                    {"text": "One moment", "thoughtSignature": "c2ln"},
                    {"functionCall": {"name": "f", "args": {}, "odd": 1}, "thoughtSignature": "c2ln"},
                ],
            },
            {"role": "user", "parts": [{"functionResponse": {"name": "f", "response": {"error": "no"}, "odd": 1}}]},
            {"role": "user", "parts": [{"text": "And now?"}]},
        ],
        "tools": [
            {"functionDeclarations": [{"name": "e"}, {"name": "f", "parametersJsonSchema": TOOL_SCHEMA, "odd": 1}]}
        ],
        "toolConfig": {"functionCallingConfig": {"mode": "ANY"}, "odd": 1},
        "generationConfig": {
            "maxOutputTokens": 100,
            "temperature": 0.5,
            "topP": 0.5,
            "topK": 4,
            "stopSequences": ["END", " "],
            "candidateCount": 1,
            "seed": 1,
            "presencePenalty": 0.5,
            "frequencyPenalty": 0.5,
            "responseMimeType": "application/json",
            "responseJsonSchema": TOOL_SCHEMA,
            "thinkingConfig": {"thinkingLevel": "HIGH", "includeThoughts": True},
            "odd": 1,
        },
        "serviceTier": "flex",
        "labels": {"a": "b"},
    },
    CONVERSE: {
        "system": [{"text": "Be brief"}, {"cachePoint": {"type": "default"}}],
        "messages": [
            {
                "role": "user",
                "content": [
                    {"text": "Hi"},
                    {"cachePoint": {"type": "default"}},
                    {"image": {"format": "png", "source": {"bytes": PNG}, "odd": 1}},
                    {"document": {"name": "a", "format": "txt", "source": {"bytes": "aGk="}, "context": "c"}},
                ],
            },
            {
                "role": "assistant",
                "content": [
                    {"reasoningContent": {"reasoningText": {"text": "Hm", "signature": "c2ln", "odd": 1}}},
                    {"reasoningContent": {"redactedContent": "c2VhbA=="}},
                    {"citationsContent": {"content": [{"text": "One moment"}], "citations": [{"title": "a"}]}},
                    {"toolUse": {"toolUseId": "c1", "name": "f", "input": {}, "odd": 1}},
                ],
            },
            {
                "role": "user",
                "content": [
                    {"toolResult": {"toolUseId": "c1", "content": [{"json": {"a": 1}}], "status": "error", "odd": 1}},
                    {"text": "And now?"},
                ],
            },
        ],
        "toolConfig": {
            "tools": [
                {"toolSpec": {"name": "f", "inputSchema": {"json": TOOL_SCHEMA}, "strict": True, "odd": 1}},
                {"cachePoint": {"type": "default"}},
            ],
            "toolChoice": {"any": {}},
        },
        "inferenceConfig": {"maxTokens": 100, "temperature": 0.5, "topP": 0.5, "stopSequences": ["END", " "]},
        "additionalModelRequestFields": {
            "top_k": 4,
            "thinking": {"type": "enabled", "budget_tokens": 2048, "odd": 1},
            "tool_choice": {"type": "any", "disable_parallel_tool_use": True},
        },
        "outputConfig": {
            "textFormat": {
                "type": "json_schema",
                "structure": {"jsonSchema": {"name": "a", "schema": json.dumps(TOOL_SCHEMA)}},
            }
        },
        "serviceTier": {"type": "odd"},
        "requestMetadata": {"a": "b"},
        "performanceConfig": {"latency": "optimized"},
    },
}
# The same without what single writers refuse, so that all of the rest is written.
PLAINER: dict[str, dict[str, Any]] = {
    CHAT: {k: v for k, v in FULL[CHAT].items() if k not in ("stop", "response_format")},
    RESPONSES: {k: v for k, v in FULL[RESPONSES].items() if k != "text"},
    MESSAGES: {k: v for k, v in FULL[MESSAGES].items() if k not in ("stop_sequences", "output_config")},
    GEMINI: {
        **FULL[GEMINI],
        "generationConfig": {
            k: v
            for k, v in FULL[GEMINI]["generationConfig"].items()
            if k not in ("stopSequences", "responseMimeType", "responseJsonSchema")
        },
    },
    CONVERSE: {
        **{k: v for k, v in FULL[CONVERSE].items() if k != "outputConfig"},
        "inferenceConfig": {"maxTokens": 100, "temperature": 0.5, "topP": 0.5},
    },
}
# What a format spells in two ways, or what some writer refuses, each in the place of what is there.
CHANGES: dict[str, list[dict[str, Any]]] = {
    CHAT: [
        {"reasoning": {"effort": "enormous", "odd": 1}, "reasoning_effort": None},
        {"reasoning": {"max_tokens": 2048}, "reasoning_effort": None, "response_format": {"type": "json_object"}},
        {"thinking": {"type": "enabled", "budget_tokens": 2048, "odd": 1}, "reasoning_effort": None},
        {"safety_identifier": "u" * 300, "user": None, "max_completion_tokens": 10},
        {"reasoning_effort": "enormous"},
        {"temperature": 1.5},
        {"n": 2},
        {"logprobs": True, "top_logprobs": 2},
        {"top_logprobs": 2},
        {"stop": list("abcdef")},
        {"tools": [{"type": "web_search"}]},
        {"tools": [{"type": "function", "function": {"name": "f", "parameters": []}}]},
        {"tools": []},
        {"audio": {"voice": "a"}},
        {"modalities": ["text", "audio"]},
        {"web_search_options": {"a": 1}},
        {"functions": [{"name": "f"}]},
        {"tool_choice": {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": []}}},
        {"messages": [{"role": "assistant", "content": "Hi"}]},
        {"messages": [{"role": "user", "content": [{"type": "file", "file": {"file_id": "file-1"}}]}]},
        {
            "messages": [
                {"role": "user", "content": [{"type": "input_audio", "input_audio": {"data": "", "format": "wav"}}]}
            ]
        },
        {"messages": [{"role": "user", "content": [{"type": "video_url", "video_url": {"url": "x"}}]}]},
        {
            "messages": [
                {"role": "user", "content": "Hi"},
                {"role": "assistant", "tool_calls": [{"id": "c", "function": {"name": "f", "arguments": "["}}]},
            ]
        },
        {
            "messages": [
                {"role": "user", "content": "Hi"},
                {
                    "role": "assistant",
                    "content": [{"type": "text", "text": "a"}],
                    "refusal": "No",
                    "reasoning_details": [{"type": "reasoning.text", "text": "Hm"}],
                },
                {"role": "user", "content": "Hi"},
            ]
        },
    ],
    RESPONSES: [
        {"user": "u" * 300, "safety_identifier": None},
        {"reasoning": {"effort": "enormous"}},
        {"temperature": 1.5},
        {"tools": [{"type": "web_search"}]},
        {"tools": []},
        {"text": {"format": {"type": "json_object"}}},
        {"input": "Hi"},
        {"input": [{"role": "assistant", "content": "Hi"}]},
        {"input": [{"role": "user", "content": [{"type": "input_file", "file_id": "file-1"}]}]},
        {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "https://x.example/a.png"}]}]},
        {"input": [{"role": "user", "content": "Hi"}, {"type": "web_search_call", "id": "ws_1"}]},
        {
            "input": [
                {"role": "user", "content": "Hi"},
                {"type": "function_call", "call_id": "c", "name": "f", "arguments": "["},
            ]
        },
    ],
    MESSAGES: [
        {"system": "Be brief", "thinking": None},
        {"output_config": None, "output_format": {"type": "json_schema", "schema": TOOL_SCHEMA}},
        {"thinking": None, "output_config": {"effort": "enormous"}},
        {"thinking": {"type": "disabled"}, "output_config": None},
        {"thinking": {"type": "adaptive"}},
        {"tools": []},
        {"tools": [{"type": "web_search_20250305", "name": "web_search"}]},
        {"stop_sequences": list("abcdef")},
        {"temperature": 1.5},
        {"messages": [{"role": "user", "content": [{"type": "image", "source": {"type": "file", "file_id": "f"}}]}]},
        {"messages": [{"role": "user", "content": [{"type": "search_result", "source": "x"}]}]},
        {
            "messages": [
                {"role": "user", "content": "Hi"},
                {"role": "assistant", "content": [{"type": "tool_use", "id": "", "name": "f", "input": {}}]},
            ]
        },
    ],
    GEMINI: [
        {"generationConfig": {"responseMimeType": "application/json"}},
        {"generationConfig": {"responseMimeType": "application/json", "responseSchema": {"type": "OBJECT"}}},
        {"generationConfig": {"candidateCount": 2}},
        {"generationConfig": {"responseLogprobs": True, "logprobs": 2}},
        {"generationConfig": {"temperature": 1.5}},
        {"generationConfig": {"thinkingConfig": {"thinkingBudget": 2048}}},
        {"generation_config": {"top_k": 4, "seed": 1, "thinking_config": {"thinking_budget": 0}}},
        {"tools": [{"googleSearch": {}}]},
        {"tools": []},
        {"contents": [{"role": "model", "parts": [{"text": "Hi"}]}]},
        {"contents": [{"role": "user", "parts": [{"fileData": {"fileUri": "gs://a/b", "mimeType": "image/png"}}]}]},
        {"contents": [{"role": "user", "parts": [{"inlineData": {"mimeType": "video/mp4", "data": "aGk="}}]}]},
    ],
    CONVERSE: [
        {"additionalModelRequestFields": {"inferenceConfig": {"topK": 4}, "reasoningConfig": {"type": "disabled"}}},
        {"additionalModelRequestFields": {"reasoning_effort": "enormous"}},
        {"additionalModelRequestFields": {"output_config": {"effort": "high"}}},
        {"additionalModelRequestFields": {"reasoning_config": "high"}},
        {"outputConfig": {"effort": "high"}, "additionalModelRequestFields": None},
        {"toolConfig": None},
        {"toolConfig": {"tools": [{"systemTool": {"name": "f"}}]}},
        {"messages": [{"role": "assistant", "content": [{"text": "Hi"}]}]},
        {"messages": [{"role": "user", "content": [{"guardContent": {"text": {"text": "Hi"}}}]}]},
        {"messages": [{"role": "user", "content": [{"audio": {"format": "wav", "source": {"bytes": "aGk="}}}]}]},
    ],
}


def requests_of(source: str) -> Iterator[dict[str, Any]]:
    yield FULL[source]
    yield PLAINER[source]
    for change in CHANGES[source]:
        yield {key: value for key, value in {**FULL[source], **change}.items() if value is not None}
    for name in ("full", "crossing"):
        if (path := GOLDEN / source / f"{name}.json").exists():
            yield json.loads(path.read_bytes())
