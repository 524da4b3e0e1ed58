"""Reads and writes complete chat completions: finish reasons, usage and choices."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from ...codecs.json_values import (
    UNREADABLE,
    TokenCounts,
    as_object,
    decode_reply,
    encode,
    left_in,
    object_in,
    rest_of,
    text_of,
)
from ...errors import BadRequest, ErrorReply, Unsupported, UpstreamError
from ...model.content import (
    NO_EXTRAS,
    Audio,
    CacheMark,
    CustomCall,
    Document,
    Extras,
    FileRef,
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
    Url,
)
from ...model.reply import Choice, Finish, FinishReason, Reply
from ...model.usage import Usage, cached_twice
from ..base import ModelCard
from ..carried import tool_id
from ..citations import chat_annotation, citations_in
from ..cut_calls import with_cut_finish
from ..dropping import omission
from ..failed_finish import failed_finish, reason_of
from ..logprobs import chat_logprobs
from .content import (
    AUDIO_FORMATS,
    TEXT_PART,
    cache_control,
    is_noted,
    overlay,
    set_values,
    short,
    thoughts_of,
    unwrapped_text,
    write_source,
)
from .errors import fault_of, has_error, word_of
from .fields import NAME, TITLE, Object
from .functions import FunctionCall, offers_functions, write_function_call
from .models import LONGEST_CALL_ID
from .request_in import read_assistant_parts
from .tools import custom_names, write_custom_call

# --- usage

# The fields in which hosts report cached tokens: within the details, or beside the sums.
_CACHE_READ = ("prompt_cache_hit_tokens", "cached_tokens", "cache_read_input_tokens", "num_cached_tokens")
_CACHE_WRITE_DETAILS = ("cache_write_tokens", "cache_creation_tokens")


def read_usage(usage: Mapping[str, Json]) -> Usage:
    """The usage of a reply. OpenAI and most hosts count cached, audio and reasoning tokens within the two sums. They
    are added to the sums if the total shows that a host counts them separately (xAI: reasoning; Mistral: audio; Gemini:
    thinking), or if a part is greater than its sum (Vercel: reasoning)."""
    counts = TokenCounts()
    prompt_details, completion_details = (
        object_in(usage, "prompt_tokens_details"),
        object_in(usage, "completion_tokens_details"),
    )
    reported_prompt, reported_completion = (
        counts.of(usage.get("prompt_tokens")),
        counts.of(usage.get("completion_tokens")),
    )
    prompt, completion = reported_prompt or 0, reported_completion or 0
    total = counts.at(usage, "total_tokens")
    audio, audio_output = counts.at(prompt_details, "audio_tokens"), counts.at(completion_details, "audio_tokens")
    reasoning = counts.at(completion_details, "reasoning_tokens") or counts.at(usage, "reasoning_tokens")
    beside = total - prompt - completion if reported_prompt is not None and reported_completion is not None else 0
    if beside > 0 and beside == audio:
        prompt += audio
    elif beside > 0 and (beside == reasoning or not reasoning):
        completion += beside
        reasoning = beside
    elif reasoning > completion:
        completion += reasoning
    audio = min(audio, prompt)
    text = prompt - audio
    cache_read = min(counts.at(prompt_details, "cached_tokens") or counts.first(usage, _CACHE_READ), text)
    cache_writes = counts.first(prompt_details, _CACHE_WRITE_DETAILS) or counts.at(usage, "cache_creation_input_tokens")
    cache_write = min(cache_writes, text)
    twice = cached_twice(text, cache_read, cache_write)
    reasoning = min(reasoning, completion)
    audio_output = min(audio_output, completion - reasoning)
    searches = counts.openrouter_searches(usage)
    return Usage(
        input=text - cache_read - cache_write + twice,
        cache_read=cache_read,
        cache_write=cache_write,
        output=completion - reasoning - audio_output,
        reasoning=reasoning,
        input_audio=audio,
        output_audio=audio_output,
        cached_twice=twice,
        prompt_unknown=reported_prompt is None,
        completion_unknown=reported_completion is None,
        unreadable=counts.unreadable,
        searches=searches,
    )


def write_usage(usage: Usage) -> Object:
    """Searches are in the field that OpenRouter has for them."""
    written: Object = {
        "prompt_tokens": usage.prompt,
        "completion_tokens": usage.completion,
        "total_tokens": usage.total,
        "prompt_tokens_details": {
            "cached_tokens": usage.cache_read,
            "cache_write_tokens": usage.cache_write + usage.cache_write_1h,
            "audio_tokens": usage.input_audio,
        },
        "completion_tokens_details": {
            "reasoning_tokens": usage.reasoning,
            "audio_tokens": usage.output_audio,
        },
    }
    if usage.searches:
        written["server_tool_use_details"] = {"web_search_requests": usage.searches}
    return written


# --- finish reasons

_READ_FINISH: Mapping[str, FinishReason] = MappingProxyType(
    {
        "stop": "stop",
        "length": "length",
        "tool_calls": "tool_calls",
        "function_call": "tool_calls",
        "content_filter": "content_filter",
    }
)
_WRITE_FINISH: Mapping[FinishReason, str] = MappingProxyType(
    {
        "stop": "stop",
        "stop_sequence": "stop",
        "length": "length",
        "context_window": "length",
        "tool_calls": "tool_calls",
        "content_filter": "content_filter",
        "refusal": "content_filter",
        "pause": "length",  # the reply is not finished: "stop" would report it as complete
        "malformed": "stop",
        "other": "length",  # nothing says that the reply is complete
    }
)
# Reasons with which tool calls are complete and wait for their results.
_AFTER_CALLS: frozenset[FinishReason] = frozenset({"stop", "stop_sequence", "tool_calls"})


# Of a reply that ended at a limit, whatever else is said of it.
_LIMITS: frozenset[FinishReason] = frozenset({"length", "context_window"})


def read_finish(raw: str, *, has_calls: bool, native: Json = None) -> Finish:
    """At OpenAI, a forced call ends with "stop". `native`: the reason that the host itself got from the model's
    provider. OpenRouter writes "tool_calls" for a call that its provider cut off at a limit."""
    reason = _READ_FINISH.get(raw) or reason_of(raw)
    if reason in _AFTER_CALLS and isinstance(native, str) and (limit := reason_of(native)) in _LIMITS:
        return Finish(limit, raw)
    return Finish("tool_calls" if has_calls and reason in _AFTER_CALLS else reason, raw)


def write_finish(finish: Finish | None, *, has_calls: bool, older: bool = False) -> str:
    """`older`: the caller reads calls in the older spelling."""
    reason = finish.reason if finish is not None else "stop"
    if has_calls and reason in _AFTER_CALLS:
        return "function_call" if older else "tool_calls"
    return "stop" if reason == "tool_calls" else _WRITE_FINISH[reason]  # clients would wait for a call


# --- replies

_REPLY = frozenset({"id", "object", "created", "model", "choices"})
_CHOICE = frozenset({"index", "message", "finish_reason"})
_REPLY_MESSAGE = frozenset({"role"})
NAMELESS_REPLY = "chatcmpl-0"  # clients require an id; only the provider knows the original one


def _read_choice(value: Json, number: int) -> Choice:
    try:
        return _read_usual_choice(value, number)
    except BadRequest:
        return _read_usual_choice(_repaired_choice(value), number)


def _repaired_choice(value: Json) -> Json:
    """A choice with its message in another place, or with fields of other types. The reader of streams accepts the
    same."""
    if not isinstance(value, dict):
        return value
    match value:
        case {"message": dict(message)} | {"delta": dict(message)}:
            pass
        case {"text": str(text)}:
            message = {"content": text}
        case _:
            return value
    content, calls = message.get("content"), message.get("tool_calls")
    if isinstance(content, list):
        content = [{"type": "text", "text": part} if isinstance(part, str) else part for part in content]
    elif not isinstance(content, str | dict):
        content = word_of(content)
    return {
        **{key: each for key, each in value.items() if key not in ("delta", "text")},
        "message": {
            **message,
            "content": content,
            "refusal": unwrapped_text(message.get("refusal")),
            "tool_calls": [
                {**call, "id": word_of(call.get("id"))}
                for call in (calls if isinstance(calls, list) else ())
                if isinstance(call, dict)
            ],
        },
    }


def _read_usual_choice(value: Json, number: int) -> Choice:
    path = f"choices[{number}]"
    choice = as_object(value, path)
    message = as_object(choice.get("message"), f"{path}.message")
    parts, rest = read_assistant_parts(message, f"{path}.message", strict=False)
    reason = choice.get("finish_reason")
    finish = None
    has_calls = any(isinstance(part, ToolCall) for part in parts)
    if has_calls:
        parts = _with_own_ids(parts)
    if isinstance(reason, str):
        finish = read_finish(reason, has_calls=has_calls, native=choice.get("native_finish_reason"))
    extras = left_in(choice, _CHOICE)
    if rest := {key: value for key, value in rest.items() if key not in _REPLY_MESSAGE}:
        extras["message"] = rest
    return Choice(parts, finish, extras or NO_EXTRAS)


def _with_own_ids(parts: tuple[Part, ...]) -> tuple[Part, ...]:
    """The parts with one id for each call: clients find the result of a call by it. Some hosts give all calls of a
    reply the same one."""
    ids = [part.id for part in parts if isinstance(part, ToolCall) and part.id]
    if len(set(ids)) == len(ids):
        return parts
    seen: list[str] = []
    renamed: list[Part] = []
    for part in parts:
        if isinstance(part, ToolCall):
            seen.append(part.id)
            if part.id in seen[:-1]:
                part = replace(part, id=f"{part.id}_{len(seen) - 1}")
        renamed.append(part)
    return tuple(renamed)


def read_reply(body: bytes) -> Reply:
    try:
        reply = decode_reply(body)
    except UNREADABLE as exc:
        raise UpstreamError("the provider's reply is not JSON") from exc
    if isinstance(reply, dict) and isinstance(reply.get("choices"), dict):  # one choice without its list
        reply["choices"] = [reply["choices"]]
    if isinstance(reply, dict) and has_error(reply):
        raise ErrorReply(fault_of(200, (), reply, text_of(reply.get("detail")) or ""))
    if not isinstance(reply, dict) or not isinstance(reply.get("choices"), list):
        raise UpstreamError("the provider's reply is not a chat completion")
    try:
        choices = tuple(_read_choice(choice, number) for number, choice in enumerate(reply["choices"]))
    except BadRequest as exc:  # the readers of a caller's messages raise it
        raise UpstreamError(f"the provider's reply cannot be read: {exc.message}") from exc
    for value, choice in zip(reply["choices"], choices, strict=True):
        if error := value.get("error"):
            raise ErrorReply(fault_of(200, (), {"error": error}))
        failed = failed_finish(choice.finish.raw) if choice.finish is not None else None
        if failed is not None:
            raise ErrorReply(failed)
    usage, created = reply.get("usage"), reply.get("created")
    return Reply(
        dialect=NAME,
        id=text_of(reply.get("id")) or None,
        model=text_of(reply.get("model")) or None,
        choices=choices,
        usage=read_usage(usage) if isinstance(usage, dict) else None,
        created=int(created) if isinstance(created, int | float) and math.isfinite(created) else None,
        extras=rest_of(reply, _REPLY),
    )


def _content_of(parts: Iterable[Part], notes: Extras) -> Object:
    """The content of a message of this dialect, by field. `notes` gets the spellings of its thinking."""
    content: list[Object] = []
    thoughts: list[Thinking | RedactedThinking] = []
    calls: list[Json] = []
    images: list[Json] = []
    fields: Object = {"content": None}
    for part in parts:
        match part:
            case CustomCall():
                call = write_custom_call(part.id, part.name, part.arguments)
                calls.append(_restored(call, part.cache, part.extras))
            case FunctionCall():
                fields["function_call"] = write_function_call(part)
            case ToolCall():
                calls.append(_own_call(part))
            case Opaque() if isinstance(part.value, dict) and "id" in part.value:
                calls.append(part.value)
            case Thinking() | RedactedThinking() if not is_noted(part.extras, "content"):
                thoughts.append(part)
            case Refusal() if not is_noted(part.extras, "content"):
                fields["refusal"] = part.text
            case Image() if is_noted(part.extras, "images"):
                images.append(_own_part(part))
            case _:
                content.append(_own_part(part))
    if content:
        fields["content"] = short(content)
    if calls:
        fields["tool_calls"] = calls
    if images:
        fields["images"] = images
    fields.update(thoughts_of(thoughts, notes))
    return fields


def _own_call(call: ToolCall) -> Object:
    function = {"name": call.name, "arguments": call.arguments}
    call_object: Object = {"id": call.id, "type": "function", "function": function}
    if call.signature is not None:
        call_object["extra_content"] = {"google": {"thought_signature": call.signature}}
    return _restored(call_object, call.cache, call.extras)


def _own_part(part: Part) -> Object:
    """A part of the content of a reply of this dialect."""
    match part:
        case Text():
            return _restored({"type": "text", "text": part.text}, part.cache, part.extras)
        case Image(Inline() | Url() as source):
            image: Object = {"url": write_source(source)}
            set_values(image, detail=part.detail)
            return _restored({"type": "image_url", "image_url": image}, part.cache, part.extras)
        case Document(source):
            file: Object = (
                {"file_id": source.id} if isinstance(source, FileRef) else {"file_data": write_source(source)}
            )
            set_values(file, filename=part.name)
            return _restored({"type": "file", "file": file}, part.cache, part.extras)
        case Audio(Inline(media_type, data)):
            format = AUDIO_FORMATS.get(media_type, media_type.removeprefix("audio/"))
            return _restored(
                {"type": "input_audio", "input_audio": {"data": data, "format": format}}, None, part.extras
            )
        case Refusal():
            return _restored({"type": "refusal", "refusal": part.text}, None, part.extras)
        case Thinking():
            block: Object = {"type": "thinking", "thinking": [{"type": "text", "text": part.text}]}
            set_values(block, signature=part.signature)
            return _restored(block, None, part.extras)
        case Opaque():
            return as_object(part.value, "content")
        case _:
            raise Unsupported("content", TITLE, f"a {type(part).__name__} is not allowed here")


def _restored(block: Object, cache: CacheMark | None, extras: Extras) -> Object:
    """A part with all the extras of its reader."""
    if cache is not None:
        block["cache_control"] = cache_control(cache)
    overlay(block, extras)
    return block


def _message_of(choice: Choice, custom: frozenset[str], *, own: bool, older: bool) -> Object:
    """The message of a reply. `custom`: the names of the caller's custom tools."""
    notes = choice.extras.get("message") if own else None
    extras = notes if isinstance(notes, dict) else NO_EXTRAS
    if own:
        message: Object = {"role": "assistant", "refusal": None, **_content_of(choice.parts, extras)}
        content = message["content"]
        if isinstance(content, list) and all(part.keys() - {"annotations"} == TEXT_PART for part in content):
            # Thinking between them split one text of the stream into several parts. Annotations came with one of them.
            message["content"] = "".join(str(part["text"]) for part in content)
            lists = [part["annotations"] for part in content if isinstance(part.get("annotations"), list)]
            if lists:
                message["annotations"] = [each for annotations in lists for each in annotations]
        overlay(message, extras)
        return message
    texts: list[str] = []
    refusals: list[str] = []
    media: list[Image | Audio] = []
    calls: list[ToolCall] = []
    thoughts: list[Thinking | RedactedThinking] = []
    for part in choice.parts:
        match part:
            case Text():
                texts.append(part.text)
            case Refusal():
                refusals.append(part.text)
            case ToolCall():
                calls.append(part)
            case Thinking() | RedactedThinking():
                thoughts.append(part)
            case Image() | Audio():
                media.append(part)
            case _:
                pass  # a part that only another dialect has
    fields = _media_fields(media, texts) if media else {}
    # None: there is none, as clients expect beside tool calls.
    message = {"role": "assistant", "content": "".join(texts) or None, "refusal": "".join(refusals) or None, **fields}
    if cited := _annotations(choice):
        message["annotations"] = cited
    if calls and older:  # one call, beside which a client finds the others
        message["function_call"] = write_function_call(calls.pop(0))
    if calls:
        message["tool_calls"] = [_reply_call(call, custom) for call in calls]
    if thoughts:
        message.update(thoughts_of(thoughts, NO_EXTRAS))
    return message


