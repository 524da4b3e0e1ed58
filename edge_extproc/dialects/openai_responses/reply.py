"""Reads and writes complete Responses objects: output items, usage and status."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Literal

from ...codecs.json_values import (
    UNREADABLE,
    TokenCounts,
    as_object,
    decode_reply,
    encode,
    object_in,
    objects,
    rest_of,
    text_of,
)
from ...errors import BadRequest, ErrorReply, UpstreamError
from ...model.call import Call
from ...model.content import (
    NO_EXTRAS,
    Audio,
    CustomCall,
    Extras,
    Image,
    Inline,
    Json,
    Opaque,
    Part,
    RedactedThinking,
    Refusal,
    Text,
    Thinking,
    ToolCall,
)
from ...model.reply import Choice, Finish, FinishReason, Reply, ReplyStarted
from ...model.usage import Usage, cached_twice
from ..base import made_id
from ..carried import REDACTED, seal
from ..citations import Citation, annotation, citations_in
from ..custom_tools import input_of
from ..cut_calls import is_cut, with_cut_finish
from ..dropping import omission
from ..logprobs import entries_in
from .content import (
    BETWEEN_THOUGHTS,
    TYPE,
    AssistantMessage,
    item_of,
    message_content,
    opaque_of,
    read_assistant_item,
    read_call_item,
    read_picture,
    thoughts,
)
from .errors import stream_fault
from .fields import NAME, TITLE, Item
from .request_out import call_id_of
from .stored import stored_item_id
from .tool_items import own_custom_item, read_custom_call, spelled
from .tools import ToolTable, body_of, table_of

# --- replies

_INCOMPLETE: Mapping[str, FinishReason] = MappingProxyType(
    {"max_output_tokens": "length", "max_tokens": "length", "content_filter": "content_filter"}
)
# The reasons of an incomplete reply. A pause is incomplete too: the caller would have to let the model continue.
_REASONS: Mapping[FinishReason, str] = MappingProxyType(
    {
        "length": "max_output_tokens",
        "context_window": "max_output_tokens",
        "pause": "max_output_tokens",
        "content_filter": "content_filter",
        "refusal": "content_filter",
        "other": "max_output_tokens",
    }
)
_MALFORMED: Mapping[str, Json] = MappingProxyType(
    {"code": "server_error", "message": "the model wrote a tool call that cannot be read"}
)
REPLY = frozenset({"id", "model", "created_at", "output", "status", "incomplete_details", "error", "usage"})
OUTPUT_TEXT = frozenset({"type", "text"})
# The fields of a response about its request, besides those of the caller.
_ECHO: Mapping[str, Json] = MappingProxyType(
    {
        "background": False,
        "instructions": None,
        "max_output_tokens": None,
        "max_tool_calls": None,
        "metadata": {},
        "parallel_tool_calls": True,
        "previous_response_id": None,
        "prompt_cache_key": None,
        "reasoning": {"effort": None, "summary": None},
        "safety_identifier": None,
        "service_tier": None,
        "store": False,
        "temperature": None,
        "text": {"format": {"type": "text"}},
        "tool_choice": "auto",
        "tools": [],
        "top_logprobs": None,
        "top_p": None,
        "truncation": "disabled",
        "user": None,
    }
)
# A tool may contain a credential of its server. The API does not return it, and the gateway does not either.
_SECRET_IN_TOOL = frozenset({"headers", "authorization"})


def echoed(body: Item, call: Call | None) -> Item:
    """The fields of a response that repeat its request. `body` is the decoded body of `call`."""
    echo = {name: body[name] if body.get(name) is not None else usual for name, usual in _ECHO.items()}
    stored = call.stored if call is not None else None
    echo["store"] = stored is not None and stored.keeps
    if stored is not None:
        echo["previous_response_id"] = stored.previous
        if stored.conversation is not None:
            echo["conversation"] = {"id": stored.conversation}
    if isinstance(text := echo["text"], dict):
        echo["text"] = {"format": {"type": "text"}, **text}
    if isinstance(tools := echo["tools"], list):
        echo["tools"] = [
            {key: value for key, value in tool.items() if key not in _SECRET_IN_TOOL}
            if isinstance(tool, dict)
            else tool
            for tool in tools
        ]
    return echo


def searches_in(output: Json) -> int:
    """The web searches of a response. Opening a page that a search has found is free."""
    return sum(
        item.get("type") == "web_search_call" and object_in(item, "action").get("type", "search") == "search"
        for item in (output if isinstance(output, list) else ())
        if isinstance(item, dict)
    )


def read_usage(usage: Item, output: Json = None) -> Usage:
    """The counts of prompt and reply include those of their details. `output`: the items of the response."""
    counts = TokenCounts()
    details = object_in(usage, "input_tokens_details")
    reported_prompt, reported_answer = counts.of(usage.get("input_tokens")), counts.of(usage.get("output_tokens"))
    prompt, answer = reported_prompt or 0, reported_answer or 0
    read = min(counts.at(details, "cached_tokens"), prompt)
    cache_write = min(counts.at(details, "cache_write_tokens"), prompt)
    twice = cached_twice(prompt, read, cache_write)
    reasoning = min(counts.at(object_in(usage, "output_tokens_details"), "reasoning_tokens"), answer)
    searches = max(searches_in(output), counts.openrouter_searches(usage))
    return Usage(
        input=prompt - read - cache_write + twice,
        cache_read=read,
        cache_write=cache_write,
        output=answer - reasoning,
        reasoning=reasoning,
        cached_twice=twice,
        prompt_unknown=reported_prompt is None,
        completion_unknown=reported_answer is None,
        unreadable=counts.unreadable,
        searches=searches,
    )


def _overlaid(plain: Item, reported: Item) -> Item:
    """The reported usage, with the fields that the API's schema requires."""
    usage = {**plain, **reported}
    for name in ("input_tokens_details", "output_tokens_details"):
        usage[name] = {**object_in(plain, name), **object_in(reported, name)}
    return usage


