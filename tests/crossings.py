"""Translates every recorded exchange of a chat API into every chat format, its own included.

`examine` returns the outcome of each check on each format: passed, refused for a reason in `REFUSALS`, or failed. The
tests require that nothing failed; `python tests/crossings.py` prints how much passed.
"""

from __future__ import annotations

import base64
import functools
import json
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import anthropic_grammar
import chat_grammar
import gemini_grammar
import responses_grammar
from anthropic.types import Message as AnthropicMessage
from anthropic.types.message_create_params import MessageCreateParams
from genai_prices import data_snapshot
from openai.types.chat import ChatCompletion
from openai.types.chat.completion_create_params import CompletionCreateParams
from openai.types.responses import Response
from openai.types.responses.response_create_params import ResponseCreateParams
from pydantic import TypeAdapter
from recordings import body, recordings

from edge_extproc.dialects.base import Dialect
from edge_extproc.dialects.crossing import CONTINUE, JSON_PROMPT, NO_RESULT
from edge_extproc.dialects.dropping import omission
from edge_extproc.dialects.tool_names import legal_name
from edge_extproc.errors import BadRequest, UpstreamError
from edge_extproc.model.call import Call, Chat, FunctionTool, ReplacedTool
from edge_extproc.model.content import (
    Audio,
    Document,
    Image,
    Inline,
    Opaque,
    Part,
    Refusal,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
)
from edge_extproc.model.reply import Ended, Failed, Finish, Reply, ReplyEvent, fold
from edge_extproc.registry import load

CHAT, RESPONSES, MESSAGES, GEMINI = "openai_chat", "openai_responses", "anthropic_messages", "gemini_generate"
DIALECTS: dict[str, Dialect] = {name: load("dialects", name) for name in (CHAT, RESPONSES, MESSAGES, GEMINI)}
APIS = {
    "chat_completions": CHAT,
    "responses": RESPONSES,
    "messages": MESSAGES,
    "vertex_raw_predict": MESSAGES,
    "vertex_stream_raw_predict": MESSAGES,
    "generate_content": GEMINI,
    "stream_generate_content": GEMINI,
}
# Models with the most features of each format.
MODELS = {CHAT: "gpt-5.2", RESPONSES: "gpt-5.2", MESSAGES: "claude-opus-4-6", GEMINI: "gemini-3-flash-preview"}

# Other operations under the path of a chat API, which pass unread on the raw lane: token counts, compaction.
OTHER_OPERATIONS = ("/responses/input_tokens", "/responses/compact")

# Why a request may not be translated: the other format lacks a required feature, or its own host refused it too.
REFUSALS = {
    MESSAGES: (
        r"the API returns no token probabilities",
        r"^(generationConfig\.)?temperature is (-1|3|9|99\.0|1000\.0); Anthropic Messages accepts 0 to 1",
        r"is '[\w./-]+'; Anthropic Messages accepts PDF and text",
        r"the file was uploaded to another provider",
        r"^(n|functions|function_call|web_search_options|audio|modalities) cannot be sent",
        r"the format has no audio",
        r"the format has no (part|tool) of type '[\w:.-]+'",
        r"^(messages|input|contents) begins with an assistant message",
        r"^(messages|input|contents) has no user message",
    ),
    CHAT: (
        r"the file was uploaded to another provider",
        r"the API does not accept documents by URL",
        r"the format has no (part|tool) of type '[\w:.-]+'",
        r"^(container|mcp_servers) cannot be sent",
        r"a system prompt can contain only text",
        r"can contain only text and tool calls",
        r"the API accepts audio only in the request",
    ),
    RESPONSES: (
        r"the format has no (part|tool) of type '[\w:.-]+'",
        r"the API has no stop sequences",
        r"the API returns one choice per request",
        r"the format has no audio",
        r"the API returns token probabilities in another shape",
        r"the file was uploaded to another provider",
        r"^(functions|function_call|web_search_options|audio|modalities) cannot be sent",
    ),
    GEMINI: (
        r"the format has no (part|tool) of type '[\w:.-]+'",
        r"the file was uploaded to another provider",
        r"^(functions|function_call|web_search_options|audio|modalities) cannot be sent",
        r"^(messages|input|contents) has no user message",
        r"is the result of a call '\w+' that is not in the history",
    ),
}
NEEDED = re.compile(
    r"^(previous_response_id|conversation|prompt|background|include|input\[\d+\]|cachedContent|container|mcp_servers"
    r"|modelArmorConfig|generationConfig\.responseMimeType|generationConfig\.responseModalities) cannot be sent"
)

