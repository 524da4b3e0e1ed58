"""OpenAI's Responses API of the rehearsal provider.

It stores nothing, so references to stored responses are refused. Tools that run on OpenAI's servers are refused too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import orjson

from .format import Answer, RequestMeta, Stream, Whole
from .model_output import Choice, ModelOutput, Prompt, Tool, play, words
from .openai import OpenAI
from .openai_shared import EFFORT, Sums, named_tools, read_function, read_image_url, read_mode
from .reading import Fields, Refused
from .schema import Unanswerable

_FIELDS = (
    "background",
    "context_management",
    "conversation",
    "include",
    "input",
    "instructions",
    "max_output_tokens",
    "max_tool_calls",
    "metadata",
    "model",
    "parallel_tool_calls",
    "previous_response_id",
    "prompt",
    "prompt_cache_key",
    "prompt_cache_retention",
    "reasoning",
    "safety_identifier",
    "service_tier",
    "store",
    "stream",
    "stream_options",
    "temperature",
    "text",
    "tool_choice",
    "tools",
    "top_logprobs",
    "top_p",
    "truncation",
    "user",
)
# Fields that refer to stored data.
_STORED = ("previous_response_id", "conversation", "prompt")
_SUMMARIES = ("auto", "concise", "detailed")
_ITEMS = ("message", "function_call", "function_call_output", "reasoning", "item_reference")
# The minimum of the service.
_LEAST_OUTPUT = 16


class Responses(OpenAI):
    """Errors within a stream have another form than those of chat completions."""

    broken_event = b'event: response.output_text.delta\ndata: {"type":"response.out\n\n'

    def write_error_event(self, refused: Refused, _request_id: str, /) -> bytes:
        error = {"code": refused.code or "server_error", "message": refused.message, "param": refused.param}
        return _event({"type": "error", **error, "sequence_number": 0})


def responses(body: Fields, meta: RequestMeta) -> Answer:
    """POST /v1/responses"""
    model = body.text("model")
    if not meta.script.lenient:
        body.only(*_FIELDS)
    for name in _STORED:
        if body.has(name):
            raise body.refuse(
                name, "the rehearsal provider has no stored objects; send the whole conversation as input", "not_found"
            )
    if body.flag("background"):
        raise body.refuse("background", "background mode is not supported", "unsupported_parameter")
    prompt = _read_prompt(body)
    try:
        model_output = play(prompt, meta.script.tokens)
    except Unanswerable as exc:
        raise Refused(f"text.format or tools: {exc}", code="invalid_json_schema") from exc
    reply = _Reply(model, prompt, model_output, body, meta)
    if not body.flag("stream"):
        if body.has("stream_options"):
            raise body.refuse("stream_options", "only allowed with stream", "invalid_value")
        return Whole(orjson.dumps(reply.whole()))
    return Stream(reply.events(), reply.last_event())


# ------------------------------------------------------------------------------------------------------------- reading


@dataclass(slots=True)
class _Conversation(Sums):
    """The sums over the items."""

    known_calls: set[str] = field(default_factory=set)

    def read(self, item: Fields) -> None:
        match item.maybe_one_of("type", *_ITEMS) or "message":
            case "message":
                self.count += 1
                self._read_message(item)
            case "function_call":
                self._own()
                item.text("name")
                self.words += words(item.text("arguments"))
                self.open_calls.add(item.text("call_id"))
                self.known_calls.add(item.text("call_id"))
            case "function_call_output":
                self._read_result(item)
            case "reasoning":
                self._own()
                for part in item.each("summary"):
                    part.one_of("type", "summary_text")
                    self.words += words(part.text("text"))
            case _:
                raise item.refuse(
                    "id", "the rehearsal provider has no stored objects; send the item itself", "not_found"
                )

    def _own(self) -> None:
        """The item is the model's own: earlier questions and results are answered."""
        self.last_text = ""
        self.results.clear()

    def _read_message(self, item: Fields) -> None:
        match item.one_of("role", "user", "assistant", "system", "developer"):
            case "user":
                self.results.clear()
                self.last_text = self._content(item, ("input_text", "input_image", "input_file"))
            case "assistant":
                self._own()
                self._content(item, ("output_text", "refusal"))
            case _:
                self.system += words(self._content(item, ("input_text",)))

    def _read_result(self, item: Fields) -> None:
        identity = item.text("call_id")
        if identity not in self.known_calls:
            raise item.refuse("call_id", f"there is no earlier tool call {identity!r}", "invalid_value")
        self.open_calls.discard(identity)
        self.last_text = ""
        self.results.append(self._content(item, ("input_text", "input_image", "input_file"), "output"))

    def _content(self, item: Fields, kinds: tuple[str, ...], name: str = "content") -> str:
        if isinstance(item.values.get(name), str):
            text = item.text(name)
        elif item.has(name):
            text = "\n".join(filter(None, (self._part(part, kinds) for part in item.each(name))))
        else:
            raise item.refuse(name, "this field is required", "missing_required_parameter")
        self.words += words(text)
        return text

    def _part(self, part: Fields, kinds: tuple[str, ...]) -> str:
        match part.one_of("type", *kinds):
            case "input_image":
                part.maybe_one_of("detail", "auto", "low", "high", "original")
                if not part.has("file_id"):
                    read_image_url(part, "image_url")
                self.images += 1
            case "input_file":
                if not any(part.has(name) for name in ("file_id", "file_url")):
                    part.text("file_data")
                self.documents += 1
            case "refusal":
                return part.text("refusal")
            case _:
                return part.text("text")
        return ""