def _annotations(choice: Choice) -> list[Json]:
    """The sources that the texts of another format cite. The sources of a whole choice belong to all of its text."""
    annotations: list[Json] = []
    at = 0
    for part in choice.parts:
        if isinstance(part, Text):
            end = at + len(part.text)
            annotations += [chat_annotation(each, at, end) for each in citations_in(part.extras)]
            at = end
    return annotations or [chat_annotation(each, 0, at) for each in citations_in(choice.extras)]


def _media_fields(media: list[Image | Audio], texts: list[str]) -> Object:
    """The fields of a message for the media of another provider's model. `texts` gets their replacement texts."""
    written = [written_media(part, place) for place, part in enumerate(media)]
    texts += [each["content"] for each in written if isinstance(each.get("content"), str)]
    images = [image for each in written for image in each.get("images", ())]
    fields: Object = {"images": images} if images else {}
    return next(({**fields, "audio": each["audio"]} for each in written if "audio" in each), fields)


def written_media(part: Image | Audio, place: int) -> dict[str, Any]:
    """The fields of a message or delta for an image or sound of another provider's model: OpenRouter's and LiteLLM's
    `images`, OpenAI's `audio`. Other media become a replacement text."""
    match part:
        case Image(Inline() | Url() as source):
            image = {"type": "image_url", "index": place, "image_url": {"url": write_source(source)}}
            return {"images": [image]}
        case Audio(Inline(_, data)):
            digest = hashlib.sha256(data.encode()).hexdigest()[:24]
            return {"audio": {"id": f"audio_{digest}", "data": data, "expires_at": 0, "transcript": ""}}
        case _:
            return {"content": omission(part, TITLE)}


