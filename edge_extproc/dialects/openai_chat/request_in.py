"""Reads a chat completions request into a Chat."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import msgspec

from ...codecs.json_values import (
    UNREADABLE,
    as_bool,
    as_int,
    as_list,
    as_object,
    as_text,
    encode,
    left_in,
    maybe,
    rest_of,
    wrong,
)
from ...errors import BadRequest
from ...model.call import Call, Chat, FunctionTool, Reasoning, ResponseFormat, Tool, ToolChoice
from ...model.content import (
    NO_EXTRAS,
    Extras,
    Image,
    Json,
    Message,
    Part,
    Refusal,
    Role,
    Text,
    ToolCall,
    ToolResult,
)
from ..base import output_limit
from ..carried import original_id
from ..output_bounds import as_count, output_bound
from ..places import places
from ..reading import why_no_call
from ..turns import arguments_text
from .content import THOUGHT, opaque_of, read_cache, read_content, read_image_part, read_thoughts
from .fields import NAME, SCALARS, SPELLING, Object
from .functions import (
    NAMES,
    SPELLED,
    has_functions,
    is_called,
    is_older,
    read_function,
    read_function_call,
    read_function_choice,
    read_function_message,
    with_ids,
)
from .tools import AllowedTools, allowed_tools, is_custom, read_custom_call, read_custom_tool

# --- the cheap view


class _Probe(msgspec.Struct):
    model: str
    stream: bool | None = None
    # The provider checks these; here only well-formed values count.
    stream_options: Any = None
    max_tokens: Any = None
    max_completion_tokens: Any = None
    n: Any = None
    # These are not OpenAI's (output_bounds.py).
    max_output_tokens: Any = None
    max_new_tokens: Any = None
    n_predict: Any = None
    extra_body: Any = None


_probe = msgspec.json.Decoder(_Probe)


def read_call(raw: bytes) -> Call:
    try:
        probe = _probe.decode(raw)
    except UNREADABLE:
        raise why_no_call(raw) from None
    if not probe.model:
        raise BadRequest("model is empty: give the name of a model", param="model")
    most, most_completion = probe.max_tokens, probe.max_completion_tokens
    if isinstance(most, (int, float)) and not isinstance(most, bool):
        output_limit(most, "max_tokens")
    if isinstance(most_completion, (int, float)) and not isinstance(most_completion, bool):
        output_limit(most_completion, "max_completion_tokens")
    stream = probe.stream is True
    options = probe.stream_options
    includes_usage = isinstance(options, dict) and options.get("include_usage") is True
    return Call(
        dialect=NAME,
        operation="chat",
        model=probe.model,
        stream=stream,
        raw=raw,
        wants_usage=includes_usage or not stream,
        max_output_tokens=output_bound(
            (most_completion, most),
            (probe.max_output_tokens, probe.max_new_tokens, probe.n_predict),
            probe.extra_body,
        ),
        choices=1 if probe.n is None else as_count(probe.n) or 1,
    )


# --- reading a request: messages

_MESSAGE = frozenset({"role", "content", "name"})
_ASSISTANT = _MESSAGE | THOUGHT | {"refusal", "tool_calls", "function_call"}
_TOOL_MESSAGE = _MESSAGE | {"tool_call_id"}
_TOOL_CALL = frozenset({"id", "type", "function", "index"})
_FUNCTION = frozenset({"name", "arguments"})


def _read_tool_call(value: Json, path: str, *, strict: bool) -> Part:
    """`strict`: the caller's own history, in which an id must not be missing; a host's reply may lack one."""
    call = as_object(value, path)
    function = call.get("function")
    if call.get("type") == "custom" and isinstance(call.get("custom"), dict):
        return read_custom_call(call, path, strict=strict)
    if call.get("type", "function") != "function" or not isinstance(function, dict):
        return opaque_of(call, path)
    cache, extras = read_cache(call, _TOOL_CALL)  # an index says only where the call stands
    if rest := left_in(function, _FUNCTION):
        extras["function"] = rest
    signature = None
    match extras.get("extra_content"):
        case {"google": {"thought_signature": str(signed), **more}, **others} if not more and not others:
            signature = signed
            del extras["extra_content"]
    arguments, id = function.get("arguments"), call.get("id")
    if not strict:
        id, arguments = id or "", arguments or ""
    return ToolCall(
        original_id(as_text(id, f"{path}.id")),
        as_text(function.get("name"), f"{path}.function.name"),
        arguments_text(arguments, f"{path}.function.arguments"),
        cache,
        signature,
        extras or NO_EXTRAS,
        path,
    )


def read_assistant_parts(message: Object, path: str, *, strict: bool = True) -> tuple[tuple[Part, ...], Object]:
    """The parts of an assistant's message, thinking first and tool calls last, and what is left of it."""
    thoughts, extras = read_thoughts(message, path)
    content = message.get("content")
    if isinstance(content, dict) and not strict:  # Cloudflare decodes a reply that is JSON by request
        content = encode(content).decode()
    parts = [*thoughts, *read_content(content, f"{path}.content")]
    unread = left_in(message, _ASSISTANT)
    if images := _read_images(message.get("images"), f"{path}.images"):
        parts += images
        unread.pop("images")
    if refusal := maybe(as_text, message, "refusal", path):
        parts.append(Refusal(refusal, path=f"{path}.refusal"))
    for number, call in enumerate(maybe(as_list, message, "tool_calls", path) or ()):
        parts.append(_read_tool_call(call, f"{path}.tool_calls[{number}]", strict=strict))
    old = message.get("function_call")
    if isinstance(old, dict) and is_called(old, strict=strict):
        parts.append(read_function_call(old, f"{path}.function_call", strict=strict))
    return tuple(parts), {**unread, **extras}


