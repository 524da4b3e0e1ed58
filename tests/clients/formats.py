"""The wire formats of providers, as far as a model of the tests speaks them: what a request asks, and the reply to it.

Written from the providers' documentation. Nothing here comes from the dialects of edge_extproc.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, Protocol

from request_validators import CLAUDE_SIGNED, GOOGLE_SIGNED, OPENAI_SEALED

Json = dict[str, Any]

# What `request_validators` accepts as the provider's own signature.
CLAUDE_SIGNATURE = f"{CLAUDE_SIGNED}=="
GOOGLE_SIGNATURE = f"{GOOGLE_SIGNED}IQ=="
OPENAI_SIGNATURE = f"{OPENAI_SEALED}-encrypted-reasoning"


@dataclass(frozen=True)
class Asked:
    """What the model reads in a request."""

    stream: bool
    tools: dict[str, Json]
    """The name of each tool, and the JSON schema of its arguments."""
    results: list[str]
    """The text of each tool result, in order."""
    has_schema: bool
    """The request gives a schema or another JSON mode for the text."""
    custom: frozenset[str] = field(default_factory=frozenset)
    """Names of tools whose input is one string."""


@dataclass(frozen=True)
class Said:
    """What the model answers."""

    text: str = ""
    calls: tuple[tuple[str, Json], ...] = ()
    thinking: str = ""
    serial: int = 0
    """Makes the ids of one reply differ from those of others."""
    custom: frozenset[str] = field(default_factory=frozenset)
    """Names of tools whose input is one string."""


class Format(Protocol):
    validator: str

    def read(self, path: str, body: Json) -> Asked: ...

    def whole(self, said: Said) -> Json: ...

    def events(self, said: Said) -> list[tuple[str | None, Json]]:
        """The name and the data of each event."""

    def error(self, message: str) -> Json: ...


def pieces(text: str, size: int = 7) -> list[str]:
    return [text[at : at + size] for at in range(0, len(text), size)]


def _text_of(content: Any) -> str:
    """The text in a string, a part, or a list of parts."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "".join(_text_of(part) for part in content)
    if isinstance(content, dict):
        return str(content.get("text", ""))
    return ""


def _leaves(value: Any) -> str:
    """The texts and numbers in a value, a line for each."""
    if isinstance(value, dict):
        return "\n".join(_leaves(each) for each in value.values())
    if isinstance(value, list):
        return "\n".join(_leaves(each) for each in value)
    return str(value)