def _read_prompt(body: Fields) -> Prompt:
    conversation = _Conversation()
    instructions = body.maybe_text("instructions") or ""
    conversation.system = words(instructions)
    conversation.words = words(instructions)
    if isinstance(body.values.get("input"), str):
        conversation.count, conversation.last_text = 1, body.text("input")
        conversation.words += words(conversation.last_text)
    elif body.has("input"):
        for item in body.each("input"):
            conversation.read(item)
    else:
        raise body.refuse("input", "this field is required", "missing_required_parameter")
    if not conversation.count:
        raise body.refuse("input", "it has no message", "empty_array")
    if conversation.open_calls:
        raise body.refuse(
            "input", f"there is no tool output for the calls {', '.join(sorted(conversation.open_calls))}"
        )
    tools = tuple(_read_tools(body))
    choice, tools_to_use = _read_tool_choice(body, tools)
    _check_settings(body)
    reasoning = body.maybe_nested("reasoning")
    if reasoning is not None:
        reasoning.maybe_one_of("summary", *_SUMMARIES)
    effort = reasoning.maybe_one_of("effort", *EFFORT) if reasoning is not None else None
    return replace(
        conversation.prompt(len(tools)),
        tools=tools_to_use,
        choice=choice,
        parallel=body.flag("parallel_tool_calls", default=True),
        limit=body.maybe_whole("max_output_tokens", _LEAST_OUTPUT, 10**9),
        schema=_read_format(body),
        thinking=EFFORT[effort or "none"],
    )


def _check_settings(body: Fields) -> None:
    body.maybe_number("temperature", 0, 2)
    body.maybe_number("top_p", 0, 1)
    body.maybe_text("user")
    body.maybe_one_of("truncation", "auto", "disabled")
    body.texts("include")
    if body.maybe_whole("top_logprobs", 0, 20):
        raise body.refuse("top_logprobs", "this model does not support it", "unsupported_parameter")
    if (options := body.maybe_nested("stream_options")) is not None:
        options.only("include_obfuscation")


def _read_tools(body: Fields) -> Iterator[Tool]:
    for tool in body.each("tools"):
        tool.one_of("type", "function")
        yield read_function(tool)


def _read_tool_choice(body: Fields, tools: tuple[Tool, ...]) -> tuple[Choice, tuple[Tool, ...]]:
    """The choice, and the tools that may be called."""
    if not body.has("tool_choice"):
        return "auto", tools
    if isinstance(body.values["tool_choice"], str):
        return read_mode(body, "tool_choice", tools), tools
    choice = body.nested("tool_choice")
    if choice.one_of("type", "function", "allowed_tools") == "function":
        return "required", named_tools(choice, tools)
    allowed = [tool for each in choice.each("tools") for tool in named_tools(each, tools)]
    return read_mode(choice, "mode", tools), tuple(allowed)