def _write_usage(usage: Usage) -> Item:
    return {
        "input_tokens": usage.prompt,
        "input_tokens_details": {
            "cached_tokens": usage.cache_read,
            "cache_write_tokens": usage.cache_write + usage.cache_write_1h,
        },
        "output_tokens": usage.completion,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning},
        "total_tokens": usage.total,
    }


def _read_item(item: Item, path: str) -> tuple[Part, ...]:
    """The parts of one output item. Reasoning that only OpenAI can read has no place in other formats."""
    match item.get("type"):
        case "message":
            return read_assistant_item(item, path) or (opaque_of(item, path),)
        case "function_call":
            return (read_call_item(item, path),)
        case "custom_tool_call":
            return (read_custom_call(item, path),)
        case "reasoning" if any(thoughts(item)):
            return (Thinking(BETWEEN_THOUGHTS.join(t for _, _, t in thoughts(item)), extras=rest_of(item, TYPE)),)
        case "image_generation_call" if (image := read_picture(item)) is not None:
            return (image,)
        case _:
            return (opaque_of(item, path),)


def picture_item(skeleton: Item, source: Inline) -> Item:
    """An image that another provider's model made."""
    format = source.media_type.partition("/")[2]
    return {**skeleton, "status": "completed", "output_format": format, "result": source.data}


def read_finish(response: Item, has_calls: bool) -> Finish | None:
    """None: the response is still in progress (in the background)."""
    match response.get("status"):
        case "incomplete":
            details = response.get("incomplete_details")
            reason = text_of(details.get("reason")) if isinstance(details, dict) else None
            # Whatever the reason is: the response is not whole.
            return Finish(_INCOMPLETE.get(reason or "", "length"), reason or "incomplete")
        case "queued" | "in_progress":
            return None
        case "cancelled":
            return Finish("length", "cancelled")
        case "completed" | None:
            return Finish("tool_calls" if has_calls else "stop", "completed")
        case status:
            return Finish("other", str(status))


