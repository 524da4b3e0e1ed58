"""The OpenAI side of the rehearsal provider: chat completions, embeddings, models.

Like the service, it refuses unknown fields and tool results without a call.
"""

from __future__ import annotations

import base64
import hashlib
import itertools
import math
import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import orjson

from .format import MODELS, MODELS_SINCE, Answer, RequestMeta, Stream, Whole, bearer, check_credential
from .model_output import Choice, Finish, ModelOutput, Prompt, Tool, ToolCall, play, words
from .openai_shared import EFFORT, Sums, named_tools, read_function, read_image_url, read_mode
from .reading import Fields, Refused
from .schema import Unanswerable

DONE = b"data: [DONE]\n\n"

_CHAT_FIELDS = [
    "messages",
    "model",
    "frequency_penalty",
    "logit_bias",
    "logprobs",
    "max_completion_tokens",
    "max_tokens",
    "metadata",
    "modalities",
    "n",
    "parallel_tool_calls",
    "prediction",
    "presence_penalty",
    "prompt_cache_key",
    "prompt_cache_retention",
    "reasoning_effort",
    "response_format",
    "safety_identifier",
    "seed",
    "service_tier",
    "stop",
    "store",
    "stream",
    "stream_options",
    "temperature",
    "tool_choice",
    "tools",
    "top_logprobs",
    "top_p",
    "user",
    "verbosity",
]
_EMBEDDING_FIELDS = ("input", "model", "dimensions", "encoding_format", "user")

_FINISH: Mapping[Finish, str] = {
    "stop": "stop",
    "stop_sequence": "stop",
    "length": "length",
    "tools": "tool_calls",
}

_KINDS = {401: "invalid_request_error", 403: "invalid_request_error", 404: "invalid_request_error", 429: "requests"}
_CODES = {404: "model_not_found", 429: "rate_limit_exceeded"}

DIMENSIONS = 256


class OpenAI:
    request_id_header = "x-request-id"
    request_id_prefix = "req_"
    broken_event = b'data: {"id":"chatcmpl-\n\n'

    def check(self, headers: Mapping[str, str]) -> None:
        check_credential(bearer(headers))

    def write_error(self, refused: Refused, _request_id: str, /) -> bytes:
        return orjson.dumps(_error(refused))

    def write_error_event(self, refused: Refused, _request_id: str, /) -> bytes:
        return _event(_error(refused))

    def write_models(self, only: str | None) -> bytes:
        def card(name: str) -> dict[str, object]:
            return {"id": name, "object": "model", "created": MODELS_SINCE, "owned_by": "rehearsal"}

        return orjson.dumps(card(only) if only else {"object": "list", "data": [card(name) for name in MODELS]})


def _error(refused: Refused) -> dict[str, object]:
    kind = _KINDS.get(refused.status, "invalid_request_error" if refused.status < 500 else "server_error")
    code = refused.code or _CODES.get(refused.status)
    return {"error": {"message": refused.message, "type": kind, "param": refused.param, "code": code}}


# ---------------------------------------------------------------------------------------------------- chat completions


def chat(body: Fields, meta: RequestMeta) -> Answer:
    """POST /v1/chat/completions"""
    model = body.text("model")
    if not meta.script.lenient:
        body.only(*_CHAT_FIELDS)
    prompt = _read_prompt(body)
    choices = body.maybe_whole("n", 1, 128) or 1
    wants_stream, wants_usage = _read_stream(body)
    try:
        model_output = play(prompt, meta.script.tokens)
    except Unanswerable as exc:
        raise Refused(f"response_format or tools: {exc}", code="invalid_json_schema") from exc
    reply = _Reply(model, prompt, model_output, choices, meta)
    return Stream(reply.events(wants_usage=wants_usage), DONE) if wants_stream else Whole(reply.whole())


def _read_stream(body: Fields) -> tuple[bool, bool]:
    options = body.maybe_nested("stream_options")
    if options is None:
        return body.flag("stream"), False
    if not body.flag("stream"):
        raise body.refuse("stream_options", "only allowed with stream", "invalid_value")
    options.only("include_usage", "include_obfuscation")
    options.flag("include_obfuscation")
    return True, options.flag("include_usage")


