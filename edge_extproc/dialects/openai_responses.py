"""OpenAI's Responses API, both directions: what its callers send and read, and what its hosts take and give.

The file is in the order of a call: the cheap view and the raw lane; reading a request; writing one; whole replies;
reading a stream; writing one; errors and models. What becomes of each field of a chat is told by `FIELDS`. It knows
nothing of hosts, keys, routing or Envoy.

A request's and a reply's content is a flat list of *items* here, where other formats have turns with parts. Items of
the assistant that stand together are one turn of ours; a part keeps in its `extras` what makes it an item again.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Literal, assert_never

import msgspec

from ..codecs import json_splice, sse
from ..codecs.frame import Frame
from ..codecs.json_values import (
    UNREADABLE,
    TokenCounts,
    as_object,
    as_text,
    decode_reply,
    encode,
    kind_name,
    maybe_bool,
    maybe_int,
    maybe_list,
    maybe_number,
    maybe_object,
    maybe_text,
    object_in,
    objects,
    read_body,
    rest_of,
    text_of,
)
from ..errors import BadRequest, Unsupported, UpstreamError
from ..model.call import Call, Chat, FunctionTool, Operation, Reasoning, ResponseFormat, Tool, ToolChoice, Written
from ..model.content import (
    NO_EXTRAS,
    Audio,
    Document,
    Extras,
    FileRef,
    Image,
    Inline,
    Json,
    Message,
    Opaque,
    Part,
    RedactedThinking,
    Refusal,
    Role,
    Source,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
    Url,
)
from ..model.fault import Fault, FaultKind
from ..model.host import UNKNOWN_HOST, HostProfile, Thoughts
from ..model.noun import noun
from ..model.reply import (
    Choice,
    Ended,
    Failed,
    Finish,
    Finished,
    FinishReason,
    Garbled,
    Noted,
    PartDelta,
    PartEnded,
    PartNoted,
    PartSigned,
    PartStarted,
    Ping,
    Reply,
    ReplyEvent,
    ReplyStarted,
    UsageSeen,
    merged,
)
from ..model.usage import Usage, cached_twice
from .base import FieldSupport, Headers, ModelCard, Route, made_id
from .carried import MARK, REDACTED, original_id, seal, unseal
from .dropping import DropList, omission
from .history import array
from .openai_chat import PLUGIN as CHAT
from .openai_chat import SAMPLING, effort_for, efforts_of, is_sampled, is_too_long, is_unsigned

NAME = "openai_responses"
TITLE = "OpenAI Responses"

Item = dict[str, Json]
"""A JSON object of the wire."""


FIELDS: Mapping[str, FieldSupport] = MappingProxyType(
    {
        "dialect": FieldSupport("mapped", "not sent; it says how to name what is dropped"),
        "model": FieldSupport("mapped", "model: the name under which the chosen host knows it"),
        "messages": FieldSupport(
            "mapped",
            "a system turn of one text at the head → instructions; every other turn → items in order; tool calls and "
            "results → function_call and function_call_output; thinking, signatures, cache marks, names are dropped; "
            "audio, uploaded files and parts that only another format knows are refused",
        ),
        "stream": FieldSupport("mapped", "stream"),
        "include_usage": FieldSupport("mapped", "not sent: a stream of this format always tells its usage"),
        "tools": FieldSupport(
            "mapped", "functions in the flat shape, strict made explicit; a tool that is no function is refused"
        ),
        "tool_choice": FieldSupport("mapped", "auto, required, none, a function; dropped without tools"),
        "parallel_tool_calls": FieldSupport("mapped", "parallel_tool_calls; dropped without tools"),
        "max_output_tokens": FieldSupport("mapped", "max_output_tokens"),
        "temperature": FieldSupport("mapped", "dropped for reasoning models of OpenAI that refuse it"),
        "top_p": FieldSupport("mapped", "dropped for reasoning models of OpenAI that refuse it"),
        "top_k": FieldSupport("dropped", ""),
        "stop": FieldSupport("refused", "the API cannot stop at a sequence"),
        "n": FieldSupport("refused", "more than one answer"),
        "seed": FieldSupport("dropped", ""),
        "presence_penalty": FieldSupport("dropped", "0 says nothing and is left out"),
        "frequency_penalty": FieldSupport("dropped", "0 says nothing and is left out"),
        "logprobs": FieldSupport("refused", "the answer tells them in a shape that no other format has"),
        "top_logprobs": FieldSupport("refused", "like logprobs"),
        "response_format": FieldSupport("mapped", "text.format"),
        "reasoning": FieldSupport(
            "mapped",
            "reasoning.effort: the nearest level that the model has; a budget of tokens becomes the level with the "
            "greatest budget not above it; dropped for models that do not think, or cannot be told not to",
        ),
        "service_tier": FieldSupport("mapped", "what the API has; standard_only → default; others are dropped"),
        "user": FieldSupport(
            "mapped",
            "user, or safety_identifier where it came as that; dropped where it is longer than the host takes",
        ),
        "metadata": FieldSupport("mapped", "metadata, where the values are strings; others are dropped"),
        "extras": FieldSupport(
            "dropped",
            "but of OpenAI chat: store, prompt_cache_key and prompt_cache_retention are mapped as they are, verbosity "
            "→ text.verbosity, tool_choice of allowed tools → the same; audio output, web search and the old functions "
            "are refused; store is false where the caller did not ask for it, since other APIs keep nothing",
        ),
        "needed": FieldSupport("refused", "whatever it names"),
    }
)

# Extras of OpenAI's chat format that have the same name and meaning here.
_SHARED_EXTRAS = frozenset({"store", "prompt_cache_key", "prompt_cache_retention"})
# Extras of other dialects whose absence would change what the caller gets.
_REFUSED_EXTRAS = frozenset({"audio", "functions", "function_call", "modalities", "web_search_options"})
# Fields of ours that only OpenAI can honour, since what they name lies there.
_NEEDED = ("previous_response_id", "conversation", "prompt", "background")

# --- JSON


# --- the cheap view


class _Probe(msgspec.Struct):
    model: str
    stream: bool | None = None
    max_output_tokens: int | None = None


_probe = msgspec.json.Decoder(_Probe)


def _why_no_call(raw: bytes) -> BadRequest:
    """What is wrong with a body that the probe refused."""
    try:
        body = read_body(raw)
        if "model" not in body:
            return BadRequest("model is missing: name the model that shall answer", param="model")
        as_text(body["model"], "model")
        maybe_bool(body.get("stream"), "stream")
        maybe_int(body.get("max_output_tokens"), "max_output_tokens")
    except BadRequest as exc:
        return exc
    return BadRequest("the body cannot be read")


# --- reading a request: items

# Notes: a field without a value says something to a writer of this dialect, and no other takes it for a field.
_INSTRUCTIONS: Extras = MappingProxyType({"instructions": None})
"""A system turn that came as `instructions`, not as an item."""
_WHOLE_ITEM: Extras = MappingProxyType({"item": None})
"""A turn whose Opaque part is a whole item of the input, not a part of an item's content."""

# How a Thinking of another provider travels in an item that a caller sends back: in its encrypted_content, which bears
# a mark of ours (carried.py) whether there is a signature or not. An item that was made before made items all bore the
# mark has an id of this shape (OpenAI's are longer), and no more than these fields.
_MADE_REASONING_ID = re.compile(r"rs_[0-9a-f]{32}")
_MADE_REASONING = frozenset({"id", "type", "summary"})

_ROLES: Mapping[str, Role] = MappingProxyType(
    {"user": "user", "assistant": "assistant", "system": "system", "developer": "developer"}
)
_MESSAGE = frozenset({"type", "role", "content"})
_INPUT_TEXT = frozenset({"type", "text"})
_INPUT_IMAGE = frozenset({"type", "image_url", "file_id", "detail"})
_INPUT_FILE = frozenset({"type", "file_data", "file_url", "file_id", "filename"})
_REFUSAL = frozenset({"type", "refusal"})
_CALL = frozenset({"type", "call_id", "name", "arguments"})
_RESULT = frozenset({"type", "call_id", "output"})
_TYPE = frozenset({"type"})
_DATA_URI = re.compile(r"data:([^;,]*)(?:;[^,;]*)*;base64,", re.IGNORECASE)
# What the caller adds to the input besides messages and results of functions; any other item was said by the model.
_BY_CALLER = re.compile(r".*_output|mcp_approval_response|additional_tools|compaction_trigger|configuration_update")
# Items that stand for something that lies with OpenAI, or that only OpenAI can read.
_BOUND_ITEMS = frozenset({"item_reference", "compaction"})


def _inline(uri: str, path: str, default: str) -> Inline:
    match = _DATA_URI.match(uri)
    if match is None:
        raise BadRequest(f"{path} is no data URI of base64", param=path)
    return Inline(match[1] or default, uri[match.end() :])


def _read_image(part: Item, path: str) -> Part:
    detail = maybe_text(part.get("detail"), f"{path}.detail")
    url = maybe_text(part.get("image_url"), f"{path}.image_url")
    source: Source
    if url is not None and url[:5].lower() == "data:":
        source = _inline(url, f"{path}.image_url", "image/png")
    elif url is not None:
        source = Url(url)
    else:
        source = FileRef(as_text(part.get("file_id"), f"{path}.file_id"))
    return Image(source, detail, extras=rest_of(part, _INPUT_IMAGE))


def _read_file(part: Item, path: str) -> Part:
    """`file_data` is a data URI; some send bare base64, which then is a PDF as far as the API says."""
    data = maybe_text(part.get("file_data"), f"{path}.file_data")
    url = maybe_text(part.get("file_url"), f"{path}.file_url")
    source: Source
    if data is not None:
        is_uri = data[:5].lower() == "data:"
        source = _inline(data, f"{path}.file_data", "application/pdf") if is_uri else Inline("application/pdf", data)
    elif url is not None:
        source = Url(url)
    else:
        source = FileRef(as_text(part.get("file_id"), f"{path}.file_id"))
    return Document(source, maybe_text(part.get("filename"), f"{path}.filename"), extras=rest_of(part, _INPUT_FILE))


def _read_text(part: Item, path: str) -> Part:
    return Text(as_text(part.get("text"), f"{path}.text"), extras=rest_of(part, _INPUT_TEXT))


def _read_refusal(part: Item, path: str) -> Part:
    return Refusal(as_text(part.get("refusal"), f"{path}.refusal"), extras=rest_of(part, _REFUSAL))


def _opaque(item: Item, path: str) -> Opaque:
    return Opaque(NAME, as_text(item.get("type"), f"{path}.type"), item)


_READ_CONTENT: Mapping[str, Callable[[Item, str], Part]] = MappingProxyType(
    {
        "input_text": _read_text,
        "output_text": _read_text,
        "text": _read_text,
        "input_image": _read_image,
        "input_file": _read_file,
        "refusal": _read_refusal,
    }
)


def _read_content(value: Json, path: str) -> tuple[Part, ...]:
    if isinstance(value, str):
        return (Text(value),)
    if not isinstance(value, list):
        raise BadRequest(f"{path} must be a string or a list of parts, not {kind_name(value)}", param=path)
    return tuple(
        _READ_CONTENT.get(as_text(part.get("type"), f"{where}.type"), _opaque)(part, where)
        for part, where in objects(value, path)
    )


def _read_said(item: Item, path: str) -> tuple[Part, ...] | None:
    """The parts of a message item of the assistant, each with the item's own fields; None where the item has no
    content, or content that we do not know, and so must stay whole."""
    parts = _read_content(item.get("content"), f"{path}.content")
    if not parts or not all(isinstance(part, Text | Refusal) for part in parts):
        return None
    own = rest_of(item, _MESSAGE)
    return tuple(_with_extras(part, {**part.extras, "item": own}) if own else part for part in _sayable(parts))