def reply_extras(response: Item) -> Item:
    """The extras of a response. `object` marks it as one of this dialect. `usage` is set if it has more than tokens."""
    extras = dict(rest_of(response, REPLY))
    extras["object"] = "response"
    usage = response.get("usage")
    if isinstance(usage, dict):
        plain = _write_usage(read_usage(usage))
        if (usage_as_reported := _overlaid(plain, usage)) != plain:
            extras["usage"] = usage_as_reported
    if (status := response.get("status")) in ("queued", "in_progress"):
        extras["status"] = status
    return extras


def created_at(response: Item) -> int | None:
    created = response.get("created_at")
    is_number = isinstance(created, int | float) and not isinstance(created, bool) and math.isfinite(created)
    return int(created) if is_number and isinstance(created, int | float) else None


def read_reply(body: bytes) -> Reply:
    try:
        response = decode_reply(body)
    except UNREADABLE as exc:
        raise UpstreamError("the provider's reply is not valid JSON") from exc
    if isinstance(response, dict) and (response.get("status") == "failed" or response.get("error")):
        raise ErrorReply(stream_fault(response.get("error")))
    if not isinstance(response, dict) or not isinstance(response.get("output"), list):
        raise UpstreamError("the provider's reply is not an OpenAI response")
    try:
        parts = tuple(part for item, path in objects(response["output"], "output") for part in _read_item(item, path))
    except BadRequest as exc:
        raise UpstreamError(f"the provider's reply cannot be read: {exc.message}") from exc
    finish = read_finish(response, any(isinstance(part, ToolCall) for part in parts))
    usage = response.get("usage")
    return Reply(
        NAME,
        text_of(response.get("id")),
        text_of(response.get("model")),
        (Choice(parts, finish),),
        read_usage(usage, response["output"]) if isinstance(usage, dict) else None,
        created_at(response),
        reply_extras(response),
    )


def usage_items(usage: Usage | None) -> Json:
    return None if usage is None else _write_usage(usage)


# --- replies: items

ItemStatus = Literal["in_progress", "completed", "incomplete"]
_PREFIXES: Mapping[str, str] = MappingProxyType(
    {
        "message": "msg_",
        "reasoning": "rs_",
        "function_call": "fc_",
        "custom_tool_call": "ctc_",
        "local_shell_call": "lsh_",
        "shell_call": "sh_",
        "apply_patch_call": "apc_",
        "tool_search_call": "tsc_",
        "image_generation_call": "ig_",
    }
)


def _made_id(prefix: str, *seeds: object) -> str:
    return made_id(prefix, 32, *seeds)


def response_id_of(id: str | None, model: str | None, created: int | None, call: Call | None) -> str:
    """The id of a response to `call`. One that is stored has an id of the gateway, because a provider's id may not be
    unique."""
    if call is not None and call.stored is not None and call.stored.keeps:
        return call.stored.reply_id
    if not id:
        return _made_id("resp_", model, created)
    return id if id.startswith("resp_") else f"resp_{id}"


def skeleton_of(kind: str, response_id: str, position: int) -> Item:
    """The id of an item of a stored response shows which response it belongs to (stored.py)."""
    prefix = _PREFIXES[kind]
    return {
        "id": stored_item_id(prefix, response_id, position) or _made_id(prefix, response_id, position),
        "type": kind,
    }


def output_text(text: str, cited: tuple[Citation, ...] = (), entries: Sequence[Item] = ()) -> Item:
    annotations = [annotation(each, 0, len(text)) for each in cited]
    return {"type": "output_text", "annotations": annotations, "logprobs": list(entries), "text": text}


def refused(text: str) -> Item:
    return {"type": "refusal", "refusal": text}


def message_item(skeleton: Item, content: list[Json], status: ItemStatus, own: Extras) -> Item:
    return {**skeleton, "status": status, "role": "assistant", "content": content, **own}