class Claude:
    validator = "anthropic_messages"

    def read(self, path: str, body: Json) -> Asked:
        blocks = [block for turn in body["messages"] if isinstance(turn["content"], list) for block in turn["content"]]
        results = [_text_of(block.get("content")) for block in blocks if block["type"] == "tool_result"]
        tools = {tool["name"]: tool.get("input_schema", {}) for tool in body.get("tools") or ()}
        has_schema = bool((body.get("output_config") or {}).get("format") or body.get("output_format"))
        return Asked(body.get("stream", False), tools, results, has_schema)

    def _blocks(self, said: Said) -> list[Json]:
        blocks: list[Json] = []
        if said.thinking:
            blocks.append({"type": "thinking", "thinking": said.thinking, "signature": CLAUDE_SIGNATURE})
        if said.text:
            blocks.append({"type": "text", "text": said.text})
        for at, (name, arguments) in enumerate(said.calls):
            blocks.append({"type": "tool_use", "id": f"toolu_{said.serial}_{at}", "name": name, "input": arguments})
        return blocks

    def whole(self, said: Said) -> Json:
        return {
            "id": f"msg_{said.serial}",
            "type": "message",
            "role": "assistant",
            "model": "claude-sonnet-4-5",
            "content": self._blocks(said),
            "stop_reason": "tool_use" if said.calls else "end_turn",
            "stop_sequence": None,
            "usage": {"input_tokens": 30, "output_tokens": 20},
        }

    def events(self, said: Said) -> list[tuple[str | None, Json]]:
        message = self.whole(said)
        start = {**message, "content": [], "stop_reason": None, "usage": {"input_tokens": 30, "output_tokens": 1}}
        events: list[Json] = [{"type": "message_start", "message": start}, {"type": "ping"}]
        for index, block in enumerate(message["content"]):
            match block["type"]:
                case "thinking":
                    empty: Json = {"type": "thinking", "thinking": "", "signature": ""}
                    deltas = [{"type": "thinking_delta", "thinking": piece} for piece in pieces(block["thinking"])]
                    deltas.append({"type": "signature_delta", "signature": block["signature"]})
                case "text":
                    empty = {"type": "text", "text": ""}
                    deltas = [{"type": "text_delta", "text": piece} for piece in pieces(block["text"])]
                case _:
                    empty = {**block, "input": {}}
                    parts = ["", *pieces(json.dumps(block["input"]))]
                    deltas = [{"type": "input_json_delta", "partial_json": piece} for piece in parts]
            events.append({"type": "content_block_start", "index": index, "content_block": empty})
            events += [{"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas]
            events.append({"type": "content_block_stop", "index": index})
        end = {"stop_reason": message["stop_reason"], "stop_sequence": None}
        events.append({"type": "message_delta", "delta": end, "usage": {"output_tokens": 20}})
        events.append({"type": "message_stop"})
        return [(event["type"], event) for event in events]

    def error(self, message: str) -> Json:
        return {"type": "error", "error": {"type": "invalid_request_error", "message": message}}


class Chat:
    """OpenAI's chat completions. A compatible host also shows its reasoning."""

    validator = "openai_chat"

    def __init__(self, *, shows_reasoning: bool) -> None:
        self._shows_reasoning = shows_reasoning

    def read(self, path: str, body: Json) -> Asked:
        results = [_text_of(message["content"]) for message in body["messages"] if message["role"] == "tool"]
        tools = {}
        for tool in body.get("tools") or ():
            described = tool[tool["type"]]
            tools[described["name"]] = described.get("parameters", {})
        form = (body.get("response_format") or {}).get("type", "text")
        return Asked(body.get("stream") or False, tools, results, form != "text")

    def _calls(self, said: Said) -> list[Json]:
        calls = []
        for at, (name, arguments) in enumerate(said.calls):
            call: Json = {"id": f"call_{said.serial}_{at}", "type": "function"}
            calls.append({**call, "function": {"name": name, "arguments": json.dumps(arguments)}})
        return calls

    def _usage(self) -> Json:
        return {"prompt_tokens": 30, "completion_tokens": 20, "total_tokens": 50}

    def whole(self, said: Said) -> Json:
        message: Json = {"role": "assistant", "content": said.text or None}
        if said.thinking and self._shows_reasoning:
            message["reasoning_content"] = said.thinking
        if said.calls:
            message["tool_calls"] = self._calls(said)
        finish = "tool_calls" if said.calls else "stop"
        return {
            "id": f"chatcmpl-{said.serial}",
            "object": "chat.completion",
            "created": 1_780_000_000,
            "model": "the-model",
            "choices": [{"index": 0, "message": message, "finish_reason": finish, "logprobs": None}],
            "usage": self._usage(),
        }

    def events(self, said: Said) -> list[tuple[str | None, Json]]:
        deltas: list[Json] = [{"role": "assistant", "content": ""}]
        if said.thinking and self._shows_reasoning:
            deltas += [{"reasoning_content": piece} for piece in pieces(said.thinking)]
        deltas += [{"content": piece} for piece in pieces(said.text)]
        for at, call in enumerate(self._calls(said)):
            arguments = call["function"]["arguments"]
            begun = {**call, "index": at, "function": {"name": call["function"]["name"], "arguments": ""}}
            deltas.append({"tool_calls": [begun]})
            for piece in pieces(arguments):
                deltas.append({"tool_calls": [{"index": at, "function": {"arguments": piece}}]})
        whole = self.whole(said)
        head = {"id": whole["id"], "object": "chat.completion.chunk", "created": whole["created"], "model": "the-model"}
        finish = whole["choices"][0]["finish_reason"]
        chunks: list[Json] = [
            {**head, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]} for delta in deltas
        ]
        chunks.append({**head, "choices": [{"index": 0, "delta": {}, "finish_reason": finish}]})
        chunks.append({**head, "choices": [], "usage": self._usage()})
        return [(None, chunk) for chunk in chunks]

    def error(self, message: str) -> Json:
        return {"error": {"message": message, "type": "invalid_request_error", "param": None, "code": None}}


class Responses:
    """OpenAI's responses."""

    validator = "openai_responses"

    def read(self, path: str, body: Json) -> Asked:
        items = body["input"] if isinstance(body["input"], list) else []
        results = [_text_of(item["output"]) for item in items if str(item.get("type")).endswith("_call_output")]
        tools = {tool["name"]: tool.get("parameters") or {} for tool in body.get("tools") or () if "name" in tool}
        form = ((body.get("text") or {}).get("format") or {}).get("type", "text")
        custom = frozenset(tool["name"] for tool in body.get("tools") or () if tool["type"] == "custom")
        return Asked(body.get("stream") or False, tools, results, form != "text", custom)

    def _items(self, said: Said) -> list[Json]:
        items: list[Json] = []
        if said.thinking:
            summary = [{"type": "summary_text", "text": said.thinking}]
            items.append(
                {
                    "id": f"rs_{said.serial}",
                    "type": "reasoning",
                    "summary": summary,
                    "encrypted_content": OPENAI_SIGNATURE,
                }
            )
        if said.text:
            part = {"type": "output_text", "text": said.text, "annotations": [], "logprobs": []}
            message = {"id": f"msg_{said.serial}", "type": "message", "role": "assistant", "status": "completed"}
            items.append({**message, "content": [part]})
        for at, (name, arguments) in enumerate(said.calls):
            ids = {"call_id": f"call_{said.serial}_{at}", "name": name, "status": "completed"}
            if name in said.custom:
                (text,) = arguments.values()
                items.append({"id": f"ctc_{said.serial}_{at}", "type": "custom_tool_call", "input": text, **ids})
            else:
                item = {"id": f"fc_{said.serial}_{at}", "type": "function_call", "arguments": json.dumps(arguments)}
                items.append({**item, **ids})
        return items

    def whole(self, said: Said) -> Json:
        details = {
            "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
            "output_tokens_details": {"reasoning_tokens": 0},
        }
        return {
            "id": f"resp_{said.serial}",
            "object": "response",
            "created_at": 1_780_000_000,
            "status": "completed",
            "model": "gpt-5.2",
            "output": self._items(said),
            "error": None,
            "incomplete_details": None,
            "instructions": None,
            "metadata": {},
            "parallel_tool_calls": True,
            "temperature": 1.0,
            "top_p": 1.0,
            "tool_choice": "auto",
            "tools": [],
            "usage": {"input_tokens": 30, "output_tokens": 20, "total_tokens": 50, **details},
        }

    def events(self, said: Said) -> list[tuple[str | None, Json]]:
        whole = self.whole(said)
        begun = {**whole, "status": "in_progress", "output": [], "usage": None}
        events: list[Json] = [{"type": f"response.{name}", "response": begun} for name in ("created", "in_progress")]
        for index, item in enumerate(whole["output"]):
            at = {"item_id": item["id"], "output_index": index}
            inside: list[Json] = []
            match item["type"]:
                case "reasoning":
                    empty = {**item, "summary": [], "encrypted_content": None}
                    text, place = item["summary"][0]["text"], {**at, "summary_index": 0}
                    kind = "response.reasoning_summary"
                    inside.append({"type": f"{kind}_part.added", **place, "part": {"type": "summary_text", "text": ""}})
                    inside += [{"type": f"{kind}_text.delta", **place, "delta": piece} for piece in pieces(text)]
                    inside.append({"type": f"{kind}_text.done", **place, "text": text})
                    inside.append({"type": f"{kind}_part.done", **place, "part": item["summary"][0]})
                case "message":
                    empty = {**item, "content": [], "status": "in_progress"}
                    part, place = item["content"][0], {**at, "content_index": 0}
                    kind = "response.output_text"
                    bare: Json = {"logprobs": []}
                    inside.append({"type": "response.content_part.added", **place, "part": {**part, "text": ""}})
                    inside += [
                        {"type": f"{kind}.delta", **place, **bare, "delta": piece} for piece in pieces(part["text"])
                    ]
                    inside.append({"type": f"{kind}.done", **place, **bare, "text": part["text"]})
                    inside.append({"type": "response.content_part.done", **place, "part": part})
                case _:
                    name = "input" if item["type"] == "custom_tool_call" else "arguments"
                    kind = f"response.{item['type']}_{name}"
                    empty = {**item, name: "", "status": "in_progress"}
                    inside += [{"type": f"{kind}.delta", **at, "delta": piece} for piece in pieces(item[name])]
                    inside.append({"type": f"{kind}.done", **at, name: item[name], "name": item["name"]})
            events.append({"type": "response.output_item.added", "output_index": index, "item": empty})
            events += inside
            events.append({"type": "response.output_item.done", "output_index": index, "item": item})
        events.append({"type": "response.completed", "response": whole})
        return [(event["type"], {**event, "sequence_number": number}) for number, event in enumerate(events)]

    def error(self, message: str) -> Json:
        return {"error": {"message": message, "type": "invalid_request_error", "param": None, "code": None}}


class Gemini:
    validator = "gemini_generate"

    def read(self, path: str, body: Json) -> Asked:
        answers = [
            part["functionResponse"]
            for turn in body["contents"]
            for part in turn["parts"]
            if "functionResponse" in part
        ]
        results = [_leaves(answer["response"]) for answer in answers]
        declared = [each for tool in body.get("tools") or () for each in tool.get("functionDeclarations", ())]
        tools = {each["name"]: each.get("parametersJsonSchema") or each.get("parameters") or {} for each in declared}
        settings = body.get("generationConfig") or {}
        return Asked(":stream" in path, tools, results, settings.get("responseMimeType") == "application/json")

    def _reply(self, parts: list[Json], *, ends: bool, serial: int) -> Json:
        candidate: Json = {"index": 0, "content": {"role": "model", "parts": parts}}
        if ends:
            candidate["finishReason"] = "STOP"
        return {
            "candidates": [candidate],
            "usageMetadata": {"promptTokenCount": 30, "candidatesTokenCount": 20, "totalTokenCount": 50},
            "modelVersion": "gemini-3-flash-preview",
            "responseId": f"r{serial}",
        }

    def _call_parts(self, said: Said) -> list[Json]:
        calls = []
        for at, (name, arguments) in enumerate(said.calls):
            part: Json = {"functionCall": {"name": name, "args": arguments}}
            # Of parallel calls, Google signs the first.
            calls.append({**part, "thoughtSignature": GOOGLE_SIGNATURE} if at == 0 else part)
        return calls

    def whole(self, said: Said) -> Json:
        parts: list[Json] = [{"text": said.thinking, "thought": True}] if said.thinking else []
        if said.text:
            parts.append({"text": said.text})
        return self._reply([*parts, *self._call_parts(said)], ends=True, serial=said.serial)

    def events(self, said: Said) -> list[tuple[str | None, Json]]:
        parts: list[Json] = [{"text": piece, "thought": True} for piece in pieces(said.thinking)]
        parts += [{"text": piece} for piece in pieces(said.text)]
        if said.calls:
            told = [*([part] for part in parts), self._call_parts(said)]
        else:
            told = [*([part] for part in parts[:-1]), parts[-1:]]
        last = len(told) - 1
        return [(None, self._reply(each, ends=at == last, serial=said.serial)) for at, each in enumerate(told)]

    def error(self, message: str) -> Json:
        return {"error": {"code": 400, "message": message, "status": "INVALID_ARGUMENT"}}