def _sayable(parts: Iterable[Part]) -> Iterator[Text | Refusal]:
    return (part for part in parts if isinstance(part, Text | Refusal))


def _with_extras(part: Text | Refusal, extras: Extras) -> Text | Refusal:
    return Text(part.text, extras=extras) if isinstance(part, Text) else Refusal(part.text, extras)


def _thoughts(item: Item) -> Iterator[tuple[str, int, str]]:
    """The readable texts of a reasoning item: which list, where in it, the text."""
    for key in ("summary", "content"):
        texts = item.get(key)
        for i, each in enumerate(texts if isinstance(texts, list) else ()):
            text = each.get("text") if isinstance(each, dict) else None
            if isinstance(text, str) and text:
                yield key, i, text


_BETWEEN_THOUGHTS = "\n\n"


def _read_reasoning_item(item: Item) -> Part:
    text = _BETWEEN_THOUGHTS.join(text for _, _, text in _thoughts(item))
    carried = item.get("encrypted_content")
    if isinstance(carried, str) and carried.startswith(MARK):
        if carried.startswith(REDACTED):
            return RedactedThinking(carried.removeprefix(REDACTED))
        return Thinking(text, unseal(carried))
    if _is_made(item):
        return Thinking(text)
    return Thinking(text, extras=rest_of(item, _TYPE))


def _is_made(item: Mapping[str, Json]) -> bool:
    """Whether a reasoning item is one that this gateway made for another provider's thinking."""
    sealed, id = item.get("encrypted_content"), item.get("id")
    if sealed:
        return isinstance(sealed, str) and sealed.startswith(MARK)
    told = {key for key, value in item.items() if value is not None}
    return isinstance(id, str) and _MADE_REASONING_ID.fullmatch(id) is not None and told <= _MADE_REASONING


def _read_call_item(item: Item, path: str) -> ToolCall:
    return ToolCall(
        original_id(as_text(item.get("call_id"), f"{path}.call_id")),
        as_text(item.get("name"), f"{path}.name"),
        as_text(item.get("arguments"), f"{path}.arguments"),
        extras=rest_of(item, _CALL),
    )


@dataclass(slots=True)
class _Input:
    """The items of the input on their way into turns.

    What the assistant said in a row is one turn: its calls belong together, and its thinking belongs to what it thought
    about. A second message or a new thought after a message begins a turn of its own, unless calls wait for results.
    """

    messages: list[Message] = field(default_factory=list)
    needed: list[str] = field(default_factory=list)
    said: list[Part] = field(default_factory=list)
    has_text: bool = False
    has_call: bool = False

    def close(self) -> None:
        if self.said:
            self.messages.append(Message("assistant", tuple(self.said)))
        self.said, self.has_text, self.has_call = [], False, False

    def _say(self, parts: Iterable[Part]) -> None:
        if self.has_text and not self.has_call:
            self.close()
        self.said.extend(parts)

    def add(self, item: Item, path: str) -> None:
        kind = item.get("type")
        if kind is None:
            kind = "message" if "role" in item else "item_reference"
        match kind:
            case "message":
                self._message(item, path)
            case "reasoning":
                self._say((_read_reasoning_item(item),))
            case "function_call":
                self.said.append(_read_call_item(item, path))
                self.has_call = True
            case "function_call_output":
                self.close()
                result = ToolResult(
                    original_id(as_text(item.get("call_id"), f"{path}.call_id")),
                    _read_content(item.get("output"), f"{path}.output"),
                    extras=rest_of(item, _RESULT),
                )
                self.messages.append(Message("tool", (result,)))
            case _:
                self._whole(item, as_text(kind, f"{path}.type"), path)

    def _message(self, item: Item, path: str) -> None:
        role = _ROLES.get(as_text(item.get("role"), f"{path}.role"))
        if role is None:
            raise BadRequest(
                f"{path}.role is {item['role']!r}; it must be one of {', '.join(_ROLES)}", param=f"{path}.role"
            )
        if role != "assistant":
            self.close()
            parts = _read_content(item.get("content"), f"{path}.content")
            self.messages.append(Message(role, parts, extras=rest_of(item, _MESSAGE)))
        elif (said := _read_said(item, path)) is not None:
            self._say(said)
            self.has_text = True
        else:
            self._say((Opaque(NAME, "message", item),))

    def _whole(self, item: Item, kind: str, path: str) -> None:
        if kind in _BOUND_ITEMS:
            self.needed.append(path)
        part = Opaque(NAME, kind, item)
        if _BY_CALLER.fullmatch(kind):
            self.close()
            self.messages.append(Message("user", (part,), extras=_WHOLE_ITEM))
        else:
            self.said.append(part)


def _read_input(value: Json) -> _Input:
    turns = _Input()
    if isinstance(value, str):
        turns.messages.append(Message("user", (Text(value),)))
    elif value is not None:
        for item, path in objects(value, "input"):
            turns.add(item, path)
        turns.close()
    return turns


# --- reading a request: the rest

_TOOL = frozenset({"type", "name", "description", "parameters", "strict"})
_LOGPROBS = "message.output_text.logprobs"
_CHAT = frozenset(
    {
        "model",
        "input",
        "instructions",
        "include",
        "max_output_tokens",
        "metadata",
        "parallel_tool_calls",
        "reasoning",
        "service_tier",
        "stream",
        "temperature",
        "text",
        "tool_choice",
        "tools",
        "top_logprobs",
        "top_p",
        "user",
        "safety_identifier",
    }
)


@noun
class _OwnChoice(ToolChoice):
    """A tool choice that only this dialect can say, beside the nearest thing that all can: where only some tools are
    allowed, another dialect is offered just these. `value` and `tools` are what the caller sent."""

    value: Json = None
    tools: tuple[Tool, ...] = ()


def _read_tool(tool: Item, path: str) -> Tool:
    if tool.get("type") != "function":
        return _opaque(tool, path)
    return FunctionTool(
        as_text(tool.get("name"), f"{path}.name"),
        maybe_text(tool.get("description"), f"{path}.description"),
        tool.get("parameters"),
        maybe_bool(tool.get("strict"), f"{path}.strict"),
        extras=rest_of(tool, _TOOL),
    )


def _is_allowed(tool: Tool, allowed: Sequence[Item]) -> bool:
    """Functions and custom tools are allowed by name, MCP servers by their label, the others by their type."""
    if isinstance(tool, FunctionTool):
        return any(a.get("type") == "function" and a.get("name") == tool.name for a in allowed)
    value = tool.value if isinstance(tool.value, dict) else {}
    return any(
        a.get("type") == tool.kind and all(a.get(k, value.get(k)) == value.get(k) for k in ("name", "server_label"))
        for a in allowed
    )


def _read_tool_choice(value: Json, tools: tuple[Tool, ...]) -> tuple[ToolChoice | None, tuple[Tool, ...]]:
    """The choice, and the tools that another dialect may offer."""
    match value:
        case None:
            return None, tools
        case "auto" | "required" | "none":
            return ToolChoice(value), tools
        case {"type": "function", "name": str(name)}:
            return ToolChoice("tool", name), tools
        case {"type": "allowed_tools", "mode": "auto" | "required" as mode, "tools": list(offered)}:
            allowed = [tool for tool, _ in objects(offered, "tool_choice.tools")]
            return _OwnChoice(mode, value=value, tools=tools), tuple(t for t in tools if _is_allowed(t, allowed))
        case {"type": str(kind)} if kind not in ("function", "allowed_tools"):
            return _OwnChoice("tool", kind, value, tools), tools
        case _:
            raise BadRequest(
                f"tool_choice is {value!r}; it must be auto, required, none, or name a tool", param="tool_choice"
            )


_FORMAT = frozenset({"type", "name", "schema", "description", "strict"})


def _read_format(value: Json) -> ResponseFormat | None:
    """None for a format that we do not know, which then stays with the rest of `text`."""
    match value:
        case {"type": "text" | "json_object" as kind, **rest} if not rest:
            return ResponseFormat(kind)
        case dict() if value.get("type") == "json_schema" and value.keys() <= _FORMAT:
            where = "text.format"
            schema = as_object(value.get("schema"), f"{where}.schema")
            return ResponseFormat(
                "json_schema",
                schema,
                maybe_text(value.get("name"), f"{where}.name"),
                maybe_text(value.get("description"), f"{where}.description"),
                maybe_bool(value.get("strict"), f"{where}.strict"),
            )
        case _:
            return None


def _read_reasoning(value: Json) -> Reasoning | None:
    if value is None:
        return None
    config = as_object(value, "reasoning")
    effort = maybe_text(config.get("effort"), "reasoning.effort")
    extras = rest_of(config, frozenset({"effort"}))
    return Reasoning(effort=effort, extras=extras) if effort is not None or extras else None


def _read_user(body: Item) -> tuple[str | None, Extras]:
    """`safety_identifier` is the newer name of what `user` was; a note says which one it came as."""
    user = maybe_text(body.get("user"), "user")
    newer = maybe_text(body.get("safety_identifier"), "safety_identifier")
    if newer is None:
        return user, NO_EXTRAS
    return newer, {"safety_identifier": None, **({} if user is None else {"user": user})}


def _read_chat(call: Call) -> Chat:
    body = read_body(call.raw)
    turns = _read_input(body.get("input"))
    instructions = maybe_text(body.get("instructions"), "instructions")
    if instructions is not None:
        turns.messages.insert(0, Message("system", (Text(instructions),), extras=_INSTRUCTIONS))
    tools = () if body.get("tools") is None else tuple(_read_tool(t, p) for t, p in objects(body["tools"], "tools"))
    choice, tools = _read_tool_choice(body.get("tool_choice"), tools)
    text = dict(maybe_object(body.get("text"), "text") or {})
    response_format = _read_format(text.get("format"))
    if response_format is not None:
        del text["format"]
    include = maybe_list(body.get("include"), "include") or []
    user, user_rest = _read_user(body)
    extras = {
        **rest_of(body, _CHAT),
        **user_rest,
        **({"include": include} if include else {}),
        **({"text": text_rest} if (text_rest := rest_of(text, frozenset())) else {}),
    }
    return Chat(
        dialect=NAME,
        model=call.model,
        messages=tuple(turns.messages),
        stream=call.stream,
        include_usage=call.stream,
        tools=tools,
        tool_choice=choice,
        parallel_tool_calls=maybe_bool(body.get("parallel_tool_calls"), "parallel_tool_calls"),
        max_output_tokens=maybe_int(body.get("max_output_tokens"), "max_output_tokens"),
        temperature=maybe_number(body.get("temperature"), "temperature"),
        top_p=maybe_number(body.get("top_p"), "top_p"),
        logprobs=True if _LOGPROBS in include else None,
        top_logprobs=maybe_int(body.get("top_logprobs"), "top_logprobs"),
        response_format=response_format,
        reasoning=_read_reasoning(body.get("reasoning")),
        service_tier=maybe_text(body.get("service_tier"), "service_tier"),
        user=user,
        metadata=maybe_object(body.get("metadata"), "metadata"),
        extras=extras or NO_EXTRAS,
        needed=(
            *(name for name in _NEEDED if extras.get(name)),
            *turns.needed,
            *(["include"] if _LOGPROBS in include else []),  # no other format tells them as this one does
        ),
    )


# --- writing a request