@dataclass(slots=True)
class _Conversation(Sums):
    """The sums over the messages."""

    def read(self, message: Fields) -> None:
        role = message.one_of("role", "developer", "system", "user", "assistant", "tool", "function")
        if self.open_calls and role != "tool":
            raise message.refuse("role", f"tool calls wait for their results: {', '.join(sorted(self.open_calls))}")
        self.count += 1
        match role:
            case "system" | "developer":
                self.system += words(self._content(message, ("text",)))
            case "user":
                self.results.clear()
                self.last_text = self._content(message, ("text", "image_url", "input_audio", "file"))
            case "assistant":
                self.last_text = ""
                self.results.clear()
                self._read_assistant(message)
            case "tool":
                self.last_text = ""
                self._read_result(message)
            case _:
                raise message.refuse("role", "functions are not supported; use tools", "invalid_value")

    def _read_assistant(self, message: Fields) -> None:
        if message.has("content"):
            self._content(message, ("text", "refusal"))
        elif not message.has("tool_calls") and not message.has("refusal"):
            raise message.refuse(
                "content", "an assistant message without tool calls must not be empty", "invalid_value"
            )
        if message.maybe_array("tool_calls") == []:
            raise message.refuse("tool_calls", "the array must not be empty", "empty_array")
        for call in message.each("tool_calls"):
            call.one_of("type", "function")
            function = call.nested("function")
            function.text("name")
            self.words += words(function.text("arguments"))
            self.open_calls.add(call.text("id"))

    def _read_result(self, message: Fields) -> None:
        identity = message.text("tool_call_id")
        if identity not in self.open_calls:
            raise message.refuse("tool_call_id", f"there is no earlier tool call {identity!r}", "invalid_value")
        self.open_calls.discard(identity)
        self.results.append(self._content(message, ("text",)))

    def _content(self, message: Fields, kinds: tuple[str, ...]) -> str:
        if isinstance(message.values.get("content"), str):
            text = message.text("content")
        elif message.has("content"):
            if not message.maybe_array("content"):
                raise message.refuse("content", "the array must not be empty", "empty_array")
            text = "\n".join(filter(None, (self._part(part, kinds) for part in message.each("content"))))
        else:
            raise message.refuse("content", "this field is required", "missing_required_parameter")
        self.words += words(text)
        return text

    def _part(self, part: Fields, kinds: tuple[str, ...]) -> str:
        match part.one_of("type", *kinds):
            case "image_url":
                image = part.nested("image_url")
                read_image_url(image, "url")
                image.maybe_one_of("detail", "auto", "low", "high")
                self.images += 1
            case "input_audio":
                audio = part.nested("input_audio")
                audio.text("data")
                audio.one_of("format", "wav", "mp3")
                self.documents += 1
            case "file":
                file = part.nested("file")
                if not file.has("file_id"):
                    file.text("file_data")
                self.documents += 1
            case kind:
                return part.text(kind)
        return ""


def _read_prompt(body: Fields) -> Prompt:
    if not body.has("messages"):
        raise body.refuse("messages", "this field is required", "missing_required_parameter")
    conversation = _Conversation()
    for message in body.each("messages"):
        conversation.read(message)
    if not conversation.count:
        raise body.refuse("messages", "the array must not be empty", "empty_array")
    if conversation.open_calls:
        raise body.refuse(
            "messages", f"tool calls wait for their results: {', '.join(sorted(conversation.open_calls))}"
        )
    tools = tuple(_read_tools(body))
    choice, tools_to_use = _read_tool_choice(body, tools)
    if body.has("parallel_tool_calls") and not tools:
        raise body.refuse("parallel_tool_calls", "only allowed with tools", "invalid_value")
    _check_settings(body)
    return replace(
        conversation.prompt(len(tools)),
        tools=tools_to_use,
        choice=choice,
        parallel=body.flag("parallel_tool_calls", default=True),
        stop=_read_stop(body),
        limit=_read_limit(body),
        schema=_read_format(body),
        thinking=EFFORT[body.maybe_one_of("reasoning_effort", *EFFORT) or "none"],
    )


def _check_settings(body: Fields) -> None:
    body.maybe_number("temperature", 0, 2)
    body.maybe_number("top_p", 0, 1)
    body.maybe_number("frequency_penalty", -2, 2)
    body.maybe_number("presence_penalty", -2, 2)
    body.maybe_whole("seed", -(2**63), 2**63 - 1)
    body.maybe_text("user")
    if body.flag("logprobs") or body.has("top_logprobs"):
        raise body.refuse("logprobs", "this model does not support it", "unsupported_parameter")
    if body.has("modalities") and body.texts("modalities") != ("text",):
        raise body.refuse("modalities", "this model supports only text", "invalid_value")


def _read_tools(body: Fields) -> Iterator[Tool]:
    for tool in body.each("tools"):
        tool.one_of("type", "function")
        yield read_function(tool.nested("function"))


