"""The clients of the tests of conversations: each keeps the replies that it gets as history, as the SDK of its format
does, and sends them back with its next request.

Nothing here comes from the readers or writers of edge_extproc.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

from answering_hosts import CHAT, CONVERSE, GEMINI, MESSAGES, PNG, RESPONSES

from edge_extproc.codecs import aws_eventstream

Json = dict[str, Any]
Result = Literal["text", "object", "empty", "error", "picture"]


@dataclass(frozen=True)
class After:
    """What the caller sends after a reply: the result of each call, and more."""

    result: Result = "text"
    reverse: bool = False
    """The results come in another order than the calls."""
    text: bool = False
    """A text of the user beside the results."""
    missing: Literal["", "last", "all"] = ""
    """Calls without a result: the user interrupted the tools, and said something."""
    system: Literal["", "system", "developer"] = ""
    """The role of an instruction after the results, in a format that has it there."""


@dataclass(frozen=True)
class Settings:
    """The other fields of the caller's request."""

    thinks: bool = False
    user: str = ""
    marks: bool = False
    """The caller marks what may be cached, where its format can."""
    strict: bool = False
    tools: tuple[str, ...] = ("weather",)


CITY: Json = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "unit": {"type": "string"}},
    "required": ["city"],
    "additionalProperties": False,
}
# What OpenAI takes as strict; a caller of its formats knows that.
STRICT: Json = {**CITY, "required": ["city", "unit"]}
ASK, MORE = "What is the weather?", "And then?"
_RESULTS: dict[str, str] = {
    "text": "sun",
    "object": '{"sky": "sun"}',
    "empty": "",
    "error": "no such city",
    "picture": "sun",
}


# --- what a client keeps of a reply


def kept(caller: str, body: bytes, *, stream: bool) -> Json:
    """The reply as the client of this format keeps it: the same shape, whole or streamed."""
    if not stream:
        whole: Json = json.loads(body)
        return whole
    return _FOLDS[caller](body)


def _events(body: bytes) -> Iterator[Json]:
    for frame in body.decode().split("\n\n"):
        data = "".join(line[5:].strip() for line in frame.split("\n") if line.startswith("data:"))
        if data and data != "[DONE]":
            value: Json = json.loads(data)
            assert "error" not in value or value.get("object") == "response", value
            yield value


def _fold_chat(body: bytes) -> Json:
    assert b"data: [DONE]" in body, body[-300:]
    message: Json = {"role": "assistant", "content": None}
    finish = None
    calls: dict[int, Json] = {}
    for chunk in _events(body):
        for choice in chunk["choices"]:
            finish = choice["finish_reason"] or finish
            for key, value in choice["delta"].items():
                if key == "tool_calls":
                    for call in value:
                        _merge(calls.setdefault(call["index"], {}), call)
                elif key != "role" and value is not None:
                    _merge(message, {key: value})
    if calls:
        message["tool_calls"] = [{k: v for k, v in call.items() if k != "index"} for call in calls.values()]
    return {"choices": [{"message": message, "finish_reason": finish}]}


def _merge(into: Json, delta: Json) -> None:
    """As OpenAI's SDKs join deltas: texts and lists grow, objects are merged."""
    for key, value in delta.items():
        before = into.get(key)
        if isinstance(value, str) and isinstance(before, str) and key not in ("id", "type"):
            into[key] = before + value
        elif isinstance(value, list) and isinstance(before, list):
            into[key] = [*before, *value]
        elif isinstance(value, dict) and isinstance(before, dict):
            _merge(before, value)
        elif isinstance(value, list | dict):
            into[key] = json.loads(json.dumps(value))
        else:
            into[key] = value


def _fold_responses(body: bytes) -> Json:
    events = list(_events(body))
    assert events[-1]["type"] in ("response.completed", "response.incomplete"), events[-1]
    whole: Json = events[-1]["response"]
    done = [event["item"] for event in events if event["type"] == "response.output_item.done"]
    assert done == whole["output"]  # Codex keeps the items, other clients the response
    return whole


