"""The Anthropic side of the rehearsal provider: messages, token counting, models.

Like the service, it refuses unknown fields, tool uses without results directly after them, and thinking blocks with a
wrong signature.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from .format import MODELS, Answer, RequestMeta, Stream, Whole, bearer, check_credential
from .model_output import IMAGE_TOKENS, TOOL_TOKENS, Choice, Finish, ModelOutput, Prompt, Tool, play, words
from .reading import Fields, Refused
from .schema import Unanswerable

_COUNT_FIELDS = ["messages", "model", "cache_control", "output_config", "system", "thinking", "tool_choice", "tools"]
_MESSAGE_FIELDS = [
    *_COUNT_FIELDS,
    *[
        "max_tokens",
        "container",
        "inference_geo",
        "metadata",
        "service_tier",
        "stop_sequences",
        "stream",
        "temperature",
        "top_k",
        "top_p",
    ],
]

# Words of thinking for each effort, and the most with a budget.
_EFFORT = {"low": 5, "medium": 10, "high": 20, "xhigh": 30, "max": 40}
_MOST_THOUGHT = 20

_FINISH: Mapping[Finish, str] = {
    "stop": "end_turn",
    "stop_sequence": "stop_sequence",
    "length": "max_tokens",
    "tools": "tool_use",
}

_KINDS = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}

_TOOL_NAME = re.compile(r"[A-Za-z0-9_-]{1,128}")
_IMAGE_TYPES = ("image/jpeg", "image/png", "image/gif", "image/webp")

_BLOCKS: Mapping[str, tuple[str, ...]] = {
    "user": ("text", "image", "document", "tool_result"),
    "assistant": ("text", "thinking", "redacted_thinking", "tool_use"),
    "system": ("text",),
    "tool_result": ("text", "image", "document"),
}


class Anthropic:
    request_id_header = "request-id"
    request_id_prefix = "req_"
    broken_event = b'event: content_block_delta\ndata: {"type":"content_block_delta","ind\n\n'

    def check(self, headers: Mapping[str, str]) -> None:
        check_credential(headers.get("x-api-key") or bearer(headers))
        if not headers.get("anthropic-version"):
            raise Refused("anthropic-version: this header is required")

    def write_error(self, refused: Refused, request_id: str, /) -> bytes:
        return orjson.dumps({**_error(refused), "request_id": request_id})

    def write_error_event(self, refused: Refused, request_id: str, /) -> bytes:
        return _event({**_error(refused), "request_id": request_id})

    def write_models(self, only: str | None) -> bytes:
        def card(name: str) -> dict[str, object]:
            return {
                "type": "model",
                "id": name,
                "display_name": name.replace("-", " ").capitalize(),
                "created_at": "2026-01-01T00:00:00Z",
                "lifecycle": "active",
            }

        if only:
            return orjson.dumps(card(only))
        cards = [card(name) for name in MODELS]
        return orjson.dumps({"data": cards, "has_more": False, "first_id": MODELS[0], "last_id": MODELS[-1]})


def _error(refused: Refused) -> dict[str, object]:
    kind = _KINDS.get(refused.status, "invalid_request_error" if refused.status < 500 else "api_error")
    return {"type": "error", "error": {"type": kind, "message": refused.message}}


def messages(body: Fields, meta: RequestMeta) -> Answer:
    """POST /v1/messages"""
    model = body.text("model")
    limit = body.whole("max_tokens", 1, 10**9)
    if not meta.script.lenient:
        body.only(*_MESSAGE_FIELDS)
    prompt, cacheable = _read_prompt(body, limit)
    thinking = body.maybe_nested("thinking")
    wants_stream = body.flag("stream")
    try:
        model_output = play(prompt, meta.script.tokens)
    except Unanswerable as exc:
        raise Refused(f"output_config or tools: {exc}") from exc
    hidden = thinking is not None and thinking.maybe_one_of("display", "summarized", "omitted") == "omitted"
    reply = _Reply(model, prompt, model_output, cacheable, hidden, meta)
    return Stream(reply.events(), _event({"type": "message_stop"})) if wants_stream else Whole(reply.whole())


def count_tokens(body: Fields, meta: RequestMeta) -> Answer:
    """POST /v1/messages/count_tokens"""
    body.text("model")
    if not meta.script.lenient:
        body.only(*_COUNT_FIELDS)
    prompt, _ = _read_prompt(body, None)
    return Whole(orjson.dumps({"input_tokens": prompt.tokens}))


# ------------------------------------------------------------------------------------------------------------- reading


def sign(thinking: str) -> str:
    """The signature of a thinking block. A block with another signature is refused."""
    digest = hashlib.blake2b(thinking.encode(), key=b"rehearsal").digest()
    return base64.b64encode(digest).decode()


@dataclass(slots=True)
class _Conversation:
    """What reading the request adds up to, in the order in which a prompt cache sees it: tools, system, messages."""

    tokens: int = 0
    cacheable: int = 0
    images: int = 0
    documents: int = 0
    last_text: str = ""
    results: list[str] = field(default_factory=list)
    open_uses: set[str] = field(default_factory=set)
    count: int = 0

    def mark(self, block: Fields) -> None:
        """A cache breakpoint: all up to here can be cached."""
        if (control := block.maybe_nested("cache_control")) is not None:
            control.only("type", "ttl")
            control.one_of("type", "ephemeral")
            control.maybe_one_of("ttl", "5m", "1h")
            self.cacheable = self.tokens

    def read(self, message: Fields) -> None:
        message.only("role", "content")
        role = message.one_of("role", "user", "assistant", "system")
        if not self.count and role != "user":
            raise message.refuse("role", "the first message must be the user's")
        self.count += 1
        if role != "system":
            self.last_text = ""
            self.results.clear()
        waiting, self.open_uses = self.open_uses, set()
        text = "\n".join(filter(None, self._content(message, role, waiting)))
        if waiting:
            raise message.refuse(
                "content", f"tool_use blocks without a tool_result right after them: {', '.join(sorted(waiting))}"
            )
        if role == "user":
            self.last_text = text

    def _content(self, message: Fields, role: str, waiting: set[str]) -> list[str]:
        if isinstance(message.values.get("content"), str):
            text = message.text("content")
            if not text:
                raise message.refuse("content", "a message must not be empty")
            self.tokens += words(text)
            return [text]
        if not message.has("content"):
            raise message.refuse("content", "this field is required")
        blocks = list(message.each("content"))
        if not blocks:
            raise message.refuse("content", "a message must not be empty")
        return [self.block(block, _BLOCKS[role], waiting) for block in blocks]

    def block(self, block: Fields, kinds: tuple[str, ...], waiting: set[str]) -> str:
        """The text of a text block or a tool result; "" for other blocks."""
        text = ""
        match block.one_of("type", *kinds):
            case "text":
                block.only("type", "text", "cache_control", "citations")
                text = block.text("text")
                if not text:
                    raise block.refuse("text", "a text block must not be empty")
                self.tokens += words(text)
            case "image":
                block.only("type", "source", "cache_control")
                _check_source(block.nested("source"), _IMAGE_TYPES)
                self.images += 1
                self.tokens += IMAGE_TOKENS
            case "document":
                block.only("type", "source", "cache_control", "title", "context", "citations")
                _check_source(block.nested("source"), ("application/pdf", "text/plain"))
                self.documents += 1
                self.tokens += IMAGE_TOKENS
            case "thinking":
                block.only("type", "thinking", "signature")
                if block.text("signature") != sign(block.text("thinking")):
                    raise block.refuse("signature", "this is not the signature of this block")
                self.tokens += words(block.text("thinking"))
            case "redacted_thinking":
                block.only("type", "data")
                block.text("data")
            case "tool_use":
                block.only("type", "id", "name", "input", "cache_control", "caller")
                block.text("name")
                self.tokens += words(orjson.dumps(block.nested("input").values).decode())
                self.open_uses.add(block.text("id"))
            case _:
                self._read_result(block, waiting)
        self.mark(block)
        return text

    def _read_result(self, block: Fields, waiting: set[str]) -> None:
        block.only("type", "tool_use_id", "content", "is_error", "cache_control")
        identity = block.text("tool_use_id")
        if identity not in waiting:
            raise block.refuse("tool_use_id", f"the previous message has no tool_use block {identity!r}")
        waiting.discard(identity)
        block.flag("is_error")
        if isinstance(block.values.get("content"), str):
            text = block.text("content")
            self.tokens += words(text)
        else:
            parts = (self.block(part, _BLOCKS["tool_result"], set()) for part in block.each("content"))
            text = "\n".join(filter(None, parts))
        self.results.append(text)


def _check_source(source: Fields, media_types: tuple[str, ...]) -> None:
    match source.one_of("type", "base64", "url", "text", "file"):
        case "base64":
            source.only("type", "media_type", "data")
            source.one_of("media_type", *media_types)
            try:
                base64.b64decode(source.text("data"), validate=True)
            except binascii.Error as exc:
                raise source.refuse("data", "this is not base64") from exc
        case "text":
            source.only("type", "media_type", "data")
            source.one_of("media_type", "text/plain")
            source.text("data")
        case "url":
            source.only("type", "url")
            if not source.text("url").startswith(("https://", "http://")):
                raise source.refuse("url", "an http or https URL is expected here")
        case _:
            source.only("type", "file_id")
            source.text("file_id")


def _read_prompt(body: Fields, limit: int | None) -> tuple[Prompt, int]:
    """The prompt, and the number of its tokens that can be cached."""
    if not body.has("messages"):
        raise body.refuse("messages", "this field is required")
    conversation = _Conversation()
    tools = tuple(_read_tools(body, conversation))
    before = conversation.tokens
    _read_system(body, conversation)
    system = conversation.tokens - before
    for message in body.each("messages"):
        conversation.read(message)
    if not conversation.count:
        raise body.refuse("messages", "at least one message is expected here")
    if conversation.open_uses:
        uses = ", ".join(sorted(conversation.open_uses))
        raise body.refuse("messages", f"tool_use blocks without a tool_result right after them: {uses}")
    conversation.mark(body)
    choice, parallel, tools_to_use = _read_tool_choice(body, tools)
    config = body.maybe_nested("output_config")
    thinking = _read_thinking(body, config, choice, limit)
    _check_settings(body, is_thinking=thinking > 0)
    prompt = Prompt(
        text=conversation.last_text,
        results=tuple(conversation.results),
        messages=conversation.count,
        images=conversation.images,
        documents=conversation.documents,
        system=system,
        tokens=conversation.tokens,
        tools=tools_to_use,
        choice=choice,
        parallel=parallel,
        stop=tuple(filter(None, body.texts("stop_sequences"))),
        limit=limit,
        schema=_read_format(config),
        thinking=thinking,
    )
    return prompt, conversation.cacheable


def _check_settings(body: Fields, *, is_thinking: bool) -> None:
    temperature = body.maybe_number("temperature", 0, 1)
    if is_thinking and temperature not in (None, 1):
        raise body.refuse("temperature", "only 1 is allowed while thinking")
    body.maybe_number("top_p", 0, 1)
    body.maybe_whole("top_k", 0, 10**9)
    body.maybe_one_of("service_tier", "auto", "standard_only")
    if (metadata := body.maybe_nested("metadata")) is not None:
        metadata.only("user_id")
        metadata.maybe_text("user_id")


def _read_system(body: Fields, conversation: _Conversation) -> None:
    if isinstance(body.values.get("system"), str):
        conversation.tokens += words(body.text("system"))
    else:
        for block in body.each("system"):
            conversation.block(block, _BLOCKS["system"], set())


def _read_tools(body: Fields, conversation: _Conversation) -> Iterator[Tool]:
    seen: set[str] = set()
    for tool in body.each("tools"):
        tool.maybe_one_of("type", "custom")
        name = tool.text("name")
        if not _TOOL_NAME.fullmatch(name):
            raise tool.refuse("name", "letters, digits, _ and - only, 128 at most")
        if name in seen:
            raise tool.refuse("name", f"there are two tools {name!r}")
        seen.add(name)
        schema = tool.nested("input_schema")
        schema.one_of("type", "object")
        conversation.tokens += TOOL_TOKENS
        conversation.mark(tool)
        yield Tool(name, schema.values)


def _read_tool_choice(body: Fields, tools: tuple[Tool, ...]) -> tuple[Choice, bool, tuple[Tool, ...]]:
    """The choice, whether parallel calls are allowed, and the tools that may be called."""
    choice = body.maybe_nested("tool_choice")
    if choice is None:
        return "auto", True, tools
    if not tools:
        raise body.refuse("tool_choice", "only allowed with tools")
    choice.only("type", "name", "disable_parallel_tool_use")
    parallel = not choice.flag("disable_parallel_tool_use")
    match choice.one_of("type", "auto", "any", "tool", "none"):
        case "any":
            return "required", parallel, tools
        case "none":
            return "none", parallel, tools
        case "tool":
            name = choice.text("name")
            choices = tuple(tool for tool in tools if tool.name == name)
            if not choices:
                raise choice.refuse("name", f"there is no tool {name!r}")
            return "required", parallel, choices
        case _:
            return "auto", parallel, tools


def _read_thinking(body: Fields, config: Fields | None, choice: Choice, limit: int | None) -> int:
    """The number of words of thinking."""
    effort = config.maybe_one_of("effort", *_EFFORT) if config is not None else None
    thinking = body.maybe_nested("thinking")
    if thinking is None:
        return 0
    match thinking.one_of("type", "enabled", "adaptive", "disabled"):
        case "enabled":
            thinking.only("type", "budget_tokens", "display")
            budget = thinking.whole("budget_tokens", 1024, 10**9)
            if limit is not None and budget >= limit:
                raise thinking.refuse("budget_tokens", "must be less than max_tokens")
            if choice == "required":
                raise body.refuse("tool_choice", "a tool cannot be forced with thinking")
            return _MOST_THOUGHT
        case "adaptive":
            thinking.only("type", "display")
            return _EFFORT[effort or "high"]
        case _:
            thinking.only("type")
            return 0


def _read_format(config: Fields | None) -> Mapping[str, object] | None:
    if config is None:
        return None
    config.only("effort", "format")
    output_format = config.maybe_nested("format")
    if output_format is None:
        return None
    output_format.only("type", "schema")
    output_format.one_of("type", "json_schema")
    return output_format.nested("schema").values


# ------------------------------------------------------------------------------------------------------------- writing


@dataclass(frozen=True, slots=True)
class _Reply:
    model: str
    prompt: Prompt
    model_output: ModelOutput
    cacheable: int
    hidden: bool
    meta: RequestMeta

    def _usage(self, output_tokens: int) -> dict[str, Any]:
        """The counts are disjoint: read from the cache, written to it, and the rest."""
        read = min(self.meta.script.cached, self.prompt.tokens)
        cache_write = max(self.cacheable - read, 0)
        return {
            "input_tokens": self.prompt.tokens - read - cache_write,
            "cache_creation_input_tokens": cache_write,
            "cache_read_input_tokens": read,
            "cache_creation": {"ephemeral_5m_input_tokens": cache_write, "ephemeral_1h_input_tokens": 0},
            "output_tokens": output_tokens,
            "service_tier": "standard",
        }

    def _message(self, content: list[dict[str, Any]], usage: dict[str, Any], stop: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "id": f"msg_{self.meta.identity}",
            "type": "message",
            "role": "assistant",
            "model": self.model,
            "content": content,
            **stop,
            "usage": usage,
        }

    def _stop(self) -> dict[str, Any]:
        return {"stop_reason": _FINISH[self.model_output.finish], "stop_sequence": self.model_output.stopped_by}

    def _thinking(self) -> str:
        return "" if self.hidden else "".join(self.model_output.thinking)

    def _opened_tools(self) -> Iterator[tuple[dict[str, Any], tuple[str, ...]]]:
        for number, call in enumerate(self.model_output.calls):
            identity = f"toolu_{self.meta.identity}{number:02x}"
            yield {"type": "tool_use", "id": identity, "name": call.name, "input": {}}, call.pieces

    def whole(self) -> bytes:
        content: list[dict[str, Any]] = []
        if self.model_output.thinking:
            content.append({"type": "thinking", "thinking": self._thinking(), "signature": sign(self._thinking())})
        if self.model_output.text:
            content.append({"type": "text", "text": "".join(self.model_output.text), "citations": None})
        for opened, pieces in self._opened_tools():
            content.append({**opened, "input": _arguments("".join(pieces))})
        return orjson.dumps(self._message(content, self._usage(self.model_output.tokens), self._stop()))

    def events(self) -> Iterator[bytes]:
        message = self._message([], self._usage(1), {"stop_reason": None, "stop_sequence": None})
        yield _event({"type": "message_start", "message": message})
        for index, (block, deltas) in enumerate(self._blocks()):
            yield _event({"type": "content_block_start", "index": index, "content_block": block})
            if index == 0:
                yield _event({"type": "ping"})
            for delta in deltas:
                yield _event({"type": "content_block_delta", "index": index, "delta": delta})
            yield _event({"type": "content_block_stop", "index": index})
        usage = self._usage(self.model_output.tokens)
        del usage["cache_creation"], usage["service_tier"]
        yield _event({"type": "message_delta", "delta": self._stop(), "usage": usage})

    def _blocks(self) -> Iterator[tuple[dict[str, Any], Iterable[dict[str, Any]]]]:
        """Each content block as in its start event, and its deltas."""
        if self.model_output.thinking:
            pieces = () if self.hidden else self.model_output.thinking
            deltas = [{"type": "thinking_delta", "thinking": piece} for piece in pieces]
            signature = {"type": "signature_delta", "signature": sign(self._thinking())}
            yield {"type": "thinking", "thinking": "", "signature": ""}, [*deltas, signature]
        if self.model_output.text:
            yield (
                {"type": "text", "text": ""},
                ({"type": "text_delta", "text": piece} for piece in self.model_output.text),
            )
        for opened, pieces in self._opened_tools():
            # The first delta of the service is empty.
            yield opened, [{"type": "input_json_delta", "partial_json": piece} for piece in ("", *pieces)]


def _arguments(text: str) -> object:
    """The decoded arguments. Those of a call that the token limit has cut are not valid JSON, and become {}."""
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return {}


def _event(value: Mapping[str, Any]) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (value["type"].encode(), orjson.dumps(value))