Outcome = Literal["passed", "refused", "failed"]


@dataclass(frozen=True, slots=True)
class Finding:
    check: str
    target: str
    outcome: Outcome
    why: str = ""


# --- reading a recording


@functools.cache
def recorded() -> dict[str, dict[str, Any]]:
    """Every exchange of a chat API, by its id."""
    return {r["id"]: r for r in recordings(*APIS, newer=True) if not is_other_operation(r)}


def is_other_operation(recording: dict[str, Any]) -> bool:
    endpoint: str = recording["endpoint"]
    return endpoint.endswith(OTHER_OPERATIONS)


def dialect_of(recording: dict[str, Any]) -> Dialect:
    return DIALECTS[APIS[recording["api"]]]


def path_of(name: str, model: str, *, stream: bool) -> str:
    if name != GEMINI:
        return DIALECTS[name].routes[0].path
    return f"/v1beta/models/{model}:" + ("streamGenerateContent" if stream else "generateContent")


def read_call(name: str, raw: bytes, model: str, *, stream: bool) -> Call:
    path = path_of(name, model, stream=stream)
    return DIALECTS[name].read_call(raw, "chat", ((":path", f"{path}?alt=sse"),), path)


def call_of(recording: dict[str, Any]) -> Call:
    """The call. If a host has the model only in its path, it is put into the body, as the route would."""
    name = APIS[recording["api"]]
    raw = body(recording["request"])
    if name != GEMINI and not json.loads(raw).get("model"):
        raw = json.dumps({**json.loads(raw), "model": recording["model"] or "m"}).encode()
    return read_call(name, raw, recording["model"] or "m", stream=recording["streaming"])


def events_of(dialect: Dialect, wire: bytes, size: int = 0) -> list[ReplyEvent]:
    """The events of a stream that arrives in portions of `size` bytes, or whole."""
    reader = dialect.reader("application/json" if wire.lstrip().startswith(b"[") else "text/event-stream")
    size = size or len(wire) or 1
    frames = (frame for at in range(0, len(wire), size) for frame in reader.frames(wire[at : at + size]))
    events = [event for frame in frames for event in reader.read(frame)]
    return events + reader.close()[1]


# --- what must be translated


def _plain(part: Part) -> str:
    match part:
        case Text() | Refusal():
            return part.text
        case Document(Inline(type_, data)) if type_.startswith("text/"):
            return base64.b64decode(data + "==").decode()
        case Opaque(parts=parts):
            return "".join(map(_plain, parts))
        case _:
            return ""


def _squeezed(text: str) -> str:
    """The text without white space: empty text and white space at the ends of texts are not translated everywhere. A
    format without a JSON mode is asked for JSON, and one without documents has the title in the text."""
    added = r"From the result of tool call \S+:|The (?:result|error) of an earlier tool call, which is not shown:"
    added += r"|Title: [^\n]+\n\n"
    return re.sub(rf"{added}|\s+", "", text.replace(JSON_PROMPT, ""))


def _result_text(text: str) -> str:
    """The text of a result. A format that holds an object there keeps its value, not its spelling."""
    try:
        value = json.loads(text)
    except ValueError:
        return _squeezed(text)
    return _squeezed(json.dumps(value) if isinstance(value, dict) else text)