def _read_input(text: str) -> Json:
    """The input of a call. Anthropic's SDK keeps what it could read of one that was cut off."""
    try:
        value: Json = json.loads(text or "{}")
    except ValueError:
        return {}
    return value


def _fold_messages(body: bytes) -> Json:
    blocks: dict[int, Json] = {}
    inputs: dict[int, str] = {}
    stop, ended = None, False
    for event in _events(body):
        match event:
            case {"type": "content_block_start", "index": at, "content_block": block}:
                blocks[at] = dict(block)
            case {
                "type": "content_block_delta",
                "index": at,
                "delta": {"type": "input_json_delta", "partial_json": text},
            }:
                inputs[at] = inputs.get(at, "") + text
            case {"type": "content_block_delta", "index": at, "delta": {"citation": citation}}:
                blocks[at].setdefault("citations", []).append(citation)
            case {"type": "content_block_delta", "index": at, "delta": delta}:
                for key, text in delta.items():
                    if key != "type":
                        blocks[at][key] = blocks[at].get(key, "") + text
            case {"type": "message_delta", "delta": delta}:
                stop = delta["stop_reason"]
            case {"type": "message_stop"}:
                ended = True
    assert ended
    for at, text in inputs.items():
        blocks[at]["input"] = _read_input(text)
    return {"content": list(blocks.values()), "stop_reason": stop}


def _fold_gemini(body: bytes) -> Json:
    """Google's SDKs keep the parts of all chunks."""
    parts: list[Json] = []
    finish = None
    for chunk in _events(body):
        for candidate in chunk.get("candidates") or ():
            parts += candidate["content"].get("parts") or ()
            finish = candidate.get("finishReason") or finish
    assert finish
    return {"candidates": [{"content": {"role": "model", "parts": parts}, "finishReason": finish}]}


def _fold_converse(body: bytes) -> Json:
    blocks: dict[int, Json] = {}
    inputs: dict[int, str] = {}
    stop = None
    for frame in aws_eventstream.EventStreamDecoder().feed(body):
        value = json.loads(frame.data)
        at = value.get("contentBlockIndex", -1)
        match value:
            case {"start": {"toolUse": use}}:
                blocks[at] = {"toolUse": use}
            case {"start": block} if block:
                blocks[at] = block
            case {"delta": {"toolUse": {"input": text}}}:
                inputs[at] = inputs.get(at, "") + text
            case {"delta": {"citation": citation}}:
                text = blocks[at].pop("text", None)
                cited = blocks[at].setdefault("citationsContent", {"content": [{"text": text}], "citations": []})
                cited["citations"].append(citation)
            case {"delta": {"reasoningContent": {"redactedContent": data}}}:
                blocks[at] = {"reasoningContent": {"redactedContent": data}}
            case {"delta": {"reasoningContent": delta}}:
                text = blocks.setdefault(at, {"reasoningContent": {"reasoningText": {}}})
                _merge(text["reasoningContent"]["reasoningText"], delta)
            case {"delta": delta}:
                _merge(blocks.setdefault(at, {}), delta)
            case {"stopReason": reason}:
                stop = reason
    assert stop
    for at, text in inputs.items():
        blocks[at]["toolUse"]["input"] = _read_input(text)
    return {"output": {"message": {"role": "assistant", "content": list(blocks.values())}}, "stopReason": stop}


_FOLDS: dict[str, Callable[[bytes], Json]] = {
    CHAT: _fold_chat,
    RESPONSES: _fold_responses,
    MESSAGES: _fold_messages,
    GEMINI: _fold_gemini,
    CONVERSE: _fold_converse,
}