_AMONG_IMAGES: Extras = MappingProxyType({"images": None})
"""A note: this picture stood in the field of its own that OpenRouter and LiteLLM have for those of a reply."""


def _read_images(value: Json, path: str) -> tuple[Image, ...]:
    """None of them where one of them is no picture: they stay as they came then."""
    if not isinstance(value, list):
        return ()
    images = tuple(read_answered_image(each, f"{path}[{number}]") for number, each in enumerate(value))
    return tuple(image for image in images if image is not None) if None not in images else ()


def read_answered_image(value: Json, path: str = "images") -> Image | None:
    if not isinstance(value, dict) or "image_url" not in value:
        return None
    try:
        image = read_image_part(value, path)
    except BadRequest:
        return None
    return replace(image, extras={**image.extras, **_AMONG_IMAGES}) if isinstance(image, Image) else None


def _mark_last(parts: tuple[Part, ...], extras: Object, path: str) -> tuple[tuple[Part, ...], Object]:
    """A cache mark on the message at `path` applies to its last part."""
    if "cache_control" not in extras:
        return parts, extras
    cache, rest = read_cache(extras, frozenset())
    match parts[-1:]:
        case (Text(cache=None) as last,) if cache is not None:
            mark = replace(cache, path=f"{path}.cache_control")
            return (*parts[:-1], replace(last, cache=mark)), {**rest, "cache_control": None}
        case _:
            return parts, extras


