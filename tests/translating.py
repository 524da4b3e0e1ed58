"""Helpers for tests of translation: a request, a reply or a stream of one chat format, as another format gets it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
from crossings import CHAT, DIALECTS, GEMINI, MESSAGES, MODELS, RESPONSES, events_of, read_call

from edge_extproc.codecs.sse import SseDecoder
from edge_extproc.errors import BadRequest
from edge_extproc.model.call import Chat
from edge_extproc.model.content import Message, Part, Text
from edge_extproc.model.fault import Fault
from edge_extproc.model.reply import Choice, Ended, Finish, Finished, FinishReason, Reply, ReplyEvent, fold, unfold

Json = dict[str, Any]
EVERY = (CHAT, RESPONSES, MESSAGES, GEMINI)
HI = {"role": "user", "content": "Hi"}
# The required fields of a request of each format.
LEAST: dict[str, Json] = {
    CHAT: {"model": "m", "messages": [HI]},
    RESPONSES: {"model": "m", "input": [HI]},
    MESSAGES: {"model": "m", "max_tokens": 100, "messages": [HI]},
    GEMINI: {"contents": [{"role": "user", "parts": [{"text": "Hi"}]}]},
}


def read(source: str, **fields: Any) -> Chat:
    """A request of `source` as a Chat. Required fields without a value in `fields` get a default."""
    raw = json.dumps({**LEAST[source], **fields}).encode()
    return DIALECTS[source].read_chat(read_call(source, raw, "m", stream=bool(fields.get("stream"))))


def write(chat: Chat, target: str, model: str | None = None) -> tuple[Any, tuple[str, ...]]:
    written = DIALECTS[target].write_chat(chat, model or MODELS[target])
    return json.loads(written.body), written.dropped


def cross(source: str, target: str, model: str | None = None, **fields: Any) -> tuple[Any, tuple[str, ...]]:
    """The body that a provider of `target` gets for a request of `source`, and what was dropped."""
    return write(read(source, **fields), target, model)


def refused(source: str, target: str, model: str | None = None, **fields: Any) -> str:
    """The error of a request that cannot be translated. Fails if it can."""
    with pytest.raises(BadRequest) as caught:
        cross(source, target, model, **fields)
    return caught.value.message


def reply(
    target: str,
    *parts: Part,
    finish: FinishReason | Finish | None = "stop",
    source: str = MESSAGES,
    **fields: Any,
) -> Any:
    """What a caller of `target` gets for a whole reply of `source`."""
    end = Finish(finish) if isinstance(finish, str) else finish
    whole = Reply(source, "id-1", "m", (Choice(parts, end),), **fields)
    return json.loads(DIALECTS[target].write_reply(whole))


def answer(source: str, body: Json) -> Reply:
    """A reply of `source` as a Reply."""
    return DIALECTS[source].read_reply(json.dumps(body).encode())


def carried(source: str, body: Json, target: str) -> Any:
    """A reply of `source` as a caller of `target` gets it."""
    return json.loads(DIALECTS[target].write_reply(answer(source, body)))


def objects(wire: bytes) -> list[Any]:
    """The JSON values of an SSE stream. A value that is not JSON stays text."""
    decoder = SseDecoder()
    frames = [frame.data for frame in [*decoder.feed(wire), *decoder.close()] if frame.data]
    return [frame.decode() if frame == b"[DONE]" else json.loads(frame) for frame in frames]


def sse(*values: Any) -> bytes:
    """A stream of these values, each with its type as the event name if it has one."""
    out = []
    for value in values:
        if isinstance(value, str):
            out.append(f"data: {value}\n\n")
            continue
        event = f"event: {value['type']}\n" if "type" in value else ""
        out.append(f"{event}data: {json.dumps(value)}\n\n")
    return "".join(out).encode("utf-8", "replace")


def stream_events(source: str, *values: Any) -> list[ReplyEvent]:
    """The events of a stream of `source`."""
    return events_of(DIALECTS[source], sse(*values))


def caller_stream(target: str, events: Sequence[ReplyEvent], *, usage: bool = True) -> list[Any]:
    """The JSON values that a caller of `target` gets for these events. `usage`: the caller requested it."""
    options = {"stream_options": {"include_usage": usage}} if target == CHAT else {}
    call = read_call(target, json.dumps({**LEAST[target], "stream": True, **options}).encode(), "m", stream=True)
    writer = DIALECTS[target].writer(call)
    return objects(b"".join(writer.write(event) for event in events))


def whole(source: str, events: Sequence[ReplyEvent]) -> Reply:
    return fold(source, events)


def growing(*parts: Part, source: str = MESSAGES, finish: FinishReason = "stop", **told_: Any) -> list[ReplyEvent]:
    """A complete reply as a stream of events."""
    return list(unfold(Reply(source, "id-1", "m", (Choice(parts, Finish(finish)),), **told_)))


def chunk(delta: Json, finish: str | None = None, **told_: Any) -> Json:
    """One chunk of OpenAI's chat format."""
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice], **told_}


def error(target: str, fault: Fault) -> tuple[int, dict[str, str], Any]:
    status, headers, body = DIALECTS[target].write_error(fault)
    return status, dict(headers), json.loads(body)


def fault_of(source: str, status: int, body: Any, headers: Sequence[tuple[str, str]] = ()) -> Fault:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return DIALECTS[source].read_error(status, headers, raw)


def turns(*parts: Part, role: Any = "user") -> tuple[Message, ...]:
    return (Message("user", (Text("Hi"),)), Message(role, parts))


__all__ = [
    "CHAT",
    "EVERY",
    "GEMINI",
    "HI",
    "LEAST",
    "MESSAGES",
    "RESPONSES",
    "Ended",
    "Finished",
    "answer",
    "caller_stream",
    "carried",
    "chunk",
    "cross",
    "error",
    "fault_of",
    "growing",
    "objects",
    "read",
    "refused",
    "reply",
    "sse",
    "stream_events",
    "turns",
    "whole",
    "write",
]