_CALL_ID_LIMIT = 64  # OpenAI's API reference: call_id
_IMAGES = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp"})
_PDF = "application/pdf"
_NO_PARAMETERS: Mapping[str, Json] = MappingProxyType({"type": "object", "properties": {}})
_SERVICE_TIERS: Mapping[str, str] = MappingProxyType(
    {"standard_only": "default", **{tier: tier for tier in ("auto", "default", "flex", "scale", "priority")}}
)
# The effort that a budget of thinking tokens stands for: 1024 is the least that Anthropic takes, and each level doubles
# the one before.
_BUDGETS: tuple[tuple[int, str], ...] = (
    (16_384, "max"),
    (8_192, "xhigh"),
    (4_096, "high"),
    (2_048, "medium"),
    (0, "low"),
)
# What a cache mark is called wherever callers can set one.
_CACHE = "cache_control"
# How another dialect's callers spell a field of a Chat, where it is not OpenAI's way.
_SPELLINGS: Mapping[tuple[str, str], str] = MappingProxyType(
    {
        ("openai_chat", "reasoning"): "reasoning_effort",
        ("anthropic_messages", "stop"): "stop_sequences",
        ("anthropic_messages", "reasoning"): "thinking",
        ("anthropic_messages", "user"): "metadata.user_id",
        ("anthropic_messages", "response_format"): "output_config.format",
    }
)


# Hosts that want unsigned thinking of the history back.
_WANTED: frozenset[Thoughts] = frozenset({"reasoning_content", "reasoning_details"})
_MADE_AGAIN = frozenset({"id", "summary", "content", "status"})


def _unsigned_item(text: str) -> Item:
    return {"type": "reasoning", "summary": [], "content": [{"type": "reasoning_text", "text": text}]}


def _call_id(id: str) -> str:
    """An id that OpenAI takes: the same for the same id, in a call and in its result."""
    if len(id) <= _CALL_ID_LIMIT:
        return id
    return f"call_{hashlib.sha256(id.encode('utf-8', 'surrogatepass')).hexdigest()[:32]}"


def _data_uri(source: Inline) -> str:
    return f"data:{source.media_type};base64,{source.data}"


class _Request(DropList):
    """One chat on its way into this format: all of it where it is of this dialect, else what of it can be said.
    `dropped` grows as it is written."""

    def __init__(self, chat: Chat, model: str, host: HostProfile = UNKNOWN_HOST) -> None:
        super().__init__()
        self.chat = chat
        self.model = model
        self.host = host
        self.is_own = chat.dialect == NAME

    def body(self) -> Item:
        chat = self.chat
        self._refuse()
        instructions, items = self._input()
        body: Item = {"model": self.model}
        if instructions is not None:
            body["instructions"] = instructions
        body["input"] = items
        self._tools(body)
        text: Item = {}
        if chat.response_format is not None:
            if chat.response_format.kind == "json_schema" and not self.is_own:
                as_object(chat.response_format.schema, self._spelled("response_format"))
            text["format"] = _format(chat.response_format)
        for name in ("max_output_tokens", "temperature", "top_p", "top_logprobs"):
            if (value := getattr(chat, name)) is not None:
                body[name] = value
        user = "safety_identifier" if "safety_identifier" in chat.extras else "user"
        if is_too_long(chat.user, self.host):
            self.dropped.add(user if user != "user" else self._spelled("user"))
        elif chat.user is not None:
            body[user] = chat.user
        self._reasoning(body)
        self._sampling(body)
        if chat.stream:
            body["stream"] = True
        if self.is_own:
            self._own_rest(body, text)
        else:
            self._foreign_rest(body, text)
        if text:
            body["text"] = text
        return body

    # what cannot cross

    def _spelled(self, name: str) -> str:
        return _SPELLINGS.get((self.chat.dialect, name), name)

    def _refuse(self) -> None:
        chat = self.chat
        if chat.stop:
            raise Unsupported(self._spelled("stop"), TITLE, "it cannot stop at a sequence")
        if chat.n is not None and chat.n != 1:
            raise Unsupported("n", TITLE, "it gives one answer")
        if self.is_own:
            return
        for name in ("logprobs", "top_logprobs"):
            if getattr(chat, name):
                raise Unsupported(name, TITLE, "its answer tells them in another shape")
        for name in chat.needed:
            raise Unsupported(name, TITLE, "only a provider of the caller's own format can honour it")
        for name, value in chat.extras.items():
            if name in _REFUSED_EXTRAS and value is not None and value != ["text"]:
                raise Unsupported(name, TITLE)

    # fields

    def _own_rest(self, body: Item, text: Item) -> None:
        chat = self.chat
        if chat.service_tier is not None:
            body["service_tier"] = chat.service_tier
        if chat.metadata is not None:
            body["metadata"] = dict(chat.metadata)
        for name, value in chat.extras.items():
            if name == "text" and isinstance(value, Mapping):
                text.update(value)
            elif value is not None:
                body[name] = value

    def _foreign_rest(self, body: Item, text: Item) -> None:
        """The API keeps every answer unless told not to, and no other API does: a caller of theirs did not ask."""
        chat = self.chat
        body["store"] = False
        for name, value in chat.extras.items():
            if name == "verbosity" and isinstance(value, str):
                text["verbosity"] = value
            elif name in _SHARED_EXTRAS and value is not None:
                body[name] = value
            elif name == "tool_choice" and (allowed := _allowed_choice(value)) is not None:
                body[name] = allowed
            else:
                self._drop_if(name, value is not None)
        if chat.service_tier is not None:
            tier = _SERVICE_TIERS.get(chat.service_tier)
            self._drop_if("service_tier", tier is None)
            if tier is not None:
                body["service_tier"] = tier
        if chat.metadata:
            told = {key: value for key, value in chat.metadata.items() if isinstance(value, str)}
            self._drop_if("metadata", len(told) < len(chat.metadata))
            body["metadata"] = told
        for name in ("top_k", "seed"):
            self._drop_if(name, getattr(chat, name) is not None)
        for name in ("presence_penalty", "frequency_penalty"):
            self._drop_if(name, getattr(chat, name))

    def _reasoning(self, body: Item) -> None:
        wanted = self.chat.reasoning
        if wanted is None:
            return
        if self.is_own:
            effort = {"effort": wanted.effort} if wanted.effort is not None else {}
            body["reasoning"] = {**effort, **wanted.extras}
            return
        level: str | None = None
        if wanted.effort:
            level = wanted.effort if wanted.effort != "default" else None  # Groq's word for not saying
        elif wanted.mode == "disabled":
            level = "none"
        elif wanted.budget_tokens is not None:
            level = next(level for least, level in _BUDGETS if max(wanted.budget_tokens, 0) >= least)
        elif wanted.mode == "enabled":
            level = "medium"
        reached = None if level is None else effort_for(self.model, level)
        if reached is not None:
            body["reasoning"] = {"effort": reached}
        # Off is what a model is anyway that cannot think, or that has no such level.
        is_moot = level is None or (level == "none" and not efforts_of(self.model))
        self._drop_if(self._spelled("reasoning"), reached is None and not is_moot)
        self._drop_extras(wanted.extras, self._spelled("reasoning"))

    def _sampling(self, body: Item) -> None:
        """What the model takes; 1 is what temperature and top_p are anyway."""
        effort = maybe_object(body.get("reasoning"), "reasoning")
        if self.is_own or is_sampled(self.model, maybe_text((effort or {}).get("effort"), "reasoning.effort")):
            return
        for name in SAMPLING:
            if (value := body.pop(name, None)) is not None:
                self._drop_if(name, value != 1 or name not in ("temperature", "top_p"))

    # tools

    def _tools(self, body: Item) -> None:
        chat, choice = self.chat, self.chat.tool_choice
        tools = choice.tools if isinstance(choice, _OwnChoice) else chat.tools
        if tools:
            body["tools"] = [self._tool(tool, f"tools[{i}]") for i, tool in enumerate(tools)]
        has_tools = bool(tools) or self.is_own
        self._drop_if("tool_choice", choice is not None and choice.mode not in ("auto", "none") and not has_tools)
        self._drop_if("parallel_tool_calls", chat.parallel_tool_calls is not None and not has_tools)
        if choice is not None and has_tools:
            body["tool_choice"] = _choice(choice)
        if chat.parallel_tool_calls is not None and has_tools:
            body["parallel_tool_calls"] = chat.parallel_tool_calls

    def _tool(self, tool: Tool, path: str) -> Json:
        if isinstance(tool, Opaque):
            if self.is_own:
                return tool.value
            raise Unsupported(path, TITLE, f"it knows no tool of type {tool.kind!r}")
        written: Item = {"type": "function", "name": tool.name}
        if tool.description is not None:
            written["description"] = tool.description
        if self.is_own:
            if tool.parameters is not None:
                written["parameters"] = tool.parameters
            if tool.strict is not None:
                written["strict"] = tool.strict
            return {**written, **tool.extras}
        written["parameters"] = tool.parameters or dict(_NO_PARAMETERS)
        written["strict"] = bool(tool.strict)  # absent it is true here, and false elsewhere
        self._drop_if(f"{path}.{_CACHE}", tool.cache)
        self._drop_extras(tool.extras, path)
        return written

    # the conversation

    def _input(self) -> tuple[str | None, list[Json]]:
        """The instructions, and the items."""
        turns = list(enumerate(self.chat.messages))
        instructions: str | None = None
        if turns and (text := self._instructions(turns[0][1])) is not None:
            instructions = text
            turns = turns[1:]
        items: list[Json] = []
        for number, message in turns:
            path = self._turn_path(number)
            self._drop_if(f"{path}.name", message.name)
            if not self.is_own:
                self._drop_extras(message.extras, path)
            items.extend(self._turn(message, path))
        return instructions, items

    def _turn_path(self, number: int) -> str:
        """A turn as its caller counts it: Anthropic's system prompt is none of its messages."""
        if self.chat.dialect == "anthropic_messages" and self.chat.messages[0].role == "system":
            return f"messages[{number - 1}]" if number else "system"
        return f"messages[{number}]"

    def _instructions(self, message: Message) -> str | None:
        """The text of a turn that is sent as instructions: the one that came so, or a plain system turn that leads."""
        if message.extras == _INSTRUCTIONS or not (self.is_own or message.extras or message.name):
            match message:
                case Message("system", (Text() as text,)) if not text.extras:
                    self._drop_if(f"{self._turn_path(0)}.content[0].{_CACHE}", text.cache)
                    return text.text
        return None

    def _turn(self, message: Message, path: str) -> Iterator[Json]:
        match message.role:
            case "assistant":
                yield from self._said(message.parts, path)
            case "system" | "developer" | "user" | "tool":
                yield from self._asked(message, path)
            case _:
                assert_never(message.role)

    def _asked(self, message: Message, path: str) -> Iterator[Json]:
        """A turn of the caller: results of calls are items of their own, what stands between them is a message."""
        if message.extras == _WHOLE_ITEM:
            yield from (part.value for part in message.parts if isinstance(part, Opaque))
            return
        content: list[Json] = []
        for i, part in enumerate(message.parts):
            if not isinstance(part, ToolResult):
                content.append(self._content(part, f"{path}.content[{i}]"))
                continue
            if content:
                yield self._asking(message, content)
                content = []
            yield self._result(part, path if message.role == "tool" else f"{path}.content[{i}]")
        if content:
            yield self._asking(message, content)

    def _asking(self, message: Message, content: list[Json]) -> Item:
        return {"role": message.role, "content": _short(content), **(message.extras if self.is_own else {})}

    def _result(self, part: ToolResult, path: str) -> Item:
        self._drop_if(f"{path}.is_error", part.is_error)
        self._drop_if(f"{path}.{_CACHE}", part.cache)
        if not part.call_id:
            raise BadRequest(f"{path} does not say whose result it is: the id of the call is missing", param=path)
        content = [self._content(p, f"{path}.content[{i}]") for i, p in enumerate(part.parts)]
        call_id = part.call_id if self.is_own else _call_id(part.call_id)
        item: Item = {"type": "function_call_output", "call_id": call_id, "output": _short(content) if content else ""}
        return {**item, **self._kept(part.extras, path)}

    def _kept(self, extras: Extras, path: str) -> Extras:
        """The fields that go back where they came from, and are dropped elsewhere."""
        if self.is_own:
            return extras
        self._drop_extras(extras, path)
        return NO_EXTRAS

    def _content(self, part: Part, path: str) -> Json:
        if isinstance(part, Text | Image | Document):
            self._drop_if(f"{path}.{_CACHE}", part.cache)
        match part:
            case Text():
                return {"type": "input_text", "text": part.text, **self._kept(part.extras, path)}
            case Refusal():
                return {"type": "input_text", "text": part.text}
            case Image():
                return {**self._image(part, path), **self._kept(part.extras, path)}
            case Document():
                return {**self._file(part, path), **self._kept(part.extras, path)}
            case Audio():
                raise Unsupported(path, TITLE, "it has no audio")
            case Opaque():
                if self.is_own:
                    return part.value
                raise Unsupported(path, TITLE, f"it knows no part of type {part.kind!r}")
            case Thinking() | RedactedThinking() | ToolCall() | ToolResult():
                raise BadRequest(f"{path} is a part that only the assistant can say", param=path)
            case _:
                assert_never(part)

    def _image(self, part: Image, path: str) -> Item:
        detail = part.detail if part.detail is not None or self.is_own else "auto"
        written: Item = {"type": "input_image"} if detail is None else {"type": "input_image", "detail": detail}
        match part.source:
            case Inline(media_type, _) as source:
                if media_type.lower() == _PDF:
                    return self._file(Document(source), path)
                if not self.is_own and media_type.lower().replace("/jpg", "/jpeg") not in _IMAGES:
                    raise BadRequest(
                        f"{path} is {media_type!r}; {TITLE} takes {', '.join(sorted(_IMAGES))}", param=path
                    )
                written["image_url"] = _data_uri(source)
            case Url(url):
                written["image_url"] = url
            case FileRef(id):
                written["file_id"] = self._uploaded(id, path)
            case _:
                assert_never(part.source)
        return written

    def _file(self, part: Document, path: str) -> Item:
        written: Item = {"type": "input_file"}
        match part.source:
            case Inline() as source:
                written["file_data"] = _data_uri(source)
                if not self.is_own and part.name is None:  # the API insists on a name beside data
                    written["filename"] = "document.pdf" if source.media_type == _PDF else "document.txt"
            case Url(url):
                written["file_url"] = url
            case FileRef(id):
                written["file_id"] = self._uploaded(id, path)
            case _:
                assert_never(part.source)
        if part.name is not None and (self.is_own or isinstance(part.source, Inline)):
            written["filename"] = part.name
        self._drop_if(f"{path}.title", part.name is not None and "filename" not in written)
        return written

    def _uploaded(self, id: str, path: str) -> str:
        """OpenAI's two formats share their files; any other provider's are unknown to it."""
        if self.is_own or self.chat.dialect == "openai_chat":
            return id
        raise Unsupported(path, TITLE, "a file uploaded to another provider is unknown to it")

    def _said(self, parts: Sequence[Part], path: str) -> Iterator[Json]:
        """A turn of the assistant, item by item."""
        content = calls = 0
        message: _Said | None = None
        for part in parts:
            if isinstance(part, Text | Refusal):
                where = f"{path}.content[{content}]"
                content += 1
                self._drop_if(f"{where}.{_CACHE}", isinstance(part, Text) and part.cache)
                own = _item_of(part) if self.is_own else NO_EXTRAS
                if isinstance(part, Refusal) and not self.is_own:
                    # A refusal stands only in an item that the API itself gave out, with an id of its own.
                    part = Text(part.text, extras=part.extras)
                if message is not None and not message.takes(own):
                    yield message.asked()
                    message = None
                message = message or _Said(own)
                message.own = own or message.own
                message.add(_said_content(part, self._kept(part.extras, where)), joined=not self.is_own)
                continue
            if message is not None:
                yield message.asked()
                message = None
            if isinstance(part, ToolCall):
                yield self._call(part, f"{path}.tool_calls[{calls}]")
                calls += 1
            elif (item := self._other_said(part, path, content)) is not None:
                yield item
        if message is not None:
            yield message.asked()

    def _other_said(self, part: Part, path: str, position: int) -> Json:
        match part:
            case Thinking() | RedactedThinking():
                if self.is_own and part.extras:
                    return {"type": "reasoning", **part.extras}
                if isinstance(part, Thinking) and self.host.thoughts in _WANTED and is_unsigned(part):
                    self._drop_extras({k: v for k, v in part.extras.items() if k not in _MADE_AGAIN}, path)
                    return _unsigned_item(part.text)
                self._drop_if(
                    f"{path}.{'reasoning_content' if self.chat.dialect == 'openai_chat' else 'thinking'}", True
                )
                return None
            case Opaque():
                if self.is_own:
                    return part.value
                raise Unsupported(f"{path}.content[{position}]", TITLE, f"it knows no part of type {part.kind!r}")
            case _:
                where = f"{path}.content[{position}]"
                raise Unsupported(where, TITLE, f"an assistant cannot say a part of type {type(part).__name__.lower()}")

    def _call(self, part: ToolCall, path: str) -> Item:
        if not part.id:
            raise BadRequest(f"{path}.id is missing: the result of a call names it", param=f"{path}.id")
        self._drop_if(f"{path}.signature", part.signature)
        self._drop_if(f"{path}.{_CACHE}", part.cache)
        arguments = part.arguments if self.is_own or part.arguments.strip() else "{}"
        call_id = part.id if self.is_own else _call_id(part.id)
        item: Item = {"type": "function_call", "call_id": call_id, "name": part.name, "arguments": arguments}
        return {**item, **self._kept(part.extras, path)}