def _read_message(value: Json, path: str) -> Message:
    message = as_object(value, path)
    role = as_text(message.get("role"), f"{path}.role")
    name = maybe(as_text, message, "name", path)
    match role:
        case "system" | "developer" | "user":
            parts = read_content(message.get("content"), f"{path}.content")
            parts, extras = _mark_last(parts, left_in(message, _MESSAGE), path)
            return Message(role, parts, name, extras or NO_EXTRAS, path)
        case "assistant":
            parts, extras = read_assistant_parts(message, path)
            parts, extras = _mark_last(parts, extras, path)
            return Message(role, parts, name, extras or NO_EXTRAS, path)
        case "tool":
            call_id = original_id(as_text(message.get("tool_call_id"), f"{path}.tool_call_id"))
            cache, extras = read_cache(message, _TOOL_MESSAGE)
            parts = read_content(message.get("content"), f"{path}.content")
            result = ToolResult(call_id, parts, cache=cache, path=path)
            return Message(role, (result,), name, extras or NO_EXTRAS, path)
        case "function":
            return read_function_message(message, read_content(message.get("content"), f"{path}.content"), path)
        case _:
            raise BadRequest(
                f"{path}.role is {role!r}; it must be system, developer, user, assistant or tool", param=f"{path}.role"
            )


_PLAIN_ROLES: dict[str, Role] = {
    "user": "user",
    "assistant": "assistant",
    "system": "system",
    "developer": "developer",
}


def _read_messages(values: list[Json]) -> tuple[Message, ...]:
    messages: list[Message] = []
    are_plain = True
    for value, (path, content) in zip(values, places("messages", "content", len(values)), strict=False):
        if (
            isinstance(value, dict)
            and len(value) == 2
            and isinstance(text := value.get("content"), str)
            and isinstance(name := value.get("role"), str)
            and (role := _PLAIN_ROLES.get(name)) is not None
        ):  # most of a long history
            messages.append(Message(role, (Text(text, None, NO_EXTRAS, content),), None, NO_EXTRAS, path))
            continue
        messages.append(_read_message(value, path))
        are_plain = False
    return with_ids(messages) if not are_plain and has_functions(messages) else tuple(messages)


# --- reading a request: the rest

_CHAT = frozenset(
    {
        "model",
        "messages",
        "stream",
        "stream_options",
        "tools",
        "tool_choice",
        "parallel_tool_calls",
        "max_tokens",
        "max_completion_tokens",
        "stop",
        "response_format",
        "reasoning_effort",
        "reasoning",
        "thinking",
        "user",
        "safety_identifier",
        "metadata",
        *SCALARS.names,
    }
)
_FUNCTION_TOOL = frozenset({"type", "function"})


def _read_tool(value: Json, path: str) -> Tool:
    tool = as_object(value, path)
    if tool.get("type") == "custom" and isinstance(tool.get("custom"), dict):
        return read_custom_tool(tool, path)
    if tool.get("type", "function") != "function":
        return opaque_of(tool, path)
    function = as_object(tool.get("function"), f"{path}.function")
    cache, extras = read_cache(tool, _FUNCTION_TOOL)
    if rest := left_in(function, frozenset({"name", "description", "parameters", "strict"})):
        extras["function"] = rest
    return FunctionTool(
        as_text(function.get("name"), f"{path}.function.name"),
        maybe(as_text, function, "description", f"{path}.function"),
        function.get("parameters"),
        maybe(as_bool, function, "strict", f"{path}.function"),
        cache,
        extras or NO_EXTRAS,
        path,
    )


def _read_tool_choice(value: Json, tools: tuple[Tool, ...]) -> tuple[ToolChoice | None, Object]:
    """The choice, or what only this dialect knows, whole. `any` is Mistral's `required`. Some clients spell a choice as
    Anthropic's or as the Responses API."""
    match value:
        case None:
            return None, {}
        case "auto" | "none" | "required" as mode:
            return ToolChoice(mode), {}
        case {"type": "auto" | "none" | "required" as mode}:
            return ToolChoice(mode), {}
        case "any" | {"type": "any"}:
            return ToolChoice("required"), {}
        case {"type": "function", "function": {"name": str(name)}} | {"type": "function" | "tool", "name": str(name)}:
            return ToolChoice("tool", name), {}
        # As Hugging Face's clients spell it, some of them with a null for the type.
        case {"function": {"name": str(name)}, **rest} if rest in ({}, {"type": None}):
            return ToolChoice("tool", name), {}
        case {"type": "custom", "custom": {"name": str(name)}} if is_custom(name, tools):
            return ToolChoice("tool", name), {}
        case {"type": "allowed_tools", "allowed_tools": {"mode": "auto" | "required" as mode, "tools": list(_)}}:
            return AllowedTools(mode, value=value, tools=tools), {}
        case {"type": "allowed_tools" | "custom"}:
            return None, {"tool_choice": value}
        case str():
            raise BadRequest(
                f"tool_choice is {value!r}; it must be none, auto, required or an object that names a function",
                param="tool_choice",
            )
        case _:
            raise BadRequest(
                'tool_choice must be a string or {"type": "function", "function": {"name": …}}', param="tool_choice"
            )