def _reply_call(call: ToolCall, custom: frozenset[str]) -> Object:
    if call.name in custom:
        return write_custom_call(reply_call_id(call.id), call.name, call.arguments)
    call_object: Object = {
        "id": reply_call_id(call.id),
        "type": "function",
        "function": {"name": call.name, "arguments": call.arguments or "{}"},
    }
    if call.signature is not None:
        call_object["extra_content"] = {"google": {"thought_signature": call.signature}}
    return call_object


def reply_call_id(id: str) -> str:
    """An id that OpenAI accepts in a history: only its length is limited."""
    return id if len(id) <= LONGEST_CALL_ID else tool_id(id, LONGEST_CALL_ID)


def _own_finish(choice: Choice) -> str | None:
    """The provider's reason. It is missing if the gateway has ended the reply."""
    if choice.finish is None:
        return None
    return choice.finish.raw if choice.finish.raw is not None else write_finish(choice.finish, has_calls=False)


def _foreign_finish(choice: Choice, older: bool) -> str:
    called = any(isinstance(part, ToolCall) for part in choice.parts)
    return write_finish(choice.finish, has_calls=called, older=older)


def _choice_of(choice: Choice, index: int, custom: frozenset[str], *, own: bool, older: bool) -> Object:
    """`older`: the caller reads calls in the older spelling."""
    choice_object: Object = {
        "index": index,
        "message": _message_of(choice, custom, own=own, older=older),
        "logprobs": None if own else chat_logprobs(choice.extras),
        "finish_reason": _own_finish(choice) if own else _foreign_finish(choice, older),
    }
    if own:
        overlay(choice_object, {key: value for key, value in choice.extras.items() if key != "message"})
    return choice_object


def write_reply(reply: Reply) -> bytes:
    own = reply.dialect == NAME
    custom, older = frozenset[str](), False
    if calls := [part for each in reply.choices for part in each.parts if isinstance(part, ToolCall)]:
        custom, older = custom_names(reply.call), offers_functions(reply.call)
        if reply.call is None:  # only the reply's own finish reason is known
            custom = frozenset([part.name for part in calls if isinstance(part, CustomCall)])
    body: Object = {
        "id": reply.id or NAMELESS_REPLY,
        "object": "chat.completion",
        "created": reply.created or 0,
        "model": reply.model or "",
        "choices": [
            _choice_of(choice, index, custom, own=own, older=older)
            for index, choice in enumerate(reply.choices if own else map(with_cut_finish, reply.choices))
        ],
    }
    if reply.usage is not None and not (own and "usage" in reply.extras):
        body["usage"] = write_usage(reply.usage)
    if own:
        overlay(body, reply.extras)
    return encode(body)


# --- the dialect


def model_row(card: ModelCard) -> Object:
    return {"id": card.id, "object": "model", "created": card.created, "owned_by": card.owned_by}