def _format(wanted: ResponseFormat) -> Item:
    if wanted.kind != "json_schema":
        return {"type": wanted.kind}
    written: Item = {"type": "json_schema", "name": wanted.name or "response", "schema": wanted.schema}
    if wanted.description is not None:
        written["description"] = wanted.description
    if wanted.strict is not None:
        written["strict"] = wanted.strict
    return written


def _choice(choice: ToolChoice) -> Json:
    if isinstance(choice, _OwnChoice):
        return choice.value
    return {"type": "function", "name": choice.name} if choice.mode == "tool" else choice.mode


def _allowed_choice(value: Json) -> Json:
    """A choice among some tools as OpenAI's chat format says it, in the flat shape; None for anything else."""
    match value:
        case {"type": "allowed_tools", "allowed_tools": {"mode": str(mode), "tools": list(tools)}}:
            named = (tool for tool, _ in objects(tools, "tool_choice.allowed_tools.tools"))
            flat = [{"type": "function", **f} if isinstance(f := t.get("function"), dict) else t for t in named]
            return {"type": "allowed_tools", "mode": mode, "tools": flat}
        case _:
            return None


def _short(content: Sequence[Json]) -> Json:
    """One plain text is written as a string, as most callers do; the API takes either."""
    match content:
        case [{"type": "input_text" | "output_text", "text": str(text), **rest}] if not rest:
            return text
        case _:
            return content


def _item_of(part: Text | Refusal) -> Extras:
    """The fields of the message item that a part came in."""
    own = part.extras.get("item")
    return own if isinstance(own, Mapping) else NO_EXTRAS


def _said_content(part: Text | Refusal, extras: Extras) -> Item:
    rest = {key: value for key, value in extras.items() if key != "item"}
    if isinstance(part, Text):
        return {"type": "output_text", "text": part.text, **rest}
    return {"type": "refusal", "refusal": part.text, **rest}


@dataclass(slots=True)
class _Said:
    """A message item of the assistant as it grows."""

    own: Extras
    content: list[Item] = field(default_factory=list)

    def takes(self, own: Extras) -> bool:
        """Whether a part with these fields of its item belongs to this one."""
        return own.get("id") == self.own.get("id")

    def add(self, content: Item, *, joined: bool) -> None:
        """`joined`: more text goes on with the text before, since only an item that the API gave out has several."""
        before = self.content[-1] if joined and self.content else None
        if before is None:
            self.content.append(content)
        else:
            before["text"] = f"{before['text']}{content['text']}"

    def asked(self) -> Item:
        """As an item of an input."""
        type_: Extras = {"type": "message"} if self.own else NO_EXTRAS
        return {**type_, "role": "assistant", "content": _short(self.content), **self.own}


# --- replies

_INCOMPLETE: Mapping[str, FinishReason] = MappingProxyType(
    {"max_output_tokens": "length", "max_tokens": "length", "content_filter": "content_filter"}
)
# What the API says of an answer that did not come to its own end. A pause is no completion either: the caller would
# have to let the model go on.
_REASONS: Mapping[FinishReason, str] = MappingProxyType(
    {
        "length": "max_output_tokens",
        "context_window": "max_output_tokens",
        "pause": "max_output_tokens",
        "content_filter": "content_filter",
        "refusal": "content_filter",
    }
)
_MALFORMED: Mapping[str, Json] = MappingProxyType(
    {"code": "server_error", "message": "the model wrote a tool call that cannot be read"}
)
_REPLY = frozenset({"id", "model", "created_at", "output", "status", "incomplete_details", "error", "usage"})
_OUTPUT_TEXT = frozenset({"type", "text"})
# What a response says of its request besides what a caller may have asked for.
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
# A tool may bear a credential of its server. The API shows none of them again, and neither do we.
_SECRET_IN_TOOL = frozenset({"headers", "authorization"})


def _echo(call: Call) -> Item:
    """What a response says of the request of `call`."""
    try:
        body = read_body(call.raw)
    except BadRequest:
        return dict(_ECHO)
    echo = {name: body[name] if body.get(name) is not None else usual for name, usual in _ECHO.items()}
    echo["store"] = False  # a response that we write was kept nowhere
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


def _read_usage(told: Item) -> Usage:
    """The counts of the prompt and of the answer hold those of their details."""
    counts = TokenCounts()
    details = object_in(told, "input_tokens_details")
    told_prompt, told_answer = counts.of(told.get("input_tokens")), counts.of(told.get("output_tokens"))
    prompt, answer = told_prompt or 0, told_answer or 0
    read = min(counts.at(details, "cached_tokens"), prompt)
    written = min(counts.at(details, "cache_write_tokens"), prompt)
    twice = cached_twice(prompt, read, written)
    reasoning = min(counts.at(object_in(told, "output_tokens_details"), "reasoning_tokens"), answer)
    return Usage(
        input=prompt - read - written + twice,
        cache_read=read,
        cache_write=written,
        output=answer - reasoning,
        reasoning=reasoning,
        cached_twice=twice,
        prompt_unknown=told_prompt is None,
        completion_unknown=told_answer is None,
        unreadable=counts.unreadable,
    )


def _overlaid(plain: Item, told: Item) -> Item:
    """What a usage told, with what the API's schema wants and its host left out."""
    whole = {**plain, **told}
    for name in ("input_tokens_details", "output_tokens_details"):
        whole[name] = {**object_in(plain, name), **object_in(told, name)}
    return whole


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
    """The parts of one item of the output. Reasoning that nobody but OpenAI can read is no thinking to others."""
    match item.get("type"):
        case "message":
            return _read_said(item, path) or (_opaque(item, path),)
        case "function_call":
            return (_read_call_item(item, path),)
        case "reasoning" if any(_thoughts(item)):
            return (Thinking(_BETWEEN_THOUGHTS.join(t for _, _, t in _thoughts(item)), extras=rest_of(item, _TYPE)),)
        case "image_generation_call" if (image := _read_picture(item)) is not None:
            return (image,)
        case _:
            return (_opaque(item, path),)