def _read_tool_choice(body: Fields, tools: tuple[Tool, ...]) -> tuple[Choice, tuple[Tool, ...]]:
    """The choice, and the tools that may be called."""
    if not body.has("tool_choice"):
        return "auto", tools
    if not tools:
        raise body.refuse("tool_choice", "only allowed with tools", "invalid_value")
    if isinstance(body.values["tool_choice"], str):
        return read_mode(body, "tool_choice", tools), tools
    choice = body.nested("tool_choice")
    choice.one_of("type", "function")
    return "required", named_tools(choice.nested("function"), tools)


def _read_stop(body: Fields) -> tuple[str, ...]:
    if isinstance(body.values.get("stop"), str):
        return tuple(filter(None, (body.text("stop"),)))
    stop = body.texts("stop")
    if len(stop) > 4:
        raise body.refuse("stop", "four sequences at most", "array_above_max_length")
    return tuple(filter(None, stop))


def _read_limit(body: Fields) -> int | None:
    if body.has("max_tokens") and body.has("max_completion_tokens"):
        raise body.refuse("max_tokens", "not together with max_completion_tokens", "invalid_parameter_combination")
    old, new = body.maybe_whole("max_tokens", 1, 10**9), body.maybe_whole("max_completion_tokens", 1, 10**9)
    return new if old is None else old


def _read_format(body: Fields) -> Mapping[str, object] | None:
    output_format = body.maybe_nested("response_format")
    if output_format is None:
        return None
    match output_format.one_of("type", "text", "json_object", "json_schema"):
        case "json_schema":
            schema = output_format.nested("json_schema")
            schema.text("name")
            return schema.nested("schema").values
        case "json_object":
            # The service refuses this mode unless a message contains "json": otherwise models produce endless white
            # space.
            if b"json" not in orjson.dumps(body.values["messages"]).lower():
                raise body.refuse("messages", "a message must contain the word json for this response_format")
            return {"type": "object", "properties": {"answer": {"type": "string"}}, "required": ["answer"]}
        case _:
            return None


@dataclass(frozen=True, slots=True)
class _Reply:
    model: str
    prompt: Prompt
    model_output: ModelOutput
    choices: int
    meta: RequestMeta

    def _frame(self, kind: str, choices: list[dict[str, Any]], **more: object) -> dict[str, Any]:
        return {
            "id": f"chatcmpl-{self.meta.identity}",
            "object": kind,
            "created": self.meta.now,
            "model": self.model,
            "choices": choices,
            "service_tier": "default",
            "system_fingerprint": "fp_rehearsal",
            **more,
        }

    def _usage(self) -> dict[str, Any]:
        input_tokens, output_tokens = self.prompt.tokens, self.model_output.tokens * self.choices
        return {
            "prompt_tokens": input_tokens,
            "completion_tokens": output_tokens,
            "total_tokens": input_tokens + output_tokens,
            "prompt_tokens_details": {"cached_tokens": min(self.meta.script.cached, input_tokens), "audio_tokens": 0},
            "completion_tokens_details": {
                "reasoning_tokens": len(self.model_output.thinking) * self.choices,
                "audio_tokens": 0,
                "accepted_prediction_tokens": 0,
                "rejected_prediction_tokens": 0,
            },
        }

    def _call_id(self, choice: int, number: int) -> str:
        return f"call_{self.meta.identity}{choice:02x}{number:02x}"

    def whole(self) -> bytes:
        choices = [
            {
                "index": index,
                "message": self._message(index),
                "logprobs": None,
                "finish_reason": _FINISH[self.model_output.finish],
            }
            for index in range(self.choices)
        ]
        return orjson.dumps(self._frame("chat.completion", choices, usage=self._usage()))

    def _message(self, choice: int) -> dict[str, Any]:
        calls = [
            {
                "id": self._call_id(choice, number),
                "type": "function",
                "function": {"name": call.name, "arguments": "".join(call.pieces)},
            }
            for number, call in enumerate(self.model_output.calls)
        ]
        text = "".join(self.model_output.text)
        message: dict[str, Any] = {
            "role": "assistant",
            "content": text or (None if calls else ""),
            "refusal": None,
            "annotations": [],
        }
        return message | ({"tool_calls": calls} if calls else {})

    def events(self, *, wants_usage: bool) -> Iterator[bytes]:
        # If usage is requested, every chunk has the field, and only the last one has a value.
        more: dict[str, object] = {"usage": None} if wants_usage else {}
        one_by_one = itertools.zip_longest(*(self._choice_deltas(index) for index in range(self.choices)))
        for choice in filter(None, itertools.chain.from_iterable(one_by_one)):
            yield _event(self._frame("chat.completion.chunk", [choice], **more))
        if wants_usage:
            yield _event(self._frame("chat.completion.chunk", [], usage=self._usage()))

    def _choice_deltas(self, index: int) -> Iterator[dict[str, Any]]:
        for delta in self._deltas(index):
            yield {"index": index, "delta": delta, "logprobs": None, "finish_reason": None}
        yield {"index": index, "delta": {}, "logprobs": None, "finish_reason": _FINISH[self.model_output.finish]}

    def _deltas(self, choice: int) -> Iterator[dict[str, Any]]:
        opening: dict[str, Any] = {"role": "assistant", "content": "", "refusal": None}
        if not self.model_output.text and self.model_output.calls:
            # A message with only tool calls begins with the first of them.
            first, *others = self.model_output.calls
            opening |= {"content": None, "tool_calls": [self._opened(choice, 0, first)]}
            yield opening
            yield from _arguments(0, first)
        else:
            others = list(self.model_output.calls)
            yield opening
            yield from ({"content": piece} for piece in self.model_output.text)
        for number, call in enumerate(others, len(self.model_output.calls) - len(others)):
            yield {"tool_calls": [self._opened(choice, number, call)]}
            yield from _arguments(number, call)

    def _opened(self, choice: int, number: int, call: ToolCall) -> dict[str, Any]:
        function = {"name": call.name, "arguments": ""}
        return {"index": number, "id": self._call_id(choice, number), "type": "function", "function": function}