def has_content(caller: str, reply: Json) -> bool:
    """Whether there is anything to send back."""
    match caller:
        case "openai_chat":
            message = reply["choices"][0]["message"]
            return bool(message.get("content") or message.get("tool_calls") or message.get("refusal"))
        case "openai_responses":
            return bool(reply["output"])
        case "anthropic_messages":
            return bool(reply["content"])
        case "gemini_generate":
            return bool(reply["candidates"][0]["content"].get("parts"))
        case _:
            return bool(reply["output"]["message"]["content"])


# --- the next request

Turns = list[tuple[Json, After]]


def next_request(caller: str, turns: Turns, settings: Settings, *, stream: bool = False) -> tuple[Json, str]:
    """The body and the path of a request with these replies as history, each with what the caller sent after it."""
    return _REQUESTS[caller](turns, settings, stream)


def _in_order(values: list[Any], after: After) -> list[Any]:
    values = values[::-1] if after.reverse else values
    match after.missing:
        case "all":
            return []
        case "last":
            return values[:-1]
        case _:
            return values


def _request_chat(turns: Turns, settings: Settings, stream: bool) -> tuple[Json, str]:
    messages: list[Json] = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": ASK}]
    for reply, after in turns:
        message = reply["choices"][0]["message"]
        messages.append(message)
        ids = [call["id"] for call in message.get("tool_calls") or ()]
        messages += _in_order(
            [{"role": "tool", "tool_call_id": id, "content": _RESULTS[after.result]} for id in ids], after
        )
        if after.system:
            messages.append({"role": after.system, "content": "Be kind."})
        if not ids or after.text or after.missing:
            messages.append({"role": "user", "content": MORE})
    function: Json = {"parameters": STRICT, "strict": True} if settings.strict else {"parameters": CITY}
    tools = [{"type": "function", "function": {"name": name, **function}} for name in settings.tools]
    body: Json = {"model": "m", "messages": messages, "tools": tools, "stream": stream}
    if settings.thinks:
        body["reasoning_effort"] = "medium"
    return {**body, **({"user": settings.user} if settings.user else {})}, "/v1/chat/completions"


def _request_responses(turns: Turns, settings: Settings, stream: bool) -> tuple[Json, str]:
    items: list[Json] = [{"role": "user", "content": ASK}]
    image = {"type": "input_image", "image_url": f"data:image/png;base64,{PNG}"}
    for reply, after in turns:
        items += reply["output"]
        ids = [item["call_id"] for item in reply["output"] if item["type"] == "function_call"]
        text = _RESULTS[after.result]
        result: Any = [{"type": "input_text", "text": text}, image] if after.result == "picture" else text
        items += _in_order([{"type": "function_call_output", "call_id": id, "output": result} for id in ids], after)
        if after.system:
            items.append({"role": after.system, "content": "Be kind."})
        if not ids or after.text or after.missing:
            items.append({"role": "user", "content": MORE})
    function = {"type": "function", "parameters": STRICT if settings.strict else CITY, "strict": settings.strict}
    tools = [{**function, "name": name} for name in settings.tools]
    body: Json = {"model": "m", "store": False, "input": items, "tools": tools, "stream": stream}
    if settings.thinks:
        body |= {"reasoning": {"effort": "medium"}, "include": ["reasoning.encrypted_content"]}
    return {**body, **({"user": settings.user} if settings.user else {})}, "/v1/responses"


def _request_messages(turns: Turns, settings: Settings, stream: bool) -> tuple[Json, str]:
    mark = {"cache_control": {"type": "ephemeral"}} if settings.marks else {}
    messages: list[Json] = [{"role": "user", "content": [{"type": "text", "text": ASK, **mark}]}]
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}}
    for reply, after in turns:
        messages.append({"role": "assistant", "content": reply["content"]})
        ids = [block["id"] for block in reply["content"] if block["type"] == "tool_use"]
        text = _RESULTS[after.result]
        result: Any = [{"type": "text", "text": text}, image] if after.result == "picture" else text
        error = {"is_error": True} if after.result == "error" else {}
        blocks = [{"type": "tool_result", "tool_use_id": id, "content": result, **error} for id in ids]
        blocks = _in_order(blocks, after)
        if not ids or after.text or after.missing:
            blocks.append({"type": "text", "text": MORE})
        messages.append({"role": "user", "content": blocks})
    strict = {"strict": True} if settings.strict else {}
    tools = [{"name": name, "input_schema": CITY, **strict, **mark} for name in settings.tools]
    body: Json = {"model": "m", "max_tokens": 4000, "messages": messages, "tools": tools, "stream": stream}
    if settings.thinks:
        body["thinking"] = {"type": "enabled", "budget_tokens": 2000}
    if settings.user:
        body["metadata"] = {"user_id": settings.user}
    return body, "/v1/messages"