_PICTURE = frozenset({"type", "result"})


def _read_picture(item: Item) -> Image | None:
    """None while it is not made, or where it could not be."""
    data = item.get("result")
    if not isinstance(data, str) or not data:
        return None
    format = text_of(item.get("output_format")) or "png"
    return Image(Inline(f"image/{format}", data), extras=rest_of(item, _PICTURE))


def _picture_item(skeleton: Item, source: Inline) -> Item:
    """A picture that another provider's model made."""
    format = source.media_type.partition("/")[2]
    return {**skeleton, "status": "completed", "output_format": format, "result": source.data}


def _read_finish(response: Item, has_calls: bool) -> Finish | None:
    """None while the answer is still being made (in the background)."""
    match response.get("status"):
        case "incomplete":
            details = response.get("incomplete_details")
            reason = text_of(details.get("reason")) if isinstance(details, dict) else None
            return Finish(_INCOMPLETE.get(reason or "", "other"), reason or "incomplete")
        case "queued" | "in_progress":
            return None
        case "cancelled":
            return Finish("other", "cancelled")
        case _:
            return Finish("tool_calls" if has_calls else "stop", "completed")


def _reply_extras(response: Item) -> Item:
    """What only this dialect knows of a response; `object` says that it is one of this dialect, and `usage` is there
    where it told more than tokens."""
    extras = dict(rest_of(response, _REPLY))
    extras["object"] = "response"
    told = response.get("usage")
    if isinstance(told, dict):
        plain = _write_usage(_read_usage(told))
        if (whole := _overlaid(plain, told)) != plain:
            extras["usage"] = whole
    if (status := response.get("status")) in ("queued", "in_progress"):
        extras["status"] = status
    return extras


def _created(response: Item) -> int | None:
    created = response.get("created_at")
    is_number = isinstance(created, int | float) and not isinstance(created, bool) and math.isfinite(created)
    return int(created) if is_number and isinstance(created, int | float) else None


def _read_reply(body: bytes) -> Reply:
    try:
        response = decode_reply(body)
    except UNREADABLE as exc:
        raise UpstreamError("the provider's reply is not valid JSON") from exc
    if not isinstance(response, dict) or not isinstance(response.get("output"), list):
        raise UpstreamError("the provider's reply is no OpenAI response")
    if response.get("status") == "failed":
        raise UpstreamError(f"the provider failed: {_stream_fault(response.get('error')).message}")
    try:
        parts = tuple(part for item, path in objects(response["output"], "output") for part in _read_item(item, path))
    except BadRequest as exc:
        raise UpstreamError(f"the provider's reply cannot be read: {exc.message}") from exc
    finish = _read_finish(response, any(isinstance(part, ToolCall) for part in parts))
    told = response.get("usage")
    return Reply(
        NAME,
        text_of(response.get("id")),
        text_of(response.get("model")),
        (Choice(parts, finish),),
        _read_usage(told) if isinstance(told, dict) else None,
        _created(response),
        _reply_extras(response),
    )


def _told(usage: Usage | None) -> Json:
    return None if usage is None else _write_usage(usage)


# --- replies: items

ItemStatus = Literal["in_progress", "completed", "incomplete"]
_PREFIXES: Mapping[str, str] = MappingProxyType(
    {"message": "msg_", "reasoning": "rs_", "function_call": "fc_", "image_generation_call": "ig_"}
)


def _made_id(prefix: str, *seeds: object) -> str:
    return made_id(prefix, 32, *seeds)


def _response_id(id: str | None, model: str | None, created: int | None) -> str:
    if not id:
        return _made_id("resp_", model, created)
    return id if id.startswith("resp_") else f"resp_{id}"


def _skeleton(kind: str, response_id: str, position: int) -> Item:
    return {"id": _made_id(_PREFIXES[kind], response_id, position), "type": kind}


def _output_text(text: str) -> Item:
    return {"type": "output_text", "annotations": [], "logprobs": [], "text": text}


def _refused(text: str) -> Item:
    return {"type": "refusal", "refusal": text}


def _message_item(skeleton: Item, content: list[Json], status: ItemStatus, own: Extras) -> Item:
    return {**skeleton, "status": status, "role": "assistant", "content": content, **own}


def _call_item(skeleton: Item, part: ToolCall, status: ItemStatus, own: Extras) -> Item:
    arguments = part.arguments if own or part.arguments.strip() else "{}"
    call_id = part.id or _made_id("call_", skeleton["id"])
    call_id = call_id if own else _call_id(call_id)
    return {**skeleton, "status": status, "call_id": call_id, "name": part.name, "arguments": arguments, **own}


def _reasoning_item(skeleton: Item, part: Thinking | RedactedThinking) -> Item:
    """Thinking of another provider: its text is the summary that callers show, its signature travels along unread."""
    if isinstance(part, RedactedThinking):
        return {**skeleton, "summary": [], "encrypted_content": REDACTED + part.data}
    summary: Json = [{"type": "summary_text", "text": part.text}] if part.text else []
    return {**skeleton, "summary": summary, "encrypted_content": seal(part.signature)}


def _says_nothing(part: Part) -> bool:
    """A part of another dialect that makes no item."""
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


def _outcome(finish: Finish | None) -> Item:
    """How a response tells the end of its only choice."""
    if finish is not None and finish.reason == "malformed":
        return {"status": "failed", "error": dict(_MALFORMED), "incomplete_details": None}
    if finish is not None and (reason := _REASONS.get(finish.reason)) is not None:
        return {"status": "incomplete", "error": None, "incomplete_details": {"reason": reason}}
    return {"status": "completed", "error": None, "incomplete_details": None}


def _own_outcome(finish: Finish | None, status: Json) -> Item:
    """The same, of a response of this dialect: in the words that it came with."""
    outcome = _outcome(finish)
    if finish is None:
        return {**outcome, "status": status or "completed"}
    if finish.raw == "cancelled":
        return {**outcome, "status": "cancelled"}
    if finish.reason == "other" or outcome["status"] == "incomplete":
        details = None if finish.raw == "incomplete" else {"reason": finish.raw}
        return {"status": "incomplete", "error": None, "incomplete_details": details}
    return outcome


def _is_cut(item: Item) -> bool:
    """Whether an item is what an answer that was cut off broke off in."""
    return item.get("type") in ("message", "function_call")


def _response(id: str, reply: Reply | ReplyStarted, echo: Item, outcome: Item, output: list[Json], usage: Json) -> Item:
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
    """The items of a reply of this dialect, as they came."""
    message: _Said | None = None
    for part in parts:
        if isinstance(part, Text | Refusal):
            own = _item_of(part)
            if message is not None and not message.takes(own):
                yield _own_message(message)
                message = None
            message = message or _Said(own)
            message.own = own
            message.content.append(_said_content(part, part.extras))
            continue
        if message is not None:
            yield _own_message(message)
            message = None
        yield from _own_item(part)
    if message is not None:
        yield _own_message(message)


def _own_message(message: _Said) -> Item:
    return {"type": "message", "role": "assistant", "content": message.content, **message.own}


def _own_item(part: Part) -> Iterator[Item]:
    match part:
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


def _told_text(part: Text | Image | Audio) -> str:
    """The text itself, or what stands in the place of what this format cannot hold."""
    return part.text if isinstance(part, Text) else omission(part, TITLE)


def _output(parts: Iterable[Part], id: str, status: Json) -> list[Item]:
    """The items of a reply of another dialect. Texts in a row are one message."""
    items: list[Item] = []
    content: list[Json] | None = None
    for part in parts:
        if _says_nothing(part):
            continue
        if isinstance(part, Text | Refusal | Audio) or (
            isinstance(part, Image) and not isinstance(part.source, Inline)
        ):
            said = _refused(part.text) if isinstance(part, Refusal) else _output_text(_told_text(part))
            if content is None:
                content = []
                items.append(_message_item(_skeleton("message", id, len(items)), content, "completed", NO_EXTRAS))
            content.append(said)
            continue
        content = None
        if isinstance(part, ToolCall):
            items.append(_call_item(_skeleton("function_call", id, len(items)), part, "completed", NO_EXTRAS))
        elif isinstance(part, Thinking | RedactedThinking):
            items.append(_reasoning_item(_skeleton("reasoning", id, len(items)), part))
        elif isinstance(part, Image) and isinstance(part.source, Inline):
            items.append(_picture_item(_skeleton("image_generation_call", id, len(items)), part.source))
    if status == "incomplete" and items and _is_cut(items[-1]):
        items[-1]["status"] = "incomplete"
    return items


def _write_reply(reply: Reply) -> bytes:
    choice = reply.choices[0] if reply.choices else Choice(())
    output: list[Json] = []
    if reply.dialect != NAME:
        id, outcome = _response_id(reply.id, reply.model, reply.created), _outcome(choice.finish)
        output.extend(_output(choice.parts, id, outcome["status"]))
        return encode(_response(id, reply, dict(_ECHO), outcome, output, _told(reply.usage)))
    output.extend(_own_output(choice.parts))
    outcome = _own_outcome(choice.finish, reply.extras.get("status"))
    echo = {**_ECHO, **{key: value for key, value in reply.extras.items() if key not in _REPLY}}
    usage = reply.extras.get("usage", _told(reply.usage))
    id = reply.id or _response_id(None, reply.model, reply.created)
    return encode(_response(id, reply, echo, outcome, output, usage))


# --- errors

# What is said of an error, and how, is OpenAI's and not this API's; only an error within a response is told otherwise.
# Codes of a response that failed through its caller's doing: the API's schema lists them with no status.
_CALLERS_FAILURES = re.compile(r"invalid_|image_|unsupported_|empty_|failed_to_download|bio_policy|misalignment")
# What the schema allows as the code of a response that failed; the SDKs' types hold us to it.
_FAILED_CODES: Mapping[FaultKind, str] = MappingProxyType(
    {
        "rate_limit": "rate_limit_exceeded",
        "payment": "rate_limit_exceeded",
        "invalid_request": "invalid_prompt",
        "context_length": "invalid_prompt",
        "content_filter": "invalid_prompt",
        "too_large": "invalid_prompt",
    }
)


def _stream_fault(error: Json) -> Fault:
    """An error within a stream has no HTTP status: its code says which one it would have had."""
    fault = CHAT.read_error(200, (), encode({"error": error}))
    if fault.kind == "api" and _CALLERS_FAILURES.match(fault.code or ""):
        fault = replace(fault, status=400, kind="invalid_request")
    # "error" is what the event is called, not what kind of error it tells.
    return replace(fault, type=None) if fault.type == "error" else fault


def _envelope(fault: Fault) -> Item:
    """What stands under `error` where this fault is the whole answer."""
    return as_object(as_object(msgspec.json.decode(CHAT.write_error(fault)[2]), "the envelope")["error"], "error")


# --- streams: reading


class _Event(msgspec.Struct):
    """The fields that any event of ours has. `item` and `response` may be large: they are decoded where needed."""

    type: str = ""
    output_index: int = 0
    content_index: int = 0
    summary_index: int = 0
    delta: str = ""
    text: str = ""
    arguments: str = ""
    refusal: str = ""
    item: msgspec.Raw = msgspec.Raw(b"null")
    part: msgspec.Raw = msgspec.Raw(b"null")
    annotation: msgspec.Raw = msgspec.Raw(b"null")
    response: msgspec.Raw = msgspec.Raw(b"null")


class _AnyEvent(msgspec.Struct):
    type: str = ""


_event = msgspec.json.Decoder(_Event)
_any_event = msgspec.json.Decoder(_AnyEvent)


def _decoded(raw: msgspec.Raw) -> Item:
    value = decode_reply(bytes(raw))
    return value if isinstance(value, dict) else {}


