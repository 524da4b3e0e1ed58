"""Reads and writes whole Messages replies: finish reasons, usage and content."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from types import MappingProxyType

from ...codecs.json_values import (
    UNREADABLE,
    TokenCounts,
    as_list,
    decode_reply,
    encode,
    left_in,
    object_in,
    rest_of,
    text_of,
)
from ...errors import BadRequest, ErrorReply, UpstreamError
from ...model.content import NO_EXTRAS, Audio, Image, Json, Part, RedactedThinking, Refusal, Text, Thinking, ToolCall
from ...model.reply import Choice, Finish, FinishReason, Reply
from ...model.usage import Usage
from ..base import ModelCard, made_id
from ..carried import UNSIGNED, tool_id
from ..cut_calls import input_of_call, without_cut_calls
from ..dropping import omission
from ..failed_finish import failed_finish, reason_of
from ..turns import CUT_OFF, answer_order
from .content import own_block, read_block
from .errors import read_fault
from .fields import NAME, TITLE, Block

# --- replies

_FINISHES: Mapping[str, FinishReason] = MappingProxyType(
    {
        "end_turn": "stop",
        "stop_sequence": "stop_sequence",
        "max_tokens": "length",
        "model_context_window_exceeded": "context_window",
        "tool_use": "tool_calls",
        "refusal": "refusal",
        "pause_turn": "pause",
    }
)
_STOP_REASONS: Mapping[FinishReason, str] = MappingProxyType(
    {
        "stop": "end_turn",
        "stop_sequence": "stop_sequence",
        "length": "max_tokens",
        "context_window": "model_context_window_exceeded",
        "tool_calls": "tool_use",
        "content_filter": "refusal",
        "refusal": "refusal",
        "pause": "pause_turn",
        "malformed": "end_turn",
        "other": "max_tokens",  # nothing says that the reply is complete
    }
)


def read_finish(reason: Json, sequence: Json) -> Finish | None:
    if not isinstance(reason, str):
        return None
    return Finish(_FINISHES.get(reason) or reason_of(reason), reason, text_of(sequence))


def stop_reason(finish: Finish | None, has_calls: bool) -> str | None:
    if has_calls and (finish is None or finish.reason not in CUT_OFF):
        return "tool_use"
    if finish is None:
        return None
    if finish.reason == "stop" and finish.stop_sequence is not None:
        return "stop_sequence"
    if finish.reason == "tool_calls":  # without a call: clients would wait for one
        return "end_turn"
    return _STOP_REASONS[finish.reason]


USAGE = frozenset(
    {
        "input_tokens",
        "cache_creation_input_tokens",
        "cache_read_input_tokens",
        "cache_creation",
        "output_tokens",
        "output_tokens_details",
    }
)
_USAGE_EXTRAS = frozenset({"service_tier", "server_tool_use", "inference_geo", "iterations", "speed"})
REPLY = frozenset({"id", "type", "role", "model", "content", "stop_reason", "stop_sequence", "usage"})
REPLY_EXTRAS = frozenset({"container", "context_management", "diagnostics", "stop_details"})


def read_usage(usage: Mapping[str, Json]) -> Usage:
    """The tokens of a reply, with those of the summaries of earlier messages that were made for it. Anthropic charges
    for both, and its sums have only the first (maximhq/bifrost#6501, pydantic/pydantic-ai#5065)."""
    read = _read_counts(usage)
    for each in _compactions(usage):
        read += replace(_read_counts(each), prompt_unknown=False, completion_unknown=False)
    return read


def _compactions(usage: Mapping[str, Json]) -> Iterator[Mapping[str, Json]]:
    """The usage of each summary."""
    iterations = usage.get("iterations")
    for each in iterations if isinstance(iterations, list) else ():
        if isinstance(each, dict) and each.get("type") == "compaction":
            yield each


def _read_counts(usage: Mapping[str, Json]) -> Usage:
    counts = TokenCounts()
    split = object_in(usage, "cache_creation")
    hour, short = counts.at(split, "ephemeral_1h_input_tokens"), counts.at(split, "ephemeral_5m_input_tokens")
    total = usage.get("cache_creation_input_tokens")
    cache_write = hour + short if total is None else counts.at(usage, "cache_creation_input_tokens")
    hour = min(hour, cache_write)
    prompt, read = counts.of(usage.get("input_tokens")), counts.at(usage, "cache_read_input_tokens")
    # The prompt is the sum of these. If one of them cannot be read, the prompt count is unknown.
    unknown = prompt is None or counts.unreadable > 0
    completion = counts.of(usage.get("output_tokens"))
    output = completion or 0
    thinking = min(counts.at(object_in(usage, "output_tokens_details"), "thinking_tokens"), output)
    searches = counts.searches_at(object_in(usage, "server_tool_use"), "web_search_requests")
    return Usage(
        input=prompt or 0,
        cache_read=read,
        cache_write=cache_write - hour,
        cache_write_1h=hour,
        output=output - thinking,
        reasoning=thinking,
        prompt_unknown=unknown,
        completion_unknown=completion is None,
        unreadable=counts.unreadable,
        searches=searches,
    )


def _less(usage: Usage, part: Usage) -> Usage:
    names = ("input", "cache_read", "cache_write", "cache_write_1h", "output", "reasoning")
    return replace(usage, **{name: max(getattr(usage, name) - getattr(part, name), 0) for name in names})


def write_usage(usage: Usage | None, rest: Json) -> Block:
    """`rest`: the fields of an Anthropic usage besides tokens."""
    usage = usage or Usage()
    for each in _compactions(rest) if isinstance(rest, Mapping) else ():  # the sums do not have them
        usage = _less(usage, _read_counts(each))
    body: Block = {
        "input_tokens": usage.uncached,
        "cache_creation_input_tokens": usage.cache_write + usage.cache_write_1h,
        "cache_read_input_tokens": usage.cache_read,
        "output_tokens": usage.completion,
    }
    if usage.cache_write or usage.cache_write_1h:
        body["cache_creation"] = {
            "ephemeral_5m_input_tokens": usage.cache_write,
            "ephemeral_1h_input_tokens": usage.cache_write_1h,
        }
    if usage.searches:
        body["server_tool_use"] = {"web_fetch_requests": 0, "web_search_requests": usage.searches}
    if usage.reasoning:
        body["output_tokens_details"] = {"thinking_tokens": usage.reasoning}
    if isinstance(rest, Mapping):
        body.update((key, value) for key, value in rest.items() if key in _USAGE_EXTRAS)
    return body


def call_id_of(prefix: str, *seeds: object) -> str:
    return made_id(prefix, 24, *seeds)


def message_id(id: str | None, model: str | None, created: int | None) -> str:
    if not id:
        return call_id_of("msg_", model, created)
    return id if id.startswith("msg_") else f"msg_{id}"


def read_reply(body: bytes) -> Reply:
    try:
        message = decode_reply(body)
    except UNREADABLE as exc:
        raise UpstreamError("the provider's reply is not valid JSON") from exc
    if isinstance(message, dict) and message.get("error"):
        raise ErrorReply(read_fault(message["error"], None, message.get("request_id")))
    if not isinstance(message, dict) or message.get("type") != "message":
        raise UpstreamError("the provider's reply is not an Anthropic message")
    try:
        parts = tuple(read_block(b, f"content[{i}]") for i, b in enumerate(as_list(message.get("content"), "content")))
    except BadRequest as exc:
        raise UpstreamError(f"the provider's reply cannot be read: {exc.message}") from exc
    usage = message.get("usage")
    usage = usage if isinstance(usage, dict) else None
    extras = left_in(message, REPLY)
    if usage is not None and (rest := rest_of(usage, USAGE)):
        extras["usage"] = rest
    finish = read_finish(message.get("stop_reason"), message.get("stop_sequence"))
    failed = failed_finish(finish.raw) if finish is not None else None
    if failed is not None:
        raise ErrorReply(failed)
    id, model = message.get("id"), message.get("model")
    return Reply(
        NAME,
        text_of(id),
        text_of(model),
        (Choice(parts, finish),),
        None if usage is None else read_usage(usage),
        extras=extras or NO_EXTRAS,
    )


def write_reply(reply: Reply) -> bytes:
    choice = reply.choices[0] if reply.choices else Choice(())
    is_own = reply.dialect == NAME
    id = reply.id if is_own and reply.id else message_id(reply.id, reply.model, reply.created)
    if is_own:
        content = [own_block(part, f"content[{i}]") for i, part in enumerate(choice.parts)]
    else:
        choice = without_cut_calls(choice)
        content = list(_answer_blocks(choice.parts, id))
    finish = choice.finish
    if finish is None and reply.choices and not is_own:
        finish = Finish("stop")  # a complete reply is finished, with or without a stop reason
    has_calls = any(block["type"] == "tool_use" for block in content)
    message: Block = {
        "id": id,
        "type": "message",
        "role": "assistant",
        "model": reply.model or "",
        "content": content,
        "stop_reason": finish.raw if is_own and finish and finish.raw else stop_reason(finish, has_calls),
        "stop_sequence": finish.stop_sequence if finish else None,
        "usage": write_usage(reply.usage, reply.extras.get("usage") if is_own else None),
    }
    if is_own:
        message.update((key, value) for key, value in reply.extras.items() if key != "usage")
    return encode(message)


def _answer_blocks(parts: Iterable[Part], id: str) -> Iterator[Block]:
    """The content of another dialect's reply, in this dialect's order: thinking, text, tool calls."""
    calls = 0
    for part in sorted(parts, key=answer_order):
        match part:
            case Thinking():
                if part.text or part.signature:
                    # The SDKs require a signature. The mark identifies thinking without one when it comes back.
                    yield {"type": "thinking", "thinking": part.text, "signature": part.signature or UNSIGNED}
            case RedactedThinking():
                yield {"type": "redacted_thinking", "data": part.data}
            case Text() | Refusal():
                if part.text:
                    yield {"type": "text", "text": part.text}
            case ToolCall():
                yield {
                    "type": "tool_use",
                    "id": tool_id(part.id or call_id_of("toolu_", id, calls)),
                    "name": part.name,
                    "input": input_of_call(part),
                }
                calls += 1
            case Image() | Audio():
                yield {"type": "text", "text": omission(part, TITLE)}
            case _:
                pass  # a part that only another dialect has


# --- the dialect


def model_row(card: ModelCard) -> Block:
    created = datetime.fromtimestamp(card.created, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {"type": "model", "id": card.id, "display_name": card.id, "created_at": created}
