"""OpenAI's Responses API, for its callers and for its hosts.

`FIELDS` lists how each field of a chat is handled. The package knows nothing of hosts, keys, routing or Envoy.

The content of a request or reply is a flat list of *items*, where other formats have turns with parts. Adjacent items
of the assistant are read as one turn. The `extras` of a part hold what turns it back into an item.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from ...codecs import json_splice
from ...codecs.json_values import UNREADABLE, encode
from ...conversations.base import StoreSteps
from ...errors import BadRequest, Unsupported
from ...model.call import Call, Chat, HostedTool, Operation, Written
from ...model.content import Audio, Image, Inline, Opaque, Part
from ...model.fault import Fault
from ...model.host import UNKNOWN_HOST, HostProfile
from ...model.reply import Reply
from ...model.reply_summary import ReplySummary
from ..base import CompleteReply, Headers, ModelCard, Route, StoredAnswer, output_limit
from ..crossing import portable
from ..hosted_tools import for_responses, is_offered
from ..openai_chat import PLUGIN as CHAT
from ..pictures import shown_by_user
from .fields import LEAST_OUTPUT, NAME, SPELLING, TITLE, WIRE
from .history import is_worth_a_look, mended_history, sealed_in_request, sealed_texts
from .reply import read_reply, write_reply
from .request_in import probe, read_chat, why_no_call
from .request_out import RequestWriter
from .stored import ResponseListener, add_context, store_reply
from .stored_api import ROUTES, is_own_object, serve_stored
from .stream_in import ReplyReader
from .stream_out import ReplyWriter
from .summary import read_summary
from .tools import has_own_tools

# --- the dialect

_PATHS: Mapping[Operation, str] = MappingProxyType({"chat": "/responses", "models": "/models"})


class OpenAIResponses:
    name = NAME
    title = TITLE
    spelling = SPELLING
    wire_names = WIRE
    routes = (Route("POST", "/v1/responses", "chat"),)
    stream_type = "text/event-stream"
    client_headers: tuple[str, ...] = ()
    cites = True
    signs_thinking = True
    error_headers: tuple[str, ...] = ()

    def read_call(self, raw: bytes, operation: Operation, headers: Headers, path: str) -> Call:
        del headers, path  # the body has all fields of this format
        try:
            fields = probe.decode(raw)
        except UNREADABLE:
            raise why_no_call(raw) from None
        if not fields.model.strip():
            raise BadRequest("model is empty: give the name of a model", param="model")
        output_limit(fields.max_output_tokens, "max_output_tokens")
        return Call(
            NAME,
            operation,
            fields.model,
            bool(fields.stream),
            raw,
            max_output_tokens=fields.max_output_tokens,
            has_own_tools=has_own_tools(raw),
            background=bool(fields.background),
        )

    def splice(self, call: Call, model: str, host: HostProfile = UNKNOWN_HOST) -> Written:
        """Streams of this format always report usage, so only the model is changed."""
        changes: dict[str, json_splice.Change] = {"model": encode(model)}
        dropped: tuple[str, ...] = ()
        try:
            if call.unreadable or is_worth_a_look(call.raw, host):
                mended, dropped = mended_history(call.raw, host, call.unreadable)
                changes.update(mended)
            return Written(json_splice.splice(call.raw, changes), dropped)
        except ValueError as exc:
            raise BadRequest(f"the body cannot be forwarded: {exc}") from exc

    def sealed_in_request(self, raw: bytes) -> tuple[tuple[bytes, ...], frozenset[bytes]]:
        return sealed_in_request(raw)

    def sealed_in_reply(self, raw: bytes) -> tuple[bytes, ...]:
        return sealed_texts(raw)

    def path(self, operation: Operation, model: str, *, stream: bool) -> str:
        del model, stream
        try:
            return _PATHS[operation]
        except KeyError:
            raise Unsupported(operation, TITLE) from None

    def read_chat(self, call: Call) -> Chat:
        return read_chat(call)

    def write_chat(self, chat: Chat, model: str, host: HostProfile = UNKNOWN_HOST) -> Written:
        def has_tool(tool: HostedTool) -> bool:
            return is_offered(tool, for_responses(tool), chat, host)

        request = RequestWriter(shown_by_user(portable(chat, TITLE, has_tool)), host.known_as(model), host)
        body = encode({**request.body(), "model": model})
        return Written(body, tuple(sorted(request.dropped)))

    def added_output(self, chat: Chat, model: str) -> int:
        del model
        return max(LEAST_OUTPUT - chat.max_output_tokens, 0) if chat.max_output_tokens is not None else 0

    def read_reply(self, body: bytes) -> Reply:
        return read_reply(body)

    def read_summary(self, body: bytes) -> ReplySummary | None:
        return read_summary(body)

    def write_reply(self, reply: Reply) -> bytes:
        return write_reply(reply)

    def can_contain(self, part: Part) -> bool:
        return not isinstance(part, Opaque | Audio) and (not isinstance(part, Image) or isinstance(part.source, Inline))

    def reader(self, content_type: str) -> ReplyReader:
        del content_type  # a stream of this format is SSE, whatever content type the host sends
        return ReplyReader()

    def writer(self, call: Call) -> ReplyWriter:
        return ReplyWriter(call)

    def read_error(self, status: int, headers: Headers, body: bytes) -> Fault:
        return CHAT.read_error(status, headers, body)

    def write_error(self, fault: Fault) -> tuple[int, list[tuple[str, str]], bytes]:
        return CHAT.write_error(fault)

    def write_models(self, models: Sequence[ModelCard]) -> bytes:
        return CHAT.write_models(models)

    stored_routes = ROUTES

    def is_own_object(self, path: str) -> bool:
        return is_own_object(path)

    def add_context(self, call: Call, seed: str) -> StoreSteps[Call]:
        return add_context(call, seed)

    def reply_listener(self, call: Call) -> ResponseListener:
        return ResponseListener(call)

    def store_reply(self, call: Call, reply: CompleteReply) -> StoreSteps[None]:
        return store_reply(call, reply)

    def serve_stored(
        self, method: str, path: str, query: str, body: bytes, seed: str, now: int
    ) -> StoreSteps[StoredAnswer]:
        return serve_stored(method, path, query, body, seed, now)


PLUGIN = OpenAIResponses()