@dataclass(slots=True)
class _OpenPart:
    """A part that has begun. `sent` is how much of each of its texts was told, by list and place in it."""

    part: int
    sent: dict[tuple[str, int], int] = field(default_factory=dict)
    noted: Item = field(default_factory=dict)


@dataclass(slots=True)
class _OpenItem:
    """An item of the output between its start and its end."""

    kind: str
    own: Extras
    number: int | None = None
    """Of its part, where there is just one: its place is that of the item, however late it is told."""
    parts: dict[int, _OpenPart] = field(default_factory=dict)
    """Of a message, by content index; an item of another kind has at most one, at 0."""


class _Reader:
    """Each event that ends a text tells all of it: what did not come in deltas comes then, so that a provider which
    leaves out deltas, ends, or all but the last event is understood too. An item that only this dialect knows is told
    when it is whole, since a part of that kind starts with its whole value."""

    def __init__(self) -> None:
        self._decoder = sse.SseDecoder()
        self._items: dict[int, _OpenItem] = {}
        self._done: set[int] = set()
        self._parts = 0
        self._has_calls = False
        self._extras: Item = {}
        self._started = False
        self._over = False
        self._out: list[ReplyEvent] = []

    def frames(self, data: bytes) -> list[Frame]:
        return self._decoder.feed(data)

    def close(self) -> tuple[list[Frame], list[ReplyEvent]]:
        frames = self._decoder.close()
        events = [event for frame in frames for event in self.read(frame)]
        if not self._over:
            self._over = True
            events.append(Failed(Fault(502, "api", "the provider's stream broke off", "truncated_stream")))
        return frames, events

    def read(self, frame: Frame) -> list[ReplyEvent]:
        if self._over or not frame.data or frame.data == b"[DONE]":
            return []
        try:
            event = _event.decode(frame.data)
        except msgspec.ValidationError:
            return self._foreign(frame.data)
        except UNREADABLE:
            return self._mended(frame)
        take = _ON_EVENT.get(event.type or frame.event)
        if take is None:
            return self._foreign(frame.data)
        if event.type in ("error", "response.failed"):
            return self._fail(_decoded(msgspec.Raw(frame.data)))
        take(self, event)
        out, self._out = self._out, []
        return out

    def _mended(self, frame: Frame) -> list[ReplyEvent]:
        """An event that holds numbers which are no JSON (NaN) is read without them."""
        try:
            data = encode(decode_reply(frame.data))
            _any_event.decode(data)
        except (*UNREADABLE, BadRequest):
            return [Garbled("an event is not valid JSON")]
        return self.read(replace(frame, data=data))

    def _foreign(self, data: bytes) -> list[ReplyEvent]:
        """An event that is none of ours: most are new ones, to be skipped; it may be an error that has no type."""
        try:
            kind = _any_event.decode(data).type
        except UNREADABLE:
            return [Garbled("an event is no object with a type")]
        if kind in _ON_EVENT:
            return [Garbled(f"a {kind} is not as it should be")]
        told = _decoded(msgspec.Raw(data))
        return self._fail(told) if told.get("error") else []

    def _fail(self, event: Item) -> list[ReplyEvent]:
        self._over = True
        response = event.get("response")
        response = response if isinstance(response, dict) else {}
        error = response.get("error") or event.get("error") or event
        told = response.get("usage")
        seen: list[ReplyEvent] = [UsageSeen(_read_usage(told))] if isinstance(told, dict) else []
        return [*seen, Failed(_stream_fault(error))]

    # the whole

    def _start(self, event: _Event) -> None:
        if self._started:
            return
        self._started = True
        response = _decoded(event.response)
        # A list would be extended by what is told at the end.
        extras = {key: value for key, value in _reply_extras(response).items() if not isinstance(value, list)}
        extras.pop("status", None)
        self._extras = extras
        self._out.append(
            ReplyStarted(text_of(response.get("id")), text_of(response.get("model")), _created(response), extras)
        )

    def _end(self, event: _Event) -> None:
        self._start(event)
        response = _decoded(event.response)
        output = response.get("output")
        for index, item in enumerate(output if isinstance(output, list) else ()):
            if index not in self._done and isinstance(item, dict):
                self._item_ended(index, item)
        for index in sorted(self._items):
            self._item_ended(index, {})
        told = response.get("usage")
        if isinstance(told, dict):
            self._out.append(UsageSeen(_read_usage(told)))
        noted = {key: value for key, value in _reply_extras(response).items() if self._extras.get(key) != value}
        noted.pop("status", None)
        if noted:
            self._out.append(Noted(noted))
        status = response.get("status") or event.type.removeprefix("response.")
        finish = _read_finish({**response, "status": status}, self._has_calls)
        self._out += [Finished(finish or Finish("other", "incomplete")), Ended()]
        self._over = True

    # items

    def _item_added(self, event: _Event) -> None:
        item = _decoded(event.item)
        if event.output_index not in self._items and event.output_index not in self._done:
            self._begin_item(event.output_index, item)

    def _begin_item(self, index: int, item: Item) -> _OpenItem:
        kind = text_of(item.get("type")) or ""
        own = rest_of(item, _MESSAGE) if kind == "message" else {"id": item["id"]} if item.get("id") else NO_EXTRAS
        begun = self._items[index] = _OpenItem(kind, own)
        if kind != "message":
            begun.number, self._parts = self._parts, self._parts + 1
        if kind == "function_call":
            self._has_calls = True
            id = text_of(item.get("call_id")) or text_of(item.get("id"))
            self._begin(begun, 0, "tool_call", id, text_of(item.get("name")), rest_of(item, _CALL))
        return begun

    def _item_done(self, event: _Event) -> None:
        if event.output_index not in self._done:
            self._item_ended(event.output_index, _decoded(event.item))

    def _item_ended(self, index: int, item: Item) -> None:
        """`item` is empty where the stream ended without telling it."""
        known = self._items.get(index)
        begun = known if known is not None else self._begin_item(index, item)
        self._items.pop(index)
        self._done.add(index)
        match begun.kind:
            case "function_call":
                self._rest_of(begun.parts[0], ("arguments", 0), item.get("arguments"))
                begun.parts[0].noted.update(rest_of(item, _CALL))
            case "reasoning":
                for key, i, text in _thoughts(item):
                    self._think(begun, key, i, None, text)
                if begun.parts:
                    begun.parts[0].noted.update(rest_of(item, _TYPE))
            case "message":
                self._message_ended(begun, item)
        for part in begun.parts.values():
            self._end_part(part)
        if not begun.parts and item:
            number = begun.number
            if number is None:
                number, self._parts = self._parts, self._parts + 1
            picture = _read_picture(item) if begun.kind == "image_generation_call" else None
            if picture is not None:
                self._out += [PartStarted(number, "media", media=picture), PartEnded(number)]
                return
            self._out += [PartStarted(number, "opaque", opaque=Opaque(NAME, begun.kind, item)), PartEnded(number)]

    def _message_ended(self, begun: _OpenItem, item: Item) -> None:
        """Where no part has begun, the item says all of it; else it adds its own fields, such as its status."""
        own = rest_of(item, _MESSAGE)
        if not begun.parts:
            try:
                said = _read_said(item, "item") or ()
            except BadRequest:
                said = ()
            for i, part in enumerate(_sayable(said)):
                kind: Literal["text", "refusal"] = "text" if isinstance(part, Text) else "refusal"
                opened = self._begin(begun, i, kind, extras=part.extras)
                self._rest_of(opened, (kind, i), part.text)
        elif own:
            for opened in begun.parts.values():
                opened.noted["item"] = own

    # parts

    def _begin(
        self,
        item: _OpenItem,
        at: int,
        kind: Literal["text", "refusal", "thinking", "tool_call"],
        id: str | None = None,
        name: str | None = None,
        extras: Extras = NO_EXTRAS,
    ) -> _OpenPart:
        number = item.number
        if number is None:
            number, self._parts = self._parts, self._parts + 1
        opened = item.parts[at] = _OpenPart(number)
        self._out.append(PartStarted(opened.part, kind, id, name, extras=extras))
        return opened

    def _end_part(self, opened: _OpenPart) -> None:
        if opened.noted:
            self._out.append(PartNoted(opened.part, opened.noted))
        self._out.append(PartEnded(opened.part))

    def _more_of(self, opened: _OpenPart, where: tuple[str, int], text: str) -> None:
        if text:
            opened.sent[where] = opened.sent.get(where, 0) + len(text)
            self._out.append(PartDelta(opened.part, text))

    def _rest_of(self, opened: _OpenPart, where: tuple[str, int], whole: Json) -> None:
        if isinstance(whole, str):
            self._more_of(opened, where, whole[opened.sent.get(where, 0) :])

    def _say(self, event: _Event, kind: Literal["text", "refusal"], delta: str | None, whole: str | None) -> None:
        item = self._items.get(event.output_index)
        if item is None:
            if event.output_index in self._done:
                return
            item = self._begin_item(event.output_index, {"type": "message"})
        at = event.content_index
        opened = item.parts.get(at)
        if opened is None:
            opened = self._begin(item, at, kind, extras={"item": item.own} if item.own else NO_EXTRAS)
        if delta is not None:
            self._more_of(opened, (kind, at), delta)
        self._rest_of(opened, (kind, at), whole)

    def _text_delta(self, event: _Event) -> None:
        self._say(event, "text", event.delta, None)

    def _text_done(self, event: _Event) -> None:
        self._say(event, "text", None, event.text)

    def _refusal_delta(self, event: _Event) -> None:
        self._say(event, "refusal", event.delta, None)

    def _refusal_done(self, event: _Event) -> None:
        self._say(event, "refusal", None, event.refusal)

    def _content_done(self, event: _Event) -> None:
        """What a text bears besides its words: annotations, probabilities."""
        part = _decoded(event.part)
        match part.get("type"):
            case "output_text":
                self._say(event, "text", None, text_of(part.get("text")))
                noted = rest_of(part, _OUTPUT_TEXT)
            case "refusal":
                self._say(event, "refusal", None, text_of(part.get("refusal")))
                noted = rest_of(part, _REFUSAL)
            case _:
                return
        item = self._items.get(event.output_index)
        if item is not None:
            item.parts[event.content_index].noted.update(noted)

    def _annotation(self, event: _Event) -> None:
        """Told apart, and again with the whole text, which is where it is taken from if that comes."""
        item = self._items.get(event.output_index)
        opened = item.parts.get(event.content_index) if item is not None else None
        if opened is not None:
            before = opened.noted.get("annotations")
            opened.noted["annotations"] = [*(before if isinstance(before, list) else []), _decoded(event.annotation)]

    def _call_delta(self, event: _Event) -> None:
        opened = self._call(event)
        if opened is not None:
            self._more_of(opened, ("arguments", 0), event.delta)

    def _call_done(self, event: _Event) -> None:
        opened = self._call(event)
        if opened is not None:
            self._rest_of(opened, ("arguments", 0), event.arguments)

    def _call(self, event: _Event) -> _OpenPart | None:
        item = self._items.get(event.output_index)
        return item.parts.get(0) if item is not None and item.kind == "function_call" else None

    def _think(self, item: _OpenItem, key: str, at: int, delta: str | None, whole: Json) -> None:
        """More of one of the texts of a reasoning item. Thinking begins with its first word: an item without any is
        opaque. Two texts are set apart as in a reply that is read whole."""
        text = delta if delta is not None else ""
        opened = item.parts.get(0)
        sent = opened.sent.get((key, at), 0) if opened is not None else 0
        if isinstance(whole, str):
            text = whole[sent:]
        if not text:
            return
        if opened is None:
            opened = self._begin(item, 0, "thinking", extras=item.own)
        elif not sent:
            self._out.append(PartDelta(opened.part, _BETWEEN_THOUGHTS))
        self._more_of(opened, (key, at), text)

    def _thought(self, event: _Event) -> None:
        item = self._items.get(event.output_index)
        if item is None and event.output_index not in self._done:
            item = self._begin_item(event.output_index, {"type": "reasoning"})
        if item is None or item.kind != "reasoning":
            return
        key, at = ("summary", event.summary_index) if "summary" in event.type else ("content", event.content_index)
        self._think(item, key, at, event.delta or None, event.text or None)

    def _ping(self, event: _Event) -> None:
        del event
        self._out.append(Ping())

    def _skip(self, event: _Event) -> None:
        """An event that a later one makes needless."""