def content_of(chat: Chat) -> dict[str, Any]:
    """The content of a conversation, independent of how it is divided into messages."""
    texts_by_role: dict[str, list[str]] = {"system": [], "user": [], "assistant": []}
    calls: list[tuple[str, Any]] = []
    order: list[str] = []
    results: list[tuple[int, str]] = []
    pictures = 0
    for message in chat.messages:
        for part in message.parts:
            match part:
                case ToolCall():
                    order.append(part.id)
                    calls.append((legal_name(part.name), json.loads(part.arguments.strip() or "{}") or {}))
                case ToolResult() if part.call_id not in order:  # its call is a stored item: it becomes text
                    texts_by_role["user"] += map(_plain, part.parts)
                case ToolResult():
                    place = len(order) - 1 - order[::-1].index(part.call_id)
                    results.append((place, _result_text("".join(map(_plain, part.parts)))))
                    pictures += sum(isinstance(each, Image) for each in part.parts)
                case Image():
                    pictures += 1
                case _:
                    texts_by_role["system" if message.role == "developer" else message.role].append(_plain(part))
    return {
        **{role: _squeezed("".join(texts)) for role, texts in texts_by_role.items()},
        "calls": calls,
        "results": sorted(results),
        "pictures": pictures,
        "tools": [legal_name(name) for name in offered(chat)],
        "stop": [stop for stop in chat.stop if stop.strip()],
        "stream": chat.stream,
    }


def offered(chat: Chat) -> Iterator[str]:
    """The names of the tools that another format can be offered. Tools that only a format's own hosts execute have no
    place elsewhere."""
    for tool in chat.tools:
        if isinstance(tool, ReplacedTool):
            yield from (function.name for function in tool.functions)
        elif isinstance(tool, FunctionTool):
            yield tool.name


def _finish_class(finish: Finish | None, called: bool) -> str:
    match finish and finish.reason:
        case "length" | "context_window":
            return "length"
        case "content_filter" | "refusal":
            return "filtered"
        case "pause":
            return "length"  # neither is an answer that came to its own end
        case _:
            return "tool_calls" if called else "stop"


def _arguments(call: ToolCall) -> Any:
    """The arguments of a call as an object, or an empty one: formats with objects cannot have other values, such as the
    arguments of a call that was cut off."""
    try:
        value = json.loads(call.arguments.strip() or "{}")
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _is_incomplete(call: ToolCall) -> bool:
    try:
        json.loads(call.arguments.strip() or "{}")
    except ValueError:
        return True
    return False


def answered(reply: Reply) -> dict[str, Any]:
    """The content of a reply's first choice. A refusal counts as text, because some formats have no refusals."""
    parts = reply.choices[0].parts if reply.choices else ()
    calls = [(part.name, _arguments(part)) for part in parts if isinstance(part, ToolCall)]
    usage = reply.usage
    return {
        "text": "".join(part.text for part in parts if isinstance(part, Text | Refusal)),
        "thinking": "".join(part.text for part in parts if isinstance(part, Thinking)),
        "calls": calls,
        "finish": _finish_class(reply.choices[0].finish if reply.choices else None, bool(calls)),
        "usage": (usage.prompt, usage.cache_read, usage.completion, usage.total) if usage else (0, 0, 0, 0),
    }


# --- what the SDKs' own types accept

REQUESTS: dict[str, TypeAdapter[Any]] = {
    CHAT: TypeAdapter(CompletionCreateParams),
    RESPONSES: TypeAdapter(ResponseCreateParams),
    MESSAGES: TypeAdapter(MessageCreateParams),
}
REPLIES: dict[str, Callable[[bytes], object]] = {
    CHAT: ChatCompletion.model_validate_json,
    RESPONSES: Response.model_validate_json,
    MESSAGES: AnthropicMessage.model_validate_json,
    GEMINI: lambda written: gemini_grammar.check_reply(json.loads(written)),
}
STREAMS: dict[str, Callable[[bytes], Any]] = {
    CHAT: chat_grammar.hold_to_the_grammar,
    RESPONSES: responses_grammar.check,
    MESSAGES: lambda wire: anthropic_grammar.hold_to_the_grammar(anthropic_grammar.objects(wire)),
    GEMINI: gemini_grammar.hold_to_the_grammar,
}


def _sdk_takes(name: str, request: dict[str, Any]) -> None:
    if name == GEMINI:
        gemini_grammar.check_request(request)
    else:
        REQUESTS[name].validate_python(request)