def call_item(skeleton: Item, part: ToolCall, status: ItemStatus, own: Extras, fields: Item | None = None) -> Item:
    """The item of a call. `fields`: the caller's item of a call of another dialect (tool_items.py), if `own` has
    none."""
    call_id = part.id or _made_id("call_", skeleton["id"])
    call_id = call_id if own else call_id_of(call_id)
    if fields is None and isinstance(part, CustomCall):
        fields = {"name": part.name, "input": input_of(part.arguments)}
    elif fields is None:
        fields = {"name": part.name, "arguments": part.arguments if own or part.arguments.strip() else "{}"}
    return {**skeleton, "status": status, "call_id": call_id, **fields, **own}


def reasoning_item(skeleton: Item, part: Thinking | RedactedThinking) -> Item:
    """Another provider's thinking: its text is the summary that callers show, its signature is passed on."""
    if isinstance(part, RedactedThinking):
        return {**skeleton, "summary": [], "encrypted_content": REDACTED + part.data}
    summary: Json = [{"type": "summary_text", "text": part.text}] if part.text else []
    return {**skeleton, "summary": summary, "encrypted_content": seal(part.signature)}


def _is_empty(part: Part) -> bool:
    """Whether a part of another dialect has no item of its own."""
    match part:
        case Text() | Refusal():
            return not part.text
        case Thinking():
            return not (part.text or part.signature)
        case RedactedThinking():
            return not part.data
        case ToolCall() | Image() | Audio():
            return False
        case _:
            return True


def outcome_of(finish: Finish | None) -> Item:
    """The status fields of a response, by the finish reason of its only choice."""
    if finish is not None and finish.reason == "malformed":
        return {"status": "failed", "error": dict(_MALFORMED), "incomplete_details": None}
    if finish is not None and (reason := _REASONS.get(finish.reason)) is not None:
        return {"status": "incomplete", "error": None, "incomplete_details": {"reason": reason}}
    return {"status": "completed", "error": None, "incomplete_details": None}


def own_outcome(finish: Finish | None, status: Json) -> Item:
    """The same for a response of this dialect, with its original values."""
    outcome = outcome_of(finish)
    if finish is None:
        return {**outcome, "status": status or "completed"}
    if finish.raw is None:  # the gateway has ended the reply
        return outcome
    if finish.raw == "cancelled":
        return {"status": "cancelled", "error": None, "incomplete_details": None}
    if finish.reason == "other" or outcome["status"] == "incomplete":
        details = None if finish.raw == "incomplete" else {"reason": finish.raw}
        return {"status": "incomplete", "error": None, "incomplete_details": details}
    return outcome


def call_status(call: ToolCall) -> ItemStatus:
    """The status of the item of a call of another dialect. A client may execute a completed one."""
    return "incomplete" if is_cut(call.arguments) else "completed"


def _can_be_cut(item: Item) -> bool:
    """Whether an item can be the last, incomplete one of a reply that was cut off."""
    return item.get("type") in ("message", "function_call", "custom_tool_call")


def response_of(
    id: str, reply: Reply | ReplyStarted, echo: Item, outcome: Item, output: list[Json], usage: Json
) -> Item:
    return {
        "id": id,
        "object": "response",
        "created_at": reply.created or 0,
        **outcome,
        "model": reply.model or "",
        "output": output,
        **echo,
        "usage": usage,
    }


def _own_output(parts: Iterable[Part]) -> Iterator[Item]:
    """The items of a reply of this dialect, unchanged."""
    message: AssistantMessage | None = None
    for part in parts:
        if isinstance(part, Text | Refusal):
            own = item_of(part)
            if message is not None and not message.takes(own):
                yield _own_message(message)
                message = None
            message = message or AssistantMessage(own)
            message.own = own
            message.content.append(message_content(part, part.extras))
            continue
        if message is not None:
            yield _own_message(message)
            message = None
        yield from own_item(part)
    if message is not None:
        yield _own_message(message)


