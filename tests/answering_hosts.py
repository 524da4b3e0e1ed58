"""The hosts of the tests of conversations: what each answers, in its own format, whole or streamed.

A host's traits (its ids, its thinking, its server tools) are from its documentation and from recorded traffic. Nothing
here comes from the readers or writers of edge_extproc.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import request_validators as refusals
from request_validators import CLAUDE_SIGNED, OPENAI_SEALED, claude_signature, google_signature

from edge_extproc.codecs import aws_eventstream
from edge_extproc.providers.base import Provider, ProviderSettings
from edge_extproc.registry import load

Json = dict[str, Any]
CHAT, RESPONSES, MESSAGES, GEMINI, CONVERSE = (
    "openai_chat",
    "openai_responses",
    "anthropic_messages",
    "gemini_generate",
    "bedrock_converse",
)
PNG = base64.b64encode(b"\x89PNG").decode()
NO = "I cannot do that."
SOURCE = {"url": "https://a.example", "title": "a"}


@dataclass(frozen=True)
class Turn:
    """What a model says, whoever it is. A host leaves out what it does not have."""

    thinking: str = ""
    redacted: bool = False
    text: str = ""
    calls: tuple[str, ...] = ()
    """The name of each called tool."""
    arguments: str = '{"city": "Rome"}'
    repeats_ids: bool = False
    """The host numbers the calls of each reply anew."""
    picture: bool = False
    refusal: bool = False
    search: bool = False
    """A tool that the host itself executes."""
    cut: bool = False
    """The reply ended at its limit."""
    cut_call: bool = False
    """Its last call with it, in a format whose calls have a text."""
    cited: bool = False
    """Its text cites a source."""

    def arguments_at(self, place: int) -> str:
        is_cut = self.cut and self.cut_call and place == len(self.calls) - 1
        return '{"city": "Ro' if is_cut else self.arguments


@dataclass(frozen=True)
class Host:
    kind: str
    model: str
    validators: dict[str, Callable[[Json], list[str]]]
    """What it refuses, by wire format."""
    maker: str = ""
    """Whose model it is: how it thinks, and how it numbers its calls."""
    options: dict[str, str] = field(default_factory=dict)
    dialect: str = ""
    """The configured wire format; empty: the one that fits the call best."""
    base_url: str = "https://host.example/v1"

    def provider(self, name: str) -> Provider:
        settings = ProviderSettings(name, self.base_url, None, self.options)
        provider: Provider = load("providers", self.kind).build(settings)
        return provider


def _bedrock_messages(body: Json) -> list[str]:
    return refusals.anthropic(body, server_tools=False)


_OPENAI = {CHAT: refusals.openai_chat, RESPONSES: refusals.openai_responses}
_CLAUDE = {MESSAGES: refusals.anthropic}


def _compatible(validator: Callable[[Json], list[str]]) -> dict[str, Callable[[Json], list[str]]]:
    return {CHAT: validator, RESPONSES: refusals.compatible_responses}


def _row(host: str, model: str, maker: str, validator: Callable[[Json], list[str]]) -> Host:
    return Host("openai_compatible", model, _compatible(validator), maker, {"host": host})


_OPENAI_URL = "https://api.openai.com/v1"
_BEDROCK_CLAUDE = "anthropic.claude-sonnet-4-5-20250929-v1:0"
HOSTS: dict[str, Host] = {
    "openai": Host("openai", "gpt-5.2", _OPENAI, "gpt", base_url=_OPENAI_URL),
    "openai responses": Host("openai", "gpt-5.2", _OPENAI, "gpt", dialect=RESPONSES, base_url=_OPENAI_URL),
    "azure": Host("azure", "gpt-5.1", _OPENAI, "gpt"),
    "anthropic": Host("anthropic", "claude-sonnet-4-5", _CLAUDE, "claude"),
    "anthropic adaptive": Host("anthropic", "claude-opus-4-6", _CLAUDE, "claude"),
    "vertex claude": Host("vertex", "claude-sonnet-4-5@20250929", _CLAUDE, "claude", {"project": "p"}),
    "bedrock claude": Host(
        "bedrock",
        _BEDROCK_CLAUDE,
        {CONVERSE: refusals.bedrock_claude, MESSAGES: _bedrock_messages},
        "bedrock claude",
        {"region": "r"},
    ),
    "bedrock nova": Host(
        "bedrock", "amazon.nova-2-lite-v1:0", {CONVERSE: refusals.bedrock_nova}, "nova", {"region": "r"}
    ),
    "bedrock deepseek": Host(
        "bedrock", "deepseek.r1-v1:0", {CONVERSE: refusals.bedrock_deepseek}, "nova", {"region": "r"}
    ),
    "gemini 2.5": Host("google", "gemini-2.5-pro", {GEMINI: refusals.gemini_2_5}, "gemini"),
    "gemini 3": Host("google", "gemini-3-flash-preview", {GEMINI: refusals.gemini_3}, "gemini"),
    "vertex gemini": Host("vertex", "gemini-3-pro-preview", {GEMINI: refusals.gemini_3}, "gemini", {"project": "p"}),
    "deepseek": _row("deepseek", "deepseek-v4-pro", "deepseek", refusals.thinking_chat),
    "kimi": _row("moonshot", "kimi-k2.6", "kimi", refusals.thinking_chat),
    "zhipu": _row("zai", "glm-4.6", "deepseek", refusals.zhipu),
    "openrouter": _row("openrouter", "anthropic/claude-sonnet-4.5", "openrouter", refusals.openrouter),
    "mistral": _row("mistral", "mistral-large-latest", "mistral", refusals.mistral),
    "groq": _row("groq", "llama-3.3-70b-versatile", "groq", refusals.strict_chat),
    "cerebras": _row("cerebras", "qwen-3-235b", "groq", refusals.strict_chat),
    "unknown host": Host("openai_compatible", "qwen3", _compatible(refusals.compatible_chat), "vllm"),
}


# --- the ids of calls


def _ids(maker: str, turn: Turn, number: int) -> list[str]:
    """The ids of the calls of the `number`th reply of a conversation."""
    start = 0 if turn.repeats_ids else 10 * number
    made: dict[str, Callable[[int], str]] = {
        "claude": lambda n: f"toolu_01{number}{n:018}",
        "bedrock claude": lambda n: f"tooluse_{number}{n:021}",
        "nova": lambda n: f"tooluse_{number}{n:021}",
        "gpt": lambda n: f"call_{number}{n:023}",
        "deepseek": lambda n: f"call_{n:02}_{number}{'x' * 20}",
        "kimi": lambda n: f"functions.{turn.calls[n - start]}:{n}",
        "openrouter": lambda n: f"toolu_01{number}{n:018}",
        "mistral": lambda n: f"{number}{n:04}aBcD",
        "groq": lambda n: f"call_{n}",
        "vllm": lambda n: f"chatcmpl-tool-{n:032}",
    }
    return [made[maker](start + n) for n in range(len(turn.calls))]


# --- whole replies


def answer(host: Host, dialect: str, turn: Turn, number: int) -> Json:
    """The reply of a host in this wire format."""
    maker = "claude" if dialect == MESSAGES else host.maker
    return _ANSWERS[dialect](maker, turn, number)


def _chat(maker: str, turn: Turn, number: int) -> Json:
    message: Json = {"role": "assistant", "content": turn.text or None}
    if maker == "gpt":
        cited = {"type": "url_citation", "url_citation": {**SOURCE, "start_index": 0, "end_index": 1}}
        annotations = [cited] if turn.cited and turn.text else []
        message |= {"refusal": NO if turn.refusal else None, "annotations": annotations}
    if turn.thinking and maker in ("deepseek", "kimi", "vllm"):
        message["reasoning_content"] = turn.thinking
    if turn.thinking and maker == "groq":
        message["reasoning"] = turn.thinking
    if turn.thinking and maker == "mistral":
        text = [{"type": "text", "text": turn.text}] if turn.text else []
        message["content"] = [{"type": "thinking", "thinking": [{"type": "text", "text": turn.thinking}]}, *text]
    if maker == "openrouter":
        details: list[Json] = []
        shape = {"format": "anthropic-claude-v1", "index": 0}
        if turn.thinking:
            message["reasoning"] = turn.thinking
            signature = claude_signature(turn.thinking)
            details.append({"type": "reasoning.text", "text": turn.thinking, "signature": signature, **shape})
        if turn.redacted:
            details.append({"type": "reasoning.encrypted", "data": f"{CLAUDE_SIGNED}R", **shape})
        if details:
            message["reasoning_details"] = details
        if turn.picture:
            picture = {"type": "image_url", "index": 0, "image_url": {"url": f"data:image/png;base64,{PNG}"}}
            message["images"] = [picture]
    if turn.calls:
        message["tool_calls"] = [
            {"id": id, "type": "function", "function": {"name": name, "arguments": turn.arguments_at(place)}}
            for place, (id, name) in enumerate(zip(_ids(maker, turn, number), turn.calls, strict=True))
        ]
    finish = "length" if turn.cut else "tool_calls" if turn.calls else "stop"
    choice = {"index": 0, "message": message, "finish_reason": finish}
    head = {"id": f"c-{number}", "object": "chat.completion", "created": 1, "model": "m"}
    return {**head, "choices": [choice], "usage": {"prompt_tokens": 9, "completion_tokens": 9, "total_tokens": 18}}


def _item_id(prefix: str, maker: str, number: int, place: int) -> str:
    return f"{prefix}_{number}{place}" + ("0" * 48 if maker == "gpt" else "f" * 14)


def _responses(maker: str, turn: Turn, number: int) -> Json:
    output: list[Json] = []

    def add(prefix: str, kind: str, fields: Json) -> None:
        output.append({"type": kind, "id": _item_id(prefix, maker, number, len(output)), **fields})

    if turn.thinking and maker == "gpt":
        summary = [{"type": "summary_text", "text": turn.thinking}]
        sealed = f"{OPENAI_SEALED}{number}"
        add("rs", "reasoning", {"summary": [] if turn.redacted else summary, "encrypted_content": sealed})
    elif turn.thinking:
        add("rs", "reasoning", {"summary": [], "content": [{"type": "reasoning_text", "text": turn.thinking}]})
    if turn.search and maker == "gpt":
        add("ws", "web_search_call", {"status": "completed", "action": {"type": "search", "query": "Rome"}})
    said: list[Json] = []
    if turn.text:
        cited = {"type": "url_citation", **SOURCE, "start_index": 0, "end_index": 1}
        said.append({"type": "output_text", "text": turn.text, "annotations": [cited] if turn.cited else []})
    if turn.refusal and maker == "gpt":
        said.append({"type": "refusal", "refusal": NO})
    if said:
        add("msg", "message", {"role": "assistant", "status": "completed", "content": said})
    if turn.picture and maker == "gpt":
        add("ig", "image_generation_call", {"status": "completed", "output_format": "png", "result": PNG})
    for place, (id, name) in enumerate(zip(_ids(maker, turn, number), turn.calls, strict=True)):
        call = {"call_id": id, "name": name, "arguments": turn.arguments_at(place), "status": "completed"}
        add("fc", "function_call", call)
    cut = {"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}}
    head = {"id": f"resp_{number}", "object": "response", "created_at": 1, "model": "m"}
    status = cut if turn.cut else {"status": "completed"}
    return {**head, **status, "output": output, "usage": {"input_tokens": 9, "output_tokens": 9, "total_tokens": 18}}


def _messages(maker: str, turn: Turn, number: int) -> Json:
    content: list[Json] = []
    if turn.thinking:
        signature = claude_signature(turn.thinking)
        content.append({"type": "thinking", "thinking": turn.thinking, "signature": signature})
    if turn.redacted:
        content.append({"type": "redacted_thinking", "data": f"{CLAUDE_SIGNED}R"})
    if turn.search:
        id = f"srvtoolu_01{number}"
        content.append({"type": "server_tool_use", "id": id, "name": "web_search", "input": {"query": "Rome"}})
        found = {"type": "web_search_result", "url": "https://a.example", "title": "a", "encrypted_content": "x"}
        content.append({"type": "web_search_tool_result", "tool_use_id": id, "content": [found]})
    if turn.text:
        place = {"type": "web_search_result_location", **SOURCE, "encrypted_index": "x", "cited_text": "a"}
        content.append({"type": "text", "text": turn.text, **({"citations": [place]} if turn.cited else {})})
    for id, name in zip(_ids(maker, turn, number), turn.calls, strict=True):
        content.append({"type": "tool_use", "id": id, "name": name, "input": json.loads(turn.arguments or "{}") or {}})
    stop = "max_tokens" if turn.cut else "tool_use" if turn.calls else "end_turn"
    head = {"id": f"msg_{number}", "type": "message", "role": "assistant", "model": "claude"}
    usage = {"input_tokens": 9, "output_tokens": 9}
    return {**head, "content": content, "stop_reason": stop, "stop_sequence": None, "usage": usage}


def _gemini(maker: str, turn: Turn, number: int) -> Json:
    del maker
    parts: list[Json] = []
    if turn.thinking:
        parts.append({"text": turn.thinking, "thought": True})
    if turn.search:
        parts.append({"executableCode": {"language": "PYTHON", "code": "1"}})
        parts.append({"codeExecutionResult": {"outcome": "OUTCOME_OK", "output": "1"}})
    if turn.text:
        signed = {"thoughtSignature": google_signature("text")} if turn.redacted else {}
        parts.append({"text": turn.text, **signed})
    if turn.picture:
        parts.append({"inlineData": {"mimeType": "image/png", "data": PNG}})
    for at, name in enumerate(turn.calls):
        call: Json = {"functionCall": {"name": name, "args": json.loads(turn.arguments or "{}") or {}}}
        if at == 0:
            call["thoughtSignature"] = google_signature(f"{name}{number}")
        parts.append(call)
    finish = "MAX_TOKENS" if turn.cut else "STOP"
    candidate: Json = {"index": 0, "content": {"role": "model", "parts": parts}, "finishReason": finish}
    if turn.cited:
        web = {"uri": SOURCE["url"], "title": SOURCE["title"]}
        support = {"segment": {"endIndex": 1, "text": "a"}, "groundingChunkIndices": [0]}
        candidate["groundingMetadata"] = {"groundingChunks": [{"web": web}], "groundingSupports": [support]}
    usage = {"promptTokenCount": 9, "candidatesTokenCount": 9, "totalTokenCount": 18}
    return {"candidates": [candidate], "modelVersion": "gemini", "responseId": f"r{number}", "usageMetadata": usage}


def _converse(maker: str, turn: Turn, number: int) -> Json:
    blocks: list[Json] = []
    if turn.thinking:
        seal = {"signature": claude_signature(turn.thinking)} if maker == "bedrock claude" else {}
        blocks.append({"reasoningContent": {"reasoningText": {"text": turn.thinking, **seal}}})
    if turn.redacted and maker == "bedrock claude":
        data = base64.b64encode(f"{CLAUDE_SIGNED}R".encode()).decode()
        blocks.append({"reasoningContent": {"redactedContent": data}})
    if turn.text and turn.cited and turn.text.strip():
        where = {"location": {"web": {"url": SOURCE["url"]}}, "title": SOURCE["title"]}
        blocks.append({"citationsContent": {"content": [{"text": turn.text}], "citations": [where]}})
    elif turn.text:
        blocks.append({"text": turn.text})
    for id, name in zip(_ids(maker, turn, number), turn.calls, strict=True):
        blocks.append({"toolUse": {"toolUseId": id, "name": name, "input": json.loads(turn.arguments or "{}") or {}}})
    stop = "max_tokens" if turn.cut else "tool_use" if turn.calls else "end_turn"
    usage = {"inputTokens": 9, "outputTokens": 9, "totalTokens": 18}
    return {"output": {"message": {"role": "assistant", "content": blocks}}, "stopReason": stop, "usage": usage}


_ANSWERS: dict[str, Callable[[str, Turn, int], Json]] = {
    CHAT: _chat,
    RESPONSES: _responses,
    MESSAGES: _messages,
    GEMINI: _gemini,
    CONVERSE: _converse,
}


# --- the same replies as streams


def streamed(dialect: str, whole: Json) -> bytes:
    """The bytes of a stream with the same content."""
    return _STREAMS[dialect](whole)


def sse(value: Json, event: str = "") -> bytes:
    head = f"event: {event}\n" if event else ""
    return f"{head}data: {json.dumps(value)}\n\n".encode()


def _halves(text: str) -> list[str]:
    middle = len(text) // 2
    return [piece for piece in (text[:middle], text[middle:]) if piece]


def _stream_chat(whole: Json) -> bytes:
    message, head = whole["choices"][0]["message"], {key: whole[key] for key in ("id", "created", "model")}
    deltas: list[Json] = [{"role": "assistant", "content": ""}]
    for key in ("reasoning_content", "reasoning", "content", "refusal"):
        text = message.get(key)
        if isinstance(text, str):
            deltas += [{key: piece} for piece in _halves(text)]
        elif isinstance(text, list):
            deltas += [{key: [part]} for part in text]
    deltas += [{"reasoning_details": [entry]} for entry in message.get("reasoning_details") or ()]
    deltas += [{"images": [image]} for image in message.get("images") or ()]
    for at, call in enumerate(message.get("tool_calls") or ()):
        function = {"name": call["function"]["name"], "arguments": ""}
        deltas.append({"tool_calls": [{"index": at, "id": call["id"], "type": "function", "function": function}]})
        for piece in _halves(call["function"]["arguments"]):
            deltas.append({"tool_calls": [{"index": at, "function": {"arguments": piece}}]})
    chunks = [{"index": 0, "delta": delta, "finish_reason": None} for delta in deltas]
    chunks.append({"index": 0, "delta": {}, "finish_reason": whole["choices"][0]["finish_reason"]})
    head["object"] = "chat.completion.chunk"
    frames = [sse({**head, "choices": [chunk]}) for chunk in chunks]
    return b"".join([*frames, sse({**head, "choices": [], "usage": whole["usage"]}), b"data: [DONE]\n\n"])


def _stream_responses(whole: Json) -> bytes:
    frames: list[Json] = [{"type": "response.created", "response": {**whole, "output": [], "status": "in_progress"}}]
    for at, item in enumerate(whole["output"]):
        started = {**item, **{key: [] for key in ("content", "summary") if key in item}}
        if "arguments" in item:
            started["arguments"] = ""
        frames.append({"type": "response.output_item.added", "output_index": at, "item": started})
        for key, event in (("summary", "reasoning_summary_text"), ("content", "")):
            for number, part in enumerate(item.get(key) or ()):
                kind = event or {"output_text": "output_text", "refusal": "refusal"}.get(part["type"], "reasoning_text")
                text = part.get("text") or part.get("refusal") or ""
                where = {"output_index": at, "content_index": number, "summary_index": number}
                frames += [{"type": f"response.{kind}.delta", **where, "delta": piece} for piece in _halves(text)]
        for piece in _halves(item.get("arguments") or ""):
            frames.append({"type": "response.function_call_arguments.delta", "output_index": at, "delta": piece})
        frames.append({"type": "response.output_item.done", "output_index": at, "item": item})
    frames.append({"type": f"response.{whole['status']}", "response": whole})
    return b"".join(sse(frame, frame["type"]) for frame in frames)


def _stream_messages(whole: Json) -> bytes:
    frames: list[Json] = [{"type": "message_start", "message": {**whole, "content": [], "stop_reason": None}}]
    for at, block in enumerate(whole["content"]):
        deltas: list[Json] = []
        start = dict(block)
        match block:
            case {"type": "text", "text": text}:
                start |= {"text": "", **({"citations": []} if "citations" in block else {})}
                deltas = [{"type": "text_delta", "text": piece} for piece in _halves(text)]
                deltas += [{"type": "citations_delta", "citation": each} for each in block.get("citations", ())]
            case {"type": "thinking", "thinking": text, "signature": signature}:
                start |= {"thinking": "", "signature": ""}
                deltas = [{"type": "thinking_delta", "thinking": piece} for piece in _halves(text)]
                deltas.append({"type": "signature_delta", "signature": signature})
            case {"type": "tool_use" | "server_tool_use", "input": value}:
                start["input"] = {}
                deltas = [{"type": "input_json_delta", "partial_json": piece} for piece in _halves(json.dumps(value))]
        frames.append({"type": "content_block_start", "index": at, "content_block": start})
        frames += [{"type": "content_block_delta", "index": at, "delta": delta} for delta in deltas]
        frames.append({"type": "content_block_stop", "index": at})
    end = {"stop_reason": whole["stop_reason"], "stop_sequence": None}
    frames += [{"type": "message_delta", "delta": end, "usage": whole["usage"]}, {"type": "message_stop"}]
    return b"".join(sse(frame, frame["type"]) for frame in frames)


def _stream_gemini(whole: Json) -> bytes:
    candidate = whole["candidates"][0]
    frames: list[Json] = []
    for part in candidate["content"]["parts"]:
        pieces = [part]
        if "text" in part and "thoughtSignature" not in part:
            pieces = [{**part, "text": piece} for piece in _halves(part["text"])]
        frames += [{"candidates": [{"content": {"role": "model", "parts": [piece]}, "index": 0}]} for piece in pieces]
    end = {**candidate, "content": {"role": "model", "parts": [{"text": ""}]}}
    frames.append({"candidates": [end], "usageMetadata": whole["usageMetadata"]})
    head = {"modelVersion": "gemini", "responseId": whole["responseId"]}
    return b"".join(sse({**frame, **head}) for frame in frames)


def _stream_converse(whole: Json) -> bytes:
    def frame(kind: str, value: Json) -> bytes:
        return aws_eventstream.event(kind, json.dumps(value).encode())

    frames = [frame("messageStart", {"role": "assistant"})]
    for at, block in enumerate(whole["output"]["message"]["content"]):
        where = {"contentBlockIndex": at}
        deltas: list[Json] = []
        match block:
            case {"text": text}:
                deltas = [{"text": piece} for piece in _halves(text)]
            case {"citationsContent": {"content": [{"text": text}], "citations": cited}}:
                deltas = [{"text": piece} for piece in _halves(text)] + [{"citation": each} for each in cited]
            case {"reasoningContent": {"reasoningText": {"text": text, **more}}}:
                deltas = [{"reasoningContent": {"text": piece}} for piece in _halves(text)]
                if "signature" in more:
                    deltas.append({"reasoningContent": {"signature": more["signature"]}})
            case {"reasoningContent": redacted}:
                deltas = [{"reasoningContent": redacted}]
            case {"toolUse": use}:
                start = {"toolUse": {key: use[key] for key in ("toolUseId", "name")}}
                frames.append(frame("contentBlockStart", {**where, "start": start}))
                deltas = [{"toolUse": {"input": piece}} for piece in _halves(json.dumps(use["input"]))]
        frames += [frame("contentBlockDelta", {**where, "delta": delta}) for delta in deltas]
        frames.append(frame("contentBlockStop", where))
    frames.append(frame("messageStop", {"stopReason": whole["stopReason"]}))
    frames.append(frame("metadata", {"usage": whole["usage"], "metrics": {"latencyMs": 1}}))
    return b"".join(frames)


_STREAMS: dict[str, Callable[[Json], bytes]] = {
    CHAT: _stream_chat,
    RESPONSES: _stream_responses,
    MESSAGES: _stream_messages,
    GEMINI: _stream_gemini,
    CONVERSE: _stream_converse,
}
