"""Real traffic across dialects, to and from Bedrock's Converse: each request crosses or is refused for a reason listed
here; each reply and stream is one that the other side's own types accept, and says the same."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

import pytest
import responses_grammar
from anthropic.types import Message as AnthropicMessage
from anthropic_grammar import hold_to_the_grammar, objects
from botocore.exceptions import EventStreamError
from botocore_oracle import converse_request_errors, parse_converse, parse_converse_stream
from cells import cell
from crossings import offered, without_continuation
from google.genai.types import GenerateContentResponse
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.responses import Response
from recordings import body, of_today, recordings

from edge_extproc.codecs.sse import SseDecoder
from edge_extproc.dialects import anthropic_messages, gemini_generate, openai_chat, openai_responses
from edge_extproc.dialects.base import Dialect
from edge_extproc.dialects.bedrock_converse import PLUGIN as CONVERSE
from edge_extproc.dialects.crossing import JSON_PROMPT, NO_RESULT
from edge_extproc.dialects.tool_names import legal_name
from edge_extproc.errors import BadRequest, UpstreamError
from edge_extproc.model.call import Call, Chat, Written
from edge_extproc.model.content import Document, Message, Part, Refusal, Text, Thinking, ToolCall, ToolResult
from edge_extproc.model.reply import Ended, Failed, Reply, ReplyEvent, fold

OTHERS: dict[str, Dialect] = {
    "chat_completions": openai_chat.PLUGIN,
    "messages": anthropic_messages.PLUGIN,
    "responses": openai_responses.PLUGIN,
    "generate_content": gemini_generate.PLUGIN,
}
DIALECT_OF: dict[str, Dialect] = {**OTHERS, "stream_generate_content": gemini_generate.PLUGIN}
PATHS = {
    "chat_completions": "/v1/chat/completions",
    "messages": "/v1/messages",
    "responses": "/v1/responses",
    "generate_content": "/v1beta/models/gemini-2.5-pro:streamGenerateContent?alt=sse",
    "stream_generate_content": "/v1beta/models/gemini-2.5-pro:streamGenerateContent",
}
MODELS = {
    "chat_completions": "gpt-4.1",
    "messages": "claude-sonnet-4-5",
    "responses": "gpt-5",
    "generate_content": "gemini-2.5-pro",
}
CALLS = {
    "chat_completions": b'{"model":"m","messages":[],"stream":true,"stream_options":{"include_usage":true}}',
    "messages": b'{"model":"m","messages":[],"max_tokens":9,"stream":true}',
    "responses": b'{"model":"m","input":"x","stream":true}',
    "generate_content": b'{"contents":[]}',
}
BEDROCK_MODELS = ("us.anthropic.claude-opus-4-6-v1", "us.amazon.nova-2-lite-v1:0")

# Why a recorded request may not cross into Converse.
INTO = (
    r"^(n|functions|function_call|web_search_options|audio|modalities|tool_choice) cannot be sent",
    r"^(logprobs|top_logprobs|generationConfig.(responseLogprobs|logprobs|candidateCount)) cannot be sent",
    r"the format has no (part|tool) of type",
    r"the API does not fetch URLs",
    r"the file was uploaded to another provider",
    r"requires (a user message first|one)$",
    r"^(generationConfig.)?(temperature|top_p|topP) is [-\d.]+; Bedrock Converse accepts 0 to 1",
    r"accepts image/png",
    r"accepts pdf, csv",
    r"accepts opus, wav",
    r"nested too deeply",
)
# And out of it.
OUT_OF = (
    r"the format has no (part|tool) of type",
    r"the API does not accept documents by URL",
    r"requires a user message first$",
    r"accepts .*PDF",
    r"the format has no audio",
    r"a system prompt can contain only text",
    r"can contain only text and tool calls",
    r"has no structured outputs",
    r"no mode of its own|no stop sequences",
    r"accepts (only )?(images|text|pdf)",
)

RECORDED = {r["id"]: r for r in recordings(*DIALECT_OF, newer=True)}
OWN = {r["id"]: r for r in recordings("converse", "converse_stream", newer=True)}


def ids(rows: dict[str, Any], api: str | None = None, *, streaming: bool | None = None) -> list[str]:
    return of_today(
        id
        for id, r in rows.items()
        if (api is None or r["api"] == api)
        and (streaming is None or (r["streaming"] is streaming and r["response"]["status"] == 200))
    )


def call_of(recording: dict[str, Any]) -> Call:
    path = recording["endpoint"].partition(" ")[2]
    if recording["api"] in ("chat_completions", "messages", "responses"):
        path = PATHS[recording["api"]]
    dialect = DIALECT_OF.get(recording["api"], CONVERSE)
    return dialect.read_call(body(recording["request"]), "chat", (), path)


def squeezed(text: str) -> str:
    """Neither empty text nor white space at the ends of texts is carried everywhere. What moves a picture or a result
    into a message of the user says whose it was. A
    format without a JSON mode is asked for JSON."""
    added = r"From the result of tool call \S+:|The result of an earlier tool call, which is not shown:"
    return re.sub(rf"{added}|\s+", "", text.replace(JSON_PROMPT, ""))


def told(chat: Chat) -> dict[str, Any]:
    """What a conversation says, without how it is cut into messages. A result without its call is text."""
    called = {p.id for m in chat.messages for p in m.parts if isinstance(p, ToolCall)}
    orphans = {p.call_id for m in chat.messages for p in m.parts if isinstance(p, ToolResult)} - called

    def texts(roles: Sequence[str]) -> str:
        found = [p.text for m in chat.messages if m.role in roles for p in m.parts if isinstance(p, Text | Refusal)]
        answers = [p for m in chat.messages for p in m.parts if isinstance(p, ToolResult) and p.call_id in orphans]
        if "user" in roles:
            found += [each.text for answer in answers for each in answer.parts if isinstance(each, Text)]
        return squeezed("".join(found))

    def results(messages: Sequence[Message]) -> list[str]:
        return sorted(
            squeezed("".join(p.text for p in part.parts if isinstance(p, Text)))
            for m in messages
            for part in m.parts
            if isinstance(part, ToolResult) and part.call_id not in orphans
        )

    return {
        "system": texts(("system", "developer")),
        "user": texts(("user",)),
        "assistant": texts(("assistant",)),
        "calls": [
            (legal_name(p.name), json.loads(p.arguments or "{}") or {})
            for m in chat.messages
            for p in m.parts
            if isinstance(p, ToolCall)
        ],
        "results": results(chat.messages),
        "stop": [stop for stop in chat.stop if stop.strip()],
        "stream": chat.stream,
    }


def crossed(dialect: Dialect, chat: Chat, model: str) -> tuple[Written | None, str]:
    """The request, or why there is none."""
    try:
        return dialect.write_chat(chat, model), ""
    except BadRequest as refusal:
        return None, refusal.message


@pytest.mark.parametrize("api", DIALECT_OF)
def test_a_request_crosses_into_converse_or_is_refused_for_a_known_reason(api: str, subtests: pytest.Subtests) -> None:
    for number, id in enumerate(ids(RECORDED, api)):
        with cell(subtests, id):
            crosses_into(id, BEDROCK_MODELS[number % len(BEDROCK_MODELS)])


def crosses_into(id: str, model: str) -> None:
    recording = RECORDED[id]
    try:
        call = call_of(recording)
        chat = DIALECT_OF[recording["api"]].read_chat(call)
    except BadRequest:
        return  # no call of its own dialect
    if chat.needed:
        return  # it does not cross at all
    written, refusal = crossed(CONVERSE, chat, model)
    if written is None:
        assert any(re.search(why, refusal) for why in INTO), refusal
        return

    wire = json.loads(written.body)
    if recording["response"]["status"] == 200:  # what its own host refused may be wrong here, too
        assert "" == converse_request_errors(wire, model, stream=chat.stream)
    turns = [message["role"] for message in wire["messages"]]
    assert ["user", "assistant"] * (len(turns) // 2) + ["user"] * (len(turns) % 2) == turns
    path = CONVERSE.path("chat", model, stream=chat.stream)
    again = CONVERSE.read_chat(CONVERSE.read_call(written.body, "chat", (), path))
    told_again = told(again)
    told_again["results"] = [each for each in told_again["results"] if each != squeezed(NO_RESULT)]
    expected = told(chat)
    told_again["user"] = without_continuation(expected["user"], told_again["user"])
    assert expected == told_again
    names = list(offered(chat))
    forbidden = chat.tool_choice is not None and chat.tool_choice.mode == "none"
    assert not names or forbidden or list(map(legal_name, names)) == list(offered(again))
    assert list(written.dropped) == sorted(set(written.dropped))


@pytest.mark.parametrize("api", OTHERS)
def test_a_request_crosses_out_of_converse_or_is_refused_for_a_known_reason(
    api: str, subtests: pytest.Subtests
) -> None:
    for id in ids(OWN):
        with cell(subtests, id):
            crosses_out(id, api)


def crosses_out(id: str, api: str) -> None:
    call = call_of(OWN[id])
    chat = CONVERSE.read_chat(call)
    if chat.needed:
        assert ("guardrailConfig",) == chat.needed
        return
    written, refusal = crossed(OTHERS[api], chat, MODELS[api])
    if written is None:
        assert any(re.search(why, refusal) for why in OUT_OF), refusal
        return

    path = PATHS[api] if chat.stream else PATHS[api].replace("streamGenerate", "generate").partition("?")[0]
    again = OTHERS[api].read_chat(OTHERS[api].read_call(written.body, "chat", (), path))
    before, after = told(chat), told(again)
    assert before["calls"] == after["calls"]
    if api != "responses":  # the API has no stop sequences
        assert before["stop"] == after["stop"]
    assert before["system"] == after["system"]
    if not any(isinstance(p, Document) for m in chat.messages for p in m.parts):  # it may have become text
        assert before["user"] == after["user"]


# --- answers


def parsed(arguments: str) -> Any:
    """What is no object is none to those who insist on one."""
    try:
        value = json.loads(arguments.strip() or "{}")
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def said(parts: Sequence[Part]) -> tuple[str, str, list[tuple[str, Any]]]:
    texts = "".join(part.text for part in parts if isinstance(part, Text | Refusal))
    thoughts = "".join(part.text for part in parts if isinstance(part, Thinking))
    return texts, thoughts, [(part.name, parsed(part.arguments)) for part in parts if isinstance(part, ToolCall)]


def first(reply: Reply) -> tuple[str, str, list[tuple[str, Any]]]:
    return said(reply.choices[0].parts if reply.choices else ())


def complete_parts(reply: Reply) -> list[Part]:
    """The parts without a call that was cut off with its reply: a complete reply has no place for it."""
    if not reply.choices:
        return []
    finish, parts = reply.choices[0].finish, list(reply.choices[0].parts)
    if finish is None or finish.reason not in ("length", "context_window", "content_filter", "refusal", "pause"):
        return parts
    return [part for part in parts if not isinstance(part, ToolCall) or is_json(part.arguments)]


def is_json(text: str) -> bool:
    try:
        json.loads(text or "{}")
    except ValueError:
        return False
    return True


def tokens(reply: Reply) -> tuple[int, int, int]:
    usage = reply.usage
    return (0, 0, 0) if usage is None else (usage.prompt, usage.completion, usage.cache_read)


def events_of(dialect: Dialect, wire: bytes, kind: str) -> list[ReplyEvent]:
    reader = dialect.reader(kind)
    events = [event for frame in reader.frames(wire) for event in reader.read(frame)]
    return events + reader.close()[1]


def check_whole(api: str, written: bytes) -> None:
    types: dict[str, Any] = {
        "chat_completions": ChatCompletion,
        "messages": AnthropicMessage,
        "responses": Response,
        "generate_content": GenerateContentResponse,
    }
    types[api].model_validate_json(written)


def check_stream(api: str, wire: bytes) -> None:
    match api:
        case "messages":
            hold_to_the_grammar(objects(wire))
        case "responses":
            responses_grammar.check(wire)
        case _:
            decoder = SseDecoder()
            frames = [f.data for f in [*decoder.feed(wire), *decoder.close()] if f.data and f.data != b"[DONE]"]
            type_: Any = ChatCompletionChunk if api == "chat_completions" else GenerateContentResponse
            for frame in frames:
                type_.model_validate_json(frame)


@pytest.mark.parametrize("api", DIALECT_OF)
def test_a_reply_crosses_into_converse(api: str, subtests: pytest.Subtests) -> None:
    for id in ids(RECORDED, api, streaming=False):
        with cell(subtests, id):
            reply_crosses_into(id)


def reply_crosses_into(id: str) -> None:
    dialect = DIALECT_OF[RECORDED[id]["api"]]
    try:
        reply = dialect.read_reply(body(RECORDED[id]["response"]))
    except UpstreamError:
        return  # an error with status 200
    written = CONVERSE.write_reply(reply)

    heard = parse_converse(written)
    assert heard["usage"]["totalTokens"] == (reply.usage.total if reply.usage is not None else 0)
    again = CONVERSE.read_reply(written)
    assert said(complete_parts(reply)) == first(again)
    assert tokens(reply) == tokens(again)
    finish = reply.choices[0].finish if reply.choices else None
    if first(reply)[2] and (finish is None or finish.reason in ("stop", "tool_calls")):
        assert "tool_use" == heard["stopReason"]


@pytest.mark.parametrize("api", DIALECT_OF)
def test_a_stream_crosses_into_converse_as_its_whole_would(api: str, subtests: pytest.Subtests) -> None:
    for id in ids(RECORDED, api, streaming=True):
        with cell(subtests, id):
            stream_crosses_into(id)


def stream_crosses_into(id: str) -> None:
    recording = RECORDED[id]
    dialect = DIALECT_OF[recording["api"]]
    kind = recording["response"]["headers"].get("content-type", "text/event-stream")
    events = events_of(dialect, body(recording["response"]), kind)
    writer = CONVERSE.writer(Call(CONVERSE.name, "chat", "m", True, b"{}"))
    wire = b"".join(writer.write(event) for event in events)
    if isinstance(events[-1], Failed):
        with pytest.raises(EventStreamError):
            parse_converse_stream(wire)
        return

    parse_converse_stream(wire)
    again = events_of(CONVERSE, wire, CONVERSE.stream_type)
    assert isinstance(again[-1], Ended)
    reply = fold(dialect.name, events)
    assert first(reply) == first(fold(CONVERSE.name, again))
    assert tokens(reply) == tokens(fold(CONVERSE.name, again))


@pytest.mark.parametrize("api", OTHERS)
def test_a_reply_crosses_out_of_converse(api: str, subtests: pytest.Subtests) -> None:
    for id in ids(OWN, streaming=False):
        with cell(subtests, id):
            reply_crosses_out(id, api)


def reply_crosses_out(id: str, api: str) -> None:
    reply = CONVERSE.read_reply(body(OWN[id]["response"]))
    written = OTHERS[api].write_reply(reply)

    check_whole(api, written)
    again = OTHERS[api].read_reply(written)
    assert first(reply) == first(again)
    assert tokens(reply) == tokens(again)


@pytest.mark.parametrize("api", OTHERS)
def test_a_stream_crosses_out_of_converse(api: str, subtests: pytest.Subtests) -> None:
    for id in ids(OWN, streaming=True):
        with cell(subtests, id):
            stream_crosses_out(id, api)


def stream_crosses_out(id: str, api: str) -> None:
    dialect = OTHERS[api]
    events = events_of(CONVERSE, body(OWN[id]["response"]), CONVERSE.stream_type)
    writer = dialect.writer(dialect.read_call(CALLS[api], "chat", (), PATHS[api]))
    wire = b"".join(writer.write(event) for event in events)

    check_stream(api, wire)
    again = fold(dialect.name, events_of(dialect, wire, "text/event-stream"))
    reply = fold(CONVERSE.name, events)
    assert first(reply) == first(again)
    assert tokens(reply) == tokens(again)