def _read_stop(value: Json) -> tuple[str, ...]:
    if value is None:
        return ()
    if isinstance(value, str):
        return (value,) if value else ()
    if not isinstance(value, list):
        raise wrong("stop", "a string or a list of strings", value)
    texts = (as_text(stop, f"stop[{number}]") for number, stop in enumerate(value))
    return tuple(text for text in texts if text)  # an empty text ends no reply


def _read_format(value: Json) -> tuple[ResponseFormat | None, Object]:
    if value is None:
        return None, {}
    response_format = as_object(value, "response_format")
    kind = as_text(response_format.get("type"), "response_format.type")
    rest = left_in(response_format, frozenset({"type", "json_schema"}))
    match kind:
        case "text" | "json_object":
            return ResponseFormat(kind), {"response_format": rest} if rest else {}
        case "json_schema":
            path = "response_format.json_schema"
            inner = as_object(response_format.get("json_schema"), path)
            if inner_rest := left_in(inner, frozenset({"schema", "name", "description", "strict"})):
                rest["json_schema"] = inner_rest
            read = ResponseFormat(
                kind,
                inner.get("schema"),
                maybe(as_text, inner, "name", path),
                maybe(as_text, inner, "description", path),
                maybe(as_bool, inner, "strict", path),
            )
            return read, {"response_format": rest} if rest else {}
        case _:
            raise BadRequest(
                f"response_format.type is {kind!r}; it must be text, json_object or json_schema",
                param="response_format.type",
            )


def _read_reasoning(body: Object) -> tuple[Reasoning | None, Object]:
    """Three spellings: OpenAI's reasoning_effort; `reasoning` of OpenRouter and others; `thinking` of DeepSeek, Z.AI
    and others. Where two of them give the same setting, that of `reasoning` is read, and the other stays in the
    extras."""
    effort = maybe(as_text, body, "reasoning_effort")
    extras: Object = {}
    reasoning, thinking = body.get("reasoning"), body.get("thinking")
    if isinstance(reasoning, dict):
        if effort is not None and reasoning.get("effort") is not None:
            extras["reasoning_effort"] = effort
        if thinking is not None:
            extras["thinking"] = thinking
        switch = maybe(as_bool, reasoning, "enabled", "reasoning")
        level = maybe(as_text, reasoning, "effort", "reasoning")
        read = Reasoning(
            None if switch is None else "enabled" if switch else "disabled",
            level if level is not None else effort,
            maybe(as_int, reasoning, "max_tokens", "reasoning"),
            rest_of(reasoning, frozenset({"enabled", "effort", "max_tokens"})),
        )
        note = "reasoning" if level is not None or effort is None else "reasoning_effort"
        return read, {**extras, "reasoning": None, note: extras.get(note)}
    if reasoning is not None:
        extras["reasoning"] = reasoning
    match thinking:
        case None:
            pass
        case {"type": ("enabled" | "disabled" | "adaptive") as mode}:
            block = as_object(thinking, "thinking")
            budget = maybe(as_int, block, "budget_tokens", "thinking")
            return Reasoning(mode, effort, budget, rest_of(block, frozenset({"type", "budget_tokens"}))), extras
        case _:
            extras["thinking"] = thinking
    return (None if effort is None else Reasoning(effort=effort)), extras


