"""Real traffic of each of the two formats, carried over into the other: what matters arrives, the other's SDK reads
it, and what cannot be carried is refused for one of the reasons listed here."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from anthropic.types import Message as AnthropicMessage
from anthropic.types.message_create_params import MessageCreateParams
from anthropic_grammar import hold_to_the_grammar, objects
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.chat.completion_create_params import CompletionCreateParams
from pydantic import TypeAdapter
from recordings import body, needs_recordings, recordings

from edge_extproc.codecs.sse import SseDecoder
from edge_extproc.dialects.anthropic_messages import PLUGIN as ANTHROPIC
from edge_extproc.dialects.base import Dialect
from edge_extproc.dialects.openai_chat import PLUGIN as OPENAI
from edge_extproc.errors import BadRequest, UpstreamError
from edge_extproc.model.call import Call, Chat
from edge_extproc.model.content import Document, Image, Inline, Part, Refusal, Text, Thinking, ToolCall, ToolResult
from edge_extproc.model.reply import Ended, Failed, Finish, Reply, ReplyEvent, fold

GOLDEN = Path(__file__).resolve().parents[2] / "golden" / "anthropic_messages"
MODELS = {ANTHROPIC.name: "claude-opus-4-6", OPENAI.name: "gpt-5.2"}
REQUESTS: dict[str, TypeAdapter[Any]] = {
    ANTHROPIC.name: TypeAdapter(MessageCreateParams),
    OPENAI.name: TypeAdapter(CompletionCreateParams),
}
CHATS = {r["id"]: r for r in recordings("chat_completions")}
MESSAGES = {r["id"]: r for r in recordings("messages")}
EVERY = CHATS | MESSAGES

# Why a recorded request may not cross over: it asks for what the other format does not have.
REFUSALS = {
    ANTHROPIC.name: (
        r"^(n|functions|function_call|web_search_options) cannot be sent",
        r"it has no audio",
        r"it knows no (part|tool) of type '(file_url|video_url|document_url|openrouter:\w+)'",
        r"^messages begin with the assistant",
        r"^messages hold no turn of the user",
        r"^reasoning_effort is 'xhigh'",
    ),
    OPENAI.name: (
        r"a file uploaded to another provider",
        r"it takes no document by URL",
        r"it knows no (part|tool) of type '[a-z_0-9]+'",
        r"^(container|mcp_servers) cannot be sent",
        r"a system prompt is text",
        r"is text and tool calls",
    ),
}


def dialects(id: str) -> tuple[Dialect, Dialect]:
    """Whose format the recording is of, and the other."""
    return (OPENAI, ANTHROPIC) if id in CHATS else (ANTHROPIC, OPENAI)


def call_of(id: str) -> Call | None:
    """None for a request to Azure that names its model in the path alone."""
    source, _ = dialects(id)
    raw = body(EVERY[id]["request"])
    if json.loads(raw)["model"] is None:
        assert "azure" == EVERY[id]["provider"]
        return None
    return source.read_call(raw, "chat", (), source.routes[0].path)


def test_a_full_request_crosses_over_with_each_loss_named() -> None:
    raw = (GOLDEN / "crossed.openai_chat.json").read_bytes()
    call = OPENAI.read_call(raw, "chat", (), OPENAI.routes[0].path)
    written = ANTHROPIC.write_chat(OPENAI.read_chat(call), "claude-opus-4-6")

    expected = json.loads((GOLDEN / "crossed.json").read_bytes())
    assert expected == {"dropped": list(written.dropped), "body": json.loads(written.body)}


# --- what must arrive


def plain(part: Part) -> str:
    match part:
        case Text() | Refusal():
            return part.text
        case Document(Inline("text/plain", data)):
            return base64.b64decode(data).decode()
        case _:
            return ""


def squeezed(text: str) -> str:
    """Neither empty text nor white space at the ends of texts is carried everywhere."""
    return re.sub(r"From the result of tool call \S+:|\s+", "", text)


def told(chat: Chat) -> dict[str, Any]:
    """What a conversation says, without how it is cut into messages."""
    system: list[str] = []
    said: dict[str, list[str]] = {"user": [], "assistant": []}
    calls: list[tuple[str, Any]] = []
    order: list[str] = []
    results: list[tuple[int, str]] = []
    pictures = 0
    for message in chat.messages:
        for part in message.parts:
            match part:
                case ToolCall():
                    order.append(part.id)
                    calls.append((part.name, json.loads(part.arguments.strip() or "{}")))
                case ToolResult():
                    asked = len(order) - 1 - order[::-1].index(part.call_id) if part.call_id in order else -1
                    results.append((asked, squeezed("".join(map(plain, part.parts)))))
                    pictures += sum(isinstance(each, Image) for each in part.parts)
                case Image():
                    pictures += 1
                case _:
                    heard = system if message.role in ("system", "developer") else said[message.role]
                    heard.append(plain(part))
    return {
        "system": squeezed("".join(system)),
        "user": squeezed("".join(said["user"])),
        "assistant": squeezed("".join(said["assistant"])),
        "calls": calls,
        "results": sorted(results),
        "pictures": pictures,
        "tools": [getattr(tool, "name", None) for tool in chat.tools],
        "stop": [stop for stop in chat.stop if stop.strip()],
        "stream": chat.stream,
    }


@needs_recordings
@pytest.mark.parametrize("id", sorted(EVERY))
def test_a_request_crosses_over_or_is_refused_for_a_listed_reason(id: str) -> None:
    source, target = dialects(id)
    call = call_of(id)
    if call is None:
        return
    chat = source.read_chat(call)
    try:
        written = target.write_chat(chat, MODELS[target.name])
    except BadRequest as refusal:
        if not any(re.search(reason, refusal.message) for reason in REFUSALS[target.name]):
            raise
        return

    REQUESTS[target.name].validate_python(json.loads(written.body))
    again = target.read_chat(target.read_call(written.body, "chat", (), target.routes[0].path))
    expected, actual = told(chat), told(again)
    if not chat.tools and expected["calls"]:
        actual["tools"] = []  # stubs for the tools of the history
    assert expected == actual
    assert chat.max_output_tokens is None or (again.max_output_tokens or 0) >= chat.max_output_tokens
    assert list(written.dropped) == sorted(set(written.dropped))


# --- replies


def finish_class(finish: Finish | None, called: bool) -> str | None:
    if finish is None:
        return "tool_calls" if called else None
    match finish.reason:
        case "length" | "context_window":
            return "length"
        case "content_filter" | "refusal":
            return "filtered"
        case _:
            return "tool_calls" if called else "stop"


def answered(reply: Reply) -> dict[str, Any]:
    """What a reply says, its first choice only."""
    parts = reply.choices[0].parts if reply.choices else ()
    calls = [(part.name, arguments(part)) for part in parts if isinstance(part, ToolCall)]
    usage = reply.usage
    return {
        "text": "".join(part.text for part in parts if isinstance(part, Text)),
        "refusal": "".join(part.text for part in parts if isinstance(part, Refusal)),
        "thinking": "".join(part.text for part in parts if isinstance(part, Thinking)),
        "calls": calls,
        "finish": finish_class(reply.choices[0].finish if reply.choices else None, bool(calls)),
        "usage": usage and (usage.prompt, usage.cache_read, usage.completion, usage.reasoning, usage.total),
    }


def arguments(call: ToolCall) -> Any:
    """What is no object is none to those who insist on one."""
    try:
        value = json.loads(call.arguments.strip() or "{}")
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def as_told_by(target: Dialect, said: dict[str, Any]) -> dict[str, Any]:
    """A refusal is text to Anthropic, usage that nobody told is none, and an end that nobody named is the usual one."""
    if target is ANTHROPIC:
        said = {**said, "text": said["text"] + said["refusal"], "refusal": ""}
        said["usage"] = said["usage"] or (0, 0, 0, 0, 0)
        said["finish"] = said["finish"] or "stop"
    return said


def whole_replies() -> Iterator[str]:
    for id, recording in EVERY.items():
        if recording["response"]["status"] == 200 and not recording["streaming"]:
            yield id


def streams() -> Iterator[str]:
    for id, recording in EVERY.items():
        if recording["response"]["status"] == 200 and recording["streaming"]:
            yield id


def check_sdk(target: Dialect, written: bytes) -> None:
    (AnthropicMessage if target is ANTHROPIC else ChatCompletion).model_validate_json(written)


@needs_recordings
@pytest.mark.parametrize("id", sorted(whole_replies()))
def test_a_reply_crosses_over(id: str) -> None:
    source, target = dialects(id)
    try:
        reply = source.read_reply(body(EVERY[id]["response"]))
    except UpstreamError:
        assert b'"choices"' not in body(EVERY[id]["response"])
        return
    written = target.write_reply(reply)

    check_sdk(target, written)
    assert as_told_by(target, answered(reply)) == as_told_by(target, answered(target.read_reply(written)))


def events_of(source: Dialect, data: bytes, kind: str) -> list[ReplyEvent]:
    reader = source.reader(kind)
    events = [event for frame in reader.frames(data) for event in reader.read(frame)]
    return events + reader.close()[1]


def hold_to_openai_grammar(data: bytes) -> None:
    """Deltas, then the finish, then usage, then [DONE]; the role once; tools counted from 0."""
    decoder = SseDecoder()
    frames = [frame.data for frame in [*decoder.feed(data), *decoder.close()] if frame.data]
    assert b"[DONE]" == frames[-1]
    assert 1 == frames.count(b"[DONE]")
    chunks = [ChatCompletionChunk.model_validate_json(frame) for frame in frames[:-1]]
    assert 1 == len({(chunk.id, chunk.created, chunk.model) for chunk in chunks})
    choices = [choice for chunk in chunks for choice in chunk.choices]
    assert {0} == {choice.index for choice in choices}
    assert ["assistant"] == [choice.delta.role for choice in choices if choice.delta.role]
    finishes = [at for at, chunk in enumerate(chunks) if chunk.choices and chunk.choices[0].finish_reason]
    assert 1 == len(finishes)
    assert all(not chunk.choices for chunk in chunks[finishes[0] + 1 :])
    started = [call.index for choice in choices for call in choice.delta.tool_calls or () if call.id]
    assert list(range(len(started))) == started


def reasoning_shown(data: bytes) -> str:
    """What a caller who shows `reasoning_content` shows, and does not send back."""
    decoder = SseDecoder()
    frames = [frame.data for frame in [*decoder.feed(data), *decoder.close()] if frame.data and frame.data != b"[DONE]"]
    choices = [choice for frame in frames for choice in json.loads(frame)["choices"]]
    return "".join(choice["delta"].get("reasoning_content") or "" for choice in choices)


@needs_recordings
@pytest.mark.parametrize("id", sorted(streams()))
def test_a_stream_crosses_over_as_its_whole_would(id: str) -> None:
    recording = EVERY[id]
    source, target = dialects(id)
    call = call_of(id)
    assert call is not None
    kind = recording["response"]["headers"].get("content-type", "text/event-stream")
    events = events_of(source, body(recording["response"]), kind)
    writer = target.writer(call)
    written = b"".join(writer.write(event) for event in events)
    if isinstance(events[-1], Failed):
        assert b"error" in written
        assert b"[DONE]" not in written
        assert b"message_stop" not in written
        return

    assert isinstance(events[-1], Ended)
    if target is ANTHROPIC:
        hold_to_the_grammar(objects(written))
    else:
        hold_to_openai_grammar(written)
    reply = fold(source.name, events)
    whole = target.read_reply(target.write_reply(reply))
    streamed = answered(fold(target.name, events_of(target, written, target.stream_type)))
    if target is OPENAI:
        streamed["thinking"] = reasoning_shown(written)
    assert as_told_by(target, answered(whole)) == as_told_by(target, streamed)
    assert as_told_by(target, answered(reply)) == as_told_by(target, streamed)