def _request_gemini(turns: Turns, settings: Settings, stream: bool) -> tuple[Json, str]:
    contents: list[Json] = [{"role": "user", "parts": [{"text": ASK}]}]
    for reply, after in turns:
        content = reply["candidates"][0]["content"]
        contents.append(content)
        parts: list[Json] = []
        for part in content["parts"]:
            if "functionCall" in part:
                call = part["functionCall"]
                given = {"id": call["id"]} if "id" in call else {}
                key = "error" if after.result == "error" else "output"
                response: Json = {"name": call["name"], "response": {key: _RESULTS[after.result]}, **given}
                if after.result == "picture":
                    response["parts"] = [{"inlineData": {"mimeType": "image/png", "data": PNG}}]
                parts.append({"functionResponse": response})
        has_ids = all("id" in part["functionResponse"] for part in parts)
        parts = _in_order(parts, after if has_ids else replace(after, reverse=False))
        if not parts or after.text or after.missing:
            parts.append({"text": MORE})
        contents.append({"role": "user", "parts": parts})
    declared = [{"functionDeclarations": [{"name": name, "parametersJsonSchema": CITY} for name in settings.tools]}]
    body: Json = {"contents": contents, "tools": declared}
    if settings.thinks:
        body["generationConfig"] = {"thinkingConfig": {"includeThoughts": True}}
    verb = "streamGenerateContent?alt=sse" if stream else "generateContent"
    return body, f"/v1beta/models/m:{verb}"


def _request_converse(turns: Turns, settings: Settings, stream: bool) -> tuple[Json, str]:
    messages: list[Json] = [{"role": "user", "content": [{"text": ASK}]}]
    picture = {"image": {"format": "png", "source": {"bytes": PNG}}}
    for reply, after in turns:
        content = reply["output"]["message"]["content"]
        messages.append({"role": "assistant", "content": content})
        text = _RESULTS[after.result]
        inner: list[Json] = (
            [{"json": json.loads(text)}] if after.result == "object" else [{"text": text}] if text else []
        )
        inner += [picture] if after.result == "picture" else []
        status = {"status": "error"} if after.result == "error" else {}
        ids = [block["toolUse"]["toolUseId"] for block in content if "toolUse" in block]
        blocks = _in_order([{"toolResult": {"toolUseId": id, "content": inner, **status}} for id in ids], after)
        if not ids or after.text or after.missing:
            blocks.append({"text": MORE})
        messages.append({"role": "user", "content": blocks})
    tools: list[Json] = [{"toolSpec": {"name": name, "inputSchema": {"json": CITY}}} for name in settings.tools]
    if settings.marks:
        tools.append({"cachePoint": {"type": "default"}})
    body: Json = {"messages": messages, "toolConfig": {"tools": tools}}
    if settings.thinks:
        body["inferenceConfig"] = {"maxTokens": 4000}
        body["additionalModelRequestFields"] = {"thinking": {"type": "enabled", "budget_tokens": 2000}}
    return body, f"/model/m/converse{'-stream' if stream else ''}"


_REQUESTS: dict[str, Callable[[Turns, Settings, bool], tuple[Json, str]]] = {
    CHAT: _request_chat,
    RESPONSES: _request_responses,
    MESSAGES: _request_messages,
    GEMINI: _request_gemini,
    CONVERSE: _request_converse,
}
