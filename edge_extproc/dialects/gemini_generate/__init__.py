"""Google's generateContent and streamGenerateContent, for their callers and for Google's hosts.

`FIELDS` lists how each field of another dialect's chat is handled. `models.py` has the capabilities of each generation
of models. The package knows nothing of hosts, keys, routing or Envoy.

Protobuf's JSON has two spellings of each field (maxOutputTokens, max_output_tokens): both are read, and the first is
written. Model and streaming are in the path, not in the body.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from urllib.parse import quote

from ...codecs import json_array, json_splice, sse
from ...codecs.json_values import UNREADABLE, encode
from ...errors import BadRequest
from ...model.call import Call, Chat, FunctionTool, HostedTool, Operation, ReplacedTool, Written
from ...model.content import Opaque, Part, RedactedThinking
from ...model.fault import Fault
from ...model.host import UNKNOWN_HOST, HostProfile
from ...model.reply import Reply
from ...model.reply_summary import ReplySummary
from ..base import Headers, ModelCard, Route
from ..crossing import ending_with_user, portable
from ..cut_calls import has_object
from ..hosted_tools import for_gemini, is_offered
from ..reading import is_unsafe
from .errors import error_of, read_error
from .fields import ABSENT, NAME, SPELLING, TITLE, WIRE
from .history import mended_history
from .reply import model_row, write_reply
from .request_in import (
    ARRAY_TYPE,
    CHOICES_NAMES,
    LIMIT_NAMES,
    ROOTS,
    VERBS,
    address,
    has_any_root,
    largest,
    probe_of,
    query_of,
    read_chat,
    wants_array,
    why_no_call,
)
from .request_out import RequestWriter
from .stream_in import ReplyReader, read_reply
from .stream_out import ReplyWriter
from .summary import read_summary

# --- the dialect

_COLLECTIONS = ("models/", "tunedModels/")


class GeminiGenerate:
    name = NAME
    title = TITLE
    spelling = SPELLING
    wire_names = WIRE
    routes = (
        Route("GET", "/v1beta/models", "models"),
        Route("GET", "/v1beta/models/{model}", "models"),
        *(
            Route("POST", f"{root}/{{model}}:{verb}", operation)
            for root in ROOTS
            for verb, operation in VERBS.items()
            if operation == "chat"
        ),
    )
    stream_type = "text/event-stream"
    client_headers: tuple[str, ...] = ("x-goog-api-client", "x-goog-api-key")
    cites = True
    signs_thinking = True
    error_headers: tuple[str, ...] = ()

    def read_call(self, raw: bytes, operation: Operation, headers: Headers, path: str) -> Call:
        model, verb = address(path.partition("?")[0])
        try:
            probe = probe_of.decode(raw)
        except UNREADABLE:
            raise why_no_call(raw) from None
        request = probe.request or probe.snake_request
        if probe.contents in (ABSENT, b"null") and not (operation == "count_tokens" and request is not None):
            raise why_no_call(raw)
        stream = verb == "streamGenerateContent"
        return Call(
            dialect=NAME,
            operation=operation,
            model=model,
            stream=stream,
            raw=raw,
            max_output_tokens=largest(probe, LIMIT_NAMES),
            choices=largest(probe, CHOICES_NAMES) or 1,
            stream_type=ARRAY_TYPE if stream and wants_array(query_of(headers, path)) else None,
        )

    def splice(self, call: Call, model: str, host: HostProfile = UNKNOWN_HOST) -> Written:
        """The body contains the model only if a caller repeats it, and for token counts of a complete request."""
        del host  # the count depends only on the model
        name = encode(f"models/{model}")
        try:
            keys = json_splice.members_of(call.raw).keys()
            changes: dict[str, json_splice.Change] = {}
            if "model" in keys:
                changes["model"] = name
            for request in ("generateContentRequest", "generate_content_request"):
                if request in keys:
                    changes[request] = {"model": name}
            contents, dropped = mended_history(call.raw)
            changes.update(contents)
            return Written(json_splice.splice(call.raw, changes) if changes else call.raw, dropped)
        except ValueError as exc:
            raise BadRequest(f"the body cannot be passed on: {exc}") from exc

    def path(self, operation: Operation, model: str, *, stream: bool) -> str:
        if operation == "models":
            return "/models"
        collection = next((each for each in _COLLECTIONS if model.startswith(each)), _COLLECTIONS[0])
        name = model.removeprefix(collection)
        if is_unsafe(name):
            raise BadRequest(f"{model!r} is not the name of a model", param="model")
        address = f"/{collection}{quote(name, safe='')}"
        if operation == "count_tokens":
            return f"{address}:countTokens"
        return f"{address}:streamGenerateContent?alt=sse" if stream else f"{address}:generateContent"

    def read_chat(self, call: Call) -> Chat:
        try:
            return read_chat(call)
        except RecursionError:
            raise BadRequest("the body is nested too deeply") from None

    def write_chat(self, chat: Chat, model: str, host: HostProfile = UNKNOWN_HOST) -> Written:
        # A model up to Gemini 2.5 refuses functions beside a tool of its host.
        with_functions = any(isinstance(tool, FunctionTool | ReplacedTool) for tool in chat.tools)

        def has_tool(tool: HostedTool) -> bool:
            return not with_functions and is_offered(tool, for_gemini(tool), chat, host)

        if chat.dialect != NAME:
            chat = ending_with_user(portable(chat, TITLE, has_tool), prefill=False)
        request = RequestWriter(chat, host.known_as(model))
        try:
            body = encode(request.body())
        except RecursionError:
            raise BadRequest("the body is nested too deeply") from None
        return Written(body, tuple(sorted(request.dropped)))

    def read_reply(self, body: bytes) -> Reply:
        return read_reply(body)

    def read_summary(self, body: bytes) -> ReplySummary | None:
        return read_summary(body)

    def write_reply(self, reply: Reply) -> bytes:
        return write_reply(reply, any_root=reply.dialect != NAME and has_any_root(reply.call))

    def can_contain(self, part: Part) -> bool:
        return not isinstance(part, Opaque | RedactedThinking) and has_object(part)

    def reader(self, content_type: str) -> ReplyReader:
        is_array = content_type.partition(";")[0].strip().lower() == ARRAY_TYPE
        return ReplyReader(json_array.JsonArrayDecoder() if is_array else sse.SseDecoder())

    def writer(self, call: Call) -> ReplyWriter:
        return ReplyWriter(array=call.stream_type == ARRAY_TYPE, any_root=has_any_root(call))

    def read_error(self, status: int, headers: Headers, body: bytes) -> Fault:
        return read_error(status, headers, body)

    def write_error(self, fault: Fault) -> tuple[int, list[tuple[str, str]], bytes]:
        headers = [("content-type", "application/json; charset=UTF-8")]
        if fault.retry_after is not None:
            headers.append(("retry-after", str(math.ceil(fault.retry_after))))
        return fault.status, headers, encode(error_of(fault))

    def write_models(self, models: Sequence[ModelCard]) -> bytes:
        return encode({"models": [model_row(card) for card in models]})

    def write_model(self, card: ModelCard) -> bytes:
        return encode(model_row(card))


PLUGIN = GeminiGenerate()