def _read_format(body: Fields) -> Mapping[str, object] | None:
    text = body.maybe_nested("text")
    if text is None:
        return None
    text.only("format", "verbosity")
    text.maybe_one_of("verbosity", "low", "medium", "high")
    output_format = text.maybe_nested("format")
    if output_format is None:
        return None
    match output_format.one_of("type", "text", "json_object", "json_schema"):
        case "json_schema":
            output_format.text("name")
            return output_format.nested("schema").values
        case "json_object":
            # As in chat completions, the service refuses this mode unless the input contains "json".
            if b"json" not in orjson.dumps(body.values["input"]).lower():
                raise body.refuse("input", "the input must contain the word json for this text.format")
            return {"type": "object", "properties": {"answer": {"type": "string"}}, "required": ["answer"]}
        case _:
            return None


# ------------------------------------------------------------------------------------------------------------- writing


@dataclass(frozen=True, slots=True)
class _Reply:
    model: str
    prompt: Prompt
    model_output: ModelOutput
    body: Fields
    meta: RequestMeta

    def whole(self) -> dict[str, Any]:
        is_cut = self.model_output.finish == "length"
        return {
            **self._frame(),
            "status": "incomplete" if is_cut else "completed",
            "incomplete_details": {"reason": "max_output_tokens"} if is_cut else None,
            "output": [done for _, done, _ in self._items()],
            "usage": self._usage(),
        }

    def _frame(self) -> dict[str, Any]:
        """A response that has just begun. It repeats the fields of the request, or their defaults."""
        requested = self.body.values

        def given(name: str, otherwise: object) -> object:
            return requested[name] if requested.get(name) is not None else otherwise

        reasoning: Any = given("reasoning", {})
        text: Any = given("text", {})
        return {
            "id": f"resp_{self.meta.identity}",
            "object": "response",
            "created_at": self.meta.now,
            "status": "in_progress",
            "background": False,
            "error": None,
            "incomplete_details": None,
            "instructions": requested.get("instructions"),
            "max_output_tokens": requested.get("max_output_tokens"),
            "max_tool_calls": requested.get("max_tool_calls"),
            "model": self.model,
            "output": [],
            "parallel_tool_calls": self.prompt.parallel,
            "previous_response_id": None,
            "prompt_cache_key": requested.get("prompt_cache_key"),
            "reasoning": {"effort": reasoning.get("effort"), "summary": reasoning.get("summary")},
            "safety_identifier": requested.get("safety_identifier"),
            "service_tier": "default",
            "store": given("store", otherwise=True),
            "temperature": given("temperature", 1.0),
            "text": {"format": text.get("format") or {"type": "text"}, "verbosity": text.get("verbosity") or "medium"},
            "tool_choice": given("tool_choice", "auto"),
            "tools": [{"strict": None, **tool} for tool in given("tools", [])],  # type: ignore[attr-defined]  # it has been checked
            "top_logprobs": 0,
            "top_p": given("top_p", 1.0),
            "truncation": given("truncation", "disabled"),
            "usage": None,
            "user": requested.get("user"),
            "metadata": given("metadata", {}),
        }

    def _usage(self) -> dict[str, Any]:
        input_tokens, output_tokens = self.prompt.tokens, self.model_output.tokens
        return {
            "input_tokens": input_tokens,
            "input_tokens_details": {
                "cached_tokens": min(self.meta.script.cached, input_tokens),
                "cache_write_tokens": 0,
            },
            "output_tokens": output_tokens,
            "output_tokens_details": {"reasoning_tokens": len(self.model_output.thinking)},
            "total_tokens": input_tokens + output_tokens,
        }

    def _id(self, prefix: str, number: int = 0) -> str:
        return f"{prefix}_{self.meta.identity}{number:02x}"

    # For each item: its first and its final form, and the pieces of its text, summary or arguments.
    def _items(self) -> Iterator[tuple[dict[str, Any], dict[str, Any], tuple[str, ...]]]:
        model_output, is_cut = self.model_output, self.model_output.finish == "length"
        status = {"status": "completed"}
        if model_output.thinking:
            yield self._reasoning()
        if model_output.text or not (model_output.calls or (model_output.thinking and is_cut)):
            opened: dict[str, Any] = {"id": self._id("msg"), "type": "message", "role": "assistant", "content": []}
            part = {"type": "output_text", "text": "".join(model_output.text), "annotations": [], "logprobs": []}
            ended = {"status": "incomplete"} if is_cut and not model_output.calls else status
            yield {**opened, "status": "in_progress"}, {**opened, **ended, "content": [part]}, model_output.text
        for number, call in enumerate(model_output.calls):
            opened = {"id": self._id("fc", number), "type": "function_call", "call_id": self._id("call", number)}
            opened |= {"name": call.name, "arguments": ""}
            ended = {"status": "incomplete"} if is_cut and number == len(model_output.calls) - 1 else status
            done = {**opened, **ended, "arguments": "".join(call.pieces)}
            yield {**opened, "status": "in_progress"}, done, call.pieces

    def _reasoning(self) -> tuple[dict[str, Any], dict[str, Any], tuple[str, ...]]:
        reasoning = self.body.maybe_nested("reasoning")
        summary_texts = self.model_output.thinking if reasoning is not None and reasoning.has("summary") else ()
        opened: dict[str, Any] = {"id": self._id("rs"), "type": "reasoning", "summary": []}
        done = {
            **opened,
            "summary": [{"type": "summary_text", "text": "".join(summary_texts)}] if summary_texts else [],
        }
        if "reasoning.encrypted_content" in self.body.texts("include"):
            done["encrypted_content"] = self._id("sealed")
        return opened, done, summary_texts

    def events(self) -> Iterator[bytes]:
        for number, event in enumerate(self._events()):
            yield _event({**event, "sequence_number": number})

    def last_event(self) -> bytes:
        whole = self.whole()
        last = {"type": f"response.{whole['status']}", "response": whole}
        return _event({**last, "sequence_number": sum(1 for _ in self._events())})

    def _events(self) -> Iterator[dict[str, Any]]:
        begun = self._frame()
        yield {"type": "response.created", "response": begun}
        yield {"type": "response.in_progress", "response": begun}
        for index, (opened, done, pieces) in enumerate(self._items()):
            at = {"output_index": index}
            yield {"type": "response.output_item.added", **at, "item": opened}
            yield from self._within({"item_id": opened["id"], **at}, done, pieces)
            yield {"type": "response.output_item.done", **at, "item": done}

    def _within(self, at: dict[str, Any], done: dict[str, Any], pieces: tuple[str, ...]) -> Iterator[dict[str, Any]]:
        if done["type"] == "function_call":
            name = "response.function_call_arguments"
            yield from ({"type": f"{name}.delta", **at, "delta": piece} for piece in pieces)
            yield {"type": f"{name}.done", **at, "name": done["name"], "arguments": done["arguments"]}
            return
        more: dict[str, object] = {}
        if done["type"] == "message":
            (part,), of, text, more = done["content"], "content", "response.output_text", {"logprobs": []}
        elif pieces:
            (part,), of, text = done["summary"], "summary", "response.reasoning_summary_text"
        else:
            return
        begins = "response.content_part" if of == "content" else "response.reasoning_summary_part"
        at = {**at, f"{of}_index": 0}
        yield {"type": f"{begins}.added", **at, "part": {**part, "text": ""}}
        yield from ({"type": f"{text}.delta", **at, "delta": piece, **more} for piece in pieces)
        yield {"type": f"{text}.done", **at, "text": part["text"], **more}
        yield {"type": f"{begins}.done", **at, "part": part}


def _event(value: Mapping[str, Any]) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (str(value["type"]).encode(), orjson.dumps(value))