_ON_EVENT: Mapping[str, Callable[[_Reader, _Event], None]] = MappingProxyType(
    {
        "response.created": _Reader._start,
        "response.queued": _Reader._start,
        "response.in_progress": _Reader._start,
        "response.output_item.added": _Reader._item_added,
        "response.output_item.done": _Reader._item_done,
        "response.content_part.added": _Reader._skip,
        "response.content_part.done": _Reader._content_done,
        "response.output_text.delta": _Reader._text_delta,
        "response.output_text.done": _Reader._text_done,
        "response.output_text.annotation.added": _Reader._annotation,
        "response.refusal.delta": _Reader._refusal_delta,
        "response.refusal.done": _Reader._refusal_done,
        "response.function_call_arguments.delta": _Reader._call_delta,
        "response.function_call_arguments.done": _Reader._call_done,
        "response.reasoning_summary_text.delta": _Reader._thought,
        "response.reasoning_summary_text.done": _Reader._thought,
        "response.reasoning_text.delta": _Reader._thought,
        "response.reasoning_text.done": _Reader._thought,
        "response.completed": _Reader._end,
        "response.incomplete": _Reader._end,
        "response.cancelled": _Reader._end,
        "response.failed": _Reader._skip,
        "error": _Reader._skip,
        "keepalive": _Reader._ping,
    }
)


# --- streams: writing


@dataclass(slots=True)
class _Writing:
    """An item of the output that is being written."""

    index: int
    skeleton: Item
    own: Extras
    """Its fields as they came, where they came from this dialect."""
    content: list[Json] = field(default_factory=list)
    """Of a message: its parts that are whole."""
    open_parts: set[int] = field(default_factory=set)
    call: ToolCall | None = None
    whole: Item | None = None
    """The item, where it needs no status."""

    def item(self, status: ItemStatus) -> Item:
        if self.whole is not None:
            return self.whole
        if self.call is not None:
            return _call_item(self.skeleton, self.call, status, self.own)
        return _message_item(self.skeleton, self.content, status, self.own)


@dataclass(slots=True)
class _Part:
    """A part as its deltas come, and where it is written once it has an item."""

    start: PartStarted
    extras: Extras
    texts: list[str] = field(default_factory=list)
    signature: str = ""
    item: _Writing | None = None
    content_index: int = 0

    @property
    def text(self) -> str:
        return "".join(self.texts)

    @property
    def begun(self) -> _Writing:
        """Its item, where it has one."""
        assert self.item is not None, "a part is told of once it has an item"  # noqa: S101 - our own promise
        return self.item


def _with_id(own: Extras, skeleton: Item) -> Extras:
    """An item keeps the id that it began with. GitHub Copilot tells another one in each event."""
    return {**own, "id": skeleton["id"]} if own.get("id") not in (None, skeleton["id"]) else own


class _Writer:
    """Every part becomes an item, or a part of a message where texts follow one another. Parts may overlap: so may
    items. An item is told to be done only when the next one begins or the reply ends, since only then it is known
    whether the reply was cut off in it. What says nothing begins no item.

    A reply of this dialect (from a cache, say) says so in what it starts with, and gets its ids and fields back.
    """

    def __init__(self, call: Call) -> None:
        self._call = call
        self._echo: Item = {}
        self._start: ReplyStarted | None = None
        self._is_own = False
        self._id = ""
        self._number = 0
        self._parts: dict[int, _Part] = {}
        self._items: dict[int, _Writing] = {}
        """Begun and not yet done, by output index."""
        self._message: _Writing | None = None
        """The message that the next text belongs to."""
        self._output: dict[int, Item] = {}
        self._count = 0
        self._finish: Finish | None = None
        self._usage: Usage | None = None
        self._extras: Extras = NO_EXTRAS
        self._over = False
        self._out: list[bytes] = []

    def write(self, event: ReplyEvent) -> bytes:
        if self._over or getattr(event, "choice", None):
            return b""
        self._take(event)
        out, self._out = b"".join(self._out), []
        return out

    def _take(self, event: ReplyEvent) -> None:
        match event:
            case PartDelta():
                self._grow(event.part, event.text)
            case PartStarted():
                self._begin(event)
            case PartSigned():
                self._parts[event.part].signature += event.signature
            case PartNoted():
                part = self._parts[event.part]
                part.extras = merged(part.extras, event.extras)
            case PartEnded():
                self._end_part(self._parts.pop(event.part))
            case ReplyStarted():
                self._begin_reply(event)
            case UsageSeen():
                self._usage = event.usage
            case Finished():
                self._finish = event.finish
            case Noted():
                self._extras = merged(self._extras, event.extras) if self._is_own else NO_EXTRAS
            case Ping():
                self._out.append(sse.comment())
            case Garbled():
                pass
            case Failed():
                self._fail(event.fault)
            case Ended():
                self._end_reply()
            case _:
                assert_never(event)

    def _tell(self, kind: str, payload: Item) -> None:
        event = {"type": kind, "sequence_number": self._number, **payload}
        self._number += 1
        self._out.append(sse.encode(encode(event), kind))

    def _tell_of(self, part: _Part, kind: str, payload: Item) -> None:
        """An event of one text of a message."""
        item = part.begun
        where: Item = {"item_id": item.skeleton["id"], "output_index": item.index}
        self._tell(kind, {**where, "content_index": part.content_index, **payload})

    # the whole

    def _begin_reply(self, event: ReplyStarted) -> ReplyStarted:
        if self._start is not None:
            return self._start
        start = self._start = (
            event if event.model else ReplyStarted(event.id, self._call.model, event.created, event.extras)
        )
        self._is_own = event.extras.get("object") == "response"
        self._extras = event.extras if self._is_own else NO_EXTRAS
        self._id = event.id or "" if self._is_own else _response_id(event.id, start.model, event.created)
        self._echo = _echo(self._call)
        for kind in ("response.created", "response.in_progress"):
            outcome: Item = {"status": "in_progress", "error": None, "incomplete_details": None}
            self._tell(kind, {"response": self._response(outcome, None)})
        return start

    def _started(self) -> ReplyStarted:
        return self._start or self._begin_reply(ReplyStarted(None, None))

    def _response(self, outcome: Item, usage: Json) -> Item:
        own = {key: value for key, value in self._extras.items() if key not in _REPLY}
        output: list[Json] = [self._output[index] for index in sorted(self._output)]
        return _response(self._id, self._started(), {**self._echo, **own}, outcome, output, usage)

    def _end_reply(self) -> None:
        self._started()
        for part in list(self._parts.values()):
            self._end_part(part)
        outcome = _own_outcome(self._finish, None) if self._is_own else _outcome(self._finish)
        self._settle(outcome["status"])
        usage = self._extras.get("usage", _told(self._usage))
        self._over = True
        status = str(outcome["status"])
        # A response that was cancelled has no event of its own.
        kind = status if status in ("completed", "incomplete", "failed") else "incomplete"
        self._tell(f"response.{kind}", {"response": self._response(outcome, usage)})

    def _fail(self, fault: Fault) -> None:
        """Told twice: callers that look at each event know a failed response, and OpenAI's own SDKs raise an exception
        for an event with an `error`, which is the shape of what the API sends."""
        error = _envelope(fault)
        if self._start is not None:
            reason: Item = {"code": _FAILED_CODES.get(fault.kind, "server_error"), "message": error["message"]}
            outcome: Item = {"status": "failed", "error": reason, "incomplete_details": None}
            self._tell("response.failed", {"response": self._response(outcome, _told(self._usage))})
        flat = {key: error[key] for key in ("code", "message", "param")}
        self._tell("error", {**flat, "error": error})
        self._over = True

    # parts

    def _begin(self, event: PartStarted) -> None:
        self._started()
        part = self._parts[event.part] = _Part(event, event.extras if self._is_own else NO_EXTRAS)
        match event.kind:
            case "tool_call":
                self._begin_call(part)
            case "text" | "refusal" if self._is_own:
                self._begin_text(part)
            case "thinking" if self._is_own:
                part.item = self._begin_item(self._skeleton("reasoning", part.extras))
                part.item.open_parts.add(event.part)
                self._tell_item("added", part.item, {**part.item.skeleton, "summary": []})
            case "text" | "refusal" | "thinking" | "redacted_thinking" | "media" | "opaque":
                pass  # with the first word, or when it is whole
            case _:
                assert_never(event.kind)

    def _grow(self, number: int, text: str) -> None:
        part = self._parts[number]
        if not text:
            return
        part.texts.append(text)
        match part.start.kind:
            case "text" | "refusal" as kind:
                if part.item is None:
                    self._begin_text(part)
                payload: Item = {"delta": text} if kind == "refusal" else {"delta": text, "logprobs": []}
                self._tell_of(part, f"response.{'output_text' if kind == 'text' else 'refusal'}.delta", payload)
            case "tool_call":
                self._tell_call(part, "delta", {"delta": text})
            case "thinking":
                if not self._is_own:
                    self._think(part, text)
            case "redacted_thinking" | "media" | "opaque":
                pass
            case _:
                assert_never(part.start.kind)

    def _end_part(self, part: _Part) -> None:
        match part.start.kind:
            case "text" | "refusal":
                self._end_text(part)
            case "tool_call":
                self._end_call(part)
            case "thinking":
                self._end_thinking(part)
            case "redacted_thinking":
                if part.start.data:
                    self._whole("reasoning", RedactedThinking(part.start.data))
            case "media":
                if part.start.media is not None:
                    self._media(part, part.start.media)
            case "opaque":
                opaque = part.start.opaque
                if opaque is not None and opaque.dialect == NAME and isinstance(opaque.value, dict):
                    self._own_whole(opaque.value)
            case _:
                assert_never(part.start.kind)

    # items

    def _begin_item(self, skeleton: Item, own: Extras = NO_EXTRAS) -> _Writing:
        """The next item; those before it that are whole are done."""
        self._settle(None)
        item = self._items[self._count] = _Writing(self._count, skeleton, own)
        self._count += 1
        self._message = None
        return item

    def _tell_item(self, kind: Literal["added", "done"], item: _Writing, value: Item) -> None:
        self._tell(f"response.output_item.{kind}", {"output_index": item.index, "item": value})

    def _settle(self, final: Json) -> None:
        """Items that are whole are done. At the end, `final` says whether the last one was cut off."""
        for index, item in list(self._items.items()):
            if item.open_parts:
                continue
            is_torn = final == "incomplete" and index == self._count - 1
            value = item.item("incomplete" if is_torn else "completed")
            self._output[index] = value
            del self._items[index]
            self._tell_item("done", item, value)
            if item is self._message:
                self._message = None

    def _skeleton(self, kind: str, own: Extras) -> Item:
        made = _skeleton(kind, self._id, self._count)
        return {**made, "id": own["id"]} if "id" in own else made

    def _media(self, part: _Part, media: Image | Audio) -> None:
        if self._is_own:
            for value in _own_item(media):
                self._own_whole(value)
        elif isinstance(media, Image) and isinstance(media.source, Inline):
            skeleton = self._skeleton("image_generation_call", NO_EXTRAS)
            item = self._begin_item(skeleton)
            item.whole = _picture_item(skeleton, media.source)
            self._tell_item("added", item, {**skeleton, "status": "in_progress", "result": None})
        else:
            text = _Part(PartStarted(part.start.part, "text"), NO_EXTRAS)
            self._begin_text(text)
            text.texts.append(omission(media, TITLE))
            self._tell_of(text, "response.output_text.delta", {"delta": text.text, "logprobs": []})
            self._end_text(text)

    # texts

    def _begin_text(self, part: _Part) -> None:
        own = part.extras.get("item", NO_EXTRAS)
        own = own if isinstance(own, Mapping) else NO_EXTRAS
        message = self._message
        if message is None or (own and own.get("id") != message.own.get("id")):
            message = self._begin_item(self._skeleton("message", own), own)
            self._message = message
            begun = _message_item(message.skeleton, [], "in_progress", {**own, "status": "in_progress"})
            self._tell_item("added", message, begun)
        part.item, part.content_index = message, len(message.content)
        message.content.append(None)
        message.open_parts.add(part.start.part)
        self._tell_of(part, "response.content_part.added", {"part": self._content(part, "")})

    @staticmethod
    def _content(part: _Part, text: str) -> Item:
        return _output_text(text) if part.start.kind == "text" else _refused(text)

    def _end_text(self, part: _Part) -> None:
        message = part.item
        if message is None:
            return
        own = part.extras.get("item")
        message.own = _with_id(own, message.skeleton) if isinstance(own, Mapping) else message.own
        text = Text(part.text, extras=part.extras) if part.start.kind == "text" else Refusal(part.text, part.extras)
        whole = _said_content(text, part.extras) if self._is_own else self._content(part, part.text)
        if part.start.kind == "text":
            logprobs = part.extras.get("logprobs", [])
            self._tell_of(part, "response.output_text.done", {"text": part.text, "logprobs": logprobs})
        else:
            self._tell_of(part, "response.refusal.done", {"refusal": part.text})
        self._tell_of(part, "response.content_part.done", {"part": whole})
        message.content[part.content_index] = whole
        message.open_parts.discard(part.start.part)

    # tool calls

    def _begin_call(self, part: _Part) -> None:
        start = part.start
        item = part.item = self._begin_item(self._skeleton("function_call", part.extras), part.extras)
        item.call = ToolCall(start.id or "", start.name or "", "")
        item.open_parts.add(start.part)
        begun = _call_item(item.skeleton, item.call, "in_progress", NO_EXTRAS)
        self._tell_item("added", item, {**begun, "arguments": ""})

    def _tell_call(self, part: _Part, kind: str, payload: Item) -> None:
        item = part.begun
        where: Item = {"item_id": item.skeleton["id"], "output_index": item.index}
        self._tell(f"response.function_call_arguments.{kind}", {**where, **payload})

    def _end_call(self, part: _Part) -> None:
        item = part.begun
        item.own = _with_id(part.extras, item.skeleton)
        if not part.text.strip() and not self._is_own:
            part.texts = ["{}"]  # a call without arguments: callers parse what they are told
            self._tell_call(part, "delta", {"delta": "{}"})
        item.call = ToolCall(part.start.id or "", part.start.name or "", part.text)
        self._tell_call(part, "done", {"name": item.call.name, "arguments": part.text})
        item.open_parts.discard(part.start.part)

    # thinking

    def _think(self, part: _Part, text: str) -> None:
        if part.item is None:
            part.item = self._begin_item(self._skeleton("reasoning", NO_EXTRAS))
            part.item.open_parts.add(part.start.part)
            self._tell_item("added", part.item, {**part.item.skeleton, "summary": []})
            self._tell_summary(part.item, "part.added", 0, {"part": {"type": "summary_text", "text": ""}})
        self._tell_summary(part.item, "text.delta", 0, {"delta": text})

    def _tell_summary(self, item: _Writing, kind: str, at: int, payload: Item) -> None:
        where: Item = {"item_id": item.skeleton["id"], "output_index": item.index, "summary_index": at}
        self._tell(f"response.reasoning_summary_{kind}", {**where, **payload})

    def _end_thinking(self, part: _Part) -> None:
        if self._is_own:
            self._own_thoughts(part)
            return
        thinking = Thinking(part.text, part.signature or None)
        if part.item is None:
            if thinking.signature:
                self._whole("reasoning", thinking)
            return
        self._tell_summary(part.item, "text.done", 0, {"text": part.text})
        self._tell_summary(part.item, "part.done", 0, {"part": {"type": "summary_text", "text": part.text}})
        part.item.whole = _reasoning_item(part.item.skeleton, thinking)
        part.item.open_parts.discard(part.start.part)

    def _whole(self, kind: str, thinking: Thinking | RedactedThinking) -> None:
        item = self._begin_item(self._skeleton(kind, NO_EXTRAS))
        item.whole = _reasoning_item(item.skeleton, thinking)
        self._tell_item("added", item, {**item.skeleton, "summary": []})

    def _own_thoughts(self, part: _Part) -> None:
        """Reasoning of this dialect, told when it is whole: its deltas do not say which of its texts they are of."""
        item = part.begun
        item.whole = {**item.skeleton, **_with_id(part.extras, item.skeleton)}
        item.open_parts.discard(part.start.part)
        for key, at, text in _thoughts(item.whole):
            if key == "summary":
                self._tell_summary(item, "part.added", at, {"part": {"type": "summary_text", "text": ""}})
                self._tell_summary(item, "text.delta", at, {"delta": text})
                self._tell_summary(item, "text.done", at, {"text": text})
                self._tell_summary(item, "part.done", at, {"part": {"type": "summary_text", "text": text}})
                continue
            where: Item = {"item_id": item.skeleton["id"], "output_index": item.index, "content_index": at}
            self._tell("response.reasoning_text.delta", {**where, "delta": text})
            self._tell("response.reasoning_text.done", {**where, "text": text})

    def _own_whole(self, value: Item) -> None:
        """An item that only this dialect knows, which came whole."""
        item = self._begin_item({"id": value.get("id"), "type": value.get("type")})
        item.whole = value
        self._tell_item("added", item, value)


