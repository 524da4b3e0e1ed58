"""APIs of single hosts that the gateway forwards unread: Cohere's chat, Ollama's own, Google's interactions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from .base import PIXEL, TIDE_ARGUMENTS, Exchange, Json, compact, parsed, pieces, sse, token, uuid
from .openai_chat import LOAF_SCHEMA, PHOTO, TIDES, assistant, system, user

THOUGHT = "The user asks for a knot."


def _cohere_reply(seed: str, message: Json, finish: str, thoughts: int = 0) -> Json:
    tokens = {"input_tokens": 21, "output_tokens": 12}
    usage: Json = {"billed_units": tokens, "tokens": tokens, "cached_tokens": 16}
    if thoughts:
        usage["tokens"] = {**tokens, "reasoning_tokens": thoughts}
    return {"id": uuid(seed), "message": {"role": "assistant", **message}, "finish_reason": finish, "usage": usage}


def cohere() -> Iterator[Exchange]:
    model = "command-a-03-2025"
    where: Any = ("cohere", "cohere_chat", "POST /v2/chat", "api.cohere.com", model)
    calls = [
        {
            "id": f"tide_table_{token(f'cohere {at}', 12).lower()}",
            "type": "function",
            "function": {"name": "tide_table", "arguments": TIDE_ARGUMENTS},
        }
        for at in range(2)
    ]
    source = {"type": "document", "id": "doc:0", "document": {"id": "doc:0", "text": "Reef knot"}}
    cited = [{"start": 0, "end": 9, "text": "Reef knot", "sources": [source], "type": "TEXT_CONTENT"}]
    result = {"role": "tool", "tool_call_id": calls[0]["id"], "content": "High water at 04:12."}
    history = [user("Tides?"), assistant(None, tool_calls=calls[:1], tool_plan="I look it up."), result]
    picture = [{"type": "text", "text": "What is it?"}, {"type": "image_url", "image_url": {"url": PHOTO}}]
    format_ = {"type": "json_object", "json_schema": LOAF_SCHEMA}
    text: Json = {"content": [{"type": "text", "text": "Reef knot"}]}
    thinks: Json = {"content": [{"type": "thinking", "thinking": THOUGHT}, *text["content"]]}
    rows: list[tuple[str, Json, Json, str, int]] = [
        ("text", {"messages": [system("Be brief."), user("A knot?")]}, text, "COMPLETE", 0),
        (
            "tools",
            {"messages": history[:1], "tools": [TIDES]},
            {"tool_plan": "I look.", "tool_calls": calls},
            "TOOL_CALL",
            0,
        ),
        ("tool-results", {"messages": history, "tools": [TIDES]}, {**text, "citations": cited}, "COMPLETE", 0),
        ("reasoning", {"messages": [user("A knot?")], "thinking": {"type": "enabled"}}, thinks, "COMPLETE", 9),
        ("vision", {"messages": [user(picture)], "tool_choice": "NONE", "tools": [TIDES]}, text, "COMPLETE", 0),
        ("structured-output", {"messages": [user("A loaf.")], "response_format": format_}, text, "COMPLETE", 0),
        ("stop", {"messages": [user("Count.")], "stop_sequences": ["five"]}, text, "STOP_SEQUENCE", 0),
        ("document", {"messages": [user("A knot?")], "documents": [{"document": {}}]}, text, "COMPLETE", 0),
    ]
    for name, asked, message, finish, thoughts in rows:
        body = _cohere_reply(f"cohere {name}", message, finish, thoughts)
        yield Exchange(name, *where, {"model": model, **asked}, compact(body))
    for name, asked, message, finish, _ in rows[:3]:
        told: list[Json] = [{"type": "message-start", "id": uuid(name), "delta": {"message": {"role": "assistant"}}}]
        for part in message.get("content", ()):
            told.append(
                {"type": "content-start", "index": 0, "delta": {"message": {"content": {"type": "text", "text": ""}}}}
            )
            told += [
                {"type": "content-delta", "index": 0, "delta": {"message": {"content": {"text": each}}}}
                for each in pieces(part["text"])
            ]
            told.append({"type": "content-end", "index": 0})
        for at, each in enumerate(message.get("citations", ())):
            told.append({"type": "citation-start", "index": at, "delta": {"message": {"citations": each}}})
        for at, call in enumerate(message.get("tool_calls", ())):
            told.append({"type": "tool-call-start", "index": at, "delta": {"message": {"tool_calls": [call]}}})
            told.append({"type": "tool-call-end", "index": at})
        usage = _cohere_reply(name, {}, finish)["usage"]
        told.append({"type": "message-end", "delta": {"finish_reason": finish, "usage": usage}})
        asked = {"model": model, **asked, "stream": True}
        yield Exchange(f"{name}-stream", *where, asked, sse(told, named=True), stream_format="sse")
    wrong = {"id": uuid("wrong"), "message": "model 'none' not found"}
    yield Exchange("error-model", *where, {"model": "none", "messages": [user("Hi")]}, compact(wrong), 404)
    lines: list[Json] = [
        {"is_finished": False, "event_type": "text-generation", "text": "Reef knot"},
        {"is_finished": True, "event_type": "stream-end", "finish_reason": "COMPLETE"},
    ]
    at_generate: Any = ("cohere", "cohere_generate", "POST /v1/generate", "api.cohere.com", model)
    wire = b"".join(compact(each) + b"\n" for each in lines)
    asked = {"model": model, "prompt": "A knot?", "stream": True}
    yield Exchange("text-stream", *at_generate, asked, wire, stream_format="json-lines-or-array")


def ollama() -> Iterator[Exchange]:
    model = "qwen3:4b"
    where: Any = ("ollama", "ollama_chat", "POST /api/chat", "127.0.0.1:11434", model)
    begin = {"model": model, "created_at": "2026-01-01T00:00:00Z"}
    end = {"done": True, "done_reason": "stop", "prompt_eval_count": 21, "eval_count": 12}
    call = {"function": {"name": "tide_table", "arguments": parsed(TIDE_ARGUMENTS)}}
    said = {"role": "assistant", "content": "Reef knot", "thinking": THOUGHT}
    asked: Json = {"model": model, "messages": [user("A knot?")], "stream": False}
    yield Exchange("text", *where, asked, compact({**begin, "message": said, **end, "finish_reason": "stop"}))
    called = {"role": "assistant", "content": "", "tool_calls": [{"id": "call_1", **call}]}
    result = {"role": "tool", "tool_name": "tide_table", "content": "High water at 04:12."}
    messages = [user("Tides?"), called, result, user("And ferries?")]
    asked = {"model": model, "messages": messages, "tools": [TIDES], "stream": False}
    yield Exchange("tools", *where, asked, compact({**begin, "message": called, **end}))
    wrong = {"error": "model 'none' not found"}
    yield Exchange("error-model", *where, {"model": "none", "messages": []}, compact(wrong), 404)
    at: Any = ("ollama", "ollama_generate", "POST /api/generate", "127.0.0.1:11434", model)
    lines = [{**begin, "response": each, "done": False} for each in pieces("Reef knot", 4)]
    lines.append({**begin, "response": "", **end, "finish_reason": "stop"})
    wire = b"".join(compact(each) + b"\n" for each in lines)
    yield Exchange("text-stream", *at, {"model": model, "prompt": "A knot?"}, wire, stream_format="json-lines-or-array")


def interactions() -> Iterator[Exchange]:
    model = "gemini-2.5-flash"
    where: Any = ("gemini", "interactions", "POST /v1beta/interactions", "generativelanguage.googleapis.com", model)
    given = [{"type": "text", "text": "Which colour?"}, {"type": "image", "data": PIXEL, "mime_type": "image/png"}]
    usage = {"total_input_tokens": 20, "total_output_tokens": 2, "total_tokens": 22}
    done = {
        "id": token("interaction", 40),
        "object": "interaction",
        "status": "completed",
        "model": model,
        "usage": usage,
    }
    body = {**done, "outputs": [{"type": "text", "text": "Red."}]}
    yield Exchange("vision", *where, {"model": model, "input": given}, compact(body))
    told: list[Json] = [
        {"type": "interaction.start", "interaction": {"id": done["id"], "status": "in_progress"}},
        {"type": "content.delta", "index": 0, "delta": {"type": "text", "text": "Red."}},
        {"type": "interaction.complete", "interaction": done},
    ]
    asked = {"model": model, "input": given, "stream": True}
    yield Exchange("vision-stream", *where, asked, sse(told), stream_format="sse")


def exchanges() -> Iterator[Exchange]:
    yield from cohere()
    yield from ollama()
    yield from interactions()