def _read_user(body: Object) -> tuple[str | None, Object]:
    """`safety_identifier` is the newer name of `user`."""
    user, newer = maybe(as_text, body, "user"), maybe(as_text, body, "safety_identifier")
    if newer is None:
        return user, {}
    return newer, {"safety_identifier": None, **({} if user is None else {"user": user})}


def _read_limit(body: Object) -> tuple[int | None, Object]:
    """`max_completion_tokens` is the newer name and has priority. Many hosts know only `max_tokens`."""
    newer, older = maybe(as_int, body, "max_completion_tokens"), maybe(as_int, body, "max_tokens")
    if newer is None:
        return older, {} if older is None else {"max_tokens": None}
    return newer, {} if older is None else {"max_tokens": older}


def _spelled(body: Object) -> Mapping[str, str]:
    """The fields for which this caller used another name."""
    fields = {} if body.get("safety_identifier") is None else {"user": "safety_identifier"}
    if body.get("max_completion_tokens") is None:
        fields["max_output_tokens"] = "max_tokens"
    match body:
        case {"reasoning": {"effort": str()}}:
            fields |= {"reasoning": "reasoning", "reasoning.effort": "reasoning.effort"}
        case {"reasoning": dict()}:
            fields["reasoning"] = "reasoning"
        case {"thinking": dict()}:
            fields |= {"reasoning": "thinking", "reasoning.budget_tokens": "thinking.budget_tokens"}
    return fields


def read_chat(call: Call) -> Chat:
    try:
        body = as_object(msgspec.json.decode(call.raw), "the body")
    except UNREADABLE:
        raise why_no_call(call.raw) from None
    messages = as_list(body.get("messages"), "messages")
    options = maybe(as_object, body, "stream_options") or {}
    tools = maybe(as_list, body, "tools") or []
    limit, limit_rest = _read_limit(body)
    read_tools = tuple(_read_tool(tool, f"tools[{number}]") for number, tool in enumerate(tools))
    choice, choice_rest = _read_tool_choice(body.get("tool_choice"), read_tools)
    parallel, known, spelled = maybe(as_bool, body, "parallel_tool_calls"), _CHAT, _spelled(body)
    if is_older(body):
        functions = as_list(body.get("functions"), "functions")
        read_tools = tuple(read_function(each, f"functions[{number}]") for number, each in enumerate(functions))
        choice = read_function_choice(body.get("function_call")) or choice
        parallel, known, spelled = False, _CHAT | NAMES, {**spelled, **SPELLED}
    offered = read_tools
    match body.get("tool_choice"):
        case {"allowed_tools": {"tools": list(allowed)}} if isinstance(choice, AllowedTools):
            offered = allowed_tools(read_tools, allowed)
    response_format, format_rest = _read_format(body.get("response_format"))
    reasoning, reasoning_rest = _read_reasoning(body)
    user, user_rest = _read_user(body)
    extras = {**left_in(body, known), **limit_rest, **choice_rest, **format_rest, **reasoning_rest, **user_rest}
    if options_rest := left_in(options, frozenset({"include_usage"})):
        extras["stream_options"] = options_rest
    return Chat(
        dialect=NAME,
        model=call.model,
        messages=_read_messages(messages),
        stream=call.stream,
        include_usage=bool(maybe(as_bool, options, "include_usage", "stream_options")),
        tools=offered,
        tool_choice=choice,
        parallel_tool_calls=parallel,
        max_output_tokens=limit,
        **SCALARS.read(body),
        stop=_read_stop(body.get("stop")),
        response_format=response_format,
        reasoning=reasoning,
        user=user,
        metadata=maybe(as_object, body, "metadata"),
        extras=extras or NO_EXTRAS,
        spelling=SPELLING.but(spelled),
    )