# --- usage, as the price library reads it

_PRICE_FLAVORS = {CHAT: "chat", RESPONSES: "responses", MESSAGES: "anthropic", GEMINI: "default"}

_PRICE_PROVIDERS = {
    "gemini": "google",
    "vertex": "google",
    "xai": "x-ai",
    "vercel-gateway": "openrouter",
    "bedrock-mantle": "openai",
    "snowflake": "openai",
    "venice": "openai",
    "ollama": "openai",
    "gpustack": "openai",
    "local-openai-compatible": "openai",
    "avian": "openai",
    "crusoe": "openai",
    "huggingface": "openai",
    "together": "openai",
}


def _bodies(recording: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The bodies of a reply that may contain its usage, in order."""
    wire = body(recording["response"])
    if not recording["streaming"]:
        yield json.loads(wire)
        return
    for chunk in gemini_grammar.chunks_of(wire.replace(b"data: [DONE]", b":").replace(b"data:[DONE]", b":")):
        yield from (chunk[key] for key in ("message", "response") if isinstance(chunk.get(key), dict))
        yield chunk


def _theirs(recording: dict[str, Any]) -> tuple[dict[str, Any], Any] | None:
    """The reported usage, and the same as the price library reads it. None: it finds none."""
    key = "usageMetadata" if APIS[recording["api"]] == GEMINI else "usage"
    whole: dict[str, Any] = {}
    for each in _bodies(recording):
        if isinstance(each.get(key), dict):
            whole = {**whole, **each, key: {**whole.get(key, {}), **each[key]}}
    if not whole:
        return None
    wanted = _PRICE_PROVIDERS.get(recording["provider"], recording["provider"])
    flavor = _PRICE_FLAVORS[APIS[recording["api"]]]
    by_id = {provider.id: provider for provider in data_snapshot.get_snapshot().providers}
    flavors = [extractor.api_flavor for extractor in by_id[wanted].extractors or ()]
    if flavor not in flavors:
        wanted, flavor = (wanted, "default") if "default" in flavors and flavor != "responses" else ("openai", flavor)
    # Vertex sends the numbers of enums to callers who request them; the library knows only the names.
    text = re.sub(r'("modality": ?)\d', r'\1"TEXT"', json.dumps(whole))
    return whole[key], by_id[wanted].extract_usage(json.loads(text), api_flavor=flavor)[1]


def _usage(recording: dict[str, Any], reply: Reply) -> Finding | None:
    """Compares usage with that of the price library, except for counts that the library is known to miss."""
    read = _theirs(recording)
    if read is None or reply.usage is None:
        return None
    reported, theirs = read
    ours = reply.usage
    prompt, completion, cached, written = (
        getattr(theirs, name) or 0
        for name in ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens")
    )
    if (prompt, completion) != (ours.prompt, ours.completion):
        # The library leaves out what some hosts count separately from the two sums (thinking, sound); the total shows
        # that they do, or (Vercel) thinking that is greater than the sum.
        assert ours.total == reported["total_tokens"] or ours.reasoning > completion
        assert prompt + completion < ours.total
    # Azure's Grok counts more tokens cached than sent; the library reads no cache of Mistral's.
    assert ours.cache_read == min(cached, prompt) or recording["provider"] == "mistral"
    assert ours.cache_write + ours.cache_write_1h == written
    return Finding("usage", "genai-prices", "passed")


# --- the checks


def _request(chat: Chat, name: str) -> Finding:
    target = DIALECTS[name]
    try:
        written = target.write_chat(chat, MODELS[name])
    except BadRequest as refusal:
        reasons = REFUSALS[name]
        is_known = NEEDED.search(refusal.message) or any(re.search(reason, refusal.message) for reason in reasons)
        return Finding("request", name, "refused" if is_known else "failed", refusal.message)
    _sdk_takes(name, json.loads(written.body))
    again = target.read_chat(read_call(name, written.body, MODELS[name], stream=chat.stream))
    expected, actual = content_of(chat), content_of(again)
    if not chat.tools and expected["calls"]:
        actual["tools"] = []  # stubs for the tools of the history
    # A call without a result gets one, which every provider requires.
    added = [each for each in actual["results"] if each[1] == _squeezed(NO_RESULT) and each not in expected["results"]]
    assert len(expected["calls"]) >= len(expected["results"]) + len(added)
    actual["results"] = [each for each in actual["results"] if each not in added]
    actual["user"] = without_continuation(expected["user"], actual["user"])
    assert expected == actual
    assert chat.max_output_tokens is None or (again.max_output_tokens or 0) >= chat.max_output_tokens
    assert list(written.dropped) == sorted(set(written.dropped))
    return Finding("request", name, "passed")


def without_continuation(expected: str, actual: str) -> str:
    """The texts of the user without the message that follows a last message of the assistant."""
    return actual.removesuffix(CONTINUE) if actual == expected + CONTINUE else actual


def _reply(reply: Reply, name: str) -> Finding:
    written = DIALECTS[name].write_reply(reply)
    REPLIES[name](written)
    try:
        again = DIALECTS[name].read_reply(written)
    except UpstreamError:  # a response that failed is no answer
        assert reply.choices[0].finish
        assert "malformed" == reply.choices[0].finish.reason
    else:
        assert expected_in(name, reply) == answered(again)
    return Finding("reply", name, "passed")


def expected_in(name: str, reply: Reply) -> dict[str, Any]:
    """The expected content of a reply in another format. Gemini has no pause: it gets OTHER, which is read as
    filtered. It and Messages have no incomplete call either: a call that was cut off with its reply is missing."""
    finish = reply.choices[0].finish if reply.choices else None
    pauses = name == GEMINI and finish is not None and finish.reason == "pause"
    expected = {**answered(reply), **({"finish": "filtered"} if pauses else {})}
    if name in (GEMINI, MESSAGES) and expected["finish"] in ("length", "filtered"):
        calls = [part for part in reply.choices[0].parts if isinstance(part, ToolCall) and not _is_incomplete(part)]
        expected["calls"] = [(call.name, _arguments(call)) for call in calls]
    if name == MESSAGES and reply.dialect != name:  # it has no place for a picture, and gets a text instead
        spoken = [part for part in reply.choices[0].parts if isinstance(part, Text | Refusal | Image | Audio)]
        title = DIALECTS[name].title
        expected["text"] = "".join(omission(p, title) if isinstance(p, Image | Audio) else p.text for p in spoken)
    return expected


def _shown_thinking(wire: bytes) -> str:
    """The thinking that a caller with `reasoning_content` shows, and does not send back."""
    choices = [choice for chunk in chat_grammar.chunks_of(wire)[:-1] for choice in chunk["choices"]]
    return "".join(choice["delta"].get("reasoning_content") or "" for choice in choices)


def _stream(source: Dialect, events: list[ReplyEvent], name: str) -> Finding:
    target = DIALECTS[name]
    raw = b'{"model":"m","contents":[],"messages":[],"stream":true,"stream_options":{"include_usage":true}}'
    writer = target.writer(read_call(name, raw, "m", stream=True))
    wire = b"".join(writer.write(event) for event in events)
    if isinstance(events[-1], Failed):
        assert b"error" in wire
        assert not any(end in wire for end in (b"[DONE]", b"message_stop", b"response.completed", b'"finishReason"'))
        assert isinstance(events_of(target, wire)[-1], Failed)
        return Finding("stream", name, "passed")
    assert isinstance(events[-1], Ended)
    end = STREAMS[name](wire)
    reply = fold(source.name, events)
    if name == RESPONSES:
        whole = json.loads(target.write_reply(reply))
        assert all(whole[key] == end[key] for key in ("id", "status", "output", "usage", "incomplete_details"))
        if end["status"] == "failed":  # a response that failed is no answer
            assert reply.choices[0].finish
            assert "malformed" == reply.choices[0].finish.reason
            assert isinstance(events_of(target, wire)[-1], Failed)
            return Finding("stream", name, "passed")
    streamed = answered(fold(name, events_of(target, wire)))
    if name == CHAT:
        streamed["thinking"] = _shown_thinking(wire)
    expected = expected_in(name, reply)
    if name == MESSAGES:  # a call that is cut off has begun in the stream; a complete reply leaves it out
        begun = [call for call in streamed["calls"] if call in expected["calls"]]
        streamed["calls"] = begun if expected["finish"] in ("length", "filtered") else streamed["calls"]
    assert expected == streamed
    assert answered(target.read_reply(target.write_reply(reply))) == streamed
    return Finding("stream", name, "passed")


def _try(check: str, name: str, run: Callable[[], Finding]) -> Finding:
    try:
        return run()
    except Exception as exc:  # noqa: BLE001 - a report tells of whatever goes wrong, and goes on
        return Finding(check, name, "failed", f"{type(exc).__name__}: {exc}")


def examine(recording: dict[str, Any]) -> Iterator[Finding]:
    """Everything that is checked on one recording."""
    source = dialect_of(recording)
    answer = recording["response"]
    wire = body(answer)
    try:
        chat = source.read_chat(call_of(recording))
    except BadRequest as refusal:
        # Its own host refused it, too.
        outcome: Outcome = "refused" if answer["status"] >= 400 else "failed"
        yield Finding("request", source.name, outcome, refusal.message)
    else:
        for name in DIALECTS:
            if name != source.name:
                yield _try("request", name, lambda name=name: _request(chat, name))  # type: ignore[misc]
    if answer["status"] != 200:
        return
    if recording["streaming"]:
        events = events_of(source, wire)
        same = events == events_of(source, wire, 7)
        yield Finding("cut", source.name, "passed" if same else "failed")
        for name in DIALECTS:
            if name != source.name:
                yield _try("stream", name, lambda name=name: _stream(source, events, name))  # type: ignore[misc]
        yield from _counted(recording, fold(source.name, events))
        return
    try:
        reply = source.read_reply(wire)
    except UpstreamError as error:
        outcome = "refused" if b'"error"' in wire else "failed"
        yield Finding("reply", source.name, outcome, error.message)
        return
    for name in DIALECTS:
        if name != source.name:
            yield _try("reply", name, lambda name=name: _reply(reply, name))  # type: ignore[misc]
    yield from _counted(recording, reply)


def _counted(recording: dict[str, Any], reply: Reply) -> Iterator[Finding]:
    try:
        finding = _usage(recording, reply)
    except Exception as exc:  # noqa: BLE001 - as above
        finding = Finding("usage", "genai-prices", "failed", f"{type(exc).__name__}: {exc}")
    if finding is not None:
        yield finding


# --- the report


def _report() -> None:
    counts: Counter[tuple[str, str, str, str]] = Counter()
    features: Counter[tuple[str, str]] = Counter()
    reasons: Counter[str] = Counter()
    for id, recording in recorded().items():
        for finding in examine(recording):
            counts[recording["api"], finding.check, finding.target, finding.outcome] += 1
            for feature in recording["features"]:
                features[feature, finding.outcome] += 1
            if finding.outcome == "refused":
                reasons[re.sub(r"\[\d+\]", "[n]", finding.why)] += 1
            if finding.outcome == "failed":
                print(f"FAILED {id} {finding.check} → {finding.target}: {finding.why[:400]}")
    rows = sorted({key[:3] for key in counts})
    print(f"{'api':24} {'check':8} {'target':20} passed refused failed")
    for row in rows:
        passed, refused, failed = (counts[(*row, outcome)] for outcome in ("passed", "refused", "failed"))
        print(f"{row[0]:24} {row[1]:8} {row[2]:20} {passed:6} {refused:7} {failed:6}")
    print(f"\n{'feature':28} passed refused failed")
    for feature in sorted({name for name, _ in features}):
        passed, refused, failed = (features[feature, outcome] for outcome in ("passed", "refused", "failed"))
        print(f"{feature:28} {passed:6} {refused:7} {failed:6}")
    print("\nrefused, and why:")
    for reason, count in reasons.most_common():
        print(f"{count:5}  {reason}")


if __name__ == "__main__":
    sys.exit(_report())  # type: ignore[func-returns-value]
