"""Reads and writes whole Converse replies: finish reasons, usage and content."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType

from ...codecs.json_values import UNREADABLE, TokenCounts, as_object, decode_reply, encode, rest_of, text_of
from ...errors import BadRequest, ErrorReply, UpstreamError
from ...model.content import (
    NO_EXTRAS,
    Audio,
    Document,
    Image,
    Inline,
    Json,
    Part,
    RedactedThinking,
    Refusal,
    Text,
    Thinking,
    ToolCall,
)
from ...model.reply import Choice, Finish, FinishReason, Reply
from ...model.usage import Usage
from ..base import made_id
from ..carried import UNSIGNED, tool_id
from ..cut_calls import input_of_call, without_cut_calls
from ..dropping import omission
from ..failed_finish import failed_finish, reason_of
from ..turns import CUT_OFF, answer_order
from .content import IMAGE_TYPES, format_of, opaque_of, own_blocks, read_blocks, sourced, thinking_block, write_redacted
from .fields import NAME, TITLE, Block

# --- replies

_FINISHES: Mapping[str, FinishReason] = MappingProxyType(
    {
        "end_turn": "stop",
        "stop_sequence": "stop_sequence",
        "max_tokens": "length",
        "model_context_window_exceeded": "context_window",
        "tool_use": "tool_calls",
        "guardrail_intervened": "content_filter",
        "content_filtered": "content_filter",
        "malformed_model_output": "malformed",
        "malformed_tool_use": "malformed",
        # Reasons of Anthropic's service model that Bedrock's does not name.
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
        "content_filter": "content_filtered",
        "refusal": "content_filtered",
        "pause": "max_tokens",  # the reply is not finished: "end_turn" would report it as complete
        "malformed": "malformed_model_output",
        "other": "max_tokens",  # nothing says that the reply is complete
    }
)
_OWN_REASONS = frozenset(_FINISHES) - {"refusal", "pause_turn"}

USAGE = frozenset(
    {
        "inputTokens",
        "outputTokens",
        "totalTokens",
        "cacheReadInputTokens",
        "cacheWriteInputTokens",
        "cacheDetails",
        # Older names of the same counts.
        "cacheReadInputTokenCount",
        "cacheWriteInputTokenCount",
    }
)
_REPLY = frozenset({"output", "stopReason", "usage"})
REPLY_EXTRAS = ("trace", "additionalModelResponseFields", "performanceConfig", "serviceTier")
PADDING = "p"
"""AWS pads each event of a stream, so that its length does not reveal the content."""


def read_finish(reason: Json, more: Json) -> Finish | None:
    if not isinstance(reason, str):
        return None
    sequence = more.get("stop_sequence") if isinstance(more, dict) else None
    return Finish(_FINISHES.get(reason) or reason_of(reason), reason, text_of(sequence))


def stop_reason(finish: Finish | None, has_calls: bool) -> str:
    if has_calls and (finish is None or finish.reason not in CUT_OFF):
        return "tool_use"
    if finish is None or finish.reason == "tool_calls":  # without a call: clients would wait for one
        return "end_turn"
    # Bedrock's own reason can be narrower than ours.
    is_own = finish.raw in _OWN_REASONS and _FINISHES[finish.raw] == finish.reason
    return finish.raw if finish.raw and is_own else _STOP_REASONS[finish.reason]


def read_usage(usage: Mapping[str, Json]) -> Usage:
    """`inputTokens` does not include tokens read from or written to the cache."""
    counts = TokenCounts()
    details = usage.get("cacheDetails")
    hour = sum(
        counts.at(each, "inputTokens")
        for each in (details if isinstance(details, list) else ())
        if isinstance(each, dict) and each.get("ttl") == "1h"
    )
    cache_write = counts.of(usage.get("cacheWriteInputTokens", usage.get("cacheWriteInputTokenCount"))) or 0
    read = counts.of(usage.get("cacheReadInputTokens", usage.get("cacheReadInputTokenCount"))) or 0
    prompt = counts.of(usage.get("inputTokens"))
    # The prompt is the sum of these. If one of them cannot be read, the prompt count is unknown.
    unknown = prompt is None or counts.unreadable > 0
    output = counts.of(usage.get("outputTokens"))
    hour = min(hour, cache_write)
    return Usage(
        input=prompt or 0,
        cache_read=read,
        cache_write=cache_write - hour,
        cache_write_1h=hour,
        output=output or 0,
        prompt_unknown=unknown,
        completion_unknown=output is None,
        unreadable=counts.unreadable,
    )


def write_usage(usage: Usage | None, rest: Json) -> Block:
    """`rest`: the fields of a Bedrock usage besides tokens."""
    usage = usage or Usage()
    body: Block = {
        "inputTokens": usage.uncached,
        "outputTokens": usage.completion,
        "totalTokens": usage.total,
        "cacheReadInputTokens": usage.cache_read,
        "cacheWriteInputTokens": usage.cache_write + usage.cache_write_1h,
    }
    if usage.cache_write or usage.cache_write_1h:
        split = (("5m", usage.cache_write), ("1h", usage.cache_write_1h))
        body["cacheDetails"] = [{"ttl": ttl, "inputTokens": count} for ttl, count in split if count]
    if isinstance(rest, Mapping):
        body.update(rest)
    return body


def read_reply(body: bytes) -> Reply:
    try:
        reply = decode_reply(body)
    except UNREADABLE as exc:
        raise UpstreamError("the provider's reply is not valid JSON") from exc
    output = reply.get("output") if isinstance(reply, dict) else None
    message = output.get("message") if isinstance(output, dict) else None
    if not isinstance(reply, dict) or not isinstance(message, dict):
        raise UpstreamError(f"the provider's reply has no message{_coral(reply)}")
    try:
        parts = read_blocks(message.get("content") or [], "output.message.content")
    except BadRequest as exc:
        raise UpstreamError(f"the provider's reply cannot be read: {exc.message}") from exc
    reported = reply.get("usage")
    reported = reported if isinstance(reported, dict) else None
    extras = dict(rest_of(reply, _REPLY))
    if reported is not None and (rest := rest_of(reported, USAGE)):
        extras["usage"] = rest
    finish = read_finish(reply.get("stopReason"), reply.get("additionalModelResponseFields"))
    failed = failed_finish(finish.raw) if finish is not None else None
    if failed is not None:
        raise ErrorReply(failed)
    usage = None if reported is None else read_usage(reported)
    blocks = message.get("content")
    if isinstance(blocks, list) and any(isinstance(part, Document) for part in parts):
        parts = tuple(map(_answered, parts, blocks))
    return Reply(NAME, None, None, (Choice(parts, finish),), usage, extras=extras or NO_EXTRAS)


def _answered(part: Part, block: Json) -> Part:
    """A document of a reply has no place in other formats."""
    return opaque_of(as_object(block, "content"), part.path) if isinstance(part, Document) else part


def _coral(reply: Json) -> str:
    """The message of an AWS error with status 200, which some of its front ends send."""
    output = reply.get("Output") if isinstance(reply, dict) else None
    kind = output.get("__type") if isinstance(output, dict) else None
    return f", but {kind.rpartition('#')[2]}" if isinstance(kind, str) else ""


def write_reply(reply: Reply) -> bytes:
    choice = reply.choices[0] if reply.choices else Choice(())
    is_own = reply.dialect == NAME
    if is_own:
        content = own_blocks(choice.parts, "content")
    else:
        choice = without_cut_calls(choice)
        content = list(_answer_blocks(choice.parts, reply))
    has_calls = any("toolUse" in block for block in content)
    finish = choice.finish
    extras: Mapping[str, Json] = reply.extras if is_own else NO_EXTRAS
    body: Block = {
        "output": {"message": {"role": "assistant", "content": content}},
        "stopReason": finish.raw if is_own and finish and finish.raw else stop_reason(finish, has_calls),
        "usage": write_usage(reply.usage, extras.get("usage")),
        # botocore requires this field; the provider sent no such time
        "metrics": {"latencyMs": 0},
    }
    body.update((key, value) for key, value in extras.items() if key != "usage")
    if not is_own and finish is not None and finish.stop_sequence is not None:
        body["additionalModelResponseFields"] = {"stop_sequence": finish.stop_sequence}
    return encode(body)


def _answer_blocks(parts: Iterable[Part], reply: Reply) -> Iterator[Block]:
    """The content of another dialect's reply, in the order thinking, text, tool calls."""
    calls = 0
    for part in sorted(parts, key=answer_order):
        match part:
            case Thinking():
                if part.text or part.signature:
                    yield thinking_block(Thinking(part.text, part.signature or UNSIGNED))
            case RedactedThinking():
                yield {"reasoningContent": {"redactedContent": write_redacted(part.data)}}
            case Text() | Refusal():
                if part.text:
                    yield {"text": part.text}
            case ToolCall():
                yield {
                    "toolUse": {
                        "toolUseId": tool_id(part.id or call_id_of(reply.id, calls)),
                        "name": part.name,
                        "input": input_of_call(part),
                    }
                }
                calls += 1
            case Image() | Audio():
                yield answered_media(part)
            case _:
                pass  # a part that only another dialect has


def answered_media(part: Image | Audio) -> Block:
    """An image, if this format has its media type; otherwise a replacement text."""
    source = part.source
    if isinstance(part, Image) and isinstance(source, Inline) and format_of(IMAGE_TYPES, source.media_type):
        return {"image": sourced(IMAGE_TYPES, source, NO_EXTRAS, "image")}
    return {"text": omission(part, TITLE)}


def call_id_of(*seeds: object) -> str:
    return made_id("tooluse_", 22, *seeds)
