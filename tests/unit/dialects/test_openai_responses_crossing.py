"""Real traffic across dialects, to and from the Responses API: each request crosses or is refused for a reason listed
here; each reply and stream is one that the other side's own types accept, and says the same."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
from anthropic.types import Message as AnthropicMessage
from openai.types.chat import ChatCompletion
from openai.types.responses import Response
from recordings import body, needs_recordings, recordings
from responses_grammar import check, events_of

from edge_extproc.dialects import anthropic_messages, openai_chat
from edge_extproc.dialects.base import Dialect
from edge_extproc.dialects.openai_responses import PLUGIN as RESPONSES
from edge_extproc.errors import BadRequest, UpstreamError
from edge_extproc.model.call import Call, Chat, Written
from edge_extproc.model.content import Message, Opaque, Part, RedactedThinking, Refusal, Text, Thinking, ToolCall
from edge_extproc.model.reply import Failed, Reply, ReplyEvent, fold

pytestmark = needs_recordings

CHAT: Dialect = openai_chat.PLUGIN
MESSAGES: Dialect = anthropic_messages.PLUGIN
OTHERS = {"chat_completions": CHAT, "messages": MESSAGES}
PATHS = {"chat_completions": "/v1/chat/completions", "messages": "/v1/messages"}
MODELS = {"chat_completions": "gpt-4.1", "messages": "claude-sonnet-4-5"}
CALLS = {
    "chat_completions": b'{"model":"m","messages":[],"stream":true,"stream_options":{"include_usage":true}}',
    "messages": b'{"model":"m","messages":[],"max_tokens":9,"stream":true}',
}

# Why a request may be refused on its way into the Responses API.
INTO = (
    "it knows no tool of type",
    "it knows no part of type",
    "it cannot stop at a sequence",
    "it gives one answer",
    "it has no audio",
    "its answer tells them in another shape",
    "a file uploaded to another provider is unknown to it",
    "only a provider of the caller's own format can honour it",
    "web_search_options cannot be sent",
    "functions cannot be sent",
    "function_call cannot be sent",
    "modalities cannot be sent",
    "audio cannot be sent",
)
# And out of it: what another format cannot say.
OUT_OF = (
    "it knows no tool of type",
    "it knows no part of type",
    "it takes no document by URL",
    "takes PDF and text",
    "temperature is -1",
    "needs the user first",
    "a file uploaded to another provider is unknown to it",
    "needed: previous_response_id",
    "needed: conversation",
    "needed: prompt",
    "needed: background",
    "needed: input",
    "has no structured outputs",
)

RECORDED = {r["id"]: r for r in recordings("responses", *OTHERS)}
# No model, or a count instead of a response.
UNREADABLE = {"openai-responses-249ee24012fc8702", "openai-responses-9c1eac98359f36f2"}
NO_RESPONSE = {"openai-responses-8fc84580b35d325c", "openai-responses-f623eb191089fea7"}


def ids(*apis: str, streaming: bool | None = None) -> list[str]:
    return sorted(
        id
        for id, r in RECORDED.items()
        if r["api"] in apis
        and (streaming is None or (r["streaming"] is streaming and r["response"]["status"] == 200))
        and id not in NO_RESPONSE
    )


def read_events(dialect: Dialect, wire: bytes) -> list[ReplyEvent]:
    reader = dialect.reader("text/event-stream")
    events = [event for frame in reader.frames(wire) for event in reader.read(frame)]
    return events + reader.close()[1]


def responses_call(stream: bool = True) -> Call:
    raw = json.dumps({"model": "m", "input": "x", "stream": stream}).encode()
    return RESPONSES.read_call(raw, "chat", (), "/v1/responses")


def crossed(dialect: Dialect, chat: Chat, model: str) -> tuple[Written | None, str]:
    """The request, or why there is none."""
    try:
        return dialect.write_chat(chat, model), ""
    except BadRequest as refusal:
        return None, refusal.message


def parsed(arguments: str) -> Any:
    """An answer that was cut off in the arguments of a call leaves text that is no JSON."""
    try:
        return json.loads(arguments or "{}")
    except ValueError:
        return arguments


def said(parts: Sequence[Part]) -> tuple[list[str], list[tuple[str, Any]]]:
    """What an answer says and calls, whichever format it came in."""
    texts = "".join(part.text for part in parts if isinstance(part, Text | Refusal))
    thoughts = "".join(part.text for part in parts if isinstance(part, Thinking))
    calls = [(part.name, parsed(part.arguments)) for part in parts if isinstance(part, ToolCall)]
    return [texts, thoughts], calls


def tokens(reply: Reply) -> tuple[int, int, int] | None:
    """The Responses API counts no sound and no time of a cache apart: what is left are the sums."""
    usage = reply.usage
    return None if usage is None else (usage.prompt, usage.completion, usage.cache_read)


@pytest.mark.parametrize("id", ids(*OTHERS))
def test_a_request_crosses_into_responses_or_is_refused_for_a_known_reason(id: str) -> None:
    recording = RECORDED[id]
    other = OTHERS[recording["api"]]
    try:
        call = other.read_call(body(recording["request"]), "chat", (), PATHS[recording["api"]])
    except BadRequest:
        return  # no call of its own dialect
    written, refusal = crossed(RESPONSES, other.read_chat(call), "gpt-5-mini")
    if written is None:
        assert any(why in refusal for why in INTO), refusal
        return

    again = RESPONSES.read_chat(RESPONSES.read_call(written.body, "chat", (), "/v1/responses"))
    before = other.read_chat(call)

    def texts(messages: Sequence[Message]) -> str:
        return "".join(p.text for m in messages for p in m.parts if isinstance(p, Text | Refusal))

    assert texts(before.messages) == texts(again.messages)
    assert [t.name for t in before.tools if not isinstance(t, Opaque)] == [
        t.name for t in again.tools if not isinstance(t, Opaque)
    ]
    assert before.max_output_tokens == again.max_output_tokens
    assert before.stream == again.stream
    assert json.loads(written.body)["store"] is (before.extras.get("store") or False)


@pytest.mark.parametrize("api", OTHERS)
@pytest.mark.parametrize("id", sorted(set(ids("responses")) - UNREADABLE))
def test_a_request_crosses_out_of_responses_or_is_refused_for_a_known_reason(id: str, api: str) -> None:
    call = RESPONSES.read_call(body(RECORDED[id]["request"]), "chat", (), "/v1/responses")
    chat = RESPONSES.read_chat(call)
    if chat.needed:
        assert any(f"needed: {chat.needed[0]}".startswith(why) for why in OUT_OF)
        return
    written, refusal = crossed(OTHERS[api], chat, MODELS[api])
    if written is None:
        assert any(why in refusal for why in OUT_OF), refusal
        return

    again = OTHERS[api].read_chat(OTHERS[api].read_call(written.body, "chat", (), PATHS[api]))

    assert [p.name for m in chat.messages for p in m.parts if isinstance(p, ToolCall)] == [
        p.name for m in again.messages for p in m.parts if isinstance(p, ToolCall)
    ]
    assert "previous_response_id" not in json.loads(written.body)


@pytest.mark.parametrize("id", ids(*OTHERS, streaming=False))
def test_a_reply_crosses_into_responses(id: str) -> None:
    other = OTHERS[RECORDED[id]["api"]]
    try:
        reply = other.read_reply(body(RECORDED[id]["response"]))
    except UpstreamError:
        return  # an error with status 200

    written = RESPONSES.write_reply(reply)

    Response.model_validate_json(written)
    again = RESPONSES.read_reply(written)
    assert tokens(reply) == tokens(again)
    assert said(reply.choices[0].parts if reply.choices else ()) == said(again.choices[0].parts)


@pytest.mark.parametrize("api", OTHERS)
@pytest.mark.parametrize("id", ids("responses", streaming=False))
def test_a_reply_crosses_out_of_responses(id: str, api: str) -> None:
    reply = RESPONSES.read_reply(body(RECORDED[id]["response"]))

    written = OTHERS[api].write_reply(reply)

    (ChatCompletion if api == "chat_completions" else AnthropicMessage).model_validate_json(written)
    again = OTHERS[api].read_reply(written)
    assert said(reply.choices[0].parts) == said(again.choices[0].parts)
    if reply.usage is not None:
        assert tokens(reply) == tokens(again)


@pytest.mark.parametrize("id", ids(*OTHERS, streaming=True))
def test_a_stream_crosses_into_responses(id: str) -> None:
    other = OTHERS[RECORDED[id]["api"]]
    events = read_events(other, body(RECORDED[id]["response"]))
    writer = RESPONSES.writer(responses_call())

    wire = b"".join(writer.write(event) for event in events)

    if any(isinstance(event, Failed) for event in events):
        assert events_of(wire)[-1]["type"] == "error"
        return
    final = check(wire)
    whole = json.loads(RESPONSES.write_reply(fold(other.name, events)))
    for name in ("id", "status", "output", "usage", "error", "incomplete_details", "created_at"):
        assert whole[name] == final[name]


@pytest.mark.parametrize("api", OTHERS)
@pytest.mark.parametrize("id", ids("responses", streaming=True))
def test_a_stream_crosses_out_of_responses(id: str, api: str) -> None:
    other = OTHERS[api]
    events = read_events(RESPONSES, body(RECORDED[id]["response"]))
    writer = other.writer(other.read_call(CALLS[api], "chat", (), PATHS[api]))

    again = fold(other.name, read_events(other, b"".join(writer.write(event) for event in events)))

    reply = fold(RESPONSES.name, events)
    assert said(reply.choices[0].parts) == said(again.choices[0].parts)
    assert tokens(reply) == tokens(again)


@pytest.mark.parametrize("id", ids("messages"))
def test_thinking_of_claude_comes_back_to_claude_through_a_caller_of_responses(id: str) -> None:
    recording = RECORDED[id]
    if recording["response"]["status"] != 200:
        return
    wire = body(recording["response"])
    reply = fold(MESSAGES.name, read_events(MESSAGES, wire)) if recording["streaming"] else MESSAGES.read_reply(wire)
    thoughts = [p for p in reply.choices[0].parts if isinstance(p, Thinking | RedactedThinking)]
    output = json.loads(RESPONSES.write_reply(reply))["output"]

    call = RESPONSES.read_call(json.dumps({"model": "m", "input": output}).encode(), "chat", (), "/v1/responses")
    turns = RESPONSES.read_chat(call).messages

    kept = [p for turn in turns for p in turn.parts if isinstance(p, Thinking | RedactedThinking)]
    assert [(type(t), getattr(t, "text", None), getattr(t, "signature", None)) for t in thoughts] == [
        (type(t), getattr(t, "text", None), getattr(t, "signature", None)) for t in kept
    ]
    # A host of this format would take the seal of another for a forged one.
    spliced = RESPONSES.splice(call, "gpt-5")
    assert b"edge-carried" not in spliced.body
    sealed = [i for i, item in enumerate(output) if "encrypted_content" in item]
    assert tuple(f"input[{i}]" for i in sealed) == spliced.dropped