def _own_message(message: AssistantMessage) -> Item:
    return {"type": "message", "role": "assistant", "content": message.content, **message.own}


def own_item(part: Part) -> Iterator[Item]:
    match part:
        case CustomCall():
            yield own_custom_item(part)
        case ToolCall():
            fields_ = {"call_id": part.id, "name": part.name, "arguments": part.arguments}
            yield {"type": "function_call", **fields_, **part.extras}
        case Thinking():
            yield {"type": "reasoning", **part.extras}
        case Image(Inline(_, data)):
            yield {"type": "image_generation_call", "result": data, **part.extras}
        case Opaque():
            yield as_object(part.value, "output")
        case _:
            raise TypeError(f"a reply of {TITLE} cannot hold a {type(part).__name__}")


def _shown_text(part: Text | Image | Audio) -> str:
    """The text, or the replacement text of a part without a place in this format."""
    return part.text if isinstance(part, Text) else omission(part, TITLE)


def _output(parts: Sequence[Part], id: str, status: Json, table: ToolTable, of_choice: Extras) -> list[Item]:
    """The items of a reply of another dialect. Adjacent texts become one message. `of_choice`: the extras of the
    choice, whose sources and probabilities belong to the last text."""
    cited, entries = citations_in(of_choice), entries_in(of_choice)
    last = next((part for part in reversed(parts) if isinstance(part, Text) and part.text), None)
    items: list[Item] = []
    content: list[Json] | None = None
    for part in parts:
        if _is_empty(part):
            continue
        if isinstance(part, Text | Refusal | Audio) or (
            isinstance(part, Image) and not isinstance(part.source, Inline)
        ):
            sources = citations_in(part.extras) or (cited if part is last else ())
            own_entries = entries if part is last else ()
            item_content = (
                refused(part.text)
                if isinstance(part, Refusal)
                else output_text(_shown_text(part), sources, own_entries)
            )
            if content is None:
                content = []
                items.append(message_item(skeleton_of("message", id, len(items)), content, "completed", NO_EXTRAS))
            content.append(item_content)
            continue
        content = None
        if isinstance(part, ToolCall):
            kind, fields = spelled(part, table.form_of(part))
            items.append(call_item(skeleton_of(kind, id, len(items)), part, call_status(part), NO_EXTRAS, fields))
        elif isinstance(part, Thinking | RedactedThinking):
            items.append(reasoning_item(skeleton_of("reasoning", id, len(items)), part))
        elif isinstance(part, Image) and isinstance(part.source, Inline):
            items.append(picture_item(skeleton_of("image_generation_call", id, len(items)), part.source))
    is_known = any(item.get("status") == "incomplete" for item in items)
    if status == "incomplete" and items and not is_known and _can_be_cut(items[-1]):
        items[-1]["status"] = "incomplete"
    return items


def write_reply(reply: Reply) -> bytes:
    choice = reply.choices[0] if reply.choices else Choice(())
    output: list[Json] = []
    if reply.dialect != NAME:
        if not reply.model and reply.call is not None:
            reply = replace(reply, model=reply.call.model)
        id = response_id_of(reply.id, reply.model, reply.created, reply.call)
        choice = with_cut_finish(choice)
        outcome = outcome_of(choice.finish)
        body = body_of(reply.call)
        output.extend(_output(choice.parts, id, outcome["status"], table_of(body), choice.extras))
        return encode(response_of(id, reply, echoed(body, reply.call), outcome, output, usage_items(reply.usage)))
    output.extend(_own_output(choice.parts))
    outcome = own_outcome(choice.finish, reply.extras.get("status"))
    echo = {**_ECHO, **{key: value for key, value in reply.extras.items() if key not in REPLY}}
    usage = reply.extras.get("usage", usage_items(reply.usage))
    id = reply.id or response_id_of(None, reply.model, reply.created, reply.call)
    return encode(response_of(id, reply, echo, outcome, output, usage))