def _arguments(number: int, call: ToolCall) -> Iterator[dict[str, Any]]:
    for piece in call.pieces:
        yield {"tool_calls": [{"index": number, "function": {"arguments": piece}}]}


def _event(value: object) -> bytes:
    return b"data: %b\n\n" % orjson.dumps(value)


# ---------------------------------------------------------------------------------------------------------- embeddings


def embeddings(body: Fields, meta: RequestMeta) -> Answer:
    """POST /v1/embeddings"""
    model = body.text("model")
    if not meta.script.lenient:
        body.only(*_EMBEDDING_FIELDS)
    dimensions = body.maybe_whole("dimensions", 1, 4096) or DIMENSIONS
    as_base64 = body.maybe_one_of("encoding_format", "float", "base64") == "base64"
    inputs = _read_input(body)
    vectors = (vector(tokens, dimensions) for tokens in inputs)
    data = [
        {"object": "embedding", "index": index, "embedding": _packed(values) if as_base64 else values}
        for index, values in enumerate(vectors)
    ]
    count = sum(map(len, inputs))
    usage = {"prompt_tokens": count, "total_tokens": count}
    return Whole(orjson.dumps({"object": "list", "data": data, "model": model, "usage": usage}))


def _read_input(body: Fields) -> list[list[str]]:
    """The words of each input. Token numbers count as words."""
    match body.values.get("input"):
        case None:
            raise body.refuse("input", "this field is required", "missing_required_parameter")
        case str(text):
            inputs = [text.split()]
        case [int(), *_] as tokens:
            inputs = [[str(token) for token in tokens]]
        case [_, *_] as items if len(items) <= 2048:
            inputs = [_read_item(body, item) for item in items]
        case _:
            raise body.refuse("input", "a string or an array of 1 to 2048 inputs is expected here", "invalid_type")
    if not all(inputs):
        raise body.refuse("input", "an input must not be empty", "invalid_value")
    return inputs


def _read_item(body: Fields, item: object) -> list[str]:
    match item:
        case str(text):
            return text.split()
        case list(tokens):
            return [str(token) for token in tokens]
        case _:
            raise body.refuse("input", "strings or arrays of tokens are expected here", "invalid_type")


def vector(tokens: Iterable[str], dimensions: int) -> list[float]:
    """A vector of length one. Each word adds a fixed direction, so texts with common words have similar vectors."""
    values = [0.0] * dimensions
    for token in tokens:
        digest = hashlib.blake2b(token.lower().encode(), digest_size=32).digest()
        for at, sign in zip(*[iter(struct.unpack("<16H", digest))] * 2, strict=True):
            values[at % dimensions] += 1.0 if sign & 1 else -1.0
    length = math.sqrt(sum(value * value for value in values)) or 1.0
    return [value / length for value in values]


def _packed(values: list[float]) -> str:
    return base64.b64encode(struct.pack(f"<{len(values)}f", *values)).decode()