# --- the dialect

_PATHS: Mapping[Operation, str] = MappingProxyType({"chat": "/responses", "models": "/models"})


_members = msgspec.json.Decoder(dict[str, msgspec.Raw])
_rows = msgspec.json.Decoder(list[msgspec.Raw])
_MADE_ITEM = re.compile(rb'"rs_[0-9a-f]{32}"')
_LONG_CALL_ID = re.compile(rb'"call_id"\s*:\s*"[^"]{65}')
_USER = re.compile(rb'"(?:user|safety_identifier)"\s*:')


def _is_worth_a_look(raw: bytes, host: HostProfile) -> bool:
    """Whether a body may hold what `_mended` changes: it is decoded only then."""
    if MARK.encode() in raw or _MADE_ITEM.search(raw):
        return True
    return (host.strict and _LONG_CALL_ID.search(raw) is not None) or (
        host.user_limit is not None and _USER.search(raw) is not None
    )


def _mended(raw: bytes, host: HostProfile) -> tuple[dict[str, json_splice.Change], tuple[str, ...]]:
    """The input without the reasoning of other providers, which a host of this format refuses as forged or as unknown
    to it, and what else the host refuses. A host that wants unsigned reasoning back gets it. The other items keep their
    bytes."""
    body = read_body(raw)
    changes: dict[str, json_splice.Change] = {}
    dropped: list[str] = []
    for name in ("user", "safety_identifier"):
        user = body.get(name)
        if isinstance(user, str) and is_too_long(user, host):
            changes[name] = None
            dropped.append(name)
    items = body.get("input")
    if not isinstance(items, list):
        return changes, tuple(dropped)
    kept: list[bytes] = []
    changed = False
    for i, (item, row) in enumerate(zip(items, _rows.decode(_members.decode(raw)["input"]), strict=True)):
        if not isinstance(item, dict) or not (edit := _edit(item, host)):
            kept.append(bytes(row))
            continue
        changed = True
        if edit.item is not None:
            kept.append(encode(edit.item))
        if edit.lost is not None:
            dropped.append(f"input[{i}]{edit.lost}")
    if changed:
        changes["input"] = array(kept)
    return changes, tuple(sorted(dropped))


@noun
class _Edit:
    item: Item | None
    """What stands instead of an item; None takes it out."""
    lost: str | None
    """The field of it that was rewritten, or "" for all of it; None if nothing is lost."""


def _edit(item: Item, host: HostProfile) -> _Edit | None:
    call_id = item.get("call_id")
    if host.strict and isinstance(call_id, str) and len(call_id) > _CALL_ID_LIMIT:
        return _Edit({**item, "call_id": _call_id(call_id)}, ".call_id")
    if item.get("type") != "reasoning" or not _is_made(item):
        return None
    part = _read_reasoning_item(item)
    if isinstance(part, Thinking) and part.text and not part.signature and host.thoughts in _WANTED:
        return _Edit(_unsigned_item(part.text), None)
    return _Edit(None, "")


class OpenAIResponses:
    name = NAME
    title = TITLE
    routes = (Route("POST", "/v1/responses", "chat"),)
    stream_type = "text/event-stream"

    def read_call(self, raw: bytes, operation: Operation, headers: Headers, path: str) -> Call:
        del headers, path  # this format says everything in the body
        try:
            seen = _probe.decode(raw)
        except UNREADABLE:
            raise _why_no_call(raw) from None
        if not seen.model.strip():
            raise BadRequest("model is empty: name the model that shall answer", param="model")
        return Call(NAME, operation, seen.model, bool(seen.stream), raw, max_output_tokens=seen.max_output_tokens)

    def splice(self, call: Call, model: str, host: HostProfile = UNKNOWN_HOST) -> Written:
        """A stream of this format tells its usage unasked, so that the model is all that is ours."""
        changes: dict[str, json_splice.Change] = {"model": encode(model)}
        dropped: tuple[str, ...] = ()
        try:
            if _is_worth_a_look(call.raw, host):
                mended, dropped = _mended(call.raw, host)
                changes.update(mended)
            return Written(json_splice.splice(call.raw, changes), dropped)
        except ValueError as exc:
            raise BadRequest(f"the body cannot be forwarded: {exc}") from exc

    def path(self, operation: Operation, model: str, *, stream: bool) -> str:
        del model, stream
        try:
            return _PATHS[operation]
        except KeyError:
            raise Unsupported(operation, TITLE) from None

    def read_chat(self, call: Call) -> Chat:
        return _read_chat(call)

    def write_chat(self, chat: Chat, model: str, host: HostProfile = UNKNOWN_HOST) -> Written:
        request = _Request(chat, model, host)
        body = encode(request.body())
        return Written(body, tuple(sorted(request.dropped)))

    def read_reply(self, body: bytes) -> Reply:
        return _read_reply(body)

    def write_reply(self, reply: Reply) -> bytes:
        return _write_reply(reply)

    def can_say(self, part: Part) -> bool:
        return not isinstance(part, Opaque | Audio) and (not isinstance(part, Image) or isinstance(part.source, Inline))

    def reader(self, content_type: str) -> _Reader:
        del content_type  # a stream of this format is SSE, whatever a host calls it
        return _Reader()

    def writer(self, call: Call) -> _Writer:
        return _Writer(call)

    def read_error(self, status: int, headers: Headers, body: bytes) -> Fault:
        return CHAT.read_error(status, headers, body)

    def write_error(self, fault: Fault) -> tuple[int, list[tuple[str, str]], bytes]:
        return CHAT.write_error(fault)

    def write_models(self, models: Sequence[ModelCard]) -> bytes:
        return CHAT.write_models(models)


PLUGIN = OpenAIResponses()
