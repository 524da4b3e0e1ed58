"""One call for each place of a text in each caller's format. SECRET is the text, MODEL the model."""

from __future__ import annotations

from typing import Any

CHAT, MESSAGES, RESPONSES = "/v1/chat/completions", "/v1/messages", "/v1/responses"
GEMINI, CONVERSE = "/v1beta/models/MODEL:generateContent", "/model/MODEL/converse"

# Each path, and what an error of its format contains.
FORMATS_OF_CALLERS = {
    CHAT: '"code": "',
    MESSAGES: '"type": "error"',
    RESPONSES: '"code": "',
    GEMINI: '"status": "INVALID_ARGUMENT"',
    CONVERSE: '"message": "',
}


def _chat(*messages: Any, **more: Any) -> Any:
    return {"model": "MODEL", "messages": list(messages), **more}


def _messages(*messages: Any, **more: Any) -> Any:
    return {"model": "MODEL", "max_tokens": 100, "messages": list(messages), **more}


def _responses(*items: Any, **more: Any) -> Any:
    return {"model": "MODEL", "input": list(items), "store": False, **more}


def _gemini(*contents: Any, **more: Any) -> Any:
    return {"contents": list(contents), **more}


def _converse(*messages: Any, **more: Any) -> Any:
    return {"messages": list(messages), **more}


_PARAMETERS = {"type": "object", "properties": {"q": {"type": "string", "description": "as SECRET"}}}

CALLS: dict[str, dict[str, Any]] = {
    "user": {
        CHAT: _chat({"role": "user", "content": "a SECRET"}),
        MESSAGES: _messages({"role": "user", "content": [{"type": "text", "text": "a SECRET"}]}),
        RESPONSES: _responses({"role": "user", "content": [{"type": "input_text", "text": "a SECRET"}]}),
        GEMINI: _gemini({"role": "user", "parts": [{"text": "a SECRET"}]}),
        CONVERSE: _converse({"role": "user", "content": [{"text": "a SECRET"}]}),
    },
    "system": {
        CHAT: _chat({"role": "system", "content": "SECRET"}, {"role": "user", "content": "b"}),
        MESSAGES: _messages({"role": "user", "content": "b"}, system="SECRET"),
        RESPONSES: _responses({"role": "user", "content": "b"}, instructions="SECRET"),
        GEMINI: _gemini({"parts": [{"text": "b"}]}, system_instruction={"parts": [{"text": "SECRET"}]}),
        CONVERSE: _converse({"role": "user", "content": [{"text": "b"}]}, system=[{"text": "SECRET"}]),
    },
    "tool_definition": {
        CHAT: _chat(
            {"role": "user", "content": "b"},
            tools=[{"type": "function", "function": {"name": "f", "parameters": _PARAMETERS}}],
        ),
        MESSAGES: _messages({"role": "user", "content": "b"}, tools=[{"name": "f", "input_schema": _PARAMETERS}]),
        RESPONSES: _responses(
            {"role": "user", "content": "b"},
            tools=[{"type": "function", "name": "f", "parameters": _PARAMETERS, "strict": False}],
        ),
        GEMINI: _gemini(
            {"parts": [{"text": "b"}]},
            tools=[{"functionDeclarations": [{"name": "f", "description": "d", "parametersJsonSchema": _PARAMETERS}]}],
        ),
        CONVERSE: _converse(
            {"role": "user", "content": [{"text": "b"}]},
            toolConfig={"tools": [{"toolSpec": {"name": "f", "inputSchema": {"json": _PARAMETERS}}}]},
        ),
    },
    "tool_call": {
        CHAT: _chat(
            {"role": "user", "content": "b"},
            {
                "role": "assistant",
                "tool_calls": [
                    {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"q": "SECRET"}'}}
                ],
            },
            {"role": "tool", "tool_call_id": "c1", "content": "r"},
        ),
        MESSAGES: _messages(
            {"role": "user", "content": "b"},
            {
                "role": "assistant",
                "content": [{"type": "tool_use", "id": "c1", "name": "f", "input": {"q": ["SECRET"]}}],
            },
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c1", "content": "r"}]},
        ),
        RESPONSES: _responses(
            {"role": "user", "content": "b"},
            {"type": "function_call", "call_id": "c1", "name": "f", "arguments": '{"q": "SECRET"}'},
            {"type": "function_call_output", "call_id": "c1", "output": "r"},
        ),
        GEMINI: _gemini(
            {"role": "user", "parts": [{"text": "b"}]},
            {"role": "model", "parts": [{"functionCall": {"name": "f", "args": {"q": "SECRET"}}}]},
            {"role": "user", "parts": [{"functionResponse": {"name": "f", "response": {"result": "r"}}}]},
        ),
        CONVERSE: _converse(
            {"role": "user", "content": [{"text": "b"}]},
            {
                "role": "assistant",
                "content": [{"toolUse": {"toolUseId": "c1", "name": "f", "input": {"q": "SECRET"}}}],
            },
            {"role": "user", "content": [{"toolResult": {"toolUseId": "c1", "content": [{"text": "r"}]}}]},
        ),
    },
    "tool_result": {
        CHAT: _chat(
            {"role": "user", "content": "b"},
            {
                "role": "assistant",
                "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
            },
            {"role": "tool", "tool_call_id": "c1", "content": '{"found": ["SECRET"]}'},
        ),
        MESSAGES: _messages(
            {"role": "user", "content": "b"},
            {"role": "assistant", "content": [{"type": "tool_use", "id": "c1", "name": "f", "input": {}}]},
            {
                "role": "user",
                "content": [
                    {"type": "tool_result", "tool_use_id": "c1", "content": [{"type": "text", "text": "SECRET"}]}
                ],
            },
        ),
        RESPONSES: _responses(
            {"role": "user", "content": "b"},
            {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "c1", "output": "SECRET"},
        ),
        GEMINI: _gemini(
            {"role": "user", "parts": [{"text": "b"}]},
            {"role": "model", "parts": [{"functionCall": {"name": "f", "args": {}}}]},
            {"role": "user", "parts": [{"functionResponse": {"name": "f", "response": {"result": "SECRET"}}}]},
        ),
        CONVERSE: _converse(
            {"role": "user", "content": [{"text": "b"}]},
            {"role": "assistant", "content": [{"toolUse": {"toolUseId": "c1", "name": "f", "input": {}}}]},
            {
                "role": "user",
                "content": [{"toolResult": {"toolUseId": "c1", "content": [{"json": {"found": "SECRET"}}]}}],
            },
        ),
    },
}
"""The place of the text (its kind) to the calls by path."""
